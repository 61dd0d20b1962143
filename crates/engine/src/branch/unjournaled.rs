//! An event that the journal did not take, and when it is tried again: a full disk takes somebody's time. Requests are heard
//! meanwhile. Leaves the trying to `driver`.

use std::time::Duration;

use tokio::time::Instant;

use super::state::Event;

/// How long the driver waits before it tries a failed journal write again.
pub(super) const JOURNAL_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What waits for the journal, if anything.
#[derive(Debug, Default)]
pub(super) struct Unjournaled(Option<(Event, Instant)>);

impl Unjournaled {
    /// An event that was refused just now.
    pub(super) fn of(event: Event) -> Self {
        Self(Some((event, Instant::now() + JOURNAL_RETRY_PAUSE)))
    }

    /// Gives the event once it is to be tried again; never, where nothing waits. Cancel-safe.
    pub(super) async fn due(&mut self) -> Event {
        if let Some((_, due)) = &self.0 {
            tokio::time::sleep_until(*due).await;
        }
        match self.0.take() {
            Some((event, _)) => event,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_event_is_tried_again_once() {
        let mut unjournaled = Unjournaled::of(Event::Stopped);
        let begun = Instant::now();
        let early = tokio::time::timeout(JOURNAL_RETRY_PAUSE / 2, unjournaled.due()).await;
        assert!(early.is_err());
        assert_eq!(unjournaled.due().await, Event::Stopped);
        assert_eq!(begun.elapsed(), JOURNAL_RETRY_PAUSE);
        let never = tokio::time::timeout(JOURNAL_RETRY_PAUSE * 9, unjournaled.due()).await;
        assert!(never.is_err());
    }
}

//! A branch that is not in the journal yet, and who waits for that.
//!
//! A branch that a warm clone becomes is ready within milliseconds, of which a write that reaches the disk is a good
//! part. So the first entry waits as long as taking a warm clone may take: then one write says all of it. Nobody has
//! been answered until then, so that an engine that is killed before loses nothing that it promised. Owns that wait and
//! the answer; leaves the writing to `driver`.

use std::time::Duration;

use model::engine_api::Problem;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long the first entry waits: what taking a warm clone takes on a busy machine. Any other branch takes longer.
const ENTRY_WAIT: Duration = Duration::from_millis(15);

/// Ends when the branch is journaled, with the problem when it could not be and there is none.
pub(super) type Journaled = oneshot::Receiver<Result<(), Problem>>;

/// Whether a branch is in the journal.
#[derive(Debug)]
pub(super) struct Newborn(Option<Unwritten>);

#[derive(Debug)]
struct Unwritten {
    due: Instant,
    journaled_tx: oneshot::Sender<Result<(), Problem>>,
}

impl Newborn {
    /// One that the journal has.
    pub(super) fn grown() -> Self {
        Self(None)
    }

    /// One that it does not have yet, and what tells that it does.
    pub(super) fn unwritten() -> (Self, Journaled) {
        let (journaled_tx, journaled_rx) = oneshot::channel();
        let due = Instant::now() + ENTRY_WAIT;
        (Self(Some(Unwritten { due, journaled_tx })), journaled_rx)
    }

    /// Whether the journal lacks it.
    pub(super) fn is_unwritten(&self) -> bool {
        self.0.is_some()
    }

    /// When its first entry is due; never, when the journal has it.
    pub(super) async fn due(&self) {
        match &self.0 {
            Some(unwritten) => tokio::time::sleep_until(unwritten.due).await,
            None => std::future::pending().await,
        }
    }

    /// Tells whoever waits, once, how the first entry went.
    pub(super) fn tell(&mut self, entered: Result<(), Problem>) {
        if let Some(unwritten) = self.0.take() {
            // A caller that has gone away wants no answer.
            let _ = unwritten.journaled_tx.send(entered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_entry_is_due_once_and_told_once() {
        let (mut newborn, journaled_rx) = Newborn::unwritten();
        let begun = Instant::now();
        newborn.due().await;
        assert!(begun.elapsed() >= ENTRY_WAIT);
        newborn.tell(Ok(()));
        assert!(!newborn.is_unwritten());
        newborn.tell(Err(Problem::new(
            model::engine_api::ProblemKind::Internal,
            "too late",
        )));
        assert!(journaled_rx.await.unwrap().is_ok());
        let never = tokio::time::timeout(ENTRY_WAIT * 3, newborn.due()).await;
        assert!(never.is_err());
    }
}

//! One branch watched over the engine's own restarts.

use std::time::Duration;

use model::BranchName;
use model::engine_api::BranchView;

use crate::engine_client::{BranchWatch, ClientError, EngineClient};
use crate::engine_start::{self, StartError};
use crate::settings::Settings;

/// The pause before a broken watch is asked for again: an engine that closes every one is not hammered.
const REWATCH_PAUSE: Duration = Duration::from_millis(100);

/// What became of the branch.
pub(super) enum WatchEvent {
    /// It stands like this.
    Changed(Box<BranchView>),
    /// It is gone.
    Deleted,
    /// The engine is gone and does not start.
    Lost(StartError),
    /// The engine says what is not understood.
    Unclear(ClientError),
}

/// Watches one branch.
pub(super) struct LastingWatch<'a> {
    settings: &'a Settings,
    client: EngineClient,
    name: BranchName,
    watch: Option<BranchWatch>,
}

impl<'a> LastingWatch<'a> {
    pub(super) fn new(settings: &'a Settings, name: BranchName) -> Self {
        Self {
            settings,
            client: EngineClient::new(settings.engine_socket()),
            name,
            watch: None,
        }
    }

    /// Waits for the next event. After anything but [`WatchEvent::Changed`] there is none that matters.
    pub(super) async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(watch) = &mut self.watch {
                match watch.next().await {
                    Ok(Some(view)) => return WatchEvent::Changed(Box::new(view)),
                    // Deleted, or an engine that stops: asking again tells which.
                    Ok(None) | Err(ClientError::Exchange { .. }) => self.watch = None,
                    Err(error) => return WatchEvent::Unclear(error),
                }
                tokio::time::sleep(REWATCH_PAUSE).await;
            }
            match self.client.watch_branch(&self.name).await {
                Ok(watch) => self.watch = Some(watch),
                Err(error) if error.is_absence() => {
                    if let Err(error) = engine_start::connect(self.settings).await {
                        return WatchEvent::Lost(error);
                    }
                }
                Err(error) if error.is_not_found() => return WatchEvent::Deleted,
                Err(error) => return WatchEvent::Unclear(error),
            }
        }
    }
}

//! Branches watched until they are ready: for sessions, for `create`, for `reset`.
//!
//! Owns the wait, its bound, and what is shown meanwhile. Leaves asking for the branches to the caller; a copy that
//! outlives the wait goes on in the engine.
//!
//! ```text
//! not ready ──ready──▶ counted off ──all──▶ Ok
//!     ├──failed──▶ WaitError::Failed        ├── deleted ──▶ WaitError::Gone
//!     └──limit───▶ WaitError::TimedOut      └── engine away ──▶ started again, watched again
//! ```

mod lasting_watch;
mod lines;

pub(crate) use lines::describe_copy;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, SelectAll};
use model::engine_api::{BranchPhase, BranchView};

use crate::clock;
use crate::engine_client::ClientError;
use crate::engine_start::StartError;
use crate::settings::Settings;
use crate::ui::{Progress, Ui, words};
use lasting_watch::{LastingWatch, WatchEvent};

/// How long a command that asks for a branch waits by default, in seconds: some ten gigabytes on an ordinary disk. A
/// session waits as its file says (`config::branch`, `creation_timeout_secs`).
pub(crate) const WAIT_DEFAULT: &str = "600";

/// How long a command that connects to a branch waits for one that is being made or started.
pub(crate) const CONNECT_WAIT_MAX: Duration = Duration::from_secs(60);

/// Why a branch is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    /// It could not be made.
    #[error("branch {} could not be made: {}", .0.id, .0.message.as_deref().unwrap_or("the engine gave no reason"))]
    Failed(Box<BranchView>),
    /// Somebody deleted it.
    #[error("branch {0} was deleted while it was waited for")]
    Gone(String),
    /// Some are not ready within the limit.
    #[error("not ready after {}: {}", words::span(.limit.as_secs()), names(.unready))]
    TimedOut {
        /// Those that are not, as they stand.
        unready: Vec<BranchView>,
        /// How long they had.
        limit: Duration,
    },
    /// The engine does not tell.
    #[error("cannot watch branch {id}")]
    Watch {
        /// The branch.
        id: String,
        /// What the client says.
        #[source]
        source: ClientError,
    },
    /// The engine is gone and does not come back.
    #[error("the engine went away while branches were made")]
    Engine(#[source] StartError),
}

fn names(branches: &[BranchView]) -> String {
    let described = branches
        .iter()
        .map(|branch| format!("branch {} ({})", branch.id, branch.phase.as_str()));
    described.collect::<Vec<_>>().join(", ")
}

/// Waits until each of `branches` is ready, for `limit` at most; shows progress. Answers them as they then are, in the
/// order given.
///
/// # Errors
/// [`WaitError`] at the first branch that will not become ready, or when the limit is reached.
pub(crate) async fn wait_until_ready(
    settings: &Settings,
    ui: &Ui,
    mut branches: Vec<BranchView>,
    limit: Duration,
) -> Result<Vec<BranchView>, WaitError> {
    let deadline = clock::monotonic() + limit;
    let mut events = watch(settings, &branches)?;
    let mut board = Board {
        progress: ui.progress(),
        announced: vec![false; branches.len()],
        limit,
    };
    for (index, branch) in branches.iter().enumerate() {
        board.show(index, branch);
    }
    while branches.iter().any(|b| b.phase != BranchPhase::Ready) {
        let Ok(event) = tokio::time::timeout_at(deadline, events.next()).await else {
            branches.retain(|branch| branch.phase != BranchPhase::Ready);
            return Err(WaitError::TimedOut {
                unready: branches,
                limit,
            });
        };
        let (index, event) = event.expect("a watch of an unready branch never ends");
        let id = || branches[index].id.to_string();
        let view = match event {
            WatchEvent::Changed(view) => view,
            WatchEvent::Deleted => return Err(WaitError::Gone(id())),
            WatchEvent::Lost(error) => return Err(WaitError::Engine(error)),
            WatchEvent::Unclear(source) => {
                return Err(WaitError::Watch { id: id(), source });
            }
        };
        board.show(index, &view);
        branches[index] = *view;
        check(&branches[index])?;
    }
    Ok(branches)
}

type Events<'a> = SelectAll<stream::LocalBoxStream<'a, (usize, WatchEvent)>>;

/// Follows every branch that is not ready.
fn watch<'a>(settings: &'a Settings, branches: &[BranchView]) -> Result<Events<'a>, WaitError> {
    let mut events = SelectAll::new();
    for (index, branch) in branches.iter().enumerate() {
        check(branch)?;
        if branch.phase == BranchPhase::Ready {
            continue;
        }
        let branch_watch = LastingWatch::new(settings, branch.name.clone());
        let changes = stream::unfold(branch_watch, move |mut watch| async move {
            let event = watch.next().await;
            Some(((index, event), watch))
        });
        events.push(changes.boxed_local());
    }
    Ok(events)
}

/// Refuses a branch that will not become ready.
fn check(branch: &BranchView) -> Result<(), WaitError> {
    match branch.phase {
        BranchPhase::Failed => Err(WaitError::Failed(Box::new(branch.clone()))),
        BranchPhase::Deleting => Err(WaitError::Gone(branch.id.to_string())),
        BranchPhase::Copying
        | BranchPhase::Cloning
        | BranchPhase::Starting
        | BranchPhase::Ready => Ok(()),
    }
}

/// What the waiting person sees.
struct Board<'ui> {
    progress: Progress<'ui>,
    /// Whether a branch's copy has been announced, by its index.
    announced: Vec<bool>,
    limit: Duration,
}

impl Board<'_> {
    fn show(&mut self, index: usize, branch: &BranchView) {
        if !self.announced[index]
            && let Some(line) = lines::announce(branch, self.limit)
        {
            self.progress.note(&line);
            self.announced[index] = true;
        }
        let name = branch.name.as_str();
        match lines::describe(branch, clock::now()) {
            Some(line) => self.progress.show(name, line, clock::monotonic()),
            None => self.progress.finish(name),
        }
    }
}

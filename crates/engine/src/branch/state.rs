//! The life of a branch as a pure machine: what state follows which event, and what each state has to do.
//!
//! ```text
//!                          CloneTaken (a warm one of the pool, or a follower)
//!   +---------------------------------------------------------------+
//!   |              SnapshotReady          Cloned          Started   v
//! AwaitingSnapshot ------------> Cloning -------> Starting -----> Ready
//!   ^  |                            |             ^  |              |
//!   |  |                            |             |  |  ServerExited, StartFailed (at most RESTARTS_MAX in a row)
//!   |  +-----------+----------------+             +--|--------------+
//!   |   Failed(why)|                                 |
//!   |              v        Removed               Failed(why), too many restarts, machine restarted
//!   |           Failing -------------> Failed <--- (through Failing)
//!   |                                    |
//!   +------------------------------------+ Rebuild
//!
//! Ready --QuietLong--> FallingAsleep --Stopped--> Asleep --Knocked--> Starting
//!   |                        +---------StopFailed------------------------^
//!   |  ResetAsked (Ready, Failed), Rebuild (Failing) -> Deleting { Anew } --Removed--> AwaitingSnapshot
//!   |  DeleteAsked, Expired (any)  -> Deleting { Gone } --Removed--> Gone
//! ```
//!
//! Owns the transitions alone: no time, no files, no processes. `driver` performs the work that a state names and feeds
//! the event back; `hold` says when a branch has expired. Every state's work may be done twice, so a crash between
//! the doing and the journal costs time and nothing else.

use std::fmt;

use model::engine_api::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};

use crate::base::SnapshotName;

/// Restarts of a server that ended by itself before the branch counts as failed. A server that was ready for
/// `RESTART_FORGIVEN_AFTER` starts the count anew.
pub const RESTARTS_MAX: u32 = 3;

/// Why a branch failed, in words for its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was tried and why it failed.
    pub message: String,
    /// One thing to do about it.
    pub hint: Option<String>,
}

/// What comes after the removal of a branch's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterRemoval {
    /// Nothing: the branch is forgotten.
    Gone,
    /// The same branch with fresh data.
    Anew,
}

/// Where a branch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A fresh snapshot is being found or made.
    AwaitingSnapshot,
    /// The snapshot's files are being cloned.
    Cloning {
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// The server is being started.
    Starting {
        /// The snapshot that the files came from; none: they are a follower's own.
        snapshot: Option<SnapshotName>,
        /// How often the server has ended by itself in a row.
        restarts: u32,
    },
    /// The server answers.
    Ready {
        /// The snapshot that the files came from; none: they are a follower's own.
        snapshot: Option<SnapshotName>,
        /// How often the server has ended by itself in a row.
        restarts: u32,
    },
    /// Nobody has connected for long: the server is being stopped.
    FallingAsleep {
        /// The snapshot that the files came from; none: they are a follower's own.
        snapshot: Option<SnapshotName>,
    },
    /// The server is stopped, and starts again for the next client at the door.
    Asleep {
        /// The snapshot that the files came from; none: they are a follower's own.
        snapshot: Option<SnapshotName>,
    },
    /// Leftovers of a failure are being removed.
    Failing(Failure),
    /// Nothing is left but the reason.
    Failed(Failure),
    /// Server, files and directory are being removed.
    Deleting(AfterRemoval),
    /// Nothing is left.
    Gone,
}

/// What can happen to a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A snapshot that holds everything committed before the request.
    SnapshotReady(SnapshotName),
    /// A clone of such a snapshot that runs already and accepts the application's user, or a follower of the source that
    /// has become writable and does.
    CloneTaken(Option<SnapshotName>),
    /// The snapshot was dropped before anything was cloned from it.
    SnapshotGone,
    /// The clone stands under its final name.
    Cloned,
    /// The server answers and accepts the application's user.
    Started,
    /// The work of this state failed for good.
    Failed(Failure),
    /// The server did not start, or ended before it answered. The branch may hold somebody's data.
    StartFailed(Failure),
    /// A ready branch's server ended without having been asked to.
    ServerExited {
        /// It had been ready long enough that earlier ends do not count.
        forgiven: bool,
    },
    /// Nobody has connected for long, and the door is closed.
    QuietLong,
    /// The server has stopped.
    Stopped,
    /// The server has not stopped, or nobody knows: the branch holds somebody's data.
    StopFailed,
    /// A client waits at the door.
    Knocked,
    /// Everything on disk is gone.
    Removed,
    /// A request for a branch that failed, or is about to have failed.
    Rebuild,
    /// Fresh data wanted.
    ResetAsked,
    /// The branch is to go.
    DeleteAsked,
    /// Its TTL has passed.
    Expired,
}

/// What a state has to do. Each may be done again after a crash with the same result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Find or make a fresh snapshot. Ends in `SnapshotReady` or `Failed`.
    AwaitSnapshot,
    /// Clone the snapshot. Ends in `Cloned` or `Failed`.
    Clone(SnapshotName),
    /// Start the server, or adopt the living one. Ends in `Started` or `Failed`.
    Start,
    /// Keep the door open and watch the server. Ends in `ServerExited`.
    Serve,
    /// Stop the server cleanly. Ends in `Stopped` or `StopFailed`.
    Stop,
    /// Stop the server and remove every file. Ends in `Removed`.
    Remove,
    /// Wait for a request.
    Rest,
    /// End the driver.
    Finish,
}

impl Failure {
    /// What whoever asked is told.
    pub(super) fn problem(self, kind: ProblemKind) -> Problem {
        Problem {
            hint: self.hint,
            ..Problem::new(kind, self.message)
        }
    }
}

/// An event that means nothing in a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Denied {
    /// The state's word.
    pub state: &'static str,
    /// The event.
    pub event: Event,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a branch that is {} ", self.state)?;
        if self.event == Event::ResetAsked {
            write!(f, "cannot be reset")
        } else {
            write!(f, "does not take {:?}", self.event)
        }
    }
}

impl State {
    /// What this state has to do.
    pub fn work(&self) -> Work {
        match self {
            Self::AwaitingSnapshot => Work::AwaitSnapshot,
            Self::Cloning { snapshot } => Work::Clone(snapshot.clone()),
            Self::Starting { .. } => Work::Start,
            Self::Ready { .. } => Work::Serve,
            Self::FallingAsleep { .. } => Work::Stop,
            Self::Failing(_) | Self::Deleting(_) => Work::Remove,
            Self::Asleep { .. } | Self::Failed(_) => Work::Rest,
            Self::Gone => Work::Finish,
        }
    }

    /// The state's word in logs and refusals.
    pub fn word(&self) -> &'static str {
        match self {
            Self::AwaitingSnapshot => "awaiting its snapshot",
            Self::Cloning { .. } => "being cloned",
            Self::Starting { .. } => "starting",
            Self::Ready { .. } => "ready",
            Self::FallingAsleep { .. } => "falling asleep",
            Self::Asleep { .. } => "asleep",
            Self::Failing(_) => "failing",
            Self::Failed(_) => "failed",
            Self::Deleting(_) => "being deleted",
            Self::Gone => "gone",
        }
    }

    /// The snapshot that the branch's files came from or are coming from.
    pub fn snapshot(&self) -> Option<&SnapshotName> {
        match self {
            Self::Cloning { snapshot } => Some(snapshot),
            Self::Starting { snapshot, .. }
            | Self::Ready { snapshot, .. }
            | Self::FallingAsleep { snapshot }
            | Self::Asleep { snapshot } => snapshot.as_ref(),
            Self::AwaitingSnapshot
            | Self::Failing(_)
            | Self::Failed(_)
            | Self::Deleting(_)
            | Self::Gone => None,
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`Denied`] where the event means nothing in this state; the state stays.
    pub fn step(&self, event: Event) -> Result<Self, Denied> {
        match (self, event) {
            // Removal, once begun, always ends; a wish for less than it is no news.
            (Self::Deleting(_), Event::DeleteAsked | Event::Expired) => {
                Ok(Self::Deleting(AfterRemoval::Gone))
            }
            (Self::Deleting(AfterRemoval::Anew), Event::Removed) => Ok(Self::AwaitingSnapshot),
            (Self::Deleting(AfterRemoval::Gone), Event::Removed) => Ok(Self::Gone),
            (Self::Gone, event) => Err(self.deny(event)),
            (_, Event::DeleteAsked | Event::Expired) => Ok(Self::Deleting(AfterRemoval::Gone)),

            (Self::AwaitingSnapshot, Event::SnapshotReady(snapshot)) => {
                Ok(Self::Cloning { snapshot })
            }
            (Self::AwaitingSnapshot, Event::CloneTaken(snapshot)) => Ok(Self::Ready {
                snapshot,
                restarts: 0,
            }),
            (Self::Cloning { .. }, Event::SnapshotGone) => Ok(Self::AwaitingSnapshot),
            (Self::Cloning { snapshot }, Event::Cloned) => Ok(Self::Starting {
                snapshot: Some(snapshot.clone()),
                restarts: 0,
            }),
            (Self::Starting { snapshot, restarts }, Event::Started) => Ok(Self::Ready {
                snapshot: snapshot.clone(),
                restarts: *restarts,
            }),
            (Self::Starting { snapshot, restarts }, Event::StartFailed(failure)) => {
                Ok(Self::start_anew(snapshot, restarts + 1, failure))
            }
            (Self::Ready { snapshot, restarts }, Event::ServerExited { forgiven }) => {
                let restarts = if forgiven { 1 } else { restarts + 1 };
                Ok(Self::start_anew(
                    snapshot,
                    restarts,
                    ended_too_often(restarts),
                ))
            }
            (Self::Ready { snapshot, .. }, Event::QuietLong) => Ok(Self::FallingAsleep {
                snapshot: snapshot.clone(),
            }),
            (Self::FallingAsleep { snapshot }, Event::Stopped) => Ok(Self::Asleep {
                snapshot: snapshot.clone(),
            }),
            (Self::FallingAsleep { snapshot }, Event::StopFailed)
            | (Self::Asleep { snapshot }, Event::Knocked) => Ok(Self::Starting {
                snapshot: snapshot.clone(),
                restarts: 0,
            }),
            (
                Self::AwaitingSnapshot
                | Self::Cloning { .. }
                | Self::Starting { .. }
                | Self::Ready { .. }
                | Self::FallingAsleep { .. },
                Event::Failed(failure),
            ) => Ok(Self::Failing(failure)),
            (Self::Failing(failure), Event::Removed) => Ok(Self::Failed(failure.clone())),
            (Self::Failed(_), Event::Rebuild) => Ok(Self::AwaitingSnapshot),
            (Self::Failing(_), Event::Rebuild) => Ok(Self::Deleting(AfterRemoval::Anew)),
            (
                Self::Ready { .. }
                | Self::FallingAsleep { .. }
                | Self::Asleep { .. }
                | Self::Failed(_),
                Event::ResetAsked,
            ) => Ok(Self::Deleting(AfterRemoval::Anew)),
            (_, event) => Err(self.deny(event)),
        }
    }

    /// Another start, unless there were too many in a row.
    fn start_anew(snapshot: &Option<SnapshotName>, restarts: u32, failure: Failure) -> Self {
        if restarts > RESTARTS_MAX {
            return Self::Failing(failure);
        }
        Self::Starting {
            snapshot: snapshot.clone(),
            restarts,
        }
    }

    fn deny(&self, event: Event) -> Denied {
        Denied {
            state: self.word(),
            event,
        }
    }
}

fn ended_too_often(restarts: u32) -> Failure {
    Failure {
        message: format!("the branch's server ended by itself {restarts} times in a row"),
        hint: Some(
            "see its log with `bough engine logs`, or ask for it again: it is made from scratch"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;

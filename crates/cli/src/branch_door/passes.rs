//! What is said at a branch's door before anything of PostgreSQL's: its host's engine gives it to the session, or to a command.
//!
//! Owns how long one is used until the engine is asked for another, which it is also after the host has become one that
//! guards its doors. Leaves the bytes to `model::door_pass`.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use model::door_pass::{COMMAND_TIME, preamble};
use model::engine_api::{BranchConnection, SessionId};
use model::{BranchName, Secret};
use tokio::sync::Mutex;

use crate::clock;
use crate::engine_client::EngineClient;

/// How long a pass is used: a command's is good for three times that.
const USED_MAX: Duration = Duration::from_secs(COMMAND_TIME.as_secs() / 3);

/// How long a connection waits for another pass; one that was given before is used then, and as long again by those that
/// come next, so that they do not wait in line.
const ASK_WAIT_MAX: Duration = Duration::from_secs(10);

/// Passes to one branch.
pub(super) struct Passes {
    client: EngineClient,
    branch: BranchName,
    session: Option<SessionId>,
    given: Mutex<Given>,
}

/// What the engine said last.
struct Given {
    pass: Option<Secret>,
    at: Timestamp,
    /// When it did not answer.
    failed_at: Option<Timestamp>,
}

impl Given {
    /// Whether another is due. None is from a host that did not guard its doors: its next pod may.
    fn is_due(&self, now: Timestamp) -> bool {
        // A clock that was set back says nothing.
        let is_within = |since: Timestamp, time| {
            let age = Duration::try_from(now.duration_since(since));
            age.is_ok_and(|age| age < time)
        };
        let is_fresh = self.pass.is_some() && is_within(self.at, USED_MAX);
        let has_failed = self.failed_at.is_some_and(|at| is_within(at, ASK_WAIT_MAX));
        !is_fresh && !has_failed
    }
}

impl Passes {
    /// Those that the engine behind `client` gives for a branch, to a session or a command; `connection` has the first.
    pub(super) fn new(
        client: &EngineClient,
        branch: &BranchName,
        session: Option<&SessionId>,
        connection: &BranchConnection,
    ) -> Self {
        Self {
            client: client.clone(),
            branch: branch.clone(),
            session: session.cloned(),
            given: Mutex::new(Given {
                pass: connection.pass.clone(),
                at: clock::now(),
                failed_at: None,
            }),
        }
    }

    /// What is to be said now; nothing at a door that is not guarded.
    ///
    /// # Errors
    /// When the engine gave something else.
    pub(super) async fn say(&self) -> io::Result<Vec<u8>> {
        let mut given = self.given.lock().await;
        if given.is_due(clock::now()) {
            let asking = self.client.connection(&self.branch, self.session.as_ref());
            match tokio::time::timeout(ASK_WAIT_MAX, asking).await {
                Ok(Ok(connection)) => {
                    *given = Given {
                        pass: connection.pass,
                        at: clock::now(),
                        failed_at: None,
                    };
                }
                // The door says what is the matter, or lets in by the one before.
                failed @ (Ok(Err(_)) | Err(_)) => {
                    tracing::info!(?failed, "no other pass to a branch's door");
                    given.failed_at = Some(clock::now());
                }
            }
        }
        let said = given.pass.as_ref().map(preamble).transpose();
        said.map(Option::unwrap_or_default)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_used_for_a_third_of_its_time_and_none_is_asked_for_again() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let given = |pass: Option<&str>| Given {
            pass: pass.map(Secret::new),
            at: at(1000),
            failed_at: None,
        };
        for (now, is_due) in [(999, true), (1000, false), (1299, false), (1300, true)] {
            assert_eq!(given(Some("00")).is_due(at(now)), is_due, "{now}");
            assert!(given(None).is_due(at(now)));
        }
        let failed = Given {
            failed_at: Some(at(1300)),
            ..given(Some("00"))
        };
        assert!(!failed.is_due(at(1309)) && failed.is_due(at(1310)));
    }
}

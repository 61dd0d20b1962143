//! Sessions as the engine sees them: who holds a branch, and that they still live.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::BranchName;

/// How often a session says that it lives.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(4);

/// The silence after which a session counts as gone: three missed heartbeats, within the promised 15 s.
pub const HEARTBEAT_GRACE: Duration = Duration::from_secs(13);

/// Names one session: chosen at random by the one who runs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct SessionId(pub String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Holds branches for a session; every heartbeat sends the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinSession {
    /// The branches that it holds.
    pub branches: Vec<BranchName>,
    /// Who runs it: `user@host`.
    pub owner: String,
    /// The process that runs it.
    pub pid: u32,
    /// The program that it runs, without arguments, which may hold secrets.
    pub program: String,
}

/// A session that asks for a branch, which it holds from the first moment on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Its id.
    pub id: SessionId,
    /// Who runs it: `user@host`.
    pub owner: String,
    /// The process that runs it.
    pub pid: u32,
    /// The program that it runs, without arguments, which may hold secrets.
    pub program: String,
}

impl JoinSession {
    /// Who joins by it, under `id`.
    pub fn holder(&self, id: &SessionId) -> Holder {
        Holder {
            id: id.clone(),
            owner: self.owner.clone(),
            pid: self.pid,
            program: self.program.clone(),
        }
    }
}

/// Stops a session: its next heartbeat is refused, so that it ends its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopSession {
    /// Who wants that: `user@host`.
    pub by: String,
}

/// Everything told of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Who runs it: `user@host`.
    pub owner: String,
    /// The process that runs it.
    pub pid: u32,
    /// The program that it runs.
    pub program: String,
    /// When it joined.
    #[schema(value_type = String, format = DateTime)]
    pub joined_at: Timestamp,
    /// Who stopped it, while it has not left yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<String>,
}

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

/// Names one session: chosen at random by the one who runs it. It is part of paths and a resource's name, and so what RFC
/// 1123 lets be one: up to 253 of `a` to `z`, digits, `-` and `.`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct SessionId(String);

/// Bytes of a session's id at most.
const SESSION_ID_BYTES_MAX: usize = 253;

/// The text names no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no session's id, which has 1 to {SESSION_ID_BYTES_MAX} of a to z, digits, - and ."
)]
pub struct SessionIdError(String);

impl SessionId {
    /// The one of a random number.
    pub fn random(number: u64) -> Self {
        Self(format!("{number:016x}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SessionId {
    type Error = SessionIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let begins_well = text.bytes().next().is_some_and(is_plain);
        let is_fit = |byte: u8| is_plain(byte) || matches!(byte, b'-' | b'.');
        if begins_well && text.len() <= SESSION_ID_BYTES_MAX && text.bytes().all(is_fit) {
            Ok(Self(text))
        } else {
            Err(SessionIdError(text))
        }
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

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

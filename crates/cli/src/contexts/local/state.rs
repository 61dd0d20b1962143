//! What became of a target: what its record says, held against the processes that are there.

use std::fmt;

use serde::{Deserialize, Serialize};
use supervisor::{ChildEnd, StopReason};

/// How a target's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub(crate) enum TargetEnd {
    /// By itself.
    Exited {
        /// Its exit code.
        code: u8,
    },
    /// By a signal from elsewhere.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// Its keeper was asked to end it.
    Stopped,
}

impl From<ChildEnd> for TargetEnd {
    fn from(end: ChildEnd) -> Self {
        match end {
            ChildEnd::Exited(code) => Self::Exited { code },
            ChildEnd::Signalled(signal) => Self::Signalled { signal },
            ChildEnd::Stopped(StopReason::Asked | StopReason::SessionLost) => Self::Stopped,
        }
    }
}

/// What a target is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum TargetState {
    /// It runs.
    Running,
    /// It runs, and its keeper was killed: its end will not be recorded. `stop` ends it all the same.
    Unkept,
    /// Its process has ended, its keeper is ending what it left behind.
    Ending,
    /// It ended by itself.
    Exited {
        /// Its exit code.
        code: u8,
    },
    /// A signal from elsewhere ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// Its keeper was asked to end it.
    Stopped,
    /// It ended and nobody saw how: the machine started anew, or its keeper was killed before it.
    Lost,
}

impl TargetState {
    /// The state that a record of such an end and such processes comes to.
    pub(super) fn of(end: Option<TargetEnd>, process_lives: bool, keeper_lives: bool) -> Self {
        match (end, process_lives, keeper_lives) {
            (Some(TargetEnd::Exited { code }), _, _) => Self::Exited { code },
            (Some(TargetEnd::Signalled { signal }), _, _) => Self::Signalled { signal },
            (Some(TargetEnd::Stopped), _, _) => Self::Stopped,
            (None, true, true) => Self::Running,
            (None, true, false) => Self::Unkept,
            (None, false, true) => Self::Ending,
            (None, false, false) => Self::Lost,
        }
    }

    /// Whether its process runs.
    pub(crate) fn runs(self) -> bool {
        match self {
            Self::Running | Self::Unkept => true,
            Self::Ending
            | Self::Exited { .. }
            | Self::Signalled { .. }
            | Self::Stopped
            | Self::Lost => false,
        }
    }
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Unkept => f.write_str("running, keeper lost"),
            Self::Ending => f.write_str("ending"),
            Self::Exited { code } => write!(f, "exited {code}"),
            Self::Signalled { signal } => write!(f, "killed by signal {signal}"),
            Self::Stopped => f.write_str("stopped"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

impl fmt::Display for TargetEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TargetState::of(Some(*self), false, false).fmt(f)
    }
}

//! What a session may say of the branched databases: that nothing of it reached them, or why it does not say so. Pure.

use std::fmt;

use serde::Serialize;
use supervisor::{FencePlan, OnSource, Report};

use crate::ui::words::things;

/// What is said of the branched databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// Every way of the session to them was looked into, and ended in a branch or nowhere.
    Untouched,
    /// There were ways that nobody looked into.
    NotSaid(Vec<Why>),
}

/// A way that was not looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub(super) enum Why {
    /// Connections to a source went on, as its owner allowed.
    Allowed { connections: u64 },
    /// Sessions with other databases of a source's server: SQL leads from there to every database of it.
    OtherDatabases { sessions: u64 },
    /// Connections from network namespaces of the program's own.
    Namespaces { connections: u64 },
    /// Connections to Unix sockets of programs outside the session, which may lead on.
    UnixSockets { connections: u64 },
    /// Connections that stood before the program, which inherited them.
    Inherited { descriptors: usize },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { connections } => write!(
                f,
                "{} to the source went on, as allowed; what they did there was not looked into",
                things(*connections, "connection")
            ),
            Self::OtherDatabases { sessions } => write!(
                f,
                "{} with other databases of the same server: what they did there, Bough did not see",
                things(*sessions, "session")
            ),
            Self::Namespaces { connections } => write!(
                f,
                "{} from network namespaces of the program's own",
                things(*connections, "connection")
            ),
            Self::UnixSockets { connections } => write!(
                f,
                "{} to Unix sockets of other programs, which may lead on",
                things(*connections, "connection")
            ),
            Self::Inherited { descriptors } => write!(
                f,
                "{} that the program inherited",
                things(*descriptors, "connection")
            ),
        }
    }
}

impl Claim {
    /// What may be said of a session with this fence and these counts.
    pub(super) fn of(fence: &FencePlan, counts: &Report) -> Self {
        let is_open = fence.on_source == OnSource::Allow && !fence.assert_isolated;
        let mut ways = Vec::new();
        if counts.allowed > 0 || is_open {
            let connections = counts.allowed;
            ways.push(Why::Allowed { connections });
        }
        let sessions = counts.passed_to_others();
        if sessions > 0 {
            ways.push(Why::OtherDatabases { sessions });
        }
        if counts.unseen > 0 {
            let connections = counts.unseen;
            ways.push(Why::Namespaces { connections });
        }
        if counts.sockets_unseen > 0 {
            let connections = counts.sockets_unseen;
            ways.push(Why::UnixSockets { connections });
        }
        let descriptors = counts.inherited.len();
        if descriptors > 0 {
            ways.push(Why::Inherited { descriptors });
        }
        if ways.is_empty() {
            Self::Untouched
        } else {
            Self::NotSaid(ways)
        }
    }

    /// As JSON has it: `true`, or nothing.
    pub(super) fn untouched(&self) -> Option<bool> {
        (*self == Self::Untouched).then_some(true)
    }

    /// Why it is not said.
    pub(super) fn ways(&self) -> &[Why] {
        match self {
            Self::Untouched => &[],
            Self::NotSaid(ways) => ways,
        }
    }

    /// In words, of these sources.
    pub(super) fn words(&self, sources: &str) -> String {
        match self {
            Self::Untouched => format!("nothing got past the fence to {sources}"),
            Self::NotSaid(ways) => {
                let ways: Vec<String> = ways.iter().map(ToString::to_string).collect();
                let ways = ways.join("; ");
                format!("whether {sources} was reached is not said: {ways}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use supervisor::fence::{DatabaseCount, InheritedSocket};

    use super::*;

    fn fence(on_source: OnSource, assert_isolated: bool) -> FencePlan {
        FencePlan {
            servers: Vec::new(),
            on_source,
            assert_isolated,
        }
    }

    fn of(counts: &Report) -> Claim {
        Claim::of(&fence(OnSource::Redirect, false), counts)
    }

    #[test]
    fn nothing_is_claimed_of_what_was_not_looked_into() {
        let untouched = of(&Report::default());
        assert_eq!(untouched, Claim::Untouched);
        assert_eq!(
            untouched.words("db/shop"),
            "nothing got past the fence to db/shop"
        );
        let counts = Report {
            passed: vec![DatabaseCount {
                address: "db:5432".to_owned(),
                database: "postgres".to_owned(),
                connections: 3,
            }],
            passed_untold: 1,
            unseen: 1,
            sockets_unseen: 2,
            inherited: vec![InheritedSocket {
                descriptor: 7,
                address: "db:5432".to_owned(),
            }],
            ..Report::default()
        };
        let claim = of(&counts);
        assert_eq!(claim.untouched(), None);
        assert_eq!(
            claim.words("db/shop"),
            "whether db/shop was reached is not said: 4 sessions with other databases of the same server: what they did \
             there, Bough did not see; 1 connection from network namespaces of the program's own; 2 connections to Unix \
             sockets of other programs, which may lead on; 1 connection that the program inherited"
        );
        assert_eq!(
            json!(claim.ways())[0],
            json!({"why": "other_databases", "sessions": 4})
        );
    }

    #[test]
    fn what_is_allowed_is_not_looked_into_unless_isolation_is_asserted() {
        let allowed = Claim::of(&fence(OnSource::Allow, false), &Report::default());
        assert_eq!(
            allowed,
            Claim::NotSaid(vec![Why::Allowed { connections: 0 }])
        );
        let asserted = Claim::of(&fence(OnSource::Allow, true), &Report::default());
        assert_eq!(asserted, Claim::Untouched);
    }
}

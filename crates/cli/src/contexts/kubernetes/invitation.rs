//! What an agent's container says to whoever may run a program in it: the agent's port and credentials of sessions.
//!
//! Owns the two texts: the file that the agent keeps for itself, and the line of JSON that goes out.

use operator::agents::Question;
use serde::{Deserialize, Serialize};
use wire::{AgentKey, SessionId, SessionKey};

use crate::contexts::hex;

/// Where the agent of a container listens, and its key: for its own container alone.
#[derive(Clone)]
pub(crate) struct AgentPlace {
    /// The port on the pod's loopback.
    pub(crate) port: u16,
    /// What sessions' keys are made from.
    pub(crate) key: AgentKey,
}

impl AgentPlace {
    /// As the file has it.
    pub(crate) fn text(&self) -> String {
        format!("{} {}\n", self.port, hex::write(self.key.reveal()))
    }

    /// What the file says.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (port, key) = text.trim_end().split_once(' ')?;
        Some(Self {
            port: port.parse().ok()?,
            key: AgentKey::new(hex::parse(key)?),
        })
    }
}

/// What opens one session.
pub(crate) struct SessionCredential {
    /// Which.
    pub(crate) id: SessionId,
    /// What it proves itself with.
    pub(crate) key: SessionKey,
}

/// An agent's port and credentials.
pub(crate) struct Invitation {
    /// The port on the pod's loopback.
    pub(crate) port: u16,
    /// Of new sessions.
    pub(crate) sessions: Vec<SessionCredential>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    port: u16,
    sessions: Vec<WrittenCredential>,
}

#[derive(Serialize, Deserialize)]
struct WrittenCredential {
    id: String,
    key: String,
}

impl Invitation {
    /// Asks an agent for one session.
    pub(super) const TO_ONE: Question<'static, Self> = Question {
        words: &["invite", "--sessions", "1"],
        read: Self::parse,
    };

    /// Asks an agent for two sessions.
    pub(super) const TO_TWO: Question<'static, Self> = Question {
        words: &["invite", "--sessions", "2"],
        read: Self::parse,
    };

    /// As one line.
    pub(crate) fn text(&self) -> String {
        let sessions = self.sessions.iter().map(|session| WrittenCredential {
            id: session.id.to_string(),
            key: hex::write(session.key.reveal()),
        });
        let written = Written {
            port: self.port,
            sessions: sessions.collect(),
        };
        serde_json::to_string(&written).expect("texts and numbers are JSON")
    }

    /// What the line says; none where it is no invitation.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let written: Written = serde_json::from_str(text.trim_end()).ok()?;
        let sessions = written.sessions.iter().map(|session| {
            Some(SessionCredential {
                id: SessionId(hex::parse(&session.id)?),
                key: SessionKey::new(hex::parse(&session.key)?),
            })
        });
        Some(Self {
            port: written.port,
            sessions: sessions.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard() {
        let place = AgentPlace {
            port: 40_000,
            key: AgentKey::new([7; 32]),
        };
        let read = AgentPlace::parse(&place.text()).expect("it is whole");
        assert_eq!((read.port, read.key == place.key), (40_000, true));
        let id = SessionId([3; 16]);
        let invitation = Invitation {
            port: place.port,
            sessions: vec![SessionCredential {
                id,
                key: place.key.session_key(&id),
            }],
        };
        let heard = Invitation::parse(&format!("{}\n", invitation.text())).expect("it is whole");
        assert_eq!(heard.port, 40_000);
        assert_eq!(heard.sessions[0].id, id);
        assert!(heard.sessions[0].key == place.key.session_key(&id));
    }

    #[test]
    fn a_piece_is_no_invitation() {
        for text in [
            "",
            "{",
            "error: no such file",
            r#"{"port": 1}"#,
            r#"{"port": 70000, "sessions": []}"#,
            r#"{"port": 1, "sessions": [{"id": "00", "key": "00"}]}"#,
        ] {
            assert!(Invitation::parse(text).is_none(), "{text}");
        }
        for text in ["", "80", "80 xyz", "x 00"] {
            assert!(AgentPlace::parse(text).is_none(), "{text}");
        }
    }
}

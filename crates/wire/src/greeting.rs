//! How a link begins: versions, proof of the session's key by both sides, and where each stopped reading.
//!
//! ```text
//! client                                      agent
//!   Hello    versions, session, nonce   ->
//!                                       <-    Challenge  version, nonce
//!   Proof    proof, fresh or resumed    ->    (looks for the session only after the proof)
//!                                       <-    Welcome    proof, what it has received     or Refusal
//! ```
//!
//! Each proof covers every byte said before it, so neither versions nor numbers can be changed on the way. The agent
//! shows nothing, not even whether it has a session, to who has no key; the client sends nothing of the session to who
//! has none. What follows is not protected again: the link is a Unix socket, or runs inside TLS.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Wire, take_array, take_u8, take_u16, take_u64};
use crate::frame::{build, split};
use crate::key::{Nonce, Proof, Prover, SessionId, SessionKey};

/// The oldest version of the protocol that this build speaks.
pub const VERSION_OLDEST: u16 = 1;

/// The newest version of the protocol that this build speaks.
pub const VERSION_NEWEST: u16 = 1;

/// Most bytes of a greeting's payload: nobody has proved anything yet.
const GREETING_MAX: usize = 256;

/// What a hello begins with, so that a stranger is told apart from an old version.
const MAGIC: [u8; 8] = *b"bough\0w\n";

mod kind {
    pub(super) const HELLO: u8 = 0x30;
    pub(super) const CHALLENGE: u8 = 0x31;
    pub(super) const PROOF: u8 = 0x32;
    pub(super) const WELCOME: u8 = 0x33;
    pub(super) const REFUSAL: u8 = 0x34;
}

/// Whether a session begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It begins.
    Fresh,
    /// It goes on after the loss of its link.
    Resumed {
        /// The number of the last frame that arrived at the client.
        received: u64,
    },
}

/// Why an agent does not take a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No version in common.
    #[error(
        "it speaks versions {oldest} to {newest} of the protocol, and the other side none of them"
    )]
    Version {
        /// The agent's oldest.
        oldest: u16,
        /// The agent's newest.
        newest: u16,
    },
    /// The proof does not hold.
    #[error("the session's key is not proven")]
    NotProven,
    /// Nothing to resume: the agent restarted, or the grace is over.
    #[error("there is no such session any more")]
    NoSuchSession,
    /// A fresh session under the id of a living one.
    #[error("another session has this id")]
    SessionExists,
    /// The agent has as many sessions as it takes.
    #[error("it has as many sessions as it takes")]
    TooManySessions,
    /// The agent is ending.
    #[error("it is ending")]
    ShuttingDown,
}

/// A link that both sides have proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The version that is spoken.
    pub version: u16,
    /// The number of the last frame that arrived at the other side.
    pub peer_received: u64,
}

/// Why a link did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// The other side is no agent or client of this protocol.
    #[error("the other side does not speak this protocol")]
    Stranger,
    /// Bytes that mean nothing.
    #[error("the greeting cannot be read")]
    Unreadable {
        /// What is wrong with them.
        #[from]
        source: DecodeError,
    },
    /// The agent refused.
    #[error("the agent refuses the link: {refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The agent could not prove that it has the session's key, or answered with a version that was not offered.
    #[error("the agent did not prove the session's key")]
    AgentNotProven,
    /// This side refuses.
    #[error("the client is refused: {refusal}")]
    Refuse {
        /// Why; `GreetingError::answer` is to be sent.
        refusal: Refusal,
    },
}

impl GreetingError {
    /// What to send to the other side before the link is dropped.
    pub fn answer(&self) -> Option<Bytes> {
        match self {
            Self::Refuse { refusal } => Some(refusal.encode()),
            Self::Stranger
            | Self::Unreadable { .. }
            | Self::Refused { .. }
            | Self::AgentNotProven => None,
        }
    }
}

/// The client's side of a greeting.
#[derive(Debug)]
pub struct ClientGreeting {
    key: SessionKey,
    start: Start,
    transcript: BytesMut,
    /// Set once the challenge has come.
    version: Option<u16>,
}

/// What the client has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStep {
    /// Read more.
    Wait,
    /// Send these bytes, then read on.
    Send(Bytes),
    /// The link stands; what is left of the input belongs to the session.
    Linked(Link),
}

impl ClientGreeting {
    /// Begins; the bytes are to be sent at once. `nonce` is random and new.
    pub fn begin(session: SessionId, key: SessionKey, nonce: Nonce, start: Start) -> (Self, Bytes) {
        let hello = build(kind::HELLO, 0, 64, |out| {
            out.put_slice(&MAGIC);
            out.put_u16(VERSION_OLDEST);
            out.put_u16(VERSION_NEWEST);
            session.put(out);
            nonce.put(out);
        });
        let greeting = Self {
            key,
            start,
            transcript: BytesMut::from(&hello[..]),
            version: None,
        };
        (greeting, hello)
    }

    /// Takes what the agent sent off the front of `input`.
    ///
    /// # Errors
    /// [`GreetingError`]; the link is of no use then.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<ClientStep, GreetingError> {
        let Some((kind, mut payload, raw)) = next(input)? else {
            return Ok(ClientStep::Wait);
        };
        match (kind, self.version) {
            (kind::REFUSAL, _) => Err(GreetingError::Refused {
                refusal: Refusal::take_all(payload, "refusal")?,
            }),
            (kind::CHALLENGE, None) => {
                let version = take_u16(&mut payload, "version")?;
                Nonce::take_all(payload, "challenge")?;
                if !(VERSION_OLDEST..=VERSION_NEWEST).contains(&version) {
                    return Err(GreetingError::AgentNotProven);
                }
                self.version = Some(version);
                self.transcript.put_slice(&raw);
                self.start.put(&mut self.transcript);
                let proof = self.key.prove(Prover::Client, &self.transcript);
                proof.put(&mut self.transcript);
                Ok(ClientStep::Send(build(kind::PROOF, 0, 48, |out| {
                    self.start.put(out);
                    proof.put(out);
                })))
            }
            (kind::WELCOME, Some(version)) => {
                let peer_received = take_u64(&mut payload, "received")?;
                let proof = Proof::take_all(payload, "welcome")?;
                self.transcript.put_u64(peer_received);
                if !self.key.verify(Prover::Agent, &self.transcript, &proof) {
                    return Err(GreetingError::AgentNotProven);
                }
                Ok(ClientStep::Linked(Link {
                    version,
                    peer_received,
                }))
            }
            _ => Err(GreetingError::Stranger),
        }
    }
}

/// The agent's side of a greeting.
#[derive(Debug)]
pub struct AgentGreeting {
    nonce: Nonce,
    /// Set once the hello has come.
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    session: SessionId,
    version: u16,
    transcript: BytesMut,
}

/// What the agent has to do.
#[derive(Debug)]
pub enum AgentStep {
    /// Read more.
    Wait,
    /// Send these bytes, then read on.
    Send(Bytes),
    /// The client holds the session's key: take it or refuse it.
    Proven(Proven),
}

/// A client that proved its key and waits for its welcome.
#[derive(Debug)]
pub struct Proven {
    session: SessionId,
    start: Start,
    version: u16,
    key: SessionKey,
    transcript: BytesMut,
}

impl AgentGreeting {
    /// Waits for a hello. `nonce` is random and new.
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, asked: None }
    }

    /// Takes what the client sent off the front of `input`. `key_of` has the key of a session that may come.
    ///
    /// # Errors
    /// [`GreetingError`], whose answer is to be sent before the link is dropped.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        key_of: impl FnOnce(&SessionId) -> Option<SessionKey>,
    ) -> Result<AgentStep, GreetingError> {
        let Some((kind, payload, raw)) = next(input)? else {
            return Ok(AgentStep::Wait);
        };
        match (kind, self.asked.take()) {
            (kind::HELLO, None) => self.challenge(payload, &raw).map(AgentStep::Send),
            (kind::PROOF, Some(asked)) => asked.check(payload, key_of).map(AgentStep::Proven),
            _ => Err(GreetingError::Stranger),
        }
    }

    fn challenge(&mut self, mut hello: Bytes, raw: &[u8]) -> Result<Bytes, GreetingError> {
        if take_array(&mut hello, "hello").ok() != Some(MAGIC) {
            return Err(GreetingError::Stranger);
        }
        let oldest = take_u16(&mut hello, "version")?;
        let newest = take_u16(&mut hello, "version")?;
        // What follows the versions may look otherwise in a version that is not ours.
        let version = newest.min(VERSION_NEWEST);
        if version < oldest.max(VERSION_OLDEST) {
            return Err(GreetingError::Refuse {
                refusal: Refusal::Version {
                    oldest: VERSION_OLDEST,
                    newest: VERSION_NEWEST,
                },
            });
        }
        let session = SessionId::take(&mut hello)?;
        Nonce::take_all(hello, "hello")?;
        let challenge = build(kind::CHALLENGE, 0, 34, |out| {
            out.put_u16(version);
            self.nonce.put(out);
        });
        let mut transcript = BytesMut::from(raw);
        transcript.put_slice(&challenge);
        self.asked = Some(Asked {
            session,
            version,
            transcript,
        });
        Ok(challenge)
    }
}

impl Asked {
    fn check(
        mut self,
        mut payload: Bytes,
        key_of: impl FnOnce(&SessionId) -> Option<SessionKey>,
    ) -> Result<Proven, GreetingError> {
        let start = Start::take(&mut payload)?;
        let proof = Proof::take_all(payload, "proof")?;
        start.put(&mut self.transcript);
        let not_proven = GreetingError::Refuse {
            refusal: Refusal::NotProven,
        };
        let Some(key) = key_of(&self.session) else {
            return Err(not_proven);
        };
        if !key.verify(Prover::Client, &self.transcript, &proof) {
            return Err(not_proven);
        }
        proof.put(&mut self.transcript);
        Ok(Proven {
            session: self.session,
            start,
            version: self.version,
            key,
            transcript: self.transcript,
        })
    }
}

impl Proven {
    /// Which session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether it begins or goes on.
    pub fn start(&self) -> Start {
        self.start
    }

    /// Takes the link: the bytes are to be sent before anything of the session. `received` is the number of the last
    /// frame that arrived here, 0 for a fresh session.
    pub fn welcome(mut self, received: u64) -> (Bytes, Link) {
        self.transcript.put_u64(received);
        let proof = self.key.prove(Prover::Agent, &self.transcript);
        let bytes = build(kind::WELCOME, 0, 40, |out| {
            out.put_u64(received);
            proof.put(out);
        });
        let peer_received = match self.start {
            Start::Fresh => 0,
            Start::Resumed { received } => received,
        };
        let link = Link {
            version: self.version,
            peer_received,
        };
        (bytes, link)
    }
}

impl Refusal {
    /// The refusal in bytes, to be sent before the link is dropped.
    pub fn encode(&self) -> Bytes {
        build(kind::REFUSAL, 0, 8, |out| self.put(out))
    }
}

/// The next greeting: its kind, its payload, and all its bytes for the transcript.
fn next(input: &mut BytesMut) -> Result<Option<(u8, Bytes, Bytes)>, GreetingError> {
    // Anything else that is spoken to us looks like a frame of absurd length.
    let split = split(input, GREETING_MAX).map_err(|_| GreetingError::Stranger)?;
    let Some((header, payload)) = split else {
        return Ok(None);
    };
    if header.number != 0 {
        return Err(GreetingError::Stranger);
    }
    let raw = build(header.kind, 0, payload.len(), |out| out.put_slice(&payload));
    Ok(Some((header.kind, payload, raw)))
}

impl Wire for Start {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Fresh => out.put_u8(1),
            Self::Resumed { received } => {
                out.put_u8(2);
                out.put_u64(*received);
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "start")? {
            1 => Ok(Self::Fresh),
            2 => Ok(Self::Resumed {
                received: take_u64(input, "received")?,
            }),
            number => Err(DecodeError::Unknown {
                what: "start",
                number: number.into(),
            }),
        }
    }
}

impl Wire for Refusal {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Version { oldest, newest } => {
                out.put_u8(1);
                out.put_u16(*oldest);
                out.put_u16(*newest);
            }
            Self::NotProven => out.put_u8(2),
            Self::NoSuchSession => out.put_u8(3),
            Self::SessionExists => out.put_u8(4),
            Self::TooManySessions => out.put_u8(5),
            Self::ShuttingDown => out.put_u8(6),
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "refusal")? {
            1 => Ok(Self::Version {
                oldest: take_u16(input, "version")?,
                newest: take_u16(input, "version")?,
            }),
            2 => Ok(Self::NotProven),
            3 => Ok(Self::NoSuchSession),
            4 => Ok(Self::SessionExists),
            5 => Ok(Self::TooManySessions),
            6 => Ok(Self::ShuttingDown),
            number => Err(DecodeError::Unknown {
                what: "refusal",
                number: number.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;

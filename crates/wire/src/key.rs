//! Keys of agents and sessions, and the proof of holding one without showing it.
//!
//! An agent has one key; a session's follows from it and the session's id, so whoever placed the agent can hand out
//! sessions without telling the agent, and a session's key opens no other session. A proof is an HMAC-SHA256 over
//! everything that both sides have said in the greeting, their nonces included, with the prover's role before it, so
//! that neither side's proof serves as the other's.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::codec::{DecodeError, Wire, take_array};

/// Bytes of a key, a nonce and a proof: the width of the hash.
pub const KEY_BYTES: usize = 32;

/// What an agent was started with. Whoever holds it can open any session there.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentKey([u8; KEY_BYTES]);

/// What one session proves itself with.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey([u8; KEY_BYTES]);

/// Which session: random, chosen by the client, the same on every link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// Random bytes that make a greeting unlike every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; KEY_BYTES]);

/// What shows that a side has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof(pub(crate) [u8; KEY_BYTES]);

/// Who proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prover {
    Client,
    Agent,
}

impl AgentKey {
    /// A key of random bytes, which the caller drew.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever hands them to the agent.
    pub fn reveal(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key of one session at this agent.
    pub fn session_key(&self, session: &SessionId) -> SessionKey {
        SessionKey(mac(&self.0, "bough session key", &[&session.0]))
    }
}

impl SessionKey {
    /// A key that was handed over as bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever hands them to the session.
    pub fn reveal(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    pub(crate) fn prove(&self, prover: Prover, transcript: &[u8]) -> Proof {
        Proof(mac(&self.0, prover.word(), &[transcript]))
    }

    /// Whether `proof` is the prover's over this transcript, in a time that tells nothing.
    pub(crate) fn verify(&self, prover: Prover, transcript: &[u8], proof: &Proof) -> bool {
        hmac(&self.0, prover.word(), &[transcript])
            .verify_slice(&proof.0)
            .is_ok()
    }
}

impl Prover {
    fn word(self) -> &'static str {
        match self {
            Self::Client => "bough client proof",
            Self::Agent => "bough agent proof",
        }
    }
}

fn hmac(key: &[u8], purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    hmac.update(purpose.as_bytes());
    // Purposes hold no zero byte, so one ends where the data begins.
    hmac.update(&[0]);
    for part in parts {
        hmac.update(part);
    }
    hmac
}

fn mac(key: &[u8], purpose: &str, parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    hmac(key, purpose, parts).finalize().into_bytes().into()
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentKey(***)")
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(***)")
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Wire for SessionId {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.0);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        take_array(input, "session").map(Self)
    }
}

impl Wire for Nonce {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.0);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        take_array(input, "nonce").map(Self)
    }
}

impl Wire for Proof {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.0);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        take_array(input, "proof").map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_never_shown() {
        let agent = AgentKey::new([7; 32]);
        let session = agent.session_key(&SessionId([1; 16]));
        assert_eq!(
            format!("{agent:?} {session:?}"),
            "AgentKey(***) SessionKey(***)"
        );
    }

    #[test]
    fn keys_are_handed_over_as_they_are() {
        let bytes: [u8; KEY_BYTES] = std::array::from_fn(|place| place as u8);
        assert_eq!(AgentKey::new(bytes).reveal(), &bytes);
        assert_eq!(SessionKey::new(bytes).reveal(), &bytes);
    }

    #[test]
    fn a_session_is_named_by_its_hexadecimal_digits() {
        let session = SessionId([0x0a; 16]);
        assert_eq!(session.to_string(), "0a".repeat(16));
    }

    #[test]
    fn a_sessions_key_is_its_own() {
        let agent = AgentKey::new([7; 32]);
        let one = agent.session_key(&SessionId([1; 16]));
        assert_ne!(one, agent.session_key(&SessionId([2; 16])));
        assert_eq!(one, agent.session_key(&SessionId([1; 16])));
    }

    #[test]
    fn a_proof_is_of_one_role_one_key_and_one_transcript() {
        let key = SessionKey::new([3; 32]);
        let proof = key.prove(Prover::Client, b"said");
        assert!(key.verify(Prover::Client, b"said", &proof));
        assert!(!key.verify(Prover::Agent, b"said", &proof));
        assert!(!key.verify(Prover::Client, b"sent", &proof));
        assert!(!SessionKey::new([4; 32]).verify(Prover::Client, b"said", &proof));
    }
}

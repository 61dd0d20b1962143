//! What a client says at a guarded door before PostgreSQL's first byte: whose guest it is, under the engine's seal.
//!
//! ```text
//! "BgDr"  version (1)  kind (1)  guest (16)  seal (32)
//! ```
//!
//! Owns these bytes and their text. Leaves making and checking seals to the engine, and carrying them to whoever leads to a
//! door, who need not understand them. No I/O.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Secret;
use crate::engine_api::SessionId;

/// What a pass begins with. As the length of PostgreSQL's first packet it would be more than a gigabyte, which none has.
pub const MAGIC: [u8; 4] = *b"BgDr";

/// The layout above.
const VERSION: u8 = 1;

/// Bytes of a pass.
pub const PASS_BYTES: usize = MAGIC.len() + 2 + GUEST_BYTES + SEAL_BYTES;

/// Bytes of a pass that are carried at most: a later version's may have more.
const CARRIED_BYTES_MAX: usize = 256;

/// Bytes that tell a guest from others of its kind.
const GUEST_BYTES: usize = 16;

/// Bytes of a seal: the width of its hash.
pub const SEAL_BYTES: usize = 32;

const SESSION: u8 = b'S';
const COMMAND: u8 = b'C';

/// How long a command is let in by one pass; a session is for as long as it holds the branch.
pub const COMMAND_TIME: Duration = Duration::from_secs(15 * 60);

/// A session, as its pass names it: the beginning of its id's SHA-256.
pub type SessionMark = [u8; GUEST_BYTES];

/// Who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// A session, which has to hold the branch.
    Session(SessionMark),
    /// A command that belongs to no session.
    Command {
        /// Drawn for it.
        nonce: u64,
        /// When it is over, in seconds since 1970.
        until_seconds: u64,
    },
}

impl Guest {
    /// What a session is named by.
    pub fn mark(id: &SessionId) -> SessionMark {
        let hash = Sha256::digest(id.as_str().as_bytes());
        std::array::from_fn(|place| hash[place])
    }

    /// What is sealed of it.
    pub fn sealed_bytes(&self) -> [u8; 1 + GUEST_BYTES] {
        let mut bytes = [0; 1 + GUEST_BYTES];
        match self {
            Self::Session(mark) => {
                bytes[0] = SESSION;
                bytes[1..].copy_from_slice(mark);
            }
            Self::Command {
                nonce,
                until_seconds,
            } => {
                bytes[0] = COMMAND;
                bytes[1..9].copy_from_slice(&nonce.to_be_bytes());
                bytes[9..].copy_from_slice(&until_seconds.to_be_bytes());
            }
        }
        bytes
    }

    fn read(bytes: &[u8; 1 + GUEST_BYTES]) -> Result<Self, PassError> {
        let [kind, guest @ ..] = bytes;
        let number = |from: usize| u64::from_be_bytes(std::array::from_fn(|at| guest[from + at]));
        match *kind {
            SESSION => Ok(Self::Session(*guest)),
            COMMAND => Ok(Self::Command {
                nonce: number(0),
                until_seconds: number(8),
            }),
            _ => Err(PassError::Unknown),
        }
    }
}

/// A guest with the engine's seal on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DoorPass {
    /// Who comes.
    pub guest: Guest,
    /// What nobody but the engine makes.
    pub seal: [u8; SEAL_BYTES],
}

impl fmt::Debug for DoorPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoorPass")
            .field("guest", &self.guest)
            .finish_non_exhaustive()
    }
}

/// Why something is no pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// Other bytes, or those of a version that this program does not know.
    #[error("no pass to a door that this program knows")]
    Unknown,
    /// Its text is not what an engine writes.
    #[error("a pass to a door that is no even number of hexadecimal digits, or too many")]
    Text,
}

impl DoorPass {
    /// What is said at the door.
    pub fn encode(&self) -> [u8; PASS_BYTES] {
        let mut bytes = [0; PASS_BYTES];
        let (magic, rest) = bytes.split_at_mut(MAGIC.len());
        magic.copy_from_slice(&MAGIC);
        rest[0] = VERSION;
        let (guest, seal) = rest[1..].split_at_mut(1 + GUEST_BYTES);
        guest.copy_from_slice(&self.guest.sealed_bytes());
        seal.copy_from_slice(&self.seal);
        bytes
    }

    /// Reads what was said.
    ///
    /// # Errors
    /// [`PassError::Unknown`] for what no pass of this version is.
    pub fn decode(bytes: &[u8; PASS_BYTES]) -> Result<Self, PassError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(PassError::Unknown)?;
        let (version, rest) = rest.split_first().ok_or(PassError::Unknown)?;
        if *version != VERSION {
            return Err(PassError::Unknown);
        }
        let (guest, seal) = rest.split_at(1 + GUEST_BYTES);
        let guest = guest.try_into().map_err(|_| PassError::Unknown)?;
        Ok(Self {
            guest: Guest::read(guest)?,
            seal: seal.try_into().map_err(|_| PassError::Unknown)?,
        })
    }

    /// The same as text, in an answer of the engine's API: two hexadecimal digits a byte.
    pub fn text(&self) -> Secret {
        let digits = self.encode().map(|byte| format!("{byte:02x}"));
        Secret::new(digits.concat())
    }
}

/// What is to be said at a door, of the text that an engine gave. The bytes may be of a later version.
///
/// # Errors
/// [`PassError::Text`] when it is no text of bytes.
pub fn preamble(text: &Secret) -> Result<Vec<u8>, PassError> {
    let digits = text.reveal().as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() || pairs.len() > CARRIED_BYTES_MAX {
        return Err(PassError::Text);
    }
    let byte = |pair: &[u8; 2]| {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let value = (digit(pair[0])? << 4) | digit(pair[1])?;
        u8::try_from(value).ok()
    };
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.ok_or(PassError::Text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pg_startup;

    fn guests() -> impl Strategy<Value = Guest> {
        let command = |(nonce, until_seconds)| Guest::Command {
            nonce,
            until_seconds,
        };
        prop_oneof![
            any::<SessionMark>().prop_map(Guest::Session),
            any::<(u64, u64)>().prop_map(command),
        ]
    }

    proptest! {
        #[test]
        fn a_pass_is_read_as_it_was_written_by_way_of_its_text(guest in guests(), seal: [u8; SEAL_BYTES]) {
            let pass = DoorPass { guest, seal };
            let carried = preamble(&pass.text()).unwrap();
            let said: [u8; PASS_BYTES] = carried.try_into().unwrap();
            prop_assert_eq!(DoorPass::decode(&said), Ok(pass));
        }

        #[test]
        fn bytes_that_are_no_pass_are_refused(said: [u8; PASS_BYTES]) {
            if !said.starts_with(&MAGIC) {
                prop_assert_eq!(DoorPass::decode(&said), Err(PassError::Unknown));
            }
        }
    }

    fn pass() -> DoorPass {
        DoorPass {
            guest: Guest::Session([7; 16]),
            seal: [9; 32],
        }
    }

    #[test]
    fn no_first_packet_of_postgresql_begins_like_a_pass() {
        assert!(pg_startup::packet_length(MAGIC).is_err());
    }

    #[test]
    fn another_version_and_another_kind_are_not_guessed_at() {
        for place in [MAGIC.len(), MAGIC.len() + 1] {
            let mut said = pass().encode();
            said[place] = said[place].wrapping_add(1);
            assert_eq!(DoorPass::decode(&said), Err(PassError::Unknown));
        }
    }

    #[test]
    fn a_text_that_no_engine_writes_is_refused_and_a_longer_pass_is_carried() {
        let too_long = "00".repeat(CARRIED_BYTES_MAX + 1);
        for text in ["", "0", "0g", "+1", " 1", "é", too_long.as_str()] {
            assert_eq!(
                preamble(&Secret::new(text)),
                Err(PassError::Text),
                "{text:?}"
            );
        }
        let later = "0a".repeat(PASS_BYTES + 8);
        assert_eq!(preamble(&Secret::new(later)), Ok(vec![10; PASS_BYTES + 8]));
    }

    #[test]
    fn debug_shows_no_seal() {
        let shown = format!("{:?}", pass());
        assert!(!shown.contains("9, 9"), "{shown}");
    }
}

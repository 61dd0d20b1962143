//! Why a session ended.

use bytes::{BufMut, Bytes, BytesMut};

use super::SENTENCE_MAX;
use crate::codec::{DecodeError, Wire, put_bytes, take_text, take_u8};

/// Why a session ended, for both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client is done.
    Done,
    /// The agent is told to end.
    ShuttingDown,
    /// No link for longer than the grace; only ever concluded, never sent.
    GraceExpired,
    /// The other side broke the protocol.
    Violation {
        /// How.
        how: String,
    },
    /// The agent has no such session: it restarted, or its grace was over; only ever concluded, never sent.
    Lost,
}

impl Wire for CloseReason {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Done => out.put_u8(1),
            Self::ShuttingDown => out.put_u8(2),
            Self::GraceExpired => out.put_u8(3),
            Self::Violation { how } => {
                out.put_u8(4);
                let end = how.floor_char_boundary(SENTENCE_MAX);
                put_bytes(out, &how.as_bytes()[..end]);
            }
            Self::Lost => out.put_u8(5),
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "close reason")? {
            1 => Ok(Self::Done),
            2 => Ok(Self::ShuttingDown),
            3 => Ok(Self::GraceExpired),
            4 => Ok(Self::Violation {
                how: take_text(input, SENTENCE_MAX, "violation")?,
            }),
            5 => Ok(Self::Lost),
            number => Err(DecodeError::Unknown {
                what: "close reason",
                number: number.into(),
            }),
        }
    }
}

//! Frames: what follows what on the bytes of one link.
//!
//! ```text
//! | length of the payload: u32 | kind: u8 | number: u64 | payload |
//! ```
//!
//! Frames that must survive the loss of a link carry the next number of their direction, from 1 on. Those that speak
//! about the link itself (greetings, acknowledgements, keepalive) or end the session carry 0 and are never repeated. Owns the form; what
//! a frame does to a session is for `connection`.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Wire, take_u32, take_u64};
use crate::message::{Answer, CloseReason, Errno, Notice, OpenRequest, Opened, Request};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 13;

/// Most bytes of a stream in one frame: on a link of 10 Mbit/s another stream waits 13 ms for it.
pub const DATA_MAX: usize = 16 * 1024;

/// Most bytes of one datagram: what UDP can carry.
pub const DATAGRAM_MAX: usize = 65_507;

/// Most bytes of a payload: a datagram with its address, or an answer with as many records as a DNS message holds.
/// A reader keeps at most one such frame that is not whole yet.
pub const PAYLOAD_MAX: usize = 72 * 1024;

/// Bytes of a stream that are not copied behind their header: more than a copy of them costs is what one more piece of
/// a write does.
const APART_MIN: usize = 2048;

/// A stream's name on both sides. The client's are odd, the agent's even; each side's grow and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

/// A call's name in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u32);

/// One frame after the greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Every numbered frame up to this one has arrived.
    Ack { through: u64 },
    /// Is somebody there?
    Ping { token: u64 },
    /// Yes.
    Pong { token: u64 },
    /// The session is over.
    Close(CloseReason),
    /// A new stream.
    Open {
        stream: StreamId,
        request: OpenRequest,
    },
    /// It stands.
    Opened { stream: StreamId, opened: Opened },
    /// It cannot be.
    Refused { stream: StreamId, errno: Errno },
    /// The next bytes of a stream.
    Data { stream: StreamId, bytes: Bytes },
    /// One datagram, to or from an address.
    Datagram {
        stream: StreamId,
        address: SocketAddr,
        bytes: Bytes,
    },
    /// So many bytes more may be sent on a stream.
    Credit { stream: StreamId, bytes: u32 },
    /// No more data comes on a stream.
    Finish { stream: StreamId },
    /// A stream is cut in both directions; after its finish, in the other one.
    Reset { stream: StreamId, errno: Errno },
    /// A question.
    Call { call: CallId, request: Request },
    /// Its answer.
    Answer { call: CallId, answer: Answer },
    /// News.
    Notice(Notice),
}

/// The numbers of the kinds. Those from 0x30 on are greetings.
mod kind {
    pub(super) const ACK: u8 = 0x01;
    pub(super) const PING: u8 = 0x02;
    pub(super) const PONG: u8 = 0x03;
    pub(super) const CLOSE: u8 = 0x04;
    pub(super) const OPEN: u8 = 0x10;
    pub(super) const OPENED: u8 = 0x11;
    pub(super) const REFUSED: u8 = 0x12;
    pub(super) const DATA: u8 = 0x13;
    pub(super) const DATAGRAM: u8 = 0x14;
    pub(super) const CREDIT: u8 = 0x15;
    pub(super) const FINISH: u8 = 0x16;
    pub(super) const RESET: u8 = 0x17;
    pub(super) const CALL: u8 = 0x20;
    pub(super) const ANSWER: u8 = 0x21;
    pub(super) const NOTICE: u8 = 0x22;
}

/// What stands before every payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) number: u64,
}

/// Takes the next whole frame off `input`; `None` while it is not whole, and `input` then stays.
///
/// # Errors
/// A payload that is announced as longer than `payload_max`, before it has come.
pub(crate) fn split(
    input: &mut BytesMut,
    payload_max: usize,
) -> Result<Option<(Header, Bytes)>, DecodeError> {
    if input.len() < HEADER_BYTES {
        return Ok(None);
    }
    let mut head = &input[..HEADER_BYTES];
    let length = head.get_u32() as usize;
    let kind = head.get_u8();
    let number = head.get_u64();
    if length > payload_max {
        return Err(DecodeError::TooLong {
            what: "frame",
            length,
            limit: payload_max,
        });
    }
    if input.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    let mut frame = input.split_to(HEADER_BYTES + length).freeze();
    frame.advance(HEADER_BYTES);
    Ok(Some((Header { kind, number }, frame)))
}

/// A frame of `kind` with the payload that `put` writes, of about `capacity` bytes.
pub(crate) fn build(
    kind: u8,
    number: u64,
    capacity: usize,
    put: impl FnOnce(&mut BytesMut),
) -> Bytes {
    build_before(kind, number, 0, capacity, put)
}

/// The beginning of a frame whose payload goes on with `behind` bytes that stand elsewhere.
fn build_before(
    kind: u8,
    number: u64,
    behind: usize,
    capacity: usize,
    put: impl FnOnce(&mut BytesMut),
) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + capacity);
    out.put_u32(0);
    out.put_u8(kind);
    out.put_u64(number);
    put(&mut out);
    let length = out.len() - HEADER_BYTES + behind;
    let length = u32::try_from(length).expect("payloads are limited");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

impl Frame {
    /// Whether the frame survives its link, and so has a number.
    pub(crate) fn is_numbered(&self) -> bool {
        match self {
            Self::Ack { .. } | Self::Ping { .. } | Self::Pong { .. } | Self::Close(_) => false,
            Self::Open { .. }
            | Self::Opened { .. }
            | Self::Refused { .. }
            | Self::Data { .. }
            | Self::Datagram { .. }
            | Self::Credit { .. }
            | Self::Finish { .. }
            | Self::Reset { .. }
            | Self::Call { .. }
            | Self::Answer { .. }
            | Self::Notice(_) => true,
        }
    }

    /// The frame in bytes, under its number.
    pub(crate) fn encode(&self, number: u64) -> Bytes {
        match self {
            Self::Ack { through } => build(kind::ACK, number, 8, |out| out.put_u64(*through)),
            Self::Ping { token } => build(kind::PING, number, 8, |out| out.put_u64(*token)),
            Self::Pong { token } => build(kind::PONG, number, 8, |out| out.put_u64(*token)),
            Self::Close(reason) => build(kind::CLOSE, number, 64, |out| reason.put(out)),
            Self::Open { stream, request } => build(kind::OPEN, number, 64, |out| {
                stream.put(out);
                request.put(out);
            }),
            Self::Opened { stream, opened } => build(kind::OPENED, number, 64, |out| {
                stream.put(out);
                opened.put(out);
            }),
            Self::Refused { stream, errno } => build(kind::REFUSED, number, 6, |out| {
                stream.put(out);
                errno.put(out);
            }),
            Self::Data { stream, bytes } => build(kind::DATA, number, 4 + bytes.len(), |out| {
                stream.put(out);
                out.put_slice(bytes);
            }),
            Self::Datagram {
                stream,
                address,
                bytes,
            } => build(kind::DATAGRAM, number, 32 + bytes.len(), |out| {
                stream.put(out);
                address.put(out);
                out.put_slice(bytes);
            }),
            Self::Credit { stream, bytes } => build(kind::CREDIT, number, 8, |out| {
                stream.put(out);
                out.put_u32(*bytes);
            }),
            Self::Finish { stream } => build(kind::FINISH, number, 4, |out| stream.put(out)),
            Self::Reset { stream, errno } => build(kind::RESET, number, 6, |out| {
                stream.put(out);
                errno.put(out);
            }),
            Self::Call { call, request } => build(kind::CALL, number, 64, |out| {
                call.put(out);
                request.put(out);
            }),
            Self::Answer { call, answer } => build(kind::ANSWER, number, 256, |out| {
                call.put(out);
                answer.put(out);
            }),
            Self::Notice(notice) => build(kind::NOTICE, number, 32, |out| notice.put(out)),
        }
    }

    /// The frame in bytes, under its number: its beginning, and the bytes of a stream where they are worth being left
    /// where they are.
    pub(crate) fn encode_apart(&self, number: u64) -> (Bytes, Bytes) {
        if let Self::Data { stream, bytes } = self
            && bytes.len() >= APART_MIN
        {
            let put = |out: &mut BytesMut| stream.put(out);
            let beginning = build_before(kind::DATA, number, bytes.len(), 4, put);
            return (beginning, bytes.clone());
        }
        (self.encode(number), Bytes::new())
    }

    /// The frame of `kind` with this payload.
    pub(crate) fn decode(kind: u8, mut payload: Bytes) -> Result<Self, DecodeError> {
        let input = &mut payload;
        let frame = match kind {
            kind::ACK => Self::Ack {
                through: take_u64(input, "acknowledgement")?,
            },
            kind::PING => Self::Ping {
                token: take_u64(input, "ping")?,
            },
            kind::PONG => Self::Pong {
                token: take_u64(input, "pong")?,
            },
            kind::CLOSE => Self::Close(CloseReason::take(input)?),
            kind::CALL => Self::Call {
                call: CallId::take(input)?,
                request: Request::take(input)?,
            },
            kind::ANSWER => Self::Answer {
                call: CallId::take(input)?,
                answer: Answer::take(input)?,
            },
            kind::NOTICE => Self::Notice(Notice::take(input)?),
            _ => Self::decode_of_stream(kind, input)?,
        };
        if payload.has_remaining() {
            return Err(DecodeError::TooMuch {
                what: "frame",
                extra: payload.remaining(),
            });
        }
        Ok(frame)
    }

    fn decode_of_stream(kind: u8, input: &mut Bytes) -> Result<Self, DecodeError> {
        if !(kind::OPEN..=kind::RESET).contains(&kind) {
            return Err(DecodeError::Unknown {
                what: "kind of frame",
                number: kind.into(),
            });
        }
        let stream = StreamId::take(input)?;
        match kind {
            kind::OPEN => Ok(Self::Open {
                stream,
                request: OpenRequest::take(input)?,
            }),
            kind::OPENED => Ok(Self::Opened {
                stream,
                opened: Opened::take(input)?,
            }),
            kind::REFUSED => Ok(Self::Refused {
                stream,
                errno: Errno::take(input)?,
            }),
            kind::DATA => Ok(Self::Data {
                stream,
                bytes: input.split_to(input.len()),
            }),
            kind::DATAGRAM => Ok(Self::Datagram {
                stream,
                address: SocketAddr::take(input)?,
                bytes: input.split_to(input.len()),
            }),
            kind::CREDIT => Ok(Self::Credit {
                stream,
                bytes: take_u32(input, "credit")?,
            }),
            kind::FINISH => Ok(Self::Finish { stream }),
            _ => Ok(Self::Reset {
                stream,
                errno: Errno::take(input)?,
            }),
        }
    }
}

impl Wire for StreamId {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.0);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        take_u32(input, "stream").map(Self)
    }
}

impl Wire for CallId {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.0);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        take_u32(input, "call").map(Self)
    }
}

#[cfg(test)]
mod tests;

//! What is said, apart from how it travels: requests for streams, calls with one answer, notices, and why it ends.
//!
//! Every alternative has a number of its own that is never used again for another meaning; the tests of `frame` hold
//! the bytes of each. Which side may say what is for `connection` to know.

mod close;
mod dns;
mod incoming;
mod open;

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

pub use self::close::CloseReason;
pub use self::dns::{DnsAnswer, DnsFailure, DnsQuery, DnsRecord, RECORD_DATA_MAX, RECORDS_MAX};
pub use self::incoming::{
    FILTER_DEPTH_MAX, FILTER_PARTS_MAX, HttpFilter, IncomingMode, Notice, OnConcurrentSteal,
    PATTERN_MAX, SubscribeFailure, Subscribed, Subscription,
};
pub use self::open::{Endpoint, OpenRequest, Opened, UNIX_PATH_MAX};
use crate::codec::{DecodeError, Wire, take_u8, take_u16, take_u32};

/// Most bytes of a name of a host, with room for escapes; a name on the wire has at most 255.
pub const HOST_NAME_MAX: usize = 1024;

/// Most bytes of a sentence for a person.
pub const SENTENCE_MAX: usize = 1024;

/// Linux's number of an error, which is the same on every architecture that we run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub u16);

impl Errno {
    /// Nobody is there: input/output error, where no better number is known.
    pub const EIO: Self = Self(5);
    /// Not allowed.
    pub const EACCES: Self = Self(13);
    /// No more streams on this session.
    pub const EMFILE: Self = Self(24);
    /// The stream was given up by the one who read it.
    pub const EPIPE: Self = Self(32);
    /// The stream was cut.
    pub const ECONNRESET: Self = Self(104);
    /// The name is not known.
    pub const ENOENT: Self = Self(2);
    /// What was asked for is not supported.
    pub const EOPNOTSUPP: Self = Self(95);
    /// Nobody listens.
    pub const ECONNREFUSED: Self = Self(111);
    /// No answer in time.
    pub const ETIMEDOUT: Self = Self(110);
    /// No way to the host.
    pub const EHOSTUNREACH: Self = Self(113);
}

impl From<&io::Error> for Errno {
    /// The system's own number, or the nearest one for an error that the standard library made.
    fn from(error: &io::Error) -> Self {
        if let Some(number) = error.raw_os_error().and_then(|raw| u16::try_from(raw).ok()) {
            return Self(number);
        }
        let known = [
            (io::ErrorKind::NotFound, Self::ENOENT),
            (io::ErrorKind::PermissionDenied, Self::EACCES),
            (io::ErrorKind::ConnectionRefused, Self::ECONNREFUSED),
            (io::ErrorKind::ConnectionReset, Self::ECONNRESET),
            (io::ErrorKind::ConnectionAborted, Self::ECONNRESET),
            (io::ErrorKind::BrokenPipe, Self::EPIPE),
            (io::ErrorKind::TimedOut, Self::ETIMEDOUT),
            (io::ErrorKind::Unsupported, Self::EOPNOTSUPP),
        ];
        let found = known.iter().find(|(kind, _)| *kind == error.kind());
        found.map_or(Self::EIO, |(_, errno)| *errno)
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0.into())
    }
}

impl Wire for Errno {
    fn put(&self, out: &mut BytesMut) {
        out.put_u16(self.0);
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        take_u16(input, "error number").map(Self)
    }
}

/// A question of the client's that has one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What the target's resolver knows. Answered by [`Answer::Dns`].
    Dns(DnsQuery),
    /// Connections to a port of the target. Answered by [`Answer::Subscribe`].
    Subscribe(Subscription),
    /// No more of them; connections that were handed over go on. Answered by [`Answer::Unsubscribe`].
    Unsubscribe {
        /// The number that the subscription was given.
        subscription: u32,
    },
}

impl Wire for Request {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Dns(query) => {
                out.put_u8(1);
                query.put(out);
            }
            Self::Subscribe(subscription) => {
                out.put_u8(2);
                subscription.put(out);
            }
            Self::Unsubscribe { subscription } => {
                out.put_u8(3);
                out.put_u32(*subscription);
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "request")? {
            1 => DnsQuery::take(input).map(Self::Dns),
            2 => Subscription::take(input).map(Self::Subscribe),
            3 => Ok(Self::Unsubscribe {
                subscription: take_u32(input, "subscription")?,
            }),
            number => Err(DecodeError::Unknown {
                what: "request",
                number: number.into(),
            }),
        }
    }
}

/// The agent's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::Dns`].
    Dns(DnsAnswer),
    /// To [`Request::Subscribe`].
    Subscribe(Result<Subscribed, SubscribeFailure>),
    /// To [`Request::Unsubscribe`]; one that is not there is no error.
    Unsubscribe,
}

impl Wire for Answer {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Dns(answer) => {
                out.put_u8(1);
                answer.put(out);
            }
            Self::Subscribe(outcome) => {
                out.put_u8(2);
                outcome.put(out);
            }
            Self::Unsubscribe => out.put_u8(3),
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        match take_u8(input, "answer")? {
            1 => DnsAnswer::take(input).map(Self::Dns),
            2 => Result::take(input).map(Self::Subscribe),
            3 => Ok(Self::Unsubscribe),
            number => Err(DecodeError::Unknown {
                what: "answer",
                number: number.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_number_or_by_the_nearest_one() {
        let of_system = io::Error::from_raw_os_error(98);
        assert_eq!(Errno::from(&of_system), Errno(98));
        for (kind, errno) in [
            (io::ErrorKind::NotFound, Errno::ENOENT),
            (io::ErrorKind::PermissionDenied, Errno::EACCES),
            (io::ErrorKind::ConnectionRefused, Errno::ECONNREFUSED),
            (io::ErrorKind::ConnectionAborted, Errno::ECONNRESET),
            (io::ErrorKind::TimedOut, Errno::ETIMEDOUT),
            (io::ErrorKind::InvalidData, Errno::EIO),
        ] {
            assert_eq!(Errno::from(&io::Error::from(kind)), errno, "{kind:?}");
        }
        let back = io::Error::from(Errno::ECONNREFUSED);
        assert_eq!(back.kind(), io::ErrorKind::ConnectionRefused);
    }
}

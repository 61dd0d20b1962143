//! How values stand in bytes: big-endian numbers, lengths before what they measure, a number before each alternative.
//!
//! Owns the primitive forms and their limits. Leaves to others which values follow each other (`message`, `frame`).
//! A value is read strictly: unknown numbers, lengths beyond a limit and text that is no UTF-8 are errors, never guesses.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes that are not what this version of the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The value ends before it is whole.
    #[error("{what} is cut off")]
    CutOff {
        /// The value.
        what: &'static str,
    },
    /// A number that stands for nothing.
    #[error("{what} has the unknown number {number}")]
    Unknown {
        /// What the number should have chosen.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// A length beyond the limit.
    #[error("{what} is {length} long, more than {limit}")]
    TooLong {
        /// The value.
        what: &'static str,
        /// Its announced length.
        length: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// Text that is no UTF-8.
    #[error("{what} is no UTF-8 text")]
    NotText {
        /// The value.
        what: &'static str,
    },
    /// Bytes after the end of the value.
    #[error("{what} has {extra} bytes too many")]
    TooMuch {
        /// The value.
        what: &'static str,
        /// How many are left over.
        extra: usize,
    },
}

/// A value with a form in bytes.
pub(crate) trait Wire: Sized {
    /// Appends the value.
    fn put(&self, out: &mut BytesMut);

    /// Takes the value off the front.
    fn take(input: &mut Bytes) -> Result<Self, DecodeError>;

    /// The value that fills `input` to its last byte.
    fn take_all(mut input: Bytes, what: &'static str) -> Result<Self, DecodeError> {
        let value = Self::take(&mut input)?;
        if input.has_remaining() {
            return Err(DecodeError::TooMuch {
                what,
                extra: input.remaining(),
            });
        }
        Ok(value)
    }
}

/// A number of one to eight bytes.
macro_rules! take_number {
    ($name:ident, $type:ty, $get:ident) => {
        pub(crate) fn $name(input: &mut Bytes, what: &'static str) -> Result<$type, DecodeError> {
            if input.remaining() < size_of::<$type>() {
                return Err(DecodeError::CutOff { what });
            }
            Ok(input.$get())
        }
    };
}

take_number!(take_u8, u8, get_u8);
take_number!(take_u16, u16, get_u16);
take_number!(take_u32, u32, get_u32);
take_number!(take_u64, u64, get_u64);

/// Yes or no, as 1 or 0.
pub(crate) fn take_bool(input: &mut Bytes, what: &'static str) -> Result<bool, DecodeError> {
    match take_u8(input, what)? {
        0 => Ok(false),
        1 => Ok(true),
        number => Err(DecodeError::Unknown {
            what,
            number: number.into(),
        }),
    }
}

/// A fixed number of bytes.
pub(crate) fn take_array<const N: usize>(
    input: &mut Bytes,
    what: &'static str,
) -> Result<[u8; N], DecodeError> {
    if input.remaining() < N {
        return Err(DecodeError::CutOff { what });
    }
    let mut array = [0; N];
    input.copy_to_slice(&mut array);
    Ok(array)
}

/// Appends a length of four bytes and the bytes. Nothing that is sent comes near the limit of the length.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("limits of messages are far below 4 GiB"));
    out.put_slice(bytes);
}

/// Bytes behind their length, at most `limit` of them.
pub(crate) fn take_bytes(
    input: &mut Bytes,
    limit: usize,
    what: &'static str,
) -> Result<Bytes, DecodeError> {
    let length = take_u32(input, what)? as usize;
    if length > limit {
        return Err(DecodeError::TooLong {
            what,
            length,
            limit,
        });
    }
    if input.remaining() < length {
        return Err(DecodeError::CutOff { what });
    }
    Ok(input.split_to(length))
}

/// Text behind its length in bytes, at most `limit` of them.
pub(crate) fn take_text(
    input: &mut Bytes,
    limit: usize,
    what: &'static str,
) -> Result<String, DecodeError> {
    let bytes = take_bytes(input, limit, what)?;
    String::from_utf8(bytes.into()).map_err(|_| DecodeError::NotText { what })
}

/// How many values follow, at most `limit`, as two bytes.
pub(crate) fn take_count(
    input: &mut Bytes,
    limit: usize,
    what: &'static str,
) -> Result<usize, DecodeError> {
    let length = usize::from(take_u16(input, what)?);
    if length > limit {
        return Err(DecodeError::TooLong {
            what,
            length,
            limit,
        });
    }
    Ok(length)
}

/// Appends how many values follow.
pub(crate) fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u16(u16::try_from(count).expect("limits of lists are below 64 Ki"));
}

/// Family 4 or 6, the address, the port; version 6 has its scope behind it. Flow labels do not travel.
impl Wire for SocketAddr {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::V4(v4) => {
                out.put_u8(4);
                out.put_slice(&v4.ip().octets());
                out.put_u16(v4.port());
            }
            Self::V6(v6) => {
                out.put_u8(6);
                out.put_slice(&v6.ip().octets());
                out.put_u16(v6.port());
                out.put_u32(v6.scope_id());
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        let what = "address";
        match take_u8(input, what)? {
            4 => {
                let ip = Ipv4Addr::from(take_array::<4>(input, what)?);
                Ok(SocketAddrV4::new(ip, take_u16(input, what)?).into())
            }
            6 => {
                let ip = Ipv6Addr::from(take_array::<16>(input, what)?);
                let port = take_u16(input, what)?;
                Ok(SocketAddrV6::new(ip, port, 0, take_u32(input, what)?).into())
            }
            number => Err(DecodeError::Unknown {
                what: "address family",
                number: number.into(),
            }),
        }
    }
}

/// 0, or 1 and the value.
impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        match self {
            None => out.put_u8(0),
            Some(value) => {
                out.put_u8(1);
                value.put(out);
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        if take_bool(input, "option")? {
            Ok(Some(T::take(input)?))
        } else {
            Ok(None)
        }
    }
}

/// 1 and the value, or 0 and the failure.
impl<T: Wire, E: Wire> Wire for Result<T, E> {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Ok(value) => {
                out.put_u8(1);
                value.put(out);
            }
            Err(failure) => {
                out.put_u8(0);
                failure.put(out);
            }
        }
    }

    fn take(input: &mut Bytes) -> Result<Self, DecodeError> {
        if take_bool(input, "result")? {
            Ok(Ok(T::take(input)?))
        } else {
            Ok(Err(E::take(input)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind_length(length: u32) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u32(length);
        out.put_slice(b"12345678");
        out.freeze()
    }

    fn count(count: u16) -> Bytes {
        Bytes::copy_from_slice(&count.to_be_bytes())
    }

    #[test]
    fn what_is_as_long_as_the_limit_is_taken_and_nothing_longer() {
        let taken = take_bytes(&mut behind_length(5), 5, "word");
        assert_eq!(taken.unwrap(), "12345");
        assert_eq!(take_count(&mut count(5), 5, "words").unwrap(), 5);
        for longer in [6, 7, u16::MAX] {
            let bytes = take_bytes(&mut behind_length(longer.into()), 5, "word");
            let words = take_count(&mut count(longer), 5, "words").map(|_| Bytes::new());
            for refused in [bytes, words] {
                let refused = refused.unwrap_err();
                let DecodeError::TooLong { length, limit, .. } = refused else {
                    panic!("{refused}");
                };
                assert_eq!((length, limit), (longer.into(), 5));
            }
        }
    }
}

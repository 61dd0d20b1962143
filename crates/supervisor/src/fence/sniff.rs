//! Whether a stream of bytes begins as PostgreSQL does. Pure.

use model::pg_startup::{self, FirstPacket};
use rustls::server::Acceptor;

use super::tls::ALPN;

/// The first byte of a TLS record with a handshake (RFC 8446, section 5.1).
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More bytes are needed.
    Open,
    /// A PostgreSQL client begins, perhaps by TLS at once (`sslnegotiation=direct`).
    Postgres,
    /// Anything else.
    Other,
}

/// Judges the first `bytes` of a client.
pub(super) fn judge(bytes: &[u8]) -> Verdict {
    match bytes {
        [] => Verdict::Open,
        [TLS_HANDSHAKE, ..] => judge_hello(bytes),
        // A length of at most 10,000.
        [0, ..] => judge_packet(bytes),
        _ => Verdict::Other,
    }
}

fn judge_packet(bytes: &[u8]) -> Verdict {
    let Some(header) = bytes.get(..4).and_then(|header| header.try_into().ok()) else {
        // The second byte of such a length is 0 too.
        let is_possible = bytes.get(1).is_none_or(|byte| *byte == 0);
        return if is_possible {
            Verdict::Open
        } else {
            Verdict::Other
        };
    };
    let Ok(length) = pg_startup::packet_length(header) else {
        return Verdict::Other;
    };
    let Some(code) = bytes.get(4..8) else {
        return Verdict::Open;
    };
    // 1234 in the upper half are requests, 3 is the protocol of sessions (section 55.7).
    if code[..2] != 1234_u16.to_be_bytes() && code[..2] != 3_u16.to_be_bytes() {
        return Verdict::Other;
    }
    let Some(packet) = bytes.get(..length) else {
        return Verdict::Open;
    };
    match pg_startup::decode(packet) {
        Ok(
            FirstPacket::SslRequest
            | FirstPacket::GssencRequest
            | FirstPacket::CancelRequest { .. }
            | FirstPacket::Startup { .. },
        ) => Verdict::Postgres,
        Err(_) => Verdict::Other,
    }
}

fn judge_hello(bytes: &[u8]) -> Verdict {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Verdict::Other;
        }
    }
    match acceptor.accept() {
        Ok(None) => Verdict::Open,
        Ok(Some(accepted)) => {
            let mut offered = accepted.client_hello().alpn().into_iter().flatten();
            if offered.any(|name| name == ALPN) {
                Verdict::Postgres
            } else {
                Verdict::Other
            }
        }
        Err(_) => Verdict::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).unwrap();
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    #[test]
    fn every_beginning_of_postgresql_is_seen_when_it_is_whole() {
        for whole in [
            packet(80_877_103, b""),
            packet(80_877_104, b""),
            packet(80_877_102, &[0; 8]),
            packet(3 << 16, b"user\0u\0database\0d\0\0"),
            packet((3 << 16) + 2, b"user\0u\0\0"),
        ] {
            for length in 0..whole.len() {
                assert_eq!(judge(&whole[..length]), Verdict::Open, "{length}");
            }
            assert_eq!(judge(&whole), Verdict::Postgres);
        }
    }

    #[test]
    fn other_protocols_are_let_go_early() {
        for first in [
            &b"G"[..],
            b"\0\x01",
            // The length of a Kafka request, and its kind.
            b"\0\0\0\x20\0\x12\0\0",
            // Too long for a start-up.
            b"\0\0\xff\xff",
            // A version that is none.
            b"\0\0\0\x08\0\x02\0\0",
            b"\x16\x03\x01\x00\x05hello",
        ] {
            assert_eq!(judge(first), Verdict::Other, "{first:?}");
        }
    }
}

//! The first packet of a PostgreSQL connection (documentation sections 55.2.1 and 55.7): total decoding, no I/O.
//!
//! Owns what a client begins with, and the two answers that need no server: another database's name, and a refusal.
//! Leaves reading and writing to those who hold connections: the engine's doors and the session's fence.

/// Bytes that a first packet may have (`MAX_STARTUP_PACKET_LENGTH` of PostgreSQL).
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// Bytes of a database's or a role's name (`NAMEDATALEN` less its end, as every packaged server has it).
pub const NAME_BYTES_MAX: usize = 63;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// The whole packet that asks for TLS.
pub const SSL_REQUEST_PACKET: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What a client begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssencRequest,
    /// Asks to cancel the query of the connection that this key was given to.
    CancelRequest {
        /// The server process and its secret, as BackendKeyData has them: 8 bytes before protocol 3.2, then up to 260.
        key: Vec<u8>,
    },
    /// Begins a session of protocol 3 with these parameters.
    Startup {
        /// The role.
        user: String,
        /// The database; the user's name where none is named.
        database: String,
        /// Whether it is to replicate (section 55.4).
        replication: Replication,
    },
}

/// Whether a session is to replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// It is an ordinary one.
    No,
    /// The server's write-ahead log.
    Server,
    /// A database; the server's whole log and its base backup are to be had on such a connection as well.
    Database,
}

/// Why a packet is none of the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length is impossible.
    #[error("a first packet of {0} bytes")]
    Length(usize),
    /// The version is none that is spoken.
    #[error("protocol version {}.{}", .0 >> 16, .0 & 0xffff)]
    Version(u32),
    /// The parameters are not pairs of NUL-ended texts, or name no user.
    #[error("malformed start-up parameters")]
    Parameters,
}

/// The length of the packet that begins with `header`, its own four bytes counted.
///
/// # Errors
/// [`StartupError::Length`] for less than a code or more than [`STARTUP_BYTES_MAX`].
pub fn packet_length(header: [u8; 4]) -> Result<usize, StartupError> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if (8..=STARTUP_BYTES_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(StartupError::Length(length))
    }
}

/// Reads a whole packet, its length included.
///
/// # Errors
/// [`StartupError`] says which rule it breaks.
pub fn decode(packet: &[u8]) -> Result<FirstPacket, StartupError> {
    let code = packet
        .get(4..8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes);
    match code.ok_or(StartupError::Length(packet.len()))? {
        SSL_REQUEST => Ok(FirstPacket::SslRequest),
        GSSENC_REQUEST => Ok(FirstPacket::GssencRequest),
        CANCEL_REQUEST => Ok(FirstPacket::CancelRequest {
            key: packet[8..].to_vec(),
        }),
        version if version >> 16 == 3 => decode_parameters(&packet[8..]),
        version => Err(StartupError::Version(version)),
    }
}

fn decode_parameters(bytes: &[u8]) -> Result<FirstPacket, StartupError> {
    let text = bytes
        .strip_suffix(&[0, 0])
        .ok_or(StartupError::Parameters)?;
    let mut texts = text
        .split(|byte| *byte == 0)
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let (mut user, mut database, mut replication) = (None, None, Replication::No);
    while let Some(key) = texts.next() {
        let value = texts.next().ok_or(StartupError::Parameters)?;
        match key.as_str() {
            "user" => user = Some(value),
            "database" => database = Some(value),
            "replication" => replication = decode_replication(&value.to_lowercase()),
            _ => {}
        }
    }
    let user = user
        .filter(|user| !user.is_empty())
        .ok_or(StartupError::Parameters)?;
    let database = database
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| user.clone());
    Ok(FirstPacket::Startup {
        user,
        database,
        replication,
    })
}

fn decode_replication(value: &str) -> Replication {
    match value {
        "database" => Replication::Database,
        // Any way to write a true value.
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Replication::Server,
        _ => Replication::No,
    }
}

/// Whether a server takes `asked`, from a start-up packet, for its database `known`: of a longer name only the first
/// [`NAME_BYTES_MAX`] bytes count, by bytes in a packet (`ProcessStartupPacket`), by whole characters where one is stored
/// (`pg_mbcliplen`). Which of the two a version cuts by is not told apart.
pub fn is_same_database(asked: &str, known: &str) -> bool {
    let by_bytes = |name: &str| name.as_bytes()[..name.len().min(NAME_BYTES_MAX)].to_vec();
    by_bytes(asked) == by_bytes(known) || clipped(asked) == clipped(known)
}

/// The characters of `name` that have room in a stored name.
fn clipped(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// The start-up packet `packet` for the database `name` instead of its own; everything else keeps its bytes.
///
/// # Errors
/// [`StartupError`] when it is no start-up packet, or would become too long.
pub fn with_database(packet: &[u8], name: &str) -> Result<Vec<u8>, StartupError> {
    let parameters = packet
        .get(8..)
        .and_then(|bytes| bytes.strip_suffix(&[0, 0]))
        .ok_or(StartupError::Parameters)?;
    let texts: Vec<&[u8]> = parameters.split(|byte| *byte == 0).collect();
    let mut rewritten = packet[..8].to_vec();
    let others = texts.chunks(2).filter(|pair| pair[0] != b"database");
    for pair in others {
        let [key, value] = pair else {
            return Err(StartupError::Parameters);
        };
        for text in [key, value] {
            rewritten.extend_from_slice(text);
            rewritten.push(0);
        }
    }
    rewritten.extend_from_slice(b"database\0");
    rewritten.extend_from_slice(name.as_bytes());
    rewritten.extend_from_slice(&[0, 0]);
    let length = u32::try_from(rewritten.len()).unwrap_or(u32::MAX);
    packet_length(length.to_be_bytes())?;
    rewritten[..4].copy_from_slice(&length.to_be_bytes());
    Ok(rewritten)
}

/// An ErrorResponse that ends the connection: severity FATAL, this SQLSTATE, this message.
pub fn fatal_response(sqlstate: &str, message: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (code, text) in [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', sqlstate),
        (b'M', message),
    ] {
        fields.push(code);
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
    let mut packet = vec![b'E'];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&fields);
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn startup(parameters: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(parameters.len() + 8)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        packet.extend_from_slice(&(3_u32 << 16).to_be_bytes());
        packet.extend_from_slice(parameters);
        packet
    }

    #[test]
    fn a_session_names_its_user_and_database() {
        let session = |database: &str, replication| {
            Ok(FirstPacket::Startup {
                user: "u".to_owned(),
                database: database.to_owned(),
                replication,
            })
        };
        for (parameters, expected) in [
            (
                &b"user\0u\0database\0d\0x\0y\0\0"[..],
                session("d", Replication::No),
            ),
            (b"user\0u\0\0", session("u", Replication::No)),
            (
                b"user\0u\0replication\0True\0\0",
                session("u", Replication::Server),
            ),
            (
                b"user\0u\0replication\0database\0database\0d\0\0",
                session("d", Replication::Database),
            ),
        ] {
            assert_eq!(decode(&startup(parameters)), expected);
        }
    }

    #[test]
    fn what_is_no_session_is_told_apart() {
        let request = |code: u32| [8_u32.to_be_bytes(), code.to_be_bytes()].concat();
        assert_eq!(decode(&request(SSL_REQUEST)), Ok(FirstPacket::SslRequest));
        assert_eq!(request(SSL_REQUEST), SSL_REQUEST_PACKET);
        let cancel = [request(CANCEL_REQUEST), vec![7; 8]].concat();
        assert_eq!(
            decode(&cancel),
            Ok(FirstPacket::CancelRequest { key: vec![7; 8] })
        );
        assert_eq!(
            decode(&request(2 << 16)),
            Err(StartupError::Version(2 << 16))
        );
        assert_eq!(decode(&startup(b"user\0u")), Err(StartupError::Parameters));
        assert_eq!(
            decode(&startup(b"database\0d\0\0")),
            Err(StartupError::Parameters)
        );
        assert_eq!(packet_length([0, 0, 0, 4]), Err(StartupError::Length(4)));
        assert_eq!(
            packet_length([0xff; 4]),
            Err(StartupError::Length(u32::MAX as usize))
        );
    }

    #[test]
    fn another_database_leaves_the_other_parameters() {
        let expected = startup(b"user\0u\0x\0y\0database\0other\0\0");
        for parameters in [&b"user\0u\0database\0d\0x\0y\0\0"[..], b"user\0u\0x\0y\0\0"] {
            let rewritten = with_database(&startup(parameters), "other");
            assert_eq!(rewritten.as_ref(), Ok(&expected));
        }
        let long = "d".repeat(STARTUP_BYTES_MAX);
        let refused = with_database(&startup(b"user\0u\0\0"), &long);
        assert!(matches!(refused, Err(StartupError::Length(_))));
    }

    #[test]
    fn a_name_that_is_too_long_is_the_one_that_the_server_cuts_it_to() {
        let (stored, other) = ("a".repeat(63), "a".repeat(62));
        assert!(is_same_database(&format!("{stored}_test"), &stored));
        assert!(is_same_database(&stored, &format!("{stored}_url")));
        assert!(!is_same_database(&stored, &other));
        assert!(!is_same_database(&format!("{other}b_test"), &stored));
        // 61 bytes and a character of three: stored without it, sent with two bytes of it.
        let (stored, asked) = ("a".repeat(61), format!("{}\u{20ac}uro", "a".repeat(61)));
        assert!(is_same_database(&asked, &stored));
        assert!(!is_same_database("", "a"));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = with_database(&bytes, "d");
        }
    }
}

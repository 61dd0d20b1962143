//! A conversation of PostgreSQL carried between a program and a server: looked at until the session stands, copied after.
//!
//! ```text
//!   authentication, parameters, BackendKeyData (remembered) ... ReadyForQuery ──▶ bytes, both ways, to the end
//! ```
//!
//! Source: PostgreSQL documentation, sections 55.2.1 "Start-up" and 55.7 "Message Formats".

use std::io;

use model::pg_startup::fatal_response;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};

use super::cancel_keys::{CancelKeys, Registered};
use crate::remote::{Destination, Stream};

/// Bytes that wait in each direction: what the engine's doors have as well.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes that one message of the start-up may have: a server's error with its details.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The authentication that takes binding to a TLS connection.
const WITH_BINDING: &[u8] = b"SCRAM-SHA-256-PLUS";

/// What becomes of an offer of channel binding, which ties the login to the TLS connection that the program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// It is passed on: the program has the server's own connection, or the server offers none.
    Keep,
    /// It is left out: the program has no TLS, so it does not look for one.
    Leave,
    /// The connection ends: the program would take it up with the proxy's certificate, or suspect an attack.
    Refuse,
}

/// Carries a conversation whose start-up packet `server` has got already.
///
/// # Errors
/// When a side is gone, or says what no server says.
pub(super) async fn carry(
    mut client: Box<dyn Stream>,
    mut server: Box<dyn Stream>,
    binding: Binding,
    keys: &CancelKeys,
    place: &Destination,
) -> io::Result<()> {
    let mut opening = Opening {
        held: Vec::new(),
        binding,
        ready: false,
        key: None,
        keys: keys.clone(),
        place: place.clone(),
    };
    let mut bytes = vec![0; BUFFER_BYTES];
    while !opening.ready {
        tokio::select! {
            read = client.read(&mut bytes) => {
                let read = read?;
                if read == 0 {
                    break;
                }
                server.write_all(&bytes[..read]).await?;
                server.flush().await?;
            }
            read = server.read_buf(&mut opening.held) => {
                let over = read? == 0;
                let (passed, refused) = opening.pass(over)?;
                client.write_all(&passed).await?;
                client.flush().await?;
                if refused || over {
                    return client.shutdown().await;
                }
            }
        }
    }
    drop(bytes);
    copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}

struct Opening {
    held: Vec<u8>,
    binding: Binding,
    ready: bool,
    key: Option<Registered>,
    keys: CancelKeys,
    place: Destination,
}

impl Opening {
    /// What of the held bytes goes on to the program, and whether it is the last of it.
    fn pass(&mut self, is_over: bool) -> io::Result<(Vec<u8>, bool)> {
        let mut passed = Vec::with_capacity(self.held.len());
        while let Some(length) = message_length(&self.held)? {
            if self.held.len() < length || self.ready {
                break;
            }
            let message: Vec<u8> = self.held.drain(..length).collect();
            match message[0] {
                b'R' if offers_binding(&message) => match self.binding {
                    Binding::Keep => passed.extend(message),
                    Binding::Leave => passed.extend(without_binding(&message)),
                    Binding::Refuse => return Ok((refusal(&self.place), true)),
                },
                b'K' => {
                    let key = message[5..].to_vec();
                    self.key = Some(self.keys.register(key, self.place.clone()));
                    passed.extend(message);
                }
                b'Z' => {
                    self.ready = true;
                    passed.extend(message);
                }
                _ => passed.extend(message),
            }
        }
        if self.ready || is_over {
            passed.append(&mut self.held);
        }
        Ok((passed, false))
    }
}

/// The length of the message that `bytes` begin with; none before it can be told.
fn message_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(field) = bytes.get(1..5) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if (4..MESSAGE_BYTES_MAX).contains(&length) {
        Ok(Some(length + 1))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message of impossible length",
        ))
    }
}

/// Whether it is an AuthenticationSASL (code 10) with binding among its mechanisms.
fn offers_binding(message: &[u8]) -> bool {
    message.get(5..9) == Some(&10_u32.to_be_bytes())
        && message[9..]
            .split(|byte| *byte == 0)
            .any(|name| name == WITH_BINDING)
}

fn without_binding(message: &[u8]) -> Vec<u8> {
    let names = message[9..].split(|byte| *byte == 0);
    let mut body = 10_u32.to_be_bytes().to_vec();
    for name in names.filter(|name| !name.is_empty() && *name != WITH_BINDING) {
        body.extend_from_slice(name);
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).expect("it became shorter");
    let mut rewritten = vec![b'R'];
    rewritten.extend_from_slice(&length.to_be_bytes());
    rewritten.extend_from_slice(&body);
    rewritten
}

fn refusal(place: &Destination) -> Vec<u8> {
    let message = format!(
        "bough: the server at {place} binds logins to its TLS connection (SCRAM-SHA-256-PLUS), which the session's \
         fence has to end to see the database's name; connect without TLS (sslmode=disable): the fence speaks TLS to \
         the server"
    );
    // protocol_violation is nobody's own mistake here; 08004: the server rejected the connection.
    fatal_response("08004", &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn sasl(names: &[&str]) -> Vec<u8> {
        let names: String = names.iter().map(|name| format!("{name}\0")).collect();
        message(
            b'R',
            &[&10_u32.to_be_bytes()[..], names.as_bytes(), b"\0"].concat(),
        )
    }

    fn opening(binding: Binding) -> Opening {
        Opening {
            held: Vec::new(),
            binding,
            ready: false,
            key: None,
            keys: CancelKeys::default(),
            place: Destination::Tcp("192.0.2.1:5432".parse().unwrap()),
        }
    }

    #[test]
    fn an_offer_of_binding_is_left_out_where_the_program_has_no_tls() {
        let mut opening = opening(Binding::Leave);
        opening.held = sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
        let passed = opening.pass(false).unwrap();
        assert_eq!(passed, (sasl(&["SCRAM-SHA-256"]), false));
    }

    #[test]
    fn an_offer_of_binding_ends_a_program_that_would_take_it_up() {
        let mut refusing = opening(Binding::Refuse);
        refusing.held = sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
        let (passed, last) = refusing.pass(false).unwrap();
        assert!(last && passed[0] == b'E');
        let mut refusing = opening(Binding::Refuse);
        refusing.held = sasl(&["SCRAM-SHA-256"]);
        assert_eq!(
            refusing.pass(false).unwrap(),
            (sasl(&["SCRAM-SHA-256"]), false)
        );
    }

    #[test]
    fn messages_are_passed_whole_and_what_follows_the_start_is_not_looked_at() {
        let mut opening = opening(Binding::Keep);
        let key = message(b'K', &[1, 2, 3, 4, 5, 6, 7, 8]);
        let ready = message(b'Z', b"I");
        let all = [&key[..], &ready, b"\xff\xff\xff\xff\xff\xff"].concat();
        let mut passed = Vec::new();
        for byte in &all {
            if opening.ready {
                passed.push(*byte);
                continue;
            }
            opening.held.push(*byte);
            passed.extend(opening.pass(false).unwrap().0);
        }
        assert_eq!(passed, all);
        let owner = opening.keys.owner(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(owner, Some(opening.place.clone()));
        let keys = opening.keys.clone();
        drop(opening);
        assert_eq!(keys.owner(&[1, 2, 3, 4, 5, 6, 7, 8]), None);
    }

    #[test]
    fn an_impossible_length_is_an_error() {
        let mut opening = opening(Binding::Keep);
        opening.held = vec![b'R', 0xff, 0xff, 0xff, 0xff];
        assert!(opening.pass(false).is_err());
        opening.held = vec![b'R', 0, 0, 0, 1];
        assert!(opening.pass(false).is_err());
    }
}

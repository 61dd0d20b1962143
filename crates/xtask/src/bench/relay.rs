//! Plain TCP relays: one to compare a branch's door with, and one that sees when two programs speak.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use super::stopwatch::Stopwatch;

/// Bytes that are handed on at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// A relay from a port to a Unix socket, as plain as one can be. It relays until the program ends.
#[derive(Debug)]
pub(super) struct Relay {
    port: u16,
}

impl Relay {
    /// Relays every connection to `socket`.
    pub(super) fn open(socket: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("open a relay")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&socket) else {
                    continue;
                };
                // A connection that cannot be relayed ends; its client says so.
                let _ = relay_unix(client, server);
            }
        });
        Ok(Self { port })
    }

    /// Where clients connect.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

fn relay_unix(client: TcpStream, server: UnixStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    thread::spawn(move || {
        let _ = hand_on(&mut from_client, &mut to_server, || {});
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = hand_on(&mut from_server, &mut to_client, || {});
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn hand_on(from: &mut impl Read, to: &mut impl Write, seen: impl Fn()) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        seen();
        to.write_all(&buffer[..read])?;
    }
}

/// When the two sides spoke since the last reset, in milliseconds of its watch.
#[derive(Debug)]
struct Spoken {
    watch: Stopwatch,
    first_asked: Option<f64>,
    last_answered: Option<f64>,
}

/// A relay to a port that sees when each side speaks. It relays until the program ends.
#[derive(Debug)]
pub(super) struct Tap {
    port: u16,
    spoken: Arc<Mutex<Spoken>>,
}

impl Tap {
    /// Relays every connection to `port` of this machine.
    pub(super) fn open(to: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("open a tap")?;
        let port = listener.local_addr()?.port();
        let spoken = Arc::new(Mutex::new(Spoken {
            watch: Stopwatch::start(),
            first_asked: None,
            last_answered: None,
        }));
        let seen = Arc::clone(&spoken);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that cannot be relayed ends; its client says so.
                let _ = tap(client, to, &seen);
            }
        });
        Ok(Self { port, spoken })
    }

    /// Where clients connect.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Forgets what was spoken.
    pub(super) fn reset(&self) {
        *lock(&self.spoken) = Spoken {
            watch: Stopwatch::start(),
            first_asked: None,
            last_answered: None,
        };
    }

    /// From the first question until the last answer; none where nothing was spoken.
    pub(super) fn busy_ms(&self) -> Option<f64> {
        let spoken = lock(&self.spoken);
        Some(spoken.last_answered? - spoken.first_asked?)
    }
}

fn lock(spoken: &Mutex<Spoken>) -> std::sync::MutexGuard<'_, Spoken> {
    spoken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tap(client: TcpStream, to: u16, spoken: &Arc<Mutex<Spoken>>) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    let (asking, answering) = (Arc::clone(spoken), Arc::clone(spoken));
    thread::spawn(move || {
        let seen = || {
            let mut spoken = lock(&asking);
            let now = spoken.watch.total();
            spoken.first_asked.get_or_insert(now);
        };
        let _ = hand_on(&mut from_client, &mut to_server, seen);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let seen = || {
            let mut spoken = lock(&answering);
            spoken.last_answered = Some(spoken.watch.total());
        };
        let _ = hand_on(&mut from_server, &mut to_client, seen);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_hands_on_and_sees_when() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let to = server.local_addr().expect("an address").port();
        thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("a client");
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).expect("a question");
            stream.write_all(&asked).expect("an answer");
        });
        let tap = Tap::open(to).expect("a tap");
        assert!(tap.busy_ms().is_none());
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, tap.port())).expect("connected");
        client.write_all(b"ping").expect("asked");
        let mut answer = [0; 4];
        client.read_exact(&mut answer).expect("answered");
        assert_eq!(&answer, b"ping");
        assert!(tap.busy_ms().is_some_and(|time| time >= 0.0));
        tap.reset();
        assert!(tap.busy_ms().is_none());
    }
}

//! A branch's door that a test plays: enough of PostgreSQL's protocol (version 3.0, documentation section 54.7) for one
//! login by password and one question.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// A listening door; it closes when dropped.
pub(crate) struct FakeDoor {
    address: SocketAddr,
    logins: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeDoor {
    /// A door that takes this password and answers every query with one row of this text.
    pub(crate) fn open(password: &'static str, answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let logins = Arc::new(AtomicUsize::new(0));
        let closed = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (logins, closed) = (Arc::clone(&logins), Arc::clone(&closed));
            move || {
                for stream in listener.incoming() {
                    if closed.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that goes away is no failure of the door's.
                    let _ = serve(stream.unwrap(), password, &answer, &logins);
                }
            }
        });
        Self {
            address,
            logins,
            closed,
            thread: Some(thread),
        }
    }

    /// Its port on the loopback address.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Logins that succeeded.
    pub(crate) fn logins(&self) -> usize {
        self.logins.load(Ordering::SeqCst)
    }
}

impl Drop for FakeDoor {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the thread from its wait for a client.
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(
    mut client: TcpStream,
    password: &str,
    answer: &str,
    logins: &AtomicUsize,
) -> io::Result<()> {
    read_body(&mut client)?;
    send(&mut client, b'R', &3_u32.to_be_bytes())?;
    let (_, given) = read_message(&mut client)?;
    if given.strip_suffix(b"\0") != Some(password.as_bytes()) {
        let error = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0\0";
        return send(&mut client, b'E', error);
    }
    logins.fetch_add(1, Ordering::SeqCst);
    send(&mut client, b'R', &0_u32.to_be_bytes())?;
    send(&mut client, b'Z', b"I")?;
    while let (b'Q', _) = read_message(&mut client)? {
        let column = b"\0\x01cluster_name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
        send(&mut client, b'T', column)?;
        let length = u32::try_from(answer.len()).unwrap();
        let row = [b"\0\x01", &length.to_be_bytes()[..], answer.as_bytes()].concat();
        send(&mut client, b'D', &row)?;
        send(&mut client, b'C', b"SHOW\0")?;
        send(&mut client, b'Z', b"I")?;
    }
    Ok(())
}

fn read_message(client: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut kind = [0];
    client.read_exact(&mut kind)?;
    Ok((kind[0], read_body(client)?))
}

fn read_body(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut body)?;
    Ok(body)
}

fn send(client: &mut TcpStream, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 4).unwrap();
    client.write_all(&[&[kind], &length.to_be_bytes()[..], body].concat())
}

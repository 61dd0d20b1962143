//! Two sockets joined to one another: bytes go both ways until both ends are over.
//!
//! ```text
//!   from ──read──▶ a buffer ──write──▶ to          at first: most connections say little
//!   from ──splice▶ a pipe ──splice───▶ to          after BULK_FROM bytes: the kernel hands its own pages on, uncopied
//! ```
//!
//! Owns which of the two a direction uses. What a broken connection means is for whoever joined them.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Bytes that are read at once: what makes a copy cheap next to its two calls.
const BUFFER: usize = 64 * 1024;

/// Bytes after which a direction is worth a pipe, which is two descriptors until its connection ends.
const BULK_FROM: usize = 1024 * 1024;

/// Bytes that one splice asks for. A pipe has sixteen places, each for what one packet carries at most.
const SPLICE_SIZE: usize = 1024 * 1024;

/// A stream of bytes that the kernel knows.
pub(super) trait Socket: AsFd {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes a call that says when the socket is not ready.
    fn try_io<R>(&self, what: Interest, call: impl FnOnce() -> io::Result<R>) -> io::Result<R>;
}

macro_rules! socket {
    ($type:ty) => {
        impl Socket for $type {
            fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(context)
            }

            fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(context)
            }

            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.try_read(buffer)
            }

            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }

            fn try_io<R>(
                &self,
                what: Interest,
                call: impl FnOnce() -> io::Result<R>,
            ) -> io::Result<R> {
                self.try_io(what, call)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// Carries both directions to their ends; false where one broke.
pub(super) async fn carry(one: &impl Socket, other: &impl Socket) -> bool {
    tokio::try_join!(direct(one, other), direct(other, one)).is_ok()
}

/// Whether a direction has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    ToItsEnd,
    Enough,
}

/// Carries one direction, and its end.
async fn direct(from: &impl Socket, to: &impl Socket) -> io::Result<()> {
    if copy(from, to, BULK_FROM).await? == Carried::Enough {
        // Where there is no pipe, or none for these sockets, bytes are copied to the end.
        let spliced = match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
            Ok(pipe) => hand_on(from, to, &pipe).await?,
            Err(_) => Carried::Enough,
        };
        if spliced == Carried::Enough {
            copy(from, to, usize::MAX).await?;
        }
    }
    match shutdown(to.as_fd(), Shutdown::Write) {
        // The other direction tells what became of it.
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Copies until the end, or until so many bytes were carried.
async fn copy(from: &impl Socket, to: &impl Socket, enough: usize) -> io::Result<Carried> {
    let mut buffer = vec![0; BUFFER];
    let mut carried = 0_usize;
    while carried < enough {
        let read = when_readable(from, || from.try_read(&mut buffer)).await?;
        if read == 0 {
            return Ok(Carried::ToItsEnd);
        }
        carried = carried.saturating_add(read);
        let mut left = &buffer[..read];
        while !left.is_empty() {
            let written = when_writable(to, || to.try_write(left)).await?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            left = &left[written..];
        }
    }
    Ok(Carried::Enough)
}

/// Hands on until the end; nothing at all of sockets that cannot be spliced.
async fn hand_on(
    from: &impl Socket,
    to: &impl Socket,
    (out, into): &(OwnedFd, OwnedFd),
) -> io::Result<Carried> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        // The pipe is empty, so it is the socket that is not ready where a call would block.
        let taken = when_readable(from, || {
            let take = || splice(from, None, into, None, SPLICE_SIZE, flags);
            from.try_io(Interest::READABLE, || Ok(take()?))
        });
        let mut held = match taken.await {
            Ok(0) => return Ok(Carried::ToItsEnd),
            Ok(held) => held,
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(Carried::Enough),
            Err(error) => return Err(error),
        };
        while held > 0 {
            let given = when_writable(to, || {
                let give = || splice(out, None, to, None, held, flags);
                to.try_io(Interest::WRITABLE, || Ok(give()?))
            });
            held = held.saturating_sub(given.await?);
        }
    }
}

async fn when_readable<R>(
    socket: &impl Socket,
    mut call: impl FnMut() -> io::Result<R>,
) -> io::Result<R> {
    loop {
        poll_fn(|context| socket.poll_readable(context)).await?;
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
}

async fn when_writable<R>(
    socket: &impl Socket,
    mut call: impl FnMut() -> io::Result<R>,
) -> io::Result<R> {
    loop {
        poll_fn(|context| socket.poll_writable(context)).await?;
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What no step takes as long as.
    const SOON: Duration = Duration::from_secs(30);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.expect("it listens"), other.expect("somebody comes").0)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    async fn check<A, B>(client: (A, impl Socket), server: (impl Socket, B), length: usize)
    where
        A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
        B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let (mut client, inner) = client;
        let (outer, mut server) = server;
        let sent = bytes(length);
        let asking = async {
            client.write_all(&sent).await.expect("it is taken");
            client.shutdown().await.expect("it can end");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.expect("it comes");
            assert!(answer == b"well", "after {length}");
        };
        let answering = async {
            let mut got = Vec::new();
            server.read_to_end(&mut got).await.expect("it comes");
            assert!(got == sent, "{} of {length} bytes", got.len());
            // The other direction goes on after this one's end.
            server.write_all(b"well").await.expect("it is taken");
            server.shutdown().await.expect("it can end");
        };
        let all = async { tokio::join!(carry(&inner, &outer), asking, answering).0 };
        assert!(tokio::time::timeout(SOON, all).await.expect("it ends"));
    }

    #[tokio::test]
    async fn every_byte_and_each_end_is_carried_however_many_there_are() {
        for length in [
            0,
            1,
            BULK_FROM - 1,
            BULK_FROM,
            BULK_FROM + 1,
            20 * BULK_FROM,
        ] {
            check(pair().await, pair().await, length).await;
            let unix = || UnixStream::pair().expect("a pair");
            check(unix(), pair().await, length).await;
            check(pair().await, unix(), length).await;
        }
    }

    #[tokio::test]
    async fn a_client_that_is_gone_breaks_its_connection_in_bulk_as_well() {
        let ((mut client, inner), (outer, mut server)) = (pair().await, pair().await);
        let gone = async {
            let mut some = vec![0; 2 * BULK_FROM];
            client.read_exact(&mut some).await.expect("it comes");
            client.set_zero_linger().expect("it can be cut");
            drop(client);
        };
        let sending = async {
            let much = bytes(BULK_FROM);
            while server.write_all(&much).await.is_ok() {}
        };
        let all = async {
            let carrying = async {
                let is_whole = carry(&inner, &outer).await;
                outer.set_zero_linger().expect("it can be cut");
                drop(outer);
                is_whole
            };
            tokio::join!(carrying, gone, sending).0
        };
        assert!(!tokio::time::timeout(SOON, all).await.expect("it ends"));
    }
}

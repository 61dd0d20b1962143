//! Bytes between a client's socket and its server's, both ways until both have ended.
//!
//! ```text
//!   client ══splice══▶ pipe ══splice══▶ server        (and a second pipe back)
//! ```
//!
//! The kernel moves pages from one socket to the other by way of a pipe; nothing comes into this process (splice(2)).
//! A pipe is held only while it has bytes: a direction takes one of a few that are kept, so a thousand idle connections
//! have none. Owns the moving and the pipes; leaves who may connect to `door`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Bytes that a pipe holds, and that wait in one direction at most: what a process without privileges may ask for
/// (`/proc/sys/fs/pipe-max-size` is 1 MiB by default), in moderation.
const PIPE_BYTES: usize = 256 * 1024;

/// Empty pipes that are kept for the next one who needs one: a page of the kernel's memory each.
const PIPES_KEPT_MAX: usize = 64;

static KEPT: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// An empty pipe between two sockets. It is dropped, not kept, while somebody's bytes are in it.
#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    fn take() -> io::Result<Self> {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(pipe) = kept {
            return Ok(pipe);
        }
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user who has many is given small ones (pipe(7)): slower, and as right.
        let _ = fcntl_setpipe_size(&into, PIPE_BYTES);
        Ok(Self { out, into })
    }

    fn keep(self) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < PIPES_KEPT_MAX {
            kept.push(self);
        }
    }
}

/// A socket that says when it can be read and written.
trait Socket: AsFd {
    async fn ready(&self, interest: Interest) -> io::Result<()>;

    /// Does `work`; that it would block is remembered for [`Socket::ready`].
    fn try_io<T>(&self, interest: Interest, work: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
}

macro_rules! socket {
    ($stream:ty) => {
        impl Socket for $stream {
            async fn ready(&self, interest: Interest) -> io::Result<()> {
                <$stream>::ready(self, interest).await.map(drop)
            }

            fn try_io<T>(
                &self,
                interest: Interest,
                work: impl FnOnce() -> io::Result<T>,
            ) -> io::Result<T> {
                <$stream>::try_io(self, interest, work)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// Relays until both sides have ended; the end of one is passed on.
///
/// # Errors
/// Of either socket, or that this process may have no more descriptors.
pub(super) async fn relay(client: &TcpStream, server: &UnixStream) -> io::Result<()> {
    let there = hand_on(client, server);
    let back = hand_on(server, client);
    tokio::try_join!(there, back).map(drop)
}

/// One direction, to its end.
async fn hand_on(from: &impl Socket, to: &impl Socket) -> io::Result<()> {
    loop {
        from.ready(Interest::READABLE).await?;
        let pipe = Pipe::take()?;
        let ended = hand_on_what_is_there(from, to, &pipe).await?;
        pipe.keep();
        if ended {
            return match shutdown(to.as_fd(), Shutdown::Write) {
                // It has ended by itself.
                Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
                Err(errno) => Err(errno.into()),
            };
        }
    }
}

/// Hands on until `from` has nothing more at hand; true when it has ended. The pipe is empty afterwards.
async fn hand_on_what_is_there(
    from: &impl Socket,
    to: &impl Socket,
    pipe: &Pipe,
) -> io::Result<bool> {
    loop {
        let taken = from.try_io(Interest::READABLE, || {
            move_bytes(from, &pipe.into, PIPE_BYTES)
        });
        let mut left = match taken {
            Ok(0) => return Ok(true),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        while left > 0 {
            to.ready(Interest::WRITABLE).await?;
            match to.try_io(Interest::WRITABLE, || move_bytes(&pipe.out, to, left)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(given) => left -= given,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // Others have their turn, however much there is to move.
        tokio::task::coop::consume_budget().await;
    }
}

fn move_bytes(from: impl AsFd, to: impl AsFd, bytes: usize) -> io::Result<usize> {
    let how = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(rustix::io::retry_on_intr(|| {
        splice(&from, None, &to, None, bytes, how)
    })?)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A client's end, a server's end, and a relay between them.
    async fn relayed() -> (
        TcpStream,
        UnixStream,
        tokio::task::JoinHandle<io::Result<()>>,
    ) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (server, behind) = UnixStream::pair().unwrap();
        let accepted = accepted.unwrap().0;
        let relaying = tokio::spawn(async move { relay(&accepted, &behind).await });
        (client.unwrap(), server, relaying)
    }

    /// Bytes of which none is like its neighbours.
    fn pattern(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[tokio::test]
    async fn bytes_arrive_whole_both_ways_and_an_end_is_passed_on() {
        let (client, server, relaying) = relayed().await;
        let [question, answer] = [pattern(3 << 20), pattern(5_000_001)];
        let (mut client_in, mut client_out) = client.into_split();
        let (mut server_in, mut server_out) = server.into_split();
        let asking = async {
            client_out.write_all(&question).await.unwrap();
            client_out.shutdown().await.unwrap();
        };
        let answering = async {
            server_out.write_all(&answer).await.unwrap();
            server_out.shutdown().await.unwrap();
        };
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        let (_, _, read_asked, read_answered) = tokio::join!(
            asking,
            answering,
            server_in.read_to_end(&mut asked),
            client_in.read_to_end(&mut answered)
        );
        read_asked.unwrap();
        read_answered.unwrap();
        assert!(asked == question && answered == answer);
        relaying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_side_goes_on_after_the_other_has_said_all() {
        let (mut client, mut server, relaying) = relayed().await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        server.write_all(b"still here").await.unwrap();
        drop(server);
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "still here");
        relaying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_stops_its_server_and_holds_little() {
        let (client, mut server, relaying) = relayed().await;
        let mut written = 0;
        let chunk = pattern(64 * 1024);
        while let Ok(Ok(count)) =
            tokio::time::timeout(std::time::Duration::from_millis(300), server.write(&chunk)).await
        {
            written += count;
            assert!(written < 64 << 20, "somebody buffers without bound");
        }
        drop(client);
        drop(server);
        // Its bytes went nowhere: the pipe that holds them is not kept.
        assert!(relaying.await.unwrap().is_err());
    }
}

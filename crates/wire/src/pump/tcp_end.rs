//! One end of a TCP connection that is carried: shut down in order, or cut.
//!
//! Owns which of the two the other end sees, however this one ends: an error, a task that is dropped, a process that is
//! killed. An end of file where the bytes do not go on would have it take a part for the whole.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// After this silence the other end is asked whether it is still there: what a program asks by itself ends at whoever carries
/// its connection, and address translators forget silent ones within minutes (RFC 5382, section 5; in practice from 4).
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// How often it is asked then, and after how many questions without an answer it is gone.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_QUESTIONS: u32 = 4;

/// Has the kernel ask the other end of a silent connection whether it is still there (tcp(7), `TCP_KEEPIDLE`).
///
/// # Errors
/// What the kernel says; for one that is broken already.
pub fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_QUESTIONS);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// A socket that is reset (RFC 9293, section 3.5.3) when it is closed before it was shut down.
#[derive(Debug)]
pub struct TcpEnd {
    socket: TcpStream,
}

impl TcpEnd {
    /// Takes a connected socket. One that the other end has reset already cannot be set, and need not be.
    pub fn new(socket: TcpStream) -> Self {
        // From here on, so that it holds for a process that is killed as well.
        socket.set_zero_linger().ok();
        keep_alive(&socket).ok();
        Self { socket }
    }
}

impl AsyncRead for TcpEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl AsyncWrite for TcpEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    #[expect(
        deprecated,
        reason = "to linger blocks, which is why it is deprecated; this turns it off"
    )]
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
        Poll::Ready(self.socket.set_linger(None))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpEnd, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (one, other) = tokio::join!(connecting, listener.accept());
        (TcpEnd::new(one.unwrap()), other.unwrap().0)
    }

    #[tokio::test]
    async fn a_silent_connection_is_asked_before_translators_forget_it() {
        let (end, _other) = pair().await;
        let socket = SockRef::from(&end.socket);
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_keepalive_time().unwrap() < Duration::from_secs(4 * 60));
        let dead_after = KEEPALIVE_AFTER + KEEPALIVE_EVERY * KEEPALIVE_QUESTIONS;
        assert!(dead_after <= Duration::from_secs(120));
    }

    #[tokio::test]
    async fn what_is_dropped_without_an_end_is_cut_and_what_has_one_is_whole() {
        let (mut end, mut other) = pair().await;
        end.write_all(b"a part").await.unwrap();
        drop(end);
        let mut got = Vec::new();
        let cut = other.read_to_end(&mut got).await.unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::ConnectionReset);

        let (mut end, mut other) = pair().await;
        let much = vec![7; 1 << 20];
        let sending = async {
            end.write_all(&much).await.unwrap();
            end.shutdown().await.unwrap();
            // The kernel still has some of it.
            drop(end);
        };
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(other.read_to_end(&mut got), sending);
        assert_eq!(read.unwrap(), much.len());
    }
}

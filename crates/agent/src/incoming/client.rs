//! A connection that came in: its socket, what was read ahead of it, and the copies that are made of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::detect::{DETECT_WITHIN, Protocol, detect};
use super::tap::Taps;

/// Bytes that are read ahead at once.
const AHEAD: usize = 4096;

/// A client of the target's.
#[derive(Debug)]
pub(super) struct Client {
    socket: TcpStream,
    /// Read ahead, and still to be given out.
    ahead: BytesMut,
    taps: Taps,
}

impl Client {
    pub(super) fn new(socket: TcpStream, taps: Taps) -> Self {
        Self {
            socket,
            ahead: BytesMut::new(),
            taps,
        }
    }

    /// Whether it speaks HTTP, from what it sends first; everything can still be read.
    ///
    /// # Errors
    /// The socket's.
    pub(super) async fn protocol(&mut self) -> io::Result<Protocol> {
        let looking = async {
            loop {
                let protocol = detect(&self.ahead);
                if protocol != Protocol::Unclear {
                    return Ok(protocol);
                }
                let before = self.ahead.len();
                self.ahead.reserve(AHEAD);
                if self.socket.read_buf(&mut self.ahead).await? == 0 {
                    return Ok(Protocol::Other);
                }
                self.taps.copy(&self.ahead[before..]);
            }
        };
        tokio::time::timeout(DETECT_WITHIN, looking)
            .await
            .unwrap_or(Ok(Protocol::Other))
    }

    /// Lets the client see a cut connection rather than an orderly end, once it is dropped.
    pub(super) fn abort(&self) {
        // A socket that is gone already needs none.
        self.socket.set_zero_linger().ok();
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        self.taps.copy(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
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

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }
}

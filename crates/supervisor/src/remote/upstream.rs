//! The far end of a connection that was made for the session: a socket of this machine, or a stream of an agent's.
//!
//! Owns carrying a client to it; an agent's bytes are not copied on their way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use wire::pump::{self, Stream as WireStream};

use super::Stream;

/// Bytes that wait in each direction between two sockets.
const BUFFER_BYTES: usize = 64 * 1024;

/// A far end.
pub enum Upstream {
    /// This machine's.
    Socket(Box<dyn Stream>),
    /// An agent's.
    Agent(WireStream),
}

impl Upstream {
    /// Carries `client` until both ends are over.
    ///
    /// # Errors
    /// The first of either side; the other side then sees a cut connection.
    pub(crate) async fn carry(mut self, mut client: Box<dyn Stream>) -> io::Result<()> {
        match &mut self {
            Self::Agent(stream) => pump::relay(stream, &mut client).await,
            Self::Socket(socket) => {
                copy_bidirectional_with_sizes(&mut client, socket, BUFFER_BYTES, BUFFER_BYTES)
                    .await
                    .map(drop)
            }
        }
    }

    fn pinned(&mut self) -> Pin<&mut dyn Stream> {
        match self {
            Self::Socket(socket) => Pin::new(socket.as_mut()),
            Self::Agent(stream) => Pin::new(stream),
        }
    }
}

impl AsyncRead for Upstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pinned().poll_read(context, into)
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_write_vectored(),
            Self::Agent(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(context, slices)
    }
}

//! The far end of a connection that was made for the session: a socket of this machine, or a stream of an agent's.
//!
//! Owns carrying a client to it; an agent's bytes are not copied on their way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes,
};
use tokio::time::timeout;
use wire::pump::{Relay, Stream as WireStream};

use super::Stream;
use crate::uploads::Uploads;

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
    /// The same, counted as long as the session has something for it; an agent's stream counts by itself.
    pub(crate) fn counted_by(self, uploads: &Uploads) -> Self {
        match self {
            Self::Socket(socket) => Self::Socket(Box::new(uploads.to_far(socket))),
            Self::Agent(stream) => Self::Agent(stream),
        }
    }

    /// Carries to the client what comes until the client says something, which is put behind what is in `heard`.
    /// Answers how many bytes it was, 0 where either has come to its end; none where the client was silent for
    /// `patience`. Not cancel-safe.
    ///
    /// # Errors
    /// The first of either side.
    pub(crate) async fn overhear(
        &mut self,
        way: &mut Relay,
        client: &mut Box<dyn Stream>,
        heard: &mut Vec<u8>,
        patience: Duration,
    ) -> io::Result<Option<usize>> {
        let socket = match self {
            Self::Agent(stream) => {
                let said = way.overhear(stream, client, heard);
                return timeout(patience, said).await.ok().transpose();
            }
            Self::Socket(socket) => socket,
        };
        let mut bytes = vec![0; BUFFER_BYTES];
        loop {
            let read = tokio::select! {
                said = timeout(patience, client.read_buf(heard)) => return said.ok().transpose(),
                read = socket.read(&mut bytes) => read?,
            };
            if read == 0 {
                return Ok(Some(0));
            }
            client.write_all(&bytes[..read]).await?;
            client.flush().await?;
        }
    }

    /// Carries `client` until both ends are over, from where `way` is.
    ///
    /// # Errors
    /// The first of either side; the other side then sees a cut connection.
    pub(crate) async fn carry(self, way: Relay, mut client: Box<dyn Stream>) -> io::Result<()> {
        match self {
            Self::Agent(stream) => {
                let carried = way.run(&stream, &mut client).await;
                if let Err(error) = &carried {
                    drop(client);
                    stream.reset_behind(error.into()).await;
                }
                carried
            }
            Self::Socket(mut socket) => {
                copy_bidirectional_with_sizes(&mut client, &mut socket, BUFFER_BYTES, BUFFER_BYTES)
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

//! A connection that a session took: cut when the session has been away for longer than a client should wait.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::Errno;
use wire::pump::{Session, Stream};

/// For how long clients of a session whose link is lost are kept waiting: a link that breaks is back sooner, a laptop
/// that sleeps is not.
const PATIENCE: Duration = Duration::from_secs(3);

/// A stream to a session.
pub(super) struct Leash {
    stream: Stream,
    lost: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Leash {
    pub(super) fn new(stream: Stream, session: Session) -> Self {
        let lost = Box::pin(async move { session.lost_for(PATIENCE).await });
        Self { stream, lost }
    }

    /// Cuts the stream; the session reads `errno`.
    pub(super) fn reset(&self, errno: Errno) {
        self.stream.reset(errno);
    }
}

impl AsyncRead for Leash {
    // Whoever waits for the session reads, so this is where its absence is noticed.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => self
                .lost
                .as_mut()
                .poll(context)
                .map(|()| Err(Errno::ETIMEDOUT.into())),
        }
    }
}

impl AsyncWrite for Leash {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl fmt::Debug for Leash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leash")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

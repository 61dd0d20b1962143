//! A connection that a session took: cut when the session has been away for longer than a client should wait.
//!
//! What the session's program sent and ended is delivered after the session's own end as well.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use wire::Errno;
use wire::pump::{LAST_BYTES_WITHIN, Session, Stream, relay};

/// For how long clients of a session whose link is lost are kept waiting: a link that breaks is back sooner, a laptop
/// that sleeps is not.
const PATIENCE: Duration = Duration::from_secs(3);

/// A stream to a session.
pub(super) struct Leash {
    stream: Stream,
    session: Session,
    lost: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Leash {
    pub(super) fn new(stream: Stream, session: Session) -> Self {
        let watched = session.clone();
        Self {
            stream,
            session,
            lost: Box::pin(async move { watched.lost_for(PATIENCE).await }),
        }
    }

    /// Carries `client` until both ends are over.
    ///
    /// # Errors
    /// The first of either side.
    pub(super) async fn carry<S>(&mut self, client: &mut S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut carrying = std::pin::pin!(relay(&self.stream, client));
        tokio::select! {
            biased;
            carried = &mut carrying => return carried,
            () = &mut self.lost => {}
        }
        if !self.session.is_closed() {
            return Err(Errno::ETIMEDOUT.into());
        }
        // A client that never ends must not keep it for ever.
        let rest = timeout(LAST_BYTES_WITHIN, carrying).await;
        rest.unwrap_or(Err(Errno::ETIMEDOUT.into()))
    }

    /// Cuts the stream behind what the client sent; the session reads `errno`.
    pub(super) async fn reset_behind(self, errno: Errno) {
        self.stream.reset_behind(errno).await;
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

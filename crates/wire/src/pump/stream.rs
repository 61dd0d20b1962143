//! One stream in a task's hands: bytes to read and write, or datagrams.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::{LAST_BYTES_WITHIN, Shared};
use crate::connection::Read;
use crate::frame::{DATAGRAM_MAX, StreamId};
use crate::message::{Errno, Opened};

/// One stream. Shut down and then dropped, it still sends what was written; only dropped, it is cut.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self { shared, id }
    }

    pub(super) fn accept(&self, opened: Opened) {
        self.shared
            .step(|inner| inner.connection.accept(self.id, opened));
    }

    pub(super) fn refuse(&self, errno: Errno) {
        self.shared
            .step(|inner| inner.connection.refuse(self.id, errno));
    }

    /// Cuts the stream in both directions; the other side reads `errno`.
    pub fn reset(&self, errno: Errno) {
        self.shared
            .step(|inner| inner.connection.reset(self.id, errno));
    }

    /// Cuts the stream in both directions behind what was written, and waits until that is sent, [`LAST_BYTES_WITHIN`] at
    /// most: a reader who does not read must not keep it for ever.
    pub async fn reset_behind(self, errno: Errno) {
        self.shared
            .step(|inner| inner.connection.reset_behind(self.id, errno));
        let sent = poll_fn(|context| {
            let mut inner = self.shared.lock();
            if !inner.connection.is_resetting(self.id) {
                return Poll::Ready(());
            }
            if let Some(waiting) = inner.streams.get_mut(&self.id) {
                waiting.writer = Some(context.waker().clone());
            }
            Poll::Pending
        });
        // What is left goes with the stream.
        timeout(LAST_BYTES_WITHIN, sent).await.ok();
    }

    /// Waits until the other side cuts the stream, or the session ends; reads nothing.
    pub async fn cut(&self) -> Errno {
        poll_fn(|context| {
            let mut inner = self.shared.lock();
            if let Some(errno) = inner.connection.broken(self.id) {
                return Poll::Ready(errno);
            }
            if inner.connection.is_closed() {
                return Poll::Ready(Errno::ECONNRESET);
            }
            if let Some(waiting) = inner.streams.get_mut(&self.id) {
                waiting.reader = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Takes as many of `bytes` as there is room for at once, without waiting.
    ///
    /// # Errors
    /// Why nothing more can be sent.
    pub fn try_write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        self.shared
            .step(|inner| inner.connection.write(self.id, bytes))
    }

    /// Sends one datagram; whether there was room for it. One that had none is lost, as datagrams are.
    ///
    /// # Errors
    /// Why nothing more can be sent.
    pub fn send_datagram(&self, to: SocketAddr, bytes: &[u8]) -> Result<bool, Errno> {
        self.shared
            .step(|inner| inner.connection.write_datagram(self.id, to, bytes))
    }

    /// The next datagram and who sent it; none after the end.
    ///
    /// # Errors
    /// Why nothing more comes.
    pub async fn receive_datagram(&self) -> Result<Option<(SocketAddr, Bytes)>, Errno> {
        poll_fn(|context| match self.poll_next(context, DATAGRAM_MAX) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(errno)) => Poll::Ready(Err(errno)),
            Poll::Ready(Ok(Read::Datagram(from, bytes))) => Poll::Ready(Ok(Some((from, bytes)))),
            Poll::Ready(Ok(Read::End | Read::Nothing)) => Poll::Ready(Ok(None)),
            // A stream of bytes has no datagrams.
            Poll::Ready(Ok(Read::Data(_))) => Poll::Ready(Err(Errno::EOPNOTSUPP)),
        })
        .await
    }

    fn poll_next(&self, context: &Context<'_>, limit: usize) -> Poll<Result<Read, Errno>> {
        let mut inner = self.shared.lock();
        let read = inner.connection.read(self.id, limit);
        if matches!(read, Ok(Read::Nothing)) {
            if let Some(waiting) = inner.streams.get_mut(&self.id) {
                waiting.reader = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        // What was read may be worth new credit.
        let is_owed = inner.connection.owes_credit();
        drop(inner);
        if is_owed {
            self.shared.speak.notify_one();
        }
        Poll::Ready(read)
    }

    /// The next bytes, as they came; none after the end.
    pub(super) fn poll_bytes(&self, context: &Context<'_>) -> Poll<Result<Option<Bytes>, Errno>> {
        match self.poll_next(context, usize::MAX) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Read::Data(bytes))) => Poll::Ready(Ok(Some(bytes))),
            Poll::Ready(Ok(Read::End | Read::Nothing)) => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(Read::Datagram(..))) => Poll::Ready(Err(Errno::EOPNOTSUPP)),
            Poll::Ready(Err(errno)) => Poll::Ready(Err(errno)),
        }
    }

    /// How many bytes can be written, at least one.
    pub(super) fn poll_room(&self, context: &Context<'_>) -> Poll<Result<usize, Errno>> {
        let mut inner = self.shared.lock();
        let room = inner.connection.room(self.id);
        if room == Ok(0) {
            if let Some(waiting) = inner.streams.get_mut(&self.id) {
                waiting.writer = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready(room)
    }

    /// Writes bytes that there is room for, with their memory.
    pub(super) fn write_piece(&self, mut bytes: Bytes) -> Result<(), Errno> {
        self.shared
            .step(|inner| inner.connection.write_piece(self.id, &mut bytes))
    }

    /// Sends nothing more after what was written.
    pub(super) fn finish(&self) {
        self.shared.step(|inner| inner.connection.finish(self.id));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.step(|inner| {
            inner.streams.remove(&self.id);
            inner.connection.release(self.id);
        });
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match self.poll_next(context, buffer.remaining()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Read::Data(bytes))) => {
                buffer.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(Read::End | Read::Nothing)) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(Read::Datagram(..))) => Poll::Ready(Err(Errno::EOPNOTSUPP.into())),
            Poll::Ready(Err(errno)) => Poll::Ready(Err(errno.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.shared.lock();
        match inner.connection.write(self.id, bytes) {
            Err(errno) => Poll::Ready(Err(errno.into())),
            Ok(0) if !bytes.is_empty() => {
                if let Some(waiting) = inner.streams.get_mut(&self.id) {
                    waiting.writer = Some(context.waker().clone());
                }
                Poll::Pending
            }
            Ok(taken) => {
                drop(inner);
                self.shared.speak.notify_one();
                Poll::Ready(Ok(taken))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was taken is sent as soon as the link takes it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

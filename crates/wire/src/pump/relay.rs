//! A stream joined to a socket: bytes go both ways until both ends are over, and are not copied on the way.
//!
//! ```text
//!   inwards:  socket -> a read of at most READ_SIZE -> the stream, which takes it with its memory
//!   outwards: stream -> pieces as they came from the link -> the socket, several in one write
//! ```
//!
//! Until the socket's first bytes, which somebody may want to see before the stream gets them, outwards goes alone.
//!
//! Owns nothing while nobody speaks: a read's memory is let go of where the read finds nothing.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::Stream;
use super::outbox::Outbox;

/// Bytes that one read of the socket asks for: as many as a stream holds at most.
const READ_SIZE: usize = 64 * 1024;

/// Pieces that one write takes: the outbox of a link's frames, with their beginnings.
const SLICES_MAX: usize = 16;

/// Carries bytes both ways until both ends are over. An end of one direction is handed on while the other goes on.
///
/// # Errors
/// The first of either side, at once; what was under way is lost. The stream is not cut by it.
pub async fn relay<S>(stream: &Stream, socket: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Relay::default().run(stream, socket).await
}

/// What is under way between one stream and one socket.
#[derive(Debug)]
pub struct Relay {
    outwards: Option<Outwards>,
    inwards: Option<Inwards>,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            outwards: Some(Outwards::default()),
            inwards: Some(Inwards),
        }
    }
}

impl Relay {
    /// Carries the stream's bytes to the socket until the socket says something, and puts that behind what is in
    /// `heard`. Answers how many bytes it was; none: either has come to its end. Cancel-safe.
    ///
    /// # Errors
    /// The first of either side.
    pub async fn overhear<S>(
        &mut self,
        stream: &Stream,
        socket: &mut S,
        heard: &mut Vec<u8>,
    ) -> io::Result<usize>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        poll_fn(|context| {
            let said = pin!(socket.read_buf(heard)).poll(context)?;
            if let Poll::Ready(count) = said {
                return Poll::Ready(Ok(count));
            }
            self.poll_outwards(context, stream, socket)?;
            if self.outwards.is_none() {
                return Poll::Ready(Ok(0));
            }
            Poll::Pending
        })
        .await
    }

    /// Carries the rest as [`relay`] does.
    ///
    /// # Errors
    /// As [`relay`].
    pub async fn run<S>(mut self, stream: &Stream, socket: &mut S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        poll_fn(|context| {
            self.poll_outwards(context, stream, socket)?;
            if let Some(direction) = &mut self.inwards
                && direction.poll(context, stream, socket)?.is_ready()
            {
                self.inwards = None;
            }
            if self.outwards.is_none() && self.inwards.is_none() {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await
    }

    fn poll_outwards<S>(
        &mut self,
        context: &mut Context<'_>,
        stream: &Stream,
        socket: &mut S,
    ) -> io::Result<()>
    where
        S: AsyncWrite + Unpin,
    {
        if let Some(direction) = &mut self.outwards
            && direction.poll(context, stream, socket)?.is_ready()
        {
            self.outwards = None;
        }
        Ok(())
    }
}

/// From the stream to the socket.
#[derive(Debug, Default)]
struct Outwards {
    waiting: Outbox,
    /// The stream has ended.
    ended: bool,
    /// The socket took bytes that it may still hold.
    unflushed: bool,
}

impl Outwards {
    fn poll<S>(
        &mut self,
        context: &mut Context<'_>,
        stream: &Stream,
        socket: &mut S,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        let mut socket = Pin::new(socket);
        loop {
            while !self.ended && self.waiting.has_room() {
                match stream.poll_bytes(context)? {
                    Poll::Ready(Some(bytes)) => self.waiting.push(bytes),
                    Poll::Ready(None) => self.ended = true,
                    Poll::Pending => break,
                }
            }
            if self.waiting.has_remaining() {
                let written = ready!(self.poll_write(context, socket.as_mut()))?;
                if written == 0 {
                    return Poll::Ready(Err(ErrorKind::WriteZero.into()));
                }
                self.waiting.advance(written);
                self.unflushed = true;
            } else if self.ended {
                return socket.poll_shutdown(context);
            } else {
                if self.unflushed {
                    ready!(socket.as_mut().poll_flush(context))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
    }

    fn poll_write<S: AsyncWrite>(
        &self,
        context: &mut Context<'_>,
        socket: Pin<&mut S>,
    ) -> Poll<io::Result<usize>> {
        if !socket.is_write_vectored() {
            return socket.poll_write(context, self.waiting.chunk());
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.waiting.chunks_vectored(&mut slices);
        socket.poll_write_vectored(context, &slices[..count])
    }
}

/// From the socket to the stream.
#[derive(Debug)]
struct Inwards;

impl Inwards {
    fn poll<S>(
        &mut self,
        context: &mut Context<'_>,
        stream: &Stream,
        socket: &mut S,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncRead + Unpin,
    {
        let mut buffer = BytesMut::new();
        loop {
            let room = ready!(stream.poll_room(context))?.min(READ_SIZE);
            buffer.clear();
            buffer.reserve(room);
            let read = {
                let mut limited = (&mut buffer).limit(room);
                ready!(pin!(socket.read_buf(&mut limited)).poll(context))?
            };
            if read == 0 {
                stream.finish();
                return Poll::Ready(Ok(()));
            }
            if read < buffer.capacity() / 2 {
                // So that little never holds much.
                stream.try_write(&buffer)?;
            } else {
                stream.write_piece(std::mem::take(&mut buffer).freeze())?;
            }
        }
    }
}

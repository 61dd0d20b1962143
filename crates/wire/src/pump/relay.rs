//! A stream joined to a socket: bytes go both ways until both ends are over, and are not copied on the way.
//!
//! ```text
//!   inwards:  socket -> a read of at most READ_SIZE -> the stream, which takes it with its memory
//!   outwards: stream -> pieces as they came from the link -> the socket, several in one write
//! ```
//!
//! A side that breaks is told of once what the other had said before it has been carried: a server's answer is whole though
//! a reset follows it.
//!
//! Until the socket's first bytes, which somebody may want to see before the stream gets them, outwards goes alone.
//!
//! Owns nothing while nobody speaks: a read's memory is let go of where the read finds nothing.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Sleep, sleep};

use super::Stream;
use super::outbox::Outbox;
use crate::message::Errno;

/// Bytes that one read of the socket asks for: as many as a stream holds at most.
const READ_SIZE: usize = 64 * 1024;

/// Pieces that one write takes: the outbox of a link's frames, with their beginnings.
const SLICES_MAX: usize = 16;

/// How long what was said before one side broke may take to be carried: whoever does not read it must not keep it for ever.
pub const LAST_BYTES_WITHIN: Duration = Duration::from_secs(30);

/// Carries bytes both ways until both ends are over. An end of one direction is handed on while the other goes on.
///
/// # Errors
/// The first of either side, once what came before it is carried, or [`LAST_BYTES_WITHIN`] is over. The stream is not cut
/// by it.
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
    broken: Option<Broken>,
}

/// The first error, and how long the other direction still has.
#[derive(Debug)]
struct Broken {
    error: io::Error,
    patience: Pin<Box<Sleep>>,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            outwards: Some(Outwards::default()),
            inwards: Some(Inwards),
            broken: None,
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
            let Some(direction) = &mut self.outwards else {
                return Poll::Ready(Ok(0));
            };
            if direction.poll(context, stream, socket)?.is_ready() {
                self.outwards = None;
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
        poll_fn(|context| self.poll(context, stream, socket)).await
    }

    fn poll<S>(
        &mut self,
        context: &mut Context<'_>,
        stream: &Stream,
        socket: &mut S,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(direction) = &mut self.outwards
            && let Poll::Ready(outcome) = direction.poll(context, stream, socket)
        {
            let told_by_stream = direction.is_broken();
            self.outwards = None;
            if let Err(error) = outcome {
                self.note(error);
                if told_by_stream {
                    // It takes nothing more either.
                    self.inwards = None;
                }
            }
        }
        if let Some(direction) = &mut self.inwards
            && let Poll::Ready(outcome) = direction.poll(context, stream, socket)
        {
            self.inwards = None;
            match outcome {
                // A socket that could not be written to has no end but that error.
                Ok(()) if self.broken.is_none() => stream.finish(),
                Ok(()) => {}
                Err(Failure::Stream(errno)) => self.note(errno.into()),
                Err(Failure::Socket(error)) => {
                    self.note(error);
                    self.outwards = None;
                }
            }
        }
        let is_over = self.outwards.is_none() && self.inwards.is_none();
        let Some(broken) = &mut self.broken else {
            return if is_over {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        };
        if is_over || broken.patience.as_mut().poll(context).is_ready() {
            let error = self.broken.take().map(|broken| broken.error);
            return Poll::Ready(error.map_or(Ok(()), Err));
        }
        Poll::Pending
    }

    fn note(&mut self, error: io::Error) {
        self.broken.get_or_insert_with(|| Broken {
            error,
            patience: Box::pin(sleep(LAST_BYTES_WITHIN)),
        });
    }
}

/// From the stream to the socket.
#[derive(Debug, Default)]
struct Outwards {
    waiting: Outbox,
    /// How the stream has ended.
    end: Option<Result<(), Errno>>,
    /// The socket took bytes that it may still hold.
    unflushed: bool,
}

impl Outwards {
    fn is_broken(&self) -> bool {
        matches!(self.end, Some(Err(_)))
    }

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
            while self.end.is_none() && self.waiting.has_room() {
                match stream.poll_bytes(context) {
                    Poll::Ready(Ok(Some(bytes))) => self.waiting.push(bytes),
                    Poll::Ready(Ok(None)) => self.end = Some(Ok(())),
                    Poll::Ready(Err(errno)) => self.end = Some(Err(errno)),
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
                continue;
            }
            if self.end == Some(Ok(())) {
                return socket.poll_shutdown(context);
            }
            if self.unflushed {
                ready!(socket.as_mut().poll_flush(context))?;
                self.unflushed = false;
            }
            return match self.end {
                Some(Err(errno)) => Poll::Ready(Err(errno.into())),
                Some(Ok(())) | None => Poll::Pending,
            };
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

/// Whose error it is.
enum Failure {
    Stream(Errno),
    Socket(io::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Stream(errno)
    }
}

/// From the socket to the stream.
#[derive(Debug)]
struct Inwards;

impl Inwards {
    /// Carries until the socket's end, which it does not hand on.
    fn poll<S>(
        &mut self,
        context: &mut Context<'_>,
        stream: &Stream,
        socket: &mut S,
    ) -> Poll<Result<(), Failure>>
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
                let read = ready!(pin!(socket.read_buf(&mut limited)).poll(context));
                read.map_err(Failure::Socket)?
            };
            if read == 0 {
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

//! The bytes of a session, without the driver: for rows that go from one server to another as they come.
//!
//! ```text
//!   connect ─▶ driver ◀──▶ tap ◀──▶ socket or TLS          (ordinary life)
//!                           │ into_raw
//!                           ▼
//!              RawSession ◀──▶ socket or TLS               (the driver reads nothing more)
//! ```
//!
//! A driver hands out one row at a time; a table's rows are millions of messages that both servers frame alike. Owns the
//! hand-over, simple queries, and errors in a server's words. Leaves the COPY messages to `base::copy::relay`. Source of
//! the frames: PostgreSQL documentation, section 55.7 "Message Formats".

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use futures_util::future::BoxFuture;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::Session;

/// Bytes asked of a server at a time.
const READ_BYTES: usize = 256 * 1024;

/// Bytes of a message that is no row: a server's longest are its errors, which quote a statement of ours.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A message's type and length.
pub const HEADER_BYTES: usize = 5;

/// Any stream of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where the streams of a session's taps can be taken: the outermost last.
#[derive(Clone, Default)]
pub(super) struct Taps(Arc<Mutex<Vec<Box<dyn Take>>>>);

trait Take: Send {
    fn take(&self) -> Option<Box<dyn Stream>>;
}

/// What the driver has instead of the stream itself. Once that is taken, nothing comes any more.
pub(super) struct Tap<S>(Arc<Mutex<Option<S>>>);

impl Taps {
    /// Puts a tap in front of a stream.
    pub(super) fn put<S: Stream + 'static>(&self, stream: S) -> Tap<S> {
        let shared = Arc::new(Mutex::new(Some(stream)));
        let mut taps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taps.push(Box::new(Arc::clone(&shared)));
        Tap(shared)
    }

    fn take(&self) -> Option<Box<dyn Stream>> {
        let taps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taps.last()?.take()
    }
}

impl<S: Stream + 'static> Take for Arc<Mutex<Option<S>>> {
    fn take(&self) -> Option<Box<dyn Stream>> {
        let taken = self.lock().unwrap_or_else(PoisonError::into_inner).take();
        Some(Box::new(taken?))
    }
}

impl<S: Stream> Tap<S> {
    fn with<T>(&self, act: impl FnOnce(Pin<&mut S>) -> Poll<T>) -> Poll<T> {
        match self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            Some(stream) => act(Pin::new(stream)),
            None => Poll::Pending,
        }
    }
}

impl<S: Stream> AsyncRead for Tap<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buffer))
    }
}

impl<S: Stream> AsyncWrite for Tap<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

impl<S: Stream + TlsStream> TlsStream for Tap<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream
            .as_ref()
            .map_or_else(ChannelBinding::none, TlsStream::channel_binding)
    }
}

/// TLS whose stream has a tap.
pub(super) struct TappedTls<T> {
    pub(super) tls: T,
    pub(super) taps: Taps,
}

impl<S, T> TlsConnect<S> for TappedTls<T>
where
    T: TlsConnect<S>,
    T::Stream: Stream + 'static,
    T::Future: Send + 'static,
{
    type Stream = Tap<T::Stream>;
    type Error = T::Error;
    type Future = BoxFuture<'static, Result<Self::Stream, Self::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self { tls, taps } = self;
        let connected = tls.connect(stream);
        Box::pin(async move { Ok(taps.put(connected.await?)) })
    }
}

/// Why a server did not do what it was asked over its bytes.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// The connection broke.
    #[error("the connection was lost")]
    Io(#[from] io::Error),
    /// The server closed it.
    #[error("the connection was closed")]
    Closed,
    /// It refused.
    #[error("{message}")]
    Refused {
        /// The five characters of its `SQLSTATE`.
        code: String,
        /// What it said.
        message: String,
    },
    /// It said what no server says here.
    #[error("the server's message {tag:?} of {length} bytes was not expected")]
    Message {
        /// The message's type.
        tag: char,
        /// Its length.
        length: usize,
    },
}

impl RawError {
    /// Whether the server's disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "53100")
    }
}

/// A message that is no row, without its header.
#[derive(Debug)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// The rest of it.
    pub body: BytesMut,
}

/// A session whose bytes are ours; it closes when dropped.
pub struct RawSession {
    /// The bytes, as they come.
    pub stream: Box<dyn Stream>,
    /// What was read and not yet used.
    pub input: BytesMut,
}

impl fmt::Debug for RawSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSession").finish_non_exhaustive()
    }
}

impl Session {
    /// The bytes of this session, whose transaction and settings stay as they are. None may be waiting for an answer.
    pub fn into_raw(self) -> RawSession {
        let stream = self.taps.take();
        RawSession {
            stream: stream.expect("a stream is taken once, by this function, with its session"),
            input: BytesMut::new(),
        }
    }
}

/// Reads more of a stream.
///
/// # Errors
/// [`RawError::Closed`] at its end.
pub async fn read_more(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
) -> Result<(), RawError> {
    input.reserve(READ_BYTES);
    match stream.read_buf(input).await? {
        0 => Err(RawError::Closed),
        _ => Ok(()),
    }
}

/// The type and the length of the message that begins `input`, header included; none while its header is not whole.
///
/// # Errors
/// [`RawError::Message`] where the length is none.
pub fn header(input: &[u8]) -> Result<Option<(u8, usize)>, RawError> {
    let Some((tag, rest)) = input.split_first() else {
        return Ok(None);
    };
    let Some(length) = rest.first_chunk::<4>() else {
        return Ok(None);
    };
    // The length counts itself and not the type.
    let length = u32::from_be_bytes(*length) as usize;
    if length < 4 {
        let tag = char::from(*tag);
        return Err(RawError::Message { tag, length });
    }
    Ok(Some((*tag, length + 1)))
}

/// Takes a whole message that is no row; none while more must be read. A refusal is an error.
///
/// # Errors
/// [`RawError`].
pub fn take_message(input: &mut BytesMut) -> Result<Option<Message>, RawError> {
    let Some((tag, length)) = header(input)? else {
        return Ok(None);
    };
    if length > MESSAGE_BYTES_MAX {
        let tag = char::from(tag);
        return Err(RawError::Message { tag, length });
    }
    if input.len() < length {
        return Ok(None);
    }
    let mut body = input.split_to(length);
    body.advance(HEADER_BYTES);
    if tag == b'E' {
        return Err(read_refusal(&body));
    }
    Ok(Some(Message { tag, body }))
}

/// The fields of an error: a letter and a text each.
fn read_refusal(body: &[u8]) -> RawError {
    let field = |wanted: u8| {
        let fields = body.split(|byte| *byte == 0);
        let found = fields
            .filter(|field| field.first() == Some(&wanted))
            .find_map(|field| field.get(1..));
        found.map(|text| String::from_utf8_lossy(text).into_owned())
    };
    let mut message = field(b'M').unwrap_or_default();
    for letter in [b'D', b'W'] {
        if let Some(more) = field(letter) {
            message.push_str("; ");
            message.push_str(more.lines().next().unwrap_or_default());
        }
    }
    RawError::Refused {
        code: field(b'C').unwrap_or_default(),
        message,
    }
}

impl RawSession {
    /// Runs statements; rows that they give are passed over.
    ///
    /// # Errors
    /// [`RawError`].
    pub async fn run(&mut self, statements: &str) -> Result<(), RawError> {
        let mut query = BytesMut::new();
        frontend::query(statements, &mut query)?;
        self.stream.write_all(&query).await?;
        self.stream.flush().await?;
        loop {
            match take_message(&mut self.input)? {
                Some(message) if message.tag == b'Z' => return Ok(()),
                Some(_) => {}
                None => read_more(&mut self.stream, &mut self.input).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_or_not_at_all() {
        let mut input = BytesMut::from(&b"Z\0\0\0\x05"[..]);
        assert!(take_message(&mut input).unwrap().is_none());
        input.extend_from_slice(b"ITrest");
        let message = take_message(&mut input).unwrap().unwrap();
        assert_eq!((message.tag, &message.body[..]), (b'Z', &b"I"[..]));
        assert_eq!(&input[..], b"Trest");
    }

    #[test]
    fn a_length_that_is_none_is_refused() {
        assert!(header(b"Z\0\0\0\x03").is_err());
        let mut absurd = BytesMut::from(&b"Z\x7f\xff\xff\xff"[..]);
        assert!(take_message(&mut absurd).is_err());
    }

    #[test]
    fn a_refusal_says_what_the_server_said() {
        let mut input = BytesMut::from(&b"E\0\0\0\x1cSERROR\0C53100\0Mno room\0\0"[..]);
        let refused = take_message(&mut input).unwrap_err();
        assert!(refused.is_full());
        assert_eq!(refused.to_string(), "no room");
    }
}

//! One session on one side, whatever link carries it: a machine that takes bytes and the time, and gives bytes and
//! events.
//!
//! ```text
//!             attach                  detach, silence             grace over
//!  Apart  ----------------> Linked ---------------------> Apart --------------> Closed
//!                             |  ^                          |
//!                             |  +--------------------------+ attach: what did not arrive is said again
//!                             | close, Close received, violation
//!                             +----------------------------------------------------> Closed
//! ```
//!
//! Owns numbering, acknowledgement, repetition, flow control, turns, keepalive and every bound on memory. Leaves to
//! others: proving who is there (`greeting`), carrying bytes (`pump`, where the feature is on), and doing what streams
//! and calls ask for. Times are durations since any fixed start of a steady clock.

mod ledger;
mod liveness;
mod pieces;
mod stream;
mod streams;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::ledger::Ledger;
use self::liveness::{Due, Liveness};
pub use self::stream::Read;
use self::streams::Streams;
pub use self::streams::{INCOMING_MAX, STREAMS_MAX};
use crate::codec::{DecodeError, Wire};
use crate::frame::{
    CallId, DATAGRAM_MAX, Frame, HEADER_BYTES, Header, PAYLOAD_MAX, StreamId, split,
};
use crate::greeting::Link;
use crate::message::{Answer, CloseReason, Errno, Notice, OpenRequest, Opened, Request};

/// Calls without an answer at once: a busy resolver's worth, and with answers of 64 KiB still bounded.
pub const CALLS_MAX: usize = 512;

/// Notices that wait to be sent; the agent counts further ones together.
pub const NOTICES_MAX: usize = 64;

/// Which side this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The supervisor's, which dials.
    Client,
    /// The agent's.
    Agent,
}

impl Role {
    fn first_stream(self) -> u32 {
        match self {
            Self::Client => 1,
            Self::Agent => 2,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The other side asks for a stream; `accept` or `refuse` answers.
    Requested {
        /// Its name.
        stream: StreamId,
        /// What it is to be.
        request: OpenRequest,
    },
    /// The answer to `open`.
    Answered {
        /// Its name.
        stream: StreamId,
        /// Whether it stands.
        answer: Result<Opened, Errno>,
    },
    /// `read` gave nothing; now it gives something, the end or an error.
    Readable(StreamId),
    /// `write` took less than it was given; now it takes something, or says why never again.
    Writable(StreamId),
    /// The client asks; `answer` answers.
    Called {
        /// Its name.
        call: CallId,
        /// The question.
        request: Request,
    },
    /// The answer to `call`.
    CallAnswered {
        /// Its name.
        call: CallId,
        /// The answer.
        answer: Answer,
    },
    /// The agent tells something.
    Noticed(Notice),
    /// The link said nothing for too long and is given up: drop it.
    LinkLost,
    /// The session is over; nothing follows.
    Closed(CloseReason),
}

/// The other side broke the protocol. The session is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Bytes that mean nothing.
    #[error("a frame cannot be read")]
    Unreadable {
        /// What is wrong with it.
        #[from]
        source: DecodeError,
    },
    /// A frame is missing, repeated, or numbered where it must not be.
    #[error("frame {got} came where {expected} is due")]
    Number {
        /// The number that is due.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// An acknowledgement of what was not sent, or taken back.
    #[error("frame {through} is acknowledged, of {sent} that were sent")]
    Acknowledged {
        /// What is acknowledged.
        through: u64,
        /// What was sent.
        sent: u64,
    },
    /// A frame for a stream that nobody opened.
    #[error("a frame speaks about a stream that nobody opened")]
    UnknownStream,
    /// A second answer to a request for a stream.
    #[error("a request for a stream was answered twice")]
    AnsweredTwice,
    /// Something that is not this side's to say.
    #[error("a frame came that only the other side may send")]
    WrongSide,
    /// Datagrams on a stream of bytes, bytes on one of datagrams, or no bytes at all.
    #[error("data came that is none of its stream's")]
    WrongKindOfStream,
    /// More than was granted.
    #[error("more bytes came than were granted")]
    OverCredit,
    /// More credit than a window ever is.
    #[error("more credit came than a window holds")]
    CreditBeyondWindow,
    /// Data after the end.
    #[error("data came after the end of its stream")]
    AfterFinish,
    /// More streams than there is room to refuse.
    #[error("too many streams were asked for")]
    TooManyStreams,
    /// A call under the name of one that is still open, or too many.
    #[error("too many calls, or one twice")]
    BadCall,
}

/// Why a stream was not asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There are [`STREAMS_MAX`] already, or [`INCOMING_MAX`] of the agent's.
    #[error("the session has as many streams already as it may")]
    TooMany,
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// The request is longer than the protocol can say.
    #[error("the request cannot be said")]
    Unsayable {
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// Why a call was not made, or an answer not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There are [`CALLS_MAX`] already.
    #[error("{CALLS_MAX} calls are open already")]
    TooMany,
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// It is longer than the protocol can say.
    #[error("the call cannot be said")]
    Unsayable {
        /// What is wrong with it.
        source: DecodeError,
    },
}

#[derive(Debug)]
enum State {
    Linked(Liveness),
    Apart { since: Duration },
    Closed,
}

/// One side of a session.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    grace: Duration,
    state: State,
    ledger: Ledger,
    /// The number of the last frame that arrived.
    received: u64,
    streams: Streams,
    next_call: u32,
    /// Calls that wait for their answer: made here by a client, to be given here by an agent.
    open_calls: BTreeSet<CallId>,
    /// Calls whose answer waits in `words`.
    answered_calls: BTreeSet<CallId>,
    /// Calls, answers and notices, in the order in which they were said; at most [`CALLS_MAX`] and [`NOTICES_MAX`].
    words: VecDeque<Frame>,
    waiting_notices: usize,
    /// The rest of the frame whose beginning went to the link last.
    rest: Option<Bytes>,
    /// A close that is still to be sent on the link.
    farewell: Option<CloseReason>,
    /// What happened in the last step; whoever drives the connection takes all of it before the next.
    events: VecDeque<Event>,
}

impl Connection {
    /// A session without a link yet. Apart for longer than `grace`, it is over.
    pub fn new(role: Role, grace: Duration, now: Duration) -> Self {
        Self {
            role,
            grace,
            state: State::Apart { since: now },
            ledger: Ledger::default(),
            received: 0,
            streams: Streams::new(role),
            next_call: 1,
            open_calls: BTreeSet::new(),
            answered_calls: BTreeSet::new(),
            words: VecDeque::new(),
            waiting_notices: 0,
            rest: None,
            farewell: None,
            events: VecDeque::new(),
        }
    }

    /// The number of the last frame that arrived, for the greeting of the next link.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the other side has neither said anything nor confirmed anything: it may not know yet that it is here.
    pub fn is_untouched(&self) -> bool {
        self.received == 0 && self.ledger.acknowledged() == 0
    }

    /// Whether a link carries it.
    pub fn is_linked(&self) -> bool {
        matches!(self.state, State::Linked(_))
    }

    /// Whether the session is over; a last frame may still wait in `poll_transmit`.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Bytes that the session holds for the other side and for its own.
    pub fn held(&self) -> usize {
        self.ledger.bytes() + self.streams.held()
    }

    /// Bytes of finished streams that are still to be sent, each end counted as one. While there are none, `close` loses
    /// nothing of them: it goes out behind what was sent.
    pub fn unsent(&self) -> usize {
        let again = match self.state {
            State::Linked(_) => self.ledger.unrepeated(),
            State::Apart { .. } => self.ledger.bytes(),
            State::Closed => 0,
        };
        again + self.streams.unsent()
    }

    /// Streams that are not over.
    pub fn streams(&self) -> usize {
        self.streams.count()
    }

    /// A new link carries the session; an old one is no longer read from.
    ///
    /// # Errors
    /// [`Violation`] if the other side has received what was never sent; the session is closed then.
    pub fn attach(&mut self, link: Link, now: Duration) -> Result<(), Violation> {
        if self.is_closed() {
            return Ok(());
        }
        if let Err(violation) = self.ledger.resume(link.peer_received) {
            self.break_off(&violation);
            return Err(violation);
        }
        self.rest = None;
        self.state = State::Linked(Liveness::new(now));
        Ok(())
    }

    /// The link is gone; the grace begins.
    pub fn detach(&mut self, now: Duration) {
        if self.is_linked() {
            self.state = State::Apart { since: now };
        }
        self.rest = None;
        self.farewell = None;
    }

    /// Ends the session. Data that was not sent is lost; finish streams and wait for them first. What came of a stream
    /// that the other side finished can still be read.
    pub fn close(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        if self.is_linked() {
            self.farewell = Some(reason.clone());
        }
        self.conclude(reason);
    }

    fn conclude(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.streams.conclude();
        self.words.clear();
        self.open_calls.clear();
        self.answered_calls.clear();
        self.events.push_back(Event::Closed(reason));
    }

    fn break_off(&mut self, violation: &Violation) {
        let mut how = violation.to_string();
        if let Some(source) = std::error::Error::source(violation) {
            how = format!("{how}: {source}");
        }
        self.close(CloseReason::Violation { how });
    }

    /// What happened since the last event. To be asked until there is nothing more after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` has something to do; never for a closed session.
    pub fn next_timeout(&self) -> Option<Duration> {
        match &self.state {
            State::Linked(liveness) => Some(liveness.next_timeout()),
            State::Apart { since } => Some(*since + self.grace),
            State::Closed => None,
        }
    }

    /// Does what the time demands. Read what the link has before: silence is judged here.
    pub fn handle_timeout(&mut self, now: Duration) {
        match &mut self.state {
            State::Linked(liveness) => {
                if liveness.handle_timeout(now) {
                    self.detach(now);
                    self.events.push_back(Event::LinkLost);
                }
            }
            State::Apart { since } => {
                if now.saturating_sub(*since) >= self.grace {
                    self.conclude(CloseReason::GraceExpired);
                }
            }
            State::Closed => {}
        }
    }

    /// The next bytes for the link: one frame at a time, chosen as late as possible, a large one as its beginning and its
    /// rest. Nothing while there is nothing to say, no link, or too much that the other side has not acknowledged.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if let Some(rest) = self.rest.take() {
            return Some(rest);
        }
        if let Some(reason) = self.farewell.take() {
            return Some(Frame::Close(reason).encode(0));
        }
        let State::Linked(liveness) = &mut self.state else {
            return None;
        };
        if let Some(due) = liveness.take_due() {
            let frame = match due {
                Due::Ack => Frame::Ack {
                    through: self.received,
                },
                Due::Ping => Frame::Ping {
                    token: self.received,
                },
                Due::Pong { token } => Frame::Pong { token },
            };
            return Some(frame.encode(0));
        }
        if let Some(again) = self.ledger.repeat() {
            return Some(self.begin(again));
        }
        if self.ledger.is_full() {
            return None;
        }
        let frame = match self.words.pop_front() {
            Some(word) => {
                self.waiting_notices -= usize::from(matches!(word, Frame::Notice(_)));
                if let Frame::Answer { call, .. } = &word {
                    self.answered_calls.remove(call);
                }
                word
            }
            None => self.streams.next_frame(&mut self.events)?,
        };
        let bytes = frame.encode_apart(self.ledger.next_number());
        self.ledger.record(bytes.clone());
        Some(self.begin(bytes))
    }

    /// The beginning of a frame, whose rest goes next.
    fn begin(&mut self, (beginning, rest): ledger::Frame) -> Bytes {
        self.rest = Some(rest).filter(|rest| !rest.is_empty());
        beginning
    }

    /// Takes all whole frames off the front of `input`; what is left is the beginning of the next.
    ///
    /// # Errors
    /// [`Violation`]; the session is closed, and `poll_transmit` has a last frame that tells the other side.
    pub fn receive(&mut self, input: &mut BytesMut, now: Duration) -> Result<(), Violation> {
        while self.is_linked() {
            let outcome = match split(input, PAYLOAD_MAX) {
                Ok(None) => return Ok(()),
                Ok(Some((header, payload))) => self.take_frame(header, payload, now),
                Err(error) => Err(error.into()),
            };
            if let Err(violation) = outcome {
                self.break_off(&violation);
                return Err(violation);
            }
        }
        input.clear();
        Ok(())
    }

    fn take_frame(
        &mut self,
        header: Header,
        payload: Bytes,
        now: Duration,
    ) -> Result<(), Violation> {
        let size = HEADER_BYTES + payload.len();
        let frame = Frame::decode(header.kind, payload)?;
        let expected = if frame.is_numbered() {
            self.received + 1
        } else {
            0
        };
        if header.number != expected {
            return Err(Violation::Number {
                expected,
                got: header.number,
            });
        }
        let State::Linked(liveness) = &mut self.state else {
            return Ok(());
        };
        liveness.hear(now);
        if frame.is_numbered() {
            self.received += 1;
            liveness.owe_ack(size, now);
        }
        self.act_on(frame)
    }

    fn act_on(&mut self, frame: Frame) -> Result<(), Violation> {
        let events = &mut self.events;
        match frame {
            Frame::Ack { through } => self.ledger.acknowledge(through),
            Frame::Ping { token } => {
                if let State::Linked(liveness) = &mut self.state {
                    liveness.owe_pong(token);
                }
                Ok(())
            }
            Frame::Pong { .. } => Ok(()),
            Frame::Close(reason) => {
                self.conclude(reason);
                Ok(())
            }
            Frame::Open { stream, request } => self.streams.take_open(stream, request, events),
            Frame::Opened { stream, opened } => {
                self.streams.take_answer(stream, Ok(opened), events)
            }
            Frame::Refused { stream, errno } => {
                self.streams.take_answer(stream, Err(errno), events)
            }
            Frame::Data { stream, bytes } => self.streams.take_data(stream, bytes, events),
            Frame::Datagram {
                stream,
                address,
                bytes,
            } => {
                if bytes.len() > DATAGRAM_MAX {
                    return Err(Violation::WrongKindOfStream);
                }
                self.streams.take_datagram(stream, address, &bytes, events)
            }
            Frame::Credit { stream, bytes } => self.streams.take_credit(stream, bytes),
            Frame::Finish { stream } => self.streams.take_finish(stream, events),
            Frame::Reset { stream, errno } => self.streams.take_reset(stream, errno, events),
            Frame::Call { call, request } => self.take_call(call, request),
            Frame::Answer { call, answer } => self.take_call_answer(call, answer),
            Frame::Notice(notice) => {
                self.must_be(Role::Client)?;
                self.events.push_back(Event::Noticed(notice));
                Ok(())
            }
        }
    }

    fn must_be(&self, role: Role) -> Result<(), Violation> {
        if self.role == role {
            Ok(())
        } else {
            Err(Violation::WrongSide)
        }
    }

    fn take_call(&mut self, call: CallId, request: Request) -> Result<(), Violation> {
        self.must_be(Role::Agent)?;
        let open = self.open_calls.len() + self.answered_calls.len();
        if open >= CALLS_MAX || self.answered_calls.contains(&call) || !self.open_calls.insert(call)
        {
            return Err(Violation::BadCall);
        }
        self.events.push_back(Event::Called { call, request });
        Ok(())
    }

    fn take_call_answer(&mut self, call: CallId, answer: Answer) -> Result<(), Violation> {
        self.must_be(Role::Client)?;
        if !self.open_calls.remove(&call) {
            return Err(Violation::BadCall);
        }
        self.events.push_back(Event::CallAnswered { call, answer });
        Ok(())
    }

    /// Asks for a stream; `Event::Answered` follows. Data may be written at once and arrives behind the request.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was asked.
    pub fn open(&mut self, request: OpenRequest) -> Result<StreamId, OpenError> {
        if self.is_closed() {
            return Err(OpenError::Closed);
        }
        sayable(&request).map_err(|source| OpenError::Unsayable { source })?;
        self.streams.open(request)
    }

    /// Answers a request: the stream stands.
    pub fn accept(&mut self, stream: StreamId, opened: Opened) {
        self.streams.answer(stream, Ok(opened));
    }

    /// Answers a request: the stream cannot be. It needs no `release`.
    pub fn refuse(&mut self, stream: StreamId, errno: Errno) {
        self.streams.answer(stream, Err(errno));
    }

    /// Sends as many of `bytes` as there is room for; `Event::Writable` follows if that was not all.
    ///
    /// # Errors
    /// Why nothing more can be sent on this stream.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) -> Result<usize, Errno> {
        self.streams.write(stream, bytes)
    }

    /// How many bytes `write` and `write_piece` take; after none of them, `Event::Writable` follows.
    ///
    /// # Errors
    /// Why nothing more can be sent on this stream.
    pub fn room(&mut self, stream: StreamId) -> Result<usize, Errno> {
        self.streams.room(stream)
    }

    /// Sends as many bytes off the front of `bytes` as there is room for, without a copy of more than a few; their
    /// memory, however much it is, is held until the other side has them. `Event::Writable` follows if that was not all.
    ///
    /// # Errors
    /// Why nothing more can be sent on this stream.
    pub fn write_piece(&mut self, stream: StreamId, bytes: &mut Bytes) -> Result<(), Errno> {
        self.streams.write_piece(stream, bytes)
    }

    /// Sends one datagram of at most [`DATAGRAM_MAX`] bytes; whether there was room for it.
    ///
    /// # Errors
    /// Why nothing more can be sent on this stream.
    pub fn write_datagram(
        &mut self,
        stream: StreamId,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<bool, Errno> {
        /// EMSGSIZE: what a socket says about too large a datagram.
        const TOO_LARGE: Errno = Errno(90);
        if bytes.len() > DATAGRAM_MAX {
            return Err(TOO_LARGE);
        }
        self.streams.write_datagram(stream, to, bytes)
    }

    /// The next bytes of a stream, at most `limit` of them, or its next datagram.
    ///
    /// # Errors
    /// Why nothing more comes.
    pub fn read(&mut self, stream: StreamId, limit: usize) -> Result<Read, Errno> {
        self.streams.read(stream, limit)
    }

    /// Whether something about a stream is to be said at once, as credit is for what was read.
    pub fn owes_credit(&self) -> bool {
        self.streams.has_control()
    }

    /// Why nothing more comes on a stream, unless it may still; `Event::Readable` tells of it.
    pub fn broken(&self, stream: StreamId) -> Option<Errno> {
        self.streams.broken(stream)
    }

    /// Sends nothing more on a stream after what was written; the other direction goes on.
    pub fn finish(&mut self, stream: StreamId) {
        self.streams.finish(stream);
    }

    /// Cuts a stream in both directions; what was written and not sent is lost. The reader gets what was sent before it
    /// gets the error.
    pub fn reset(&mut self, stream: StreamId, errno: Errno) {
        self.streams.reset(stream, errno);
    }

    /// Cuts a stream in both directions, behind what was written: that still goes as far as the reader has room, and then
    /// `Event::Writable` tells of it. One that was finished stays so. To be followed by `release`, which waits no longer.
    pub fn reset_behind(&mut self, stream: StreamId, errno: Errno) {
        self.streams.reset_behind(stream, errno);
    }

    /// Whether what `reset_behind` waits for is still to be sent.
    pub fn is_resetting(&self, stream: StreamId) -> bool {
        self.streams.is_resetting(stream)
    }

    /// Lets go of a stream that was opened or accepted; nothing is asked of it again. A finished one still sends what
    /// it has; an unfinished one is cut.
    pub fn release(&mut self, stream: StreamId) {
        self.streams.release(stream);
    }

    /// Asks the agent; `Event::CallAnswered` follows.
    ///
    /// # Errors
    /// [`CallError`]; nothing was asked.
    pub fn call(&mut self, request: Request) -> Result<CallId, CallError> {
        if self.is_closed() {
            return Err(CallError::Closed);
        }
        sayable(&request).map_err(|source| CallError::Unsayable { source })?;
        if self.open_calls.len() >= CALLS_MAX {
            return Err(CallError::TooMany);
        }
        let call = CallId(self.next_call);
        self.next_call = self.next_call.wrapping_add(1);
        self.open_calls.insert(call);
        self.words.push_back(Frame::Call { call, request });
        Ok(call)
    }

    /// Answers a call of the client's; one that is not open any more is ignored.
    ///
    /// # Errors
    /// [`CallError::Unsayable`]: the call stays open for a shorter answer.
    pub fn answer(&mut self, call: CallId, answer: Answer) -> Result<(), CallError> {
        sayable(&answer).map_err(|source| CallError::Unsayable { source })?;
        if self.open_calls.remove(&call) {
            self.answered_calls.insert(call);
            self.words.push_back(Frame::Answer { call, answer });
        }
        Ok(())
    }

    /// Tells the client; whether there was room for it.
    pub fn notify(&mut self, notice: Notice) -> bool {
        if self.is_closed() || self.waiting_notices >= NOTICES_MAX {
            return false;
        }
        self.waiting_notices += 1;
        self.words.push_back(Frame::Notice(notice));
        true
    }
}

/// Whether the other side can read what is to be said.
fn sayable<T: Wire>(value: &T) -> Result<(), DecodeError> {
    /// Bytes of a frame that are not the value: the name of a stream or call.
    const NAME_BYTES: usize = 4;
    let mut bytes = BytesMut::new();
    value.put(&mut bytes);
    if bytes.len() > PAYLOAD_MAX - NAME_BYTES {
        return Err(DecodeError::TooLong {
            what: "message",
            length: bytes.len(),
            limit: PAYLOAD_MAX - NAME_BYTES,
        });
    }
    T::take_all(bytes.freeze(), "message").map(|_| ())
}

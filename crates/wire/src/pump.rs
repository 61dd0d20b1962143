//! A connection on a runtime: carried over byte streams, its streams and calls handed to tasks.
//!
//! ```text
//!  Session (any number of tasks)                 carrier (one task a link)
//!    open, call, Stream read and write  <-lock->   reads the link  -> Connection::receive
//!                                                  writes the link <- Connection::poll_transmit
//!  Inbox (one task)    <- what the other side asks for
//! ```
//!
//! The client's side dials, and dials again (`client`); the agent's side greets who comes (`guest`). Owns waking and
//! waiting; every rule of the protocol is `connection`'s. A lock is held for one step of the machine, never across
//! anything that waits.

mod carrier;
mod client;
mod guest;
mod outbox;
mod relay;
mod stream;
mod tcp_end;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use self::client::{ConnectError, connect};
pub use self::guest::{Guest, GuestError, greet};
pub use self::relay::{LAST_BYTES_WITHIN, Relay, relay};
pub use self::stream::Stream;
pub use self::tcp_end::{TcpEnd, keep_alive};
use crate::clock::Clock;
use crate::connection::{CallError, Connection, Event, NOTICES_MAX, OpenError, Role};
use crate::frame::{CallId, StreamId};
use crate::key::{Nonce, SessionId};
use crate::message::{Answer, CloseReason, Errno, Notice, OpenRequest, Opened, Request};

/// The longest that a greeting takes before the link is dropped.
pub const GREETING_WITHIN: Duration = Duration::from_secs(10);

/// One session, to be used by any number of tasks. The session goes on while its link is away, until it is closed.
#[derive(Debug, Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

/// What the other side asks for and tells, in order.
#[derive(Debug)]
pub struct Inbox {
    // A stream or call that waits here is counted by the connection until it is taken and dropped, though the other side
    // may have given it up: the connection's limits bound the channel.
    asked_rx: mpsc::UnboundedReceiver<Inbound>,
    noticed_rx: mpsc::Receiver<Notice>,
}

/// One thing that the other side asks for or tells.
#[derive(Debug)]
pub enum Inbound {
    /// A stream.
    Stream(Offer),
    /// A call; only an agent gets them.
    Call(Question),
    /// News; only a client gets them.
    Notice(Notice),
}

/// A stream that the other side asks for. Dropped, it is refused with ECONNRESET.
#[derive(Debug)]
pub struct Offer {
    request: OpenRequest,
    stream: Option<Stream>,
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Question {
    request: Request,
    call: CallId,
    shared: Arc<Shared>,
}

/// Why a stream does not stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailure {
    /// It was not asked for.
    #[error("the stream cannot be asked for")]
    NotAsked {
        /// Why.
        #[from]
        source: OpenError,
    },
    /// The other side says that it cannot be.
    #[error("the stream is refused with error {}", errno.0)]
    Refused {
        /// With what a local socket would say.
        errno: Errno,
    },
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    inner: Mutex<Inner>,
    /// There may be something to send.
    speak: Notify,
    /// Which link carries the session, by counting. Changes in the step that attaches one; a carrier whose link it is no
    /// longer neither takes from it nor speaks into it, and ends.
    links: watch::Sender<u64>,
    /// Whether a link carries the session.
    linked: watch::Sender<bool>,
    /// How many links are being served, the last words of a session included.
    carriers: watch::Sender<usize>,
    closed: watch::Sender<Option<CloseReason>>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    streams: HashMap<StreamId, Waiting>,
    calls: HashMap<CallId, oneshot::Sender<Answer>>,
    asked_tx: mpsc::UnboundedSender<Inbound>,
    noticed_tx: mpsc::Sender<Notice>,
}

/// Who waits for something of a stream.
#[derive(Debug, Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
    answer: Option<oneshot::Sender<Result<Opened, Errno>>>,
}

impl Session {
    /// A session without a link. Apart for longer than `grace`, it is over.
    pub fn new(role: Role, grace: Duration) -> (Self, Inbox) {
        let clock = Clock::start();
        let (asked_tx, asked_rx) = mpsc::unbounded_channel();
        let (noticed_tx, noticed_rx) = mpsc::channel(NOTICES_MAX);
        let inner = Inner {
            connection: Connection::new(role, grace, clock.now()),
            streams: HashMap::new(),
            calls: HashMap::new(),
            asked_tx,
            noticed_tx,
        };
        let shared = Arc::new(Shared {
            clock,
            inner: Mutex::new(inner),
            speak: Notify::new(),
            links: watch::Sender::new(0),
            linked: watch::Sender::new(false),
            carriers: watch::Sender::new(0),
            closed: watch::Sender::new(None),
        });
        let inbox = Inbox {
            asked_rx,
            noticed_rx,
        };
        (Self { shared }, inbox)
    }

    /// Asks for a stream and waits for the answer. Dropped meanwhile, the request is taken back.
    ///
    /// # Errors
    /// [`OpenFailure`], with the other side's error number where it has one.
    pub async fn open(&self, request: OpenRequest) -> Result<(Stream, Opened), OpenFailure> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let stream = self.begin(request, Some(answer_tx))?;
        // Nobody answers any more once the session is over.
        match answer_rx.await.unwrap_or(Err(Errno::ECONNRESET)) {
            Ok(opened) => Ok((stream, opened)),
            Err(errno) => Err(OpenFailure::Refused { errno }),
        }
    }

    /// Asks for a stream without waiting: what is written arrives behind the request, and a refusal shows as an error
    /// of reading and writing.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was asked.
    pub fn offer(&self, request: OpenRequest) -> Result<Stream, OpenError> {
        self.begin(request, None)
    }

    fn begin(
        &self,
        request: OpenRequest,
        answer: Option<oneshot::Sender<Result<Opened, Errno>>>,
    ) -> Result<Stream, OpenError> {
        self.shared.step(|inner| {
            let id = inner.connection.open(request)?;
            let waiting = Waiting {
                answer,
                ..Waiting::default()
            };
            inner.streams.insert(id, waiting);
            Ok(Stream::new(Arc::clone(&self.shared), id))
        })
    }

    /// Asks the agent and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Closed`] as well when the session ends before the answer.
    pub async fn call(&self, request: Request) -> Result<Answer, CallError> {
        let (answer_tx, answer_rx) = oneshot::channel();
        self.shared.step(|inner| {
            let call = inner.connection.call(request)?;
            inner.calls.insert(call, answer_tx);
            Ok(())
        })?;
        answer_rx.await.map_err(|_| CallError::Closed)
    }

    /// Tells the client; whether there was room for it.
    pub fn notify(&self, notice: Notice) -> bool {
        self.shared.step(|inner| inner.connection.notify(notice))
    }

    /// Ends the session for both sides.
    pub fn close(&self, reason: CloseReason) {
        self.shared.step(|inner| inner.connection.close(reason));
    }

    /// Ends the session for both sides, and waits until its last words have gone out, or their link is given up.
    pub async fn leave(&self, reason: CloseReason) {
        self.close(reason);
        let mut carriers_rx = self.shared.carriers.subscribe();
        // The sender lives in `self`.
        carriers_rx.wait_for(|carriers| *carriers == 0).await.ok();
    }

    /// Waits for the end of the session.
    pub async fn closed(&self) -> CloseReason {
        let mut closed_rx = self.shared.closed.subscribe();
        let reason = closed_rx.wait_for(Option::is_some).await;
        let reason = reason.expect("the sender lives in `self`").clone();
        reason.expect("it was waited for")
    }

    /// Waits out a lost link: until another one carries the session, or its grace or itself is over.
    pub async fn wait_apart(&self) {
        let mut links_rx = self.shared.links.subscribe();
        loop {
            let deadline = {
                let inner = self.shared.lock();
                if inner.connection.is_linked() || inner.connection.is_closed() {
                    return;
                }
                inner.connection.next_timeout()
            };
            tokio::select! {
                _ = links_rx.changed() => {}
                _ = self.closed() => {}
                () = self.shared.clock.wait_until(deadline) => {
                    let now = self.shared.clock.now();
                    self.shared.step(|inner| inner.connection.handle_timeout(now));
                }
            }
        }
    }

    /// Waits until no link has carried the session for `patience`, or it is over.
    pub async fn lost_for(&self, patience: Duration) {
        let mut linked_rx = self.shared.linked.subscribe();
        while !self.is_closed() {
            // The sender lives in `self`.
            linked_rx.wait_for(|linked| !linked).await.ok();
            let back = linked_rx.wait_for(|linked| *linked);
            tokio::select! {
                _ = self.closed() => return,
                back = tokio::time::timeout(patience, back) => {
                    if back.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether both are the same session.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.borrow().is_some()
    }

    /// Whether a link carries the session at this moment.
    pub fn is_linked(&self) -> bool {
        *self.shared.linked.borrow()
    }

    /// Whether the other side may not know of this session yet: a greeting was cut off before its end.
    pub fn is_untouched(&self) -> bool {
        self.shared.lock().connection.is_untouched()
    }

    /// Streams that are not over.
    pub fn streams(&self) -> usize {
        self.shared.lock().connection.streams()
    }

    /// Bytes of finished streams that are still to be sent. At zero, `leave` loses nothing of them.
    pub fn unsent(&self) -> usize {
        self.shared.lock().connection.unsent()
    }

    /// Bytes held for streams and for a lost link.
    pub fn held(&self) -> usize {
        self.shared.lock().connection.held()
    }
}

impl Inbox {
    /// The next thing; nothing more once the session is over.
    pub async fn next(&mut self) -> Option<Inbound> {
        tokio::select! {
            biased;
            asked = self.asked_rx.recv() => asked,
            Some(notice) = self.noticed_rx.recv() => Some(Inbound::Notice(notice)),
        }
    }
}

impl Offer {
    /// What the stream is to be.
    pub fn request(&self) -> &OpenRequest {
        &self.request
    }

    /// Waits until the other side takes the request back.
    pub async fn withdrawn(&self) {
        if let Some(stream) = &self.stream {
            stream.cut().await;
        }
    }

    /// The stream stands.
    pub fn accept(mut self, opened: Opened) -> Stream {
        let stream = self.stream.take().expect("an offer is answered once");
        stream.accept(opened);
        stream
    }

    /// The stream cannot be.
    pub fn refuse(mut self, errno: Errno) {
        let stream = self.stream.take().expect("an offer is answered once");
        stream.refuse(errno);
    }
}

impl Question {
    /// What is asked.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Answers.
    ///
    /// # Errors
    /// [`CallError::Unsayable`] and the question again, for a shorter answer.
    pub fn answer(self, answer: Answer) -> Result<(), (CallError, Self)> {
        let call = self.call;
        self.shared
            .step(|inner| inner.connection.answer(call, answer))
            .map_err(|error| (error, self))
    }
}

impl Shared {
    /// Another link carries the session from now on, and this is its number. For the step that attaches it.
    fn next_link(&self) -> u64 {
        self.links.send_modify(|links| *links += 1);
        *self.links.borrow()
    }

    /// Whether the link with the number `link` still carries the session. For within a step.
    fn is_carried_by(&self, link: u64) -> bool {
        *self.links.borrow() == link
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no step of the machine panics while it is locked")
    }

    /// One step, whatever follows from it, and a nudge for the carrier.
    fn step<R>(self: &Arc<Self>, act: impl FnOnce(&mut Inner) -> R) -> R {
        let outcome = self.quiet_step(act);
        self.speak.notify_one();
        outcome
    }

    /// A step of the carrier's own.
    fn quiet_step<R>(self: &Arc<Self>, act: impl FnOnce(&mut Inner) -> R) -> R {
        let mut unwanted = Vec::new();
        let mut inner = self.lock();
        let outcome = act(&mut inner);
        self.settle(&mut inner, &mut unwanted);
        let linked = inner.connection.is_linked();
        self.linked
            .send_if_modified(|known| std::mem::replace(known, linked) != linked);
        drop(inner);
        // What nobody takes refuses itself, which is a step of its own.
        drop(unwanted);
        outcome
    }

    /// Hands out what happened; what nobody takes is to be dropped without the lock.
    fn settle(self: &Arc<Self>, inner: &mut Inner, unwanted: &mut Vec<Inbound>) {
        while let Some(event) = inner.connection.poll_event() {
            match event {
                Event::Requested { stream, request } => {
                    inner.streams.insert(stream, Waiting::default());
                    let offer = Offer {
                        request,
                        stream: Some(Stream::new(Arc::clone(self), stream)),
                    };
                    unwanted.extend(inner.hand(Inbound::Stream(offer)));
                }
                Event::Called { call, request } => {
                    let shared = Arc::clone(self);
                    let question = Question {
                        request,
                        call,
                        shared,
                    };
                    unwanted.extend(inner.hand(Inbound::Call(question)));
                }
                Event::Closed(reason) => self.settle_end(inner, reason),
                Event::Answered { stream, answer } => {
                    let waiting = inner.streams.get_mut(&stream);
                    if let Some(answer_tx) = waiting.and_then(|waiting| waiting.answer.take()) {
                        // Who asked may have gone.
                        answer_tx.send(answer).ok();
                    }
                }
                Event::Readable(stream) => {
                    let waiting = inner.streams.get_mut(&stream);
                    if let Some(waker) = waiting.and_then(|waiting| waiting.reader.take()) {
                        waker.wake();
                    }
                }
                Event::Writable(stream) => {
                    let waiting = inner.streams.get_mut(&stream);
                    if let Some(waker) = waiting.and_then(|waiting| waiting.writer.take()) {
                        waker.wake();
                    }
                }
                Event::CallAnswered { call, answer } => {
                    if let Some(answer_tx) = inner.calls.remove(&call) {
                        answer_tx.send(answer).ok();
                    }
                }
                // One more than fits is lost: a client that does not listen has no use for it.
                Event::Noticed(notice) => {
                    inner.noticed_tx.try_send(notice).ok();
                }
                // The carrier sees that the connection has no link any more.
                Event::LinkLost => {}
            }
        }
    }

    /// Everybody who waits learns that nothing comes.
    fn settle_end(&self, inner: &mut Inner, reason: CloseReason) {
        for waiting in inner.streams.values_mut() {
            let Waiting {
                reader,
                writer,
                answer,
            } = std::mem::take(waiting);
            [reader, writer].into_iter().flatten().for_each(Waker::wake);
            drop(answer);
        }
        inner.calls.clear();
        // The inbox ends with its senders.
        inner.asked_tx = mpsc::unbounded_channel().0;
        inner.noticed_tx = mpsc::channel(1).0;
        self.closed.send_replace(Some(reason));
    }
}

impl Inner {
    /// Hands something to the inbox, or back where there is none any more.
    fn hand(&mut self, inbound: Inbound) -> Option<Inbound> {
        self.asked_tx.send(inbound).err().map(|unsent| unsent.0)
    }
}

impl Nonce {
    /// A nonce that nobody has used.
    pub fn draw() -> Self {
        Self(rand::random())
    }
}

impl SessionId {
    /// An id that nobody has.
    pub fn draw() -> Self {
        Self(rand::random())
    }
}

//! One stream and its flow control: what waits to be sent, what waits to be read, and how far each side may go.
//!
//! ```text
//!            write                                       read
//! SendHalf --------> buffer (at most SEND_BUFFER_MAX)   ReceiveHalf: buffer (at most the window)
//!    open: takes bytes                                     open: gives bytes, grants credit
//!    finishing: sends what it has, then Finish             finished: gives what it has, then the end
//!    cutting(errno): sends what it has, then Reset         cut(errno): gives what it has, then says why
//!    dead(errno): says why                                 dead(errno): says why
//! ```
//!
//! Owns the two halves and their bounds. Which frame goes when is for `connection`.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

use super::Violation;
use super::pieces::Pieces;
use crate::frame::{DATA_MAX, DATAGRAM_MAX};
use crate::message::{Errno, OpenRequest, Opened};

/// Bytes that wait to be sent on one stream before its writer waits: four frames.
pub(super) const SEND_BUFFER_MAX: usize = 4 * DATA_MAX;

/// Bytes that a new stream may send before its reader has read any: two frames, so that the first is on its way while
/// the second is made.
pub(super) const WINDOW: usize = 2 * DATA_MAX;

/// What a stream's window may grow to while its reader keeps up: 20 MB/s at 100 ms of round trip.
pub(super) const WINDOW_MAX: usize = 2 * 1024 * 1024;

/// Credit that a datagram costs beyond its bytes, so that empty ones are not free.
pub(super) const DATAGRAM_COST: usize = 64;

/// The window of a stream of datagrams, which never grows: two of the largest.
pub(super) const DATAGRAM_WINDOW: usize = 2 * (DATAGRAM_MAX + DATAGRAM_COST);

/// One stream of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) datagrams: bool,
    pub(super) send: SendHalf,
    pub(super) receive: ReceiveHalf,
    pub(super) control: Control,
    /// The application let go of it: it goes as soon as all is said.
    pub(super) released: bool,
    /// This side asked for it and has no answer yet.
    pub(super) awaits_answer: bool,
    /// Whether it stands in the connection's queues.
    pub(super) in_control_queue: bool,
    pub(super) in_data_queue: bool,
}

/// Frames about the stream that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) open: Option<OpenRequest>,
    pub(super) answer: Option<Result<Opened, Errno>>,
    pub(super) credit: u32,
    pub(super) reset: Option<Errno>,
    /// A reset follows the finish: the application reads no more.
    pub(super) stop_after_finish: bool,
}

impl Control {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.answer.is_none() && self.credit == 0 && self.reset.is_none()
    }
}

/// Whether the end of a half was asked for and said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    No,
    Asked,
    /// A reset is to follow what was written.
    Cut(Errno),
    Said,
}

/// What goes out.
#[derive(Debug)]
pub(super) struct SendHalf {
    bytes: Pieces,
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    buffered: usize,
    credit: usize,
    pub(super) finish: Finish,
    pub(super) dead: Option<Errno>,
    /// A writer found it full.
    pub(super) writer_waits: bool,
}

/// What a half has for the next frame.
#[derive(Debug)]
pub(super) enum Outgoing {
    Data(Bytes),
    Datagram(SocketAddr, Bytes),
    Finish,
    Reset(Errno),
}

impl SendHalf {
    /// A half that may send `credit` bytes at first.
    pub(super) fn new(credit: usize) -> Self {
        Self {
            bytes: Pieces::default(),
            datagrams: VecDeque::new(),
            buffered: 0,
            credit,
            finish: Finish::No,
            dead: None,
            writer_waits: false,
        }
    }

    /// How many bytes there is room for; a writer who finds none waits.
    pub(super) fn room(&mut self) -> Result<usize, Errno> {
        self.check()?;
        let room = SEND_BUFFER_MAX - self.buffered;
        self.writer_waits = room == 0;
        Ok(room)
    }

    /// Takes as many of `bytes` as there is room for.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let taken = bytes.len().min(self.room()?);
        self.bytes.copy(&bytes[..taken]);
        self.buffered += taken;
        self.writer_waits = taken < bytes.len();
        Ok(taken)
    }

    /// Takes as many off the front of `bytes` as there is room for, with their memory.
    pub(super) fn write_piece(&mut self, bytes: &mut Bytes) -> Result<(), Errno> {
        let taken = bytes.len().min(self.room()?);
        self.bytes.push(bytes.split_to(taken));
        self.buffered += taken;
        self.writer_waits = !bytes.is_empty();
        Ok(())
    }

    /// Takes one datagram, or drops it where there is no room; whether it was taken.
    pub(super) fn write_datagram(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<bool, Errno> {
        self.check()?;
        let cost = bytes.len() + DATAGRAM_COST;
        if self.buffered + cost > DATAGRAM_WINDOW {
            return Ok(false);
        }
        self.buffered += cost;
        self.datagrams
            .push_back((to, Bytes::copy_from_slice(bytes)));
        Ok(true)
    }

    fn check(&self) -> Result<(), Errno> {
        match (self.dead, self.finish) {
            (Some(errno), _) => Err(errno),
            (None, Finish::Asked | Finish::Cut(_) | Finish::Said) => Err(Errno::EPIPE),
            (None, Finish::No) => Ok(()),
        }
    }

    /// Whether there is something that may go now.
    pub(super) fn is_sendable(&self) -> bool {
        if self.dead.is_some() {
            return false;
        }
        if let Some((_, datagram)) = self.datagrams.front() {
            return self.credit >= datagram.len() + DATAGRAM_COST;
        }
        if !self.bytes.is_empty() {
            return self.credit > 0;
        }
        matches!(self.finish, Finish::Asked | Finish::Cut(_))
    }

    /// The next of it.
    pub(super) fn take(&mut self) -> Option<Outgoing> {
        if !self.is_sendable() {
            return None;
        }
        if let Some((address, datagram)) = self.datagrams.pop_front() {
            let cost = datagram.len() + DATAGRAM_COST;
            self.credit -= cost;
            self.buffered -= cost;
            return Some(Outgoing::Datagram(address, datagram));
        }
        if let Some(bytes) = self.bytes.take(DATA_MAX.min(self.credit)) {
            self.credit -= bytes.len();
            self.buffered -= bytes.len();
            return Some(Outgoing::Data(bytes));
        }
        if let Finish::Cut(errno) = self.finish {
            self.kill(errno);
            return Some(Outgoing::Reset(errno));
        }
        self.finish = Finish::Said;
        Some(Outgoing::Finish)
    }

    /// Whether a writer that found it full should try again; asked once.
    pub(super) fn take_writable(&mut self) -> bool {
        let writable = self.writer_waits && self.buffered <= SEND_BUFFER_MAX / 2;
        if writable {
            self.writer_waits = false;
        }
        writable
    }

    /// The reader has room for so many bytes more.
    pub(super) fn grant(&mut self, bytes: usize) -> Result<(), Violation> {
        self.credit += bytes;
        if self.credit > WINDOW_MAX.max(DATAGRAM_WINDOW) {
            return Err(Violation::CreditBeyondWindow);
        }
        Ok(())
    }

    /// Nothing more goes out.
    pub(super) fn kill(&mut self, errno: Errno) {
        if self.finish != Finish::Said {
            self.dead.get_or_insert(errno);
        }
        self.bytes = Pieces::default();
        self.datagrams = VecDeque::new();
        self.buffered = 0;
    }

    /// Whether its end is asked for and not said yet.
    pub(super) fn is_ending(&self) -> bool {
        self.dead.is_none() && matches!(self.finish, Finish::Asked | Finish::Cut(_))
    }

    /// Whether nothing will ever be said by it.
    pub(super) fn is_over(&self) -> bool {
        self.dead.is_some() || self.finish == Finish::Said
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.buffered
    }
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The next bytes, never none.
    Data(Bytes),
    /// The next datagram and who sent it.
    Datagram(SocketAddr, Bytes),
    /// Nothing yet: `Event::Readable` follows.
    Nothing,
    /// Nothing more, ever.
    End,
}

/// What came in.
#[derive(Debug)]
pub(super) struct ReceiveHalf {
    bytes: Pieces,
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    buffered: usize,
    /// What the other side may still send.
    credit: usize,
    /// What it may have under way at most.
    window: usize,
    /// What the window was at first.
    base: usize,
    /// Read since the window last grew.
    since_growth: usize,
    pub(super) finished: bool,
    /// What the other side cut it with, which stands behind what came before.
    pub(super) cut: Option<Errno>,
    pub(super) dead: Option<Errno>,
    /// A reader found it empty.
    pub(super) reader_waits: bool,
}

impl ReceiveHalf {
    /// A half whose other side may send `window` bytes at first.
    pub(super) fn new(window: usize) -> Self {
        Self {
            bytes: Pieces::default(),
            datagrams: VecDeque::new(),
            buffered: 0,
            credit: window,
            window,
            base: window,
            since_growth: 0,
            finished: false,
            cut: None,
            dead: None,
            // The first bytes are news.
            reader_waits: true,
        }
    }

    /// Keeps what came; nothing of it if nobody will read it.
    pub(super) fn take_in(&mut self, bytes: Bytes) -> Result<(), Violation> {
        self.spend(bytes.len())?;
        if self.broken().is_some() {
            return Ok(());
        }
        self.buffered += bytes.len();
        self.bytes.push(bytes);
        Ok(())
    }

    /// Keeps a datagram that came.
    pub(super) fn take_in_datagram(
        &mut self,
        from: SocketAddr,
        bytes: &Bytes,
    ) -> Result<(), Violation> {
        let cost = bytes.len() + DATAGRAM_COST;
        self.spend(cost)?;
        if self.broken().is_none() {
            self.buffered += cost;
            self.datagrams
                .push_back((from, Bytes::copy_from_slice(bytes)));
        }
        Ok(())
    }

    fn spend(&mut self, cost: usize) -> Result<(), Violation> {
        if self.finished {
            return Err(Violation::AfterFinish);
        }
        self.credit = self.credit.checked_sub(cost).ok_or(Violation::OverCredit)?;
        Ok(())
    }

    /// The next bytes, at most `limit` of them; or the next datagram.
    pub(super) fn read(&mut self, limit: usize) -> Result<Read, Errno> {
        if let Some(errno) = self.dead {
            return Err(errno);
        }
        if let Some((from, datagram)) = self.datagrams.pop_front() {
            self.consume(datagram.len() + DATAGRAM_COST);
            return Ok(Read::Datagram(from, datagram));
        }
        let Some(bytes) = self.bytes.take(limit) else {
            if self.finished {
                return Ok(Read::End);
            }
            if let Some(errno) = self.cut {
                return Err(errno);
            }
            self.reader_waits = true;
            return Ok(Read::Nothing);
        };
        self.consume(bytes.len());
        Ok(Read::Data(bytes))
    }

    fn consume(&mut self, bytes: usize) {
        self.buffered -= bytes;
        self.since_growth += bytes;
    }

    /// Whether the reader keeps up with more than its window, which may then grow.
    pub(super) fn wants_growth(&self) -> bool {
        self.base == WINDOW
            && self.buffered == 0
            && !self.finished
            && self.since_growth >= self.window
            && self.window < WINDOW_MAX
    }

    /// Doubles the window; by how much it grew.
    pub(super) fn grow(&mut self) -> usize {
        let extra = self.window.min(WINDOW_MAX - self.window);
        self.window += extra;
        self.since_growth = 0;
        extra
    }

    /// What a grown window holds beyond a new one.
    pub(super) fn extra(&self) -> usize {
        self.window - self.base
    }

    /// Credit that is worth a frame: half a window. It counts as granted.
    pub(super) fn take_grant(&mut self) -> usize {
        let owed = self.window - self.credit - self.buffered;
        if self.is_over() || owed * 2 < self.window {
            return 0;
        }
        self.credit += owed;
        owed
    }

    /// Whether a reader that found it empty should try again; asked once.
    pub(super) fn take_readable(&mut self) -> bool {
        std::mem::take(&mut self.reader_waits)
    }

    /// Nothing more is read.
    pub(super) fn kill(&mut self, errno: Errno) {
        self.dead.get_or_insert(errno);
        self.bytes = Pieces::default();
        self.datagrams = VecDeque::new();
        self.buffered = 0;
    }

    /// Why nothing more comes, unless it may still or has ended in order.
    pub(super) fn broken(&self) -> Option<Errno> {
        self.dead.or(self.cut)
    }

    /// Whether nothing will ever come.
    pub(super) fn is_over(&self) -> bool {
        self.finished || self.broken().is_some()
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.buffered
    }
}

#[cfg(test)]
mod tests;

//! All streams of a connection: their names, their turns, their share of memory.
//!
//! Control frames go before data, and data goes in turns of one frame a stream, so no stream keeps another from
//! speaking. A stream that nobody reads holds its own window and nothing else: there is no window that streams share.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::stream::{
    Control, DATAGRAM_WINDOW, Finish, Outgoing, Read, ReceiveHalf, SendHalf, Stream, WINDOW,
};
use super::{Event, OpenError, Role, Violation};
use crate::frame::{Frame, StreamId};
use crate::message::{Errno, OpenRequest, Opened};

/// Streams at once, of both sides together: windows and send buffers of all of them stay below 200 MiB, and below
/// 1 MiB as long as they are read.
pub const STREAMS_MAX: usize = 2048;

/// Of these, streams that the agent began: a busy port's clients, each of which may stay for hours, must leave the program
/// room for connections of its own.
pub const INCOMING_MAX: usize = STREAMS_MAX / 4 * 3;

/// Bytes by which all windows together may have grown.
pub(super) const GROWTH_MAX: usize = 32 * 1024 * 1024;

/// The streams of one side of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    role: Role,
    table: BTreeMap<StreamId, Stream>,
    next_ours: u32,
    highest_theirs: u32,
    /// Streams with control frames to send, and with data to send, in turns.
    control_queue: VecDeque<StreamId>,
    data_queue: VecDeque<StreamId>,
    /// Streams that the other side asked for and that there is no room for.
    refused: VecDeque<StreamId>,
    growth: usize,
}

impl Streams {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            table: BTreeMap::new(),
            next_ours: role.first_stream(),
            highest_theirs: 0,
            control_queue: VecDeque::new(),
            data_queue: VecDeque::new(),
            refused: VecDeque::new(),
            growth: 0,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.table.len()
    }

    /// Whether a control frame waits.
    pub(super) fn has_control(&self) -> bool {
        !self.control_queue.is_empty()
    }

    /// Bytes held for all of them.
    pub(super) fn held(&self) -> usize {
        let held = |stream: &Stream| stream.send.held() + stream.receive.held();
        self.table.values().map(held).sum()
    }

    /// Bytes of finished streams that are still to be sent, each end counted as one.
    pub(super) fn unsent(&self) -> usize {
        let sending = self.table.values().map(|stream| &stream.send);
        let ending = sending.filter(|send| send.is_ending());
        ending.map(|send| send.held() + 1).sum()
    }

    /// The session is over: of every stream that the other side has ended and somebody reads, the rest stays readable.
    pub(super) fn conclude(&mut self) {
        self.control_queue.clear();
        self.data_queue.clear();
        self.refused.clear();
        self.table.retain(|_, stream| {
            stream.send.kill(Errno::ECONNRESET);
            stream.control = Control::default();
            let receive = &stream.receive;
            receive.is_over() && receive.dead.is_none() && !stream.released
        });
        self.growth = self.table.values().map(|it| it.receive.extra()).sum();
    }

    /// Why nothing more comes on a stream, unless it may still.
    pub(super) fn broken(&self, id: StreamId) -> Option<Errno> {
        let stream = self.table.get(&id);
        stream.map_or(Some(Errno::ECONNRESET), |stream| stream.receive.broken())
    }

    fn has_room_for(&self, request: &OpenRequest) -> bool {
        if request.is_the_clients() || self.table.len() < INCOMING_MAX {
            return self.table.len() < STREAMS_MAX;
        }
        let is_incoming = |id: &&StreamId| id.0 % 2 == Role::Agent.first_stream() % 2;
        self.table.len() < STREAMS_MAX
            && self.table.keys().filter(is_incoming).count() < INCOMING_MAX
    }

    pub(super) fn open(&mut self, request: OpenRequest) -> Result<StreamId, OpenError> {
        if !self.has_room_for(&request) {
            return Err(OpenError::TooMany);
        }
        let next = self.next_ours.checked_add(2).ok_or(OpenError::TooMany)?;
        let id = StreamId(std::mem::replace(&mut self.next_ours, next));
        let mut stream = new_stream(&request);
        stream.control.open = Some(request);
        stream.awaits_answer = true;
        self.table.insert(id, stream);
        self.queue(id);
        Ok(id)
    }

    pub(super) fn answer(&mut self, id: StreamId, answer: Result<Opened, Errno>) {
        let Some(stream) = self.table.get_mut(&id) else {
            return;
        };
        if let Err(errno) = answer {
            stream.send.kill(errno);
            stream.receive.kill(errno);
            stream.control = Control::default();
            stream.released = true;
        }
        // A stream that the other side has cut needs no answer.
        if answer.is_err() || !(stream.send.is_over() && stream.receive.is_over()) {
            stream.control.answer = Some(answer);
        }
        self.queue(id);
    }

    pub(super) fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, Errno> {
        let stream = self.table.get_mut(&id).ok_or(Errno::ECONNRESET)?;
        let taken = stream.send.write(bytes)?;
        self.queue(id);
        Ok(taken)
    }

    pub(super) fn room(&mut self, id: StreamId) -> Result<usize, Errno> {
        let stream = self.table.get_mut(&id).ok_or(Errno::ECONNRESET)?;
        stream.send.room()
    }

    pub(super) fn write_piece(&mut self, id: StreamId, bytes: &mut Bytes) -> Result<(), Errno> {
        let stream = self.table.get_mut(&id).ok_or(Errno::ECONNRESET)?;
        stream.send.write_piece(bytes)?;
        self.queue(id);
        Ok(())
    }

    pub(super) fn write_datagram(
        &mut self,
        id: StreamId,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<bool, Errno> {
        let stream = self.table.get_mut(&id).ok_or(Errno::ECONNRESET)?;
        let taken = stream.send.write_datagram(to, bytes)?;
        self.queue(id);
        Ok(taken)
    }

    pub(super) fn read(&mut self, id: StreamId, limit: usize) -> Result<Read, Errno> {
        let stream = self.table.get_mut(&id).ok_or(Errno::ECONNRESET)?;
        let read = stream.receive.read(limit)?;
        if stream.receive.wants_growth() && self.growth + WINDOW <= GROWTH_MAX {
            self.growth += stream.receive.grow();
        }
        let grant = stream.receive.take_grant();
        if grant > 0 {
            stream.control.credit += u32::try_from(grant).expect("windows are below 4 GiB");
            self.queue(id);
        }
        Ok(read)
    }

    pub(super) fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.table.get_mut(&id)
            && stream.send.finish == Finish::No
        {
            stream.send.finish = Finish::Asked;
            self.queue(id);
        }
    }

    pub(super) fn reset(&mut self, id: StreamId, errno: Errno) {
        let Some(stream) = self.table.get_mut(&id) else {
            return;
        };
        let unheard_of = stream.control.open.is_some();
        let over = stream.send.is_over() && stream.receive.is_over();
        stream.send.kill(errno);
        stream.receive.kill(errno);
        stream.control = Control::default();
        if !unheard_of && !over {
            stream.control.reset = Some(errno);
        }
        self.queue(id);
    }

    /// Cuts the stream behind what was written; an end that was asked for already stays one.
    pub(super) fn reset_behind(&mut self, id: StreamId, errno: Errno) {
        let Some(stream) = self.table.get_mut(&id) else {
            return;
        };
        if stream.control.open.is_some() {
            return self.reset(id, errno);
        }
        if stream.send.dead.is_none() {
            match stream.send.finish {
                Finish::No => stream.send.finish = Finish::Cut(errno),
                Finish::Asked => stream.control.stop_after_finish = true,
                Finish::Said if !stream.receive.is_over() => stream.control.reset = Some(errno),
                Finish::Cut(_) | Finish::Said => {}
            }
        }
        stream.receive.kill(errno);
        stream.control.credit = 0;
        self.queue(id);
    }

    /// Whether a cut still waits behind what was written.
    pub(super) fn is_resetting(&self, id: StreamId) -> bool {
        let stream = self.table.get(&id);
        stream.is_some_and(|stream| stream.send.is_ending())
    }

    pub(super) fn release(&mut self, id: StreamId) {
        let Some(stream) = self.table.get_mut(&id) else {
            return;
        };
        stream.released = true;
        let ends_in_order = matches!(stream.send.finish, Finish::Asked | Finish::Said);
        if !ends_in_order && stream.send.dead.is_none() {
            self.reset(id, Errno::ECONNRESET);
        } else if !stream.receive.is_over() {
            stream.receive.kill(Errno::ECONNRESET);
            stream.control.credit = 0;
            match stream.send.finish {
                Finish::Asked if stream.send.dead.is_none() => {
                    stream.control.stop_after_finish = true;
                }
                Finish::No | Finish::Asked | Finish::Cut(_) | Finish::Said => {
                    stream.control.reset = Some(Errno::ECONNRESET);
                }
            }
        }
        self.queue(id);
    }

    /// Puts the stream into the queues that it has something for, or away if it is over.
    fn queue(&mut self, id: StreamId) {
        let Some(stream) = self.table.get_mut(&id) else {
            return;
        };
        if !stream.control.is_empty() && !stream.in_control_queue {
            stream.in_control_queue = true;
            self.control_queue.push_back(id);
        }
        if stream.send.is_sendable() && !stream.in_data_queue {
            stream.in_data_queue = true;
            self.data_queue.push_back(id);
        }
        let over = stream.send.is_over() && stream.receive.is_over();
        if stream.released && over && stream.control.is_empty() {
            self.growth -= stream.receive.extra();
            self.table.remove(&id);
        }
    }

    /// The next frame that some stream has to send.
    pub(super) fn next_frame(&mut self, events: &mut VecDeque<Event>) -> Option<Frame> {
        if let Some(stream) = self.refused.pop_front() {
            let errno = Errno::EMFILE;
            return Some(Frame::Refused { stream, errno });
        }
        self.next_control().or_else(|| self.next_data(events))
    }

    fn next_control(&mut self) -> Option<Frame> {
        while let Some(id) = self.control_queue.pop_front() {
            let Some(stream) = self.table.get_mut(&id) else {
                continue;
            };
            stream.in_control_queue = false;
            let control = &mut stream.control;
            let frame = if let Some(request) = control.open.take() {
                Some(Frame::Open {
                    stream: id,
                    request,
                })
            } else if let Some(answer) = control.answer.take() {
                Some(match answer {
                    Ok(opened) => Frame::Opened { stream: id, opened },
                    Err(errno) => Frame::Refused { stream: id, errno },
                })
            } else if control.credit > 0 {
                let bytes = std::mem::take(&mut control.credit);
                Some(Frame::Credit { stream: id, bytes })
            } else {
                let reset = control.reset.take();
                reset.map(|errno| Frame::Reset { stream: id, errno })
            };
            self.queue(id);
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    fn next_data(&mut self, events: &mut VecDeque<Event>) -> Option<Frame> {
        while let Some(id) = self.data_queue.pop_front() {
            let Some(stream) = self.table.get_mut(&id) else {
                continue;
            };
            stream.in_data_queue = false;
            let Some(outgoing) = stream.send.take() else {
                continue;
            };
            if stream.send.take_writable() {
                events.push_back(Event::Writable(id));
            }
            let frame = match outgoing {
                Outgoing::Data(bytes) => Frame::Data { stream: id, bytes },
                Outgoing::Datagram(address, bytes) => Frame::Datagram {
                    stream: id,
                    address,
                    bytes,
                },
                Outgoing::Finish => {
                    if stream.control.stop_after_finish {
                        stream.control.reset = Some(Errno::ECONNRESET);
                    }
                    events.push_back(Event::Writable(id));
                    Frame::Finish { stream: id }
                }
                Outgoing::Reset(errno) => {
                    events.push_back(Event::Writable(id));
                    Frame::Reset { stream: id, errno }
                }
            };
            self.queue(id);
            return Some(frame);
        }
        None
    }

    /// The other side asks for a stream.
    pub(super) fn take_open(
        &mut self,
        id: StreamId,
        request: OpenRequest,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Violation> {
        let from_client = request.is_the_clients();
        let theirs = id.0 % 2 != self.role.first_stream() % 2 && id.0 > self.highest_theirs;
        if !theirs || from_client != (self.role == Role::Agent) {
            return Err(Violation::WrongSide);
        }
        self.highest_theirs = id.0;
        if !self.has_room_for(&request) {
            if self.refused.len() >= STREAMS_MAX {
                return Err(Violation::TooManyStreams);
            }
            self.refused.push_back(id);
            return Ok(());
        }
        self.table.insert(id, new_stream(&request));
        events.push_back(Event::Requested {
            stream: id,
            request,
        });
        Ok(())
    }

    /// The other side answers a request of ours.
    pub(super) fn take_answer(
        &mut self,
        id: StreamId,
        answer: Result<Opened, Errno>,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Violation> {
        if id.0 % 2 != self.role.first_stream() % 2 {
            return Err(Violation::WrongSide);
        }
        let Some(stream) = self.known(id)? else {
            return Ok(());
        };
        if !std::mem::take(&mut stream.awaits_answer) {
            return Err(Violation::AnsweredTwice);
        }
        if let Err(errno) = answer {
            stream.send.kill(errno);
            stream.receive.kill(errno);
            stream.control = Control::default();
            // Whoever has spoken before the answer waits for room that never comes.
            events.push_back(Event::Readable(id));
            events.push_back(Event::Writable(id));
        }
        events.push_back(Event::Answered { stream: id, answer });
        self.queue(id);
        Ok(())
    }

    pub(super) fn take_data(
        &mut self,
        id: StreamId,
        bytes: Bytes,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Violation> {
        let Some(stream) = self.known(id)? else {
            return Ok(());
        };
        if stream.datagrams || bytes.is_empty() {
            return Err(Violation::WrongKindOfStream);
        }
        stream.receive.take_in(bytes)?;
        tell_reader(id, stream, events);
        Ok(())
    }

    pub(super) fn take_datagram(
        &mut self,
        id: StreamId,
        from: SocketAddr,
        bytes: &Bytes,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Violation> {
        let Some(stream) = self.known(id)? else {
            return Ok(());
        };
        if !stream.datagrams {
            return Err(Violation::WrongKindOfStream);
        }
        stream.receive.take_in_datagram(from, bytes)?;
        tell_reader(id, stream, events);
        Ok(())
    }

    pub(super) fn take_credit(&mut self, id: StreamId, bytes: u32) -> Result<(), Violation> {
        if let Some(stream) = self.known(id)? {
            stream.send.grant(bytes as usize)?;
            self.queue(id);
        }
        Ok(())
    }

    pub(super) fn take_finish(
        &mut self,
        id: StreamId,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Violation> {
        if let Some(stream) = self.known(id)? {
            if stream.receive.finished {
                return Err(Violation::AfterFinish);
            }
            stream.receive.finished = true;
            stream.control.credit = 0;
            tell_reader(id, stream, events);
            self.queue(id);
        }
        Ok(())
    }

    pub(super) fn take_reset(
        &mut self,
        id: StreamId,
        errno: Errno,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Violation> {
        if let Some(stream) = self.known(id)? {
            stream.send.kill(errno);
            // What came before stays readable: behind the other side's finish it is whole.
            if !stream.receive.finished {
                stream.receive.cut.get_or_insert(errno);
            }
            stream.control = Control::default();
            if std::mem::take(&mut stream.awaits_answer) {
                let answer = Err(errno);
                events.push_back(Event::Answered { stream: id, answer });
            }
            // Whoever waits for anything of the stream is told, once.
            events.push_back(Event::Readable(id));
            events.push_back(Event::Writable(id));
            self.queue(id);
        }
        Ok(())
    }

    /// The stream that a frame speaks about; none if it is over on this side already.
    fn known(&mut self, id: StreamId) -> Result<Option<&mut Stream>, Violation> {
        let ours = id.0 % 2 == self.role.first_stream() % 2;
        let begun = if ours {
            id.0 < self.next_ours
        } else {
            id.0 <= self.highest_theirs
        };
        if !begun {
            return Err(Violation::UnknownStream);
        }
        Ok(self.table.get_mut(&id))
    }
}

fn new_stream(request: &OpenRequest) -> Stream {
    let datagrams = request.carries_datagrams();
    let window = if datagrams { DATAGRAM_WINDOW } else { WINDOW };
    Stream {
        datagrams,
        send: SendHalf::new(window),
        receive: ReceiveHalf::new(window),
        control: Control::default(),
        released: false,
        awaits_answer: false,
        in_control_queue: false,
        in_data_queue: false,
    }
}

fn tell_reader(id: StreamId, stream: &mut Stream, events: &mut VecDeque<Event>) {
    if stream.receive.take_readable() {
        events.push_back(Event::Readable(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::DATA_MAX;
    use crate::message::Endpoint;

    #[test]
    fn what_windows_grew_by_is_given_back_with_their_stream() {
        let (mut streams, mut events) = (Streams::new(Role::Agent), VecDeque::new());
        let stream = StreamId(1);
        let destination = Endpoint::Address(([127, 0, 0, 1], 80).into());
        let request = OpenRequest::Tcp { destination };
        assert_eq!(streams.take_open(stream, request, &mut events), Ok(()));
        for _ in 0..4 {
            let bytes = Bytes::from(vec![1; DATA_MAX]);
            assert_eq!(streams.take_data(stream, bytes, &mut events), Ok(()));
            assert!(streams.read(stream, DATA_MAX).is_ok());
        }
        assert!(streams.growth > 0, "its reader keeps up");
        streams.release(stream);
        while streams.next_frame(&mut events).is_some() {}
        assert_eq!((streams.count(), streams.growth), (0, 0));
    }
}

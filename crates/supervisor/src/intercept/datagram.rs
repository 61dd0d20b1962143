//! Datagrams in a target's network: sends led where they belong, and what is received told as if it came from there.
//!
//! ```text
//!   connect, or a send with an address ─┬─ a name server, or a place in the target's network: to a relay on loopback
//!                                       └─ elsewhere: the kernel goes on
//!   a receive that wants to know from whom, of a socket with relays ─▶ made here, the relay's place told
//! ```
//!
//! A receive that would wait is waited for on the runtime, in short turns: a signal meanwhile ends it as it ends the kernel's.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sendto;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::arguments::Arguments;
use super::connect::errno;
use super::message_header::{MessageHeader, Received};
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::datagrams::{self, Behind, Holder, Opening, Sender};
use crate::network::{Protocol, Side};
use crate::remote::TargetNetwork;
use crate::seccomp::{Call, MARKED, Question};
use crate::socket::{ADDRESS_BYTES_MAX, Name, Socket, canonical, encode, for_family};

/// How long a connect is held for the target's answer, which tells the address that the socket has there and whether anybody may
/// send to that place. The kernel's own waits for nobody.
const CONNECT_HELD_MAX: Duration = Duration::from_millis(250);

/// One turn of a receive that waits: how late it sees a signal.
const TURN: Duration = Duration::from_millis(50);

/// What the kernel makes EINTR of, or the call once more, as the signal's handler was installed (linux/errno.h,
/// `ERESTARTSYS`).
const RESTART: i32 = 512;

/// Messages of one call (`UIO_MAXIOV`).
const MESSAGES_MAX: usize = 1024;

/// A receive of the program's.
#[derive(Debug, Clone, Copy)]
struct Receive {
    call: Call,
    arguments: Arguments,
}

impl Receive {
    fn flags(&self) -> i32 {
        let at = if self.call == Call::ReceiveMessage {
            2
        } else {
            3
        };
        self.arguments.int(at)
    }
}

impl Interceptor {
    /// connect(2) of a socket for datagrams.
    pub(super) fn connect_datagram(
        self: &Arc<Self>,
        question: &Question,
        descriptor: OwnedFd,
        address: SocketAddr,
    ) -> Looked<Answer> {
        let Some(network) = self.session.network.clone() else {
            return Ok(Answer::GoOn);
        };
        let socket = Socket(descriptor.as_fd());
        let going_on = |_: io::Error| Answer::GoOn;
        let (place, cookie) = (canonical(address), socket.cookie().map_err(going_on)?);
        // Port 0 is how programs ask for nothing but a route.
        if address.port() == 0 || socket.network().map_err(going_on)? != self.network {
            return Ok(Answer::GoOn);
        }
        if self.is_name_server(place) {
            let joined = self.join_relay(&network, socket, place, Behind::Resolver);
            return Ok(done(joined));
        }
        let side = self.side(Protocol::Udp, place);
        self.session.ledger.count_datagrams(place, side);
        if side == Side::Here {
            self.session.names.forget(cookie);
            return Ok(Answer::GoOn);
        }
        let asker = Asker::new(question.thread);
        let holder = Holder {
            // Any thread of its may end before the socket does.
            process: asker.process().map_or(asker, Asker::new),
            // Of socketcall(2) it is not the descriptor: then nothing is found there, and nothing told.
            number: (question.args[0] & u64::from(u32::MAX)) as u32 as i32,
        };
        let (interceptor, question) = (Arc::clone(self), *question);
        self.runtime.spawn(async move {
            let theirs = Arc::clone(&network);
            let mut opening: Opening =
                Box::pin(async move { theirs.open_udp(Some(place), place.is_ipv6()).await });
            let opened = tokio::time::timeout(CONNECT_HELD_MAX, &mut opening).await;
            let (behind, local) = match opened {
                Ok(Ok((stream, opened))) => (Behind::Connected(stream, holder), opened.local),
                Ok(Err(error)) => {
                    return interceptor.send(&question, Answer::Fail(errno(&error)));
                }
                Err(_) => (Behind::Opening(opening, holder), None),
            };
            let joined =
                interceptor.join_relay(&network, Socket(descriptor.as_fd()), place, behind);
            if local.is_some() {
                interceptor.session.names.remember(cookie, place, local);
            }
            interceptor.send(&question, done(joined));
        });
        Ok(Answer::Later)
    }

    /// Connects the program's socket to a relay that stands for `place`.
    fn join_relay(
        &self,
        network: &Arc<TargetNetwork>,
        socket: Socket<'_>,
        place: SocketAddr,
        behind: Behind,
    ) -> io::Result<()> {
        let relay = self.open_relay(network, socket, place, behind)?;
        let family = socket.family()?;
        let unreachable = || io::Error::from_raw_os_error(libc::ENETUNREACH);
        socket.connect(for_family(relay, family).ok_or_else(unreachable)?)?;
        self.session.names.remember(socket.cookie()?, place, None);
        Ok(())
    }

    fn open_relay(
        &self,
        network: &Arc<TargetNetwork>,
        socket: Socket<'_>,
        place: SocketAddr,
        behind: Behind,
    ) -> io::Result<SocketAddr> {
        let mut local = socket.local_address()?;
        if local.port() == 0 {
            // What the kernel does at the first send.
            socket.bind(local)?;
            local = socket.local_address()?;
        }
        let sender = Sender {
            cookie: socket.cookie()?,
            local,
        };
        let _inside = self.runtime.enter();
        datagrams::open(&self.session, network, sender, place, behind)
    }

    /// sendto(2), sendmsg(2) and sendmmsg(2) that the filter asks about.
    pub(super) fn send_datagram(
        &self,
        question: &Question,
        asker: Asker,
        call: Call,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        let Some(network) = self.network_of(call, arguments) else {
            return Ok(Answer::GoOn);
        };
        let judge = |error: io::Error| self.judge(asker, &error);
        let messages = read_messages(asker, call, arguments).map_err(judge)?;
        let names: Vec<Option<SocketAddr>> = messages
            .iter()
            .map(|message| self.read_place(asker, message))
            .collect::<Looked<_>>()?;
        if names.iter().all(Option::is_none) {
            return Ok(Answer::GoOn);
        }
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        if !socket.is_udp().map_err(|_| Answer::GoOn)? {
            return Ok(Answer::GoOn);
        }
        let flags = arguments.int(if call == Call::SendMessage { 2 } else { 3 });
        let mut sent = 0;
        for (message, place) in messages.iter().zip(names) {
            let Some(place) = place else {
                // Several places in one call, of which one is here: the rest is for the next call.
                break;
            };
            let to = match self.lead_datagram(&network, socket, place) {
                Ok(Some(to)) => to,
                Ok(None) if sent == 0 => return Ok(Answer::GoOn),
                Ok(None) => break,
                Err(error) if sent == 0 => return Ok(Answer::Fail(errno(&error))),
                Err(_) => break,
            };
            let bytes = message.gather(asker).map_err(judge)?;
            let segment = message.segment(asker).map_err(judge)?;
            match send_pieces(socket, &bytes, segment, flags, to) {
                Ok(()) if call != Call::SendMessages => {
                    return Ok(Answer::Give(length_of(bytes.len())));
                }
                Ok(()) => message.tell_length(asker, bytes.len()).map_err(judge)?,
                Err(error) if sent == 0 => return Ok(Answer::Fail(errno(&error))),
                Err(_) => break,
            }
            sent += 1;
        }
        if sent == 0 {
            return Ok(Answer::GoOn);
        }
        Ok(Answer::Give(length_of(sent)))
    }

    /// The session's network, for a call that is asked about: i386's multiplexed ones come whatever they are about.
    fn network_of(&self, call: Call, arguments: &Arguments) -> Option<Arc<TargetNetwork>> {
        let number = u32::try_from(arguments.int(0)).ok()?;
        let network = self.session.network.as_ref()?;
        let names = matches!(call, Call::SendTo | Call::ReceiveFrom) && arguments.pointer(4) != 0;
        (names || MARKED.contains(&number)).then(|| Arc::clone(network))
    }

    /// The address that a message is for; none where it has none.
    fn read_place(&self, asker: Asker, message: &MessageHeader) -> Looked<Option<SocketAddr>> {
        let Some((at, length)) = message.name.filter(|(_, length)| *length > 0) else {
            return Ok(None);
        };
        let mut bytes = [0; ADDRESS_BYTES_MAX];
        let Some(bytes) = bytes.get_mut(..length) else {
            return Err(Answer::GoOn);
        };
        let read = asker.read(at, bytes);
        read.map_err(|error| self.judge(asker, &error))?;
        match Name::parse(bytes) {
            Name::Ip(address) => Ok(Some(address)),
            Name::Path(_) | Name::Abstract(_) | Name::Other => Err(Answer::GoOn),
        }
    }

    /// Where a datagram for `address` is sent instead, in the form that the socket needs; none: there.
    fn lead_datagram(
        &self,
        network: &Arc<TargetNetwork>,
        socket: Socket<'_>,
        address: SocketAddr,
    ) -> io::Result<Option<SocketAddr>> {
        let (place, cookie) = (canonical(address), socket.cookie()?);
        let relay = match self.session.datagrams.find(cookie, place) {
            Some(relay) => relay,
            None => {
                let behind = if self.is_name_server(place) {
                    Behind::Resolver
                } else {
                    let side = self.side(Protocol::Udp, place);
                    self.session.ledger.count_datagrams(place, side);
                    if side == Side::Here || socket.network()? != self.network {
                        return Ok(None);
                    }
                    Behind::Shared
                };
                self.open_relay(network, socket, place, behind)?
            }
        };
        let unreachable = || io::Error::from_raw_os_error(libc::ENETUNREACH);
        for_family(relay, socket.family()?)
            .map(Some)
            .ok_or_else(unreachable)
    }

    /// recvfrom(2), recvmsg(2) and recvmmsg(2) that the filter asks about.
    pub(super) fn receive_datagram(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        call: Call,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        if self.network_of(call, arguments).is_none() {
            return Ok(Answer::GoOn);
        }
        let receive = Receive {
            call,
            arguments: *arguments,
        };
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        let cookie = socket.cookie().map_err(|_| Answer::GoOn)?;
        // The queue of errors has a form of its own, and what has no relays hears whom the kernel says.
        if receive.flags() & libc::MSG_ERRQUEUE != 0 || !self.session.datagrams.has(cookie) {
            return Ok(Answer::GoOn);
        }
        match self.receive_now(asker, socket, &receive) {
            Ok(value) => Ok(Answer::Give(value)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let blocks = !socket.is_nonblocking().map_err(|_| Answer::GoOn)?;
                if !blocks || receive.flags() & libc::MSG_DONTWAIT != 0 {
                    return Ok(Answer::Fail(libc::EAGAIN));
                }
                let patience = socket.receive_timeout().map_err(|_| Answer::GoOn)?;
                let (interceptor, question) = (Arc::clone(self), *question);
                self.runtime.spawn(async move {
                    let waiting =
                        interceptor.wait(&question, asker, descriptor, &receive, patience);
                    let answer = waiting.await;
                    interceptor.send(&question, answer);
                });
                Ok(Answer::Later)
            }
            Err(error) => Ok(Answer::Fail(errno(&error))),
        }
    }

    /// Waits for a datagram, for as long as the program does.
    async fn wait(
        &self,
        question: &Question,
        asker: Asker,
        descriptor: OwnedFd,
        receive: &Receive,
        patience: Option<Duration>,
    ) -> Answer {
        #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
        // SAFETY: an `OwnedFd` stays open and stays the same for as long as it is not dropped, which `AsyncFd` owns.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        let Ok(descriptor) = registered else {
            return Answer::GoOn;
        };
        let end = patience.map(|patience| Instant::now() + patience);
        loop {
            let readable = tokio::time::timeout(TURN, descriptor.readable()).await;
            if !self.listener.is_valid(question) {
                return Answer::Later;
            }
            if let Ok(Ok(mut ready)) = readable {
                let socket = Socket(descriptor.as_fd());
                match self.receive_now(asker, socket, receive) {
                    Ok(value) => return Answer::Give(value),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        return Answer::Fail(errno(&error));
                    }
                    Err(_) if socket.is_shut_for_receiving() => {
                        let told = self.tell_end(asker, receive);
                        return told.map_or_else(|error| Answer::Fail(errno(&error)), Answer::Give);
                    }
                    Err(_) => ready.clear_ready(),
                }
            }
            if asker.is_interrupted() {
                // One with a time of its own does not begin anew (signal(7)).
                return Answer::Fail(if end.is_some() { libc::EINTR } else { RESTART });
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Answer::Fail(libc::EAGAIN);
            }
        }
    }

    /// Receives what is there, and tells it in the program's memory; what the call gives.
    fn receive_now(&self, asker: Asker, socket: Socket<'_>, receive: &Receive) -> io::Result<i64> {
        let Receive { call, arguments } = receive;
        let flags = receive.flags() | libc::MSG_DONTWAIT;
        if *call == Call::ReceiveFrom {
            let message = MessageHeader::of_one(arguments.pointer(1), arguments.length(2));
            let got = socket.receive(message.length(), 0, flags)?;
            message.scatter(asker, &got.bytes)?;
            let name = self.true_name(socket, &got.name)?;
            self.tell_name(asker, arguments, &name)?;
            return Ok(length_of(got.length));
        }
        let word = arguments.word();
        let is_many = *call == Call::ReceiveMessages;
        let count = if is_many {
            arguments.length(2).min(MESSAGES_MAX)
        } else {
            1
        };
        let mut received = 0;
        for number in 0..count {
            let offset = MessageHeader::stride(word) * u64::try_from(number).unwrap_or(0);
            let message = MessageHeader::read(asker, arguments.pointer(1) + offset, word)?;
            let got = match socket.receive(message.length(), message.control_length(), flags) {
                Ok(got) => got,
                Err(_) if received > 0 => break,
                Err(error) => return Err(error),
            };
            let told = Received {
                bytes: &got.bytes,
                name: &self.true_name(socket, &got.name)?,
                control: &got.control,
                flags: got.flags,
            };
            message.tell(asker, &told)?;
            if !is_many {
                return Ok(length_of(got.length));
            }
            message.tell_length(asker, got.length)?;
            received += 1;
        }
        Ok(length_of(received))
    }

    /// Tells that nothing comes any more, from nobody; what the call gives.
    fn tell_end(&self, asker: Asker, receive: &Receive) -> io::Result<i64> {
        let Receive { call, arguments } = receive;
        if *call == Call::ReceiveFrom {
            self.tell_name(asker, arguments, &[])?;
            return Ok(0);
        }
        let message = MessageHeader::read(asker, arguments.pointer(1), arguments.word())?;
        let nothing = Received {
            bytes: &[],
            name: &[],
            control: &[],
            flags: 0,
        };
        message.tell(asker, &nothing)?;
        if *call == Call::ReceiveMessage {
            return Ok(0);
        }
        message.tell_length(asker, 0)?;
        Ok(1)
    }

    /// Tells the sender's name to recvfrom(2).
    fn tell_name(&self, asker: Asker, arguments: &Arguments, name: &[u8]) -> io::Result<()> {
        // The address's room and length, as getpeername has them.
        let shifted = Arguments::new(
            [0, arguments.pointer(4), arguments.pointer(5), 0, 0, 0],
            0x8000_0000,
        );
        match self.write_name(asker, &shifted, name) {
            Ok(Answer::Succeed) => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        }
    }

    /// Whom a sender stands for, as the kernel would write it.
    fn true_name(&self, socket: Socket<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
        if let Name::Ip(address) = Name::parse(name)
            && let Some(place) = self.session.datagrams.place(canonical(address))
            && let Some(told) = for_family(place, socket.family()?)
        {
            return Ok(encode(told));
        }
        Ok(name.to_vec())
    }
}

fn done(joined: io::Result<()>) -> Answer {
    match joined {
        Ok(()) => Answer::Succeed,
        Err(error) => Answer::Fail(errno(&error)),
    }
}

fn length_of(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// The messages of a send.
fn read_messages(
    asker: Asker,
    call: Call,
    arguments: &Arguments,
) -> io::Result<Vec<MessageHeader>> {
    if call == Call::SendTo {
        let mut message = MessageHeader::of_one(arguments.pointer(1), arguments.length(2));
        let length = usize::try_from(arguments.int(5)).unwrap_or(usize::MAX);
        message.name = (arguments.pointer(4) != 0).then(|| (arguments.pointer(4), length));
        return Ok(vec![message]);
    }
    let (word, first) = (arguments.word(), arguments.pointer(1));
    let count = if call == Call::SendMessages {
        arguments.length(2).min(MESSAGES_MAX)
    } else {
        1
    };
    let places = (0..count).map(|number| {
        let number = u64::try_from(number).expect("there are few");
        first + MessageHeader::stride(word) * number
    });
    places
        .map(|at| MessageHeader::read(asker, at, word))
        .collect()
}

/// Sends a datagram, or as many as it is to be cut into.
fn send_pieces(
    socket: Socket<'_>,
    bytes: &[u8],
    segment: Option<usize>,
    flags: i32,
    to: SocketAddr,
) -> io::Result<()> {
    let flags = rustix::net::SendFlags::from_bits_retain(flags.cast_unsigned())
        | rustix::net::SendFlags::DONTWAIT
        | rustix::net::SendFlags::NOSIGNAL;
    let size = segment.filter(|size| *size > 0).unwrap_or(bytes.len());
    if bytes.is_empty() {
        sendto(socket.0, bytes, flags, &to)?;
    }
    for piece in bytes.chunks(size.max(1)) {
        sendto(socket.0, piece, flags, &to)?;
    }
    Ok(())
}

//! bind(2), listen(2) and getsockname(2): a port that somebody else has does not keep the session's program from
//! listening, and what it listens on is known.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::process::geteuid;

use super::arguments::Arguments;
use super::connect::errno;
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::incoming::{self, Listening};
use crate::ports::{PortTaken, find_holder, is_listened_on};
use crate::seccomp::Question;
use crate::session::Event;
use crate::socket::{Name, Socket, encode, for_family};

/// Ports below this one need a right (ip(7), `ip_unprivileged_port_start`, whose default it is).
const UNPRIVILEGED_PORT_MIN: u16 = 1024;

impl Interceptor {
    pub(super) fn bind(
        &self,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        let Name::Ip(asked) = self.read_name(asker, arguments)? else {
            return Ok(Answer::GoOn);
        };
        if asked.port() == 0 || self.has_more_rights(asker, asked.port()) {
            return Ok(Answer::GoOn);
        }
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        if !self.is_ours(&socket)? {
            return Ok(Answer::GoOn);
        }
        let chosen = self.session.network.as_ref();
        let chosen = chosen.and_then(|n| n.plan().incoming.listen_port(asked.port()));
        if let Some(real) = chosen {
            return Ok(self.bind_chosen(socket, asked, real));
        }
        match socket.bind(asked).map_err(|error| errno(&error)) {
            Ok(()) => Ok(Answer::Succeed),
            Err(refused @ (libc::EADDRINUSE | libc::EACCES)) => {
                Ok(self.bind_elsewhere(asker, socket, asked, refused))
            }
            Err(refused) => Ok(Answer::Fail(refused)),
        }
    }

    /// Whether this is a TCP socket in the session's own network.
    fn is_ours(&self, socket: &Socket<'_>) -> Looked<bool> {
        Ok(socket.is_tcp().map_err(|_| Answer::GoOn)?
            && socket.network().map_err(|_| Answer::GoOn)? == self.network)
    }

    /// Whether this process may have a port that the asker may not: then the kernel is to judge.
    fn has_more_rights(&self, asker: Asker, port: u16) -> bool {
        port < UNPRIVILEGED_PORT_MIN
            && geteuid().is_root()
            && asker.effective_user().is_none_or(|user| user != 0)
    }

    fn bind_elsewhere(
        &self,
        asker: Asker,
        socket: Socket<'_>,
        asked: SocketAddr,
        refused: i32,
    ) -> Answer {
        let is_taken = refused == libc::EADDRINUSE;
        // A port that is bound alone (a lock), or that a connection just had, is refused as everywhere.
        if is_taken && !is_listened_on(asked.port()) {
            return Answer::Fail(refused);
        }
        let holder = is_taken.then(|| find_holder(asked.port())).flatten();
        let is_own = holder.as_ref().is_some_and(|holder| {
            self.tree
                .get()
                .is_some_and(|tree| tree.contains(holder.pid))
        });
        if is_own || self.ports.real(asked.port()).is_some() {
            return Answer::Fail(refused);
        }
        let free = SocketAddr::new(asked.ip(), 0);
        if let Err(error) = socket.bind(free) {
            return Answer::Fail(errno(&error));
        }
        let (Ok(real), Ok(cookie)) = (socket.local_address(), socket.cookie()) else {
            return Answer::Fail(refused);
        };
        self.ports.add(asked, real.port(), cookie);
        self.session.tell(Event::PortTaken(PortTaken {
            asked,
            real: real.port(),
            holder,
            program: asker.program(),
        }));
        Answer::Succeed
    }

    /// Binds to the port that the user chose for the one that is asked for.
    fn bind_chosen(&self, socket: Socket<'_>, asked: SocketAddr, real: u16) -> Answer {
        let bound = socket.bind(SocketAddr::new(asked.ip(), real));
        match bound.and_then(|()| socket.cookie()) {
            Ok(cookie) => {
                self.ports.add(asked, real, cookie);
                Answer::Succeed
            }
            Err(error) => Answer::Fail(errno(&error)),
        }
    }

    pub(super) fn listen(
        &self,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        if !self.is_ours(&socket)? {
            return Ok(Answer::GoOn);
        }
        if let Err(error) = rustix::net::listen(socket.0, arguments.int(1)) {
            return Ok(Answer::Fail(error.raw_os_error()));
        }
        let local = socket.local_address().map_err(|_| Answer::Succeed)?;
        let cookie = socket.cookie().map_err(|_| Answer::Succeed)?;
        let asked = self.ports.asked(local.port(), cookie);
        let asked = asked.unwrap_or(local.port());
        let listening = Listening {
            cookie,
            asked: SocketAddr::new(local.ip().to_canonical(), asked),
            real: local.port(),
            is_multipath: socket.is_multipath().unwrap_or(false),
        };
        // A second listen(2) changes the backlog alone.
        if self.ports.listen(listening) {
            let session = Arc::clone(&self.session);
            self.runtime
                .spawn(async move { incoming::subscribe(session, listening).await });
        }
        Ok(Answer::Succeed)
    }

    pub(super) fn local_name(
        &self,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        if self.ports.is_empty() && self.session.names.is_empty() {
            return Ok(Answer::GoOn);
        }
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        let cookie = socket.cookie().map_err(|_| Answer::GoOn)?;
        let believed = self.session.names.get(cookie);
        if let Some(local) = believed.and_then(|believed| believed.local) {
            let family = socket.family().map_err(|_| Answer::GoOn)?;
            let local = for_family(local, family).ok_or(Answer::GoOn)?;
            return self.write_name(asker, arguments, &encode(local));
        }
        let is_tcp = socket.is_tcp().map_err(|_| Answer::GoOn)?;
        let mut local = socket.local_address().map_err(|_| Answer::GoOn)?;
        match self.ports.asked(local.port(), cookie) {
            Some(asked) if is_tcp => {
                local.set_port(asked);
                self.write_name(asker, arguments, &encode(local))
            }
            Some(_) | None => Ok(Answer::GoOn),
        }
    }
}

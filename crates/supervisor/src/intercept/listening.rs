//! bind(2) and getsockname(2): a port that somebody else has does not keep the session's program from listening.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::process::geteuid;

use super::arguments::Arguments;
use super::connect::errno;
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::ports::{PortTaken, find_holder};
use crate::seccomp::Question;
use crate::session::Event;
use crate::socket::{Name, Socket, encode};

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
        let is_ours = socket.is_tcp().map_err(|_| Answer::GoOn)?
            && socket.network().map_err(|_| Answer::GoOn)? == self.network;
        if !is_ours {
            return Ok(Answer::GoOn);
        }
        match socket.bind(asked).map_err(|error| errno(&error)) {
            Ok(()) => Ok(Answer::Succeed),
            Err(refused @ (libc::EADDRINUSE | libc::EACCES)) => {
                Ok(self.bind_elsewhere(asker, socket, asked, refused))
            }
            Err(refused) => Ok(Answer::Fail(refused)),
        }
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
        let holder = if refused == libc::EADDRINUSE {
            find_holder(asked.port())
        } else {
            None
        };
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
        let Ok(real) = socket.local_address() else {
            return Answer::Fail(refused);
        };
        self.ports.add(asked.port(), real.port());
        self.session.tell(Event::PortTaken(PortTaken {
            asked,
            real: real.port(),
            holder,
            program: asker.program(),
        }));
        Answer::Succeed
    }

    pub(super) fn local_name(
        &self,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        if self.ports.is_empty() {
            return Ok(Answer::GoOn);
        }
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        let is_tcp = socket.is_tcp().map_err(|_| Answer::GoOn)?;
        let mut local = socket.local_address().map_err(|_| Answer::GoOn)?;
        match self.ports.asked(local.port()) {
            Some(asked) if is_tcp => {
                local.set_port(asked);
                self.write_name(asker, arguments, &encode(local))
            }
            Some(_) | None => Ok(Answer::GoOn),
        }
    }
}

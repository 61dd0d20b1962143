//! getpeername(2): what a redirected socket was connected to, and who is at the other end of a delivered connection.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::arguments::Arguments;
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::seccomp::Question;
use crate::socket::{Socket, canonical, encode, for_family};

impl Interceptor {
    pub(super) fn peer_name(
        &self,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        if self.session.names.is_empty() && self.session.subscriptions.is_empty() {
            return Ok(Answer::GoOn);
        }
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        let cookie = socket.cookie().map_err(|_| Answer::GoOn)?;
        // A socket that is not connected says ENOTCONN.
        let peer = rustix::net::getpeername(socket.0).map_err(|_| Answer::GoOn)?;
        let delivered = || {
            let end = SocketAddr::try_from(peer?).ok()?;
            self.session.subscriptions.peer(canonical(end))
        };
        let believed = self.session.names.get(cookie).map(|believed| believed.peer);
        let Some(believed) = believed.or_else(delivered) else {
            return Ok(Answer::GoOn);
        };
        let family = socket.family().map_err(|_| Answer::GoOn)?;
        let believed = for_family(believed, family).ok_or(Answer::GoOn)?;
        self.write_name(asker, arguments, &encode(believed))
    }

    /// Writes an address where arguments 1 and 2 want it, as the kernel does: cut to the room, with its whole length.
    pub(super) fn write_name(
        &self,
        asker: Asker,
        arguments: &Arguments,
        name: &[u8],
    ) -> Looked<Answer> {
        let mut room = [0; 4];
        let judge = |error| self.judge(asker, &error);
        asker.read(arguments.pointer(2), &mut room).map_err(judge)?;
        let Ok(room) = usize::try_from(i32::from_ne_bytes(room)) else {
            return Ok(Answer::Fail(libc::EINVAL));
        };
        let length = u32::try_from(name.len()).expect("addresses are short");
        let cut = &name[..name.len().min(room)];
        asker.write(arguments.pointer(1), cut).map_err(judge)?;
        asker
            .write(arguments.pointer(2), &length.to_ne_bytes())
            .map_err(judge)?;
        Ok(Answer::Succeed)
    }
}

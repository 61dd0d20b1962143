//! A connect that is on its way while its program does something else.
//!
//! ```text
//!   SYN_SENT: the socket connects to a hole, which drops its SYN, and the call says EINPROGRESS
//!     ├─ the other end answered: a simultaneous open (RFC 9293, section 3.5) from the hole's own address
//!     ├─ it did not: the socket connects to a closed port, and whoever polls it finds it refused; who asks for its error
//!     │       (SO_ERROR), connects once more or waits in a call that began anew is told the other end's own
//!     └─ the program closed its socket, or connects it anew: the other end is no longer asked
//! ```
//!
//! Owns their waiting and how they end. Leaves the holes to `holes`, who waits to `waits`. No copy of the socket is
//! kept meanwhile, since only the last one's end tells that the program has given it up.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::AddressFamily;

use super::arguments::Arguments;
use super::connect::{Connecting, errno};
use super::holes::{Hole, open_simultaneously};
use super::remote_connect::{Patience, Waited};
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::fence::{Arrival, Peer};
use crate::ports::find_descriptor;
use crate::remote::{Destination, Dialled, Pending};
use crate::seccomp::Question;
use crate::socket::{Socket, canonical, for_family};

/// A socket of the session of which no copy is held.
#[derive(Debug)]
struct LetGo {
    asker: Asker,
    number: i32,
    /// As `/proc/PID/fd` has it.
    link: String,
    family: AddressFamily,
    cookie: u64,
    address: SocketAddr,
}

impl LetGo {
    /// Closes the copy.
    fn of(connecting: Connecting, asker: Asker) -> io::Result<Self> {
        let inode = rustix::fs::fstat(&connecting.descriptor)?.st_ino;
        Ok(Self {
            asker,
            number: connecting.number,
            link: format!("socket:[{inode}]"),
            family: connecting.family,
            cookie: connecting.cookie,
            address: connecting.address,
        })
    }

    fn with(&self, descriptor: OwnedFd) -> Connecting {
        Connecting {
            descriptor,
            number: self.number,
            family: self.family,
            cookie: self.cookie,
            address: self.address,
        }
    }

    fn is_it(&self, descriptor: &OwnedFd) -> bool {
        let cookie = Socket(descriptor.as_fd()).cookie();
        cookie.is_ok_and(|cookie| cookie == self.cookie)
    }
}

impl Interceptor {
    /// Lets the call end with `told` and its socket wait for the other end without it.
    pub(super) async fn wait_in_hole(
        &self,
        question: &Question,
        asker: Asker,
        connecting: Connecting,
        dialling: Pending<'_, Dialled>,
        told: i32,
    ) {
        let holes = self
            .holes
            .as_ref()
            .expect("they are open wherever connections are watched");
        let hole = holes.of(connecting.address);
        let entered = match for_family(hole.address, connecting.family) {
            Some(address) => connecting.socket().begin_connect(address),
            None => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
        };
        let errno = entered.map_or_else(|error| errno(&error), |()| 0);
        let told = if errno == libc::EINPROGRESS {
            told
        } else {
            errno
        };
        let cookie = connecting.cookie;
        let local = connecting.socket().local_address();
        let names = &self.session.names;
        names.remember(cookie, connecting.address, None);
        // Before the program can close it.
        let port = local.as_ref().map_or(0, SocketAddr::port);
        let outcome_tx = self.waits.begin(cookie, port);
        let mut outcome = None;
        self.listener.fail(question, told);
        if let (Ok(local), libc::EINPROGRESS) = (local, errno)
            && let Ok(let_go) = LetGo::of(connecting, asker)
        {
            tokio::select! {
                // The program has given it up, and dropped, the dialling is taken back.
                () = outcome_tx.closed() => return,
                dialled = dialling => {
                    outcome = self.end_wait(hole, &let_go, local, dialled).await;
                }
            }
        }
        self.waits.end(cookie, outcome_tx, outcome);
    }

    /// Has a socket in `hole`, whose own address there is `local`, end as its dialling did: with this errno, 0 for none;
    /// nothing where it has come to its own end.
    async fn end_wait(
        &self,
        hole: &Hole,
        let_go: &LetGo,
        local: SocketAddr,
        dialled: io::Result<Dialled>,
    ) -> Option<i32> {
        // Held from here on, so that its port stays its own.
        let connecting = self.take_again(let_go);
        let connecting = connecting.filter(|c| c.socket().is_on_its_way())?;
        let opened = match dialled {
            Ok(upstream) => open_simultaneously(hole.address, canonical(local))
                .await
                .map(|client| (client, upstream)),
            Err(error) => Err(error),
        };
        match opened {
            Ok((client, upstream)) => {
                let names = &self.session.names;
                names.remember(connecting.cookie, connecting.address, upstream.local);
                let arrival = Arrival {
                    destination: Destination::Tcp(connecting.address),
                    cookie: connecting.cookie,
                    upstream: Some(upstream),
                };
                let peer = Peer::Tcp(canonical(local));
                self.session.arrivals.expect(peer.clone(), arrival);
                // The program alone decides when its socket is closed.
                drop(connecting);
                crate::fence::begin(&self.session, peer, client);
                Some(0)
            }
            Err(error) => {
                tracing::debug!(%error, to = %connecting.address, "a connect came to nothing late");
                self.session.names.forget(connecting.cookie);
                let errno = errno(&error);
                let refuse = || refuse_late(&connecting, hole.closed);
                if let Err(error) = self.waits.fail(connecting.cookie, errno, refuse) {
                    tracing::debug!(%error, "it waits for its own time-out");
                }
                Some(errno)
            }
        }
    }

    /// A connect of a socket that is connected, listens, or is on its way: with one that waits for what it is on its way
    /// to, as the kernel has a call that began anew do (connect(2)); every other is the kernel's to answer.
    pub(super) fn connect_again(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        descriptor: OwnedFd,
    ) -> Answer {
        let socket = Socket(descriptor.as_fd());
        let cookie = socket.cookie();
        let outcome = cookie.map(|cookie| (cookie, self.waits.outcome(cookie)));
        let waits = (outcome, socket.is_nonblocking(), socket.send_timeout());
        let (Ok((cookie, Some(mut outcome_rx))), Ok(false), Ok(time)) = waits else {
            return Answer::GoOn;
        };
        let (interceptor, question) = (Arc::clone(self), *question);
        self.runtime.spawn(async move {
            let patience = Patience::of(asker, time);
            let mut outcome = Box::pin(async move {
                let outcome = outcome_rx.wait_for(Option::is_some).await;
                outcome.ok().and_then(|outcome| *outcome)
            });
            let waiting = interceptor.wait_for(&question, &patience, &mut outcome);
            let socket = Socket(descriptor.as_fd());
            let answer = match waiting.await {
                Waited::Ended(Some(0)) => Answer::Succeed,
                Waited::Ended(Some(errno)) => {
                    let _heard = interceptor.waits.take_failure(cookie);
                    Answer::Fail(put_down(socket, errno))
                }
                Waited::Ended(None) => Answer::Fail(put_down(socket, libc::ECONNABORTED)),
                Waited::Interrupted(errno) => Answer::Fail(errno),
                Waited::TimedOut => Answer::Fail(libc::EALREADY),
                Waited::Gone => return,
            };
            interceptor.send(&question, answer);
        });
        Answer::Later
    }

    /// getsockopt(2) of SO_ERROR: what a late connect failed with is the other end's own, told once.
    pub(super) fn socket_error(
        &self,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        let option = (arguments.int(1), arguments.int(2));
        if option != (libc::SOL_SOCKET, libc::SO_ERROR) || self.waits.is_empty() {
            return Ok(Answer::GoOn);
        }
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        let cookie = socket.cookie().map_err(|_| Answer::GoOn)?;
        let Some(errno) = self.waits.take_failure(cookie) else {
            return Ok(Answer::GoOn);
        };
        let _of_the_hole = socket.take_error();
        let mut room = [0; 4];
        let judge = |error| self.judge(asker, &error);
        asker.read(arguments.pointer(4), &mut room).map_err(judge)?;
        let Ok(room) = usize::try_from(i32::from_ne_bytes(room)) else {
            return Ok(Answer::Fail(libc::EINVAL));
        };
        let value = errno.to_ne_bytes();
        let cut = &value[..value.len().min(room)];
        let length = u32::try_from(cut.len()).expect("an int is short");
        asker.write(arguments.pointer(3), cut).map_err(judge)?;
        asker
            .write(arguments.pointer(4), &length.to_ne_bytes())
            .map_err(judge)?;
        Ok(Answer::Succeed)
    }

    /// A copy of a socket, from the thread that connected it or from whoever of the session has it now.
    fn take_again(&self, let_go: &LetGo) -> Option<Connecting> {
        let copy = |asker: Asker, number| {
            let descriptor = asker.descriptor(number).ok();
            descriptor.filter(|descriptor| let_go.is_it(descriptor))
        };
        let found = copy(let_go.asker, let_go.number).or_else(|| {
            let members = self.tree.get()?.members();
            let mut pids = members.iter().map(|member| member.pid());
            pids.find_map(|pid| copy(Asker::new(pid), find_descriptor(pid, &let_go.link)?))
        });
        found.map(|descriptor| let_go.with(descriptor))
    }
}

/// Has `socket` be as it was before its connect, whose failure its program hears of by the call itself; what it is.
/// What the kernel says is its own where nothing of the other end's is known.
pub(super) fn put_down(socket: Socket<'_>, errno: i32) -> i32 {
    let of_the_hole = socket.take_error();
    // It is nobody's way any more.
    let _as_before = socket.disconnect();
    match of_the_hole {
        Some(own) if errno == libc::ECONNABORTED => own,
        Some(_) | None => errno,
    }
}

/// Ends the wait of a socket in a hole: whoever polls it finds it refused.
fn refuse_late(connecting: &Connecting, closed: SocketAddr) -> io::Result<()> {
    let socket = connecting.socket();
    socket.disconnect()?;
    let Some(closed) = for_family(closed, connecting.family) else {
        return Ok(());
    };
    match socket.connect(closed) {
        Err(error) if errno(&error) == libc::EINPROGRESS => Ok(()),
        Err(error) if errno(&error) == libc::ECONNREFUSED => Ok(()),
        connected => connected,
    }
}

//! connect(2): where it goes, and the session's own socket connected to the proxy where that is.
//!
//! ```text
//!   read the address ─▶ copy the descriptor ─▶ does the question still wait? ─▶ is it TCP, here, and not begun? ─▶ route
//! ```
//!
//! The socket is the program's own: its copies, options and epoll registrations stay, and a call that does not block
//! does not block. Replacing it was tried and is worse (docs/decisions).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::AddressFamily;

use super::arguments::Arguments;
use super::late_connect::put_down;
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::fence::{Arrival, Peer, Route};
use crate::network::{Protocol, Side};
use crate::ports::is_bound_by;
use crate::remote::{Destination, Dialled, is_of_this_machine};
use crate::resolver;
use crate::seccomp::Question;
use crate::socket::{ADDRESS_BYTES_MAX, Name, Socket, canonical, dialled, for_family};

/// A TCP socket of the session that is about to connect.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) descriptor: OwnedFd,
    /// Its number in its program.
    pub(super) number: i32,
    pub(super) family: AddressFamily,
    pub(super) cookie: u64,
    /// What its program means, in the canonical form, and by which interface where that is part of it.
    pub(super) address: SocketAddr,
}

impl Connecting {
    pub(super) fn socket(&self) -> Socket<'_> {
        Socket(self.descriptor.as_fd())
    }
}

impl Interceptor {
    pub(super) fn connect(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        let name = self.read_name(asker, arguments)?;
        match name {
            Name::Other => Ok(Answer::GoOn),
            Name::Path(path) => self.connect_unix(question, asker, arguments, &path),
            Name::Abstract(name) => Ok(self.connect_abstract(asker, &name)),
            Name::Ip(address) => self.connect_ip(question, asker, arguments, address),
        }
    }

    /// The address in arguments 1 and 2.
    pub(super) fn read_name(&self, asker: Asker, arguments: &Arguments) -> Looked<Name> {
        let mut bytes = [0; ADDRESS_BYTES_MAX];
        let Some(bytes) = usize::try_from(arguments.int(2))
            .ok()
            .and_then(|length| bytes.get_mut(..length))
        else {
            // The kernel says EINVAL.
            return Err(Answer::GoOn);
        };
        asker
            .read(arguments.pointer(1), bytes)
            .map_err(|error| self.judge(asker, &error))?;
        Ok(Name::parse(bytes))
    }

    /// The descriptor in argument 0, of a question that still waits: what was read until now was the asker's.
    pub(super) fn take_descriptor(
        &self,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
    ) -> Looked<OwnedFd> {
        let descriptor = asker
            .descriptor(arguments.int(0))
            .map_err(|error| self.judge(asker, &error))?;
        if self.listener.is_valid(question) {
            Ok(descriptor)
        } else {
            Err(Answer::Later)
        }
    }

    fn connect_ip(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
        address: SocketAddr,
    ) -> Looked<Answer> {
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        let judge = |error: io::Error| self.judge_socket(asker, &error);
        if socket.is_udp().map_err(judge)? {
            return self.connect_datagram(question, descriptor, address);
        }
        // A socket that is on its way already answers for itself.
        if !socket.is_tcp().map_err(judge)? {
            return Ok(Answer::GoOn);
        }
        if !socket.is_idle().map_err(judge)? {
            return Ok(self.connect_again(question, asker, descriptor));
        }
        if socket.network().map_err(judge)? != self.network {
            self.session.ledger.count_unseen();
            // Its addresses mean something else there, and nobody can say that a source is not among them.
            return Ok(if self.session.fence.asserts_isolation() {
                Answer::Fail(libc::EACCES)
            } else {
                Answer::GoOn
            });
        }
        let connecting = Connecting {
            family: socket.family().map_err(judge)?,
            cookie: socket.cookie().map_err(judge)?,
            address: dialled(address),
            number: arguments.int(0),
            descriptor,
        };
        // What it was on its way to before is over.
        if let Some(failed) = self.waits.forget(connecting.cookie) {
            return Ok(Answer::Fail(put_down(connecting.socket(), failed)));
        }
        Ok(self.lead(question, asker, connecting))
    }

    fn lead(self: &Arc<Self>, question: &Question, asker: Asker, connecting: Connecting) -> Answer {
        let session = &self.session;
        let address = connecting.address;
        let route = session.fence.route(address);
        if matches!(
            route,
            Route::Elsewhere | Route::Allowed | Route::Watched | Route::Doubtful
        ) {
            if self.is_name_server(address) {
                return match self.join(&connecting, None) {
                    Ok(()) => Answer::Succeed,
                    Err(errno) => Answer::Fail(errno),
                };
            }
            if let Some(network) = &session.network
                && self.side(Protocol::Tcp, address) == Side::Target
            {
                if route == Route::Allowed {
                    session.ledger.count_allowed();
                }
                return self.connect_remotely(question, asker, connecting, Some(network));
            }
        }
        match route {
            Route::Elsewhere => {
                session.ledger.count_other(address, Side::Here);
                self.go_elsewhere(question, connecting)
            }
            Route::Door(number) => {
                session.ledger.count_direct(number);
                self.go_elsewhere(question, connecting)
            }
            Route::Allowed => {
                session.ledger.count_allowed();
                self.go_elsewhere(question, connecting)
            }
            Route::Source | Route::TlsDoor => match self.join(&connecting, None) {
                Ok(()) => Answer::Succeed,
                Err(errno) => Answer::Fail(errno),
            },
            Route::Watched | Route::Doubtful => {
                self.connect_remotely(question, asker, connecting, None)
            }
        }
    }

    /// Whether a name server is asked at `address`, in whose place the session answers.
    pub(super) fn is_name_server(&self, address: SocketAddr) -> bool {
        let network = self.session.network.as_ref();
        address.port() == resolver::PORT
            && network.is_some_and(|network| network.plan().answers_names())
    }

    /// Where the way to `address` begins. What the session itself listens on is here, whatever the plan says.
    pub(super) fn side(&self, protocol: Protocol, address: SocketAddr) -> Side {
        match &self.session.network {
            Some(network) if !self.is_own_port(protocol, address) => {
                network.side(protocol, address)
            }
            Some(_) | None => Side::Here,
        }
    }

    fn is_own_port(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let is_of_this_machine = || is_of_this_machine(address.ip());
        match protocol {
            Protocol::Tcp => self.ports.is_listened_at(address) && is_of_this_machine(),
            Protocol::Udp => {
                let tree = self.tree.get();
                is_of_this_machine() && tree.is_some_and(|tree| is_bound_by(tree, address.port()))
            }
        }
    }

    /// Lets the kernel connect, or, where the port is the session's own under another number, connects to that.
    fn go_elsewhere(self: &Arc<Self>, question: &Question, connecting: Connecting) -> Answer {
        if !self.session.names.is_empty() {
            self.session.names.forget(connecting.cookie);
        }
        let address = connecting.address;
        if self.ports.is_empty() {
            return Answer::GoOn;
        }
        let real = self.ports.real_at(address);
        let Some(real) = real.filter(|_| is_of_this_machine(address.ip())) else {
            return Answer::GoOn;
        };
        let Some(to) = for_family(SocketAddr::new(address.ip(), real), connecting.family) else {
            return Answer::GoOn;
        };
        match connecting.socket().is_nonblocking() {
            Ok(true) => outcome(connecting.socket().connect(to)),
            Ok(false) => self.connect_aside(question, connecting, to),
            Err(error) => Answer::Fail(errno(&error)),
        }
    }

    /// Connects where that may wait, as long as the other end's queue is full, on a thread of its own: there are as many as
    /// programs of the session that wait.
    fn connect_aside(
        self: &Arc<Self>,
        question: &Question,
        connecting: Connecting,
        to: SocketAddr,
    ) -> Answer {
        let (interceptor, question) = (Arc::clone(self), *question);
        let connect = move || {
            let answer = outcome(connecting.socket().connect(to));
            interceptor.send(&question, answer);
        };
        let thread = std::thread::Builder::new().name("connect".to_owned());
        match thread.spawn(connect) {
            Ok(_) => Answer::Later,
            Err(error) => Answer::Fail(errno(&error)),
        }
    }

    /// Connects the socket to the proxy and tells that what it is for. EINPROGRESS is an error here as for the program.
    pub(super) fn join(
        &self,
        connecting: &Connecting,
        upstream: Option<Dialled>,
    ) -> Result<(), i32> {
        let Connecting {
            family,
            cookie,
            address,
            ..
        } = *connecting;
        let v6 = self.proxy.v6.filter(|_| address.is_ipv6());
        let Some(proxy) = for_family(v6.unwrap_or(self.proxy.v4), family) else {
            return Err(libc::ENETUNREACH);
        };
        let connected = connecting
            .socket()
            .connect(proxy)
            .map_err(|error| errno(&error));
        if matches!(connected, Ok(()) | Err(libc::EINPROGRESS)) {
            let local = connecting.socket().local_address();
            let local = local.map_err(|error| errno(&error))?;
            let believed = upstream.as_ref().and_then(|dialled| dialled.local);
            self.session.names.remember(cookie, address, believed);
            let arrival = Arrival {
                destination: Destination::Tcp(address),
                cookie,
                upstream,
            };
            self.session
                .arrivals
                .expect(Peer::Tcp(canonical(local)), arrival);
        }
        connected
    }
}

fn outcome(connected: io::Result<()>) -> Answer {
    match connected {
        Ok(()) => Answer::Succeed,
        Err(error) => Answer::Fail(errno(&error)),
    }
}

/// The errno of an error of the kernel's; what has none was refused.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::ECONNREFUSED)
}

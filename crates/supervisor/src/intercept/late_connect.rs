//! A connect that is on its way while its program does something else.
//!
//! ```text
//!   SYN_SENT: the socket connects to a hole, which drops its SYN, and the call says EINPROGRESS
//!     ├─ the other end answered: a simultaneous open (RFC 9293, section 3.5) from the hole's own address
//!     ├─ it did not: the socket connects to a closed port, and says ECONNREFUSED; to a program that looks in the
//!     │       very moment in between, ECONNRESET
//!     └─ the program closed its socket, or connects it anew: the other end is no longer asked
//! ```
//!
//! A hole is a listener whose queue is full: the kernel drops what comes (tcp(7)). No privilege is needed for any of it.
//! No copy of the socket is kept meanwhile, since only the last one's end tells that the program has given it up.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::TcpSocket;
use tokio::sync::watch;

use super::Interceptor;
use super::connect::{Connecting, errno};
use crate::asker::Asker;
use crate::fence::{Arrival, Client, Peer};
use crate::ports::{find_descriptor, ports_on_their_way};
use crate::remote::{Destination, Dialled, Pending, Stream};
use crate::seccomp::Question;
use crate::socket::{Socket, canonical, for_family};

/// The places where sockets wait, one for each family that the machine has.
#[derive(Debug)]
pub(super) struct Holes {
    v4: Hole,
    v6: Option<Hole>,
}

#[derive(Debug)]
struct Hole {
    address: SocketAddr,
    /// A port that nobody listens on.
    closed: SocketAddr,
    /// The listener, the connection that fills its queue, the owner of the closed port.
    _open: [OwnedFd; 3],
}

impl Holes {
    /// Opens them.
    ///
    /// # Errors
    /// When loopback or descriptors are wanting.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            v4: Hole::open(Ipv4Addr::LOCALHOST.into())?,
            v6: Hole::open(Ipv6Addr::LOCALHOST.into()).ok(),
        })
    }

    fn of(&self, address: SocketAddr) -> &Hole {
        let v6 = self.v6.as_ref().filter(|_| address.is_ipv6());
        v6.unwrap_or(&self.v4)
    }
}

impl Hole {
    fn open(ip: IpAddr) -> io::Result<Self> {
        let listener = stream_socket(ip)?;
        // Simultaneous opens come from its address.
        set_socket_reuseaddr(&listener, true)?;
        set_socket_reuseport(&listener, true)?;
        bind(&listener, &SocketAddr::new(ip, 0))?;
        listen(&listener, 0)?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
        let filling = stream_socket(ip)?;
        rustix::net::connect(&filling, &address)?;
        let owner = stream_socket(ip)?;
        bind(&owner, &SocketAddr::new(ip, 0))?;
        let closed = SocketAddr::try_from(rustix::net::getsockname(&owner)?)?;
        Ok(Self {
            address,
            closed,
            _open: [listener, filling, owner],
        })
    }
}

fn stream_socket(ip: IpAddr) -> io::Result<OwnedFd> {
    let family = if ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok(socket)
}

/// Connects that are on their way, by their sockets' cookies.
#[derive(Debug, Default)]
pub(super) struct Waits {
    by_cookie: Mutex<HashMap<u64, Wait>>,
}

#[derive(Debug)]
struct Wait {
    /// The socket's own port.
    port: u16,
    /// Who waits on the other end of it stops once this is dropped.
    wanted_rx: watch::Receiver<()>,
}

impl Waits {
    /// The socket `cookie` with this port of its own is on its way. What it was on its way to before is over.
    fn begin(&self, cookie: u64, port: u16) -> watch::Sender<()> {
        let (wanted_tx, wanted_rx) = watch::channel(());
        self.lock().insert(cookie, Wait { port, wanted_rx });
        wanted_tx
    }

    /// The socket is gone, or on its way no more.
    pub(super) fn forget(&self, cookie: u64) {
        self.lock().remove(&cookie);
    }

    /// A wait is over; another one of the same socket goes on.
    fn end(&self, cookie: u64, wanted_tx: watch::Sender<()>) {
        drop(wanted_tx);
        let mut all = self.lock();
        let is_over = |wait: &Wait| wait.wanted_rx.has_changed().is_err();
        if all.get(&cookie).is_some_and(is_over) {
            all.remove(&cookie);
        }
    }

    /// Sockets that are on their way no more, as the kernel's tables have it.
    pub(super) fn closed(&self) -> Vec<u64> {
        let all = self.lock();
        if all.is_empty() {
            return Vec::new();
        }
        let ports = ports_on_their_way();
        let closed = all.iter().filter(|(_, wait)| !ports.contains(&wait.port));
        closed.map(|(cookie, _)| *cookie).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Wait>> {
        self.by_cookie
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

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
        let wanted_tx = self.waits.begin(cookie, port);
        self.listener.fail(question, told);
        if let (Ok(local), libc::EINPROGRESS) = (local, errno)
            && let Ok(let_go) = LetGo::of(connecting, asker)
        {
            tokio::select! {
                // The program has given it up, and dropped, the dialling is taken back.
                () = wanted_tx.closed() => return,
                dialled = dialling => self.end_wait(hole, &let_go, local, dialled).await,
            }
        }
        self.waits.end(cookie, wanted_tx);
    }

    /// Has a socket in `hole`, whose own address there is `local`, end as its dialling did.
    async fn end_wait(
        &self,
        hole: &Hole,
        let_go: &LetGo,
        local: SocketAddr,
        dialled: io::Result<Dialled>,
    ) {
        // Held from here on, so that its port stays its own; it may have come to its own end.
        let connecting = self.take_again(let_go);
        let Some(connecting) = connecting.filter(|c| c.socket().is_on_its_way()) else {
            return;
        };
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
            }
            Err(error) => {
                tracing::debug!(%error, to = %connecting.address, "a connect came to nothing late");
                self.session.names.forget(connecting.cookie);
                let refused = refuse_late(&connecting, hole.closed);
                if let Err(error) = refused {
                    tracing::debug!(%error, "it waits for its own time-out");
                }
            }
        }
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

/// Meets the SYN of `client`, which is on its way to `hole`, with one from there.
async fn open_simultaneously(hole: SocketAddr, client: SocketAddr) -> io::Result<Box<dyn Stream>> {
    let socket = if hole.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(hole)?;
    let stream = socket.connect(client).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(Client::new(stream)))
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

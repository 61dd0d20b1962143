//! A connect whose outcome is the other end's own: connected, refused, timed out; and whose program does not wait
//! unless it asked to.
//!
//! ```text
//!   blocking ───── dialled, then the program's socket joins the proxy; or the other end's errno; until a signal comes,
//!        or the socket's own time (SO_SNDTIMEO) is over: then as below, and the call ends as the kernel's would
//!   non-blocking ─ the same, if it takes less than LATE; else
//!        SYN_SENT: the socket connects to a hole, which drops its SYN, and the call says EINPROGRESS
//!          ├─ the other end answered: a simultaneous open (RFC 9293, section 3.5) from the hole's own address
//!          └─ it did not: the socket connects to a closed port, and says ECONNREFUSED; to a program that looks in the
//!             very moment in between, ECONNRESET
//! ```
//!
//! A hole is a listener whose queue is full: the kernel drops what comes (tcp(7)). No privilege is needed for any of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::connect::{Connecting, errno};
use super::{Answer, Interceptor};
use crate::asker::Asker;
use crate::fence::{Arrival, Client, Peer};
use crate::remote::{Destination, Dialled, Pending, Remote, Stream, TargetNetwork, ThisMachine};
use crate::seccomp::Question;
use crate::socket::{canonical, for_family};

/// How long a call that does not block is held for the other end's answer: most refusals come sooner, and then the
/// call itself can say so.
const LATE: Duration = Duration::from_millis(20);

/// One turn of a connect that waits: how late it sees a signal.
const TURN: Duration = Duration::from_millis(50);

/// What the kernel makes EINTR of, or the call once more, as the signal's handler was installed (linux/errno.h,
/// `ERESTARTSYS`; sigaction(2), `SA_RESTART`). For a thread alone that has a signal.
const RESTART: i32 = 512;

/// What became of a program's wait for the other end.
pub(super) enum Waited {
    /// The other end answered.
    Dialled(io::Result<Dialled>),
    /// A signal came first; the call ends with this.
    Interrupted(i32),
    /// The socket's own time was over first.
    TimedOut,
    /// The program is gone.
    Gone,
}

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

/// How long a program waits for the other end.
#[derive(Debug)]
pub(super) struct Patience {
    asker: Asker,
    /// When its socket's own time is over; none: never.
    end: Option<Instant>,
}

impl Patience {
    /// That of a call which begins now, on a socket with this time of its own.
    pub(super) fn of(asker: Asker, time: Option<Duration>) -> Self {
        let end = time.map(|time| Instant::now() + time);
        Self { asker, end }
    }

    fn turn(&self) -> Duration {
        let left = self
            .end
            .map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(TURN, |left| left.min(TURN))
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// What a signal makes of the call: one with a time of its own does not begin anew (signal(7)).
    fn interruption(&self) -> i32 {
        if self.end.is_some() {
            libc::EINTR
        } else {
            RESTART
        }
    }
}

impl Interceptor {
    /// Connects in `network`, or here where there is none; the runtime answers.
    pub(super) fn connect_remotely(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        connecting: Connecting,
        network: Option<&Arc<TargetNetwork>>,
    ) -> Answer {
        let (interceptor, question) = (Arc::clone(self), *question);
        let network = network.map(Arc::clone);
        let socket = connecting.socket();
        let waits = socket.is_nonblocking().and_then(|is_nonblocking| {
            let patience = socket.send_timeout()?;
            Ok((!is_nonblocking).then_some(patience))
        });
        let waits = match waits {
            Ok(waits) => waits,
            Err(error) => return Answer::Fail(errno(&error)),
        };
        self.runtime.spawn(async move {
            let to = Destination::Tcp(connecting.address);
            let mut dialling: Pending<'_, Dialled> = match &network {
                Some(network) => Box::pin(network.dial_there(&to)),
                None => ThisMachine.dial(&to),
            };
            let waited = match waits {
                Some(patience) => {
                    let patience = Patience::of(asker, patience);
                    interceptor
                        .wait_for(&question, &patience, &mut dialling)
                        .await
                }
                None => match tokio::time::timeout(LATE, &mut dialling).await {
                    Ok(dialled) => Waited::Dialled(dialled),
                    Err(_) => Waited::TimedOut,
                },
            };
            let dialled = match waited {
                Waited::Dialled(dialled) => dialled,
                Waited::Interrupted(errno) => {
                    let waiting = interceptor.wait_in_hole(&question, connecting, dialling, errno);
                    return waiting.await;
                }
                Waited::TimedOut => {
                    let errno = libc::EINPROGRESS;
                    let waiting = interceptor.wait_in_hole(&question, connecting, dialling, errno);
                    return waiting.await;
                }
                Waited::Gone => return,
            };
            let answer = match dialled {
                Ok(upstream) => match interceptor.join(&connecting, Some(upstream)) {
                    Ok(()) => Answer::Succeed,
                    Err(errno) => Answer::Fail(errno),
                },
                Err(error) => Answer::Fail(errno(&error)),
            };
            interceptor.send(&question, answer);
        });
        Answer::Later
    }

    /// Waits for the other end as a program does that waits: until a signal, or its socket's own time.
    pub(super) async fn wait_for(
        &self,
        question: &Question,
        patience: &Patience,
        dialling: &mut Pending<'_, Dialled>,
    ) -> Waited {
        loop {
            if let Ok(dialled) = tokio::time::timeout(patience.turn(), &mut *dialling).await {
                return Waited::Dialled(dialled);
            }
            if !self.listener.is_valid(question) {
                return Waited::Gone;
            }
            if patience.asker.is_interrupted() {
                return Waited::Interrupted(patience.interruption());
            }
            if patience.is_over() {
                return Waited::TimedOut;
            }
        }
    }

    /// Lets the call end with `told` and its socket wait for the other end without it.
    async fn wait_in_hole(
        &self,
        question: &Question,
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
        let local = connecting.socket().local_address();
        self.session
            .names
            .remember(connecting.cookie, connecting.address, None);
        self.listener.fail(question, told);
        let (Ok(local), libc::EINPROGRESS) = (local, errno) else {
            return;
        };
        let opened = match dialling.await {
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

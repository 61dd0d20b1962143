//! Connections to the target's ports, for the sessions that asked for them.
//!
//! ```text
//!   client -> redirect (tproxy, expiring) -> listener -> plan: who has subscribed to the port
//!                                                            copies   -> tap, one stream a session
//!                                                            takers   -> whole, or by request (steal)
//!                                                            nobody   -> target, by a marked connection
//! ```
//!
//! Nothing is redirected before the first subscription, nor a port that no linked session wants. The redirection is
//! renewed while this process lives and expires by itself otherwise. The target sees relayed connections come from its
//! own machine. All of it needs CAP_NET_ADMIN in the target's network namespace, which is found out by the first
//! subscription and told by name.

mod client;
mod connection;
mod detect;
mod established;
mod filter;
mod leash;
mod ports;
mod redirect;
mod steal;
mod tap;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};
use wire::pump::{Session, keep_alive};
use wire::{
    Errno, IncomingMode, Notice, OnConcurrentSteal, SessionId, SubscribeFailure, Subscribed,
    Subscription,
};

use self::connection::{Arrival, Ground};
use self::filter::Filter;
use self::ports::{Ports, Share, Subscriber};
use self::redirect::{RENEW_EVERY, Redirect, RedirectError};

/// Connections that wait to be accepted: a burst must not be refused where the target would have taken it.
const BACKLOG: i32 = 4096;

/// Attempts to find a port that is free in both address families.
const BIND_ATTEMPTS: usize = 16;

/// The wait after a failed `accept`, which says that descriptors are short.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Everything about incoming connections of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Why no port is given away; none where they are.
    hands_off: Option<String>,
    state: Mutex<State>,
    ground: Arc<Ground>,
}

#[derive(Debug, Default)]
struct State {
    ports: Ports,
    running: Option<Running>,
}

/// What brings the connections of ports here.
trait Rules: std::fmt::Debug + Send {
    /// Redirects these ports and no others, for a while.
    ///
    /// # Errors
    /// The kernel's; what was redirected is until it expires.
    fn renew(&mut self, ports: &BTreeSet<u16>) -> io::Result<()>;
}

impl Rules for Redirect {
    fn renew(&mut self, ports: &BTreeSet<u16>) -> io::Result<()> {
        Self::renew(self, ports)
    }
}

/// The redirection and the tasks around it, which end with it.
#[derive(Debug)]
struct Running {
    redirect: Box<dyn Rules>,
    _tasks: JoinSet<()>,
}

impl Incoming {
    /// Nothing is subscribed yet; with a reason in `hands_off`, nothing will be.
    pub(crate) fn new(hands_off: Option<String>) -> Self {
        let shared = Shared {
            hands_off,
            ..Shared::default()
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Gives a session a port's connections, or copies of them.
    ///
    /// # Errors
    /// [`SubscribeFailure`]; nothing has changed.
    pub(crate) fn subscribe(
        &self,
        owner: SessionId,
        session: &Session,
        subscription: &Subscription,
    ) -> Result<Subscribed, SubscribeFailure> {
        let (share, on_concurrent) = share(&subscription.mode)?;
        if let Some(why) = &self.shared.hands_off {
            return Err(SubscribeFailure::Unsupported { lacks: why.clone() });
        }
        let port = subscription.port;
        let mut state = self.shared.lock();
        self.shared.ensure_running(&mut state)?;
        let subscriber = Arc::new(Subscriber::new(owner, subscription.id, session.clone()));
        let is_away = |known: &Subscriber| !known.session.is_linked();
        let before = state.ports.clone();
        let ended = state
            .ports
            .add(port, subscriber, share, on_concurrent, is_away)?;
        match self.begin(&mut state, port, subscription.end_established) {
            Ok(subscribed) => {
                for ended in ended {
                    // One that takes no news sees that its connections stop.
                    ended.session.notify(Notice::SubscriptionEnded {
                        subscription: ended.subscription,
                        why: "another session took the port over".into(),
                    });
                }
                Ok(subscribed)
            }
            Err(failure) => {
                state.ports = before;
                state.renew_or_expire();
                Err(failure)
            }
        }
    }

    /// Redirects `port` as well, and looks after its connections from before: those that the redirection, which stands
    /// then, does not see.
    fn begin(
        &self,
        state: &mut State,
        port: u16,
        end_established: bool,
    ) -> Result<Subscribed, SubscribeFailure> {
        state.renew().map_err(|error| SubscribeFailure::System {
            tried: format!("redirect port {port}"),
            errno: (&error).into(),
        })?;
        let ours = &self.shared.ground.ours;
        let is_ours = |local, peer| ours.has(local, peer);
        let settled = established::settle(port, end_established, is_ours);
        let settled = settled.map_err(|error| SubscribeFailure::System {
            tried: format!("list the connections of port {port}"),
            errno: Errno::from(&error),
        })?;
        Ok(Subscribed {
            left_established: settled.left,
            ended_established: settled.ended,
        })
    }

    /// Takes a subscription back; the target serves new connections at once.
    pub(crate) fn unsubscribe(&self, owner: SessionId, subscription: u32) {
        self.remove(|known| known.owner == owner && known.subscription == subscription);
    }

    /// Takes all subscriptions of a session back.
    pub(crate) fn forget(&self, owner: SessionId) {
        self.remove(|known| known.owner == owner);
    }

    /// Takes all subscriptions back and waits for the connections that are still carried to the target.
    pub(crate) async fn drain(&self) {
        self.remove(|_| true);
        self.shared.ground.ours.none_left().await;
    }

    fn remove(&self, gone: impl Fn(&Subscriber) -> bool) {
        let mut state = self.shared.lock();
        state.ports.remove(gone);
        state.renew_or_expire();
    }
}

/// Sets the rules for incoming connections in the calling thread's network namespace, and takes them away again.
///
/// # Errors
/// The kernel's own.
pub fn try_incoming() -> io::Result<()> {
    let listeners = listen_without_runtime()?;
    match Redirect::install(listeners, std::process::id()) {
        Ok(_gone) => Ok(()),
        Err(RedirectError::NotPermitted { source } | RedirectError::Unsupported { source }) => {
            Err(source)
        }
    }
}

/// A port that a transparent listener may have; nobody comes there.
fn listen_without_runtime() -> io::Result<u16> {
    let socket = transparent((Ipv4Addr::UNSPECIFIED, 0).into())?;
    let address = socket.local_addr()?.as_socket();
    address
        .map(|address| address.port())
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// What a mode gives, with its filter compiled.
fn share(mode: &IncomingMode) -> Result<(Share, OnConcurrentSteal), SubscribeFailure> {
    match mode {
        IncomingMode::Mirror => Ok((Share::Copy, OnConcurrentSteal::Continue)),
        IncomingMode::Steal {
            filter,
            on_concurrent,
        } => {
            let filter = filter.as_ref().map(Filter::compile).transpose();
            let filter = filter.map_err(|error| SubscribeFailure::BadFilter {
                why: format!("{error}: {}", error.source),
            })?;
            Ok((Share::Take(filter.map(Arc::new)), *on_concurrent))
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while ports are looked up")
    }

    /// Sets the rules and starts to listen, once.
    fn ensure_running(self: &Arc<Self>, state: &mut State) -> Result<(), SubscribeFailure> {
        if state.running.is_some() {
            return Ok(());
        }
        let not_permitted = || SubscribeFailure::NotPermitted {
            needs: "CAP_NET_ADMIN in the target's network namespace".into(),
        };
        let listeners = listen().map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                return not_permitted();
            }
            SubscribeFailure::System {
                tried: "listen for redirected connections".into(),
                errno: (&error).into(),
            }
        })?;
        let redirect = Redirect::install(listeners.port, std::process::id());
        let redirect = redirect.map_err(|error| match &error {
            RedirectError::NotPermitted { .. } => not_permitted(),
            RedirectError::Unsupported { source } => SubscribeFailure::Unsupported {
                lacks: format!("nf_tables with tproxy and expiring sets ({source})"),
            },
        })?;
        let mut tasks = JoinSet::new();
        for listener in listeners.listeners {
            tasks.spawn(Arc::clone(self).accept(listener, listeners.port));
        }
        tasks.spawn(Arc::clone(self).keep());
        state.running = Some(Running {
            redirect: Box::new(redirect),
            _tasks: tasks,
        });
        Ok(())
    }

    /// Renews the redirection for as long as the agent lives.
    async fn keep(self: Arc<Self>) {
        let mut tick = tokio::time::interval(RENEW_EVERY);
        // What was missed is over; the next one counts from then on.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let mut state = self.lock();
            state.ports.tell_dropped();
            if let Err(error) = state.renew() {
                warn!(%error, "ports are not redirected any more");
                state.end_all(&format!("the rules cannot be renewed: {error}"));
            }
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, port: u16) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => match arrival(&self.ground, &socket, peer, port) {
                        Ok(arrival) => {
                            let port = arrival.local.port();
                            let plan = self.lock().ports.plan(port);
                            let shared = Arc::downgrade(&self);
                            let who_takes = Box::new(move || {
                                let shared = shared.upgrade();
                                shared.map(|it| it.lock().ports.plan(port).takers).unwrap_or_default()
                            });
                            connections.spawn(arrival.serve(socket, plan, who_takes));
                        }
                        Err(error) => debug!(%error, %peer, "a connection was not redirected here"),
                    },
                    Err(error) => {
                        warn!(%error, "a redirected connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl State {
    fn renew(&mut self) -> io::Result<()> {
        let wanted = self.ports.wanted();
        match &mut self.running {
            Some(running) => running.redirect.renew(&wanted),
            None => Ok(()),
        }
    }

    /// Gives ports back.
    fn renew_or_expire(&mut self) {
        if let Err(error) = self.renew() {
            warn!(%error, "a port goes back to the target only when it expires");
        }
    }

    fn end_all(&mut self, why: &str) {
        for subscriber in self.ports.subscribers() {
            subscriber.session.notify(Notice::SubscriptionEnded {
                subscription: subscriber.subscription,
                why: why.to_owned(),
            });
        }
        self.ports = Ports::default();
    }
}

/// Listeners on one port of both families, to which rules may hand connections to any address.
///
/// # Errors
/// The system's.
pub(crate) fn transparent_listeners() -> io::Result<(u16, Vec<TcpListener>)> {
    let Listeners { port, listeners } = listen()?;
    Ok((port, listeners))
}

/// Where redirected connections arrive: one port in both families.
struct Listeners {
    port: u16,
    listeners: Vec<TcpListener>,
}

fn listen() -> io::Result<Listeners> {
    let mut failure = None;
    for _ in 0..BIND_ATTEMPTS {
        let version_4 = bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
        let port = version_4.local_addr()?.port();
        match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
            Ok(version_6) => {
                let listeners = vec![version_4, version_6];
                return Ok(Listeners { port, listeners });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => failure = Some(error),
            // A machine without version 6 has no clients of it.
            Err(_) => {
                let listeners = vec![version_4];
                return Ok(Listeners { port, listeners });
            }
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// A listener on every interface, since redirected packets keep the interface that they came by.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(transparent(address)?.into())
}

fn transparent(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // Its connections bear the target's address. The option is one for both families.
    socket.set_ip_transparent_v4(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A connection with the address that its client meant; an error if it was meant for us, which nobody has a reason for.
fn arrival(
    ground: &Arc<Ground>,
    socket: &TcpStream,
    peer: SocketAddr,
    port: u16,
) -> io::Result<Arrival> {
    let local = socket.local_addr()?;
    if local.port() == port {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    socket.set_nodelay(true)?;
    // Its connection to the target never breaks.
    keep_alive(socket)?;
    Ok(Arrival::new(ground, peer, local))
}

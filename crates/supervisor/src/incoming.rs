//! Connections that come to the target, delivered to the program's own listening sockets.
//!
//! ```text
//!   the program listens ─▶ wish ─▶ a subscription at the agent ─▶ its connections ─▶ the program's own port
//!   its last socket of the port is gone ─▶ the subscription is given up
//! ```
//!
//! Where the session has several agents, each of them is asked for the same, and one that joins later for what there is.
//!
//! Owns which subscription belongs to which sockets, and carrying. A copy's answers lead nowhere: the target's own went to
//! its client. Who connected is known to getpeername(2); accept(2) names the supervisor's end on loopback.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use wire::pump::{Inbound, Inbox, Offer, TcpEnd};
use wire::{
    Answer, CallError, Errno, Notice, OpenRequest, Opened, Request, SubscribeFailure, Subscription,
};

use crate::remote::{TargetAgent, TargetNetwork};
use crate::session::{Event, Session};

/// Bytes that wait in each direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long the program may keep a copied connection after its client has ended it.
const COPY_END_MAX: Duration = Duration::from_secs(60);

/// How long the program of a copied connection may say nothing before it is told that its client has ended it.
const COPY_QUIET: Duration = Duration::from_secs(5);

/// What the program listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    /// The socket.
    pub(crate) cookie: u64,
    /// What the program asked for.
    pub(crate) asked: SocketAddr,
    /// The port that it has.
    pub(crate) real: u16,
    /// Whether it is one of MPTCP, of whose end the kernel does not tell.
    pub(crate) is_multipath: bool,
}

/// Ports of the target that come here.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the number of the subscription.
    wanted: HashMap<u32, Wanted>,
    last: u32,
    /// By the supervisor's end of a delivered connection: who is at the other end of it.
    peers: HashMap<SocketAddr, SocketAddr>,
}

#[derive(Debug)]
struct Wanted {
    port: u16,
    to: SocketAddr,
    cookies: BTreeSet<u64>,
    wish: Subscription,
    listening: Listening,
    /// Whether the caller was told that its connections come.
    is_told: bool,
}

impl Subscriptions {
    /// The program listens: whether a subscription is to be asked for.
    fn add(&self, network: &TargetNetwork, listening: Listening) -> Option<Subscription> {
        let mut inner = self.lock();
        let number = inner.last + 1;
        let wish = network.plan().incoming.wish(number, listening.asked)?;
        // Several sockets may share a port: two families, or workers.
        let same = inner.wanted.values_mut().find(|w| w.port == wish.port);
        if let Some(same) = same {
            same.cookies.insert(listening.cookie);
            return None;
        }
        inner.last = number;
        let wanted = Wanted {
            port: wish.port,
            to: SocketAddr::new(listening.asked.ip(), listening.real),
            cookies: BTreeSet::from([listening.cookie]),
            wish: wish.clone(),
            listening,
            is_told: false,
        };
        inner.wanted.insert(number, wanted);
        Some(wish)
    }

    /// A socket is gone: the subscription that nobody needs any more.
    fn remove(&self, cookie: u64) -> Option<u32> {
        let mut inner = self.lock();
        let (number, wanted) = inner
            .wanted
            .iter_mut()
            .find(|(_, wanted)| wanted.cookies.contains(&cookie))?;
        wanted.cookies.remove(&cookie);
        let number = wanted.cookies.is_empty().then_some(*number)?;
        inner.wanted.remove(&number);
        Some(number)
    }

    fn forget(&self, number: u32) {
        self.lock().wanted.remove(&number);
    }

    /// What there is to be asked of an agent that joins.
    fn wishes(&self) -> Vec<Subscription> {
        let inner = self.lock();
        inner.wanted.values().map(|w| w.wish.clone()).collect()
    }

    /// The socket whose connections come, where the caller is to be told of it now.
    fn begin_telling(&self, number: u32) -> Option<Listening> {
        let mut inner = self.lock();
        let wanted = inner.wanted.get_mut(&number)?;
        (!std::mem::replace(&mut wanted.is_told, true)).then_some(wanted.listening)
    }

    fn place(&self, number: u32) -> Option<(u16, SocketAddr)> {
        let inner = self.lock();
        let wanted = inner.wanted.get(&number)?;
        Some((wanted.port, wanted.to))
    }

    /// Who connected, where the program's peer is `end`.
    pub(crate) fn peer(&self, end: SocketAddr) -> Option<SocketAddr> {
        self.lock().peers.get(&end).copied()
    }

    /// Whether nothing was delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().peers.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The program listens: subscribes at every agent, where the plan wants it. Ends with their answers.
pub(crate) async fn subscribe(session: Arc<Session>, listening: Listening) {
    let Some(network) = &session.network else {
        return;
    };
    let Some(wish) = session.subscriptions.add(network, listening) else {
        return;
    };
    let mut asked = JoinSet::new();
    for agent in network.agents() {
        let (session, wish) = (Arc::clone(&session), wish.clone());
        asked.spawn(async move { ask(&session, &agent, wish).await });
    }
    asked.join_all().await;
}

/// Asks one agent for one subscription, and tells what came of it: the first that is had, and each that is not.
async fn ask(session: &Session, agent: &TargetAgent, wish: Subscription) {
    let (number, port) = (wish.id, wish.port);
    if !agent.note_subscription(number) {
        return;
    }
    let is_copy = matches!(wish.mode, wire::IncomingMode::Mirror);
    let why = match agent.session().call(Request::Subscribe(wish)).await {
        Ok(Answer::Subscribe(Ok(subscribed))) => {
            if let Some(listening) = session.subscriptions.begin_telling(number) {
                session.tell(Event::Subscribed {
                    asked: listening.asked,
                    real: listening.real,
                    port,
                    is_copy,
                    left_established: subscribed.left_established,
                });
            }
            return;
        }
        Ok(Answer::Subscribe(Err(why))) => why,
        // The one that joins next is asked again.
        Err(CallError::Closed) if session.is_followed() => {
            agent.forget_subscription(number);
            return;
        }
        Ok(Answer::Dns(_) | Answer::Unsubscribe) | Err(_) => SubscribeFailure::System {
            tried: "ask the agent".to_owned(),
            errno: Errno::EIO,
        },
    };
    agent.forget_subscription(number);
    forget_unless_had(session, number);
    session.tell(Event::NotSubscribed { port, why });
}

/// Forgets a subscription that no agent has; a network that is followed has them again with the next agent.
fn forget_unless_had(session: &Session, number: u32) {
    let agents = session.network.iter().flat_map(|network| network.agents());
    let is_had = agents
        .into_iter()
        .any(|agent| agent.has_subscription(number));
    if !is_had && !session.is_followed() {
        session.subscriptions.forget(number);
    }
}

/// A socket is gone. Ends with the agents' answers.
pub(crate) async fn unsubscribe(session: &Session, cookie: u64) {
    let Some(subscription) = session.subscriptions.remove(cookie) else {
        return;
    };
    let agents = session.network.iter().flat_map(|network| network.agents());
    let mut asked = JoinSet::new();
    for agent in agents.filter(|agent| agent.forget_subscription(subscription)) {
        asked.spawn(async move {
            let request = Request::Unsubscribe { subscription };
            if let Err(error) = agent.session().call(request).await {
                tracing::debug!(%error, "a subscription was not given up: the session is over");
            }
        });
    }
    asked.join_all().await;
}

/// Delivers what comes from every agent of `network`: from the first, and from those that join.
pub(crate) async fn serve(session: Arc<Session>, network: Arc<TargetNetwork>, inbox: Inbox) {
    let Some(mut joining) = network.joining() else {
        return;
    };
    let mut served = JoinSet::new();
    if let Some(first) = network.agents().into_iter().next() {
        served.spawn(serve_agent(Arc::clone(&session), first, inbox));
    }
    while let Some((agent, inbox)) = joining.recv().await {
        // Those that have parted are let go.
        while served.try_join_next().is_some() {}
        let session = Arc::clone(&session);
        served.spawn(async move {
            let asked = async {
                for wish in session.subscriptions.wishes() {
                    ask(&session, &agent, wish).await;
                }
            };
            let delivered = serve_agent(Arc::clone(&session), Arc::clone(&agent), inbox);
            tokio::join!(asked, delivered);
        });
    }
}

/// Delivers what comes, until the agent's session is over.
async fn serve_agent(session: Arc<Session>, agent: Arc<TargetAgent>, mut inbox: Inbox) {
    while let Some(inbound) = inbox.next().await {
        match inbound {
            Inbound::Stream(offer) => {
                let session = Arc::clone(&session);
                tokio::spawn(async move {
                    if let Err(error) = deliver(&session, offer).await {
                        tracing::debug!(%error, "a delivered connection ended");
                    }
                });
            }
            Inbound::Notice(Notice::CopiesDropped { connections, .. }) => {
                session.tell(Event::CopiesDropped(connections));
            }
            Inbound::Notice(Notice::SubscriptionEnded { subscription, why }) => {
                agent.forget_subscription(subscription);
                if let Some((port, _)) = session.subscriptions.place(subscription) {
                    forget_unless_had(&session, subscription);
                    session.tell(Event::SubscriptionEnded { port, why });
                }
            }
            // The connection lets no call through to a client.
            Inbound::Call(_) => {}
        }
    }
}

async fn deliver(session: &Session, offer: Offer) -> io::Result<()> {
    let OpenRequest::Incoming {
        subscription,
        peer,
        local,
        copy,
    } = *offer.request()
    else {
        offer.refuse(Errno::EOPNOTSUPP);
        return Ok(());
    };
    let Some((_, to)) = session.subscriptions.place(subscription) else {
        offer.refuse(Errno::ECONNREFUSED);
        return Ok(());
    };
    let (mut program, end) = match connect(session, to, peer).await {
        Ok(connected) => connected,
        Err(error) => {
            offer.refuse((&error).into());
            return Err(error);
        }
    };
    let mut stream = offer.accept(Opened {
        local: Some(local),
        peer: Some(peer),
    });
    let carried = if copy {
        let carried = carry_copy(&mut stream, &mut program).await;
        if carried.is_err() {
            // Where it cannot be, the program sees an end of its client where there was a cut.
            program.set_zero_linger().ok();
        }
        carried
    } else {
        let mut program = session.uploads.of_program(TcpEnd::new(program));
        wire::pump::relay(&stream, &mut program).await
    };
    session.subscriptions.lock().peers.remove(&end);
    if let Err(error) = &carried {
        stream.reset_behind(error.into()).await;
    }
    carried
}

/// A connection to the program's port, and the end of it that the program sees.
async fn connect(
    session: &Session,
    to: SocketAddr,
    peer: SocketAddr,
) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failure = io::Error::from(io::ErrorKind::ConnectionRefused);
    for ip in reachable(to.ip()) {
        let socket = if ip.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        };
        let attempt = async {
            let socket = socket?;
            if ip.is_loopback() {
                // Written down before the program can ask who it is.
                socket.bind((ip, 0).into())?;
                let end = socket.local_addr()?;
                session.subscriptions.lock().peers.insert(end, peer);
                let connected = socket.connect((ip, to.port()).into()).await;
                if connected.is_err() {
                    session.subscriptions.lock().peers.remove(&end);
                }
                return Ok((connected?, end));
            }
            let stream = socket.connect((ip, to.port()).into()).await?;
            let end = stream.local_addr()?;
            session.subscriptions.lock().peers.insert(end, peer);
            Ok((stream, end))
        };
        match attempt.await {
            Ok((stream, end)) => {
                // Only latency is at stake.
                let _slower = stream.set_nodelay(true);
                return Ok((stream, end));
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The addresses by which a socket that is bound to `ip` is reached.
fn reachable(ip: IpAddr) -> Vec<IpAddr> {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]
        }
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => vec![ip],
    }
}

/// Gives the program what a client sent to the target, and lets its answers go nowhere. A client that has its answer is gone
/// at once, and servers drop what they have not answered when they read that (hyper does): the program is told of the end
/// once it has been quiet.
async fn carry_copy(stream: &mut wire::pump::Stream, program: &mut TcpStream) -> io::Result<()> {
    let (mut answers, mut requests) = program.split();
    let mut bytes = vec![0; BUFFER_BYTES];
    {
        let mut forth = std::pin::pin!(tokio::io::copy(stream, &mut requests));
        loop {
            tokio::select! {
                sent = &mut forth => {
                    sent?;
                    break;
                }
                // A program that closes first has heard enough.
                read = answers.read(&mut bytes) => if read? == 0 {
                    return Ok(());
                }
            }
        }
    }
    while let Ok(read) = tokio::time::timeout(COPY_QUIET, answers.read(&mut bytes)).await {
        if read? == 0 {
            return Ok(());
        }
    }
    requests.shutdown().await?;
    let rest = async {
        while answers.read(&mut bytes).await? > 0 {}
        io::Result::Ok(())
    };
    let ended = tokio::time::timeout(COPY_END_MAX, rest).await;
    ended.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_address_is_reached_on_this_machine() {
        let texts = |ip: &str| {
            let ips = reachable(ip.parse().unwrap());
            ips.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts("0.0.0.0"), ["127.0.0.1"]);
        assert_eq!(texts("::"), ["::1", "127.0.0.1"]);
        assert_eq!(texts("192.0.2.1"), ["192.0.2.1"]);
    }
}

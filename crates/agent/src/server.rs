//! Who comes: greets links, finds or begins their sessions, keeps those whose link is lost for their grace.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use wire::pump::{Guest, Session, greet};
use wire::{CloseReason, Refusal, Role, SessionId, Start};

use crate::dns::Resolver;
use crate::incoming::Incoming;
use crate::{Settings, session};

/// Sessions at once at one agent: a whole team on one target.
const SESSIONS_MAX: usize = 64;

/// Links at once, greeted or not: one a session and as many that are only trying.
const LINKS_MAX: usize = 4 * SESSIONS_MAX;

/// The longest that sessions are waited for at the end, after they were told.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(3);

/// How often an agent that ends by itself looks whether anybody is there.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// The wait after a failed `accept`, which says that descriptors are short: others have to end first.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its socket says what it cannot recover from.
    #[error("the agent's socket cannot be used")]
    Socket {
        /// Why.
        source: io::Error,
    },
}

/// Where sessions come to.
#[derive(Debug)]
pub enum Listener {
    /// On the agent's machine: whoever may open the socket.
    Unix(UnixListener),
    /// In the target's network: on loopback, which port-forwarding of a cluster leads to.
    Tcp(TcpListener),
}

/// One agent. Cheap to copy; all copies are the same one.
#[derive(Debug, Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) resolver: Resolver,
    pub(crate) incoming: Incoming,
    sessions: Mutex<HashMap<SessionId, Session>>,
}

/// Serves sessions that come to `listener` until `shutdown` ends, then tells them and ends.
///
/// # Errors
/// [`RunError`].
pub async fn run(
    settings: Settings,
    listener: Listener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    // An unusable socket is seen at once, not at the first session.
    listener
        .check()
        .map_err(|source| RunError::Socket { source })?;
    allow_descriptors();
    let agent = Agent::new(settings);
    let mut links = JoinSet::new();
    let idle = agent.idle();
    tokio::pin!(shutdown, idle);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = &mut idle => break,
            Some(_) = links.join_next() => {}
            accepted = listener.accept(), if links.len() < LINKS_MAX => match accepted {
                Ok(transport) => {
                    let agent = agent.clone();
                    links.spawn(async move { transport.be_served(&agent).await });
                }
                Err(error) => {
                    warn!(%error, "a link cannot be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            },
        }
    }
    agent.close();
    let ended = async {
        while links.join_next().await.is_some() {}
        // Clients of the target's that came through here get their answers.
        agent.inner.incoming.drain().await;
    };
    if tokio::time::timeout(SHUTDOWN_WITHIN, ended).await.is_err() {
        info!("connections to the target are cut, or sessions did not take leave in time");
    }
    Ok(())
}

impl Listener {
    fn check(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.local_addr().map(drop),
            Self::Tcp(listener) => listener.local_addr().map(drop),
        }
    }

    /// The next link. Cancel-safe.
    async fn accept(&self) -> io::Result<Transport> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(it, _)| Transport::Unix(it)),
            Self::Tcp(listener) => {
                let (transport, _) = listener.accept().await?;
                transport.set_nodelay(true).ok();
                Ok(Transport::Tcp(transport))
            }
        }
    }
}

/// What a link goes over.
enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Transport {
    async fn be_served(self, agent: &Agent) {
        match self {
            Self::Unix(transport) => agent.serve(transport).await,
            Self::Tcp(transport) => agent.serve(transport).await,
        }
    }
}

/// Takes as many descriptors as the process may have: every connection that is carried costs two.
pub(crate) fn allow_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the number of descriptors stays as it is");
    }
}

impl Agent {
    /// An agent that serves no link yet.
    pub fn new(settings: Settings) -> Self {
        let resolver = Resolver::new(settings.resolv_conf.clone(), settings.hosts.clone());
        let incoming = Incoming::new(settings.hands_off.clone());
        let inner = Inner {
            settings,
            resolver,
            incoming,
            sessions: Mutex::new(HashMap::new()),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Greets whoever is at the other end of `transport` and carries his session until the link is lost, and for its
    /// grace if no other link takes over.
    pub async fn serve<T>(&self, transport: T)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let key_of = |id: &SessionId| Some(self.inner.settings.key.session_key(id));
        let guest = match greet(transport, key_of).await {
            Ok(guest) => guest,
            Err(error) => return debug!(error = %chain(&error), "a link was not accepted"),
        };
        let id = guest.session();
        let session = match self.admit(id, guest.start()) {
            Ok(session) => session,
            Err(refusal) => {
                info!(session = %id, ?refusal, "a link was refused");
                return guest.refuse(refusal).await;
            }
        };
        self.carry(guest, id, &session).await;
    }

    async fn carry<T>(&self, guest: Guest<T>, id: SessionId, session: &Session)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        guest.carry(session).await;
        session.wait_apart().await;
        // A closed one may have been replaced by a new one of its id.
        let mut sessions = self.sessions();
        if session.is_closed() && sessions.get(&id).is_some_and(|there| there.is(session)) {
            sessions.remove(&id);
        }
    }

    /// The session that a proven client carries on, or a new one.
    fn admit(&self, id: SessionId, start: Start) -> Result<Session, Refusal> {
        let mut sessions = self.sessions();
        let known = sessions.get(&id).filter(|session| !session.is_closed());
        let known = known.cloned();
        match (start, known) {
            (Start::Resumed { .. }, None) => Err(Refusal::NoSuchSession),
            (Start::Resumed { .. }, Some(session)) => Ok(session),
            // A client whose first link broke before the welcome reached him tries again.
            (Start::Fresh, Some(session)) if session.is_untouched() => Ok(session),
            (Start::Fresh, Some(_)) => Err(Refusal::SessionExists),
            (Start::Fresh, None)
                if sessions.len() >= SESSIONS_MAX && !give_up_one(&mut sessions) =>
            {
                Err(Refusal::TooManySessions)
            }
            (Start::Fresh, None) => {
                info!(session = %id, "a session begins");
                let (session, inbox) = Session::new(Role::Agent, self.inner.settings.grace);
                sessions.insert(id, session.clone());
                let inner = Arc::clone(&self.inner);
                tokio::spawn(session::serve(inner, id, session.clone(), inbox));
                Ok(session)
            }
        }
    }

    /// Waits until nobody was there for as long as the settings say; for ever where they say nothing.
    async fn idle(&self) {
        let Some(patience) = self.inner.settings.idle else {
            return std::future::pending().await;
        };
        let mut left = patience;
        let mut looks = tokio::time::interval(IDLE_LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        looks.tick().await;
        while !left.is_zero() {
            looks.tick().await;
            left = if self.sessions().values().any(|session| !session.is_closed()) {
                patience
            } else {
                left.saturating_sub(IDLE_LOOK)
            };
        }
        info!("nobody is there any more");
    }

    /// Tells all sessions that the agent ends.
    pub fn close(&self) {
        for session in self.sessions().values() {
            session.close(CloseReason::ShuttingDown);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.inner
            .sessions
            .lock()
            .expect("nothing panics while sessions are looked up")
    }
}

/// Ends one session whose link is away, where there is one: whoever comes now is more alive.
fn give_up_one(sessions: &mut HashMap<SessionId, Session>) -> bool {
    let away = sessions.iter().find(|(_, session)| !session.is_linked());
    let Some(id) = away.map(|(id, _)| *id) else {
        return false;
    };
    if let Some(session) = sessions.remove(&id) {
        session.close(CloseReason::GraceExpired);
    }
    true
}

/// An error with its causes, for a log line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use wire::AgentKey;
    use wire::pump::connect;

    use super::*;

    /// What no step takes as long as.
    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_agent_on_tcp_serves_while_somebody_is_there_and_then_ends_by_itself() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let settings = Settings {
            key: AgentKey::new([7; 32]),
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            root: "/".into(),
            process: None,
            grace: SOON,
            idle: Some(IDLE_LOOK),
            hands_off: None,
        };
        let id = SessionId::draw();
        let key = settings.key.session_key(&id);
        let running = run(settings, Listener::Tcp(listener), std::future::pending());
        let running = tokio::spawn(running);
        let dial = move || TcpStream::connect(address);
        let (session, inbox) = connect(dial, id, key, SOON).await.expect("a session");
        // Longer than the agent goes on without anybody.
        tokio::time::sleep(3 * IDLE_LOOK).await;
        assert!(!running.is_finished() && !session.is_closed());
        session.leave(CloseReason::Done).await;
        drop(inbox);
        let ended = tokio::time::timeout(SOON, running).await;
        ended
            .expect("it ends")
            .expect("without panic")
            .expect("well");
    }
}

//! Who comes: greets links, finds or begins their sessions, keeps those whose link is lost for their grace.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
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
    listener: UnixListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    // An unusable socket is seen at once, not at the first session.
    listener
        .local_addr()
        .map_err(|source| RunError::Socket { source })?;
    allow_descriptors();
    let agent = Agent::new(settings);
    let mut links = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = links.join_next() => {}
            accepted = listener.accept(), if links.len() < LINKS_MAX => match accepted {
                Ok((transport, _)) => {
                    let agent = agent.clone();
                    links.spawn(async move { agent.serve(transport).await });
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
        if session.is_closed() {
            self.sessions().remove(&id);
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

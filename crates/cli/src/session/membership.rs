//! A session's hold on its branches: joined, kept by heartbeats, left.
//!
//! ```text
//! new ──asks for branches──▶ joined ──keep──▶ … ──leave──▶ left: the TTL of its branches starts
//!                 ├── the engine is away: started again where it is ours, joined again, for `away_max`
//!                 └── a branch is gone or failed, or somebody stopped the session ──▶ SessionLoss
//! ```

use std::time::Duration;

use jiff::Timestamp;
use model::engine_api::{
    BranchPhase, BranchView, HEARTBEAT_INTERVAL, Holder, JoinSession, SessionId,
};
use model::{BranchId, BranchName};
use tokio::time::MissedTickBehavior;

use super::network;
use crate::clock;
use crate::contexts::ClusterSession;
use crate::engine_client::{ClientError, EngineClient};
use crate::engine_start;
use crate::settings::Settings;
use crate::ui::{Ui, words};

/// How long a session goes on without this machine's engine: a restart with hundreds of branches takes seconds.
const ENGINE_AWAY_MAX: Duration = Duration::from_secs(60);

/// How long the end of a session may take; the engine notices a missing one by itself.
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(3);

/// What a session lost that it cannot do without.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionLoss {
    /// A branch was deleted.
    #[error("branch {0} was deleted while the session held it")]
    Deleted(String),
    /// A branch was deleted, and another one made under its id.
    #[error(
        "branch {0} was deleted while the session held it, and another branch was made under its id"
    )]
    Replaced(String),
    /// A branch does not answer any more.
    #[error("branch {id} failed while the session held it: {message}")]
    Failed {
        /// The branch.
        id: String,
        /// The engine's words.
        message: String,
    },
    /// Somebody stopped the session.
    #[error("{0}")]
    Stopped(String),
    /// Somebody ended the session's resource in its cluster.
    #[error("{0}")]
    Ended(String),
    /// No engine tells what became of the branches.
    #[error("no engine answered for {}", words::span(.away.as_secs()))]
    Engine {
        /// For how long.
        away: Duration,
        /// What the last question came to.
        #[source]
        source: ClientError,
    },
}

/// One session's hold on the branches of all its engines.
pub(crate) struct Membership<'a> {
    id: SessionId,
    owner: String,
    program: String,
    /// One an engine: this machine's, or in a cluster each branch host's.
    parts: Vec<Part<'a>>,
    /// It has asked for a branch, which it holds as soon as the engine hears of it.
    joined: bool,
    /// The session as its cluster knows it.
    resource: Option<ClusterSession>,
}

/// What it holds of one engine.
struct Part<'a> {
    settings: &'a Settings,
    client: EngineClient,
    held: Vec<Held>,
}

/// A branch as it was when the session came to it.
struct Held {
    name: BranchName,
    id: BranchId,
    /// Tells it from one that is made later under the same id; a reset keeps it.
    created_at: Timestamp,
}

impl<'a> Membership<'a> {
    /// A hold under this id, by somebody who runs `program`, on branches of the engines of these settings. Nothing is held
    /// yet.
    pub(crate) fn new(
        id: SessionId,
        owner: String,
        engines: Vec<&'a Settings>,
        program: String,
        resource: Option<ClusterSession>,
    ) -> Self {
        let parts = engines.into_iter().map(|settings| Part {
            settings,
            client: EngineClient::new(settings.engine_socket()),
            held: Vec::new(),
        });
        Self {
            id,
            owner,
            program,
            parts: parts.collect(),
            joined: false,
            resource,
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    /// The settings of its engines.
    pub(crate) fn engines(&self) -> Vec<&'a Settings> {
        self.parts.iter().map(|part| part.settings).collect()
    }

    /// Joins the branches that are about to be asked for: what the requests say, so that the session holds each from the
    /// first moment on. From here on there is something to leave.
    pub(crate) fn join(&mut self) -> Holder {
        self.joined = true;
        Holder {
            id: self.id.clone(),
            owner: self.owner.clone(),
            pid: std::process::id(),
            program: self.program.clone(),
        }
    }

    /// Notes which branches the requests to an engine came to: those that heartbeats are about.
    pub(crate) fn hold(&mut self, engine: usize, branches: &[BranchView]) {
        let part = &mut self.parts[engine];
        let held = branches.iter().map(|branch| Held {
            name: branch.name.clone(),
            id: branch.id.clone(),
            created_at: branch.created_at,
        });
        part.held = held.collect();
    }

    /// Sends heartbeats until something is lost. Cancel-safe.
    pub(crate) async fn keep(&self, ui: &Ui) -> SessionLoss {
        // Each by itself: an engine that is away holds up no other's.
        let parts = self.parts.iter();
        let keeping = parts.map(|part| Box::pin(self.keep_part(part, ui)));
        let keeping = futures_util::future::select_all(keeping);
        let ended = async {
            match &self.resource {
                Some(resource) => resource.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (loss, _, _) = keeping => loss,
            why = ended => SessionLoss::Ended(why),
        }
    }

    /// Whether there is anything that may be lost.
    pub(crate) fn may_be_lost(&self) -> bool {
        self.joined || self.resource.is_some()
    }

    async fn keep_part(&self, part: &Part<'_>, ui: &Ui) -> SessionLoss {
        if part.held.is_empty() {
            return std::future::pending().await;
        }
        let join = JoinSession {
            branches: part.held.iter().map(|held| held.name.clone()).collect(),
            owner: self.owner.clone(),
            pid: std::process::id(),
            program: self.program.clone(),
        };
        let mut beats = tokio::time::interval(HEARTBEAT_INTERVAL);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and asking was a heartbeat.
        beats.tick().await;
        let mut away_since = None;
        let elsewhere = part.settings.engine_elsewhere.as_deref();
        let away_max = away_max(elsewhere.is_some());
        loop {
            beats.tick().await;
            match part.client.join_session(&self.id, &join).await {
                Ok(branches) => {
                    away_since = None;
                    if let Some(loss) = find_loss(&part.held, &branches) {
                        return loss;
                    }
                }
                Err(error) if error.is_not_found() => return part.find_deleted().await,
                Err(source) => {
                    if let Some(words) = source.stopped() {
                        return SessionLoss::Stopped(words.to_owned());
                    }
                    let now = clock::monotonic();
                    if let (None, Some(place)) = (away_since, elsewhere) {
                        ui.warn(&describe_stray(place, away_max));
                    }
                    if now - *away_since.get_or_insert(now) >= away_max {
                        let away = away_max;
                        return SessionLoss::Engine { away, source };
                    }
                    part.call_back(source).await;
                }
            }
        }
    }

    /// Ends the hold; answers with the branches as they then are, which nobody knows where an engine does not answer.
    pub(crate) async fn leave(&mut self) -> Option<Vec<BranchView>> {
        if !std::mem::take(&mut self.joined) {
            return Some(Vec::new());
        }
        let parts = self.parts.iter().map(|part| part.leave(&self.id));
        let left = futures_util::future::join_all(parts).await;
        let all: Option<Vec<Vec<BranchView>>> = left.into_iter().collect();
        all.map(|branches| branches.concat())
    }
}

impl Part<'_> {
    /// Starts the engine where it is away. That it cannot be is only told once it was away for too long.
    async fn call_back(&self, error: ClientError) {
        tracing::info!(%error, "the engine did not take a heartbeat");
        if error.is_absence()
            && let Err(error) = engine_start::connect(self.settings).await
        {
            tracing::info!(%error, "the engine does not start");
        }
    }

    /// Names the branch that a refused heartbeat was about.
    async fn find_deleted(&self) -> SessionLoss {
        let living = self.client.branches(None).await;
        let is_gone = |held: &&Held| {
            let living = living.as_ref();
            living.is_ok_and(|all| all.iter().all(|branch| branch.name != held.name))
        };
        let gone = self.held.iter().find(is_gone);
        // A branch that was made anew under its old name does not know this session either.
        let id = gone.or(self.held.first()).map(|held| &held.id);
        SessionLoss::Deleted(id.map(ToString::to_string).unwrap_or_default())
    }

    async fn leave(&self, id: &SessionId) -> Option<Vec<BranchView>> {
        let leaving = self.client.leave_session(id);
        match tokio::time::timeout(LEAVE_WAIT_MAX, leaving).await {
            Ok(Ok(branches)) => Some(branches),
            Ok(Err(error)) => {
                tracing::info!(%error, "the engine did not hear the session's end");
                None
            }
            Err(_) => None,
        }
    }
}

/// How long an engine may be away. One that is elsewhere is reached over the same network as the target, whose link may
/// be away as long; whether its branches are still there then, its first answer tells.
fn away_max(is_elsewhere: bool) -> Duration {
    if is_elsewhere {
        network::GRACE
    } else {
        ENGINE_AWAY_MAX
    }
}

/// What is told of an engine elsewhere that does not answer.
fn describe_stray(place: &str, away_max: Duration) -> String {
    format!(
        "no word from the engine in {place}: trying again for {}, while its branches stay for their TTL",
        words::span(away_max.as_secs())
    )
}

/// What of the `held` branches is lost, by the engine's answer to a heartbeat.
fn find_loss(held: &[Held], branches: &[BranchView]) -> Option<SessionLoss> {
    let replaced = branches.iter().find(|branch| {
        let mut held = held.iter();
        held.any(|held| held.name == branch.name && held.created_at != branch.created_at)
    });
    match replaced {
        // The session was led to another one: its data is not what the program was proven to have.
        Some(branch) => Some(SessionLoss::Replaced(branch.id.to_string())),
        None => branches.iter().find_map(loss_of),
    }
}

fn loss_of(branch: &BranchView) -> Option<SessionLoss> {
    let id = branch.id.to_string();
    match branch.phase {
        BranchPhase::Failed => Some(SessionLoss::Failed {
            id,
            message: branch.message.clone().unwrap_or_default(),
        }),
        BranchPhase::Deleting => Some(SessionLoss::Deleted(id)),
        BranchPhase::Copying
        | BranchPhase::Cloning
        | BranchPhase::Starting
        | BranchPhase::Ready => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_in_a_cluster_may_be_away_as_long_as_the_link_to_the_target() {
        assert_eq!(away_max(true), network::GRACE);
        assert!(away_max(false) < away_max(true));
        assert_eq!(
            describe_stray("the pod a", away_max(true)),
            "no word from the engine in the pod a: trying again for 15 min, while its branches stay for their TTL"
        );
    }
}

//! A session of a cluster as its resource: begun, asked by for agents, kept by heartbeats, ended.
//!
//! ```text
//!   create Session, one ask ──operator──> status.answers: an agent, sealed to the ask's key ──> a way to it
//!        │                        ├── Declined, or nobody says anything ──> the user's own rights   (Begun::Unserved)
//!        │                        └── a refusal ──> that
//!        ├── another pod: another ask, with a key of its own
//!        ├── a heartbeat every BEAT_EVERY; who stops the session is read from its answer
//!        └── the end: the resource is deleted; of who was killed the operator deletes it
//! ```
//!
//! Names are anybody's to take, who may delete and create: answers are believed of the very object that was made here, by its uid.
//!
//! Owns the resource's wording and the waits. Leaves where agents stand to the operator, what they are asked to `invitation`.

mod keeping;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use model::{Namespace, TargetRef};
use operator::agents::{ApiFailure, PodId, PodState, SeenPod, workload_of};
use resources::{
    PodName, PodStanding, Session, SessionAgent, SessionAsk, SessionPhase, SessionPod, SessionSpec,
    SessionStatus,
};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::TargetWish;
use super::branch_host::who_asks;
use super::error::ClusterError;
use super::invitation::Invitation;
use super::pod_agent::PodAgent;
use super::sealed::OpeningKey;
use crate::clock;

/// How long nobody may say anything of a new session: an operator looks every second, and another one takes the lead of
/// one that was killed only later.
const SERVED_WITHIN: Duration = Duration::from_secs(6);

/// How long an agent may take: the operator gives one up before.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How often the resource is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long the end may take; the operator notices a missing one by itself.
const END_WITHIN: Duration = Duration::from_secs(3);

/// What is said where another object has the session's name.
const REPLACED: &str = "somebody deleted the session's resource and made another one of its name, whose answers are not for this session";

/// What became of the wish for a session.
pub(super) enum Begun {
    /// An operator gives it agents; the first one.
    Served(ClusterSession, Granted),
    /// None does; why, where the user should know.
    Unserved(Option<String>),
}

/// An agent, with ways to it that are each for one session.
pub(super) struct Granted {
    /// Where it stands.
    pub(super) agent: SessionAgent,
    /// The ways.
    pub(super) ways: Vec<PodAgent>,
}

/// A session that an operator gives agents to. Cheap to copy; all copies are the same one.
#[derive(Clone)]
pub(crate) struct ClusterSession {
    inner: Arc<Inner>,
}

struct Inner {
    api: Api<Session>,
    pods: Api<Pod>,
    name: String,
    /// Of the object that was made here, or made again.
    uid: Mutex<String>,
    /// By what the object is known that is being made again, until it is found.
    renewal: Mutex<Option<String>>,
    spec: SessionSpec,
    /// What is asked for at this moment.
    asks: Mutex<Vec<SessionAsk>>,
    /// Held while that is told, so that a later list is not overtaken by an earlier one.
    telling: tokio::sync::Mutex<()>,
    /// Why it is over.
    over: watch::Sender<Option<String>>,
    beating: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    fn uid(&self) -> String {
        lock(&self.uid).clone()
    }

    /// Takes up an object of the session's name that was made again here, though nobody said so: the answer was lost.
    fn recognize(&self, found: &Session) {
        let mut renewal = lock(&self.renewal);
        if keeping::is_renewed(found, renewal.as_deref(), &self.spec) {
            *lock(&self.uid) = uid_of(found);
            *renewal = None;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(beating) = lock(&self.beating).take() {
            beating.abort();
        }
    }
}

impl fmt::Debug for ClusterSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSession")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

/// What a look at the session gave.
enum Looked {
    /// Its status, where it has one.
    Seen(Option<SessionStatus>),
    /// The API server is away for a moment.
    Away,
}

impl ClusterSession {
    /// Begins the session of `wish` in the place of `target`, and waits for its first agent.
    ///
    /// # Errors
    /// [`ClusterError`] when the cluster's rules or its operator refuse it; nothing of it is left then.
    pub(super) async fn begin(
        client: &Client,
        namespace: &Namespace,
        target: &TargetRef,
        wish: &TargetWish,
    ) -> Result<Begun, ClusterError> {
        let Some(workload) = workload_of(target) else {
            return Ok(Begun::Unserved(None));
        };
        let api: Api<Session> = Api::namespaced(client.clone(), namespace.as_str());
        let key = draw()?;
        let ask = SessionAsk {
            key: key.public_text(),
            pod: None,
        };
        let spec = SessionSpec {
            target: workload,
            network: wish.network.clone(),
            asks: vec![ask.clone()],
            requester: who_asks(client).await?,
        };
        let wanted = resource(&wish.session, &spec);
        let begun = api.create(&PostParams::default(), &wanted).await;
        let made = match begun.map_err(ApiFailure::from) {
            Ok(made) => made,
            // Nobody has to know of sessions: without the definition, or the right, it is as it always was.
            Err(failure) if failure.is_not_found() => return Ok(Begun::Unserved(None)),
            Err(failure) if failure.is_forbidden() && !failure.is_denied_by_policy() => {
                return Ok(Begun::Unserved(None));
            }
            Err(source) => {
                return Err(ClusterError::Api {
                    tried: format!("begin a session in namespace {namespace}"),
                    right: format!("create sessions.bough.dev -n {namespace}"),
                    source,
                });
            }
        };
        let session = Self::new(client, api, &made, spec, ask);
        let given_up = session.clone();
        wish.leftovers.note(async move { given_up.end().await });
        let granted = session.first(key).await;
        if !matches!(granted, Ok(Ok(_))) {
            session.end().await;
        }
        Ok(match granted? {
            Ok(granted) => Begun::Served(session, granted),
            Err(why) => Begun::Unserved(Some(why)),
        })
    }

    fn new(
        client: &Client,
        api: Api<Session>,
        made: &Session,
        spec: SessionSpec,
        ask: SessionAsk,
    ) -> Self {
        let (over, _) = watch::channel(None);
        let namespace = api.namespace().unwrap_or("default").to_owned();
        let inner = Arc::new(Inner {
            api,
            pods: Api::namespaced(client.clone(), &namespace),
            name: made.name_any(),
            uid: Mutex::new(uid_of(made)),
            renewal: Mutex::default(),
            spec: SessionSpec {
                asks: Vec::new(),
                ..spec
            },
            asks: Mutex::new(vec![ask]),
            telling: tokio::sync::Mutex::default(),
            over,
            beating: Mutex::default(),
        });
        let beating = tokio::spawn(keeping::keep(Arc::downgrade(&inner)));
        *lock(&inner.beating) = Some(beating);
        Self { inner }
    }

    /// The first agent; or why nobody gives one who would otherwise.
    async fn first(&self, key: OpeningKey) -> Result<Result<Granted, String>, ClusterError> {
        let asked = clock::monotonic();
        loop {
            let Looked::Seen(status) = self.look_since(asked).await? else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            match &status {
                None if asked.elapsed() >= SERVED_WITHIN => {
                    return Ok(Err(format!(
                        "no operator answered for {} s",
                        SERVED_WITHIN.as_secs()
                    )));
                }
                Some(status) if status.phase == SessionPhase::Declined => {
                    return Ok(Err(status.message.clone().unwrap_or_default()));
                }
                None | Some(_) => {}
            }
            let public = key.public_text();
            if let Some(answer) = answer_to(&public, status) {
                return self.granted(key, answer, None).map(Ok);
            }
            if asked.elapsed() >= ANSWER_WITHIN {
                return Err(self.unserved(format!("no agent after {} s", ANSWER_WITHIN.as_secs())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// An agent beside this pod of the target.
    ///
    /// # Errors
    /// [`ClusterError`] when there is none in time.
    pub(super) async fn join(&self, pod: &PodId) -> Result<Granted, ClusterError> {
        let key = draw()?;
        let public = key.public_text();
        let ask = SessionAsk {
            key: public.clone(),
            pod: Some(PodName {
                name: pod.name.clone(),
                uid: pod.uid.clone(),
            }),
        };
        let _asked = Asked::new(&self.inner, ask);
        self.tell_asks().await?;
        let asked = clock::monotonic();
        while asked.elapsed() < ANSWER_WITHIN {
            if let Looked::Seen(status) = self.look_since(asked).await?
                && let Some(answer) = answer_to(&public, status)
            {
                return self.granted(key, answer, Some(pod));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(self.unserved(format!("no agent after {} s", ANSWER_WITHIN.as_secs())))
    }

    /// The target's pods as the operator saw them last, the best first.
    ///
    /// # Errors
    /// [`ClusterError`] when the API server does not say, or the operator has not yet.
    pub(super) async fn pods(&self) -> Result<Vec<SeenPod>, ClusterError> {
        match self.look().await?.and_then(|status| status.pods) {
            Some(pods) => Ok(pods.iter().map(seen).collect()),
            None => Err(self.unserved("its pods are not told yet".to_owned())),
        }
    }

    /// Waits until somebody ends the session; says who or what. Cancel-safe.
    pub(crate) async fn over(&self) -> String {
        let mut over = self.inner.over.subscribe();
        loop {
            if let Some(why) = over.borrow_and_update().clone() {
                return why;
            }
            if over.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Ends it, once: the resource goes.
    pub(crate) async fn end(&self) {
        let Some(beating) = lock(&self.inner.beating).take() else {
            return;
        };
        beating.abort();
        let (api, name) = (&self.inner.api, &self.inner.name);
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(self.inner.uid()),
            resource_version: None,
        });
        let ending = async {
            loop {
                match api.delete(name, &params).await.map_err(ApiFailure::from) {
                    Ok(_) => return,
                    // It is gone, or another one has its name.
                    Err(failure) if failure.is_not_found() || failure.is_contested() => return,
                    Err(failure) => tracing::info!(%failure, name, "the session is not deleted"),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(END_WITHIN, ending).await.is_err() {
            tracing::info!(name, "nobody hears of the session's end");
        }
    }

    async fn look(&self) -> Result<Option<SessionStatus>, ClusterError> {
        let found = self.inner.api.get(&self.inner.name).await;
        let found = found.map_err(|error| self.failure("get", error.into()))?;
        self.inner.recognize(&found);
        if uid_of(&found) != self.inner.uid() {
            return Err(self.unserved(REPLACED.to_owned()));
        }
        Ok(found.status)
    }

    /// The same for somebody who waits since `asked`, and whom a moment of the API server's need not concern.
    async fn look_since(&self, asked: Instant) -> Result<Looked, ClusterError> {
        match self.look().await {
            Err(ClusterError::Api { source, .. })
                if source.is_passing() && asked.elapsed() < ANSWER_WITHIN =>
            {
                tracing::info!(%source, name = self.inner.name, "the session is not looked at just now");
                Ok(Looked::Away)
            }
            looked => looked.map(Looked::Seen),
        }
    }

    async fn tell_asks(&self) -> Result<(), ClusterError> {
        let _first_come = self.inner.telling.lock().await;
        let asks = lock(&self.inner.asks).clone();
        let patch = json!({"metadata": {"uid": self.inner.uid()}, "spec": {"asks": asks}});
        let patch = Patch::Merge(patch);
        let (api, params) = (&self.inner.api, PatchParams::default());
        let told = api.patch(&self.inner.name, &params, &patch).await;
        told.map(drop)
            .map_err(|error| self.failure("patch", error.into()))
    }

    /// What an answer gives; an agent beside another pod than was asked for, nothing.
    fn granted(
        &self,
        key: OpeningKey,
        answer: Result<SessionAgent, String>,
        asked: Option<&PodId>,
    ) -> Result<Granted, ClusterError> {
        let public = key.public_text();
        lock(&self.inner.asks).retain(|ask| ask.key != public);
        let agent = answer.map_err(|why| self.unserved(why))?;
        let is_beside = |pod: &PodId| (&agent.pod.name, &agent.pod.uid) == (&pod.name, &pod.uid);
        if !asked.is_none_or(is_beside) {
            return Err(self.unserved("its agent is beside another pod".to_owned()));
        }
        let invitation = key
            .open(&agent.sealed)
            .and_then(|words| Invitation::parse(&words));
        let Some(invitation) = invitation else {
            return Err(self.unserved("its answer is not for this session".to_owned()));
        };
        let (pods, port) = (&self.inner.pods, invitation.port);
        let sessions = invitation.sessions.into_iter();
        let ways = sessions.map(|credential| {
            let (pod, container) = (&agent.pod.name, &agent.container);
            PodAgent::new(pods.clone(), pod, container, port, credential)
        });
        Ok(Granted {
            ways: ways.collect(),
            agent,
        })
    }

    fn unserved(&self, why: String) -> ClusterError {
        ClusterError::Unserved {
            session: self.inner.name.clone(),
            namespace: self.namespace().to_owned(),
            why,
        }
    }

    fn failure(&self, verb: &str, source: ApiFailure) -> ClusterError {
        let namespace = self.namespace();
        ClusterError::Api {
            tried: format!(
                "{verb} the session {} in namespace {namespace}",
                self.inner.name
            ),
            right: format!("{verb} sessions.bough.dev -n {namespace}"),
            source,
        }
    }

    fn namespace(&self) -> &str {
        self.inner.api.namespace().unwrap_or("default")
    }
}

/// Something that is asked for until this goes.
struct Asked<'a> {
    inner: &'a Inner,
    key: String,
}

impl<'a> Asked<'a> {
    fn new(inner: &'a Inner, ask: SessionAsk) -> Self {
        let key = ask.key.clone();
        lock(&inner.asks).push(ask);
        Self { inner, key }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(&self.inner.asks).retain(|ask| ask.key != self.key);
    }
}

fn uid_of(session: &Session) -> String {
    session.uid().unwrap_or_default()
}

fn draw() -> Result<OpeningKey, ClusterError> {
    OpeningKey::draw().ok_or(ClusterError::NoRandomness)
}

fn resource(name: &str, spec: &SessionSpec) -> Session {
    let mut session = Session::new(name, spec.clone());
    let beat = (
        operator::BEAT_ANNOTATION.to_owned(),
        clock::now().to_string(),
    );
    session.metadata.annotations = Some([beat].into());
    session
}

/// What became of the ask with this key; none where nothing has yet.
fn answer_to(key: &str, status: Option<SessionStatus>) -> Option<Result<SessionAgent, String>> {
    let answers = status?.answers.into_iter();
    let mut own = answers.filter(|answer| answer.key == key);
    let answer = own.next()?;
    Some(match answer.agent {
        Some(agent) => Ok(agent),
        None => Err(answer.refusal.unwrap_or_default()),
    })
}

fn seen(pod: &SessionPod) -> SeenPod {
    SeenPod {
        id: PodId {
            name: pod.pod.name.clone(),
            uid: pod.pod.uid.clone(),
        },
        state: match pod.standing {
            PodStanding::Waits => PodState::Waits,
            PodStanding::Runs => PodState::Runs { is_ready: false },
            PodStanding::Ready => PodState::Runs { is_ready: true },
            PodStanding::Ending => PodState::Ending,
            PodStanding::Ended => PodState::Ended,
        },
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in it can be half written.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

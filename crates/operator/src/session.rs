//! `Session`: agents placed for whoever begins one, so that he needs no right to place them himself.
//!
//! ```text
//!   every LOOK_EVERY:  sessions of all namespaces ──> whose turn it is ──> plan, a task a session ──> apply
//!                              └── told in the next turn <── an agent placed, a task an ask <────────────┘
//! ```
//!
//! Owns when sessions are looked at, and the tasks. Leaves whose turn it is to `turns`, what is to be done to `plan`, doing it
//! to `apply`, agents to `agents`.

mod apply;
mod plan;
mod turns;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use resources::{Session, SessionAsk};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, Interval};

use crate::Settings;
use crate::agents::ApiFailure;
use crate::look::places;
use crate::observed::{Loop, Observed};
use crate::step::StepError;
use plan::{Action, Known, Placed};
pub use plan::{BEAT_ANNOTATION, SILENCE_MAX, STOPPED_ANNOTATION};
use turns::{Turn, Turns, uid_of};

/// How often sessions are looked at: somebody waits for each new one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks after sessions until it is dropped; its tasks end with it.
pub(crate) async fn look_after(
    client: &Client,
    settings: &Settings,
    now: fn() -> Timestamp,
    observed: &Observed,
) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut work = Work {
        client,
        image: &settings.host.image,
        now,
        observed,
        turns: Turns::default(),
        tasks: JoinSet::new(),
        doing: HashMap::new(),
    };
    loop {
        tokio::select! {
            _ = looks.tick() => {
                observed.turns(Loop::Sessions);
                let mut all = Vec::new();
                for place in places(&settings.namespaces) {
                    match list(client, place).await {
                        Ok(sessions) => all.extend(sessions),
                        Err(error) => tell(observed, &error),
                    }
                }
                // Whoever ended while they were listed is taken as busy: of him an old state may have been listed.
                work.begin_turns(all);
            }
            Some(ended) = work.tasks.join_next_with_id() => work.note(ended, &mut looks),
        }
    }
}

/// What runs, and what it takes.
struct Work<'a> {
    client: &'a Client,
    image: &'a str,
    now: fn() -> Timestamp,
    observed: &'a Observed,
    turns: Turns,
    tasks: JoinSet<Done>,
    /// What each task does, should it break off.
    doing: HashMap<Id, Doing>,
}

enum Doing {
    /// The turn of the session with this uid.
    Turn(String),
    /// The ask with this key of it.
    Placing(String, String),
}

enum Done {
    Turned {
        session: Box<Session>,
        /// Agents that are to be placed.
        asks: Vec<SessionAsk>,
        failure: Option<StepError>,
    },
    Placed {
        uid: String,
        placed: Placed,
    },
}

impl Work<'_> {
    fn begin_turns(&mut self, sessions: Vec<Session>) {
        for turn in self.turns.pick(sessions, (self.now)(), Instant::now()) {
            let doing = Doing::Turn(uid_of(&turn.session));
            let (client, now) = (self.client.clone(), self.now);
            let task = self.tasks.spawn(async move {
                let mut asks = Vec::new();
                let failure = take(&client, &turn, now, &mut asks).await.err();
                let session = Box::new(turn.session);
                Done::Turned {
                    session,
                    asks,
                    failure,
                }
            });
            self.doing.insert(task.id(), doing);
        }
    }

    fn note(&mut self, ended: Result<(Id, Done), JoinError>, looks: &mut Interval) {
        match ended {
            Ok((task, done)) => {
                self.doing.remove(&task);
                match done {
                    Done::Turned {
                        session,
                        asks,
                        failure,
                    } => {
                        if let Some(error) = failure {
                            tell(self.observed, &error);
                        }
                        let uid = uid_of(&session);
                        for ask in self.turns.turned(&uid, asks) {
                            self.place(&session, ask);
                        }
                    }
                    Done::Placed { uid, placed } => {
                        self.turns.placed(&uid, placed);
                        // Somebody waits for it.
                        looks.reset_immediately();
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "a session's task broke off");
                match self.doing.remove(&error.id()) {
                    Some(Doing::Turn(uid)) => drop(self.turns.turned(&uid, Vec::new())),
                    Some(Doing::Placing(uid, key)) => self.turns.gave_up(&uid, &key),
                    None => {}
                }
            }
        }
    }

    fn place(&mut self, session: &Session, ask: SessionAsk) {
        let uid = uid_of(session);
        let doing = Doing::Placing(uid.clone(), ask.key.clone());
        let (client, image) = (self.client.clone(), self.image.to_owned());
        let session = session.clone();
        let task = self.tasks.spawn(async move {
            let answer = apply::place(&client, &image, &session, &ask).await;
            if let Err(why) = &answer {
                let (namespace, name) = (session.namespace(), session.name_any());
                tracing::warn!(namespace, name, "no agent for a session: {why}");
            }
            let placed = (ask, answer);
            Done::Placed { uid, placed }
        });
        self.doing.insert(task.id(), doing);
    }
}

/// One session's turn; `asks` are those that an agent is to be placed for.
async fn take(
    client: &Client,
    turn: &Turn,
    now: fn() -> Timestamp,
    asks: &mut Vec<SessionAsk>,
) -> Result<(), StepError> {
    let session = &turn.session;
    let mut known = Known {
        placed: turn.placed.clone(),
        ..Known::default()
    };
    if turn.wants_agents {
        known.may_place = Some(apply::may_place(client, session).await?);
    }
    // Pods that are not seen hold nothing else up: a session that is silent goes all the same.
    let mut unseen = None;
    if turn.sees_pods && known.may_place != Some(false) {
        match apply::pods(client, session).await {
            Ok(pods) => known.pods = Some(pods),
            Err(error) => unseen = Some(error),
        }
    }
    for action in plan::plan(session, &known, now()) {
        match action {
            Action::Tell(wanted) => apply::tell(client, session, &wanted).await?,
            Action::Place(ask) => asks.push(ask),
            Action::Forget => apply::forget(client, session).await?,
        }
    }
    unseen.map_or(Ok(()), Err)
}

async fn list(client: &Client, place: Option<&str>) -> Result<Vec<Session>, StepError> {
    let api: Api<Session> = match place {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let listed = api.list(&ListParams::default()).await;
    let listed = listed.map_err(|error| StepError::Agents {
        tried: match place {
            Some(namespace) => format!("list sessions in namespace {namespace}"),
            None => "list sessions".to_owned(),
        },
        source: ApiFailure::from(error),
    })?;
    Ok(listed.items)
}

fn tell(observed: &Observed, error: &StepError) {
    observed.figures.failed(error.of());
    tracing::warn!("{}", error.told());
}

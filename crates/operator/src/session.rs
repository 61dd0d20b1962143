//! `Session`: agents placed for whoever begins one, so that he needs no right to place them himself.
//!
//! ```text
//!   every LOOK_EVERY:  sessions of all namespaces ──> plan, a task a session ──> apply
//! ```
//!
//! Owns when which session is looked at: placing an agent takes seconds, and holds up nobody else's. Leaves what is to be done
//! to `plan`, doing it to `apply`, agents to `agents`. That a session's task runs is all that is remembered.

mod apply;
mod plan;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use resources::{Session, SessionAsk, SessionStatus};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::Settings;
use crate::agents::ApiFailure;
use crate::look::places;
use crate::observed::{Loop, Observed};
use crate::step::StepError;
use plan::{Action, Known};
pub use plan::{BEAT_ANNOTATION, SILENCE_MAX, STOPPED_ANNOTATION};

/// How often sessions are looked at: somebody waits for each new one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the pods of one session's target are: a list each.
const PODS_EVERY: Duration = Duration::from_secs(3);

/// Sessions that are worked on at once; the others have their turn at a later look.
const AT_ONCE: usize = 64;

/// Agents of one session that are placed at once.
const PLACED_AT_ONCE: usize = 8;

/// Looks after sessions until it is dropped; its tasks end with it.
pub(crate) async fn look_after(
    client: &Client,
    settings: &Settings,
    now: fn() -> Timestamp,
    observed: &Observed,
) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turns = Turns::default();
    loop {
        looks.tick().await;
        observed.turns(Loop::Sessions);
        turns.clear(observed);
        let mut all = Vec::new();
        for place in places(&settings.namespaces) {
            match list(client, place).await {
                Ok(sessions) => all.extend(sessions),
                Err(error) => tell(observed, &error),
            }
        }
        turns.forget_all_but(&all);
        for session in all {
            turns.begin(client, settings, session, now);
        }
    }
}

/// Who has a turn at this moment, and when the pods of each were looked at.
#[derive(Default)]
struct Turns {
    tasks: JoinSet<Option<StepError>>,
    /// Whose turn each task is.
    busy: HashMap<Id, String>,
    looked_at: BTreeMap<String, Instant>,
}

impl Turns {
    /// Notes who is done.
    fn clear(&mut self, observed: &Observed) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let task = match ended {
                Ok((task, failure)) => {
                    if let Some(error) = failure {
                        tell(observed, &error);
                    }
                    task
                }
                Err(error) => {
                    tracing::error!(%error, "a session's turn broke off");
                    error.id()
                }
            };
            self.busy.remove(&task);
        }
    }

    fn forget_all_but(&mut self, sessions: &[Session]) {
        let is_there = |uid: &str| sessions.iter().any(|it| it.uid().as_deref() == Some(uid));
        self.looked_at.retain(|uid, _| is_there(uid));
    }

    fn begin(
        &mut self,
        client: &Client,
        settings: &Settings,
        session: Session,
        now: fn() -> Timestamp,
    ) {
        let uid = session.uid().unwrap_or_default();
        let is_busy = self.busy.values().any(|busy| *busy == uid);
        if is_busy || self.tasks.len() >= AT_ONCE {
            return;
        }
        let looked_at = self.looked_at.get(&uid);
        let sees_pods = looked_at.is_none_or(|it| it.elapsed() >= PODS_EVERY);
        if sees_pods {
            self.looked_at.insert(uid.clone(), Instant::now());
        }
        let (client, image) = (client.clone(), settings.host.image.clone());
        let turn = async move {
            let took = take(&client, &image, &session, sees_pods, now).await;
            took.err()
        };
        self.busy.insert(self.tasks.spawn(turn).id(), uid);
    }
}

/// One session's turn.
async fn take(
    client: &Client,
    image: &str,
    session: &Session,
    sees_pods: bool,
    now: fn() -> Timestamp,
) -> Result<(), StepError> {
    let mut known = Known::default();
    let places = !plan::unanswered(session).is_empty();
    if places {
        known.may_place = Some(apply::may_place(client, session).await?);
    }
    // Before an agent is told: whoever has it goes by them.
    if known.may_place == Some(true) || (sees_pods && plan::is_followed(session)) {
        match apply::pods(client, session).await {
            Ok(pods) => known.pods = Some(pods),
            // Placing says why, to whoever waits for it.
            Err(_) if places => {}
            Err(error) => return Err(error),
        }
    }
    let mut status = session.status.clone().unwrap_or_default();
    let mut asks = Vec::new();
    for action in plan::plan(session, &known, now()) {
        match action {
            Action::Tell(wanted) => {
                apply::tell(client, session, &wanted).await?;
                status = *wanted;
            }
            Action::Place(ask) => asks.push(ask),
            Action::Forget => apply::forget(client, session).await?,
        }
    }
    place_all(client, image, session, asks, status).await
}

/// Places agents side by side, and tells of each as it is there.
async fn place_all(
    client: &Client,
    image: &str,
    session: &Session,
    asks: Vec<SessionAsk>,
    mut status: SessionStatus,
) -> Result<(), StepError> {
    let placing = asks.into_iter().map(|ask| async move {
        let answer = apply::place(client, image, session, &ask).await;
        (ask, answer)
    });
    let mut placing = stream::iter(placing).buffer_unordered(PLACED_AT_ONCE);
    while let Some((ask, answer)) = placing.next().await {
        if let Err(why) = &answer {
            let (namespace, name) = (session.namespace(), session.name_any());
            tracing::warn!(namespace, name, "no agent for a session: {why}");
        }
        status = plan::answered(&status, &ask, answer);
        apply::tell(client, session, &status).await?;
    }
    Ok(())
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

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
use crate::note;
use crate::observed::{Loop, Observed};
use crate::step::StepError;
use plan::{Action, At, Known, Placed};
pub use plan::{BEAT_ANNOTATION, SILENCE_MAX, STOPPED_ANNOTATION};
use turns::{Turn, Turns, uid_of};

/// How often sessions are looked at: somebody waits for each new one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the turn of one session may take. Cut off anywhere, the next one goes on.
const TURN_WITHIN: Duration = Duration::from_secs(60);

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
        leads_since: now(),
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
    /// When this operator began to look after sessions.
    leads_since: Timestamp,
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
    Turned { session: Box<Session>, taken: Taken },
    Placed { uid: String, placed: Placed },
}

/// What came of a turn.
#[derive(Default)]
struct Taken {
    /// Agents that are to be placed.
    asks: Vec<SessionAsk>,
    /// Whether the resource says what it was to say.
    is_told: bool,
    failure: Option<StepError>,
}

impl Work<'_> {
    fn begin_turns(&mut self, sessions: Vec<Session>) {
        let (now, leads_since) = (self.now, self.leads_since);
        let time = At {
            now: now(),
            leads_since,
        };
        for turn in self.turns.pick(sessions, time, Instant::now()) {
            let doing = Doing::Turn(uid_of(&turn.session));
            let client = self.client.clone();
            let time = move || At {
                now: now(),
                leads_since,
            };
            let task = self.tasks.spawn(async move {
                let taken = take_in_time(&client, &turn, time).await;
                let session = Box::new(turn.session);
                Done::Turned { session, taken }
            });
            self.doing.insert(task.id(), doing);
        }
    }

    fn note(&mut self, ended: Result<(Id, Done), JoinError>, looks: &mut Interval) {
        match ended {
            Ok((task, done)) => {
                self.doing.remove(&task);
                match done {
                    Done::Turned { session, taken } => {
                        if let Some(error) = taken.failure {
                            tell(self.observed, &error);
                        }
                        let uid = uid_of(&session);
                        for ask in self.turns.turned(&uid, taken.asks, taken.is_told) {
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
                    Some(Doing::Turn(uid)) => drop(self.turns.turned(&uid, Vec::new(), false)),
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

/// One session's turn, which ends: nobody looks at a session whose turn goes on.
async fn take_in_time(client: &Client, turn: &Turn, time: impl Fn() -> At) -> Taken {
    let mut taken = Taken::default();
    let turned = tokio::time::timeout(TURN_WITHIN, take(client, turn, time, &mut taken)).await;
    taken.failure = turned.unwrap_or_else(|_| Err(late(&turn.session))).err();
    taken
}

fn late(session: &Session) -> StepError {
    StepError::Late {
        tried: format!(
            "look after the session {} of namespace {}",
            session.name_any(),
            session.namespace().unwrap_or_default()
        ),
        limit: TURN_WITHIN,
    }
}

/// One session's turn. What is not known, of its pods or of what may be done for it, holds nothing else up: an answer is told
/// and a session that is silent goes all the same.
async fn take(
    client: &Client,
    turn: &Turn,
    time: impl Fn() -> At,
    taken: &mut Taken,
) -> Result<(), StepError> {
    let session = &turn.session;
    let mut known = Known {
        placed: turn.placed.clone(),
        ..Known::default()
    };
    let mut unknown = None;
    if turn.wants_agents {
        match apply::may_place(client, session).await {
            Ok(may_place) => known.may_place = Some(may_place),
            Err(error) => unknown = Some(error),
        }
    }
    if turn.sees_pods && known.may_place != Some(false) {
        match apply::pods(client, session).await {
            Ok(pods) => known.pods = Some(pods),
            Err(error) => unknown = Some(error),
        }
    }
    for action in plan::plan(session, &known, time()) {
        match action {
            Action::Tell(wanted) => apply::tell(client, session, &wanted).await?,
            Action::Place(ask) => taken.asks.push(ask),
            Action::Note(said) => note::write(client, session, said, time().now).await,
            Action::Forget => apply::forget(client, session).await?,
        }
    }
    taken.is_told = true;
    unknown.map_or(Ok(()), Err)
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use resources::SessionAgent;
    use serde_json::{Value, json};

    use super::*;
    use crate::agents::played_api::{play, refusal};

    fn agent() -> SessionAgent {
        serde_json::from_value(json!({
            "pod": {"name": "p", "uid": "u"}, "container": "bough-agent-0", "beside": "app", "seesProcess": true,
            "sealed": "00",
        }))
        .expect("an agent")
    }

    /// The turn of a session that asks for two agents and has one that it was not told of, which was heard at `heard`.
    fn turn(heard: &str) -> Turn {
        let session = json!({
            "metadata": {
                "name": "s", "namespace": "shop", "uid": "u", "annotations": {BEAT_ANNOTATION: "1"},
            },
            "spec": {
                "target": {"kind": "Deployment", "name": "inventory"},
                "asks": [{"key": "aa"}, {"key": "bb"}],
            },
            "status": {"phase": "Pending", "beat": "1", "heardAt": heard},
        });
        let session: Session = serde_json::from_value(session).expect("a session");
        let asked = session.spec.asks[0].clone();
        Turn {
            session,
            placed: vec![(asked, Ok(agent()))],
            sees_pods: false,
            wants_agents: true,
        }
    }

    fn time() -> At {
        At {
            now: "2026-01-01T00:02:00Z".parse().expect("a time"),
            leads_since: Timestamp::UNIX_EPOCH,
        }
    }

    /// Takes a turn where nobody says what the operator may; what was asked of the cluster beside that.
    async fn taken(turn: &Turn, is_writable: bool) -> (Taken, Vec<(String, Value)>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&asked);
        let client = play(move |method, path, body| {
            // What an event says stands in the status as well.
            if path.ends_with("/events") {
                return refusal(500, "etcd does not answer");
            }
            if path.ends_with("selfsubjectaccessreviews") {
                return refusal(500, "the authorizer does not answer");
            }
            let mut asked = shared.lock().expect("no panic");
            asked.push((method.to_owned(), body));
            if !is_writable {
                return refusal(500, "etcd does not answer");
            }
            let metadata = json!({"name": "s", "namespace": "shop"});
            let spec = json!({"target": {"kind": "Deployment", "name": "inventory"}});
            let kind = json!({"apiVersion": "bough.dev/v1alpha1", "kind": "Session"});
            let mut session = json!({"metadata": metadata, "spec": spec});
            let whole = session.as_object_mut().expect("an object");
            whole.extend(kind.as_object().expect("an object").clone());
            (200, session)
        });
        let mut taken = Taken::default();
        taken.failure = take(&client, turn, time, &mut taken).await.err();
        let asked = asked.lock().expect("no panic").clone();
        (taken, asked)
    }

    #[tokio::test]
    async fn an_answer_is_told_though_nobody_says_what_the_operator_may() {
        let (taken, asked) = taken(&turn("2026-01-01T00:01:00Z"), true).await;
        let [(method, body)] = asked.as_slice() else {
            panic!("{asked:?}");
        };
        assert_eq!(method, "PATCH");
        let status = &body["status"];
        assert_eq!(status["answers"][0]["key"], "aa");
        assert_eq!(status["phase"], "Ready", "and not declined");
        assert!(taken.is_told && taken.failure.is_some());
        assert_eq!(taken.asks, [], "that is a later turn's");
    }

    #[tokio::test]
    async fn a_silent_session_goes_though_nobody_says_what_the_operator_may() {
        let (_, asked) = taken(&turn("2026-01-01T00:00:00Z"), true).await;
        let methods: Vec<&str> = asked.iter().map(|(method, _)| method.as_str()).collect();
        assert_eq!(methods, ["DELETE"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_nobody_answers_ends_so_that_the_session_has_another() {
        let silent = axum::Router::<()>::new().fallback(|| async {
            std::future::pending::<()>().await;
        });
        let client = Client::new(silent, "default");
        let taken = take_in_time(&client, &turn("2026-01-01T00:01:00Z"), time).await;
        assert!(!taken.is_told);
        assert_eq!(
            taken.failure.expect("it is late").told(),
            "cannot look after the session s of namespace shop within 60 s"
        );
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_written_is_told_to_nobody() {
        let (taken, asked) = taken(&turn("2026-01-01T00:01:00Z"), false).await;
        assert_eq!(asked.len(), 1);
        assert!(!taken.is_told && taken.failure.is_some());
    }
}

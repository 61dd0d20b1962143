//! A session begun, kept and ended, at an API server that a test plays.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::contexts::kubernetes::played_api::{Answer, play, refusal};
use resources::NetworkWish;
use serde_json::Value;
use wire::{AgentKey, SessionId};

use super::super::Leftovers;
use super::super::invitation::SessionCredential;
use super::super::sealed::seal;
use super::keeping::{After, follows};
use super::*;
use crate::contexts::hex;

/// What a status says for an API server that does not answer.
const AWAY: &str = "Away";

/// The uid of all pods here.
const UID: &str = "u";

/// What an agent that listens on port 7 seals to `key`.
fn sealed(key: &str) -> String {
    let id = SessionId([3; 16]);
    let credential = || SessionCredential {
        id,
        key: AgentKey::new([5; 32]).session_key(&id),
    };
    let invitation = Invitation {
        port: 7,
        sessions: vec![credential(), credential()],
    };
    seal(&hex::parse(key).expect("a key"), &invitation.text()).expect("sealed")
}

/// A server that answers each look at the session with the status that `answer` gives for its asks; with the deletions.
fn server(
    answer: impl Fn(&[Value]) -> Option<Value> + Send + Sync + 'static,
) -> (Client, Arc<AtomicUsize>) {
    let (held, deleted) = (Mutex::new(json!(null)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&deleted);
    let client = play(move |method, path, body| -> Answer {
        if path.ends_with("/selfsubjectreviews") {
            return (
                201,
                json!({"metadata": {}, "status": {"userInfo": {"username": "alice"}}}),
            );
        }
        let mut held = held.lock().expect("no panic");
        match method {
            "POST" => {
                held.clone_from(&body);
                held["metadata"]["uid"] = json!("own");
            }
            "PATCH" if !body["spec"]["asks"].is_null() => {
                held["spec"]["asks"] = body["spec"]["asks"].clone();
            }
            "DELETE" => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        let mut told = held.clone();
        let asks = told["spec"]["asks"].as_array().cloned().unwrap_or_default();
        if let Some(mut status) = answer(&asks) {
            // Another object of the name, as the test has it.
            if let Some(uid) = status.as_object_mut().and_then(|it| it.remove("uid")) {
                told["metadata"]["uid"] = uid;
            }
            match (method, status["phase"] == AWAY) {
                ("GET", true) => return refusal(503, "it is being replaced"),
                (_, true) => {}
                (_, false) => told["status"] = status,
            }
        }
        (200, told)
    });
    (client, deleted)
}

async fn begin(client: &Client) -> Result<Begun, ClusterError> {
    let namespace = Namespace::new("shop").expect("a name");
    let target: TargetRef = "deployment/inventory".parse().expect("a target");
    let wish = TargetWish {
        session: "0a".to_owned(),
        network: NetworkWish::default(),
        image: "bough:1".to_owned(),
        by_operator: true,
        leftovers: Leftovers::default(),
    };
    ClusterSession::begin(client, &namespace, &target, &wish).await
}

fn agent(key: &Value, pod: &str) -> Value {
    let key = key.as_str().expect("a key");
    json!({"key": key, "agent": {
        "pod": {"name": pod, "uid": UID}, "container": "bough-agent-0", "beside": "app",
        "seesProcess": true, "sealed": sealed(key),
    }})
}

#[tokio::test(start_paused = true)]
async fn who_asks_has_two_ways_to_the_agent_and_others_for_each_further_pod() {
    let (client, deleted) = server(|asks| {
        let answers = asks.iter().map(|ask| {
            let pod = ask["pod"]["name"].as_str().unwrap_or("best");
            agent(&ask["key"], pod)
        });
        Some(json!({
            "phase": "Ready", "answers": answers.collect::<Vec<_>>(),
            "pods": [{"pod": {"name": "best", "uid": UID}, "standing": "Ready"}],
        }))
    });
    let Ok(Begun::Served(session, granted)) = begin(&client).await else {
        panic!("it is not served");
    };
    assert_eq!(
        (granted.agent.pod.name.as_str(), granted.ways.len()),
        ("best", 2)
    );
    let seen = session.pods().await.expect("they are told");
    assert_eq!(seen[0].state, PodState::Runs { is_ready: true });
    let other = PodId {
        name: "other".to_owned(),
        uid: UID.to_owned(),
    };
    let granted = session.join(&other).await.expect("it is served");
    assert_eq!(granted.agent.pod.name, "other");
    assert_eq!(
        lock(&session.inner.asks).len(),
        0,
        "nothing is asked for any more"
    );
    session.end().await;
    assert_eq!(deleted.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_a_moment_ends_no_wait_for_an_agent() {
    let looks = AtomicUsize::new(0);
    let (client, _) = server(move |asks| {
        // Longer than an operator is waited for.
        if looks.fetch_add(1, Ordering::Relaxed) < 60 {
            return Some(json!({"phase": AWAY}));
        }
        let answers: Vec<_> = asks.iter().map(|ask| agent(&ask["key"], "best")).collect();
        Some(json!({"phase": "Ready", "answers": answers}))
    });
    let begun = begin(&client).await;
    assert!(matches!(begun, Ok(Begun::Served(..))), "it waited in vain");
    let (gone, _) = server(|_| Some(json!({"phase": AWAY})));
    let Err(ClusterError::Api { source, .. }) = begin(&gone).await else {
        panic!("it is away for good");
    };
    assert!(source.is_passing(), "{source}");
}

#[tokio::test(start_paused = true)]
async fn where_nobody_serves_sessions_that_is_said_and_nothing_is_left() {
    let (declines, deleted) = server(|_| Some(json!({"phase": "Declined", "message": "may not"})));
    let Ok(Begun::Unserved(Some(why))) = begin(&declines).await else {
        panic!("it is served");
    };
    assert_eq!(
        (why.as_str(), deleted.load(Ordering::Relaxed)),
        ("may not", 1)
    );
    let (silent, deleted) = server(|_| None);
    let Ok(Begun::Unserved(Some(why))) = begin(&silent).await else {
        panic!("it is served");
    };
    assert_eq!(why, "no operator answered for 6 s");
    assert_eq!(deleted.load(Ordering::Relaxed), 1);
    // Without definition or right it is as it always was; a rule of the cluster's is told.
    for (code, message, is_told) in [
        (
            404,
            "the server could not find the requested resource",
            false,
        ),
        (403, "sessions.bough.dev is forbidden", false),
        (
            403,
            "ValidatingAdmissionPolicy 'bough-requester' denied request",
            true,
        ),
    ] {
        let client = play(move |_, path, _| {
            if path.ends_with("/selfsubjectreviews") {
                (201, json!({"metadata": {}}))
            } else {
                refusal(code, message)
            }
        });
        let begun = begin(&client).await;
        assert_eq!(begun.is_err(), is_told, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_and_an_answer_to_somebody_else_are_told_and_nothing_is_left() {
    let (refuses, deleted) = server(|asks| {
        let answer = json!({"key": asks[0]["key"], "refusal": "no pod runs"});
        Some(json!({"phase": "Failed", "answers": [answer]}))
    });
    let Err(ClusterError::Unserved { why, .. }) = begin(&refuses).await else {
        panic!("it is served");
    };
    assert_eq!(
        (why.as_str(), deleted.load(Ordering::Relaxed)),
        ("no pod runs", 1)
    );
    let (elsewhere, _) = server(|asks| {
        let mut answer = agent(&asks[0]["key"], "best");
        let other = OpeningKey::draw().expect("a key");
        answer["agent"]["sealed"] = json!(sealed(&other.public_text()));
        Some(json!({"phase": "Ready", "answers": [answer]}))
    });
    let Err(ClusterError::Unserved { why, .. }) = begin(&elsewhere).await else {
        panic!("it is served");
    };
    assert_eq!(why, "its answer is not for this session");
}

#[test]
fn who_is_gone_while_he_was_heard_was_stopped_and_who_slept_begins_anew() {
    let at = |text: &str| text.parse().expect("a time");
    let (heard, soon) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:20Z"));
    let late = at("2026-01-01T00:02:00Z");
    let gone = || {
        let status = json!({"kind": "Status", "status": "Failure", "code": 404, "message": "not found", "reason": "NotFound"});
        let status = serde_json::from_value(status).expect("a status");
        Err(ApiFailure::from(kube::Error::Api(Box::new(status))))
    };
    let over = After::Over("somebody deleted the session's resource".to_owned());
    assert_eq!(follows(gone(), "own", heard, soon), over);
    assert_eq!(follows(gone(), "own", heard, late), After::Renew);
    let session = |annotations: Value| {
        serde_json::from_value(json!({
            "metadata": {"name": "0a", "uid": "own", "annotations": annotations},
            "spec": {"target": {"kind": "Pod", "name": "p"}},
        }))
        .expect("a session")
    };
    let alive = || Ok(session(json!({})));
    assert_eq!(follows(alive(), "own", heard, soon), After::Go);
    // Whoever has taken its name meanwhile, with us asleep or not, is not it.
    let replaced = After::Over(REPLACED.to_owned());
    assert_eq!(follows(alive(), "other", heard, soon), replaced);
    assert_eq!(follows(alive(), "other", heard, late), replaced);
    let stopped = session(json!({operator::STOPPED_ANNOTATION: "ada@host"}));
    let over = After::Over("ada@host stopped the session".to_owned());
    assert_eq!(follows(Ok(stopped), "own", heard, soon), over);
}

/// A session whose resource went while its machine slept, and was made again with the answer lost; what the name leads to then
/// `change` has its word about. Whether the next beat goes on, and with which object.
async fn renewed_without_an_answer(change: fn(&mut Value)) -> (After, String) {
    let (held, made) = (Mutex::new(json!(null)), AtomicUsize::new(0));
    let client = play(move |method, path, body| -> Answer {
        if path.ends_with("/selfsubjectreviews") {
            let user = json!({"userInfo": {"username": "alice"}});
            return (201, json!({"metadata": {}, "status": user}));
        }
        let mut held = held.lock().expect("no panic");
        if method == "POST" {
            *held = body;
            let count = made.fetch_add(1, Ordering::Relaxed);
            held["metadata"]["uid"] = json!(["first", "second"][count]);
            if count > 0 {
                change(&mut held);
                return refusal(504, "the answer was lost");
            }
            let ask = held["spec"]["asks"][0]["key"].clone();
            held["status"] = json!({"phase": "Ready", "answers": [agent(&ask, "best")]});
        } else if method == "PATCH" && body["metadata"]["uid"] != held["metadata"]["uid"] {
            return refusal(409, "the UID in the precondition does not match");
        }
        (200, held.clone())
    });
    let Ok(Begun::Served(session, _)) = begin(&client).await else {
        panic!("it is not served");
    };
    let inner = &session.inner;
    let now = "2026-01-01T00:02:00Z".parse().expect("a time");
    keeping::renew(inner).await;
    let answer = keeping::beat(inner, now).await;
    (follows(answer, &inner.uid(), now, now), inner.uid())
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_is_lost_ends_no_session() {
    let found = renewed_without_an_answer(|_| {}).await;
    assert_eq!(found, (After::Go, "second".to_owned()));
    let over = || (After::Over(REPLACED.to_owned()), "first".to_owned());
    // Somebody who took the name, and one who had read by what it is known.
    let taken = |made: &mut Value| made["metadata"]["annotations"] = json!({});
    assert_eq!(renewed_without_an_answer(taken).await, over());
    let copied = |made: &mut Value| made["spec"]["requester"] = json!("mallory");
    assert_eq!(renewed_without_an_answer(copied).await, over());
}

#[tokio::test(start_paused = true)]
async fn another_object_of_its_name_is_not_believed() {
    // Who may create and delete sessions takes the name, and has an agent of his answer to the key, which all can read.
    let is_taken = std::sync::atomic::AtomicBool::new(false);
    let (late, _) = server(move |asks| {
        let answers = asks.iter().map(|ask| agent(&ask["key"], "evil"));
        let answers: Vec<_> = answers.collect();
        let is_looked_at = is_taken.swap(true, Ordering::Relaxed);
        is_looked_at.then(|| json!({"uid": "other", "phase": "Ready", "answers": answers}))
    });
    let Err(ClusterError::Unserved { why, .. }) = begin(&late).await else {
        panic!("it is served");
    };
    assert_eq!(why, REPLACED);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_pod_than_was_asked_for_is_not_believed() {
    let (client, _) = server(|asks| {
        let answers = asks.iter().map(|ask| agent(&ask["key"], "evil"));
        Some(json!({"phase": "Ready", "answers": answers.collect::<Vec<_>>()}))
    });
    let Ok(Begun::Served(session, _)) = begin(&client).await else {
        panic!("it is not served");
    };
    let other = PodId {
        name: "other".to_owned(),
        uid: UID.to_owned(),
    };
    let Err(ClusterError::Unserved { why, .. }) = session.join(&other).await else {
        panic!("it is served");
    };
    assert_eq!(why, "its agent is beside another pod");
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_not_told_yet_are_not_taken_for_none() {
    let told = Arc::new(Mutex::new(None));
    let pods = Arc::clone(&told);
    let (client, _) = server(move |asks| {
        let answers = asks.iter().map(|ask| agent(&ask["key"], "best"));
        let mut status = json!({"phase": "Ready", "answers": answers.collect::<Vec<_>>()});
        if let Some(pods) = pods.lock().expect("no panic").clone() {
            status["pods"] = pods;
        }
        Some(status)
    });
    let Ok(Begun::Served(session, _)) = begin(&client).await else {
        panic!("it is not served");
    };
    let unseen = session.pods().await;
    assert!(matches!(unseen, Err(ClusterError::Unserved { .. })));
    *told.lock().expect("no panic") = Some(json!([]));
    assert_eq!(session.pods().await.expect("they are told"), []);
}

//! Agents placed and asked, at an API server that a test plays.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;
use crate::agents::played_api::{Answer, play, refusal};

/// A pod `p` of one container `app`, with these agents: name, image, and whether each runs.
fn pod(agents: &[(&str, &str, bool)]) -> Value {
    let made = agents.iter().map(
        |(name, image, _)| json!({"name": name, "image": image, "targetContainerName": "app"}),
    );
    let statuses = agents.iter().map(|(name, _, runs)| {
        let state = if *runs {
            json!({"running": {}})
        } else {
            json!({"terminated": {"exitCode": 0}})
        };
        json!({"name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0})
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "app", "securityContext": {"runAsUser": 7}}],
            "ephemeralContainers": made.collect::<Vec<_>>(),
        },
        "status": {"ephemeralContainerStatuses": statuses.collect::<Vec<_>>()},
    })
}

fn chosen(pod: Value) -> ChosenPod {
    let pod: Pod = serde_json::from_value(pod).expect("it is a pod");
    let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
    ChosenPod {
        name: "p".to_owned(),
        pod,
        container,
    }
}

/// What nobody answers.
const QUESTION: Question<'_, ()> = Question {
    words: &["invite"],
    read: |_| None,
};

/// What a session wants of an agent.
pub(super) fn wish(incoming: bool) -> AgentWish {
    AgentWish {
        incoming,
        image: "bough:1".to_owned(),
    }
}

/// The pods of a server that answers so each method, or `exec`, and name of an agent; with the names that it was asked for.
fn pods(
    answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
) -> (Api<Pod>, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    let client = play(move |method, path, body| {
        let name = body["spec"]["ephemeralContainers"][0]["name"].as_str();
        let name = name.unwrap_or_default().to_owned();
        let is_exec = path.ends_with("/p/exec");
        let answered = answer(if is_exec { "exec" } else { method }, &name);
        if method == "PATCH" {
            assert_eq!(path, "/api/v1/namespaces/shop/pods/p/ephemeralcontainers");
            kept.lock().expect("no panic").push(name);
        }
        answered
    });
    (Api::namespaced(client, "shop"), asked)
}

#[tokio::test(start_paused = true)]
async fn of_two_who_come_together_the_second_uses_the_firsts_agent() {
    for code in [409, 422] {
        let (pods, asked) = pods(move |method, _| match method {
            "PATCH" => refusal(code, "existing ephemeral containers may not be changed"),
            _ => (200, pod(&[("bough-agent-0", "bough:1", true)])),
        });
        let agent = AgentContainer::place(&pods, &chosen(pod(&[])), &wish(false)).await;
        assert_eq!(agent.expect("it is there").name(), "bough-agent-0");
        assert_eq!(*asked.lock().expect("no panic"), ["bough-agent-0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_somebody_elses_or_has_ended_is_followed_by_the_next() {
    let of_others = ("bough-agent-0", "bough:2", true);
    let own = ("bough-agent-1", "bough:1", true);
    let (others_first, asked) = pods(move |method, name| match (method, name) {
        ("PATCH", "bough-agent-0") => refusal(422, "may not be changed"),
        ("PATCH", _) => (200, pod(&[of_others, own])),
        _ => (200, pod(&[of_others])),
    });
    let agent = AgentContainer::place(&others_first, &chosen(pod(&[])), &wish(false)).await;
    assert_eq!(agent.expect("it is made").name(), "bough-agent-1");
    assert_eq!(
        *asked.lock().expect("no panic"),
        ["bough-agent-0", "bough-agent-1"]
    );
    // The list was older than the end of the first.
    let ended = ("bough-agent-0", "bough:1", false);
    let (ended_since, _) = pods(move |_, name| match name {
        "bough-agent-0" => (200, pod(&[ended])),
        _ => (200, pod(&[ended, own])),
    });
    let agent = AgentContainer::place(&ended_since, &chosen(pod(&[])), &wish(false)).await;
    assert_eq!(agent.expect("it is made").name(), "bough-agent-1");
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_never_takes_is_told_after_some_looks() {
    let (pods, asked) = pods(|method, _| match method {
        "PATCH" => refusal(422, "nonsense"),
        _ => (200, pod(&[])),
    });
    let error = AgentContainer::place(&pods, &chosen(pod(&[])), &wish(false)).await;
    let Err(error @ AgentError::Refused { .. }) = error else {
        panic!("{error:?}");
    };
    assert!(error.hint().is_some_and(|it| it.contains("describe pod p")));
    assert_eq!(asked.lock().expect("no panic").len(), LOOKS_MAX);
}

/// As Kyverno and home-made webhooks refuse, and GKE's own.
#[tokio::test(start_paused = true)]
async fn an_agent_that_a_webhook_refuses_is_tried_with_less_and_its_words_are_told() {
    let denied = "admission webhook \"validate.kyverno.svc-fail\" denied the request: no root here";
    let without_user = || {
        let mut pod = pod(&[]);
        pod["spec"]["containers"] = json!([{"name": "app"}]);
        pod
    };
    let tries = Mutex::new(0);
    let running = [("bough-agent-0", "bough:1", true)];
    let (lenient, _) = pods(move |_, _| {
        let mut tries = tries.lock().expect("no panic");
        *tries += 1;
        if *tries == 1 {
            refusal(400, denied)
        } else {
            (200, pod(&running))
        }
    });
    let agent = AgentContainer::place(&lenient, &chosen(without_user()), &wish(false)).await;
    assert!(agent.expect("it is made").lacks_capabilities);

    let (strict, _) = pods(move |_, _| refusal(400, denied));
    let error = AgentContainer::place(&strict, &chosen(without_user()), &wish(false)).await;
    let error = error.expect_err("none may be there");
    assert!(
        error
            .hint()
            .is_some_and(|it| it.contains("a policy of the cluster"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_while_it_is_asked_is_told_as_ended() {
    let looks = Mutex::new(0);
    let exited = "container is in CONTAINER_EXITED state";
    // The pod says for two looks more that it runs.
    let (pods, _) = pods(move |method, _| {
        if method == "exec" {
            return refusal(500, exited);
        }
        let mut looks = looks.lock().expect("no panic");
        *looks += 1;
        (200, pod(&[("bough-agent-0", "bough:1", *looks < 3)]))
    });
    let agent = AgentContainer {
        name: "bough-agent-0".to_owned(),
        lacks_capabilities: false,
    };
    let invited = agent.ask(&pods, "p", &QUESTION).await.map(drop);
    assert!(
        matches!(invited, Err(AgentError::Ended { .. })),
        "{invited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_may_not_run_programs_in_it_is_told_at_once() {
    let (pods, _) = pods(|method, _| {
        assert_eq!(method, "exec", "nobody looks whether it runs");
        refusal(403, "forbidden")
    });
    let agent = AgentContainer {
        name: "bough-agent-0".to_owned(),
        lacks_capabilities: false,
    };
    let invited = agent.ask(&pods, "p", &QUESTION).await.map(drop);
    let Err(AgentError::Api { right, .. }) = invited else {
        panic!("{invited:?}");
    };
    assert_eq!(right, "create pods/exec -n shop");
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_does_not_answer_holds_nobody_for_longer_than_an_agent_may_take_to_start() {
    let silent = axum::Router::<()>::new().fallback(std::future::pending::<()>);
    let pods = Api::namespaced(kube::Client::new(silent, "shop"), "shop");
    let agent = AgentContainer {
        name: "bough-agent".to_owned(),
        lacks_capabilities: false,
    };
    let begun = tokio::time::Instant::now();
    let asked = agent.ask(&pods, "p", &QUESTION).await;
    assert!(matches!(asked, Err(AgentError::Silent { .. })), "{asked:?}");
    assert_eq!(begun.elapsed(), START_WITHIN);
}

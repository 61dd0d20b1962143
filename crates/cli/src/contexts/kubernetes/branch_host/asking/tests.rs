//! Branches asked for, at an API server and an operator that a test plays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use model::{BranchId, CopySpec, PgMajor};

use super::*;
use crate::contexts::kubernetes::played_api::{Answer, play, refusal};

/// As long as an operator keeps what nobody asks for.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

fn wish(id: &str, ttl: u64) -> BranchWish {
    BranchWish {
        id: BranchId::new(id).expect("an id"),
        source: "db:5432/inventory".to_owned(),
        version: PgMajor(16),
        copy: CopySpec::all(),
        ttl: Some(Ttl(ttl)),
        target: None,
    }
}

/// A cluster in which hosts take their time, and an operator that forgets as the real one does.
#[derive(Default)]
struct Played {
    /// When each branch was asked for last.
    asked: BTreeMap<String, Instant>,
    /// What was patched, in order.
    patches: Vec<Value>,
}

impl Played {
    fn answer(&mut self, method: &str, path: &str, body: Value, host: Option<&str>) -> Answer {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let known = self.asked.get(&name);
        let is_known = known.is_some_and(|at| at.elapsed() <= FORGOTTEN_AFTER);
        match method {
            "POST" => {
                let name = body["metadata"]["name"].as_str().expect("a name");
                self.asked.insert(name.to_owned(), Instant::now());
                return (201, body);
            }
            _ if !is_known => return refusal(404, "not found"),
            "PATCH" => {
                self.asked.insert(name.clone(), Instant::now());
                self.patches.push(body);
            }
            _ => {}
        }
        let branch = json!({
            "apiVersion": "bough.dev/v1alpha1", "kind": "Branch",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"id": "x", "source": "db:5432/inventory", "version": 16},
            "status": {"phase": "Making", "host": host, "message": "its pod is Pending"},
        });
        (200, branch)
    }
}

/// Somebody who asks there. The host of a branch of the later version is there at `second`, the others' at `first`.
fn asking(
    namespace: &Namespace,
    later: BranchName,
    (first, second): (Duration, Duration),
) -> (Asking<'_>, Arc<Mutex<Played>>) {
    let played = Arc::new(Mutex::new(Played::default()));
    let (shared, begun) = (Arc::clone(&played), Instant::now());
    let client = play(move |method, path, body| {
        let (pod, from) = if path.ends_with(later.as_str()) {
            ("bough-host-17-0", second)
        } else {
            ("bough-host-16-0", first)
        };
        let host = (begun.elapsed() >= from).then_some(pod);
        let mut played = shared.lock().expect("no panic");
        played.answer(method, path, body, host)
    });
    let asking = Asking {
        api: Api::namespaced(client, namespace.as_str()),
        namespace,
        requester: Some("alice".to_owned()),
        tell: &|_| {},
    };
    (asking, played)
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_is_asked_for_again_so_that_nobody_forgets_it() {
    let namespace = Namespace::new("shop").expect("a namespace");
    let wishes = [wish("one", 300), wish("other", 300)];
    let later = BranchName::of(&namespace, &wishes[1].id);
    // Each longer than what nobody asks for is kept, the second one after the first is there.
    let times = (Duration::from_secs(130), Duration::from_secs(175));
    let (asking, played) = asking(&namespace, later, times);
    let pods = asking.hosts(&wishes).await.expect("both have hosts");
    let pods: Vec<_> = pods.into_iter().collect();
    assert_eq!(
        pods,
        [
            ("bough-host-16-0".to_owned(), vec![0]),
            ("bough-host-17-0".to_owned(), vec![1])
        ]
    );
    // Whose TTL it is to be is said once: another session may have said another one since.
    let played = played.lock().expect("no panic");
    let has_spec = |it: &&Value| it.get("spec").is_some();
    assert_eq!(played.patches.iter().filter(has_spec).count(), 0);
    assert_eq!(played.patches.len(), 2 * (175 / 30));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_answers_is_told_with_what_it_waits_for() {
    let namespace = Namespace::new("shop").expect("a namespace");
    let wishes = [wish("one", 300)];
    let later = BranchName::of(&namespace, &wishes[0].id);
    let (asking, _) = asking(&namespace, later, (Duration::MAX, Duration::MAX));
    let error = asking.hosts(&wishes).await.expect_err("nobody answers");
    let told = "no branch host in namespace shop: none answers after 180 s: its pod is Pending";
    assert_eq!(error.to_string(), told);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_a_while_ends_no_wait_and_one_that_stays_away_is_told() {
    let namespace = Namespace::new("shop").expect("a namespace");
    for (back_after, told) in [
        (Duration::from_secs(100), None),
        (
            Duration::MAX,
            Some("none answers after 180 s: etcd is away"),
        ),
    ] {
        let played = Arc::new(Mutex::new(Played::default()));
        let begun = Instant::now();
        let client = play(move |method, path, body| {
            let since = begun.elapsed();
            if since >= Duration::from_secs(10) && since < back_after {
                return refusal(503, "etcd is away");
            }
            let host = (since >= back_after).then_some("bough-host-16-0");
            let mut played = played.lock().expect("no panic");
            played.answer(method, path, body, host)
        });
        let asking = Asking {
            api: Api::namespaced(client, namespace.as_str()),
            namespace: &namespace,
            requester: Some("alice".to_owned()),
            tell: &|_| {},
        };
        let waited = asking.hosts(&[wish("one", 300)]).await;
        match told {
            None => assert!(waited.expect("it is back").contains_key("bough-host-16-0")),
            Some(told) => {
                let error = waited.expect_err("it stays away").to_string();
                assert!(error.ends_with(told), "{error}");
            }
        }
    }
}

/// An operator lets a deleted resource go only where nobody writes it for so long.
const LET_GO_AFTER: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn a_branch_that_is_being_deleted_is_waited_for_without_a_word_and_made_anew() {
    let namespace = Namespace::new("shop").expect("a namespace");
    let played = Arc::new(Mutex::new(Played::default()));
    let (shared, written_at) = (Arc::clone(&played), Mutex::new(Instant::now()));
    let client = play(move |method, path, body| {
        let mut written_at = written_at.lock().expect("no panic");
        let mut played = shared.lock().expect("no panic");
        if !played.asked.is_empty() || method == "POST" {
            return played.answer(method, path, body, Some("bough-host-16-0"));
        }
        if written_at.elapsed() >= LET_GO_AFTER {
            return refusal(404, "not found");
        }
        if method == "PATCH" {
            *written_at = Instant::now();
        }
        let metadata = json!({
            "name": "x", "namespace": "shop", "deletionTimestamp": "2026-01-02T12:00:00Z",
        });
        let spec = json!({"id": "x", "source": "db:5432/inventory", "version": 16});
        let kind = json!({
            "apiVersion": "bough.dev/v1alpha1", "kind": "Branch", "metadata": metadata, "spec": spec,
        });
        (200, kind)
    });
    let asking = Asking {
        api: Api::namespaced(client, "shop"),
        namespace: &namespace,
        requester: None,
        tell: &|_| {},
    };
    let begun = Instant::now();
    let pods = asking.hosts(&[wish("one", 300)]).await.expect("it is made");
    assert_eq!(pods["bough-host-16-0"], [0]);
    assert!(begun.elapsed() <= LET_GO_AFTER + 2 * LOOK_EVERY);
}

#[tokio::test(start_paused = true)]
async fn policies_that_do_not_know_their_definitions_yet_are_waited_for_and_no_others() {
    let namespace = Namespace::new("shop").expect("a namespace");
    let denied = |why: &str| {
        let policy = "ValidatingAdmissionPolicy 'bough-limits' with binding 'bough-limits' denied";
        refusal(422, &format!("{policy} request: {why}"))
    };
    let new = "failed to configure policy: failed to find resource referenced by paramKind: \
               'bough.dev/v1alpha1, Kind=Source'";
    for (why, known_after, told) in [
        (new, Some(Duration::from_secs(31)), 1),
        (new, Some(Duration::from_millis(500)), 0),
        (new, None, 1),
        ("branches live for at most 300 s", None, 0),
    ] {
        let (played, begun) = (Mutex::new(Played::default()), Instant::now());
        let client = play(move |method, path, body| {
            if method == "POST" && known_after.is_none_or(|it| begun.elapsed() < it) {
                return denied(why);
            }
            let mut played = played.lock().expect("no panic");
            played.answer(method, path, body, Some("bough-host-16-0"))
        });
        let lines = Mutex::new(Vec::new());
        let tell = |line: &str| lines.lock().expect("no panic").push(line.to_owned());
        let asking = Asking {
            api: Api::namespaced(client, "shop"),
            namespace: &namespace,
            requester: None,
            tell: &tell,
        };
        let pods = asking.hosts(&[wish("one", 300)]).await;
        assert_eq!(pods.is_ok(), known_after.is_some(), "{why}: {pods:?}");
        let most = if why == new {
            POLICIES_WITHIN + LOOK_EVERY
        } else {
            Duration::ZERO
        };
        assert!(begun.elapsed() <= most, "{why}");
        assert_eq!(lines.lock().expect("no panic").len(), told, "{why}");
    }
}

#[tokio::test]
async fn another_ttl_is_asked_of_the_resource_whose_rules_may_refuse_it() {
    let sentence = "branches of this cluster live for at most 300 s (configmap bough-limits)";
    let played = Arc::new(Mutex::new(Played::default()));
    let namespace = Namespace::new("shop").expect("a namespace");
    let name = BranchName::of(&namespace, &wish("one", 300).id);
    let shared = Arc::clone(&played);
    let client = play(move |method, path, body| {
        if body["spec"]["ttlSeconds"].as_u64() > Some(300) {
            return refusal(422, sentence);
        }
        let mut played = shared.lock().expect("no panic");
        played.answer(method, path, body, Some("bough-host-16-0"))
    });
    let asking = Asking {
        api: Api::namespaced(client, "shop"),
        namespace: &namespace,
        requester: None,
        tell: &|_| {},
    };
    let pods = asking.hosts(&[wish("one", 200)]).await.expect("it is made");
    assert_eq!(pods["bough-host-16-0"], [0]);
    let again = asking.hosts(&[wish("one", 300)]).await;
    assert!(again.is_ok(), "{again:?}");
    let unnamed = BranchWish {
        ttl: None,
        ..wish("one", 0)
    };
    let kept = asking.hosts(&[unnamed]).await;
    assert!(kept.is_ok(), "{kept:?}");
    ask_for_time(&asking.api, &name, Ttl(250))
        .await
        .expect("allowed");
    let ttls = |played: &Played| {
        let ttls = played
            .patches
            .iter()
            .map(|it| it["spec"]["ttlSeconds"].as_u64());
        ttls.collect::<Vec<_>>()
    };
    assert_eq!(
        ttls(&played.lock().expect("no panic")),
        [Some(300), None, Some(250)]
    );
    let refused = [
        asking.hosts(&[wish("one", 301)]).await.map(drop),
        ask_for_time(&asking.api, &name, Ttl(301)).await,
    ];
    for refused in refused {
        let Err(ClusterError::Api { source, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(source.to_string(), sentence);
    }
}

#[test]
fn the_resource_says_what_is_wanted_and_no_secret() {
    let namespace = Namespace::new("metalmart").expect("a namespace");
    let wish = BranchWish {
        id: BranchId::new("my debug/session").expect("an id"),
        source: "db:5432/inventory".to_owned(),
        version: PgMajor(16),
        copy: CopySpec::all(),
        ttl: Some(Ttl(300)),
        target: Some("deployment/inventory".parse().expect("a target")),
    };
    let now = "2026-01-02T12:00:00Z".parse().expect("a time");
    let written = resource(&namespace, &wish, Some("alice".to_owned()), now);
    let written = serde_json::to_value(written).expect("JSON");
    let name = BranchName::of(&namespace, &wish.id);
    assert_eq!(
        written,
        json!({
            "apiVersion": "bough.dev/v1alpha1", "kind": "Branch",
            "metadata": {
                "name": name.as_str(),
                "annotations": {"bough.dev/asked-at": "2026-01-02T12:00:00Z"},
            },
            "spec": {
                "id": "my debug/session", "source": "db:5432/inventory", "version": 16,
                "copy": {"mode": "all"}, "ttlSeconds": 300,
                "target": {"kind": "Deployment", "name": "inventory"},
                "requester": "alice",
            },
        })
    );
}

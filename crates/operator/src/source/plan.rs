//! What is to be done about a source at one of its hosts, as pure functions of the resource, the host and the time.
//!
//! ```text
//!   made ──host answers──> added to the engine ──> looking ──> seeding ──> following <──> waiting
//!     ^                         │                        └──> dumping, with why nobody follows
//!     └─ changed, failed, waiting ┘ (the last two again after RETRY_AFTER)
//! ```
//!
//! Leaves what the resource says of all hosts together to `summary`.

use jiff::{SignedDuration, Timestamp};
use model::engine_api::{BaseActivity, BaseMode, SourceView};
use resources::{Source, SourceHostStatus};

use crate::host::{Laid, OneHost};

/// How long after it failed, or while nothing arrives from it, a source is added again: its Secret may have become
/// another one.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// How long a position may have moved on before it is told.
const POSITION_STALE: SignedDuration = SignedDuration::from_secs(30);

/// The state of a source whose engine refuses it.
pub(super) const FAILED: &str = "failed";

/// The state of a source whose host does not answer yet.
pub(super) const STARTING: &str = "starting";

/// How a source stands with the engine of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The host does not answer yet; why, for people.
    Starting(String),
    /// Its pod has other Secrets than the resource names, these: what the engine would read there is another source's, or
    /// an earlier one's.
    Outdated(Vec<Laid>),
    /// The engine answers with what it says of the source; none where it does not know it.
    In(Option<Box<SourceView>>),
    /// The engine was told, and refuses, with what it says.
    Refused(String),
}

impl Kept {
    /// Whether a branch may be made of a base that is there, or nobody waits longer for one here than elsewhere. One that
    /// nothing arrives at waits for its source, which another host may follow.
    pub(crate) fn has_base(&self) -> bool {
        let Self::In(Some(view)) = self else {
            return false;
        };
        let activity = view.base.as_ref().map(|it| it.activity);
        match activity {
            Some(BaseActivity::Following | BaseActivity::Dumping) => view.failure.is_none(),
            Some(BaseActivity::Looking | BaseActivity::Seeding | BaseActivity::Waiting) | None => {
                false
            }
        }
    }

    fn answers(&self) -> bool {
        !matches!(self, Self::Starting(_))
    }
}

/// What the resource says of the host with this pod. An earlier operator told of the first alone, in the resource's own
/// fields.
fn before(source: &Source, pod: &str) -> SourceHostStatus {
    let status = source.status.clone().unwrap_or_default();
    let nothing = SourceHostStatus {
        pod: pod.to_owned(),
        ..SourceHostStatus::default()
    };
    if status.hosts.is_empty() && OneHost::of_pod(pod).ordinal == 0 {
        return SourceHostStatus {
            observed_generation: status.observed_generation,
            answers: status.host.is_some(),
            state: status.state,
            position: status.position,
            message: status.message,
            updated_at: status.updated_at,
            ..nothing
        };
    }
    let own = status.hosts.into_iter().find(|it| it.pod == pod);
    own.unwrap_or(nothing)
}

/// Whether the engine in `pod` is to be told of the source, again where it knows it.
pub(super) fn is_due(source: &Source, pod: &str, kept: &Kept, now: Timestamp) -> bool {
    let Kept::In(known) = kept else {
        return false;
    };
    let status = before(source, pod);
    let generation = source.metadata.generation.unwrap_or_default();
    let failed = status.state.as_deref() == Some(FAILED)
        || known.as_ref().is_some_and(|it| it.failure.is_some());
    let waits = known.as_deref().is_some_and(waits);
    if (failed || waits) && status.observed_generation == generation {
        let is_at_it = known.as_deref().is_some_and(is_being_brought);
        return !is_at_it && is_past(&status, RETRY_AFTER, now);
    }
    known.is_none() || status.observed_generation != generation
}

/// What the resource is to say of the host with this pod: what it says already where nothing is new, or the host could not
/// be looked at.
pub(super) fn of_host(
    source: &Source,
    pod: &str,
    kept: Option<&Kept>,
    now: Timestamp,
) -> SourceHostStatus {
    let before = before(source, pod);
    let Some(kept) = kept else {
        return before;
    };
    let mut wanted = SourceHostStatus {
        pod: pod.to_owned(),
        observed_generation: source.metadata.generation.unwrap_or_default(),
        answers: kept.answers(),
        updated_at: Some(now.to_string()),
        ..SourceHostStatus::default()
    };
    match kept {
        Kept::Starting(why) => {
            // The engine has not seen what was changed.
            wanted.observed_generation = before.observed_generation;
            wanted.state = Some(STARTING.to_owned());
            wanted.message = Some(why.clone());
        }
        Kept::Outdated(laid) => {
            // Nor has it then.
            wanted.observed_generation = before.observed_generation;
            wanted.state = Some(FAILED.to_owned());
            wanted.message = Some(outdated(pod, laid));
        }
        Kept::Refused(words) => {
            wanted.state = Some(FAILED.to_owned());
            wanted.message = Some(words.clone());
            // Told every time, for the time counts from it.
            return wanted;
        }
        Kept::In(None) => {
            wanted.state = before.state.clone();
            wanted.message = before.message.clone();
        }
        Kept::In(Some(view)) => {
            let base = view.base.as_ref();
            wanted.state = Some(match (base, &view.failure) {
                (_, Some(_)) => FAILED.to_owned(),
                (Some(base), None) => base.activity.as_str().to_owned(),
                (None, None) => BaseActivity::Looking.as_str().to_owned(),
            });
            wanted.position = base.and_then(|it| it.position.clone());
            wanted.message = explain(view);
        }
    }
    if is_news(&before, &wanted, now) {
        wanted
    } else {
        before
    }
}

fn is_news(before: &SourceHostStatus, wanted: &SourceHostStatus, now: Timestamp) -> bool {
    let same = SourceHostStatus {
        position: before.position.clone(),
        updated_at: before.updated_at.clone(),
        ..wanted.clone()
    } == *before;
    let moved = wanted.position != before.position && is_past(before, POSITION_STALE, now);
    // What was tried once more is told once more, for the time counts from it.
    let tried = [FAILED, BaseActivity::Waiting.as_str()];
    let tried = wanted
        .state
        .as_deref()
        .is_some_and(|it| tried.contains(&it));
    !same || moved || (tried && is_past(before, RETRY_AFTER, now))
}

/// What a pod has, and how it comes to have what it should.
fn outdated(pod: &str, laid: &[Laid]) -> String {
    let laid: Vec<String> = laid
        .iter()
        .map(|it| format!("the key {} of the Secret {}", it.key, it.secret))
        .collect();
    format!(
        "its host still has {}: `kubectl delete pod {pod}` gives it what is wanted now, and its branches come back",
        laid.join(" and ")
    )
}

/// Whether nothing arrives from a source whose base lives.
fn waits(view: &SourceView) -> bool {
    let base = view.base.as_ref();
    base.is_some_and(|it| it.activity == BaseActivity::Waiting)
}

/// Whether its engine is about to have a base of it, whatever failed before: told again, it would begin anew.
fn is_being_brought(view: &SourceView) -> bool {
    view.base.as_ref().is_some_and(|it| match it.activity {
        BaseActivity::Looking | BaseActivity::Seeding => true,
        BaseActivity::Following | BaseActivity::Waiting | BaseActivity::Dumping => false,
    })
}

/// What stands of a source that was added again. A base that waits says better than the engine's refusal why it does, and
/// goes on as soon as it can.
pub(super) fn after_adding(before: Kept, after: Kept) -> Kept {
    let waited = matches!(&before, Kept::In(Some(view)) if waits(view));
    if waited && matches!(after, Kept::Refused(_)) {
        before
    } else {
        after
    }
}

/// A source for a person: what went wrong, else how it is kept and why not better.
fn explain(view: &SourceView) -> Option<String> {
    if let Some(failure) = &view.failure {
        return Some(failure.clone());
    }
    let base = view.base.as_ref()?;
    let kept = match base.mode {
        Some(BaseMode::Physical) => "followed by replication",
        Some(BaseMode::Logical | BaseMode::Auto) => "kept by its own tables",
        None => "its server is asked what it grants",
    };
    let news = base.said.iter().chain(&base.told).chain(&base.reasons);
    let words: Vec<&str> = std::iter::once(kept)
        .chain(news.map(String::as_str))
        .collect();
    Some(words.join("; "))
}

/// Whether `after` has gone by since the resource said something.
fn is_past(status: &SourceHostStatus, after: SignedDuration, now: Timestamp) -> bool {
    let told = status
        .updated_at
        .as_deref()
        .and_then(|it| it.parse::<Timestamp>().ok());
    told.is_none_or(|told| now.duration_since(told) >= after)
}

#[cfg(test)]
mod tests {
    use resources::SourceStatus;
    use serde_json::{Value, json};

    use super::super::summary;
    use super::*;

    const POD: &str = "bough-source-orders-0";

    /// What the resource of a source with one host says.
    fn status(source: &Source, kept: &Kept, now: Timestamp) -> Option<SourceStatus> {
        summary::status(source, &[(POD.to_owned(), Some(kept.clone()))], now)
    }

    fn is_due(source: &Source, kept: &Kept, now: Timestamp) -> bool {
        super::is_due(source, POD, kept, now)
    }

    const TOLD: &str = "2026-01-02T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn source(generation: i64, status: Option<SourceStatus>) -> Source {
        let mut source: Source = serde_json::from_value(json!({
            "metadata": {"name": "orders", "generation": generation},
            "spec": {
                "connection": {"name": "s", "key": "k"}, "version": 16,
                "addresses": [{"host": "postgres", "port": 5432}],
            },
        }))
        .expect("a source");
        source.status = status;
        source
    }

    fn kept(position: &str, failure: Value) -> Kept {
        let view = json!({
            "name": "orders", "url": "postgres://postgres", "database": "d", "user": "u", "version": 16,
            "system_identifier": "1", "addresses": [], "prepare_sha256": null, "warm": 1,
            "refresh_seconds": null, "rate_bytes_max": null, "copied_at": null, "looked_at": null,
            "failure": failure, "progress": null, "added_at": TOLD,
            "base": {
                "asked": "auto", "mode": "physical", "activity": "following", "reasons": ["no slot is granted"],
                "notes": [], "position": position, "waiting_since": null, "said": null, "seeded_at": null,
                "told": null, "told_at": null,
            },
        });
        Kept::In(Some(serde_json::from_value(view).expect("a view")))
    }

    #[test]
    fn a_source_is_added_once_and_again_when_it_is_changed() {
        let unknown = Kept::In(None);
        let starting = Kept::Starting("its pod is Pending".to_owned());
        let now = at("2026-01-02T12:00:10Z");
        assert!(!is_due(&source(1, None), &starting, now));
        assert!(is_due(&source(1, None), &unknown, now));
        let known = kept("0/1", Value::Null);
        let told = status(&source(1, None), &known, at(TOLD)).expect("news");
        assert!(!is_due(&source(1, Some(told.clone())), &known, now));
        assert!(is_due(&source(2, Some(told)), &known, now), "changed");
        // A host that starts anew has not seen the change yet.
        let told = status(&source(2, None), &starting, at(TOLD)).expect("news");
        assert!(is_due(&source(2, Some(told)), &known, now));
    }

    #[test]
    fn what_failed_is_tried_again_after_a_while_and_not_at_every_look() {
        let refused = Kept::Refused("password authentication failed".to_owned());
        let told = status(&source(1, None), &refused, at(TOLD)).expect("news");
        assert_eq!(told.state.as_deref(), Some(FAILED));
        let unknown = Kept::In(None);
        let failed = source(1, Some(told.clone()));
        let soon = at("2026-01-02T12:00:59Z");
        assert!(!is_due(&failed, &unknown, soon));
        // What it failed of stands there meanwhile.
        assert_eq!(status(&failed, &unknown, soon).map(|it| it.message), None);
        assert!(is_due(&failed, &unknown, at("2026-01-02T12:01:00Z")));
        assert!(is_due(&source(2, Some(told)), &unknown, soon), "changed");
        let later = kept("0/1", json!("no space"));
        let told = status(&source(1, None), &later, at(TOLD)).expect("news");
        assert_eq!(told.message.as_deref(), Some("no space"));
        assert!(!is_due(&source(1, Some(told)), &later, soon));
    }

    #[test]
    fn a_base_that_is_being_copied_is_let_go_on_whatever_failed_before() {
        let failed = kept("0/1", json!("the source does not answer"));
        let told = status(&source(1, None), &failed, at(TOLD)).expect("news");
        let (same, changed) = (source(1, Some(told.clone())), source(2, Some(told)));
        let later = at("2026-01-02T12:01:00Z");
        assert!(is_due(&same, &failed, later));
        for activity in [BaseActivity::Looking, BaseActivity::Seeding] {
            let mut again = failed.clone();
            let Kept::In(Some(view)) = &mut again else {
                panic!("it is known");
            };
            view.base.as_mut().expect("a base").activity = activity;
            assert!(!is_due(&same, &again, later), "{activity:?}");
            assert!(is_due(&changed, &again, later), "{activity:?}");
        }
    }

    #[test]
    fn a_base_that_waits_is_added_again_after_a_while_and_tells_why_it_waits() {
        let mut waiting = kept("0/1", Value::Null);
        let Kept::In(Some(view)) = &mut waiting else {
            panic!("it is known");
        };
        let base = view.base.as_mut().expect("a base");
        base.activity = BaseActivity::Waiting;
        base.said = Some("password authentication failed".to_owned());
        let told = status(&source(1, None), &waiting, at(TOLD)).expect("news");
        assert_eq!(told.state.as_deref(), Some("waiting"));
        let waits = source(1, Some(told));
        let (soon, later) = (at("2026-01-02T12:00:59Z"), at("2026-01-02T12:01:00Z"));
        assert!(!is_due(&waits, &waiting, soon));
        assert_eq!(status(&waits, &waiting, soon), None);
        assert!(is_due(&waits, &waiting, later));
        let refused = Kept::Refused("cannot ask the source".to_owned());
        let stands = after_adding(waiting.clone(), refused.clone());
        assert_eq!(stands, waiting);
        let again = status(&waits, &stands, later).expect("the time counts from it");
        assert!(!is_due(&source(1, Some(again)), &stands, later));
        let follows = kept("0/1", Value::Null);
        assert_eq!(after_adding(follows, refused.clone()), refused);
    }

    #[test]
    fn a_position_that_moves_is_told_now_and_then() {
        let told = status(&source(1, None), &kept("0/1", Value::Null), at(TOLD)).expect("news");
        assert_eq!(told.state.as_deref(), Some("following"));
        assert_eq!(
            told.message.as_deref(),
            Some("followed by replication; no slot is granted")
        );
        let source = source(1, Some(told));
        let moved = kept("0/2", Value::Null);
        assert_eq!(status(&source, &moved, at("2026-01-02T12:00:29Z")), None);
        let told = status(&source, &moved, at("2026-01-02T12:00:30Z")).expect("news");
        assert_eq!(told.position.as_deref(), Some("0/2"));
        let same = kept("0/1", Value::Null);
        assert_eq!(status(&source, &same, at("2026-01-02T13:00:00Z")), None);
    }

    #[test]
    fn a_host_with_other_secrets_is_told_nothing_and_says_how_it_gets_them() {
        let known = kept("0/1", Value::Null);
        let told = status(&source(1, None), &known, at(TOLD)).expect("news");
        let edited = source(2, Some(told));
        let old = Kept::Outdated(vec![Laid {
            file: "url".to_owned(),
            secret: "old".to_owned(),
            key: "k".to_owned(),
        }]);
        let now = at("2026-01-02T12:00:10Z");
        assert!(!is_due(&edited, &old, now));
        let told = status(&edited, &old, now).expect("news");
        assert_eq!(
            (told.state.as_deref(), told.observed_generation),
            (Some(FAILED), 1)
        );
        let message = told.message.as_deref().expect("a message");
        for words in [
            "the key k of the Secret old",
            "kubectl delete pod bough-source-orders-0",
        ] {
            assert!(message.contains(words), "{message}");
        }
        let waits = source(2, Some(told));
        assert_eq!(status(&waits, &old, now), None, "told once");
        // Its next pod has them, and its engine is told at once.
        assert!(is_due(&waits, &known, now));
    }

    #[test]
    fn what_an_earlier_operator_told_is_of_the_first_host_and_of_no_other() {
        let earlier = SourceStatus {
            observed_generation: 1,
            state: Some("following".to_owned()),
            host: Some(POD.to_owned()),
            updated_at: Some(TOLD.to_owned()),
            ..SourceStatus::default()
        };
        let (source, known) = (source(1, Some(earlier)), kept("0/1", Value::Null));
        let now = at("2026-01-02T12:00:10Z");
        assert!(!is_due(&source, &known, now));
        assert!(super::is_due(&source, "bough-source-orders-1", &known, now));
    }

    #[test]
    fn a_base_that_is_there_is_one_that_branches_are_made_of_at_once() {
        let mut known = kept("0/1", Value::Null);
        assert!(known.has_base());
        for activity in [BaseActivity::Seeding, BaseActivity::Waiting] {
            let Kept::In(Some(view)) = &mut known else {
                panic!("it is known");
            };
            view.base.as_mut().expect("a base").activity = activity;
            assert!(!known.has_base(), "{activity:?}");
        }
        for none in [
            Kept::In(None),
            Kept::Starting(String::new()),
            kept("0/1", json!("no space")),
        ] {
            assert!(!none.has_base(), "{none:?}");
        }
    }
}

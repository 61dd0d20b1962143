//! What a `Source` says of all of its hosts together, as a pure function: how many of them answer, and in its own fields
//! the one that needs somebody's attention first.

use jiff::Timestamp;
use model::engine_api::BaseActivity;
use resources::{Condition, Source, SourceHostStatus, SourceStatus};

use super::plan::{FAILED, Kept, STARTING, of_host};
use crate::host::wanted_hosts;
use crate::note::Note;

/// What the resource is to say; none where it says so already. `hosts` are those that there are, each with its pod, the
/// first first, and how the source stands with it; none where that could not be seen.
pub(super) fn status(
    source: &Source,
    hosts: &[(String, Option<Kept>)],
    now: Timestamp,
) -> Option<SourceStatus> {
    let before = source.status.clone().unwrap_or_default();
    let hosts: Vec<SourceHostStatus> = hosts
        .iter()
        .map(|(pod, kept)| of_host(source, pod, kept.as_ref(), now))
        .collect();
    let wanted = wanted_hosts(Some(&source.spec));
    let (own, leaving) = hosts.split_at(hosts.len().min(usize::from(wanted)));
    let first = own.iter().min_by_key(|it| urgency(it.state.as_deref()))?;
    let answering = own.iter().filter(|it| it.answers).count();
    let told = SourceStatus {
        observed_generation: own
            .iter()
            .map(|it| it.observed_generation)
            .min()
            .unwrap_or_default(),
        ready: Some(format!("{answering}/{wanted}")),
        state: first.state.clone(),
        position: first.position.clone(),
        host: first.answers.then(|| first.pod.clone()),
        message: message(first, wanted, leaving),
        conditions: Vec::new(),
        updated_at: before.updated_at.clone(),
        hosts,
    };
    let told = SourceStatus {
        conditions: vec![ready(&told, &before, now)],
        ..told
    };
    (told != before).then(|| SourceStatus {
        updated_at: Some(now.to_string()),
        ..told
    })
}

/// Whether branches may be made of it on each of its hosts.
fn ready(told: &SourceStatus, before: &SourceStatus, now: Timestamp) -> Condition {
    let state = told.state.as_deref().unwrap_or(STARTING);
    let is_ready = urgency(Some(state)) >= urgency(Some(BaseActivity::Dumping.as_str()));
    let message = told.message.as_deref().unwrap_or(state);
    let (before, now) = (&before.conditions, now.to_string());
    Condition::ready(is_ready, reason(state), message, before, &now)
}

/// A state as conditions and events have reasons.
fn reason(state: &str) -> &'static str {
    let reasons = [
        (FAILED, "Failed"),
        (STARTING, "Starting"),
        (BaseActivity::Waiting.as_str(), "Waiting"),
        (BaseActivity::Looking.as_str(), "Looking"),
        (BaseActivity::Seeding.as_str(), "Seeding"),
        (BaseActivity::Dumping.as_str(), "Dumping"),
        (BaseActivity::Following.as_str(), "Following"),
    ];
    let mut reasons = reasons.into_iter();
    reasons
        .find_map(|(known, reason)| (known == state).then_some(reason))
        .unwrap_or("Unknown")
}

/// What of the news is worth an event: another state.
pub(super) fn note(source: &Source, told: &SourceStatus) -> Option<Note> {
    let before = source.status.as_ref().and_then(|it| it.state.as_deref());
    let state = told.state.as_deref()?;
    let condition = told.conditions.first()?;
    (before != Some(state)).then(|| Note {
        reason: reason(state),
        warns: state == FAILED || state == BaseActivity::Waiting.as_str(),
        message: condition.message.clone(),
    })
}

/// How soon somebody should look at a host in this state; the least first.
fn urgency(state: Option<&str>) -> usize {
    let states = [
        FAILED,
        STARTING,
        BaseActivity::Waiting.as_str(),
        BaseActivity::Looking.as_str(),
        BaseActivity::Seeding.as_str(),
        BaseActivity::Dumping.as_str(),
    ];
    // Of one that nobody has looked at yet nothing is known.
    let state = state.unwrap_or(STARTING);
    let place = states.iter().position(|it| *it == state);
    place.unwrap_or(states.len())
}

/// What is said of the host, by its name where there are several, and of those that are too many.
fn message(first: &SourceHostStatus, wanted: u16, leaving: &[SourceHostStatus]) -> Option<String> {
    let mut told = first.message.clone();
    if wanted > 1 {
        told = told.map(|message| format!("{}: {message}", first.pod));
    }
    let leaving = leaving
        .iter()
        .map(|it| format!("{} goes with its last branch", it.pod));
    let sentences: Vec<String> = told.into_iter().chain(leaving).collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn source(hosts: u16, status: Option<SourceStatus>) -> Source {
        let mut source: Source = serde_json::from_value(json!({
            "metadata": {"name": "orders", "generation": 3},
            "spec": {
                "connection": {"name": "s", "key": "k"}, "version": 16, "hosts": hosts,
                "addresses": [{"host": "postgres", "port": 5432}],
            },
        }))
        .expect("a source");
        source.status = status;
        source
    }

    fn base(activity: &str) -> Option<Kept> {
        let view = json!({
            "name": "orders", "url": "postgres://postgres", "database": "d", "user": "u", "version": 16,
            "system_identifier": "1", "addresses": [], "prepare_sha256": null, "warm": 1,
            "refresh_seconds": null, "rate_bytes_max": null, "copied_at": null, "looked_at": null,
            "failure": null, "progress": null, "added_at": "2026-01-02T12:00:00Z",
            "base": {
                "asked": "auto", "mode": "physical", "activity": activity, "reasons": [], "notes": [],
                "position": "0/1", "waiting_since": null, "said": null, "seeded_at": null, "told": null,
                "told_at": Value::Null,
            },
        });
        let view = serde_json::from_value(view).expect("a view");
        Some(Kept::In(Some(view)))
    }

    fn hosts(all: &[Option<Kept>]) -> Vec<(String, Option<Kept>)> {
        let all = all.iter().enumerate();
        all.map(|(ordinal, kept)| (format!("bough-source-orders-{ordinal}"), kept.clone()))
            .collect()
    }

    fn now() -> Timestamp {
        "2026-01-02T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_source_says_how_many_of_its_hosts_answer_and_which_one_needs_attention() {
        let starting = Some(Kept::Starting("its pod is Pending".to_owned()));
        let all = hosts(&[base("following"), starting, base("seeding")]);
        let told = status(&source(3, None), &all, now()).expect("news");
        assert_eq!(told.ready.as_deref(), Some("2/3"));
        assert_eq!(told.state.as_deref(), Some("starting"));
        let condition = &told.conditions[0];
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            ("False", "Starting")
        );
        let message = "bough-source-orders-1: its pod is Pending";
        assert_eq!(
            (told.host.as_deref(), told.message.as_deref()),
            (None, Some(message))
        );
        assert_eq!(
            told.observed_generation, 0,
            "one has not seen the change yet"
        );
        let states: Vec<_> = told.hosts.iter().map(|it| it.state.as_deref()).collect();
        assert_eq!(
            states,
            [Some("following"), Some("starting"), Some("seeding")]
        );
        let before = source(3, Some(told));
        assert_eq!(status(&before, &all, now()), None, "told once");
        let told = before.status.as_ref().expect("a status");
        assert_eq!(note(&before, told), None);
        // One that could not be looked at stays as it was told.
        let all = hosts(&[None, base("following"), base("following")]);
        let told = status(&before, &all, now()).expect("news");
        assert_eq!(told.ready.as_deref(), Some("3/3"));
        assert_eq!(told.state.as_deref(), Some("following"));
        assert_eq!(told.observed_generation, 3);
        let condition = &told.conditions[0];
        assert_eq!(
            (condition.type_.as_str(), condition.status.as_str()),
            ("Ready", "True")
        );
        let note = note(&before, &told).expect("an event");
        assert_eq!((note.reason, note.warns), ("Following", false));
    }

    #[test]
    fn a_host_that_is_too_many_counts_for_nothing_and_is_told_of() {
        let failed = Some(Kept::Refused("no space".to_owned()));
        let all = hosts(&[base("following"), failed]);
        let told = status(&source(1, None), &all, now()).expect("news");
        assert_eq!(told.ready.as_deref(), Some("1/1"));
        assert_eq!(told.state.as_deref(), Some("following"));
        assert_eq!(told.host.as_deref(), Some("bough-source-orders-0"));
        assert_eq!(
            told.message.as_deref(),
            Some("followed by replication; bough-source-orders-1 goes with its last branch")
        );
    }
}

//! What is to be done about one branch, as a pure function of the resource, its host and the time.
//!
//! ```text
//!   asked for ──host answers──> Making ──engine has it──> Ready <──> Failed ...
//!       └── nobody asks the engine for it, or the engine let it expire ──> the resource goes
//!   refused ──another one goes──> asked for          (refusal)
//!   deleted ──> the engine deletes it, or never had it, or is gone with its volume ──> the finalizer goes
//!   its host is gone, and nobody makes it again, or has another volume ──> the resource goes
//! ```

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use model::engine_api::{BranchPhase as EnginePhase, BranchView};
use resources::{Branch, BranchPhase, BranchStatus, Condition};

use crate::host::OneHost;
use crate::note::Note;

/// Keeps a deleted resource until its branch is deleted as well.
pub(super) const FINALIZER: &str = "bough.dev/branch-host";

/// When somebody last asked for the branch, as RFC 3339 has times.
pub const ASKED_ANNOTATION: &str = "bough.dev/asked-at";

/// How long after it was asked for a branch may be missing from its engine: who asks waits for the host first.
const ASKING_MAX: SignedDuration = SignedDuration::from_secs(120);

/// How a branch's host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Its engine does not answer yet; with a word why, for people.
    Starting(String),
    /// Its engine answers, and has these branches.
    Answers {
        /// Its pod.
        pod: String,
        /// What it has.
        branches: Vec<BranchView>,
        /// The uid of its volume's claim; none where that was not to be seen.
        volume: Option<String>,
    },
    /// There is none, and none is to be made; with its volume went what it had. Which one, for people.
    Gone(String),
}

/// Why a branch is not made that is not allowed, in a word.
pub(super) const REFUSED: &str = "Refused";

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The resource stays until its branch is deleted.
    Hold,
    /// The resource says this.
    Tell(Box<BranchStatus>),
    /// Something happened that is worth an event.
    Note(Note),
    /// The engine in this pod deletes the branch.
    Destroy {
        /// The host's pod.
        pod: String,
    },
    /// The resource may go.
    Release,
    /// The resource is deleted: its branch is no more.
    Forget,
}

/// What is to be done, in this order.
pub(crate) fn plan(branch: &Branch, host: &Host, now: Timestamp) -> Vec<Action> {
    let is_held = branch.finalizers().iter().any(|name| name == FINALIZER);
    let view = match host {
        Host::Answers { branches, .. } => branches
            .iter()
            .find(|view| view.id.as_str() == branch.spec.id),
        Host::Starting(_) | Host::Gone(_) => None,
    };
    if branch.metadata.deletion_timestamp.is_some() {
        return if is_held {
            end(branch, host, view, now)
        } else {
            Vec::new()
        };
    }
    if let Host::Gone(why) = host {
        let lost = Note {
            reason: "Lost",
            warns: true,
            message: why.clone(),
        };
        return vec![Action::Note(lost), Action::Forget];
    }
    if let Some(why) = lost_with_volume(branch, host, view) {
        let lost = Note {
            reason: "Lost",
            warns: true,
            message: why,
        };
        return vec![Action::Note(lost), Action::Forget];
    }
    let mut actions = Vec::new();
    if !is_held {
        actions.extend([Action::Hold, note("Asked", who_asked(branch))]);
    }
    if let (None, Host::Answers { pod, .. }) = (view, host)
        && now.duration_since(asked_at(branch)) > ASKING_MAX
    {
        actions.extend([farewell(branch, pod), Action::Forget]);
        return actions;
    }
    let mut wanted = status(branch, host, view);
    let reason = wanted.phase.word();
    wanted.conditions = vec![ready(branch, &wanted, reason, now)];
    actions.extend(news(branch, wanted, reason));
    actions
}

/// Why it is lost though its host answers: that was made anew, under its name, with another volume.
fn lost_with_volume(branch: &Branch, host: &Host, view: Option<&BranchView>) -> Option<String> {
    let before = branch.status.as_ref()?.volume.as_ref()?;
    let Host::Answers {
        pod,
        volume: Some(volume),
        ..
    } = host
    else {
        return None;
    };
    (view.is_none() && volume != before).then(|| {
        format!(
            "{pod} was made again, with another volume: what it had is gone with the one before"
        )
    })
}

/// What is to be done about a deleted one that is held.
fn end(branch: &Branch, host: &Host, view: Option<&BranchView>, now: Timestamp) -> Vec<Action> {
    match (host, view) {
        (Host::Answers { pod, .. }, Some(_)) => {
            let note = note("Deleted", format!("it was deleted in {pod}, with its data"));
            let pod = pod.clone();
            vec![Action::Destroy { pod }, note, Action::Release]
        }
        (Host::Answers { .. }, None) | (Host::Gone(_), _) => vec![Action::Release],
        // Nobody asks an engine for a branch that no engine has answered for.
        (Host::Starting(_), _) if home(branch).is_none() => vec![Action::Release],
        // It may have the branch: only the engine says that it has not.
        (Host::Starting(why), _) => {
            let mut wanted = status(branch, host, None);
            wanted.phase = BranchPhase::Deleting;
            wanted.message = Some(format!("it is deleted once its host answers: {why}"));
            let reason = wanted.phase.word();
            wanted.conditions = vec![ready(branch, &wanted, reason, now)];
            news(branch, wanted, reason)
        }
    }
}

/// What is to be done about one that is not allowed, and why it is not.
pub(crate) fn plan_refused(branch: &Branch, why: &str, now: Timestamp) -> Vec<Action> {
    // Whoever asked for it has been told, and gone.
    if now.duration_since(asked_at(branch)) > ASKING_MAX {
        return vec![Action::Forget];
    }
    let mut wanted = BranchStatus {
        observed_generation: branch.metadata.generation.unwrap_or_default(),
        phase: BranchPhase::Failed,
        message: Some(why.to_owned()),
        ..BranchStatus::default()
    };
    wanted.conditions = vec![ready(branch, &wanted, REFUSED, now)];
    news(branch, wanted, REFUSED)
}

/// What is told where it is new, with an event where it has come to another phase.
fn news(branch: &Branch, wanted: BranchStatus, reason: &'static str) -> Vec<Action> {
    let before = branch.status.as_ref();
    if before == Some(&wanted) {
        return Vec::new();
    }
    let phase = wanted.phase;
    let note = (before.map(|it| it.phase) != Some(phase)).then(|| Note {
        reason,
        warns: phase == BranchPhase::Failed,
        message: explain(&wanted),
    });
    let told = Action::Tell(Box::new(wanted));
    [told].into_iter().chain(note.map(Action::Note)).collect()
}

/// The host that a branch lives on, once its engine has answered for it. An earlier operator told the pod alone.
pub(crate) fn home(branch: &Branch) -> Option<OneHost<'_>> {
    let status = branch.status.as_ref()?;
    let told = status.home.as_deref().map(|set| OneHost {
        set,
        ordinal: status.home_ordinal.unwrap_or_default(),
    });
    told.or_else(|| status.host.as_deref().map(OneHost::of_pod))
}

fn asked_at(branch: &Branch) -> Timestamp {
    let annotated = branch.annotations().get(ASKED_ANNOTATION);
    let annotated = annotated.and_then(|text| text.parse::<Timestamp>().ok());
    let created = branch.creation_timestamp().map(|time| time.0);
    // Of two times the later one, so that nobody's clock makes a fresh branch old.
    annotated.max(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn note(reason: &'static str, message: String) -> Action {
    Action::Note(Note {
        reason,
        warns: false,
        message,
    })
}

/// Who wants what, for whoever asks later.
fn who_asked(branch: &Branch) -> String {
    let spec = &branch.spec;
    let who = spec.requester.as_deref().unwrap_or("somebody");
    format!(
        "{who} asked for a branch of {} that outlives its last session by {} s",
        spec.source, spec.ttl_seconds
    )
}

/// Why a resource goes that nobody deleted.
fn farewell(branch: &Branch, pod: &str) -> Action {
    let was_there = branch.status.as_ref().is_some_and(|it| it.port.is_some());
    if was_there {
        let message =
            format!("{pod} has it no more: its TTL is over, or somebody deleted it there");
        note("Expired", message)
    } else {
        let within = ASKING_MAX.as_secs();
        let message = format!("nobody asked {pod} for it within {within} s");
        note("Unclaimed", message)
    }
}

/// Whether it takes connections, and since when that is so.
fn ready(branch: &Branch, wanted: &BranchStatus, reason: &str, now: Timestamp) -> Condition {
    let before = branch.status.as_ref().map(|it| it.conditions.as_slice());
    let is_ready = wanted.phase == BranchPhase::Ready;
    let before = before.unwrap_or_default();
    Condition::ready(is_ready, reason, &explain(wanted), before, &now.to_string())
}

/// A phase for a person.
fn explain(status: &BranchStatus) -> String {
    let host = status.host.as_deref().unwrap_or("its host");
    if let Some(message) = &status.message {
        return message.clone();
    }
    match status.phase {
        BranchPhase::Pending => "nothing was done yet".to_owned(),
        BranchPhase::Making => {
            format!("{host} answers; whoever asks for the branch has it made there")
        }
        BranchPhase::Ready => format!("it takes connections in {host}"),
        BranchPhase::Failed => format!("{host} cannot make it"),
        BranchPhase::Deleting => format!("{host} deletes it"),
    }
}

fn status(branch: &Branch, host: &Host, view: Option<&BranchView>) -> BranchStatus {
    let observed_generation = branch.metadata.generation.unwrap_or_default();
    let (pod, message) = match host {
        Host::Starting(why) | Host::Gone(why) => (None, Some(why.clone())),
        Host::Answers { pod, .. } => (Some(pod.clone()), None),
    };
    let first = || pod.as_deref().map(OneHost::of_pod);
    let home = home(branch).or_else(first);
    let home_ordinal = home.as_ref().map(|it| it.ordinal).filter(|it| *it > 0);
    let home = home.map(|it| it.set.to_owned());
    let before = branch.status.as_ref().and_then(|it| it.volume.clone());
    let there = match host {
        Host::Answers { volume, .. } => volume.clone(),
        Host::Starting(_) | Host::Gone(_) => None,
    };
    // Where its engine has it, its data is there, whatever was so before.
    let volume = if view.is_some() {
        there.or(before)
    } else {
        before.or(there)
    };
    let Some(view) = view else {
        return BranchStatus {
            observed_generation,
            phase: BranchPhase::Making,
            message,
            host: pod,
            home,
            home_ordinal,
            volume,
            ..BranchStatus::default()
        };
    };
    let port = view
        .endpoint
        .as_deref()
        .and_then(|it| it.rsplit_once(':')?.1.parse().ok());
    BranchStatus {
        observed_generation,
        phase: match view.phase {
            EnginePhase::Copying | EnginePhase::Cloning | EnginePhase::Starting => {
                BranchPhase::Making
            }
            EnginePhase::Ready => BranchPhase::Ready,
            EnginePhase::Failed => BranchPhase::Failed,
            EnginePhase::Deleting => BranchPhase::Deleting,
        },
        message: view.message.clone(),
        host: pod,
        home,
        home_ordinal,
        volume,
        port,
        position: view.base.as_ref().map(|base| base.position.clone()),
        expires_at: view.expires_at.map(|at| at.to_string()),
        sessions: u32::try_from(view.sessions.len()).unwrap_or(u32::MAX),
        size_bytes: view.disk_bytes.and_then(|size| i64::try_from(size.0).ok()),
        conditions: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T12:00:00Z".parse().expect("a time")
    }

    fn branch(held: bool, deleted: bool, asked: &str) -> Branch {
        let mut branch: Branch = serde_json::from_value(json!({
            "metadata": {
                "name": "pg-0", "namespace": "metalmart", "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": { ASKED_ANNOTATION: asked },
            },
            "spec": {
                "id": "x", "source": "db:5432/d", "version": 16, "copy": {"mode": "all"},
                "requester": "alice",
            },
        }))
        .expect("a branch");
        if held {
            branch.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        }
        if deleted {
            branch.metadata.deletion_timestamp = branch.metadata.creation_timestamp.clone();
        }
        branch
    }

    fn view(id: &str, phase: &str) -> BranchView {
        serde_json::from_value(json!({
            "name": "pg-0123456789abcdef", "id": id, "namespace": "metalmart", "phase": phase,
            "spec": {
                "source": "db:5432", "database": "d", "user": "u", "copy": {"mode": "all"},
                "version": 16, "connection_settings": {},
            },
            "ttl_seconds": 300, "created_at": "2026-01-02T11:59:00Z", "ready_at": null,
            "expires_at": "2026-01-02T12:05:00Z", "sessions": [], "endpoint": "127.0.0.1:20432",
            "asleep": false, "identity": null, "version": 16, "base": null, "progress": null,
            "connections": 0, "connections_total": 0, "disk_bytes": 4096, "shared_bytes": 1048576, "message": null,
            "hint": null, "generation": 3,
        }))
        .expect("a view")
    }

    fn answers(branches: Vec<BranchView>) -> Host {
        Host::Answers {
            pod: "bough-host-16-0".to_owned(),
            branches,
            volume: Some("first".to_owned()),
        }
    }

    const JUST_NOW: &str = "2026-01-02T11:59:30Z";
    const LONG_AGO: &str = "2026-01-02T11:00:00Z";

    #[test]
    fn a_branch_is_told_as_its_engine_has_it_and_once() {
        let mut asked = branch(false, false, JUST_NOW);
        let starting = Host::Starting("its pod is Pending".to_owned());
        let planned = plan(&asked, &starting, now());
        let [
            Action::Hold,
            Action::Note(asked_by),
            Action::Tell(status),
            Action::Note(_),
        ] = planned.as_slice()
        else {
            panic!("{planned:?}");
        };
        let told = "alice asked for a branch of db:5432/d that outlives its last session by 300 s";
        assert_eq!(
            (asked_by.reason, asked_by.message.as_str()),
            ("Asked", told)
        );
        assert_eq!(
            (status.phase, status.host.as_deref()),
            (BranchPhase::Making, None)
        );
        asked.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        let planned = plan(&asked, &answers(vec![view("y", "ready")]), now());
        let [Action::Tell(status), Action::Note(_)] = planned.as_slice() else {
            panic!("{planned:?}");
        };
        assert_eq!(status.host.as_deref(), Some("bough-host-16-0"));
        let home = (status.home.as_deref(), status.home_ordinal);
        assert_eq!(home, (Some("bough-host-16"), None));
        assert_eq!(status.phase, BranchPhase::Making);
        let host = answers(vec![view("y", "failed"), view("x", "ready")]);
        let planned = plan(&asked, &host, now());
        let [Action::Tell(status), Action::Note(note)] = planned.as_slice() else {
            panic!("{planned:?}");
        };
        assert_eq!(note.message, "it takes connections in bough-host-16-0");
        let condition = &status.conditions[0];
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            ("True", "Ready")
        );
        assert_eq!(condition.last_transition_time, "2026-01-02T12:00:00Z");
        assert_eq!(
            (status.phase, status.port),
            (BranchPhase::Ready, Some(20432))
        );
        assert_eq!(status.expires_at.as_deref(), Some("2026-01-02T12:05:00Z"));
        asked.status = Some((**status).clone());
        assert_eq!(plan(&asked, &host, now()), []);
        // Neither an event nor another time where only a figure changes.
        let later = "2026-01-02T12:00:10Z".parse().expect("a time");
        asked.status.as_mut().expect("told").sessions = 3;
        let planned = plan(&asked, &host, later);
        let [Action::Tell(status)] = planned.as_slice() else {
            panic!("{planned:?}");
        };
        let since = &status.conditions[0].last_transition_time;
        assert_eq!(since, "2026-01-02T12:00:00Z");
    }

    #[test]
    fn a_resource_goes_when_its_branch_has_gone_and_not_while_somebody_asks() {
        let gone = answers(Vec::new());
        let mut left = branch(true, false, LONG_AGO);
        let reason = |planned: &[Action]| {
            let [Action::Note(note), Action::Forget] = planned else {
                panic!("{planned:?}");
            };
            note.reason
        };
        assert_eq!(reason(&plan(&left, &gone, now())), "Unclaimed");
        left.status = Some(BranchStatus {
            port: Some(20432),
            ..BranchStatus::default()
        });
        assert_eq!(reason(&plan(&left, &gone, now())), "Expired");
        let asked = plan(&branch(true, false, JUST_NOW), &gone, now());
        assert!(
            matches!(asked.as_slice(), [Action::Tell(_), Action::Note(_)]),
            "{asked:?}"
        );
        // An engine that does not answer may have it.
        let starting = Host::Starting("why".to_owned());
        let waiting = plan(&branch(true, false, LONG_AGO), &starting, now());
        assert!(
            matches!(waiting.as_slice(), [Action::Tell(_), Action::Note(_)]),
            "{waiting:?}"
        );
    }

    #[test]
    fn what_is_refused_is_told_once_and_goes_when_nobody_asks_any_more() {
        let mut asked = branch(false, false, JUST_NOW);
        let planned = plan_refused(&asked, "refused: too many", now());
        let [Action::Tell(status), Action::Note(note)] = planned.as_slice() else {
            panic!("{planned:?}");
        };
        assert_eq!((note.reason, note.warns), ("Refused", true));
        assert_eq!(status.phase, BranchPhase::Failed);
        assert_eq!(status.conditions[0].reason, "Refused");
        asked.status = Some((**status).clone());
        assert_eq!(plan_refused(&asked, "refused: too many", now()), []);
        // Let in, it is as any other.
        let starting = Host::Starting("why".to_owned());
        let planned = plan(&asked, &starting, now());
        assert!(matches!(planned.first(), Some(Action::Hold)), "{planned:?}");
        let left = branch(false, false, LONG_AGO);
        assert_eq!(
            plan_refused(&left, "refused: too many", now()),
            [Action::Forget]
        );
    }

    #[test]
    fn a_deleted_resource_takes_its_branch_along() {
        let deleted = branch(true, true, JUST_NOW);
        let has = answers(vec![view("x", "ready")]);
        let pod = "bough-host-16-0".to_owned();
        let told = "it was deleted in bough-host-16-0, with its data".to_owned();
        assert_eq!(
            plan(&deleted, &has, now()),
            [
                Action::Destroy { pod },
                note("Deleted", told),
                Action::Release
            ]
        );
        assert_eq!(
            plan(&deleted, &answers(Vec::new()), now()),
            [Action::Release]
        );
        assert_eq!(plan(&branch(false, true, JUST_NOW), &has, now()), []);
    }

    #[test]
    fn a_deleted_resource_waits_for_its_host_alone_where_that_may_have_its_branch() {
        let mut deleted = branch(true, true, JUST_NOW);
        let starting = Host::Starting("its pod is Pending".to_owned());
        let gone = Host::Gone("its host is gone".to_owned());
        for host in [&starting, &gone] {
            assert_eq!(
                plan(&deleted, host, now()),
                [Action::Release],
                "no engine had it"
            );
        }
        deleted.status = Some(BranchStatus {
            home: Some("bough-host-16".to_owned()),
            phase: BranchPhase::Ready,
            ..BranchStatus::default()
        });
        assert_eq!(plan(&deleted, &gone, now()), [Action::Release]);
        let planned = plan(&deleted, &starting, now());
        let [Action::Tell(status), Action::Note(_)] = planned.as_slice() else {
            panic!("{planned:?}");
        };
        assert_eq!(
            (status.phase, status.message.as_deref()),
            (
                BranchPhase::Deleting,
                Some("it is deleted once its host answers: its pod is Pending")
            )
        );
        deleted.status = Some((**status).clone());
        assert_eq!(plan(&deleted, &starting, now()), [], "and is told so once");
    }

    #[test]
    fn a_branch_keeps_its_host_of_several_whatever_answers_and_one_from_before_the_first() {
        let mut asked = branch(false, false, JUST_NOW);
        let other = Host::Answers {
            pod: "bough-source-orders-1".to_owned(),
            branches: Vec::new(),
            volume: None,
        };
        let planned = plan(&asked, &other, now());
        let Some(Action::Tell(status)) = planned.get(2) else {
            panic!("{planned:?}");
        };
        asked.status = Some((**status).clone());
        let second = OneHost {
            set: "bough-source-orders",
            ordinal: 1,
        };
        assert_eq!(home(&asked), Some(second.clone()));
        let starting = Host::Starting("its pod is Pending".to_owned());
        let planned = plan(&asked, &starting, now());
        let Some(Action::Tell(status)) = planned.get(2) else {
            panic!("{planned:?}");
        };
        asked.status = Some((**status).clone());
        assert_eq!(home(&asked), Some(second));
        // The first of a set, as where there is no other; and as an earlier operator told it.
        for (home_of, host) in [
            (Some("bough-source-orders"), None),
            (None, Some("bough-source-orders-0")),
        ] {
            asked.status = Some(BranchStatus {
                home: home_of.map(str::to_owned),
                host: host.map(str::to_owned),
                ..BranchStatus::default()
            });
            let found = home(&asked).map(|it| (it.set, it.ordinal));
            assert_eq!(found, Some(("bough-source-orders", 0)));
        }
    }

    #[test]
    fn a_branch_goes_with_the_host_that_nobody_makes_again() {
        let gone = Host::Gone("its host is gone".to_owned());
        let planned = plan(&branch(true, false, JUST_NOW), &gone, now());
        let [Action::Note(note), Action::Forget] = planned.as_slice() else {
            panic!("{planned:?}");
        };
        assert_eq!((note.reason, note.warns), ("Lost", true));
    }

    #[test]
    fn a_branch_whose_host_was_made_anew_is_lost_and_not_expired() {
        let mut asked = branch(true, false, LONG_AGO);
        let has = answers(vec![view("x", "ready")]);
        let planned = plan(&asked, &has, now());
        let Some(Action::Tell(status)) = planned.first() else {
            panic!("{planned:?}");
        };
        assert_eq!(status.volume.as_deref(), Some("first"));
        asked.status = Some((**status).clone());
        let on = |volume: Option<&str>, branches| Host::Answers {
            pod: "bough-host-16-0".to_owned(),
            branches,
            volume: volume.map(str::to_owned),
        };
        let reason = |host: &Host, asked: &Branch| match plan(asked, host, now()).first() {
            Some(Action::Note(note)) => note.reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&on(Some("second"), Vec::new()), &asked), "Lost");
        // Its engine let it go, or nobody sees the volume.
        assert_eq!(reason(&on(Some("first"), Vec::new()), &asked), "Expired");
        assert_eq!(reason(&on(None, Vec::new()), &asked), "Expired");
        // Who has its data has it, however it came there.
        let moved = plan(&asked, &on(Some("second"), vec![view("x", "ready")]), now());
        let [Action::Tell(status)] = moved.as_slice() else {
            panic!("{moved:?}");
        };
        assert_eq!(status.volume.as_deref(), Some("second"));
    }
}

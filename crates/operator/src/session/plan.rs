//! What is to be done about one session, as a pure function of the resource, what is known of its pods, and the time.
//!
//! ```text
//!   begun ──told Pending──> each ask without an answer: an agent placed, its answer told ──> Ready, or Failed
//!     │                └── the operator may place none in this namespace ──> Declined: who began it does it himself
//!     └── no new heartbeat for SILENCE_MAX ──> the resource goes; its agents end by themselves
//!              └── of a session that was stopped for STOPPED_SILENCE_MAX: should it wake, it finds that it was
//! ```

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use resources::{
    Condition, PodName, PodStanding, Session, SessionAgent, SessionAnswer, SessionAsk,
    SessionPhase, SessionPod, SessionStatus,
};

use crate::agents::{PodState, SeenPod};
use crate::note::Note;

/// What whoever began a session changes while he lives: any text, another one each time.
pub const BEAT_ANNOTATION: &str = "bough.dev/beat";

/// Who asks a session to end, in his own words.
pub const STOPPED_ANNOTATION: &str = "bough.dev/stopped-by";

/// How long a session may be silent: a command that was killed sends nothing more, one whose machine slept begins anew.
pub const SILENCE_MAX: SignedDuration = SignedDuration::from_secs(120);

/// The same for a session that somebody stopped, whose machine may sleep and come back for as long as its links do.
const STOPPED_SILENCE_MAX: SignedDuration = SignedDuration::from_mins(15);

/// Pods of a target that a status names: a session takes part in fewer.
const PODS_MAX: usize = 64;

/// What is said where the operator may place no agents.
const DECLINED: &str = "the operator may put no agents beside pods of this namespace: its administrator chooses whether it may, by \
                        `--sessions` of `bough operator install` or `sessions: true` of the chart";

/// An ask, and its agent or why there is none.
pub(super) type Placed = (SessionAsk, Result<SessionAgent, String>);

/// What is known beside the resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Whether the operator may place agents there; none where nobody needs to know.
    pub(super) may_place: Option<bool>,
    /// The target's pods; none where they were not looked at.
    pub(super) pods: Option<Vec<SeenPod>>,
    /// What came of asks since the last turn.
    pub(super) placed: Vec<Placed>,
}

/// The time of a turn, by this operator's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) now: Timestamp,
    /// When it began to lead.
    pub(super) leads_since: Timestamp,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// The resource says this.
    Tell(Box<SessionStatus>),
    /// An agent is placed for this ask, and the resource says what came of it.
    Place(SessionAsk),
    /// Something happened that is worth an event.
    Note(Note),
    /// The resource is deleted.
    Forget,
}

/// What is asked for and has no answer in `status`; nothing of a session that ends or was declined.
pub(super) fn unanswered<'a>(
    session: &'a Session,
    status: Option<&SessionStatus>,
) -> Vec<&'a SessionAsk> {
    let is_over = session.metadata.deletion_timestamp.is_some()
        || status.is_some_and(|it| it.phase == SessionPhase::Declined);
    let asks = session.spec.asks.iter().filter(|_| !is_over);
    let is_answered = |ask: &&SessionAsk| {
        status.is_some_and(|it| it.answers.iter().any(|answer| answer.key == ask.key))
    };
    asks.filter(|ask| !is_answered(ask)).collect()
}

/// Whether its pods are to be told. Of one that asks for nothing as well: it may have been begun anew, with agents from before.
pub(super) fn is_followed(session: &Session) -> bool {
    let status = session.status.as_ref();
    session.metadata.deletion_timestamp.is_none()
        && status.is_none_or(|it| it.phase != SessionPhase::Declined)
}

/// Whether the resource itself says something new, or has been silent for too long.
pub(super) fn has_news(session: &Session, at: At) -> bool {
    if session.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let Some(status) = &session.status else {
        return true;
    };
    status.observed_generation != session.metadata.generation.unwrap_or_default()
        || status.beat.as_ref() != session.annotations().get(BEAT_ANNOTATION)
        || (stopped_by(session).is_some() && !was_told_stopped(status))
        || is_silent(session, heard_at(session, at.now), at)
}

/// When its last heartbeat was heard first: now, where it is a new one.
fn heard_at(session: &Session, now: Timestamp) -> Timestamp {
    let beat = session.annotations().get(BEAT_ANNOTATION);
    let told = session.status.as_ref();
    let told = told.filter(|status| status.beat.as_ref() == beat);
    let heard_at = told.and_then(|status| status.heard_at.as_deref()?.parse().ok());
    heard_at.unwrap_or(now)
}

/// What an earlier operator heard by its clock, this one may have missed: to it, nobody is silent for longer than it leads.
fn is_silent(session: &Session, heard_at: Timestamp, at: At) -> bool {
    let patience = if session.annotations().contains_key(STOPPED_ANNOTATION) {
        STOPPED_SILENCE_MAX
    } else {
        SILENCE_MAX
    };
    at.now.duration_since(heard_at.max(at.leads_since)) >= patience
}

/// What is to be done, in this order.
pub(super) fn plan(session: &Session, known: &Known, at: At) -> Vec<Action> {
    if session.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let heard_at = heard_at(session, at.now);
    if is_silent(session, heard_at, at) {
        return vec![Action::Note(silent(session)), Action::Forget];
    }
    let mut wanted = SessionStatus {
        observed_generation: session.metadata.generation.unwrap_or_default(),
        beat: session.annotations().get(BEAT_ANNOTATION).cloned(),
        heard_at: Some(heard_at.to_string()),
        ..session.status.clone().unwrap_or_default()
    };
    let is_asked = |key: &str| session.spec.asks.iter().any(|ask| ask.key == key);
    wanted.answers.retain(|answer| is_asked(&answer.key));
    if let Some(pods) = &known.pods {
        wanted.pods = Some(choose_told(pods, &wanted.pods.unwrap_or_default()));
    }
    for (ask, answer) in &known.placed {
        if unanswered(session, Some(&wanted)).contains(&ask) {
            wanted = answered(&wanted, ask, answer.clone());
        }
    }
    let unanswered = unanswered(session, Some(&wanted));
    if !unanswered.is_empty() && known.may_place == Some(false) {
        wanted.phase = SessionPhase::Declined;
        wanted.message = Some(DECLINED.to_owned());
    }
    wanted.conditions = vec![ready(session, &wanted, at.now)];
    let mut actions = Vec::new();
    if session.status.as_ref() != Some(&wanted) {
        let notes = notes(session, &wanted);
        actions.push(Action::Tell(Box::new(wanted)));
        actions.extend(notes.into_iter().map(Action::Note));
    }
    if known.may_place == Some(true) {
        actions.extend(unanswered.into_iter().cloned().map(Action::Place));
    }
    actions
}

/// Why a session that somebody stopped is not ready, in a word.
const STOPPED: &str = "Stopped";

fn was_told_stopped(status: &SessionStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|it| it.reason == STOPPED)
}

fn stopped_by(session: &Session) -> Option<&String> {
    session.annotations().get(STOPPED_ANNOTATION)
}

/// Whether an agent takes it, and nobody has stopped it.
fn ready(session: &Session, wanted: &SessionStatus, now: Timestamp) -> Condition {
    let before = session.status.as_ref().map(|it| it.conditions.as_slice());
    let (before, now) = (before.unwrap_or_default(), now.to_string());
    if let Some(who) = stopped_by(session) {
        let message = format!("{who} stopped the session");
        return Condition::ready(false, STOPPED, &message, before, &now);
    }
    let message = match (&wanted.message, wanted.phase) {
        (Some(message), _) => message.as_str(),
        (None, SessionPhase::Pending) => "it has no agent yet",
        (None, SessionPhase::Ready) => "an agent takes it",
        (None, SessionPhase::Failed | SessionPhase::Declined) => "it has no agent",
    };
    let is_ready = wanted.phase == SessionPhase::Ready;
    Condition::ready(is_ready, wanted.phase.word(), message, before, &now)
}

/// What of the news is worth an event: who begins it, what becomes of that, who ends it.
fn notes(session: &Session, wanted: &SessionStatus) -> Vec<Note> {
    let before = session.status.as_ref();
    let mut notes = Vec::new();
    if before.is_none() {
        notes.push(Note {
            reason: "Begun",
            warns: false,
            message: who_begins(session),
        });
    }
    let had = |phase| before.is_some_and(|it| it.phase == phase);
    let is_refused = matches!(wanted.phase, SessionPhase::Failed | SessionPhase::Declined);
    if is_refused && !had(wanted.phase) {
        notes.push(Note {
            reason: "Refused",
            warns: true,
            message: wanted.message.clone().unwrap_or_default(),
        });
    }
    if wanted.phase == SessionPhase::Ready && !had(SessionPhase::Ready) {
        let mut agents = wanted.answers.iter().filter_map(|it| it.agent.as_ref());
        let place = agents
            .next()
            .map(|it| format!(" in the pod {}", it.pod.name));
        notes.push(Note {
            reason: "Ready",
            warns: false,
            message: format!("an agent takes it{}", place.unwrap_or_default()),
        });
    }
    let was_stopped = before.is_some_and(was_told_stopped);
    if let Some(who) = stopped_by(session).filter(|_| !was_stopped) {
        notes.push(Note {
            reason: STOPPED,
            warns: false,
            message: format!("{who} stopped the session"),
        });
    }
    notes
}

/// Who takes whose place, and what of its network he wants, for whoever asks later.
fn who_begins(session: &Session) -> String {
    let spec = &session.spec;
    let who = spec.requester.as_deref().unwrap_or("somebody");
    let (target, network) = (&spec.target, &spec.network);
    let outgoing = if network.outgoing { "on" } else { "off" };
    format!(
        "{who} begins a session in the place of {:?} {} (incoming {}, outgoing {outgoing})",
        target.kind,
        target.name,
        network.incoming.as_str(),
    )
}

/// Why its resource goes though nobody ended it.
fn silent(session: &Session) -> Note {
    let message = match stopped_by(session) {
        Some(who) => format!("{who} stopped it, and its command has not been heard since"),
        None => format!("its command was not heard for {} s", SILENCE_MAX.as_secs()),
    };
    Note {
        reason: "Silent",
        warns: false,
        message,
    }
}

/// Which pods are told, the best first. What was told and is there stays: one that is no longer among the best may be
/// joined, and would be taken as gone.
fn choose_told(pods: &[SeenPod], told: &[SessionPod]) -> Vec<SessionPod> {
    let was_told = |pod: &SessionPod| told.iter().any(|it| it.pod == pod.pod);
    let all: Vec<SessionPod> = pods.iter().map(seen).collect();
    let staying = all.iter().filter(|pod| was_told(pod)).count();
    let mut new_places = PODS_MAX.saturating_sub(staying);
    let mut chosen = Vec::new();
    for pod in all {
        if was_told(&pod) {
            chosen.push(pod);
        } else if new_places > 0 {
            new_places -= 1;
            chosen.push(pod);
        }
    }
    chosen.truncate(PODS_MAX);
    chosen
}

/// The status once an ask has its answer: an agent, or why there is none.
pub(super) fn answered(
    told: &SessionStatus,
    ask: &SessionAsk,
    answer: Result<SessionAgent, String>,
) -> SessionStatus {
    let mut status = told.clone();
    let (agent, refusal) = match answer {
        Ok(agent) => (Some(agent), None),
        Err(why) => (None, Some(why)),
    };
    status.answers.push(SessionAnswer {
        key: ask.key.clone(),
        agent,
        refusal,
    });
    let has_agent = status.answers.iter().any(|answer| answer.agent.is_some());
    if has_agent {
        status.phase = SessionPhase::Ready;
        status.message = None;
    } else {
        let mut last_first = status.answers.iter().rev();
        let refusal = last_first.find_map(|it| it.refusal.clone());
        status.phase = SessionPhase::Failed;
        status.message = refusal;
    }
    status
}

fn seen(pod: &SeenPod) -> SessionPod {
    SessionPod {
        pod: PodName {
            name: pod.id.name.clone(),
            uid: pod.id.uid.clone(),
        },
        standing: match pod.state {
            PodState::Waits => PodStanding::Waits,
            PodState::Runs { is_ready: false } => PodStanding::Runs,
            PodState::Runs { is_ready: true } => PodStanding::Ready,
            PodState::Ending => PodStanding::Ending,
            PodState::Ended => PodStanding::Ended,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agents::PodId;

    fn time(second: u32) -> Timestamp {
        let minute = second / 60;
        let text = format!("2026-01-01T00:{minute:02}:{:02}Z", second % 60);
        text.parse().expect("a time")
    }

    fn at(second: u32) -> At {
        At {
            now: time(second),
            leads_since: time(0),
        }
    }

    fn session(beat: &str, keys: &[&str], status: Option<SessionStatus>) -> Session {
        let asks: Vec<_> = keys.iter().map(|key| json!({"key": key})).collect();
        let mut session: Session = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "shop", "annotations": {BEAT_ANNOTATION: beat}},
            "spec": {"target": {"kind": "Deployment", "name": "inventory"}, "asks": asks},
        }))
        .expect("a session");
        session.status = status;
        session
    }

    fn may() -> Known {
        Known {
            may_place: Some(true),
            ..Known::default()
        }
    }

    fn ask(key: &str) -> SessionAsk {
        SessionAsk {
            key: key.to_owned(),
            pod: None,
        }
    }

    fn agent() -> SessionAgent {
        SessionAgent {
            pod: PodName {
                name: "p".to_owned(),
                uid: "u".to_owned(),
            },
            container: "bough-agent-0".to_owned(),
            beside: "app".to_owned(),
            ports: Vec::new(),
            sees_process: true,
            remarks: Vec::new(),
            sealed: "00".to_owned(),
        }
    }

    /// What is planned, without the events beside it.
    fn plan(session: &Session, known: &Known, at: At) -> Vec<Action> {
        let mut planned = super::plan(session, known, at);
        planned.retain(|it| !matches!(it, Action::Note(_)));
        planned
    }

    fn noted(planned: Vec<Action>) -> Vec<(&'static str, String)> {
        let notes = planned.into_iter().filter_map(|it| match it {
            Action::Note(note) => Some((note.reason, note.message)),
            Action::Tell(_) | Action::Place(_) | Action::Forget => None,
        });
        notes.collect()
    }

    #[test]
    fn who_begins_and_who_ends_a_session_is_noted_once_and_its_condition_says_how_it_stands() {
        let mut begun = session("1", &["aa"], None);
        begun.spec.requester = Some("alice".to_owned());
        begun.spec.network.incoming = model::IncomingMode::Steal;
        let planned = super::plan(&begun, &may(), at(0));
        let pending = told(&planned);
        assert_eq!(pending.conditions[0].status, "False");
        let who = "alice begins a session in the place of Deployment inventory (incoming steal, outgoing off)";
        assert_eq!(noted(planned), [("Begun", who.to_owned())]);
        begun.status = Some(pending);
        let placed = Known {
            placed: vec![(ask("aa"), Ok(agent()))],
            ..may()
        };
        let planned = super::plan(&begun, &placed, at(1));
        let ready = told(&planned);
        let condition = &ready.conditions[0];
        assert_eq!(
            (condition.type_.as_str(), condition.status.as_str()),
            ("Ready", "True")
        );
        assert_eq!(
            noted(planned),
            [("Ready", "an agent takes it in the pod p".to_owned())]
        );
        begun.status = Some(ready);
        let stopped = begun.annotations_mut();
        stopped.insert(STOPPED_ANNOTATION.to_owned(), "bob".to_owned());
        assert!(has_news(&begun, at(2)));
        let planned = super::plan(&begun, &may(), at(2));
        let stopped = told(&planned);
        assert_eq!(stopped.conditions[0].reason, "Stopped");
        assert_eq!(
            noted(planned),
            [("Stopped", "bob stopped the session".to_owned())]
        );
        begun.status = Some(stopped);
        assert_eq!(super::plan(&begun, &may(), at(3)), []);
        let refused = Known {
            placed: vec![(ask("aa"), Err("no pod runs".to_owned()))],
            ..may()
        };
        let planned = super::plan(&session("1", &["aa"], None), &refused, at(0));
        assert_eq!(noted(planned)[1], ("Refused", "no pod runs".to_owned()));
    }

    fn told(planned: &[Action]) -> SessionStatus {
        match planned.first() {
            Some(Action::Tell(status)) => (**status).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whoever_begins_a_session_is_told_at_once_and_each_ask_is_answered_once() {
        let begun = session("1", &["aa"], None);
        let planned = plan(&begun, &may(), at(0));
        let [Action::Tell(status), Action::Place(ask)] = planned.as_slice() else {
            panic!("{planned:?}");
        };
        assert_eq!(
            (status.phase, ask.key.as_str()),
            (SessionPhase::Pending, "aa")
        );
        // Killed between the two, the next operator goes on.
        let pending = session("1", &["aa"], Some((**status).clone()));
        assert_eq!(plan(&pending, &may(), at(1)), [Action::Place(ask.clone())]);
        let placed = Known {
            placed: vec![(ask.clone(), Ok(agent()))],
            ..may()
        };
        let ready = told(&plan(&pending, &placed, at(2)));
        assert_eq!(ready.phase, SessionPhase::Ready);
        let ready = session("1", &["aa"], Some(ready));
        assert_eq!(plan(&ready, &may(), at(2)), []);
    }

    #[test]
    fn what_is_asked_for_later_is_placed_and_what_nobody_asks_for_any_more_is_forgotten() {
        let first = told(&plan(&session("1", &["aa"], None), &may(), at(0)));
        let ready = answered(&first, &ask("aa"), Ok(agent()));
        let more = session("1", &["bb"], Some(ready));
        let planned = plan(&more, &may(), at(1));
        assert_eq!(told(&planned).answers, []);
        assert_eq!(planned[1..], [Action::Place(ask("bb"))]);
        // One that is refused takes nothing from who has an agent.
        let both = answered(
            &answered(&first, &ask("aa"), Ok(agent())),
            &ask("bb"),
            Err("no".to_owned()),
        );
        assert_eq!((both.phase, both.message), (SessionPhase::Ready, None));
        let none = answered(&first, &ask("aa"), Err("no pod runs".to_owned()));
        assert_eq!(
            (none.phase, none.message.as_deref()),
            (SessionPhase::Failed, Some("no pod runs"))
        );
    }

    #[test]
    fn without_the_right_to_place_agents_a_session_is_declined_by_name_and_left_alone() {
        let may_not = Known {
            may_place: Some(false),
            ..Known::default()
        };
        let planned = plan(&session("1", &["aa"], None), &may_not, at(0));
        let [Action::Tell(status)] = planned.as_slice() else {
            panic!("{planned:?}");
        };
        assert_eq!(status.phase, SessionPhase::Declined);
        let why = status.message.as_deref().expect("a reason");
        assert!(why.contains("`--sessions`"), "{why}");
        let declined = session("1", &["aa", "bb"], Some((**status).clone()));
        assert_eq!(
            unanswered(&declined, declined.status.as_ref()),
            Vec::<&SessionAsk>::new()
        );
        assert!(!is_followed(&declined));
    }

    #[test]
    fn a_session_that_is_silent_goes_and_one_that_beats_stays() {
        let heard = told(&plan(&session("1", &[], None), &may(), at(0)));
        let silent = session("1", &[], Some(heard.clone()));
        assert_eq!(plan(&silent, &may(), at(119)), []);
        assert_eq!(plan(&silent, &may(), at(120)), [Action::Forget]);
        let beats = session("2", &[], Some(heard));
        let again = told(&plan(&beats, &may(), at(125)));
        assert_eq!(again.heard_at, Some(time(125).to_string()));
        let silent = session("2", &[], Some(again));
        assert_eq!(plan(&silent, &may(), at(244)), []);
        assert_eq!(plan(&silent, &may(), at(245)), [Action::Forget]);
        // One that never beats, as somebody's by hand.
        let mut mute = session("1", &[], None);
        mute.metadata.annotations = None;
        mute.status = Some(told(&plan(&mute, &may(), at(0))));
        assert_eq!(plan(&mute, &may(), at(120)), [Action::Forget]);
    }

    #[test]
    fn the_pods_are_told_when_they_change_and_one_that_is_deleted_is_left_alone() {
        let pod = |is_ready| SeenPod {
            id: PodId {
                name: "p".to_owned(),
                uid: "u".to_owned(),
            },
            state: PodState::Runs { is_ready },
        };
        let sees = |is_ready| Known {
            pods: Some(vec![pod(is_ready)]),
            ..Known::default()
        };
        let standing = |status: &SessionStatus| {
            let pods = status.pods.as_ref().expect("they are told");
            pods[0].standing
        };
        let first = told(&plan(&session("1", &[], None), &sees(false), at(0)));
        assert_eq!(standing(&first), PodStanding::Runs);
        let mut known = session("1", &[], Some(first));
        assert_eq!(plan(&known, &sees(false), at(1)), []);
        assert_eq!(plan(&known, &Known::default(), at(1)), []);
        let second = told(&plan(&known, &sees(true), at(1)));
        assert_eq!(standing(&second), PodStanding::Ready);
        known.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time"));
        assert_eq!(plan(&known, &sees(true), at(300)), []);
    }

    #[test]
    fn a_session_begun_anew_is_told_its_pods_and_none_that_are_not_seen_are_told() {
        let anew = session("1", &[], None);
        assert!(is_followed(&anew) && has_news(&anew, at(0)));
        let unseen = told(&plan(&anew, &Known::default(), at(0)));
        assert_eq!(unseen.pods, None, "not told is not none");
        assert!(is_followed(&session("1", &[], Some(unseen))));
        let empty = Known {
            pods: Some(Vec::new()),
            ..Known::default()
        };
        assert_eq!(told(&plan(&anew, &empty, at(0))).pods, Some(Vec::new()));
        // An agent without a look at the pods says nothing of them either.
        let placed = Known {
            placed: vec![(ask("aa"), Ok(agent()))],
            ..Known::default()
        };
        let ready = told(&plan(&session("1", &["aa"], None), &placed, at(0)));
        assert_eq!((ready.phase, ready.pods), (SessionPhase::Ready, None));
    }

    #[test]
    fn an_answer_is_told_once_and_only_while_it_is_asked_for() {
        let placed = Known {
            placed: vec![(ask("aa"), Ok(agent())), (ask("aa"), Err("no".to_owned()))],
            may_place: Some(true),
            ..Known::default()
        };
        let planned = plan(&session("1", &["aa", "bb"], None), &placed, at(0));
        let status = told(&planned);
        assert_eq!(
            (status.answers.len(), status.phase),
            (1, SessionPhase::Ready)
        );
        assert_eq!(planned[1..], [Action::Place(ask("bb"))]);
        let late = told(&plan(&session("1", &[], None), &placed, at(0)));
        assert_eq!(late.answers, []);
    }

    #[test]
    fn a_session_that_was_stopped_while_it_sleeps_finds_that_when_it_wakes() {
        let mut stopped = session("1", &[], None);
        stopped
            .annotations_mut()
            .insert(STOPPED_ANNOTATION.to_owned(), "ada@host".to_owned());
        stopped.status = Some(told(&plan(&stopped, &Known::default(), at(0))));
        assert_eq!(plan(&stopped, &Known::default(), at(899)), []);
        assert!(!has_news(&stopped, at(899)) && has_news(&stopped, at(900)));
        assert_eq!(plan(&stopped, &Known::default(), at(900)), [Action::Forget]);
    }

    #[test]
    fn a_pod_that_was_told_stays_told_when_it_is_no_longer_among_the_best() {
        let pod = |number: usize| SeenPod {
            id: PodId {
                name: format!("p{number}"),
                uid: "u".to_owned(),
            },
            state: PodState::Runs { is_ready: true },
        };
        let mut pods: Vec<SeenPod> = (0..70).map(pod).collect();
        let first = choose_told(&pods, &[]);
        assert_eq!(first.len(), PODS_MAX);
        let joined = pods.remove(0);
        pods.push(joined);
        let second = choose_told(&pods, &first);
        assert_eq!(second.len(), PODS_MAX);
        assert_eq!(second.last(), first.first().cloned().as_ref());
    }

    #[test]
    fn a_new_leader_takes_every_beat_as_new_whatever_the_clock_of_the_former_one_said() {
        // Its clock is three minutes ahead of the one that heard it.
        let heard = told(&plan(&session("1", &[], None), &may(), at(0)));
        let beats = session("1", &[], Some(heard));
        let leads = |second| At {
            now: time(second),
            leads_since: time(180),
        };
        assert_eq!(plan(&beats, &may(), leads(181)), []);
        assert!(!has_news(&beats, leads(299)));
        assert_eq!(plan(&beats, &may(), leads(300)), [Action::Forget]);
    }
}

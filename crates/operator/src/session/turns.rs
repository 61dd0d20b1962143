//! Whose turn it is: what runs for which session, as a ledger that starts nothing itself.
//!
//! ```text
//!   sessions listed ──pick──> turns, the longest waiting first ──turned──> agents to place ──placed──> told in the next turn
//!                                        └── what it could not tell ──────────────────────────────────────────┘
//! ```
//!
//! Owns the order and the bounds. A session's resource is written by its turns alone, one at a time; agents are placed beside
//! them, so that a slow one holds up nothing else. Leaves running all that to `session`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::ResourceExt;
use resources::{Session, SessionAsk};
use tokio::time::Instant;

use super::plan::{self, At, Placed};

/// How often the pods of a session's target are looked at: a list each.
const PODS_EVERY: Duration = Duration::from_secs(3);

/// Turns at once, of some requests each; who has none begins the next ones.
const TURNS_MAX: usize = 64;

/// Agents that are placed at once: each may take as long as an image is pulled, and asks the API server meanwhile.
const PLACING_MAX: usize = 128;

/// The same for one session, which then takes nobody's places.
const PLACING_MAX_EACH: usize = 8;

/// One session's turn.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) session: Session,
    /// What came of its asks since the last turn.
    pub(super) placed: Vec<Placed>,
    /// Whether its pods are looked at.
    pub(super) sees_pods: bool,
    /// Whether there are asks that nobody sees to.
    pub(super) wants_agents: bool,
}

/// What runs, by sessions' uids.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turning: BTreeSet<String>,
    /// With the ask's key.
    placing: BTreeSet<(String, String)>,
    /// What is to be told.
    placed: BTreeMap<String, Vec<Placed>>,
    /// What turns are telling.
    telling: BTreeMap<String, Vec<Placed>>,
    turned_at: BTreeMap<String, Instant>,
    saw_pods_at: BTreeMap<String, Instant>,
}

impl Turns {
    /// Who has a turn now, of all sessions that there are: those with something to do, the longest waiting first.
    pub(super) fn pick(&mut self, sessions: Vec<Session>, time: At, at: Instant) -> Vec<Turn> {
        self.forget_all_but(&sessions);
        let free = TURNS_MAX.saturating_sub(self.turning.len());
        let mut waiting = sessions;
        waiting.retain(|session| {
            !self.turning.contains(&uid_of(session)) && self.has_work(session, time, at)
        });
        waiting.sort_by_key(|session| self.turned_at.get(&uid_of(session)).copied());
        waiting.truncate(free);
        let turns = waiting.into_iter();
        turns.map(|session| self.begin(session, at)).collect()
    }

    /// A turn is over; which of the agents that it found to be placed are placed now. The others have a later turn, and so has
    /// what it did not tell.
    pub(super) fn turned(
        &mut self,
        uid: &str,
        asks: Vec<SessionAsk>,
        is_told: bool,
    ) -> Vec<SessionAsk> {
        self.turning.remove(uid);
        let telling = self.telling.remove(uid).filter(|_| !is_told);
        if let Some(mut untold) = telling {
            let placed = self.placed.entry(uid.to_owned()).or_default();
            untold.append(placed);
            *placed = untold;
        }
        let mut begun = Vec::new();
        for ask in asks {
            let id = (uid.to_owned(), ask.key.clone());
            if self.may_place(uid) && !self.is_told_next(uid, &ask.key) && self.placing.insert(id) {
                begun.push(ask);
            }
        }
        begun
    }

    /// An ask has an answer.
    pub(super) fn placed(&mut self, uid: &str, placed: Placed) {
        let (ask, _) = &placed;
        self.gave_up(uid, &ask.key);
        self.placed.entry(uid.to_owned()).or_default().push(placed);
    }

    /// An ask was left without an answer.
    pub(super) fn gave_up(&mut self, uid: &str, key: &str) {
        self.placing.remove(&(uid.to_owned(), key.to_owned()));
    }

    fn begin(&mut self, session: Session, at: Instant) -> Turn {
        let uid = uid_of(&session);
        let sees_pods = self.sees_pods(&session, at);
        if sees_pods {
            self.saw_pods_at.insert(uid.clone(), at);
        }
        self.turned_at.insert(uid.clone(), at);
        let placed = self.placed.remove(&uid).unwrap_or_default();
        if !placed.is_empty() {
            self.telling.insert(uid.clone(), placed.clone());
        }
        let turn = Turn {
            placed,
            sees_pods,
            wants_agents: self.wants_agents(&session),
            session,
        };
        self.turning.insert(uid);
        turn
    }

    fn has_work(&self, session: &Session, time: At, at: Instant) -> bool {
        plan::has_news(session, time)
            || self.placed.contains_key(&uid_of(session))
            || self.sees_pods(session, at)
            || (self.may_place(&uid_of(session)) && self.wants_agents(session))
    }

    fn sees_pods(&self, session: &Session, at: Instant) -> bool {
        let saw_at = self.saw_pods_at.get(&uid_of(session));
        plan::is_followed(session) && saw_at.is_none_or(|it| at - *it >= PODS_EVERY)
    }

    fn wants_agents(&self, session: &Session) -> bool {
        let uid = uid_of(session);
        plan::unanswered(session, session.status.as_ref())
            .into_iter()
            .any(|ask| {
                let id = (uid.clone(), ask.key.clone());
                !self.placing.contains(&id) && !self.is_told_next(&uid, &ask.key)
            })
    }

    fn is_told_next(&self, uid: &str, key: &str) -> bool {
        let placed = self.placed.get(uid);
        placed.is_some_and(|placed| placed.iter().any(|(ask, _)| ask.key == key))
    }

    fn may_place(&self, uid: &str) -> bool {
        let own = self.placing.iter().filter(|(of, _)| of == uid).count();
        own < PLACING_MAX_EACH && self.placing.len() < PLACING_MAX
    }

    /// Forgets those that are gone; what runs for them is noted once it ends.
    fn forget_all_but(&mut self, sessions: &[Session]) {
        let there: BTreeSet<String> = sessions.iter().map(uid_of).collect();
        self.placed.retain(|uid, _| there.contains(uid));
        self.turned_at.retain(|uid, _| there.contains(uid));
        self.saw_pods_at.retain(|uid, _| there.contains(uid));
    }
}

/// What the API server gave it.
pub(super) fn uid_of(session: &Session) -> String {
    session.uid().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use resources::SessionStatus;
    use serde_json::json;

    use super::*;

    fn session(uid: usize, keys: &[&str]) -> Session {
        let asks: Vec<_> = keys.iter().map(|key| json!({"key": key})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "shop", "uid": format!("{uid:03}")},
            "spec": {"target": {"kind": "Deployment", "name": "inventory"}, "asks": asks},
        }))
        .expect("a session")
    }

    fn uids(turns: &[Turn]) -> Vec<String> {
        turns.iter().map(|turn| uid_of(&turn.session)).collect()
    }

    fn time() -> At {
        At {
            now: now(),
            leads_since: Timestamp::UNIX_EPOCH,
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    /// As its first turn leaves it: nothing to do but to look at its pods, after a while.
    fn told(mut session: Session) -> Session {
        session.status = Some(SessionStatus {
            heard_at: Some(now().to_string()),
            ..SessionStatus::default()
        });
        session
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_more_sessions_than_have_a_turn_at_once_has_one_after_two_looks() {
        let all: Vec<Session> = (0..=TURNS_MAX).map(|uid| session(uid, &[])).collect();
        let mut turns = Turns::default();
        let first = uids(&turns.pick(all.clone(), time(), Instant::now()));
        assert_eq!(first.len(), TURNS_MAX);
        let none = turns.pick(all.clone(), time(), Instant::now());
        assert_eq!(uids(&none), [""; 0], "all places are taken");
        for uid in &first {
            turns.turned(uid, Vec::new(), true);
        }
        // The first ones have something to do again: their turn comes after that of who had none.
        tokio::time::advance(PODS_EVERY).await;
        let second = uids(&turns.pick(all, time(), Instant::now()));
        assert_eq!(second[0], format!("{TURNS_MAX:03}"));
        assert_eq!(second.len(), TURNS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_nothing_to_do_takes_no_turn() {
        let idle = vec![told(session(0, &[]))];
        let mut turns = Turns::default();
        let first = turns.pick(idle.clone(), time(), Instant::now());
        assert!(first[0].sees_pods && !first[0].wants_agents);
        turns.turned("000", Vec::new(), true);
        let none = turns.pick(idle.clone(), time(), Instant::now());
        assert_eq!(uids(&none), [""; 0]);
        tokio::time::advance(PODS_EVERY).await;
        assert!(turns.pick(idle, time(), Instant::now())[0].sees_pods);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_agent_holds_up_neither_its_sessions_turns_nor_its_other_asks() {
        let both = told(session(0, &["aa", "bb"]));
        let mut turns = Turns::default();
        let first = turns.pick(vec![told(session(0, &["aa"]))], time(), Instant::now());
        assert!(first[0].wants_agents);
        let slow = first[0].session.spec.asks.clone();
        assert_eq!(turns.turned("000", slow.clone(), true), slow);
        let second = turns.pick(vec![both.clone()], time(), Instant::now());
        assert!(second[0].wants_agents, "the other ask has nobody yet");
        let begun = turns.turned("000", both.spec.asks.clone(), true);
        assert_eq!(begun, both.spec.asks[1..], "and no ask has two");
        turns.placed("000", (begun[0].clone(), Err("no".to_owned())));
        let third = turns.pick(vec![both], time(), Instant::now());
        assert_eq!(
            third[0].placed,
            [(begun[0].clone(), Err("no".to_owned()))],
            "its answer is told while the first is under way"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_a_turn_could_not_tell_is_the_next_ones_and_its_ask_has_no_second_agent()
    {
        let all = vec![told(session(0, &["aa", "bb"]))];
        let asks = all[0].spec.asks.clone();
        let no = |which: usize| (asks[which].clone(), Err("no".to_owned()));
        let mut turns = Turns::default();
        turns.pick(all.clone(), time(), Instant::now());
        assert_eq!(turns.turned("000", asks.clone(), true), asks);
        turns.placed("000", no(0));
        let second = turns.pick(all.clone(), time(), Instant::now());
        assert_eq!(second[0].placed, [no(0)]);
        // One comes while it cannot be told.
        turns.placed("000", no(1));
        assert_eq!(turns.turned("000", asks.clone(), false), []);
        let third = turns.pick(all.clone(), time(), Instant::now());
        assert_eq!(third[0].placed, [no(0), no(1)]);
        turns.turned("000", Vec::new(), true);
        tokio::time::advance(PODS_EVERY).await;
        assert_eq!(turns.pick(all, time(), Instant::now())[0].placed, []);
    }

    #[test]
    fn one_session_takes_not_all_places_and_all_have_an_end() {
        let ask = |key: usize| SessionAsk {
            key: key.to_string(),
            pod: None,
        };
        let mut turns = Turns::default();
        let begun = turns.turned("greedy", (0..32).map(ask).collect(), true);
        assert_eq!(begun.len(), PLACING_MAX_EACH);
        for uid in 0..100 {
            turns.turned(&uid.to_string(), (0..4).map(ask).collect(), true);
        }
        assert_eq!(turns.placing.len(), PLACING_MAX);
        turns.gave_up("greedy", "0");
        assert_eq!(turns.turned("late", vec![ask(0)], true), [ask(0)]);
    }
}

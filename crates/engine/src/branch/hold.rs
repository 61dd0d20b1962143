//! Who holds a branch, and when it expires once nobody does. Pure: `now` is an argument.
//!
//! ```text
//! nobody ──join──> held <──join── (a heartbeat)
//!                   │ └──leave, or HEARTBEAT_GRACE of silence──> gone
//!                 stop
//!                   v
//!                stopped: joins are refused ──leave, or the same silence──> gone, and refused all the same
//! ```
//!
//! Owns sessions, their heartbeats and the TTL. Leaves acting on an expiry to `driver`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::Ttl;
use model::door_pass::{Guest, SessionMark};
use model::engine_api::{HEARTBEAT_GRACE, Holder, SessionId, SessionView};
use serde::{Deserialize, Serialize};

use crate::clock::moved;

/// Sessions that may hold one branch at once: a bound on its record, far above a team's size.
pub const SESSIONS_MAX: usize = 256;

/// Stopped sessions that a branch remembers, the latest: a program that slept may come back after days.
const STOPPED_MAX: usize = 256;

/// One session's hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    owner: String,
    pid: u32,
    program: String,
    joined_at: Timestamp,
    last_seen: Timestamp,
}

/// The holds on one branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    ttl: Ttl,
    sessions: BTreeMap<SessionId, Held>,
    /// Since when the branch has been usable without a session; none while it is held or being made.
    idle_since: Option<Timestamp>,
    /// Sessions that may not come back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    stopped: BTreeMap<SessionId, Stopped>,
}

/// One session's end by somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stopped {
    by: String,
    at: Timestamp,
}

/// Why a session holds nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// A session too many.
    #[error("{SESSIONS_MAX} sessions hold this branch already")]
    TooMany,
    /// It is over, whatever it thinks.
    #[error("{by} stopped the session {id}")]
    Stopped {
        /// Which one.
        id: SessionId,
        /// Who: `user@host`.
        by: String,
    },
}

/// What a session's call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It was not there before: worth a journal entry.
    New,
    /// A heartbeat.
    Again,
}

impl Hold {
    /// A branch that is being made and that no session holds yet.
    pub fn new(ttl: Ttl) -> Self {
        Self {
            ttl,
            sessions: BTreeMap::new(),
            idle_since: None,
            stopped: BTreeMap::new(),
        }
    }

    /// How long the branch outlives its last session.
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// A session joins, or says that it lives.
    ///
    /// # Errors
    /// [`JoinError`] beyond [`SESSIONS_MAX`], and for one that was stopped.
    pub fn join(&mut self, holder: &Holder, now: Timestamp) -> Result<Joined, JoinError> {
        if let Some(stopped) = self.stopped.get(&holder.id) {
            return Err(JoinError::Stopped {
                id: holder.id.clone(),
                by: stopped.by.clone(),
            });
        }
        self.idle_since = None;
        if let Some(held) = self.sessions.get_mut(&holder.id) {
            held.last_seen = now;
            return Ok(Joined::Again);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(JoinError::TooMany);
        }
        let held = Held {
            owner: holder.owner.clone(),
            pid: holder.pid,
            program: holder.program.clone(),
            joined_at: now,
            last_seen: now,
        };
        self.sessions.insert(holder.id.clone(), held);
        Ok(Joined::New)
    }

    /// Refuses what a session asks from now on; true when it holds the branch. It does until it leaves or falls silent:
    /// its program has yet to end.
    pub fn stop(&mut self, id: &SessionId, by: &str, now: Timestamp) -> bool {
        if !self.sessions.contains_key(id) {
            return false;
        }
        let by = by.to_owned();
        let stopped = || Stopped { by, at: now };
        self.stopped.entry(id.clone()).or_insert_with(stopped);
        if self.stopped.len() > STOPPED_MAX {
            let earliest = self.stopped.iter().min_by_key(|(_, stopped)| stopped.at);
            if let Some(id) = earliest.map(|(id, _)| id.clone()) {
                self.stopped.remove(&id);
            }
        }
        true
    }

    /// A session leaves; true when it was there. The TTL counts from the last one's leaving.
    pub fn leave(&mut self, id: &SessionId, now: Timestamp) -> bool {
        let was_there = self.sessions.remove(id).is_some();
        if was_there && self.sessions.is_empty() {
            self.idle_since = Some(now);
        }
        was_there
    }

    /// The branch can be used from `now` on: without a session its TTL counts from here.
    pub fn settle(&mut self, now: Timestamp) {
        if self.sessions.is_empty() && self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
    }

    /// The branch is being made again: its TTL stands still.
    pub fn unsettle(&mut self) {
        self.idle_since = None;
    }

    /// A new TTL, counted from `now` where nobody holds the branch.
    pub fn extend(&mut self, ttl: Ttl, now: Timestamp) {
        self.ttl = ttl;
        self.idle_since = self.idle_since.map(|_| now);
    }

    /// After a restart of the engine: sessions could not be heard meanwhile, so each gets a full grace, and no
    /// time of the record may lie in the future.
    pub fn recover(&mut self, now: Timestamp) {
        for held in self.sessions.values_mut() {
            held.last_seen = now;
        }
        self.idle_since = self.idle_since.map(|since| since.min(now));
    }

    /// The machine's clock has jumped: tells the same moments by it from here on.
    pub fn follow_clock(&mut self, jump: SignedDuration) {
        let held = self.sessions.values_mut();
        let held = held.flat_map(|held| [&mut held.joined_at, &mut held.last_seen]);
        let stopped = self.stopped.values_mut().map(|stopped| &mut stopped.at);
        for time in held.chain(stopped).chain(&mut self.idle_since) {
            *time = moved(*time, jump);
        }
    }

    /// Drops the sessions that fell silent; true when there was one. Their TTL counts from when they were last seen.
    pub fn drop_silent(&mut self, now: Timestamp) -> bool {
        let before = self.sessions.len();
        let latest = self.sessions.values().map(|held| held.last_seen).max();
        self.sessions
            .retain(|_, held| now < after(held.last_seen, HEARTBEAT_GRACE));
        if before > 0 && self.sessions.is_empty() {
            self.idle_since = latest;
        }
        self.sessions.len() < before
    }

    /// When the branch expires; none while it is held or being made.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.idle_since
            .map(|since| after(since, self.ttl.duration()))
    }

    /// When to look again: the first session's grace or the expiry.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let silences = self
            .sessions
            .values()
            .map(|held| after(held.last_seen, HEARTBEAT_GRACE));
        silences.chain(self.expires_at()).min()
    }

    /// The sessions that its door lets in.
    pub fn marks(&self) -> BTreeSet<SessionMark> {
        let living = self.sessions.keys();
        let living = living.filter(|id| !self.stopped.contains_key(id));
        living.map(Guest::mark).collect()
    }

    /// The sessions, for the view.
    pub fn sessions(&self) -> Vec<SessionView> {
        let view = |(id, held): (&SessionId, &Held)| SessionView {
            id: id.clone(),
            owner: held.owner.clone(),
            pid: held.pid,
            program: held.program.clone(),
            joined_at: held.joined_at,
            stopped_by: self.stopped.get(id).map(|stopped| stopped.by.clone()),
        };
        self.sessions.iter().map(view).collect()
    }
}

fn after(start: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    start.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn id(name: &str) -> SessionId {
        name.to_owned().try_into().expect("an id")
    }

    fn holder(name: &str) -> Holder {
        Holder {
            id: id(name),
            owner: "a@b".to_owned(),
            pid: 1,
            program: "x".to_owned(),
        }
    }

    #[test]
    fn the_ttl_counts_from_the_last_session() {
        let mut hold = Hold::new(Ttl(300));
        assert_eq!(hold.expires_at(), None);
        hold.settle(at(0));
        assert_eq!(hold.expires_at(), Some(at(300)));
        assert_eq!(hold.join(&holder("a"), at(10)), Ok(Joined::New));
        assert_eq!(hold.join(&holder("b"), at(11)), Ok(Joined::New));
        assert_eq!(hold.expires_at(), None);
        assert!(hold.leave(&id("a"), at(20)));
        assert_eq!(hold.expires_at(), None);
        assert!(hold.leave(&id("b"), at(30)));
        assert!(!hold.leave(&id("b"), at(40)));
        assert_eq!(hold.expires_at(), Some(at(330)));
    }

    #[test]
    fn a_silent_session_is_dropped_within_fifteen_seconds() {
        let mut hold = Hold::new(Ttl(300));
        hold.join(&holder("a"), at(0)).unwrap();
        assert_eq!(hold.join(&holder("a"), at(4)), Ok(Joined::Again));
        assert!(!hold.drop_silent(at(16)));
        assert!(hold.next_deadline().unwrap() <= at(4 + 15));
        assert!(hold.drop_silent(at(19)));
        assert_eq!(hold.expires_at(), Some(at(304)));
    }

    #[test]
    fn a_branch_that_is_held_or_being_made_does_not_expire() {
        let mut hold = Hold::new(Ttl(300));
        hold.join(&holder("a"), at(0)).unwrap();
        hold.settle(at(1));
        assert_eq!(hold.expires_at(), None);
        hold.leave(&id("a"), at(2));
        hold.settle(at(3));
        assert_eq!(hold.expires_at(), Some(at(302)), "it was settled before");
        hold.unsettle();
        assert_eq!(hold.expires_at(), None);
    }

    #[test]
    fn one_silent_session_of_two_leaves_the_branch_held() {
        let mut hold = Hold::new(Ttl(300));
        hold.join(&holder("a"), at(0)).unwrap();
        hold.join(&holder("b"), at(10)).unwrap();
        let deadline = hold.next_deadline().unwrap();
        assert!(hold.drop_silent(deadline), "at the very moment");
        assert_eq!(hold.expires_at(), None);
        let left: Vec<SessionId> = hold.sessions().into_iter().map(|it| it.id).collect();
        assert_eq!(left, [id("b")]);
    }

    #[test]
    fn a_branch_without_sessions_keeps_its_expiry_when_silence_is_looked_for() {
        let mut hold = Hold::new(Ttl(120));
        hold.settle(at(0));
        assert!(!hold.drop_silent(at(100)));
        assert_eq!(hold.expires_at(), Some(at(120)));
        assert_eq!(hold.next_deadline(), Some(at(120)));
        assert_eq!(hold.ttl(), Ttl(120));
    }

    #[test]
    fn a_restart_gives_sessions_their_grace_and_trusts_no_future() {
        let mut hold = Hold::new(Ttl(300));
        hold.join(&holder("a"), at(0)).unwrap();
        hold.recover(at(1000));
        assert!(!hold.drop_silent(at(1001)));
        let mut idle = Hold::new(Ttl(300));
        idle.settle(at(5000));
        idle.recover(at(1000));
        assert_eq!(idle.expires_at(), Some(at(1300)));
    }

    #[test]
    fn a_ttl_goes_on_where_it_stood_when_the_clock_jumped() {
        for jump in [86_400, -86_400] {
            let mut hold = Hold::new(Ttl(300));
            hold.settle(at(0));
            hold.follow_clock(SignedDuration::from_secs(jump));
            hold.recover(at(jump + 100));
            assert_eq!(hold.expires_at(), Some(at(jump + 300)));
        }
        let mut hold = Hold::new(Ttl(300));
        hold.join(&holder("a"), at(0)).unwrap();
        hold.follow_clock(SignedDuration::from_secs(3600));
        assert_eq!(hold.sessions()[0].joined_at, at(3600));
        assert!(!hold.drop_silent(at(3610)));
        assert!(hold.drop_silent(at(3620)));
    }

    #[test]
    fn an_extension_counts_from_now() {
        let mut hold = Hold::new(Ttl(10));
        hold.settle(at(0));
        hold.extend(Ttl(600), at(5));
        assert_eq!(hold.expires_at(), Some(at(605)));
    }

    #[test]
    fn sessions_are_bounded() {
        let mut hold = Hold::new(Ttl(10));
        for n in 0..SESSIONS_MAX {
            hold.join(&holder(&n.to_string()), at(0)).unwrap();
        }
        assert_eq!(
            hold.join(&holder("one-more"), at(0)),
            Err(JoinError::TooMany)
        );
    }

    #[test]
    fn a_stopped_session_holds_until_it_leaves_and_never_comes_back() {
        let mut hold = Hold::new(Ttl(300));
        hold.join(&holder("a"), at(0)).unwrap();
        assert!(!hold.stop(&id("b"), "eve@box", at(1)), "nobody");
        assert!(hold.stop(&id("a"), "eve@box", at(1)));
        assert!(
            hold.stop(&id("a"), "mallory@box", at(2)),
            "the first word counts"
        );
        let refused = hold.join(&holder("a"), at(4)).unwrap_err();
        assert_eq!(refused.to_string(), "eve@box stopped the session a");
        assert_eq!(hold.sessions()[0].stopped_by.as_deref(), Some("eve@box"));
        assert_eq!(hold.expires_at(), None, "its program has yet to end");
        // Refused heartbeats are none: one that does not leave falls silent.
        assert!(!hold.drop_silent(at(12)));
        assert!(hold.drop_silent(at(13)));
        assert_eq!(hold.expires_at(), Some(at(300)));
        // It is remembered where the engine ended meanwhile.
        let written = serde_json::to_string(&hold).unwrap();
        let mut hold: Hold = serde_json::from_str(&written).unwrap();
        assert!(hold.join(&holder("a"), at(9000)).is_err());
        assert_eq!(hold.expires_at(), Some(at(300)), "it changed nothing");
        assert_eq!(hold.join(&holder("c"), at(20)), Ok(Joined::New));
    }

    #[test]
    fn the_stopped_sessions_of_a_branch_are_bounded_and_the_latest_remembered() {
        let mut hold = Hold::new(Ttl(10));
        for n in 0..=STOPPED_MAX {
            let (name, now) = (n.to_string(), at(i64::try_from(n).unwrap()));
            hold.join(&holder(&name), now).unwrap();
            hold.stop(&id(&name), "eve@box", now);
            hold.leave(&id(&name), now);
        }
        assert_eq!(hold.stopped.len(), STOPPED_MAX);
        assert_eq!(hold.join(&holder("0"), at(999)), Ok(Joined::New));
        assert!(hold.join(&holder("1"), at(999)).is_err());
    }
}

//! A moment of a source, and how one knows that a copy of it holds everything committed before that moment.
//!
//! Owns what the source is asked for it. Two ways lead to "nothing is missing", and both are needed:
//!
//! - *by position*: the copy has replayed what had been inserted into the source's WAL at the moment, on the same
//!   timeline. True for a source that moves, but a checkpoint or a vacuum moves the WAL and no row.
//! - *by comparison*: the source stands where it stood at an earlier moment that the copy is known to hold
//!   ([`Position::unmoved_since`]).
//!
//! The WAL's position is read twice, for it means two things:
//!
//! ```text
//!   before ──── snapshot ──── sequences ──── lsn
//!   └ what is committed behind it        └ what is committed up to here is replayed
//!     moves the snapshot                   by whoever has replayed this much
//! ```
//!
//! It is the position of insertion: with asynchronous commit, rows can be seen that `pg_current_wal_lsn()` does not
//! cover yet. Leaves waiting to `standby` and `follower`.

use futures_util::future;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lsn::{Lsn, WalShape};
use crate::clock::Clock;
use crate::postgres::connect::Session;
use crate::source::contact::Question;
use crate::source::movement::Position;
use crate::source::{SourceError, asking, row};

/// Which timeline a source is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A primary knows its own.
    On(u32),
    /// A read replica learns of a new one late.
    OnOrLater(u32),
}

impl Line {
    /// Whether WAL that is streamed on `timeline` is the source's.
    pub fn takes(self, timeline: u32) -> bool {
        match self {
            Self::On(own) => timeline == own,
            Self::OnOrLater(first) => timeline >= first,
        }
    }
}

/// Where a source stood when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// For comparison with later ones.
    pub position: Position,
    /// What a replay must have reached to hold everything committed before; no header of a page.
    pub lsn: Lsn,
    /// Up to where everything that was committed is in the position's snapshot, or runs in it; 0 where nobody asked.
    #[serde(default)]
    pub before: Lsn,
    /// On which timeline.
    pub line: Line,
    /// When, by our clock, at the latest.
    pub taken_at: Timestamp,
}

/// Column: position. In a statement of its own, whose snapshot is over before that of the moment is taken.
const BEFORE: &str = "SELECT CASE WHEN pg_is_in_recovery() \
       THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_insert_lsn() END";

/// Columns: position, timeline of a primary, timeline of a replica.
const WHERE: &str = "SELECT CASE WHEN pg_is_in_recovery() \
       THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_insert_lsn() END, \
     CASE WHEN pg_is_in_recovery() THEN NULL \
       ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END, \
     CASE WHEN pg_is_in_recovery() AND has_function_privilege('pg_control_checkpoint()', 'EXECUTE') \
       THEN (SELECT timeline_id FROM pg_control_checkpoint()) END";

impl Moment {
    /// Asks a source where it stands. The session's transaction is over afterwards.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(
        session: &Session,
        shape: WalShape,
        clock: Clock,
    ) -> Result<Self, SourceError> {
        // Before the questions: what is committed from here on may or may not be held.
        let taken_at = clock.now();
        let what = "position in its WAL";
        // Both are sent at once, and answered in their order.
        let (before, position) =
            future::join(row(session, what, BEFORE), Position::begin(session)).await;
        let (before, position): (Lsn, _) = (before?.number(0)?, position?);
        let found = row(session, what, WHERE).await?;
        let ended = session.batch_execute("COMMIT").await;
        ended.map_err(asking("a moment"))?;
        let line = if found.get(1).is_some() {
            Line::On(found.number(1)?)
        } else if found.get(2).is_some() {
            Line::OnOrLater(found.number(2)?)
        } else {
            // Every timeline of this cluster; its system identifier is compared elsewhere.
            Line::OnOrLater(1)
        };
        let lsn: Lsn = found.number(0)?;
        Ok(Self {
            position,
            lsn: lsn.reachable(shape),
            before: before.reachable(shape),
            line,
            taken_at,
        })
    }
}

/// Asks for a moment through a connection that is kept.
#[derive(Debug, Clone, Copy)]
pub struct MomentOf {
    /// How the source's WAL is cut.
    pub shape: WalShape,
    /// Tells the time.
    pub clock: Clock,
}

impl Question for MomentOf {
    type Answer = Moment;

    async fn ask(&self, session: &Session) -> Result<Moment, SourceError> {
        Moment::read(session, self.shape, self.clock).await
    }
}

/// What a copy of a source holds for certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// It has replayed at least this much.
    pub lsn: Lsn,
    /// On this timeline.
    pub timeline: u32,
    /// A moment of the source that it holds. Where the source has not moved since, the copy is the source.
    pub anchor: Moment,
}

impl Held {
    /// Whether everything committed before `now` is held. Where that is known by position, `now` becomes the moment
    /// that later ones are compared with: the WAL may go on without a row. Where it is known by comparison, the WAL
    /// before the snapshot has no row that is not held; up to `now.lsn` it may have one, committed after the snapshot. A
    /// source that went back was restored, and its positions mean nothing.
    pub fn covers(&mut self, now: &Moment) -> bool {
        let is_on_line = now.line.takes(self.timeline);
        if is_on_line && self.anchor.lsn <= now.lsn && now.lsn <= self.lsn {
            self.anchor = now.clone();
            return true;
        }
        let is_unmoved = now.position.unmoved_since(&self.anchor.position);
        if is_unmoved && is_on_line {
            self.lsn = self.lsn.max(now.before);
        }
        is_unmoved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_is_on_one_timeline_and_a_replica_may_know_late_of_a_new_one() {
        assert!(Line::On(2).takes(2));
        assert!(
            !Line::On(2).takes(1),
            "a lost timeline's WAL is not the source's"
        );
        assert!(!Line::On(2).takes(3));
        assert!(Line::OnOrLater(2).takes(3));
        assert!(!Line::OnOrLater(2).takes(1));
    }

    /// A source that stood at `before` just before the snapshot was taken and at `lsn` when everything was read.
    fn moment(before: u64, snapshot: &str, lsn: u64) -> Moment {
        Moment {
            position: Position::at_snapshot(snapshot),
            lsn: Lsn(lsn),
            before: Lsn(before),
            line: Line::On(1),
            taken_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn held_from(anchor: Moment) -> Held {
        Held {
            lsn: anchor.lsn,
            timeline: 1,
            anchor,
        }
    }

    #[test]
    fn what_is_committed_while_a_moment_is_read_is_not_taken_for_held() {
        let mut held = held_from(moment(900, "33:33:", 1000));
        assert!(
            held.covers(&moment(1000, "33:33:", 1200)),
            "the snapshot has not moved"
        );
        assert!(
            !held.covers(&moment(1200, "34:34:", 1200)),
            "it moved between the snapshot and the position that was read behind it"
        );
    }

    #[test]
    fn wal_without_a_row_is_held_as_soon_as_a_snapshot_says_so() {
        let mut held = held_from(moment(900, "33:33:", 1000));
        let checkpointed = moment(1200, "33:33:", 1200);
        assert!(held.covers(&checkpointed));
        assert_eq!(held.lsn, Lsn(1200));
        let beside_a_writer = moment(1200, "33:34:33", 1200);
        assert!(held.covers(&beside_a_writer), "what runs has not committed");
    }

    #[test]
    fn a_moment_from_before_there_were_two_positions_extends_nothing() {
        let moment = serde_json::to_value(moment(900, "33:33:", 1000)).unwrap();
        let mut old = moment.clone();
        old.as_object_mut().unwrap().remove("before");
        let old: Moment = serde_json::from_value(old).unwrap();
        assert_eq!(old.before, Lsn(0));
        let mut held = held_from(old.clone());
        assert!(held.covers(&old));
        assert_eq!(held.lsn, Lsn(1000));
    }
}

//! A moment of a source, and how one knows that a copy of it holds everything committed before that moment.
//!
//! Owns what the source is asked for it. Two ways lead to "nothing is missing", and both are needed:
//!
//! - *by position*: the copy has replayed what had been inserted into the source's WAL at the moment, on the same
//!   timeline. True for a source that moves, but a checkpoint or a vacuum moves the WAL and no row.
//! - *by comparison*: the source stands where it stood at an earlier moment that the copy is known to hold
//!   ([`Position::unmoved_since`]).
//!
//! The WAL's position is read last: behind the snapshot, whose commits therefore lie before it, and behind the
//! sequences, which move outside any snapshot. It is the position of insertion: with asynchronous commit, rows can be
//! seen that `pg_current_wal_lsn()` does not cover yet. Leaves waiting to `standby` and `follower`.
//!
//! That a snapshot has not moved says nothing of the WAL's position, whenever it is read: a commit's record is there
//! before the commit shows, an fsync or a synchronous standby earlier, and a transaction that is the newest of all runs
//! without being named in a snapshot (`GetSnapshotData` in PostgreSQL's `src/backend/storage/ipc/procarray.c`).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lsn::{Lsn, WalShape};
use crate::clock::Clock;
use crate::postgres::connect::Session;
use crate::source::contact::Question;
use crate::source::movement::Position;
use crate::source::{Answer, SourceError, asking, in_time, row};

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
    /// On which timeline.
    pub line: Line,
    /// When, by our clock, at the latest.
    pub taken_at: Timestamp,
}

/// How long a replica may take for one record. One that waits on purpose (`recovery_min_apply_delay`) does so before it
/// begins.
const REPLAYED_ON_MAX: Duration = Duration::from_secs(2);
const REPLAYED_ON_PAUSE: Duration = Duration::from_millis(5);

const WHAT: &str = "position in its WAL";

/// Columns: position, timeline of a primary, timeline of a replica, whether a replica may be replaying a record.
const WHERE: &str = "SELECT CASE WHEN pg_is_in_recovery() \
       THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_insert_lsn() END, \
     CASE WHEN pg_is_in_recovery() THEN NULL \
       ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END, \
     CASE WHEN pg_is_in_recovery() AND has_function_privilege('pg_control_checkpoint()', 'EXECUTE') \
       THEN (SELECT timeline_id FROM pg_control_checkpoint()) END, \
     coalesce(pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn(), false)";

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
        let asked = async {
            let position = Position::begin(session).await?;
            let mut found = row(session, WHAT, WHERE).await?;
            let ended = session.batch_execute("COMMIT").await;
            ended.map_err(asking("a moment"))?;
            if position.replays() {
                found = replayed_on(session, &position, found).await?;
            }
            Ok((position, found))
        };
        let (position, found) = in_time(WHAT, asked).await?;
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
            line,
            taken_at,
        })
    }
}

/// Asks a replica again until it has replayed on or has nothing to replay, or for [`REPLAYED_ON_MAX`].
///
/// A commit's rows show before `pg_last_wal_replay_lsn()` covers it, and long before where it drops files
/// (`xact_redo_commit` in PostgreSQL's `src/backend/access/transam/xact.c`): one record later they are covered.
async fn replayed_on(
    session: &Session,
    position: &Position,
    mut found: Answer,
) -> Result<Answer, SourceError> {
    let begun = tokio::time::Instant::now();
    let is_at_it =
        |found: &Answer| found.is(3) && found.get(0).is_some_and(|lsn| lsn == position.lsn);
    while is_at_it(&found) && begun.elapsed() < REPLAYED_ON_MAX {
        tokio::time::sleep(REPLAYED_ON_PAUSE).await;
        found = row(session, WHAT, WHERE).await?;
    }
    Ok(found)
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

/// What the sequences of a copy follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SequencesBy {
    /// Its WAL, which runs ahead of them: no number that the source gave is given again.
    Wal,
    /// What was read of them at the anchor: `nextval` may move them and no WAL.
    #[default]
    Reading,
}

/// What a copy of a source holds for certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// It has replayed at least this much.
    pub lsn: Lsn,
    /// On this timeline.
    pub timeline: u32,
    /// What of its sequences follows from that.
    #[serde(default)]
    pub sequences: SequencesBy,
    /// The source's position when it was last found unmoved, for whoever asks whether another copy is worth it: no proof
    /// that anything is held.
    #[serde(default)]
    pub quiet_to: Lsn,
    /// A moment of the source that it holds. Where the source has not moved since, the copy is the source.
    pub anchor: Moment,
}

impl Held {
    /// Whether everything committed before `now` is held. Where that is known by position, `now` becomes the moment
    /// that later ones are compared with: the WAL may go on without a row. Where it is known by comparison, nothing
    /// follows for a position. A source that went back was restored, and its positions mean nothing.
    pub fn covers(&mut self, now: &Moment) -> bool {
        let is_on_line = now.line.takes(self.timeline);
        let has_sequences = match self.sequences {
            SequencesBy::Wal => true,
            SequencesBy::Reading => now.position.has_sequences_of(&self.anchor.position),
        };
        if is_on_line && self.anchor.lsn <= now.lsn && now.lsn <= self.lsn && has_sequences {
            self.anchor = now.clone();
            return true;
        }
        let is_unmoved = now.position.unmoved_since(&self.anchor.position);
        if is_unmoved && is_on_line {
            self.quiet_to = self.quiet_to.max(now.lsn);
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

    fn moment(snapshot: &str, lsn: u64) -> Moment {
        Moment {
            position: Position::at_snapshot(snapshot),
            lsn: Lsn(lsn),
            line: Line::On(1),
            taken_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn held_from(anchor: Moment) -> Held {
        Held {
            lsn: anchor.lsn,
            timeline: 1,
            sequences: SequencesBy::Wal,
            quiet_to: anchor.lsn,
            anchor,
        }
    }

    #[test]
    fn a_commit_whose_record_is_there_before_it_shows_is_not_taken_for_held() {
        let mut held = held_from(moment("33:33:", 1000));
        assert!(
            held.covers(&moment("33:33:", 1200)),
            "the snapshot has not moved"
        );
        assert!(
            !held.covers(&moment("34:34:", 1200)),
            "what had its record before 1200 shows by now"
        );
    }

    #[test]
    fn wal_without_a_row_is_no_reason_for_another_copy() {
        let mut held = held_from(moment("33:33:", 1000));
        assert!(held.covers(&moment("33:33:", 1200)));
        assert_eq!((held.lsn, held.quiet_to), (Lsn(1000), Lsn(1200)));
    }

    #[test]
    fn what_is_replayed_is_held_whatever_runs_beside() {
        let mut held = Held {
            lsn: Lsn(1300),
            ..held_from(moment("33:33:", 1000))
        };
        assert!(held.covers(&moment("34:36:34", 1200)));
        assert!(!held.covers(&moment("36:36:", 1400)));
    }

    #[test]
    fn a_number_that_was_given_without_wal_is_seen_where_sequences_were_read() {
        let anchor = moment("33:33:", 1000);
        let mut moved = anchor.clone();
        moved.position.move_sequences();
        let mut by_wal = held_from(anchor.clone());
        assert!(by_wal.covers(&moved), "the WAL ran ahead of it");
        let mut read = Held {
            sequences: SequencesBy::Reading,
            ..held_from(anchor.clone())
        };
        assert!(read.covers(&anchor));
        assert!(!read.covers(&moved), "the copy would give it again");
    }
}

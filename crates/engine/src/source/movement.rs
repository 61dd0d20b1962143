//! Where a source stands, and whether it has moved since.
//!
//! Owns the comparison. Two positions are the same only when everything that a change would move is the same: the
//! whole text of `pg_current_snapshot()` with no transaction running in it (a commit need not move its upper bound),
//! the cluster and its timeline (a promoted standby may count the same transactions again), every sequence (`nextval`
//! moves no snapshot), and on a read replica the replay position (where a row may appear under an unmoved snapshot).
//! What cannot be read counts as moved. Transaction numbers are the whole cluster's, so that work in another database
//! counts as movement too. `acquaintance` asks for all of it at once. Leaves to `base::store` what follows from it.

mod acquaintance;

use std::sync::Arc;

use model::ByteSize;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_postgres::error::SqlState;

pub use acquaintance::Acquaintance;

use super::{Answer, SourceError, asking, in_time, row, rows};
use crate::postgres::connect::Session;
use crate::postgres::sql;

/// Sequences read by one statement: a parser's stack and a round trip each set a bound.
const SEQUENCES_PER_STATEMENT: usize = 500;

/// Where a source stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The position in its WAL, for people: `0/16B3748`.
    pub lsn: String,
    /// `pg_current_snapshot()`.
    snapshot: String,
    cluster: Cluster,
    sequences: Sequences,
}

/// Which cluster, and which run of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cluster {
    /// None where the user may not ask.
    system_identifier: Option<String>,
    /// None where the user may not ask.
    timeline: Option<String>,
    database_oid: u32,
    /// Seconds since 1970: a restart may follow a crash, which empties unlogged tables and moves no snapshot.
    started_at: String,
    /// The last checkpoint, where there are unlogged tables: a crash without a restart ends with one.
    checkpoint: Option<String>,
    /// In recovery: what was replayed before the snapshot was taken.
    replayed: Option<String>,
    /// In recovery: a record was replayed meanwhile, or may be being replayed. Its rows show before its position does.
    #[serde(default)]
    replays: bool,
}

/// Every sequence's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sequences {
    /// SHA-256 over number, value and state of each, in hexadecimal digits.
    Digest(String),
    /// Some cannot be read.
    Unreadable,
}

impl Position {
    /// Begins a transaction that reads one moment and says where the source stands in it. The transaction stays open.
    /// It is of no further use when a sequence vanished meanwhile, which [`Position::is_comparable`] tells.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn begin(session: &Session) -> Result<Self, SourceError> {
        Self::begin_within(session, None).await
    }

    /// The same of the moment of a snapshot that another session exported.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn begin_within(
        session: &Session,
        snapshot: Option<&str>,
    ) -> Result<Self, SourceError> {
        Ok(Self::read(session, snapshot).await?.0)
    }

    /// Where the source stands, asked in a transaction that is ended: in one round trip where it is what it was at the
    /// last question, which `known` remembers.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn ask(
        session: &Session,
        known: &mut Option<Arc<Acquaintance>>,
    ) -> Result<Self, SourceError> {
        if let Some(acquaintance) = known.take()
            && let Some(position) = acquaintance.ask(session).await?
        {
            *known = Some(acquaintance.seen_at(&position));
            return Ok(position);
        }
        let (position, acquaintance) = Self::read(session, None).await?;
        let ended = session.batch_execute("ROLLBACK").await;
        ended.map_err(asking("a moment"))?;
        *known = acquaintance.map(Arc::new);
        Ok(position)
    }

    async fn read(
        session: &Session,
        snapshot: Option<&str>,
    ) -> Result<(Self, Option<Acquaintance>), SourceError> {
        in_time("where it stands", Self::read_on(session, snapshot)).await
    }

    async fn read_on(
        session: &Session,
        snapshot: Option<&str>,
    ) -> Result<(Self, Option<Acquaintance>), SourceError> {
        // Before the snapshot: what is replayed between the two then counts as movement.
        let replayed = row(session, "replay position", REPLAYED).await?;
        let replayed = replayed.get(0).map(str::to_owned);
        let begun = session.begin_read_within(snapshot).await;
        begun.map_err(asking("a moment"))?;
        let is_replica = replayed.is_some();
        let lsn = if is_replica { REPLAYED_LSN } else { INSERT_LSN };
        let now = format!("{MOMENT}, {HAS_UNLOGGED}, {lsn}, {LAGS}");
        let now = row(session, "position", &now).await?;
        let rights = Rights::of(&now);
        let system = if rights.may_ask_system {
            Some(row(session, "system identifier", SYSTEM_IDENTIFIER).await?)
        } else {
            None
        };
        let timeline = match rights.timeline(is_replica) {
            Some(query) => Some(row(session, "timeline", query).await?),
            None => None,
        };
        let checkpoint = if rights.asks_checkpoint() {
            Some(row(session, "last checkpoint", CHECKPOINT).await?)
        } else {
            None
        };
        let (sequences, listed) = if rights.has_unlogged && !rights.may_ask_checkpoint {
            (Sequences::Unreadable, None)
        } else {
            read_sequences(session).await?
        };
        let told = Told {
            replayed,
            now: &now,
            system: system.as_ref(),
            timeline: timeline.as_ref(),
            checkpoint: checkpoint.as_ref(),
        };
        let position = told.position(sequences)?;
        let acquaintance = listed.and_then(|listed| Acquaintance::new(rights, &position, &listed));
        Ok((position, acquaintance))
    }

    /// Whether nothing has been written between `earlier` and this position, as far as that can be known.
    pub fn unmoved_since(&self, earlier: &Self) -> bool {
        // The position in the WAL is left out: a checkpoint or a vacuum moves it and no row.
        self.is_comparable()
            && !has_running(&self.snapshot)
            && self.snapshot == earlier.snapshot
            && self.cluster == earlier.cluster
            && self.has_sequences_of(earlier)
    }

    /// Whether rows may show in it that its place in the WAL does not cover yet.
    pub fn replays(&self) -> bool {
        self.cluster.replays
    }

    /// Whether every sequence stands where it stood at `earlier`, as far as that can be known.
    pub fn has_sequences_of(&self, earlier: &Self) -> bool {
        self.sequences != Sequences::Unreadable && self.sequences == earlier.sequences
    }

    /// Whether a later position can ever be known to be the same.
    pub fn is_comparable(&self) -> bool {
        self.cluster.system_identifier.is_some()
            && self.cluster.timeline.is_some()
            && !self.cluster.replays
            && self.sequences != Sequences::Unreadable
    }
}

/// What the user may ask, and what must be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rights {
    may_ask_system: bool,
    may_ask_checkpoint: bool,
    has_unlogged: bool,
}

impl Rights {
    fn of(now: &Answer) -> Self {
        Self {
            may_ask_system: now.is(3),
            may_ask_checkpoint: now.is(4),
            has_unlogged: now.is(5),
        }
    }

    /// What tells the timeline, where anything does.
    fn timeline(self, is_replica: bool) -> Option<&'static str> {
        match (is_replica, self.may_ask_checkpoint) {
            (false, _) => Some(INSERT_TIMELINE),
            (true, true) => Some(CHECKPOINT_TIMELINE),
            (true, false) => None,
        }
    }

    fn asks_checkpoint(self) -> bool {
        self.has_unlogged && self.may_ask_checkpoint
    }
}

/// What a source has said of one moment.
struct Told<'a> {
    replayed: Option<String>,
    now: &'a Answer,
    system: Option<&'a Answer>,
    timeline: Option<&'a Answer>,
    checkpoint: Option<&'a Answer>,
}

impl Told<'_> {
    fn position(self, sequences: Sequences) -> Result<Position, SourceError> {
        let first = |answer: Option<&Answer>| answer.map(|answer| answer.text(0)).transpose();
        let lsn = self.now.text(6)?;
        let replays = |before: &String| *before != lsn || self.now.is(7);
        Ok(Position {
            lsn: lsn.clone(),
            snapshot: self.now.text(0)?,
            cluster: Cluster {
                system_identifier: first(self.system)?,
                timeline: first(self.timeline)?,
                database_oid: self.now.number(1)?,
                started_at: self.now.text(2)?,
                checkpoint: first(self.checkpoint)?,
                replays: self.replayed.as_ref().is_some_and(replays),
                replayed: self.replayed,
            },
            sequences,
        })
    }
}

/// Whether a snapshot (`xmin:xmax:xip,xip,...`) has transactions running in it.
fn has_running(snapshot: &str) -> bool {
    snapshot.rsplit(':').next() != Some("")
}

const REPLAYED: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN coalesce(pg_catalog.pg_last_wal_replay_lsn()::text, '') END";

/// Columns: snapshot, database, start, two rights.
const MOMENT: &str = "SELECT pg_current_snapshot(), \
     (SELECT oid FROM pg_database WHERE datname = current_database()), \
     extract(epoch FROM pg_postmaster_start_time()), \
     has_function_privilege('pg_control_system()', 'EXECUTE'), \
     has_function_privilege('pg_control_checkpoint()', 'EXECUTE')";

/// Reads all of a catalog that grows with the tables: a millisecond for two thousand of them.
const HAS_UNLOGGED: &str = "EXISTS (SELECT FROM pg_class WHERE relpersistence = 'u')";

/// Whether a replica has WAL that it has not replayed all of: one record of it may be half done. It is not known of one
/// that reads an archive alone.
const LAGS: &str = "coalesce(pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn(), false)";

const REPLAYED_LSN: &str = "pg_last_wal_replay_lsn()";
const INSERT_LSN: &str = "pg_current_wal_insert_lsn()";

const SYSTEM_IDENTIFIER: &str = "SELECT system_identifier FROM pg_control_system()";
const CHECKPOINT: &str = "SELECT redo_lsn FROM pg_control_checkpoint()";

/// A WAL file's name begins with its timeline; the control file learns of a new one later.
const INSERT_TIMELINE: &str = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";
const CHECKPOINT_TIMELINE: &str = "SELECT timeline_id FROM pg_control_checkpoint()";

/// To be followed by more conditions and [`SEQUENCES_ORDER`]. Reads all of that catalog as well.
const SEQUENCES: &str = "SELECT c.oid, n.nspname, c.relname, \
     has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT') \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'S' AND c.relpersistence <> 't'";

const SEQUENCES_ORDER: &str = "ORDER BY c.oid";

/// The sequences' values, and the sequences where all can be read.
async fn read_sequences(
    session: &Session,
) -> Result<(Sequences, Option<Vec<Answer>>), SourceError> {
    let query = format!("{SEQUENCES} {SEQUENCES_ORDER}");
    let listed = rows(session, "sequences", &query).await?;
    if listed.iter().any(|sequence| !sequence.is(3)) {
        return Ok((Sequences::Unreadable, None));
    }
    let mut values = Vec::new();
    for query in value_queries(&listed)? {
        match rows(session, "sequences", &query).await {
            Ok(some) => values.extend(some),
            // Dropped since the snapshot was taken.
            Err(SourceError::Ask { source, .. })
                if source.code() == Some(&SqlState::UNDEFINED_TABLE) =>
            {
                return Ok((Sequences::Unreadable, None));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((digest(&values), Some(listed)))
}

fn value_queries(listed: &[Answer]) -> Result<Vec<String>, SourceError> {
    let queries = listed.chunks(SEQUENCES_PER_STATEMENT).map(|some| {
        let selects = some.iter().map(select_value);
        let selects = selects.collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{} ORDER BY 1", selects.join(" UNION ALL ")))
    });
    queries.collect()
}

fn digest<'a>(values: impl IntoIterator<Item = &'a Answer>) -> Sequences {
    let mut digest = Sha256::new();
    for value in values {
        add(&mut digest, value);
    }
    let bytes = digest.finalize();
    Sequences::Digest(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn select_value(sequence: &Answer) -> Result<String, SourceError> {
    let name = sql::qualified(&sequence.text(1)?, &sequence.text(2)?);
    let oid = sequence.number::<u32>(0)?;
    Ok(format!(
        "SELECT {oid}::oid, last_value, is_called FROM {name}"
    ))
}

fn add(digest: &mut Sha256, value: &Answer) {
    for column in 0..3 {
        digest.update(value.get(column).unwrap_or_default());
        digest.update(b"\0");
    }
}

/// The size of the database on the source's disk.
pub(crate) async fn database_size(session: &Session) -> Result<ByteSize, SourceError> {
    let asked = "SELECT pg_database_size(current_database())";
    let found = row(session, "database size", asked).await?;
    Ok(ByteSize(found.number(0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Position {
        /// Of a primary whose snapshot says this.
        pub(crate) fn at_snapshot(snapshot: &str) -> Self {
            Self {
                lsn: "0/16B3748".to_owned(),
                snapshot: snapshot.to_owned(),
                cluster: Cluster {
                    system_identifier: Some("7412".to_owned()),
                    timeline: Some("00000001".to_owned()),
                    database_oid: 16384,
                    started_at: "1763856000.123".to_owned(),
                    checkpoint: None,
                    replayed: None,
                    replays: false,
                },
                sequences: Sequences::Digest("00".to_owned()),
            }
        }

        /// A number was given out.
        pub(crate) fn move_sequences(&mut self) {
            self.sequences = Sequences::Digest("01".to_owned());
        }
    }

    fn position() -> Position {
        Position::at_snapshot("740:740:")
    }

    /// The same position with one thing changed.
    fn with(change: impl FnOnce(&mut Position)) -> Position {
        let mut changed = position();
        change(&mut changed);
        changed
    }

    #[test]
    fn an_unmoved_source_is_known_whatever_its_wal_says() {
        assert!(position().unmoved_since(&position()));
        assert!(with(|now| now.lsn = "0/17".to_owned()).unmoved_since(&position()));
    }

    #[test]
    fn whatever_moves_is_seen() {
        let changes: [fn(&mut Position); 8] = [
            |now| now.snapshot = "741:741:".to_owned(),
            |now| now.sequences = Sequences::Digest("01".to_owned()),
            |now| now.cluster.system_identifier = Some("7413".to_owned()),
            |now| now.cluster.timeline = Some("00000002".to_owned()),
            |now| now.cluster.database_oid = 16385,
            |now| now.cluster.started_at = "1763856001.123".to_owned(),
            |now| now.cluster.checkpoint = Some("0/16".to_owned()),
            |now| now.cluster.replayed = Some("0/16".to_owned()),
        ];
        for change in changes {
            let changed = with(change);
            assert!(!changed.unmoved_since(&position()), "{changed:?}");
            assert!(!position().unmoved_since(&changed), "{changed:?}");
            assert!(changed.unmoved_since(&changed), "{changed:?}");
        }
    }

    #[test]
    fn what_is_not_known_counts_as_moved() {
        let changes: [fn(&mut Position); 5] = [
            // One that runs may commit without moving the upper bound.
            |now| now.snapshot = "740:742:740".to_owned(),
            |now| now.sequences = Sequences::Unreadable,
            |now| now.cluster.system_identifier = None,
            |now| now.cluster.timeline = None,
            |now| now.cluster.replays = true,
        ];
        for change in changes {
            let unknown = with(change);
            assert!(!unknown.unmoved_since(&unknown), "{unknown:?}");
        }
    }

    #[test]
    fn a_position_survives_the_catalogue() {
        let stored = serde_json::to_string(&position()).unwrap();
        let read: Position = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, position());
    }
}

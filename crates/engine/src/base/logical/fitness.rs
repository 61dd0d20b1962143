//! Whether a source can be followed by logical replication, and if not, why: a sentence each for whoever asked for it.
//!
//! Owns the questions to the source and the verdict, a pure function of the answers. A publication must carry everything
//! that a copy holds: what it misses would silently be old. What can only be known by doing is done: the replication
//! connection is opened. Leaves making the slot to `seed`.

mod reason;

use std::time::Duration;

pub use reason::Reason;

use super::reach::Reach;
use super::{Host, Upstream};
use crate::base::copy::copied_relations;
use crate::base::lsn::WalShape;
use crate::base::physical::fitness::takes_us_for_synchronous;
use crate::base::physical::replication::programs;
use crate::postgres::binaries::Installation;
use crate::postgres::connect::Session;
use crate::postgres::sql;
use crate::source::facts::Facts;
use crate::source::{Answer, SourceError, asking, in_time, row, rows};

/// Names that a reason lists.
const NAMES_MAX: usize = 5;

/// How long the replication connection may take to answer: milliseconds are usual.
const ASK_TIME_MAX: Duration = Duration::from_secs(60);

/// A source that can be followed.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Who and where it is.
    pub facts: Facts,
    /// Tells clusters apart.
    pub system_identifier: u64,
    /// How its WAL is cut.
    pub shape: WalShape,
    /// Whether the administrator answers for a slot that the source does not bound.
    pub unbounded_slot: bool,
    /// The publications that carry everything.
    pub publications: Vec<String>,
    /// How replication is reached.
    pub reach: Reach,
    /// What is of interest to whoever follows it, a sentence each.
    pub notes: Vec<String>,
}

/// The verdict.
#[derive(Debug, Clone)]
pub enum Fitness {
    /// It can be followed.
    Fit(Box<Fit>),
    /// It cannot.
    Unfit {
        /// Why: never empty.
        reasons: Vec<Reason>,
    },
}

/// What a source says of its replication.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Traits {
    is_replica: bool,
    wal_level: String,
    bounds_slots: bool,
    takes_us_for_synchronous: bool,
    slots_free: i64,
    senders_free: i64,
    /// Publications that carry every kind of change.
    publications: Vec<String>,
    /// Publications that would, but for what is told with each.
    passed_over: Names,
    /// Tables that none of them carries.
    missed: Names,
    unlogged: Names,
    views: Names,
    triggers: Names,
    has_large_objects: bool,
    without_identity: Names,
}

/// Some names of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The first few, in their order.
    pub first: Vec<String>,
    /// How many there are.
    pub count: usize,
}

impl Names {
    fn read(found: &[Answer]) -> Result<Self, SourceError> {
        let first = found.iter().take(NAMES_MAX).map(|row| row.text(0));
        Ok(Self {
            first: first.collect::<Result<_, _>>()?,
            count: found.len(),
        })
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Decides whether a source can be followed. `unbounded_slot` is an administrator's word that the source's disk is
/// watched, where it does not bound what a slot keeps.
///
/// # Errors
/// [`SourceError`] when the source does not answer; whatever it grants or is, is an answer.
pub async fn fitness(
    upstream: &Upstream,
    host: &Host,
    unbounded_slot: bool,
) -> Result<Fitness, SourceError> {
    let session = upstream.access.connect().await?;
    let asked = async {
        session.begin_read().await.map_err(asking("a moment"))?;
        let facts = Facts::read(&session).await?;
        let traits = Traits::read(&session).await?;
        let shape = read_shape(&session).await?;
        let ended = session.batch_execute("COMMIT").await;
        ended.map_err(asking("a moment"))?;
        Ok((facts, traits, shape))
    };
    let (facts, traits, shape) = in_time("how it is", asked).await?;
    let mut reasons = judge(&traits, unbounded_slot);
    let Some(installation) = programs(&host.installations, facts.major) else {
        reasons.push(Reason::NoPrograms { major: facts.major });
        return Ok(Fitness::Unfit { reasons });
    };
    let ways = Reach::ways(upstream, &session, &facts.database)?;
    let identified = identify(&ways, installation).await;
    let (reach, system_identifier) = match identified {
        Ok(identified) => identified,
        Err(answer) => {
            let replicator = upstream.replication_url().user();
            reasons.push(Reason::Refused {
                replicator: replicator.unwrap_or_else(|| facts.session_user.clone()),
                answer,
            });
            return Ok(Fitness::Unfit { reasons });
        }
    };
    let is_other = facts
        .system_identifier
        .as_ref()
        .is_some_and(|known| *known != system_identifier.to_string());
    if is_other {
        reasons.push(Reason::OtherCluster);
    }
    if !reasons.is_empty() {
        return Ok(Fitness::Unfit { reasons });
    }
    let notes = notes(&traits);
    Ok(Fitness::Fit(Box::new(Fit {
        facts,
        system_identifier,
        shape,
        unbounded_slot,
        publications: traits.publications,
        reach,
        notes,
    })))
}

/// The first way that is answered, and by which cluster.
async fn identify(ways: &[Reach], installation: &Installation) -> Result<(Reach, u64), String> {
    let mut last = "the URL for replication names no address".to_owned();
    for way in ways {
        match way.identify(installation, ASK_TIME_MAX).await {
            Ok(found) => return Ok((way.clone(), found)),
            Err(answer) => last = answer,
        }
    }
    Err(last)
}

async fn read_shape(session: &Session) -> Result<WalShape, SourceError> {
    let query = "SELECT current_setting('wal_block_size'), \
         pg_size_bytes(current_setting('wal_segment_size'))";
    let found = row(session, "WAL's shape", query).await?;
    Ok(WalShape {
        page_bytes: found.number(0)?,
        segment_bytes: found.number(1)?,
    })
}

const SERVER: &str = "SELECT pg_is_in_recovery(), current_setting('wal_level'), \
     current_setting('max_slot_wal_keep_size') <> '-1', \
     current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots), \
     current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication), \
     EXISTS (SELECT FROM pg_largeobject_metadata), current_setting('synchronous_standby_names')";

/// Those of every kind of change, with what stands against one: TRUNCATE of a partition is not published through its root
/// (`pgoutput_truncate`); tables that others have otherwise, or generated columns, are refused when it is too late
/// (`fetch_table_list`, `logicalrep_rel_open`). One for every table comes first, and is then the only one that is needed.
const PUBLICATIONS: &str = "SELECT p.pubname, p.puballtables, \
     CASE WHEN p.pubviaroot AND EXISTS (SELECT FROM pg_get_publication_tables(p.pubname::text) t \
       JOIN pg_class k ON k.oid = t.relid WHERE k.relkind = 'p') \
       THEN 'publish_via_partition_root, by which no TRUNCATE of a partition comes' \
     WHEN EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prattrs IS NOT NULL) \
       THEN 'it has a column list' \
     WHEN to_jsonb(p) ->> 'pubgencols' <> 'n' AND EXISTS (SELECT FROM pg_attribute WHERE attgenerated = 's') \
       THEN 'publish_generated_columns, and a copy generates them itself' END \
     FROM pg_publication p WHERE p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate \
     ORDER BY p.puballtables DESC, p.pubname";

/// Whether one of the publications carries every row and column of the table `c`.
fn is_carried(publications: &[String]) -> String {
    let names: Vec<_> = publications.iter().map(|name| sql::literal(name)).collect();
    if names.is_empty() {
        return "false".to_owned();
    }
    format!(
        "EXISTS (SELECT FROM pg_publication p WHERE p.pubname IN ({}) AND {CARRIES})",
        names.join(", ")
    )
}

/// Whether the publication `p` carries every row and column of the table `c`.
const CARRIES: &str = "(p.puballtables \
       OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_class k ON k.relnamespace = s.pnnspid \
         WHERE s.pnpubid = p.oid AND (k.oid = c.oid OR k.oid IN (SELECT relid FROM pg_partition_ancestors(c.oid)))) \
       OR EXISTS (SELECT FROM pg_publication_rel r \
         WHERE r.prpubid = p.oid AND r.prqual IS NULL AND r.prattrs IS NULL \
         AND (r.prrelid = c.oid OR r.prrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid)))))";

/// Names of relations `c` in `n` that a copy holds.
fn relations(condition: &str) -> String {
    format!(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE ({}) AND ({condition}) ORDER BY 1",
        copied_relations()
    )
}

impl Traits {
    async fn read(session: &Session) -> Result<Self, SourceError> {
        let server = row(session, "replication settings", SERVER).await?;
        let ask = async |condition: &str| {
            Names::read(&rows(session, "tables", &relations(condition)).await?)
        };
        let (publications, passed_over) = read_publications(session).await?;
        let carried = is_carried(&publications);
        let missed = format!("c.relkind = 'r' AND c.relpersistence = 'p' AND NOT {carried}");
        // Rows that the subscription writes set these off; they have already come as rows of their own.
        let triggers = "EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal \
             AND t.tgenabled IN ('A', 'R'))";
        let without_identity = "c.relkind = 'r' AND (c.relreplident = 'n' OR c.relreplident = 'd' \
             AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))";
        Ok(Self {
            is_replica: server.is(0),
            wal_level: server.text(1)?,
            bounds_slots: server.is(2),
            takes_us_for_synchronous: takes_us_for_synchronous(&server.text(6)?),
            slots_free: server.number(3)?,
            senders_free: server.number(4)?,
            has_large_objects: server.is(5),
            publications,
            passed_over,
            missed: ask(&missed).await?,
            unlogged: ask("c.relkind = 'r' AND c.relpersistence = 'u'").await?,
            views: ask("c.relkind = 'm'").await?,
            triggers: ask(triggers).await?,
            without_identity: ask(without_identity).await?,
        })
    }
}

/// Those that count, and those that do not.
async fn read_publications(session: &Session) -> Result<(Vec<String>, Names), SourceError> {
    let found = rows(session, "publications", PUBLICATIONS).await?;
    let (against, count): (Vec<_>, Vec<_>) = found.iter().partition(|row| row.get(2).is_some());
    let is_for_all = count.first().is_some_and(|first| first.is(1));
    let needed = if is_for_all { 1 } else { count.len() };
    let publications = count.iter().take(needed).map(|row| row.text(0));
    let told = |row: &&Answer| Ok(format!("{} ({})", row.text(0)?, row.text(2)?));
    let passed_over = Names {
        first: against
            .iter()
            .take(NAMES_MAX)
            .map(told)
            .collect::<Result<_, SourceError>>()?,
        count: against.len(),
    };
    Ok((publications.collect::<Result<_, _>>()?, passed_over))
}

/// Everything that speaks against following, from what is known without the replication connection.
fn judge(traits: &Traits, unbounded_slot: bool) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut add = |is: bool, reason: Reason| {
        if is {
            reasons.push(reason);
        }
    };
    add(traits.is_replica, Reason::Replica);
    let is_logical = traits.wal_level == "logical";
    add(
        !is_logical,
        Reason::WalLevel {
            level: traits.wal_level.clone(),
        },
    );
    let has_none = traits.publications.is_empty();
    add(has_none, Reason::NoPublication);
    let missed = Reason::Missed {
        tables: traits.missed.clone(),
    };
    let misses = !traits.missed.is_empty();
    add(!has_none && misses, missed);
    let passed_over = Reason::PassedOver {
        publications: traits.passed_over.clone(),
    };
    add(
        (has_none || misses) && !traits.passed_over.is_empty(),
        passed_over,
    );
    let unlogged = Reason::Unlogged {
        tables: traits.unlogged.clone(),
    };
    add(!traits.unlogged.is_empty(), unlogged);
    let views = Reason::MaterializedViews {
        views: traits.views.clone(),
    };
    add(!traits.views.is_empty(), views);
    let triggers = Reason::Triggers {
        tables: traits.triggers.clone(),
    };
    add(!traits.triggers.is_empty(), triggers);
    add(traits.has_large_objects, Reason::LargeObjects);
    add(!traits.bounds_slots && !unbounded_slot, Reason::Unbounded);
    add(traits.takes_us_for_synchronous, Reason::Synchronous);
    add(traits.slots_free < 1, Reason::NoSlotFree);
    add(traits.senders_free < 1, Reason::NoSenderFree);
    reasons
}

fn notes(traits: &Traits) -> Vec<String> {
    if traits.without_identity.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "the source refuses to update or delete rows of published tables without a primary key or another replica \
         identity: {}",
        traits.without_identity
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits() -> Traits {
        Traits {
            is_replica: false,
            wal_level: "logical".to_owned(),
            bounds_slots: true,
            takes_us_for_synchronous: false,
            slots_free: 10,
            senders_free: 10,
            publications: vec!["everything".to_owned()],
            passed_over: Names::default(),
            missed: Names::default(),
            unlogged: Names::default(),
            views: Names::default(),
            triggers: Names::default(),
            has_large_objects: false,
            without_identity: Names::default(),
        }
    }

    fn some(name: &str) -> Names {
        Names {
            first: vec![name.to_owned()],
            count: 1,
        }
    }

    #[test]
    fn each_obstacle_is_one_reason() {
        assert_eq!(judge(&traits(), false), []);
        let changes: [fn(&mut Traits); 12] = [
            |traits| traits.is_replica = true,
            |traits| traits.wal_level = "replica".to_owned(),
            |traits| traits.bounds_slots = false,
            |traits| traits.takes_us_for_synchronous = true,
            |traits| traits.slots_free = 0,
            |traits| traits.senders_free = 0,
            |traits| traits.publications.clear(),
            |traits| traits.missed = some("public.orders"),
            |traits| traits.unlogged = some("public.cache"),
            |traits| traits.views = some("public.totals"),
            |traits| traits.triggers = some("public.audited"),
            |traits| traits.has_large_objects = true,
        ];
        for change in changes {
            let mut unfit = traits();
            change(&mut unfit);
            assert_eq!(judge(&unfit, false).len(), 1, "{unfit:?}");
        }
    }

    #[test]
    fn an_administrators_word_stands_in_for_a_bound() {
        let mut unbounded = traits();
        unbounded.bounds_slots = false;
        assert_eq!(judge(&unbounded, false), [Reason::Unbounded]);
        assert_eq!(judge(&unbounded, true), []);
    }

    #[test]
    fn many_names_are_cut_with_their_count() {
        let many = Names {
            first: vec!["a".to_owned(), "b".to_owned()],
            count: 9,
        };
        assert_eq!(many.to_string(), "a, b and 7 more");
        assert_eq!(some("a").to_string(), "a");
    }
}

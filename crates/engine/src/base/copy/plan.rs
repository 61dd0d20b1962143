//! What a copy will do, known before anything is made: versions, tables, rights, room.
//!
//! Owns everything that can be refused early. Leaves doing it to the other steps.

use model::engine_api::CopyPhase;
use model::{ByteSize, CopyMode, PgMajor};

use super::dump_args::{Selection, check_spec};
use super::error::CopyError;
use super::progress::Progress;
use super::tables::{self, Table};
use super::{CopyRequest, DiskBudget};
use crate::postgres::binaries::Installation;
use crate::postgres::connect::Session;
use crate::source::access::{self, Scope};
use crate::source::facts::Facts;
use crate::source::pooler::{self, Between};
use crate::source::roles::Roles;

/// Disk of an empty cluster: three template databases of 8 MB, WAL and what starting adds.
const EMPTY_CLUSTER_BYTES: u64 = 64 << 20;

/// Bytes of a source's disk that are copied in a second. Measured: `pg_dump | psql` copied 1 GB in 12.5 to 15 s on two
/// shared cores, 70 to 80 MB/s; a network is slower.
const COPY_BYTES_PER_SECOND: u64 = 50_000_000;

/// What making a cluster, its roles and its clean end take, whatever its size.
const FIXED_SECONDS: u64 = 4;

/// A copy that may begin.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// What stands before the source.
    pub(super) between: Between,
    pub(super) facts: Facts,
    pub(super) roles: Roles,
    /// Whose server the base gets.
    pub(super) server: &'a Installation,
    /// Whose `pg_dump` reads the source; none where nothing is read.
    pub(super) dumper: Option<&'a Installation>,
    pub(super) selection: Selection,
    pub(super) tables: Vec<Table>,
}

impl Plan<'_> {
    /// The base's version.
    pub(super) fn major(&self) -> PgMajor {
        self.server.major
    }
}

/// Asks the source everything, in a transaction that ends with this, and announces what the copy takes.
///
/// # Errors
/// [`CopyError`] names what stands in the way.
pub(super) async fn make<'a>(
    request: &CopyRequest<'a>,
    session: &Session,
    progress: &Progress<'_>,
) -> Result<Plan<'a>, CopyError> {
    check_spec(request.copy)?;
    let selection = Selection::read(&request.copy.dump_args)?;
    progress.phase(CopyPhase::Inspecting);
    let between = pooler::check(request.access, session).await?;
    let asking = crate::source::asking;
    session.begin_read().await.map_err(asking("a moment"))?;
    let facts = Facts::read(session).await?;
    let major = choose_major(request.version, facts.major)?;
    let server = request.installations.server(major)?;
    let reads_nothing = request.copy.mode == CopyMode::Empty && request.copy.tables.is_empty();
    let dumper = if reads_nothing {
        None
    } else {
        Some(request.installations.dumper(facts.major, major)?)
    };
    let tables = tables::find(session, &request.copy.tables).await?;
    let scope = scope(request.copy.mode, &selection, &tables);
    access::check(session, &scope).await??;
    let roles = Roles::read(session).await?;
    session
        .batch_execute("COMMIT")
        .await
        .map_err(asking("a moment"))?;
    let size = Size::of(request.copy.mode, &facts, &tables);
    progress.plan(facts.size_bytes, size.needed, size.seconds);
    size.check(request)?;
    Ok(Plan {
        between,
        facts,
        roles,
        server,
        dumper,
        selection,
        tables,
    })
}

fn choose_major(asked: Option<PgMajor>, source_major: PgMajor) -> Result<PgMajor, CopyError> {
    let branch = asked.unwrap_or(source_major);
    if branch < source_major {
        return Err(CopyError::Version {
            branch,
            source_major,
        });
    }
    Ok(branch)
}

/// What will be read, as the check of rights needs it.
fn scope(mode: CopyMode, selection: &Selection, tables: &[Table]) -> Scope {
    let named = one_of(tables.iter().map(|table| table.oid));
    // Whoever copies a named table's rows copies where its sequences stand.
    let owned = format!(
        "EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
         AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass \
         AND d.deptype IN ('a', 'i') AND d.refobjid {named})"
    );
    let partitions = format!(
        "EXISTS (SELECT FROM pg_catalog.pg_class r CROSS JOIN LATERAL pg_catalog.pg_partition_tree(r.oid) t \
         WHERE r.oid {named} AND r.relkind = 'p' AND t.relid = c.oid)"
    );
    let (tables, rows, sequences) = match mode {
        CopyMode::All => (
            selection.condition(),
            selection.rows_condition(),
            selection.sequences_condition(),
        ),
        CopyMode::Schema => (selection.condition(), format!("c.oid {named}"), owned),
        CopyMode::Empty => (
            format!("(c.oid {named} OR {partitions})"),
            format!("c.oid {named}"),
            owned,
        ),
    };
    Scope {
        tables,
        rows,
        sequences,
        large_objects: mode == CopyMode::All && selection.has_large_objects(),
        row_security: selection.row_security,
    }
}

fn one_of(oids: impl Iterator<Item = u32>) -> String {
    let oids: Vec<_> = oids.map(|oid| oid.to_string()).collect();
    if oids.is_empty() {
        "IS NULL".to_owned()
    } else {
        format!("IN ({})", oids.join(", "))
    }
}

/// What a copy takes.
struct Size {
    /// Of the source's disk, what is copied.
    copied: ByteSize,
    /// Of the disk here.
    needed: ByteSize,
    seconds: u64,
}

impl Size {
    fn of(mode: CopyMode, facts: &Facts, tables: &[Table]) -> Self {
        let copied = match mode {
            CopyMode::All => facts.size_bytes.0,
            CopyMode::Schema | CopyMode::Empty => tables.iter().map(|table| table.size.0).sum(),
        };
        Self {
            copied: ByteSize(copied),
            needed: ByteSize(copied.saturating_add(EMPTY_CLUSTER_BYTES)),
            seconds: FIXED_SECONDS + copied / COPY_BYTES_PER_SECOND,
        }
    }

    /// Refuses what does not fit, or is more than the request may copy.
    fn check(&self, request: &CopyRequest<'_>) -> Result<(), CopyError> {
        if let Some(max) = request.size_max.filter(|max| self.copied > *max) {
            return Err(CopyError::TooLarge {
                size: self.copied,
                max,
                seconds: self.seconds,
            });
        }
        let DiskBudget { free, floor } = request.disk;
        let needed = self.needed;
        if needed.0.saturating_add(floor.0) > free.0 {
            return Err(CopyError::NoRoom {
                needed,
                free,
                floor,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_never_older_than_its_source() {
        assert_eq!(choose_major(None, PgMajor(16)).unwrap(), PgMajor(16));
        assert_eq!(
            choose_major(Some(PgMajor(17)), PgMajor(16)).unwrap(),
            PgMajor(17)
        );
        let refused = choose_major(Some(PgMajor(15)), PgMajor(16)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a branch of version 15 cannot hold a source of version 16"
        );
    }
}

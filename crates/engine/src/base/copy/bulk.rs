//! Rows of ordinary tables, by several connections at once, from the source's sockets to the base's.
//!
//! ```text
//!   agenda: large tables, one a batch; small ones, many a batch
//!      │            │                        each with the copy's own snapshot
//!      ▼            ▼
//!   source ══════ relay ══════ base          a pair of sessions, up to `readers_max` pairs
//!   COPY OUT      frames as they come        COPY IN, frozen where that is worth it
//! ```
//!
//! `pg_dump` would do it by one connection, and hands every row through a program and a pipe. Owns which tables are
//! copied so, the agenda, and how many connections that takes. Rows that need more than a COPY of a table (row filters,
//! partitions through their root, foreign data, encodings that a driver does not speak) are left to `rows` and to
//! `pg_dump`; the messages to `relay`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::{SinkExt as _, TryStreamExt as _};

use super::CopyRequest;
use super::cluster::Cluster;
use super::error::CopyError;
use super::pace::Pace;
use super::plan::Plan;
use super::progress::Progress;
use super::relay::{Shared, relay};
use crate::base::forgotten::IS_JOBS;
use crate::postgres::connect::raw::{HEADER_BYTES, RawSession};
use crate::postgres::connect::{LOCK_TIME_MAX, Session};
use crate::postgres::sql;
use crate::source::{Answer, SourceError, asking, rows};

/// Bytes of a table's file from which on its rows are frozen: emptying a table anew costs more than reading a small one
/// does later.
const FREEZE_BYTES_MIN: u64 = 256 * 1024;

/// Small tables of one batch: their COPY commands are on their way before the first is answered, and must fit into a
/// socket's buffer, which nobody empties meanwhile.
const BATCH_TABLES_MAX: usize = 64;
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Tables that one statement locks.
const LOCKS_PER_STATEMENT: usize = 500;

/// Types of PostgreSQL's own whose binary form means the same on every server of one major version, and is cheaper to give
/// out and to take in than text by a quarter. Not among them: what holds an OID (`regclass` and its kin), and types that
/// an extension or a user made, whose OIDs within arrays and composites differ. (`pg_type.dat`, `typreceive`)
const BINARY_TYPES: [&str; 24] = [
    "bool",
    "bytea",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "text",
    "varchar",
    "bpchar",
    "name",
    "uuid",
    "json",
    "jsonb",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "inet",
    "cidr",
    "macaddr",
];

/// Bytes of the message that ends rows in binary, its header included: a count of fields that no row has.
pub(super) const BINARY_TRAILER_BYTES: usize = HEADER_BYTES + 2;

/// How the values of a row are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// As a person writes them.
    Text,
    /// As servers of one major version exchange them.
    Binary,
}

/// A table whose rows are copied as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BulkTable {
    schema: String,
    name: String,
    /// Columns that take values, in quotes, with commas; empty where there are none or where all are meant.
    columns: String,
    /// The condition of an extension's configuration table: rows that the extension does not make itself.
    condition: Option<String>,
    /// Of its files on the source: its rows, and what of them is kept apart (TOAST).
    bytes: u64,
    format: Format,
}

impl BulkTable {
    /// How its rows come.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    fn sql_name(&self) -> String {
        sql::qualified(&self.schema, &self.name)
    }

    /// Of its files on the source.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// For people.
    pub(super) fn shown_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn list(&self) -> String {
        if self.columns.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.columns)
        }
    }

    /// The statement that gives its rows. COPY of a table leaves out those of its heirs.
    pub(super) fn copy_out(&self) -> String {
        let name = self.sql_name();
        match (&self.condition, self.format) {
            (None, Format::Text) => format!("COPY {name}{} TO STDOUT", self.list()),
            (None, Format::Binary) => {
                format!("COPY {name}{} TO STDOUT WITH (FORMAT binary)", self.list())
            }
            (Some(condition), _) => {
                let columns = &self.columns;
                format!("COPY (SELECT {columns} FROM ONLY {name} {condition}) TO STDOUT")
            }
        }
    }

    /// The statements that take them, as one query and therefore one transaction: rows are frozen only in a table that is
    /// empty anew within it.
    pub(super) fn copy_in(&self) -> String {
        match self.empty() {
            Some(empty) => format!("{empty}; {}", self.take_in()),
            None => self.take_in(),
        }
    }

    fn empty(&self) -> Option<String> {
        self.is_frozen()
            .then(|| format!("TRUNCATE ONLY {}", self.sql_name()))
    }

    fn take_in(&self) -> String {
        let how = match (self.is_frozen(), self.format) {
            (false, Format::Text) => "",
            (true, Format::Text) => " WITH (FREEZE)",
            (false, Format::Binary) => " WITH (FORMAT binary)",
            (true, Format::Binary) => " WITH (FORMAT binary, FREEZE)",
        };
        format!("COPY {}{} FROM STDIN{how}", self.sql_name(), self.list())
    }

    fn is_frozen(&self) -> bool {
        self.condition.is_none() && self.bytes >= FREEZE_BYTES_MIN
    }
}

/// Arguments of `pg_dump` that say more of rows than patterns for names do, to which heirs and partitions count as well.
const SAYS_MORE_OF_ROWS: [&str; 5] = [
    "--exclude-table-and-children",
    "--exclude-table-data-and-children",
    "--include-foreign-data",
    "--no-unlogged-table-data",
    "--table-and-children",
];

/// Whether the rows of a whole copy can be read past `pg_dump`.
pub(super) fn suits(request: &CopyRequest<'_>, plan: &Plan<'_>) -> bool {
    let arguments = &request.copy.dump_args;
    let says_more = |argument: &String| {
        SAYS_MORE_OF_ROWS
            .iter()
            .any(|known| argument.starts_with(known))
    };
    // A driver's session speaks UTF-8; a conversion and back need not give the same bytes.
    plan.facts.encoding == "UTF8"
        && !plan.selection.through_roots
        && !arguments.iter().any(says_more)
}

/// Columns: schema, name, columns, size, condition, whether all types have a binary form. `rows` is a condition on `c` in
/// `n`.
fn candidates(rows: &str) -> String {
    let binary: Vec<_> = BINARY_TYPES
        .iter()
        .flat_map(|name| [format!("pg_catalog.{name}"), format!("pg_catalog._{name}")])
        .collect();
    let binary = binary.join(",");
    format!(
        "SELECT n.nspname, c.relname, \
           (SELECT pg_catalog.string_agg('\"' || pg_catalog.replace(a.attname, '\"', '\"\"') || '\"', ', ' ORDER BY a.attnum) \
            FROM pg_catalog.pg_attribute a \
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''), \
           pg_catalog.pg_relation_size(c.oid) + coalesce(pg_catalog.pg_relation_size(c.reltoastrelid), 0), k.condition, \
           (SELECT pg_catalog.bool_and(a.atttypid = ANY ('{{{binary}}}'::pg_catalog.regtype[])) \
            FROM pg_catalog.pg_attribute a \
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN (SELECT u.oid, u.condition FROM pg_catalog.pg_extension, \
           ROWS FROM (pg_catalog.unnest(extconfig), pg_catalog.unnest(extcondition)) AS u (oid, condition)) k \
           ON k.oid = c.oid \
         WHERE c.relkind = 'r' AND NOT {IS_JOBS} AND ({rows}) \
         ORDER BY 4 DESC, 1, 2"
    )
}

/// The tables, largest first, in the transaction of a session.
pub(super) async fn find(
    session: &Session,
    plan: &Plan<'_>,
) -> Result<Vec<BulkTable>, SourceError> {
    rows(session, "search_path", "SET LOCAL search_path TO DEFAULT").await?;
    let query = candidates(&plan.selection.rows_condition());
    let found = rows(session, "tables", &query).await?;
    rows(session, "search_path", "SET LOCAL search_path = pg_catalog").await?;
    let one_major = plan.major() == plan.facts.major;
    found.iter().map(|row| read_table(row, one_major)).collect()
}

fn read_table(row: &Answer, one_major: bool) -> Result<BulkTable, SourceError> {
    let condition = row.get(4).map(str::to_owned);
    let is_binary = one_major && condition.is_none() && row.is(5);
    Ok(BulkTable {
        schema: row.text(0)?,
        name: row.text(1)?,
        columns: row.get(2).unwrap_or_default().to_owned(),
        bytes: row.number(3)?,
        condition,
        format: if is_binary {
            Format::Binary
        } else {
            Format::Text
        },
    })
}

/// Takes ACCESS SHARE on the tables for as long as the session's transaction lasts: `pg_dump` may end before their rows
/// are here.
pub(super) async fn hold(session: &Session, tables: &[BulkTable]) -> Result<(), SourceError> {
    for some in tables.chunks(LOCKS_PER_STATEMENT) {
        let names: Vec<_> = some
            .iter()
            .map(|table| format!("ONLY {}", table.sql_name()))
            .collect();
        let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        session
            .batch_execute(&lock)
            .await
            .map_err(asking("tables"))?;
    }
    Ok(())
}

/// What is left to copy, in batches.
fn agenda(tables: Vec<BulkTable>) -> VecDeque<Vec<BulkTable>> {
    let mut batches = VecDeque::new();
    let mut small = Vec::new();
    let mut bytes = 0;
    for table in tables {
        if table.is_frozen() {
            batches.push_back(vec![table]);
            continue;
        }
        bytes += table.bytes;
        small.push(table);
        if small.len() >= BATCH_TABLES_MAX || bytes >= BATCH_BYTES_MAX {
            batches.push_back(std::mem::take(&mut small));
            bytes = 0;
        }
    }
    if !small.is_empty() {
        batches.push_back(small);
    }
    batches
}

/// Where rows come from and how they are to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) request: &'a CopyRequest<'a>,
    pub(super) plan: &'a Plan<'a>,
    /// The session whose snapshot it is.
    pub(super) session: &'a Session,
    /// The snapshot's name.
    pub(super) snapshot: &'a str,
}

impl Origin<'_> {
    /// One more reader of the same server.
    async fn connect(&self) -> Option<RawSession> {
        let peer = self.session.peer()?;
        match self.request.access.connect_to(peer).await {
            Ok(session) => Some(session.into_raw()),
            Err(error) => {
                tracing::info!(%error, "the source grants no further connection to read rows by");
                None
            }
        }
    }

    /// Hidden rows are an error unless they are accepted.
    fn row_security(&self) -> &'static str {
        if self.plan.selection.row_security {
            "on"
        } else {
            "off"
        }
    }

    /// A batch's transaction within the snapshot. It ends with the batch, and with it the locks that reading takes.
    fn begin(&self) -> String {
        let security = self.row_security();
        format!(
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
             SET TRANSACTION SNAPSHOT {}; SET LOCAL statement_timeout = 0; \
             SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = {}; \
             SET LOCAL search_path = pg_catalog; SET LOCAL DateStyle = ISO; SET LOCAL IntervalStyle = postgres; \
             SET LOCAL extra_float_digits = 3; SET LOCAL lc_monetary = 'C'; SET LOCAL row_security = {security}; \
             SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings \
               WHERE name = 'transaction_timeout'",
            sql::literal(self.snapshot),
            LOCK_TIME_MAX.as_millis(),
        )
    }
}

/// What a base's session is told before it takes rows: as `pg_dump` has it.
const BASE_SETTINGS: &str = "SET search_path = ''; SET row_security = off; SET xmloption = content; \
     SET client_min_messages = warning; SET standard_conforming_strings = on; SET lc_monetary = 'C'";

/// Copies the rows of all tables. Where the source grants no further connection, the session of the snapshot reads.
///
/// # Errors
/// [`CopyError`].
pub(super) async fn copy(
    origin: &Origin<'_>,
    cluster: &Cluster<'_>,
    tables: Vec<BulkTable>,
    pace: &Pace,
    progress: &Progress<'_>,
) -> Result<(), CopyError> {
    let agenda = agenda(tables);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let readers = readers(origin.request.readers_max, cores, agenda.len());
    let agenda = Mutex::new(agenda);
    let shared = Shared { pace, progress };
    let workers = (0..readers).map(|_| work(origin, cluster, &agenda, shared));
    try_join_all(workers).await?;
    let left = agenda.into_inner().unwrap_or_else(PoisonError::into_inner);
    if left.is_empty() {
        return Ok(());
    }
    copy_by_session(origin, cluster, left.iter().flatten(), shared).await
}

/// The same by the session of the snapshot, a row at a time.
async fn copy_by_session(
    origin: &Origin<'_>,
    cluster: &Cluster<'_>,
    tables: impl Iterator<Item = &BulkTable>,
    shared: Shared<'_>,
) -> Result<(), CopyError> {
    let source = origin.session;
    let base = cluster.connect(&origin.plan.facts.database).await?;
    let prepared = base.batch_execute(BASE_SETTINGS).await;
    prepared.map_err(|error| CopyError::of_base("prepare a session", error))?;
    let security = format!("SET LOCAL row_security = {}", origin.row_security());
    rows(source, "row security", &security).await?;
    for table in tables {
        let name = table.shown_name();
        shared.progress.table_begins(&name, table.bytes());
        let of_source = |error| CopyError::Rows {
            table: name.clone(),
            filter: None,
            source: error,
        };
        let of_base = |error| CopyError::of_base(format!("fill {name}"), error);
        let out = source
            .copy_out(&table.copy_out())
            .await
            .map_err(of_source)?;
        base.batch_execute("BEGIN").await.map_err(of_base)?;
        if let Some(empty) = table.empty() {
            base.batch_execute(&empty).await.map_err(of_base)?;
        }
        let into = base
            .copy_in::<_, Bytes>(&table.take_in())
            .await
            .map_err(of_base)?;
        let (mut out, mut into) = (std::pin::pin!(out), std::pin::pin!(into));
        while let Some(data) = out.try_next().await.map_err(of_source)? {
            shared.pace.take(data.len()).await;
            let is_row =
                table.format == Format::Text || HEADER_BYTES + data.len() > BINARY_TRAILER_BYTES;
            shared.progress.add(data.len() as u64, u64::from(is_row));
            into.send(data).await.map_err(of_base)?;
        }
        into.finish().await.map_err(of_base)?;
        base.batch_execute("COMMIT").await.map_err(of_base)?;
        shared.progress.table_ends(&name);
    }
    Ok(())
}

/// Pairs of sessions at most: a base under copy takes 20 connections, of which the load and what administers it have some.
const READERS_MAX: usize = 15;

/// As many as there is work and this machine has cores for.
fn readers(max: u32, cores: usize, batches: usize) -> usize {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    cores.min(max).min(batches).min(READERS_MAX)
}

/// One pair of sessions, until nothing is left; nothing where the source grants no connection for it.
async fn work(
    origin: &Origin<'_>,
    cluster: &Cluster<'_>,
    agenda: &Mutex<VecDeque<Vec<BulkTable>>>,
    shared: Shared<'_>,
) -> Result<(), CopyError> {
    let base = cluster.connect(&origin.plan.facts.database).await?;
    let mut base = base.into_raw();
    let prepared = base.run(BASE_SETTINGS).await;
    prepared.map_err(|error| CopyError::of_raw_base("prepare a session", error))?;
    // Last, for an idle session of the source's may not live long.
    let Some(mut source) = origin.connect().await else {
        return Ok(());
    };
    let begin = origin.begin();
    loop {
        let next = agenda
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let Some(batch) = next else {
            return Ok(());
        };
        let of_source = |source| CopyError::Reader { source };
        source.run(&begin).await.map_err(of_source)?;
        relay(&mut source, &mut base, &batch, shared).await?;
        source.run("COMMIT").await.map_err(of_source)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, bytes: u64) -> BulkTable {
        BulkTable {
            schema: "public".to_owned(),
            name: name.to_owned(),
            columns: "\"id\", \"a\"\"b\"".to_owned(),
            condition: None,
            bytes,
            format: Format::Text,
        }
    }

    #[test]
    fn large_tables_come_alone_and_small_ones_together() {
        let mut tables = vec![table("large", 1 << 30), table("middle", FREEZE_BYTES_MIN)];
        tables.extend((0..BATCH_TABLES_MAX + 1).map(|n| table(&format!("t{n}"), 8192)));
        let batches: Vec<_> = agenda(tables)
            .into_iter()
            .map(|batch| batch.len())
            .collect();
        assert_eq!(batches, [1, 1, BATCH_TABLES_MAX, 1]);
    }

    #[test]
    fn no_more_read_than_a_base_takes_connections() {
        assert_eq!(readers(64, 32, 100), READERS_MAX);
        assert_eq!(readers(64, 4, 100), 4);
        assert_eq!(readers(2, 4, 100), 2);
        assert_eq!(readers(64, 32, 1), 1);
    }

    #[test]
    fn what_is_worth_it_is_frozen_in_the_transaction_that_empties_the_table() {
        assert_eq!(
            table("t", 1 << 20).copy_in(),
            "TRUNCATE ONLY \"public\".\"t\"; COPY \"public\".\"t\" (\"id\", \"a\"\"b\") FROM STDIN WITH (FREEZE)"
        );
        assert_eq!(
            table("t", 0).copy_in(),
            "COPY \"public\".\"t\" (\"id\", \"a\"\"b\") FROM STDIN"
        );
    }

    #[test]
    fn both_sides_speak_binary_or_neither_does() {
        let binary = |bytes| BulkTable {
            format: Format::Binary,
            ..table("t", bytes)
        };
        for bytes in [0, 1 << 20] {
            assert!(binary(bytes).copy_out().contains("FORMAT binary"));
            assert!(binary(bytes).copy_in().contains("FORMAT binary"));
            assert!(!table("t", bytes).copy_out().contains("binary"));
            assert!(!table("t", bytes).copy_in().contains("binary"));
        }
        assert!(binary(1 << 20).copy_in().contains("FREEZE"));
    }

    #[test]
    fn an_extensions_own_rows_stay_where_the_extension_put_them() {
        let configuration = BulkTable {
            condition: Some("WHERE id > 9".to_owned()),
            ..table("t", 1 << 20)
        };
        assert_eq!(
            configuration.copy_out(),
            "COPY (SELECT \"id\", \"a\"\"b\" FROM ONLY \"public\".\"t\" WHERE id > 9) TO STDOUT"
        );
        assert!(!configuration.copy_in().contains("TRUNCATE"));
    }

    #[test]
    fn a_table_without_columns_has_rows_all_the_same() {
        let bare = BulkTable {
            columns: String::new(),
            ..table("t", 0)
        };
        assert_eq!(bare.copy_out(), "COPY \"public\".\"t\" TO STDOUT");
    }
}

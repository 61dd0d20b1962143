//! The tables that a spec names: which ones they are on the source, and what of them is copied.
//!
//! Owns the reading of names (`table` as the user's search path finds it, or `schema.table`; as written, or in quotes)
//! and the facts that copying their rows takes. Leaves reading the rows to `rows`.

use std::collections::BTreeMap;

use model::{ByteSize, TableFilter};

use super::dotted::{self, Letter};
use super::error::CopyError;
use crate::postgres::connect::Session;
use crate::postgres::sql;
use crate::source::{Answer, SourceError, row, rows};

/// Names that an error proposes.
const SIMILAR_MAX: usize = 3;

/// How alike two names are, of 1, to be proposed for each other.
const SIMILARITY_MIN: f64 = 0.8;

/// A table whose rows are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_partitioned: bool,
    /// Whether its rows name objects of the database (`regclass` and its kin, nested too): how such a name is written
    /// depends on the search path, and with it what it means to the reader.
    pub(super) names_objects: bool,
    /// Columns that take values: those that are computed do not.
    pub(super) columns: Vec<String>,
    /// Sequences of its serial and identity columns.
    pub(super) sequences: Vec<(String, String)>,
    /// Its partitions, of all levels.
    pub(super) partitions: Vec<(String, String)>,
    pub(super) filter: Option<String>,
    /// The table with its indexes and partitions on the source's disk.
    pub(super) size: ByteSize,
}

impl Table {
    /// Its name in SQL.
    pub(super) fn sql_name(&self) -> String {
        sql::qualified(&self.schema, &self.name)
    }

    /// Its name for people.
    pub(super) fn shown_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// A table of the source, as far as finding it by name takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    oid: u32,
    schema: String,
    name: String,
    is_partitioned: bool,
    is_visible: bool,
}

const CANDIDATES: &str = "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', pg_table_is_visible(c.oid) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
     AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 2, 3";

/// Finds the named tables, in the session's transaction.
///
/// # Errors
/// [`CopyError::NoTable`] proposes others.
pub(super) async fn find(
    session: &Session,
    named: &BTreeMap<String, TableFilter>,
) -> Result<Vec<Table>, CopyError> {
    if named.is_empty() {
        return Ok(Vec::new());
    }
    rows(session, "search_path", "SET LOCAL search_path TO DEFAULT").await?;
    let candidates = rows(session, "tables", CANDIDATES).await?;
    rows(session, "search_path", "SET LOCAL search_path = pg_catalog").await?;
    let candidates = candidates
        .iter()
        .map(read_candidate)
        .collect::<Result<Vec<_>, _>>()?;
    let mut tables = Vec::new();
    for (name, filter) in named {
        let found = choose(&candidates, name).ok_or_else(|| CopyError::NoTable {
            name: name.clone(),
            similar: similar(&candidates, name),
        })?;
        tables.push(describe(session, found, filter.filter.clone()).await?);
    }
    Ok(tables)
}

fn read_candidate(row: &Answer) -> Result<Candidate, SourceError> {
    Ok(Candidate {
        oid: row.number(0)?,
        schema: row.text(1)?,
        name: row.text(2)?,
        is_partitioned: row.is(3),
        is_visible: row.is(4),
    })
}

/// The table that a name means: with its schema first, then as the search path finds it, each as written and then as
/// SQL reads it.
fn choose<'a>(candidates: &'a [Candidate], name: &str) -> Option<&'a Candidate> {
    let sql_reading = read_as_sql(name);
    let with_schema =
        |candidate: &&Candidate| format!("{}.{}", candidate.schema, candidate.name) == name;
    let visible = |candidate: &&Candidate| candidate.is_visible && candidate.name == name;
    let as_sql = |candidate: &&Candidate| match sql_reading.as_deref() {
        Some([table]) => candidate.is_visible && candidate.name == *table,
        Some([schema, table]) => candidate.schema == *schema && candidate.name == *table,
        Some(_) | None => false,
    };
    let found = candidates.iter().find(with_schema);
    let found = found.or_else(|| candidates.iter().find(visible));
    found.or_else(|| candidates.iter().find(as_sql))
}

/// The parts of a name: in lower case, or as quoted.
fn read_as_sql(name: &str) -> Option<Vec<String>> {
    let read = |part: Vec<Letter>| {
        let mut text = String::new();
        for Letter { is, is_quoted } in part {
            if is_quoted {
                text.push(is);
            } else {
                text.extend(is.to_lowercase());
            }
        }
        text
    };
    Some(dotted::parts(name)?.into_iter().map(read).collect())
}

fn similar(candidates: &[Candidate], name: &str) -> Vec<String> {
    let wanted = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    let alike = |candidate: &Candidate| {
        let likeness = strsim::jaro_winkler(wanted, &candidate.name);
        (likeness >= SIMILARITY_MIN)
            .then(|| (likeness, format!("{}.{}", candidate.schema, candidate.name)))
    };
    let mut found: Vec<_> = candidates.iter().filter_map(alike).collect();
    found.sort_by(|one, other| other.0.total_cmp(&one.0));
    found
        .into_iter()
        .take(SIMILAR_MAX)
        .map(|(_, name)| name)
        .collect()
}

async fn describe(
    session: &Session,
    found: &Candidate,
    filter: Option<String>,
) -> Result<Table, SourceError> {
    let oid = found.oid;
    let columns = format!(
        "SELECT attname FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped \
         AND attgenerated = '' ORDER BY attnum"
    );
    let columns = rows(session, "columns", &columns).await?;
    let sequences = format!(
        "SELECT n.nspname, c.relname FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass \
         AND d.refobjid = {oid} AND d.deptype IN ('a', 'i') ORDER BY 1, 2"
    );
    let sequences = rows(session, "sequences", &sequences).await?;
    let partitions = format!(
        "SELECT n.nspname, c.relname FROM pg_partition_tree({oid}) t JOIN pg_class c ON c.oid = t.relid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.level > 0 ORDER BY t.level, 1, 2"
    );
    let partitions = rows(session, "partitions", &partitions).await?;
    let size = format!(
        "SELECT pg_total_relation_size({oid}) \
         + coalesce((SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree({oid}) WHERE level > 0), 0)"
    );
    let size = row(session, "table size", &size).await?;
    let names_objects = row(session, "column types", &names_objects(oid)).await?;
    let pair = |row: &Answer| Ok::<_, SourceError>((row.text(0)?, row.text(1)?));
    Ok(Table {
        oid,
        names_objects: names_objects.is(0),
        schema: found.schema.clone(),
        name: found.name.clone(),
        is_partitioned: found.is_partitioned,
        columns: columns
            .iter()
            .map(|row| row.text(0))
            .collect::<Result<_, _>>()?,
        sequences: sequences.iter().map(pair).collect::<Result<_, _>>()?,
        partitions: partitions.iter().map(pair).collect::<Result<_, _>>()?,
        filter,
        size: ByteSize(size.number(0)?),
    })
}

/// Looks through arrays, domains, composite types and ranges.
fn names_objects(oid: u32) -> String {
    format!(
        "WITH RECURSIVE types (oid) AS ( \
           SELECT atttypid FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped \
         UNION \
           SELECT inner_type.oid FROM types JOIN pg_type t ON t.oid = types.oid CROSS JOIN LATERAL ( \
             VALUES (t.typelem), (t.typbasetype) \
             UNION ALL SELECT atttypid FROM pg_attribute \
               WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped \
             UNION ALL SELECT rngsubtype FROM pg_range WHERE t.oid IN (rngtypid, rngmultitypid) \
           ) AS inner_type (oid) WHERE inner_type.oid <> 0) \
         SELECT EXISTS (SELECT FROM types JOIN pg_type t ON t.oid = types.oid \
           WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typname LIKE 'reg%')"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate> {
        let all = [
            ("public", "orders", true),
            ("public", "Orders", true),
            ("public", "a.b", true),
            ("a", "b", false),
            ("sales", "orders", false),
            ("sales", "Order Items", false),
        ];
        let candidate =
            |(oid, (schema, name, is_visible)): (usize, &(&str, &str, bool))| Candidate {
                oid: u32::try_from(oid).unwrap(),
                schema: (*schema).to_owned(),
                name: (*name).to_owned(),
                is_partitioned: false,
                is_visible: *is_visible,
            };
        all.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn names_are_found_as_written_and_as_sql_reads_them() {
        let candidates = candidates();
        let found = |name: &str| choose(&candidates, name).map(|found| found.oid);
        assert_eq!(found("orders"), Some(0));
        assert_eq!(found("Orders"), Some(1));
        assert_eq!(found("ORDERS"), Some(0));
        assert_eq!(found("\"Orders\""), Some(1));
        assert_eq!(found("sales.orders"), Some(4));
        assert_eq!(found("Sales.ORDERS"), Some(4));
        assert_eq!(found("sales.Order Items"), Some(5));
        assert_eq!(found("sales.\"Order Items\""), Some(5));
        // The schema's table counts before a table with a dot in its name.
        assert_eq!(found("a.b"), Some(3));
        assert_eq!(found("public.a.b"), Some(2));
        assert_eq!(found("\"a.b\""), Some(2));
        // What the search path does not find must be named with its schema.
        assert_eq!(found("b"), None);
        assert_eq!(found("\"open"), None);
    }

    #[test]
    fn similar_names_are_proposed() {
        let proposed = similar(&candidates(), "public.order");
        assert_eq!(proposed[0], "public.orders");
        assert!(similar(&candidates(), "zzz").is_empty());
    }
}

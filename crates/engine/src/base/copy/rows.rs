//! Rows of named tables, through their filters, from the source's session to the base's.
//!
//! Owns the two COPY commands and the sequences that belong to the tables. A filter is a user's SQL: it goes in a single
//! statement of the extended protocol, which takes no second one, within a read-only transaction. Leaves structure to
//! `dump` and `load`.

use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};

use super::error::CopyError;
use super::pace::Pace;
use super::plan::Plan;
use super::progress::Progress;
use super::tables::Table;
use crate::postgres::connect::Session;
use crate::postgres::sql;
use crate::source::{row, rows};

/// Takes ACCESS SHARE on the tables, in the source's transaction, and makes sure that none was rewritten or emptied since
/// its snapshot: the snapshot would see it empty.
///
/// # Errors
/// [`CopyError::Changed`] names those that were.
pub(super) async fn hold(source: &Session, tables: &[Table]) -> Result<(), CopyError> {
    for table in tables {
        let lock = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", table.sql_name());
        let locked = source.batch_execute(&lock).await;
        locked.map_err(crate::source::asking("named tables"))?;
    }
    let oids: Vec<_> = tables.iter().map(|table| table.oid.to_string()).collect();
    if oids.is_empty() {
        return Ok(());
    }
    unchanged(source, &format!("c.oid IN ({})", oids.join(", "))).await
}

/// Makes sure that tables still have the files that the snapshot knows. `pg_relation_filenode` tells the present one.
///
/// # Errors
/// [`CopyError::Changed`] names those that have not.
pub(super) async fn unchanged(source: &Session, condition: &str) -> Result<(), CopyError> {
    // A session learns of others' changes when it locks something that it had not locked before in its transaction. No
    // other query of ours reads this catalogue.
    rows(
        source,
        "catalogue",
        "SELECT FROM pg_catalog.pg_ts_template LIMIT 0",
    )
    .await?;
    rows(source, "search_path", "SET LOCAL search_path TO DEFAULT").await?;
    let query = format!(
        "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relfilenode <> 0 AND ({condition}) \
         AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode ORDER BY 1"
    );
    let found = rows(source, "tables", &query).await?;
    rows(source, "search_path", "SET LOCAL search_path = pg_catalog").await?;
    if found.is_empty() {
        return Ok(());
    }
    let tables = found
        .iter()
        .map(|row| row.text(0))
        .collect::<Result<_, _>>()?;
    Err(CopyError::Changed { tables })
}

/// Copies the rows of each table, and where its sequences stand.
///
/// # Errors
/// [`CopyError::Rows`] names the table and its filter.
pub(super) async fn copy(
    source: &Session,
    base: &Session,
    tables: &[Table],
    row_security: bool,
    pace: &Pace,
    progress: &Progress<'_>,
) -> Result<(), CopyError> {
    if tables.is_empty() {
        return Ok(());
    }
    for table in tables {
        // A filter means what it means to its writer, but names in rows must mean the same to every reader.
        let path = if table.names_objects { "''" } else { "DEFAULT" };
        // Hidden rows are an error unless they are accepted.
        let security = if row_security { "on" } else { "off" };
        let prepare =
            format!("SET LOCAL search_path TO {path}; SET LOCAL row_security = {security}");
        rows(source, "search_path", &prepare).await?;
        copy_table(source, base, table, pace, progress).await?;
    }
    rows(source, "search_path", "SET LOCAL search_path = pg_catalog").await?;
    for table in tables {
        for (schema, name) in &table.sequences {
            copy_sequence(source, base, schema, name).await?;
        }
    }
    Ok(())
}

async fn copy_table(
    source: &Session,
    base: &Session,
    table: &Table,
    pace: &Pace,
    progress: &Progress<'_>,
) -> Result<(), CopyError> {
    let name = table.shown_name();
    progress.table(&name);
    let of_source = |error| CopyError::Rows {
        table: name.clone(),
        filter: table.filter.clone(),
        source: error,
    };
    let of_base = |error| CopyError::of_base(format!("fill {name}"), error);
    base.batch_execute(&begin_fill(table))
        .await
        .map_err(of_base)?;
    let out = source.copy_out(&copy_out(table)).await.map_err(of_source)?;
    let into = base
        .copy_in::<_, Bytes>(&copy_in(table))
        .await
        .map_err(of_base)?;
    let mut out = std::pin::pin!(out);
    let mut into = std::pin::pin!(into);
    while let Some(data) = out.try_next().await.map_err(of_source)? {
        pace.take(data.len()).await;
        progress.add(data.len() as u64, 1);
        into.send(data).await.map_err(of_base)?;
    }
    into.finish().await.map_err(of_base)?;
    base.batch_execute("COMMIT").await.map_err(of_base)
}

/// Frozen rows need no later vacuum, in a table that is empty anew within the transaction. A partitioned one has none of
/// its own.
fn begin_fill(table: &Table) -> String {
    if table.is_partitioned {
        "BEGIN".to_owned()
    } else {
        format!("BEGIN; TRUNCATE ONLY {}", table.sql_name())
    }
}

fn copy_out(table: &Table) -> String {
    let columns = sql::idents(table.columns.iter().map(String::as_str));
    let name = table.sql_name();
    // Children of an inheritance have their own rows; those of a partitioned table are its.
    let only = if table.is_partitioned { "" } else { "ONLY " };
    // A comment at the filter's end must not swallow the parenthesis.
    let filter = table
        .filter
        .as_ref()
        .map(|filter| format!(" WHERE (\n{filter}\n)"));
    let filter = filter.unwrap_or_default();
    format!("COPY (SELECT {columns} FROM {only}{name}{filter}) TO STDOUT")
}

fn copy_in(table: &Table) -> String {
    let columns = sql::idents(table.columns.iter().map(String::as_str));
    let list = if columns.is_empty() {
        String::new()
    } else {
        format!(" ({columns})")
    };
    let freeze = if table.is_partitioned {
        ""
    } else {
        " WITH (FREEZE)"
    };
    format!("COPY {}{list} FROM STDIN{freeze}", table.sql_name())
}

/// Sequences that are read, and set, by one statement: a parser's stack and a round trip each set a bound.
const SEQUENCES_PER_STATEMENT: usize = 500;

/// Copies where every sequence of a whole copy stands, after its rows: a number that a row has is then behind it.
///
/// # Errors
/// [`CopyError`].
pub(super) async fn copy_sequences(
    source: &Session,
    base: &Session,
    plan: &Plan<'_>,
) -> Result<(), CopyError> {
    rows(source, "search_path", "SET LOCAL search_path TO DEFAULT").await?;
    let query = format!(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND ({}) ORDER BY 1, 2",
        plan.selection.sequences_condition()
    );
    let found = rows(source, "sequences", &query).await?;
    rows(source, "search_path", "SET LOCAL search_path = pg_catalog").await?;
    for some in found.chunks(SEQUENCES_PER_STATEMENT) {
        let mut asked = Vec::new();
        for sequence in some {
            let name = sql::qualified(&sequence.text(0)?, &sequence.text(1)?);
            let literal = sql::literal(&name);
            asked.push(format!(
                "SELECT {literal}, last_value, is_called FROM {name}"
            ));
        }
        let values = rows(source, "sequences", &asked.join(" UNION ALL ")).await?;
        let mut set = Vec::new();
        for value in &values {
            let (name, last): (String, i64) = (value.text(0)?, value.number(1)?);
            let (name, is_called) = (sql::literal(&name), value.is(2));
            set.push(format!("pg_catalog.setval({name}, {last}, {is_called})"));
        }
        let set = base
            .batch_execute(&format!("SELECT {}", set.join(", ")))
            .await;
        set.map_err(|error| CopyError::of_base("set sequences", error))?;
    }
    Ok(())
}

async fn copy_sequence(
    source: &Session,
    base: &Session,
    schema: &str,
    name: &str,
) -> Result<(), CopyError> {
    let name = sql::qualified(schema, name);
    let asked = format!("SELECT last_value, is_called FROM {name}");
    let found = row(source, "sequences", &asked).await?;
    let value: i64 = found.number(0)?;
    let set = format!(
        "SELECT pg_catalog.setval({}, {value}, {})",
        sql::literal(&name),
        found.is(1)
    );
    let set = base.batch_execute(&set).await;
    set.map_err(|error| CopyError::of_base(format!("set the sequence {name}"), error))
}

#[cfg(test)]
mod tests {
    use model::ByteSize;

    use super::*;

    fn table(filter: Option<&str>) -> Table {
        Table {
            oid: 1,
            schema: "public".to_owned(),
            name: "Orders".to_owned(),
            is_partitioned: false,
            names_objects: false,
            columns: vec!["id".to_owned(), "a\"b".to_owned()],
            sequences: Vec::new(),
            partitions: Vec::new(),
            filter: filter.map(str::to_owned),
            size: ByteSize(0),
        }
    }

    #[test]
    fn a_filter_stays_within_its_parentheses() {
        assert_eq!(
            copy_out(&table(Some("id < 5 -- few"))),
            "COPY (SELECT \"id\", \"a\"\"b\" FROM ONLY \"public\".\"Orders\" WHERE (\nid < 5 -- few\n)) TO STDOUT"
        );
        assert_eq!(
            copy_in(&table(None)),
            "COPY \"public\".\"Orders\" (\"id\", \"a\"\"b\") FROM STDIN WITH (FREEZE)"
        );
    }

    #[test]
    fn a_partitioned_table_takes_its_partitions_rows() {
        let partitioned = Table {
            is_partitioned: true,
            ..table(None)
        };
        assert!(copy_out(&partitioned).contains(" FROM \"public\""));
        assert!(!copy_in(&partitioned).contains("FREEZE"));
        assert_eq!(begin_fill(&partitioned), "BEGIN");
    }
}

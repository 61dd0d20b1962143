//! What the first client of a clone would wait for, done before there is one.
//!
//! A server that has just started has none of its files open and none of their pages in memory, and the first login to a
//! database writes its cache of catalogs (`pg_internal.init`); on an overlay the first look at a table also makes its
//! files the clone's own. Owns what is looked at: the catalogs, by logging in, and where the largest tables end, for
//! what came last is what people look at first. Nothing is changed, and a look that fails costs the first client its
//! time and nothing else. Leaves to `pool` which clones are worth it.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use crate::postgres::connect::Session;
use crate::postgres::sql;

/// How long all of it may take: it reads a few pages of each table.
const TIME_MAX: Duration = Duration::from_secs(3);

/// The largest tables, and where each ends: the columns of its primary key, where they are of types whose order is
/// PostgreSQL's own. Sizes are what the last ANALYZE saw, which asks no file.
const LARGEST: &str = "SELECT n.nspname, c.relname, k.columns \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN LATERAL (\
       SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ' DESC', ', ' ORDER BY p.place) AS columns \
       FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY AS p (number, place) \
       JOIN pg_catalog.pg_attribute a ON true \
       WHERE i.indrelid = c.oid AND i.indisprimary AND p.place <= i.indnkeyatts \
         AND a.attrelid = c.oid AND a.attnum = p.number \
       HAVING pg_catalog.bool_and(a.atttypid < 10000)) k ON true \
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.relpages > 0 \
       AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' \
     ORDER BY c.relpages DESC LIMIT 24";

/// Plans that read a few pages or none: a table's index is followed, or its first row taken.
const SETTINGS: &str = "SET enable_sort = off; SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0; \
     SET jit = off; SET lock_timeout = '50ms'; SET statement_timeout = '250ms'";

/// Reads where the largest tables of a session's database end, within `TIME_MAX`. The session is of no further use: its
/// plans and time-outs are for that alone.
pub async fn warm_up(session: &Session) {
    let looked = tokio::time::timeout(TIME_MAX, look(session)).await;
    match looked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a clone is not as warm as it could be"),
        Err(_) => tracing::debug!(?TIME_MAX, "a clone is not as warm as it could be"),
    }
}

async fn look(session: &Session) -> Result<(), tokio_postgres::Error> {
    let largest = session.simple_query(LARGEST).await?;
    session.batch_execute(SETTINGS).await?;
    for message in &largest {
        let SimpleQueryMessage::Row(row) = message else {
            continue;
        };
        if let (Some(schema), Some(table)) = (row.get(0), row.get(1)) {
            // Its own affair: the next table may be read.
            let _ = session
                .simple_query(&end_of(schema, table, row.get(2)))
                .await;
        }
    }
    Ok(())
}

fn end_of(schema: &str, table: &str, key: Option<&str>) -> String {
    let order = key.map(|columns| format!(" ORDER BY {columns}"));
    format!(
        "SELECT FROM ONLY {}{} LIMIT 1",
        sql::qualified(schema, table),
        order.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_from_its_end_where_its_key_says_what_that_is() {
        assert_eq!(
            end_of("public", "Big", Some("id DESC")),
            r#"SELECT FROM ONLY "public"."Big" ORDER BY id DESC LIMIT 1"#
        );
        assert_eq!(
            end_of("a b", "t", None),
            r#"SELECT FROM ONLY "a b"."t" LIMIT 1"#
        );
    }
}

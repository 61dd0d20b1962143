//! Rows of materialized views: made again in the base, for they are a query's over what was copied.
//!
//! Owns which ones, and their order: one that reads another is made after it. `pg_dump` would do the same, but leaves it
//! out together with the rows of tables.

use tokio_postgres::error::SqlState;

use super::error::CopyError;
use super::load::refused;
use super::plan::Plan;
use crate::postgres::connect::Session;
use crate::postgres::sql;
use crate::source::{SourceError, rows};

/// The views of a whole copy that have rows on the source, as SQL names them, in the transaction of its session.
pub(super) async fn find(session: &Session, plan: &Plan<'_>) -> Result<Vec<String>, SourceError> {
    rows(session, "search_path", "SET LOCAL search_path TO DEFAULT").await?;
    let query = format!(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'm' AND c.relispopulated AND ({}) ORDER BY c.oid",
        plan.selection.rows_condition()
    );
    let found = rows(session, "materialized views", &query).await?;
    rows(session, "search_path", "SET LOCAL search_path = pg_catalog").await?;
    let name = |row: &crate::source::Answer| Ok(sql::qualified(&row.text(0)?, &row.text(1)?));
    found.iter().map(name).collect()
}

/// Makes their rows, those first that read no other.
///
/// # Errors
/// [`CopyError`] names the view.
pub(super) async fn refresh(base: &Session, views: Vec<String>) -> Result<(), CopyError> {
    let mut waiting = views;
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut last = None;
        let mut again = Vec::new();
        for view in waiting {
            let statement = format!("REFRESH MATERIALIZED VIEW {view}");
            match base.batch_execute(&statement).await {
                Ok(()) => {}
                // It reads one that has no rows yet.
                Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                    last = Some((view.clone(), error));
                    again.push(view);
                }
                Err(error) => return Err(failed(&view, error)),
            }
        }
        if let Some((view, error)) = last.filter(|_| again.len() == before) {
            return Err(failed(&view, error));
        }
        waiting = again;
    }
    Ok(())
}

fn failed(view: &str, source: tokio_postgres::Error) -> CopyError {
    refused(format!("materialized view data {view}"), source)
}

//! Rows of materialized views: made again in the base, for they are a query's over what was copied.
//!
//! Owns which ones, and their order: one that reads another is made after it. `pg_dump` would do the same, but leaves it
//! out together with the rows of tables.

use model::PgMajor;
use tokio_postgres::error::SqlState;

use super::error::{CopyError, is_refusal};
use super::load::refused;
use super::plan::Plan;
use super::roles;
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

/// From here on a view's functions see the same names whoever refreshes it.
const HAS_OWN_PATH: PgMajor = PgMajor(17);

/// Makes their rows, those first that read no other. One that cannot be made here, for what it reads is elsewhere or fails
/// over the rows of today, stays without, and goes to `notes`.
///
/// # Errors
/// [`CopyError`] names the view where it is not the view's fault.
pub(super) async fn refresh(
    base: &Session,
    plan: &Plan<'_>,
    views: Vec<String>,
    notes: &mut Vec<String>,
) -> Result<(), CopyError> {
    if views.is_empty() {
        return Ok(());
    }
    let set = async |path: &str| {
        let set = base.batch_execute(path).await;
        set.map_err(|error| CopyError::of_base("prepare a session", error))
    };
    let has_own_path = plan.major() >= HAS_OWN_PATH;
    if !has_own_path {
        set(&roles::search_path(&plan.roles.settings)).await?;
    }
    refresh_each(base, views, notes).await?;
    if !has_own_path {
        set("SET search_path = ''").await?;
    }
    Ok(())
}

async fn refresh_each(
    base: &Session,
    views: Vec<String>,
    notes: &mut Vec<String>,
) -> Result<(), CopyError> {
    let has_none = |view: &str, error: &tokio_postgres::Error| {
        let why = error.as_db_error().map_or("", |error| error.message());
        format!("materialized view {view} has no rows here: {why}")
    };
    let mut waiting = views;
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut again = Vec::new();
        for view in waiting {
            let statement = format!("REFRESH MATERIALIZED VIEW {view}");
            match base.batch_execute(&statement).await {
                Ok(()) => {}
                // It reads one that has no rows yet.
                Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                    again.push((view, error));
                }
                Err(error) if is_refusal(&error) => notes.push(has_none(&view, &error)),
                Err(error) => {
                    let what = format!("materialized view data {view}");
                    return Err(refused(what, error));
                }
            }
        }
        if again.len() == before {
            notes.extend(again.iter().map(|(view, error)| has_none(view, error)));
            return Ok(());
        }
        waiting = again.into_iter().map(|(view, _)| view).collect();
    }
    Ok(())
}

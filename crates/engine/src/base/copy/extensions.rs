//! Whose the extensions of a copy are.
//!
//! Owns the one thing of an extension that `pg_dump` does not write: it makes them as whoever loads the dump, and a role
//! that owns one on the source may then neither drop nor update it. No statement of PostgreSQL's changes an extension's
//! owner, so that the catalogue is written as `CREATE EXTENSION` writes it. Leaves the extensions' own objects, which belong
//! to a superuser on the source as well, with ours.

use super::error::CopyError;
use super::plan::Plan;
use crate::postgres::connect::Session;
use crate::postgres::sql;
use crate::source::facts::Extension;

/// Objects below it, the first superuser and the roles `pg_*` among them, are never dropped, and nothing is recorded to
/// depend on them (`FirstUnpinnedObjectId` of PostgreSQL's `access/transam.h`, the same in 14 to 18).
const FIRST_UNPINNED_OBJECT_ID: u32 = 12_000;

/// Gives each extension that the copy has the owner that it has on the source; one whose owner the copy lacks stays ours.
///
/// # Errors
/// [`CopyError`] of the base.
pub(super) async fn give_to_owners(base: &Session, plan: &Plan<'_>) -> Result<(), CopyError> {
    let extensions = &plan.facts.extensions;
    if extensions.is_empty() || plan.selection.without_owners {
        return Ok(());
    }
    let given = base.batch_execute(&give(extensions)).await;
    given.map_err(|source| CopyError::of_base("give extensions to their owners", source))
}

/// One statement, and so one transaction: the owner, and that the extension depends on that role.
fn give(extensions: &[Extension]) -> String {
    let pair = |extension: &Extension| {
        let (name, owner) = (
            sql::literal(&extension.name),
            sql::literal(&extension.owner),
        );
        format!("({name}, {owner})")
    };
    let pairs: Vec<_> = extensions.iter().map(pair).collect();
    format!(
        "WITH given AS ( \
           SELECT e.oid, r.oid AS owner FROM (VALUES {}) AS source (extension, owner) \
           JOIN pg_catalog.pg_extension e ON e.extname::text = source.extension \
           JOIN pg_catalog.pg_authid r ON r.rolname::text = source.owner \
           WHERE e.extowner <> r.oid), \
         given_extension AS ( \
           UPDATE pg_catalog.pg_extension e SET extowner = given.owner FROM given WHERE e.oid = given.oid), \
         here AS (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()), \
         forgotten AS ( \
           DELETE FROM pg_catalog.pg_shdepend d USING given, here \
           WHERE d.dbid = here.oid AND d.classid = 'pg_catalog.pg_extension'::pg_catalog.regclass \
           AND d.objid = given.oid AND d.deptype = 'o') \
         INSERT INTO pg_catalog.pg_shdepend (dbid, classid, objid, objsubid, refclassid, refobjid, deptype) \
         SELECT here.oid, 'pg_catalog.pg_extension'::pg_catalog.regclass, given.oid, 0, \
           'pg_catalog.pg_authid'::pg_catalog.regclass, given.owner, 'o' \
         FROM given, here WHERE given.owner >= {FIRST_UNPINNED_OBJECT_ID}",
        pairs.join(", ")
    )
}

//! A source's structure as one number: whether anything was defined otherwise since.
//!
//! A subscription carries rows and no definitions. Owns the question that notices a changed one. It hashes who wrote each
//! row of the catalogues and in which transaction (`xmin`), not what it says: two changes that undo each other count too,
//! since rows may have been rewritten in between without being published (`ALTER TABLE ... USING`). What PostgreSQL
//! itself writes there (statistics, freezing, files that moved) is in no column that is looked at, and what belongs to
//! sessions (temporary objects) in no row. One statement, some milliseconds for some hundred tables.

use serde::{Deserialize, Serialize};

use crate::postgres::connect::Session;
use crate::source::{SourceError, row};

/// The number; equal ones mean the same definitions, those of other databases aside, and what roles are and whose members:
/// those that come and go (credentials by the hour) are brought up to the source's with each snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(String);

/// Catalogues of definitions that every user may read, each row of which is written by a definition alone.
const PLAIN: [&str; 32] = [
    "pg_aggregate",
    "pg_am",
    "pg_amop",
    "pg_amproc",
    "pg_cast",
    "pg_collation",
    "pg_conversion",
    "pg_default_acl",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_language",
    "pg_largeobject_metadata",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_parameter_acl",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_range",
    "pg_seclabel",
    "pg_transform",
    "pg_ts_config",
    "pg_ts_config_map",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
];

/// Catalogues of what belongs to relations: catalogue, column with the relation.
const OF_RELATIONS: [(&str, &str); 10] = [
    ("pg_attrdef", "adrelid"),
    ("pg_attribute", "attrelid"),
    ("pg_index", "indrelid"),
    ("pg_inherits", "inhrelid"),
    ("pg_partitioned_table", "partrelid"),
    ("pg_policy", "polrelid"),
    ("pg_rewrite", "ev_class"),
    ("pg_sequence", "seqrelid"),
    ("pg_statistic_ext", "stxrelid"),
    ("pg_trigger", "tgrelid"),
];

/// Catalogues of what is in schemas: catalogue, column with the schema.
const IN_SCHEMAS: [(&str, &str); 3] = [
    ("pg_constraint", "connamespace"),
    ("pg_proc", "pronamespace"),
    ("pg_type", "typnamespace"),
];

/// Columns of a relation that a definition sets; others change by themselves.
const RELATION: &str = "c.oid, c.relname, c.relnamespace, c.reltype, c.relowner, c.relam, c.relkind, c.relpersistence, \
     c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition, c.relacl::text, c.reloptions::text, \
     c.relpartbound::text";

fn query() -> String {
    const HASH: &str = "pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended";
    let mut parts = vec![format!(
        "SELECT 'pg_class', {HASH}(ROW({RELATION})::text, 0)) FROM pg_class c WHERE c.relpersistence <> 't'"
    )];
    parts.push(format!(
        "SELECT 'pg_database', {HASH}(ROW(d.datdba, d.datacl::text)::text, 0)) FROM pg_database d \
         WHERE d.datname = pg_catalog.current_database()"
    ));
    parts.push(format!(
        "SELECT 'pg_namespace', {HASH}(t.xmin::text || ':' || t.oid, 0)) FROM pg_namespace t \
         WHERE t.nspname !~ '^pg_(toast_)?temp_'"
    ));
    parts.push(format!(
        "SELECT 'pg_db_role_setting', {HASH}(t.xmin::text, 0)) FROM pg_db_role_setting t \
         WHERE t.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = pg_catalog.current_database()))"
    ));
    for (catalogue, column) in OF_RELATIONS {
        parts.push(format!(
            "SELECT '{catalogue}', {HASH}(t.xmin::text || ':' || t.{column}, 0)) FROM {catalogue} t \
             JOIN pg_class c ON c.oid = t.{column} WHERE c.relpersistence <> 't'"
        ));
    }
    for (catalogue, column) in IN_SCHEMAS {
        parts.push(format!(
            "SELECT '{catalogue}', {HASH}(t.xmin::text || ':' || t.oid, 0)) FROM {catalogue} t \
             JOIN pg_namespace n ON n.oid = t.{column} WHERE n.nspname !~ '^pg_(toast_)?temp_'"
        ));
    }
    for catalogue in PLAIN {
        parts.push(format!(
            "SELECT '{catalogue}', {HASH}(t.xmin::text, 0)) FROM {catalogue} t"
        ));
    }
    format!(
        "SELECT pg_catalog.md5(pg_catalog.string_agg(ROW(name, count, sum)::text, ',' ORDER BY name)) \
         FROM ({}) AS part (name, count, sum)",
        parts.join(" UNION ALL ")
    )
}

impl Fingerprint {
    /// Reads it in the session's transaction.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(session: &Session) -> Result<Self, SourceError> {
        let found = row(session, "catalogue", &query()).await?;
        Ok(Self(found.text(0)?))
    }
}

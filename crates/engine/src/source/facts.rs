//! Who and where a source really is, and what a copy of it must be like.
//!
//! Owns the questions and the list of settings that applications notice. The URL's own words are not trusted: poolers
//! rename users and databases. Leaves judging the answers to `base::copy`.

use model::pg_version::PG_MAJOR_MIN;
use model::{ByteSize, PgMajor};
use serde::{Deserialize, Serialize};

use super::{SourceError, movement, row, rows};
use crate::postgres::connect::Session;
use crate::postgres::settings::SemanticSettings;
use crate::postgres::sql;

/// Settings of a server that applications notice, in what they get or in what they may do. Those that only steer
/// memory, disk, plans or logs are left out: they are the branch's own.
const NOTICED: [&str; 39] = [
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "array_nulls",
    "backslash_quote",
    "bytea_output",
    "check_function_bodies",
    "client_min_messages",
    "createrole_self_grant",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "escape_string_warning",
    "extra_float_digits",
    "gin_fuzzy_search_limit",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lo_compat_privileges",
    "lock_timeout",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "quote_all_identifiers",
    "restrict_nonsystem_relation_kind",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "track_commit_timestamp",
    "transaction_timeout",
    "transform_null_equals",
    "wal_level",
    "xmlbinary",
    "xmloption",
];

/// How a database sorts and classifies text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collation {
    /// Who does it.
    pub provider: CollationProvider,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The provider's own locale, where it is not libc.
    pub locale: Option<String>,
    /// ICU's tailoring rules.
    pub rules: Option<String>,
    /// The provider's version when the database was made; none where it has none.
    pub version: Option<String>,
}

/// `datlocprovider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollationProvider {
    /// The C library of the server's machine.
    Libc,
    /// ICU, as the server was built with.
    Icu,
    /// PostgreSQL itself (17 and newer).
    Builtin,
}

/// An extension of the source's database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The schema that it lives in.
    pub schema: String,
    /// Whose it is: who may drop and update it.
    pub owner: String,
}

/// Everything that a source says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who we are there; poolers and providers may make it another than the URL's.
    pub session_user: String,
    /// The database that we are in.
    pub database: String,
    /// `server_version_num`, such as 160014.
    pub version_num: u32,
    /// The major version of that.
    pub major: PgMajor,
    /// Tells clusters apart; none where the user may not ask.
    pub system_identifier: Option<String>,
    /// Whether it is a read replica.
    pub in_recovery: bool,
    /// Whether we are superuser there.
    pub is_superuser: bool,
    /// The database on its disk.
    pub size_bytes: ByteSize,
    /// The database's encoding, such as `UTF8`.
    pub encoding: String,
    /// How the database sorts.
    pub collation: Collation,
    /// Its extensions, by name.
    pub extensions: Vec<Extension>,
    /// Tablespaces other than the standard ones that something of the database lies in.
    pub tablespaces: Vec<String>,
    /// Its subscriptions, which a copy leaves out.
    pub subscriptions: Vec<String>,
    /// Schemas and extensions of every new database that this one has no more.
    pub dropped: Vec<String>,
    /// Its settings that applications notice.
    pub settings: SemanticSettings,
}

const HEAD: &str = "SELECT session_user, current_database(), \
     pg_is_in_recovery(), current_setting('is_superuser') = 'on', \
     has_function_privilege('pg_control_system()', 'EXECUTE'), \
     pg_encoding_to_char(d.encoding), d.datlocprovider, d.datcollate, d.datctype, \
     coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), to_jsonb(d)->>'daticurules', \
     d.datcollversion \
     FROM pg_database d WHERE d.datname = current_database()";

const EXTENSIONS: &str = "SELECT e.extname, e.extversion, n.nspname, pg_get_userbyid(e.extowner) \
     FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname";

/// A relation's tablespace is 0 where it is the database's own.
const TABLESPACES: &str = "SELECT DISTINCT t.spcname FROM pg_tablespace t WHERE t.spcname NOT LIKE 'pg\\_%' AND \
     (t.oid IN (SELECT reltablespace FROM pg_class) \
      OR t.oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database())) ORDER BY 1";

/// Its other columns are for superusers.
const SUBSCRIPTIONS: &str = "SELECT s.subname FROM pg_subscription s \
     JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() ORDER BY 1";

/// What `DROP` would make a new database like it.
const DROPPED: &str = "SELECT 'SCHEMA public' WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') \
     UNION ALL SELECT 'EXTENSION plpgsql' WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'plpgsql')";

impl Facts {
    /// Reads the version, as major and `server_version_num`.
    ///
    /// # Errors
    /// [`SourceError`], also for one that is too old.
    pub(super) async fn read_version(session: &Session) -> Result<(PgMajor, u32), SourceError> {
        let asked = "SELECT current_setting('server_version_num')";
        let version_num = row(session, "version", asked).await?.number(0)?;
        let major = PgMajor::from_server_version_num(version_num);
        if major < PgMajor(PG_MAJOR_MIN) {
            return Err(SourceError::TooOld { major });
        }
        Ok((major, version_num))
    }

    /// Reads them in the session's transaction.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(session: &Session) -> Result<Self, SourceError> {
        let (major, version_num) = Self::read_version(session).await?;
        let head = row(session, "locale", HEAD).await?;
        let system_identifier = if head.is(4) {
            let asked = "SELECT system_identifier FROM pg_control_system()";
            Some(row(session, "system identifier", asked).await?.text(0)?)
        } else {
            None
        };
        Ok(Self {
            session_user: head.text(0)?,
            database: head.text(1)?,
            version_num,
            major,
            system_identifier,
            in_recovery: head.is(2),
            is_superuser: head.is(3),
            size_bytes: movement::database_size(session).await?,
            encoding: head.text(5)?,
            collation: read_collation(&head)?,
            extensions: read_extensions(session).await?,
            tablespaces: read_names(session, "tablespaces", TABLESPACES).await?,
            subscriptions: read_names(session, "subscriptions", SUBSCRIPTIONS).await?,
            dropped: read_names(session, "schemas", DROPPED).await?,
            settings: read_settings(session).await?,
        })
    }
}

fn read_collation(head: &super::Answer) -> Result<Collation, SourceError> {
    let provider = match head.get(6) {
        Some("c") => CollationProvider::Libc,
        Some("i") => CollationProvider::Icu,
        Some("b") => CollationProvider::Builtin,
        other => {
            return Err(SourceError::Answer {
                what: "collation provider",
                answer: other.unwrap_or("NULL").to_owned(),
            });
        }
    };
    Ok(Collation {
        provider,
        collate: head.text(7)?,
        ctype: head.text(8)?,
        locale: head.get(9).map(str::to_owned),
        rules: head.get(10).map(str::to_owned),
        version: head.get(11).map(str::to_owned),
    })
}

async fn read_extensions(session: &Session) -> Result<Vec<Extension>, SourceError> {
    let found = rows(session, "extensions", EXTENSIONS).await?;
    let extension = |row: &super::Answer| {
        Ok(Extension {
            name: row.text(0)?,
            version: row.text(1)?,
            schema: row.text(2)?,
            owner: row.text(3)?,
        })
    };
    found.iter().map(extension).collect()
}

pub(crate) async fn read_names(
    session: &Session,
    what: &'static str,
    query: &str,
) -> Result<Vec<String>, SourceError> {
    let found = rows(session, what, query).await?;
    found.iter().map(|row| row.text(0)).collect()
}

/// The server's own values: those that a role, the database or our connection sets are left out, for they come with
/// the role and the database, or are ours.
async fn read_settings(session: &Session) -> Result<SemanticSettings, SourceError> {
    let names: Vec<_> = NOTICED.iter().map(|name| sql::literal(name)).collect();
    let query = format!(
        "SELECT s.name, s.reset_val || CASE WHEN s.reset_val = '' THEN '' ELSE coalesce(s.unit, '') END \
         FROM pg_settings s WHERE s.name IN ({}) \
         AND s.source NOT IN ('client', 'database', 'user', 'database user') AND NOT EXISTS ( \
           SELECT FROM pg_db_role_setting r, unnest(r.setconfig) AS c(entry) \
           WHERE lower(split_part(c.entry, '=', 1)) = lower(s.name) \
           AND r.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
           AND r.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user)))",
        names.join(", ")
    );
    let found = rows(session, "settings", &query).await?;
    let pair = |row: &super::Answer| Ok((row.text(0)?, row.text(1)?));
    found.iter().map(pair).collect()
}

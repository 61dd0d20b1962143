//! What a standby must know of its source, beyond what every copy asks.
//!
//! Every question is one that an ordinary role may ask; what it may not see reads as not known, never as absent where
//! absence would be the better news.

use model::ByteSize;
use serde::{Deserialize, Serialize};

use super::reason::Reason;
use crate::base::libraries;
use crate::base::lsn::WalShape;
use crate::postgres::connect::{APPLICATION_NAME, Session};
use crate::postgres::control_data::RecoveryLimits;
use crate::postgres::sql;
use crate::source::facts::read_names;
use crate::source::{Answer, SourceError, row, rows};

/// What our servers are built with: the defaults of PostgreSQL, in the units of `pg_settings`.
const BUILD: [(&str, &str); 5] = [
    ("block_size", "8192"),
    ("wal_block_size", "8192"),
    ("segment_size", "131072"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
];

/// Settings of editions that encrypt, with the value that means that they do not: Percona's, EDB's, Fujitsu's,
/// CYBERTEC's.
const ENCRYPTION: [(&str, &str); 5] = [
    ("pg_tde.wal_encrypt", "off"),
    ("data_encryption_key_unwrap_command", ""),
    ("data_encryption_version", "0"),
    ("tde_z_enabled", "off"),
    ("encryption_key_command", ""),
];

/// The machine that a source was built for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Architecture {
    /// Such as `x86_64-pc-linux-gnu`; the whole answer where it has no such part.
    pub platform: String,
    /// Whether the server calls itself PostgreSQL: other editions have other files.
    pub is_postgres: bool,
}

impl Architecture {
    /// Reads the answer of `version()`: `PostgreSQL 16.14 on x86_64-pc-linux-gnu, compiled by ...`.
    pub fn parse(version: &str) -> Self {
        let after = version.split_once(" on ").map(|(_, after)| after);
        let platform = after.and_then(|after| after.split(',').next());
        Self {
            platform: platform.unwrap_or(version).trim().to_owned(),
            is_postgres: version.starts_with("PostgreSQL "),
        }
    }

    /// Whether its files can be read by the servers of this machine.
    pub fn is_ours(&self) -> bool {
        let processor = self.platform.split('-').next().unwrap_or_default();
        let processor = match processor {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        };
        let is_linux = self.platform.contains("linux");
        self.is_postgres && is_linux && processor == std::env::consts::ARCH
    }
}

/// What a standby must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits {
    /// The machine.
    pub architecture: Architecture,
    /// Who replicates.
    pub replicator: String,
    /// Whether that role may; none where there is no such role to be seen.
    pub replicates: Option<bool>,
    /// Whether that role may have a checkpoint made.
    pub may_checkpoint: bool,
    /// `wal_level`.
    pub wal_level: String,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// How its WAL is cut.
    pub shape: WalShape,
    /// What a standby must match.
    pub limits: RecoveryLimits,
    /// Connections for WAL that are left.
    pub wal_senders_free: u32,
    /// Replication slots that are left.
    pub slots_free: u32,
    /// Physical slots by name.
    pub physical_slots: Vec<String>,
    /// Whether `max_slot_wal_keep_size` bounds what a slot keeps.
    pub bounds_slots: bool,
    /// Whether `wal_sender_timeout` ends a connection that hangs.
    pub ends_hanging_connections: bool,
    /// Whether `synchronous_standby_names` names everybody, or us.
    pub takes_us_for_synchronous: bool,
    /// Tablespaces other than the standard ones.
    pub tablespaces: Vec<String>,
    /// A superuser that may log in: whom we administer a copy as before it has a role of ours.
    pub superuser: Option<String>,
    /// Preloaded libraries.
    pub libraries: Vec<String>,
    /// Whether those could be asked for.
    pub reads_libraries: bool,
    /// Writers of WAL records that PostgreSQL does not have itself.
    pub resource_managers: Vec<String>,
    /// Settings that say that files are encrypted.
    pub encryption: Vec<String>,
    /// The cluster on its disk, as far as the user may ask.
    pub cluster_size: ByteSize,
    /// How it was built: setting and value.
    pub(super) build: Vec<(String, String)>,
}

const HEAD: &str = "SELECT version(), \
     current_setting('wal_level'), current_setting('full_page_writes'), \
     (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), \
     (SELECT setting FROM pg_settings WHERE name = 'wal_block_size'), \
     current_setting('max_connections'), current_setting('max_worker_processes'), \
     current_setting('max_wal_senders'), current_setting('max_prepared_transactions'), \
     current_setting('max_locks_per_transaction'), \
     (SELECT count(*) FROM pg_stat_replication), \
     greatest(current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots), 0), \
     (SELECT setting <> '-1' FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), \
     (SELECT setting <> '0' FROM pg_settings WHERE name = 'wal_sender_timeout'), \
     current_setting('synchronous_standby_names'), \
     (SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1), \
     (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), \
     (SELECT coalesce(sum(pg_database_size(oid)), 0) FROM pg_database \
       WHERE has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE'))";

const TABLESPACES: &str =
    "SELECT spcname FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1";

const RESOURCE_MANAGERS: &str =
    "SELECT rm_name FROM pg_get_wal_resource_managers() WHERE NOT rm_builtin ORDER BY 1";

const PHYSICAL_SLOTS: &str =
    "SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'physical' ORDER BY 1";

impl Traits {
    /// Reads them in the session's transaction.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(session: &Session, replicator: &str) -> Result<Self, SourceError> {
        let head = row(session, "traits", HEAD).await?;
        let role = read_role(session, replicator).await?;
        let limits = read_limits(&head)?;
        let used: u32 = head.number(10)?;
        let libraries = head.get(16);
        Ok(Self {
            architecture: Architecture::parse(&head.text(0)?),
            replicator: replicator.to_owned(),
            replicates: role.map(|(replicates, _)| replicates),
            may_checkpoint: role.is_some_and(|(_, may_checkpoint)| may_checkpoint),
            wal_level: head.text(1)?,
            full_page_writes: head.get(2) == Some("on"),
            shape: WalShape {
                segment_bytes: head.number(3)?,
                page_bytes: head.number(4)?,
            },
            limits,
            wal_senders_free: limits.max_wal_senders.saturating_sub(used),
            slots_free: head.number(11)?,
            physical_slots: read_names(session, "replication slots", PHYSICAL_SLOTS).await?,
            bounds_slots: head.is(12),
            ends_hanging_connections: head.is(13),
            takes_us_for_synchronous: takes_us_for_synchronous(&head.text(14)?),
            tablespaces: read_names(session, "tablespaces", TABLESPACES).await?,
            superuser: head.get(15).map(str::to_owned),
            libraries: libraries.map(libraries::split).unwrap_or_default(),
            reads_libraries: libraries.is_some(),
            resource_managers: read_names(session, "WAL's managers", RESOURCE_MANAGERS).await?,
            encryption: read_encryption(session).await?,
            cluster_size: ByteSize(head.number(17)?),
            build: read_build(session).await?,
        })
    }

    /// What was built otherwise than our servers.
    pub(super) fn build_differences(&self) -> Vec<Reason> {
        let differs = |(name, theirs): &(String, String)| {
            let (setting, ours) = BUILD.into_iter().find(|(known, _)| known == name)?;
            (ours != theirs).then(|| Reason::Build {
                setting,
                theirs: theirs.clone(),
                ours: ours.to_owned(),
            })
        };
        self.build.iter().filter_map(differs).collect()
    }
}

fn read_limits(head: &Answer) -> Result<RecoveryLimits, SourceError> {
    Ok(RecoveryLimits {
        max_connections: head.number(5)?,
        max_worker_processes: head.number(6)?,
        max_wal_senders: head.number(7)?,
        max_prepared_transactions: head.number(8)?,
        max_locks_per_transaction: head.number(9)?,
    })
}

/// Whether the role may replicate, and whether it may have a checkpoint made.
async fn read_role(session: &Session, name: &str) -> Result<Option<(bool, bool)>, SourceError> {
    let query = format!(
        "SELECT rolsuper OR rolreplication, rolsuper OR pg_has_role(oid, 'pg_checkpoint', 'USAGE') \
         FROM pg_roles WHERE rolname = {}",
        sql::literal(name)
    );
    let found = rows(session, "roles", &query).await?;
    Ok(found.first().map(|row| (row.is(0), row.is(1))))
}

async fn read_build(session: &Session) -> Result<Vec<(String, String)>, SourceError> {
    let found = rows(session, "build", &select_settings(&BUILD)).await?;
    let pair = |row: &Answer| Ok((row.text(0)?, row.text(1)?));
    found.iter().map(pair).collect()
}

async fn read_encryption(session: &Session) -> Result<Vec<String>, SourceError> {
    let found = rows(session, "encryption", &select_settings(&ENCRYPTION)).await?;
    let is_on = |row: &&Answer| {
        let known = ENCRYPTION.iter().find(|(name, _)| row.get(0) == Some(name));
        known.is_some_and(|(_, off)| row.get(1) != Some(off))
    };
    found.iter().filter(is_on).map(|row| row.text(0)).collect()
}

fn select_settings(named: &[(&str, &str)]) -> String {
    let names: Vec<_> = named.iter().map(|(name, _)| sql::literal(name)).collect();
    format!(
        "SELECT name, setting FROM pg_settings WHERE name IN ({}) ORDER BY 1",
        names.join(", ")
    )
}

/// Whether `synchronous_standby_names` matches everybody, or the name that we connect under. Names there are compared
/// without regard to case.
pub fn takes_us_for_synchronous(list: &str) -> bool {
    let words = list.split(|c: char| matches!(c, ',' | '(' | ')') || c.is_whitespace());
    let bare = |word: &str| word.trim_matches('"').to_ascii_lowercase();
    words
        .map(bare)
        .any(|word| word == "*" || word == APPLICATION_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_in_what_the_server_says_of_itself() {
        let said =
            "PostgreSQL 16.14 (Debian 16.14-1) on x86_64-pc-linux-gnu, compiled by gcc, 64-bit";
        let read = Architecture::parse(said);
        assert_eq!(read.platform, "x86_64-pc-linux-gnu");
        assert_eq!(read.is_ours(), std::env::consts::ARCH == "x86_64");
        for foreign in [
            "PostgreSQL 16.1 on x86_64-apple-darwin23.0, compiled by clang, 64-bit",
            "PostgreSQL 16.1 on s390x-ibm-linux-gnu, compiled by gcc, 64-bit",
            "EnterpriseDB 16.1 on x86_64-pc-linux-gnu, compiled by gcc, 64-bit",
            "CockroachDB CCL v23",
        ] {
            assert!(!Architecture::parse(foreign).is_ours(), "{foreign}");
        }
    }

    #[test]
    fn a_source_that_would_wait_for_us_is_known() {
        let waiting = [
            "*",
            "ANY 1 (*)",
            "first 2 (a, \"*\")",
            "a, Bough",
            "ANY 1 (\"bough\")",
        ];
        for waits in waiting {
            assert!(takes_us_for_synchronous(waits), "{waits}");
        }
        for other in ["", "a, b", "ANY 1 (boughs, star)"] {
            assert!(!takes_us_for_synchronous(other), "{other}");
        }
    }
}

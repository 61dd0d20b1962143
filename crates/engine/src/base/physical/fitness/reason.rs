//! Why a source cannot be followed physically, each a sentence with what would help.

use model::PgMajor;

use crate::postgres::sql;

/// One reason. `Display` is a sentence for a user, without full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The role may not replicate.
    #[error(
        "the role {replicator} may not replicate: ALTER ROLE {} REPLICATION",
        sql::ident(replicator)
    )]
    NoRight {
        /// The role.
        replicator: String,
    },
    /// The replication connection was refused.
    #[error(
        "no replication connection as {replicator} (a line for \"replication\" in pg_hba.conf may be missing, or a pooler \
         may stand between: --replication-url): {answer}"
    )]
    Refused {
        /// The role.
        replicator: String,
        /// What was said.
        answer: String,
    },
    /// Somebody else answers replication than answers questions.
    #[error("the URL for replication leads to another cluster than the source's URL")]
    OtherCluster,
    /// No server of the source's major version here.
    #[error(
        "no PostgreSQL {major} server is installed here, and only the same major version can follow"
    )]
    NoServer {
        /// The version.
        major: PgMajor,
    },
    /// No `pg_basebackup` and `psql` that serve the version.
    #[error("neither version {major} nor a newer one of pg_basebackup and psql is installed here")]
    NoPrograms {
        /// The version.
        major: PgMajor,
    },
    /// Another processor or system.
    #[error("the source runs on {platform}, whose files cannot be read here")]
    Architecture {
        /// What the source says of itself.
        platform: String,
    },
    /// Built otherwise than our servers.
    #[error("the source was built with {setting} = {theirs}, and servers here have {ours}")]
    Build {
        /// The setting.
        setting: &'static str,
        /// Its value there.
        theirs: String,
        /// Its value here.
        ours: String,
    },
    /// It has tablespaces.
    #[error("the source has the tablespaces {}, which a copy could not place", names.join(", "))]
    Tablespaces {
        /// Their names.
        names: Vec<String>,
    },
    /// Its WAL says too little.
    #[error("the source has wal_level = minimal: set it to replica and restart it")]
    WalLevel,
    /// Its WAL has no full pages.
    #[error(
        "the source has full_page_writes = off, without which no snapshot can be taken of a standby"
    )]
    FullPageWrites,
    /// It has no connection for WAL left.
    #[error("the source has {free} of max_wal_senders = {max} free, and a base backup takes 2")]
    WalSenders {
        /// `max_wal_senders`.
        max: u32,
        /// How many are left.
        free: u32,
    },
    /// Its commits could come to wait for us.
    #[error(
        "the source's synchronous_standby_names would take us for a synchronous standby, for which its commits wait: \
         name its standbys instead of *"
    )]
    Synchronous,
    /// Nobody could administer a copy.
    #[error("no superuser of the source may log in, so that nobody could administer a copy")]
    NoSuperuser,
    /// Its files or its WAL are encrypted.
    #[error("the source encrypts its files or its WAL ({})", settings.join(", "))]
    Encryption {
        /// The settings that say so.
        settings: Vec<String>,
    },
    /// Its WAL has records that our server cannot read.
    #[error(
        "the source's WAL has records of {}, and {}",
        names.join(", "),
        of_managers(missing_libraries)
    )]
    ResourceManagers {
        /// Who writes them.
        names: Vec<String>,
        /// Preloaded libraries that are not here.
        missing_libraries: Vec<String>,
    },
    /// This machine lacks locales.
    #[error(
        "this machine lacks the source's locale {}: install it (locale-gen), or use the source's image",
        names.join(" and ")
    )]
    Locales {
        /// Their names.
        names: Vec<String>,
    },
    /// The slot that was named is not there.
    #[error(
        "the source has no physical replication slot {name:?}: SELECT pg_create_physical_replication_slot({})",
        sql::literal(name)
    )]
    NoSlot {
        /// Its name.
        name: String,
    },
    /// The slot that was named could fill the source's disk.
    #[error(
        "the source does not bound what the slot {name:?} keeps (max_slot_wal_keep_size), and --unbounded-slot was not given"
    )]
    UnboundedSlot {
        /// Its name.
        name: String,
    },
}

fn of_managers(missing_libraries: &[String]) -> String {
    if missing_libraries.is_empty() {
        "which library reads them cannot be asked (GRANT pg_read_all_settings)".to_owned()
    } else {
        format!("{} is not installed here", missing_libraries.join(", "))
    }
}

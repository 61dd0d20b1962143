//! Why a source cannot be followed by logical replication, each a sentence with what would help.

use model::PgMajor;

use super::Names;

/// One reason. `Display` is a sentence for a user, without full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A read replica.
    #[error(
        "the source is a read replica, on which no publication's slot is made: give its primary"
    )]
    Replica,
    /// Too little is written.
    #[error("the source has wal_level = {level}, and logical is needed (a restart of the source)")]
    WalLevel {
        /// What it has.
        level: String,
    },
    /// Nobody made a publication.
    #[error(
        "the source has no publication of every insert, update, delete and truncate: CREATE PUBLICATION bough FOR ALL \
         TABLES, by its owner"
    )]
    NoPublication,
    /// Tables that no publication has whole.
    #[error(
        "no publication has every row and column of {tables}: ALTER PUBLICATION ... ADD TABLE, without a row filter or \
         column list"
    )]
    Missed {
        /// The tables.
        tables: Names,
    },
    /// Publications that would do, but for something.
    #[error("these publications do not count: {publications}")]
    PassedOver {
        /// Each with what stands against it.
        publications: Names,
    },
    /// Tables that replication never carries.
    #[error("the rows of unlogged tables are not replicated: {tables}")]
    Unlogged {
        /// The tables.
        tables: Names,
    },
    /// Views whose rows are not published.
    #[error("the rows of materialized views are not replicated: {views}")]
    MaterializedViews {
        /// The views.
        views: Names,
    },
    /// Triggers that replicated rows set off.
    #[error(
        "triggers that are enabled ALWAYS or for replicas would run for rows that have come already: {tables}"
    )]
    Triggers {
        /// Their tables.
        tables: Names,
    },
    /// What replication never carries.
    #[error("the source has large objects, which are not replicated")]
    LargeObjects,
    /// A slot of ours could fill its disk.
    #[error(
        "the source does not bound what a replication slot keeps (max_slot_wal_keep_size = -1): set it there, or take \
         the disk's risk with --unbounded-slot"
    )]
    Unbounded,
    /// Whoever is connected under our name is waited for, replication by a slot of ours included.
    #[error(
        "the source's synchronous_standby_names would let its commits wait for us: list the names of its standbys there"
    )]
    Synchronous,
    /// As many slots as it takes.
    #[error("the source has no replication slot free (max_replication_slots)")]
    NoSlotFree,
    /// As many replication connections as it takes.
    #[error("the source has no replication connection free (max_wal_senders)")]
    NoSenderFree,
    /// The replication connection was refused.
    #[error(
        "no replication connection as {replicator} (ALTER ROLE ... REPLICATION; a pooler may stand between: \
         --replication-url): {answer}"
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
    /// No programs for it.
    #[error("neither version {major} nor a newer one of PostgreSQL's clients is installed here")]
    NoPrograms {
        /// The source's version.
        major: PgMajor,
    },
}

//! Why a copy failed, as a user needs to hear it: what was tried on which object, and what to do.

use std::path::PathBuf;

use model::engine_api::ProblemKind;
use model::{ByteSize, PgMajor};
use tokio_postgres::error::SqlState;

use super::dump_args::SpecError;
use super::script::ScriptError;
use crate::postgres::binaries::BinariesError;
use crate::postgres::connect::ConnectError;
use crate::postgres::connect::raw::RawError;
use crate::postgres::control_data::ControlDataError;
use crate::postgres::initdb::InitdbError;
use crate::postgres::server::{ServerError, StartError};
use crate::source::SourceError;
use crate::source::access::AccessError;

/// Why there is no base. Nothing is left running; the directory is the caller's to remove.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The request asks for something that cannot be copied.
    #[error("the copy cannot be made as asked")]
    Spec(#[from] SpecError),
    /// The source cannot be reached or does not answer.
    #[error("cannot ask the source")]
    Source(#[from] SourceError),
    /// The source is not readable enough.
    #[error("cannot read the source")]
    Access(#[from] AccessError),
    /// Servers or programs of a version are missing.
    #[error("cannot copy with what is installed")]
    Binaries(#[from] BinariesError),
    /// A branch cannot be older than its source.
    #[error("a branch of version {branch} cannot hold a source of version {source_major}")]
    Version {
        /// What was asked for.
        branch: PgMajor,
        /// What the source is.
        source_major: PgMajor,
    },
    /// A named table is not there, or is no table.
    #[error("tables: the source has no table {name:?}{}", nearest(.similar))]
    NoTable {
        /// The name.
        name: String,
        /// Tables of similar names.
        similar: Vec<String>,
    },
    /// More than the administrator lets a request copy that says nothing of age.
    #[error(
        "the source has moved since its last copy, a new one is {size} and takes about {seconds} s, and without a maximum age at most {max} is copied"
    )]
    TooLarge {
        /// What would be copied.
        size: ByteSize,
        /// `copy_on_request_bytes_max`.
        max: ByteSize,
        /// How long the copy is thought to take.
        seconds: u64,
    },
    /// There is no room for it.
    #[error(
        "the copy needs {needed} of disk, and {} of {free} are free above the floor of {floor}",
        ByteSize(free.0.saturating_sub(floor.0))
    )]
    NoRoom {
        /// What the copy takes.
        needed: ByteSize,
        /// What is free.
        free: ByteSize,
        /// What must stay free.
        floor: ByteSize,
    },
    /// The disk became full meanwhile.
    #[error("the disk became full during the copy, at {what}")]
    DiskFull {
        /// What was being written.
        what: String,
        /// What the server said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A new cluster could not be made.
    #[error("cannot make a new cluster")]
    Initdb(#[from] InitdbError),
    /// Its server could not be started.
    #[error("cannot start the base's server")]
    Start(#[from] StartError),
    /// Its server could not be stopped.
    #[error("cannot stop the base's server")]
    Stop(#[from] ServerError),
    /// Its server does not let us in.
    #[error("cannot connect to the base's server")]
    Connect(#[source] ConnectError),
    /// Its server did not do what it was told.
    #[error("cannot {what} on the base")]
    Prepare {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The administrator's SQL failed.
    #[error("the SQL that prepares every copy of this source failed")]
    Adapt(#[source] tokio_postgres::Error),
    /// The server here lacks extensions of the source's.
    #[error("PostgreSQL {major} here lacks extensions that the source uses: {}", names.join(", "))]
    Extensions {
        /// The base's version.
        major: PgMajor,
        /// The extensions.
        names: Vec<String>,
    },
    /// No database can be made like the source's.
    #[error(
        "cannot make a database like {database:?} here, with the encoding {encoding} and the locale {locale}"
    )]
    Database {
        /// The database.
        database: String,
        /// Its encoding.
        encoding: String,
        /// Its locale.
        locale: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// `pg_dump` could not be run.
    #[error("cannot run {program}")]
    RunDump {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `pg_dump` failed.
    #[error("pg_dump failed: {answer}")]
    Dump {
        /// The last lines that it printed.
        answer: String,
    },
    /// Its output makes no sense.
    #[error("cannot read what pg_dump writes")]
    Script(#[from] ScriptError),
    /// A command of psql's that only a manipulated dump has.
    #[error("the dump has the command {command:?}, which is not SQL")]
    Command {
        /// Its first word.
        command: String,
    },
    /// The base refused a part of the dump.
    #[error("the base refuses {what}")]
    Statement {
        /// Which object.
        what: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The source refused a table's rows, for its filter or otherwise.
    #[error("cannot read the rows of {table}{}", with_filter(.filter.as_deref()))]
    Rows {
        /// The table.
        table: String,
        /// Its filter.
        filter: Option<String>,
        /// What the source said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The source refused a table's rows, on a connection that reads them as they come.
    #[error("cannot read the rows of {table}")]
    Relay {
        /// The table.
        table: String,
        /// What the source said.
        #[source]
        source: RawError,
    },
    /// A connection that reads rows could not be used.
    #[error("cannot read the copy's moment by a further connection")]
    Reader {
        /// What the source said.
        #[source]
        source: RawError,
    },
    /// The base refused rows as they came.
    #[error("cannot {what} on the base")]
    Fill {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        source: RawError,
    },
    /// The source's structure changed under the copy.
    #[error("the source changed while its copy began: {}", tables.join(", "))]
    Changed {
        /// Tables that were rewritten, emptied or dropped.
        tables: Vec<String>,
    },
    /// Somebody on the source waited for it.
    #[error(
        "the copy gave way: somebody on the source waited for {seconds} s to have {table} alone, which it was reading"
    )]
    InTheWay {
        /// What they wait for.
        table: String,
        /// The limit.
        seconds: u64,
    },
    /// It took too long.
    #[error("the copy did not end within {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// The base cannot be read from disk.
    #[error("cannot check the base")]
    Check(#[from] ControlDataError),
    /// The base's server did not end cleanly.
    #[error("the base's server did not shut down cleanly")]
    NotSealed,
    /// The base's files cannot be measured.
    #[error("cannot measure {path}")]
    Measure {
        /// What was looked at.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn nearest(similar: &[String]) -> String {
    if similar.is_empty() {
        String::new()
    } else {
        format!("; it has {}", similar.join(", "))
    }
}

fn with_filter(filter: Option<&str>) -> String {
    filter
        .map(|filter| format!(" where {filter}"))
        .unwrap_or_default()
}

impl CopyError {
    /// Sorts what the base's server said to `what`: a full disk is told as such.
    pub(super) fn of_base(what: impl Into<String>, source: tokio_postgres::Error) -> Self {
        let what = what.into();
        if is_full(&source) {
            Self::DiskFull {
                what,
                source: source.into(),
            }
        } else {
            Self::Prepare { what, source }
        }
    }

    /// The same of a session whose bytes are ours.
    pub(super) fn of_raw_base(what: impl Into<String>, source: RawError) -> Self {
        let what = what.into();
        if source.is_full() {
            Self::DiskFull {
                what,
                source: source.into(),
            }
        } else {
            Self::Fill { what, source }
        }
    }

    /// The sort of failure.
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::Spec(_) | Self::Version { .. } | Self::NoTable { .. } => ProblemKind::BadRequest,
            Self::TooLarge { .. }
            | Self::NoRoom { .. }
            | Self::DiskFull { .. }
            | Self::Initdb(InitdbError::DiskFull { .. }) => ProblemKind::LimitPassed,
            Self::Source(_)
            | Self::Access(_)
            | Self::Adapt(_)
            | Self::Binaries(_)
            | Self::Extensions { .. }
            | Self::Database { .. }
            | Self::Dump { .. }
            | Self::Script(_)
            | Self::Command { .. }
            | Self::Statement { .. }
            | Self::Rows { .. }
            | Self::Relay { .. }
            | Self::Reader { .. }
            | Self::Changed { .. }
            | Self::InTheWay { .. }
            | Self::TimedOut { .. } => ProblemKind::Source,
            Self::Initdb(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::Connect(_)
            | Self::Prepare { .. }
            | Self::Fill { .. }
            | Self::RunDump { .. }
            | Self::Check(_)
            | Self::NotSealed
            | Self::Measure { .. } => ProblemKind::Internal,
        }
    }

    /// Whether more room on the disk would help.
    pub fn wants_room(&self) -> bool {
        self.kind() == ProblemKind::LimitPassed && !matches!(self, Self::TooLarge { .. })
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spec(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::Access(error) => Some(error.hint()),
            Self::Binaries(error) => Some(error.hint()),
            Self::Version { source_major, .. } => {
                Some(format!("leave version out, or ask for {source_major} or newer"))
            }
            Self::NoTable { .. } => Some("name it as schema.table".into()),
            Self::TooLarge { .. } => Some(
                "say what age of data is good enough (`--max-age SECONDS`), or raise copy_on_request_bytes_max in engine.toml"
                    .into(),
            ),
            Self::NoRoom { .. }
            | Self::DiskFull { .. }
            | Self::Initdb(InitdbError::DiskFull { .. }) => Some(
                "free disk, move the data directory, or copy less (mode schema, table filters, --exclude-table-data)"
                    .into(),
            ),
            Self::Extensions { major, names } => Some(install_hint(*major, names)),
            Self::Database { locale, .. } => Some(format!(
                "make the locale {locale} available on this machine (Debian and Ubuntu: apt-get install locales, \
                 then localedef or dpkg-reconfigure locales), or use servers that were built with it"
            )),
            Self::Dump { answer } if answer.contains("timeout") => Some(
                "somebody holds a lock on a table of the source: try again when it is free".into(),
            ),
            Self::Dump { .. }
            | Self::Relay { .. }
            | Self::Reader { .. }
            | Self::Rows { filter: None, .. } => {
                Some("check that the source runs and is reachable, and try again".into())
            }
            Self::Rows { filter: Some(_), .. } => {
                Some("a filter is an SQL condition over the table's columns, as after WHERE".into())
            }
            Self::Statement { what, source } => statement_hint(what, source),
            Self::Changed { .. } => Some("ask again".into()),
            Self::InTheWay { .. } => Some(
                "ask again once the migration, or whatever it is, is done; copy_waited_seconds_max in engine.toml says when a copy gives way"
                    .into(),
            ),
            Self::Adapt(_) => Some(
                "no branch is made without it: mend the file and give it again with `bough source add --prepare`".into(),
            ),
            Self::TimedOut { .. } => {
                Some("copy less, or raise copy_seconds_max in engine.toml".into())
            }
            Self::Initdb(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::Connect(_)
            | Self::Prepare { .. }
            | Self::Fill { .. }
            | Self::RunDump { .. }
            | Self::Script(_)
            | Self::Command { .. }
            | Self::Check(_)
            | Self::NotSealed
            | Self::Measure { .. } => None,
        }
    }
}

/// Whether a server ran out of disk.
pub(super) fn is_full(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::DISK_FULL)
}

/// Whether a server says that a statement cannot be done as it is: not that it lacks room, ends, or has broken.
pub(super) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    const OF_THE_SERVER: [&str; 5] = ["08", "53", "57", "58", "XX"];
    let code = error.code().map(SqlState::code);
    code.is_some_and(|code| !OF_THE_SERVER.iter().any(|class| code.starts_with(class)))
}

/// Packages whose names are not `postgresql-MAJOR-EXTENSION`.
const PACKAGES: [(&str, &str); 8] = [
    ("vector", "pgvector"),
    ("postgis", "postgis-3"),
    ("postgis_raster", "postgis-3"),
    ("postgis_topology", "postgis-3"),
    ("pg_cron", "cron"),
    ("pg_partman", "partman"),
    ("pg_repack", "repack"),
    ("timescaledb", "timescaledb (packagecloud.io/timescale)"),
];

fn install_hint(major: PgMajor, names: &[String]) -> String {
    let package = |name: &String| {
        let known = PACKAGES.iter().find(|(extension, _)| extension == name);
        let suffix = known.map_or_else(
            || name.replace('_', "-"),
            |(_, suffix)| (*suffix).to_owned(),
        );
        format!("postgresql-{major}-{suffix}")
    };
    let mut packages: Vec<_> = names.iter().map(package).collect();
    packages.dedup();
    format!(
        "install them for PostgreSQL {major} (Debian and Ubuntu: {}; those of PostgreSQL itself are in \
         postgresql-contrib), or leave them out with --exclude-extension in dump_args (pg_dump 17 and newer)",
        packages.join(", ")
    )
}

fn statement_hint(what: &str, source: &tokio_postgres::Error) -> Option<String> {
    let code = source.code()?;
    if *code == SqlState::UNDEFINED_OBJECT
        || *code == SqlState::UNDEFINED_TABLE
        || *code == SqlState::UNDEFINED_FUNCTION
        || *code == SqlState::INVALID_SCHEMA_NAME
    {
        return Some(format!(
            "{what} needs something that dump_args or the copy mode leave out; the mode schema copies every structure"
        ));
    }
    let is_library = source
        .as_db_error()
        .is_some_and(|error| error.message().contains("shared_preload_libraries"));
    is_library.then(|| {
        "the extension must be loaded at the server's start, which is not supported for it here"
            .into()
    })
}

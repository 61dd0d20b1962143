//! The whole configuration of a server of ours: `postgresql.conf`, `pg_hba.conf`, and what goes on the command line.
//!
//! Owns every value, with its reason. What keeps a branch apart from the world (no TCP, its own socket, no archiving,
//! no subscriptions, its identity) is also given on the command line, which `ALTER SYSTEM` in a branch cannot
//! override. Leaves starting to `server`, and to `source::facts` which settings of a source applications notice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use model::PgMajor;

use super::account::{AccountError, ServerAccount};
use super::initdb::ADMIN_ROLE;

/// The port in a socket's file name; every server has a socket directory of its own, so that one will do.
pub const SOCKET_PORT: u16 = 5432;

/// Bytes of a `cluster_name` (`NAMEDATALEN` less its NUL); the server cuts a longer one.
pub const IDENTITY_BYTES_MAX: usize = 63;

/// Bytes of a Unix socket's path (unix(7): `sun_path` has 108 with its NUL).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The first version with `io_method`.
const HAS_IO_METHOD: PgMajor = PgMajor(18);

/// The first version with `event_triggers`, and with event triggers that fire when somebody logs in.
pub const HAS_EVENT_TRIGGERS: PgMajor = PgMajor(17);

/// The first version that bounds how long a transaction may take.
pub const HAS_TRANSACTION_TIMEOUT: PgMajor = PgMajor(17);

/// Settings of a source that its applications notice, by name.
pub type SemanticSettings = BTreeMap<String, String>;

/// The socket in a socket directory.
pub fn socket_path(socket_dir: &Path) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{SOCKET_PORT}"))
}

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A base under copy: only we connect, and it is loaded as fast as may be.
    Base,
    /// A branch: small, quick to start, for the application.
    Branch,
    /// A standby of a source: a physical base. It must survive a crash of the machine, for a large source is not
    /// copied again lightly.
    Standby,
    /// A copy of a source that a subscription keeps up: a logical base. It must survive a crash of the machine as well.
    Subscriber,
    /// A clone of a standby that stays in recovery, small and throwaway, until it becomes a branch.
    Follower,
    /// A clone of a standby that is recovered and made neutral, then stopped: only we connect.
    Recovery,
}

impl Purpose {
    fn own(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Base => &BASE,
            Self::Branch => &BRANCH,
            Self::Standby => &STANDBY,
            Self::Subscriber => &SUBSCRIBER,
            Self::Follower => &FOLLOWER,
            Self::Recovery => &RECOVERY,
        }
    }

    /// What the server may reach but its clients.
    pub fn egress(self) -> Egress {
        match self {
            Self::Base | Self::Branch | Self::Recovery => Egress::None,
            Self::Follower => Egress::UntilSealed,
            Self::Standby | Self::Subscriber => Egress::Open,
        }
    }

    /// Whether anybody but us connects.
    fn is_for_applications(self) -> bool {
        match self {
            Self::Branch => true,
            Self::Base | Self::Standby | Self::Subscriber | Self::Follower | Self::Recovery => {
                false
            }
        }
    }

    /// Whether only we connect, to a cluster that has none but the source's roles.
    fn is_ours_alone(self) -> bool {
        match self {
            Self::Standby | Self::Follower | Self::Recovery => true,
            Self::Base | Self::Branch | Self::Subscriber => false,
        }
    }
}

/// What a server may reach of its own accord. Its clients come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Nothing.
    None,
    /// A Unix socket, such as the one of the base that it follows, until it is sealed.
    UntilSealed,
    /// Whatever it was configured for: its source.
    Open,
}

/// Everything that a server's configuration depends on.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// What the server is for.
    pub purpose: Purpose,
    /// The directory of its socket; only the servers' account may enter it.
    pub socket_dir: PathBuf,
    /// What it answers to `SHOW cluster_name`: at most [`IDENTITY_BYTES_MAX`] printable ASCII characters.
    pub identity: String,
    /// The source's settings that applications notice.
    pub semantic: SemanticSettings,
}

/// Why a configuration could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value that cannot stand in a configuration file.
    #[error("the value of {name} has a control character, which postgresql.conf cannot hold")]
    Value {
        /// The setting.
        name: String,
    },
    /// An identity that the server would change.
    #[error(
        "the identity {identity:?} is not 1 to {IDENTITY_BYTES_MAX} printable ASCII characters"
    )]
    Identity {
        /// The identity.
        identity: String,
    },
    /// A socket directory whose path leaves no room for the socket's name.
    #[error(
        "the socket {path} has a path of {bytes} bytes, and {SOCKET_PATH_BYTES_MAX} are possible"
    )]
    SocketPath {
        /// The socket.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or directory could not be given to the servers' account.
    #[error("cannot prepare {path} for the server")]
    Own {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: AccountError,
    },
}

/// The same for every purpose, unless it says otherwise.
const ALWAYS: [(&str, &str); 20] = [
    // Whatever a branch loses in a crash of the machine is made again from its source.
    ("fsync", "off"),
    ("full_page_writes", "off"),
    // A commit that was answered is the kernel's: it outlives the server's own end, which costs a write without a flush.
    ("synchronous_commit", "on"),
    // New WAL files cost nothing where blocks are allocated late; recycled ones would keep a branch's disk.
    ("wal_recycle", "off"),
    ("wal_init_zero", "off"),
    ("min_wal_size", "2MB"),
    ("huge_pages", "off"),
    // Standard error goes to a file that the engine gave; statements stay out of it, for they may hold secrets.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_min_error_statement", "panic"),
    ("log_parameter_max_length_on_error", "0"),
    ("password_encryption", "scram-sha-256"),
    ("ssl", "off"),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("unix_socket_permissions", "0700"),
    ("restart_after_crash", "on"),
];

const BASE: [(&str, &str); 10] = [
    // Rows and indexes of tables that are new in their transaction then need no WAL.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_connections", "20"),
    ("shared_buffers", "64MB"),
    ("maintenance_work_mem", "128MB"),
    ("max_wal_size", "1GB"),
    ("checkpoint_timeout", "1h"),
    // Its workers would only be in the way of the load; ANALYZE comes after it.
    ("autovacuum", "off"),
    // A crash ends the copy rather than hiding in it.
    ("restart_after_crash", "off"),
    ("track_activities", "off"),
];

const BRANCH: [(&str, &str); 8] = [
    ("wal_level", "replica"),
    ("max_connections", "50"),
    // Room for them is taken and touched at the start, and a fifth of an idle branch's memory by default. Where it is
    // short, a serializable transaction watches pages and tables instead of rows, and may have to be tried again.
    ("max_pred_locks_per_transaction", "10"),
    ("autovacuum_max_workers", "1"),
    // With fsync, what a start's time depends on. The pages of a branch are in the kernel's memory as well, and without
    // fsync a write to them costs no more than one to its own.
    ("shared_buffers", "16MB"),
    // All of it is filled with zeroes at the start: 1 MB of every idle branch by default.
    ("wal_buffers", "256kB"),
    // For a connector that reads the branch's own changes.
    ("max_wal_senders", "2"),
    ("max_wal_size", "128MB"),
];

/// What a standby must match of its source, and how it reaches it, are given with its other settings.
const STANDBY: [(&str, &str); 19] = [
    ("hot_standby", "on"),
    ("wal_level", "replica"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    // A snapshot's recovery begins at the last restartpoint.
    ("checkpoint_timeout", "1min"),
    ("recovery_target_timeline", "latest"),
    // The source never keeps a row for us, and replay never waits for long for a question of ours.
    ("hot_standby_feedback", "off"),
    ("max_standby_streaming_delay", "1s"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_receiver_timeout", "60s"),
    ("wal_retrieve_retry_interval", "500ms"),
    // Followers stream from here; one that hangs does not fill the disk.
    ("max_replication_slots", "64"),
    ("wal_keep_size", "64MB"),
    ("max_slot_wal_keep_size", "1GB"),
    ("wal_sender_timeout", "30s"),
    ("autovacuum", "off"),
    // Its log is read.
    ("lc_messages", "C"),
];

const SUBSCRIBER: [(&str, &str); 16] = [
    ("wal_level", "replica"),
    ("fsync", "on"),
    // For what we write: the subscription must be there after a crash. Its worker has a setting of its own.
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("max_wal_senders", "0"),
    ("max_connections", "20"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    ("max_replication_slots", "10"),
    ("max_sync_workers_per_subscription", "0"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_receiver_timeout", "60s"),
    // After a source's restart.
    ("wal_retrieve_retry_interval", "500ms"),
    ("autovacuum", "on"),
    ("default_transaction_read_only", "off"),
    // Its log is read.
    ("lc_messages", "C"),
];

const FOLLOWER: [(&str, &str); 11] = [
    ("hot_standby", "on"),
    ("wal_level", "replica"),
    ("shared_buffers", "16MB"),
    ("wal_buffers", "256kB"),
    ("max_wal_size", "128MB"),
    ("recovery_target_timeline", "latest"),
    ("hot_standby_feedback", "off"),
    ("max_standby_streaming_delay", "1s"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_receiver_create_temp_slot", "on"),
    ("wal_retrieve_retry_interval", "100ms"),
];

const RECOVERY: [(&str, &str); 8] = [
    ("wal_level", "replica"),
    ("max_wal_senders", "0"),
    ("max_connections", "20"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    // A crash ends the snapshot rather than hiding in it.
    ("restart_after_crash", "off"),
];

impl ServerSettings {
    /// Writes `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf` anew, and makes the socket directory.
    ///
    /// # Errors
    /// [`SettingsError`] names the value or the file.
    pub fn write(
        &self,
        data: &Path,
        major: PgMajor,
        account: &ServerAccount,
    ) -> Result<(), SettingsError> {
        self.check()?;
        let own = |path: &Path, result: Result<(), AccountError>| {
            result.map_err(|source| SettingsError::Own {
                path: path.to_owned(),
                source,
            })
        };
        own(&self.socket_dir, account.make_dir(&self.socket_dir))?;
        let files = [
            ("postgresql.conf", self.postgresql_conf(major)?),
            ("pg_hba.conf", pg_hba_conf(self.purpose)),
            ("pg_ident.conf", String::new()),
        ];
        for (name, text) in files {
            let path = data.join(name);
            write_file(&path, &text)?;
            own(&path, account.own(&path))?;
        }
        Ok(())
    }

    /// What goes on the server's command line: `-c name=value`, in pairs.
    pub fn arguments(&self) -> Vec<String> {
        let socket_dir = self.socket_dir.display().to_string();
        let port = SOCKET_PORT.to_string();
        // The launcher's workers: only a base follows anybody.
        let workers = match self.purpose {
            Purpose::Subscriber => "2",
            Purpose::Base
            | Purpose::Branch
            | Purpose::Standby
            | Purpose::Follower
            | Purpose::Recovery => "0",
        };
        let pinned = [
            ("listen_addresses", ""),
            ("unix_socket_directories", &socket_dir),
            ("port", &port),
            ("cluster_name", &self.identity),
            ("archive_mode", "off"),
            ("max_logical_replication_workers", workers),
            ("external_pid_file", ""),
        ];
        let pair = |(name, value)| ["-c".to_owned(), format!("{name}={value}")];
        pinned.into_iter().flat_map(pair).collect()
    }

    fn check(&self) -> Result<(), SettingsError> {
        let printable = self
            .identity
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte));
        if !printable || self.identity.is_empty() || self.identity.len() > IDENTITY_BYTES_MAX {
            return Err(SettingsError::Identity {
                identity: self.identity.clone(),
            });
        }
        let path = socket_path(&self.socket_dir);
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(SettingsError::SocketPath { path, bytes });
        }
        Ok(())
    }

    fn postgresql_conf(&self, major: PgMajor) -> Result<String, SettingsError> {
        let mut values: BTreeMap<&str, &str> = ALWAYS.into_iter().collect();
        values.extend(self.purpose.own().iter().copied());
        if major >= HAS_EVENT_TRIGGERS && !self.purpose.is_for_applications() {
            // The source's triggers are not for our sessions; one that writes would keep us out of a standby.
            values.insert("event_triggers", "off");
        }
        let is_loading = matches!(self.purpose, Purpose::Base | Purpose::Subscriber);
        if major >= HAS_TRANSACTION_TIMEOUT && is_loading {
            // It binds a subscription's worker as well: a long transaction would be begun anew for ever.
            values.insert("transaction_timeout", "0");
        }
        if major >= HAS_IO_METHOD {
            // Workers for reading ahead would be three more processes in every idle branch.
            values.insert("io_method", "sync");
        }
        for (name, value) in &self.semantic {
            let is_ours = is_loading && values.contains_key(name.as_str());
            if !is_ours {
                values.insert(name, value);
            }
        }
        if values.get("wal_level") == Some(&"minimal") {
            // The two together keep a server from starting.
            values.insert("max_wal_senders", "0");
        }
        let mut text = String::from("# Written by Bough at every start; changes are lost.\n");
        for (name, value) in values {
            let quoted = quote(value).ok_or_else(|| SettingsError::Value {
                name: name.to_owned(),
            })?;
            writeln!(text, "{name} = {quoted}").expect("a String takes any text");
        }
        Ok(text)
    }
}

/// A value in the quotes of `postgresql.conf`, whose reader undoubles quotes and takes backslash escapes; none when it
/// has a control character.
fn quote(value: &str) -> Option<String> {
    if value.chars().any(char::is_control) {
        return None;
    }
    let escaped = value.replace('\\', "\\\\").replace('\'', "''");
    Some(format!("'{escaped}'"))
}

/// Who may connect, through the socket.
///
/// With a password: `md5` lets both kinds of verifier in that a source may have, and a SCRAM one only by SCRAM. Where
/// only we connect, whoever may enter the socket's directory, which is the servers' account that could read the files
/// themselves: such a cluster has no role whose password we know. Our own role is refused there, so that its first login
/// proves that the lines of a branch are in force.
fn pg_hba_conf(purpose: Purpose) -> String {
    let lines = if purpose.is_ours_alone() {
        format!(
            "local all {ADMIN_ROLE} reject\n\
             local all all trust\n\
             local replication all trust\n"
        )
    } else {
        format!(
            "local all {ADMIN_ROLE} scram-sha-256\n\
             local all all md5\n"
        )
    };
    format!("# Written by Bough at every start; changes are lost.\n{lines}")
}

/// Replaces a file by a new one: the old may be shared with a base, or be a link that a branch made.
fn write_file(path: &Path, text: &str) -> Result<(), SettingsError> {
    let failed = |source| SettingsError::Write {
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(purpose: Purpose, semantic: &[(&str, &str)]) -> ServerSettings {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ServerSettings {
            purpose,
            socket_dir: PathBuf::from("/run/it's here"),
            identity: "bough-1".to_owned(),
            semantic: semantic.iter().map(pair).collect(),
        }
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(quote("it's \\ here"), Some("'it''s \\\\ here'".to_owned()));
        assert_eq!(quote("a\narchive_command = 'rm'"), None);
        let refused =
            settings(Purpose::Branch, &[("lc_time", "a\nb")]).postgresql_conf(PgMajor(16));
        assert!(matches!(refused, Err(SettingsError::Value { name }) if name == "lc_time"));
    }

    #[test]
    fn a_sources_settings_count_on_a_branch_and_never_slow_a_load() {
        let semantic = [("wal_level", "logical"), ("TimeZone", "Europe/Berlin")];
        let branch = settings(Purpose::Branch, &semantic)
            .postgresql_conf(PgMajor(16))
            .unwrap();
        assert!(branch.contains("wal_level = 'logical'"));
        assert!(branch.contains("TimeZone = 'Europe/Berlin'"));
        let base = settings(Purpose::Base, &semantic)
            .postgresql_conf(PgMajor(16))
            .unwrap();
        assert!(base.contains("wal_level = 'minimal'"));
        assert!(base.contains("TimeZone = 'Europe/Berlin'"));
        assert_eq!(base.matches("restart_after_crash").count(), 1);
    }

    #[test]
    fn a_source_without_replication_has_branches_that_start() {
        let minimal = settings(Purpose::Branch, &[("wal_level", "minimal")]);
        let conf = minimal.postgresql_conf(PgMajor(17)).unwrap();
        assert!(conf.contains("max_wal_senders = '0'"), "{conf}");
    }

    #[test]
    fn only_a_version_that_has_a_setting_gets_it() {
        let conf = |major| {
            settings(Purpose::Branch, &[])
                .postgresql_conf(PgMajor(major))
                .unwrap()
        };
        assert!(!conf(17).contains("io_method"));
        assert!(conf(18).contains("io_method = 'sync'"));
    }

    #[test]
    fn a_server_that_could_not_be_told_apart_or_reached_is_refused() {
        let mut long = settings(Purpose::Branch, &[]);
        long.identity = "x".repeat(IDENTITY_BYTES_MAX + 1);
        assert!(matches!(long.check(), Err(SettingsError::Identity { .. })));
        long.identity = "é".to_owned();
        assert!(matches!(long.check(), Err(SettingsError::Identity { .. })));
        let mut deep = settings(Purpose::Branch, &[]);
        deep.socket_dir = PathBuf::from(format!("/{}", "d".repeat(SOCKET_PATH_BYTES_MAX)));
        assert!(matches!(
            deep.check(),
            Err(SettingsError::SocketPath { .. })
        ));
    }

    #[test]
    fn nobody_gets_into_a_branch_without_a_password_and_our_role_only_there() {
        assert!(!pg_hba_conf(Purpose::Branch).contains("trust"));
        assert!(!pg_hba_conf(Purpose::Base).contains("trust"));
        for ours in [Purpose::Standby, Purpose::Follower, Purpose::Recovery] {
            let lines = pg_hba_conf(ours);
            assert!(lines.contains(&format!("local all {ADMIN_ROLE} reject")));
            assert!(!lines.contains("host"), "{lines}");
        }
    }

    #[test]
    fn a_standby_survives_a_crash_of_the_machine_and_what_is_thrown_away_need_not() {
        let conf = |purpose| settings(purpose, &[]).postgresql_conf(PgMajor(17)).unwrap();
        assert!(conf(Purpose::Standby).contains("fsync = 'on'"));
        assert!(conf(Purpose::Follower).contains("fsync = 'off'"));
    }

    #[test]
    fn event_triggers_of_a_source_act_where_applications_are_and_nowhere_else() {
        let conf = |purpose| settings(purpose, &[]).postgresql_conf(PgMajor(17)).unwrap();
        for ours in [
            Purpose::Base,
            Purpose::Subscriber,
            Purpose::Standby,
            Purpose::Recovery,
        ] {
            assert!(conf(ours).contains("event_triggers = 'off'"), "{ours:?}");
        }
        assert!(!conf(Purpose::Branch).contains("event_triggers"));
        let older = settings(Purpose::Subscriber, &[]).postgresql_conf(PgMajor(16));
        assert!(!older.unwrap().contains("event_triggers"));
    }

    #[test]
    fn what_is_loaded_takes_the_time_it_takes() {
        let hurried = [("transaction_timeout", "30s")];
        let conf = |purpose, major| {
            settings(purpose, &hurried)
                .postgresql_conf(PgMajor(major))
                .unwrap()
        };
        for loading in [Purpose::Base, Purpose::Subscriber] {
            assert!(
                conf(loading, 17).contains("transaction_timeout = '0'"),
                "{loading:?}"
            );
            assert!(
                !settings(loading, &[])
                    .postgresql_conf(PgMajor(16))
                    .unwrap()
                    .contains("transaction_timeout")
            );
        }
        assert!(conf(Purpose::Branch, 17).contains("transaction_timeout = '30s'"));
    }

    #[test]
    fn what_keeps_a_branch_apart_is_on_the_command_line() {
        let arguments = settings(Purpose::Branch, &[]).arguments();
        for pinned in [
            "listen_addresses=",
            "archive_mode=off",
            "max_logical_replication_workers=0",
        ] {
            let at = arguments.iter().position(|argument| argument == pinned);
            assert_eq!(arguments[at.unwrap() - 1], "-c", "{pinned}");
        }
    }
}

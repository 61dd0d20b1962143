//! What this run works with: flags over environment over defaults, resolved once.
//!
//! Owns every reading of the environment, of the terminal and of who runs us. Leaves the session's file to
//! `config`, and what a command does with its own flags to the command.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use model::branch_id::NameError;
use model::{Namespace, Secret};

use crate::args::GlobalArgs;
use crate::contexts::{ACCOUNT_FOLDER, KubeconfigFiles, PodAccount};

/// The name that the program has of its own.
pub(crate) const OWN_NAME: &str = "bough";

/// The name that people's scripts and editors call.
pub(crate) const HABITUAL_NAME: &str = "mirrord";

/// Where the engine of the machine's administrator keeps its data.
const DATA_DIR_OF_ROOT: &str = "/var/lib/bough";

/// The image that agents in clusters run from: this version's.
const AGENT_IMAGE_DEFAULT: &str = concat!("bough:", env!("CARGO_PKG_VERSION"));

/// Where kubectl has its configuration, below HOME.
const KUBECONFIG_DEFAULT: &str = ".kube/config";

/// The folder of an account's own data below HOME, where XDG_DATA_HOME names none.
pub(crate) const DATA_HOME_DEFAULT: &str = ".local/share";

/// Why no settings can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// Nothing says where data may be kept.
    #[error("no data directory is known: neither --data-dir nor BOUGH_DATA_DIR nor HOME is set")]
    DataDir,
    /// The data directory is relative and the working directory is gone.
    #[error("cannot make the data directory {0} absolute")]
    Absolute(PathBuf, #[source] std::io::Error),
    /// MIRRORD_TARGET_NAMESPACE is no namespace.
    #[error("cannot use MIRRORD_TARGET_NAMESPACE")]
    Namespace(#[source] NameError),
    /// A variable that must be a number is not.
    #[error("the variable {0} is no number")]
    NoNumber(&'static str),
    /// A variable that must be text is not.
    #[error("the variable {0} is not UTF-8")]
    NotText(&'static str),
}

/// The caller's environment as it was when the program started.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Reads the process's environment.
    pub(crate) fn read() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of `name`, where it is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.0.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value)
    }

    /// Every variable.
    pub(crate) fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.0
    }

    /// Every variable, name by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        match self.get(name).map(OsStr::to_str) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text.to_owned())),
            Some(None) => Err(SettingsError::NotText(name)),
        }
    }
}

impl std::fmt::Debug for Environment {
    /// Names alone: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// How output looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// No opening, closing and progress lines; errors and warnings stay.
    pub(crate) quiet: bool,
    /// Colours on standard error.
    pub(crate) colours: bool,
    /// Standard error is a terminal: progress is drawn, not listed.
    pub(crate) terminal: bool,
    /// Columns that tables may take; none where no terminal shows them, so that a line is a row.
    pub(crate) width: Option<u16>,
}

/// What a session takes from the environment where its flags say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SessionDefaults {
    /// The configuration file.
    pub(crate) config_file: Option<PathBuf>,
    /// The session's key.
    pub(crate) key: Option<String>,
    /// The target's namespace.
    pub(crate) namespace: Option<String>,
}

/// Everything a command may ask about this run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where the engine of this account keeps its data; absolute.
    pub(crate) data_dir: PathBuf,
    /// Whether a flag or a variable named it.
    pub(crate) is_data_dir_named: bool,
    /// Folders to look for PostgreSQL in before the usual ones.
    pub(crate) postgres_path: Vec<PathBuf>,
    /// The account that servers run as when the engine is root.
    pub(crate) server_account: Option<String>,
    /// The connection string of `source add` and `create`, kept off the process list.
    pub(crate) source_url: Option<Secret>,
    /// The connection string of `source add` for replication, likewise.
    pub(crate) replication_url: Option<Secret>,
    /// Values for sessions.
    pub(crate) session: SessionDefaults,
    /// Where contexts of clusters are looked for.
    pub(crate) kubeconfig: KubeconfigFiles,
    /// The cluster that this program runs in, if it is in a pod.
    pub(crate) pod_account: PodAccount,
    /// The image that agents in clusters run from.
    pub(crate) agent_image: String,
    /// Where the engine behind the socket of the data directory really is, if not on this machine: none is started then.
    pub(crate) engine_elsewhere: Option<String>,
    /// Whether it is called by the name of the program whose habits it serves.
    pub(crate) is_called_mirrord: bool,
    /// How often `-v` was given.
    pub(crate) verbose: u8,
    /// RUST_LOG: says more than a count of `-v`, so it wins.
    pub(crate) rust_log: Option<String>,
    /// Who runs us: `user@host`.
    pub(crate) owner: String,
    /// The caller's environment.
    pub(crate) environment: Environment,
    /// The working directory; none where it was deleted.
    pub(crate) directory: Option<PathBuf>,
}

impl Settings {
    /// Resolves flags over `environment` over defaults.
    ///
    /// # Errors
    /// [`SettingsError`] when no data directory can be named or a variable is no text.
    pub(crate) fn resolve(
        flags: &GlobalArgs,
        environment: Environment,
    ) -> Result<Self, SettingsError> {
        let is_root = rustix::process::geteuid().is_root();
        Ok(Self {
            data_dir: choose_data_dir(flags.data_dir.as_deref(), &environment, is_root)?,
            is_data_dir_named: flags.data_dir.is_some()
                || environment.get("BOUGH_DATA_DIR").is_some(),
            postgres_path: environment
                .get("BOUGH_POSTGRES_PATH")
                .map(|list| std::env::split_paths(list).collect())
                .unwrap_or_default(),
            server_account: environment.text("BOUGH_SERVER_ACCOUNT")?,
            source_url: environment.text("BOUGH_SOURCE_URL")?.map(Secret::new),
            replication_url: environment.text("BOUGH_REPLICATION_URL")?.map(Secret::new),
            session: session_defaults(&environment)?,
            kubeconfig: kubeconfig_files(&environment),
            pod_account: PodAccount {
                host: environment.text("KUBERNETES_SERVICE_HOST")?,
                port: environment.text("KUBERNETES_SERVICE_PORT")?,
                folder: ACCOUNT_FOLDER.into(),
            },
            agent_image: environment
                .text("BOUGH_AGENT_IMAGE")?
                .unwrap_or_else(|| AGENT_IMAGE_DEFAULT.to_owned()),
            engine_elsewhere: None,
            is_called_mirrord: is_called_mirrord(std::env::args_os().next().as_deref()),
            verbose: flags.verbose,
            rust_log: environment.text("RUST_LOG")?,
            owner: describe_owner(&environment),
            environment,
            directory: std::env::current_dir().ok(),
        })
    }

    /// The name by which this run was called.
    pub(crate) fn program_name(&self) -> &'static str {
        if self.is_called_mirrord {
            HABITUAL_NAME
        } else {
            OWN_NAME
        }
    }

    /// The namespace of a command that has no file: the flag, MIRRORD_TARGET_NAMESPACE, `default`.
    ///
    /// # Errors
    /// [`SettingsError::Namespace`] when the variable is no namespace.
    pub(crate) fn choose_namespace(
        &self,
        flag: Option<&Namespace>,
    ) -> Result<Namespace, SettingsError> {
        match (flag, &self.session.namespace) {
            (Some(namespace), _) => Ok(namespace.clone()),
            (None, Some(text)) => Namespace::new(text.clone()).map_err(SettingsError::Namespace),
            (None, None) => Ok(Namespace::default()),
        }
    }

    /// The same where a context has a namespace of its own, which goes before `default`.
    ///
    /// # Errors
    /// [`SettingsError::Namespace`] when the variable is no namespace.
    pub(crate) fn choose_namespace_of(
        &self,
        flag: Option<&Namespace>,
        context: Option<Namespace>,
    ) -> Result<Namespace, SettingsError> {
        match (flag, &self.session.namespace, context) {
            (None, None, Some(namespace)) => Ok(namespace),
            _ => self.choose_namespace(flag),
        }
    }

    /// How output looks: needed before everything else, and never failing.
    pub(crate) fn look(flags: &GlobalArgs, environment: &Environment) -> Look {
        choose_look(flags, environment)
    }

    /// The engine's socket.
    pub(crate) fn engine_socket(&self) -> PathBuf {
        self.data_dir.join("engine.sock")
    }

    /// The engine's own log.
    pub(crate) fn engine_log(&self) -> PathBuf {
        self.data_dir.join("engine.log")
    }

    /// The longest TTL in seconds, as who starts an engine says it: the operator, to that of a branch host.
    ///
    /// # Errors
    /// [`SettingsError`] when the variable is no number.
    pub(crate) fn ttl_max_seconds(&self) -> Result<Option<u64>, SettingsError> {
        const NAME: &str = operator::TTL_MAX_VARIABLE;
        let text = self.environment.text(NAME)?;
        let number = text.map(|text| text.parse()).transpose();
        number.map_err(|_| SettingsError::NoNumber(NAME))
    }

    /// The PATH of the caller.
    pub(crate) fn path(&self) -> Option<&OsStr> {
        self.environment.get("PATH")
    }
}

/// Whether the program was started by the name of the one whose habits it serves.
fn is_called_mirrord(program: Option<&OsStr>) -> bool {
    let name = program.map(Path::new).and_then(Path::file_name);
    name == Some(OsStr::new(HABITUAL_NAME))
}

fn choose_data_dir(
    flag: Option<&Path>,
    environment: &Environment,
    is_root: bool,
) -> Result<PathBuf, SettingsError> {
    let named = flag
        .map(Path::to_path_buf)
        .or_else(|| environment.get("BOUGH_DATA_DIR").map(PathBuf::from));
    let home = || {
        let home = environment
            .get("HOME")
            .map(|home| Path::new(home).join(DATA_HOME_DEFAULT));
        // The XDG base directory specification has relative values ignored.
        let xdg = environment.get("XDG_DATA_HOME").map(PathBuf::from);
        xdg.filter(|path| path.is_absolute()).or(home)
    };
    let chosen = match named {
        Some(path) => path,
        None if is_root => PathBuf::from(DATA_DIR_OF_ROOT),
        None => home().ok_or(SettingsError::DataDir)?.join("bough"),
    };
    std::path::absolute(&chosen).map_err(|error| SettingsError::Absolute(chosen, error))
}

fn session_defaults(environment: &Environment) -> Result<SessionDefaults, SettingsError> {
    let file = ["BOUGH_CONFIG_FILE", "MIRRORD_CONFIG_FILE"];
    Ok(SessionDefaults {
        config_file: file
            .iter()
            .find_map(|name| environment.get(name))
            .map(PathBuf::from),
        key: environment.text("MIRRORD_KEY")?,
        namespace: environment.text("MIRRORD_TARGET_NAMESPACE")?,
    })
}

/// As kubectl looks for them: KUBECONFIG, else the account's own.
fn kubeconfig_files(environment: &Environment) -> KubeconfigFiles {
    if let Some(list) = environment.get("KUBECONFIG") {
        let paths = std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty());
        return KubeconfigFiles::named(paths.collect());
    }
    environment
        .get("HOME")
        .map_or_else(KubeconfigFiles::none, |home| {
            KubeconfigFiles::habitual(&Path::new(home).join(KUBECONFIG_DEFAULT))
        })
}

fn choose_look(flags: &GlobalArgs, environment: &Environment) -> Look {
    let terminal = std::io::stderr().is_terminal();
    let dumb = environment.get("TERM").is_none_or(|term| term == "dumb");
    // https://no-color.org: any value but the empty one.
    let wanted = environment.get("NO_COLOR").is_none();
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    Look {
        quiet: flags.quiet || environment.get("MIRRORD_PROGRESS_MODE") == Some(OsStr::new("off")),
        colours: terminal && wanted && !dumb,
        terminal: terminal && !dumb,
        width: size.ok().map(|size| size.ws_col).filter(|width| *width > 0),
    }
}

fn describe_owner(environment: &Environment) -> String {
    let name = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| environment.get(name)?.to_str());
    let uid = rustix::process::getuid().as_raw();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    match name {
        Some(name) => format!("{name}@{host}"),
        None => format!("uid {uid}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect()
    }

    fn data_dir(flag: Option<&str>, variables: &[(&str, &str)], is_root: bool) -> String {
        let chosen = choose_data_dir(flag.map(Path::new), &environment(variables), is_root);
        chosen.unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_data_directory_is_flag_then_variable_then_account() {
        let all = [
            ("BOUGH_DATA_DIR", "/v"),
            ("XDG_DATA_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(data_dir(Some("/f"), &all, true), "/f");
        assert_eq!(data_dir(None, &all, true), "/v");
        assert_eq!(data_dir(None, &all[1..], true), "/var/lib/bough");
        assert_eq!(data_dir(None, &all[1..], false), "/x/bough");
        assert_eq!(data_dir(None, &all[2..], false), "/h/.local/share/bough");
        let relative = [("XDG_DATA_HOME", "x"), ("HOME", "/h")];
        assert_eq!(data_dir(None, &relative, false), "/h/.local/share/bough");
        let nothing = choose_data_dir(None, &environment(&[]), false);
        assert!(matches!(nothing, Err(SettingsError::DataDir)));
    }

    #[test]
    fn the_name_that_it_is_called_by_is_the_last_part_of_its_path() {
        for (program, expected) in [
            ("mirrord", true),
            ("/usr/bin/mirrord", true),
            ("bough", false),
            ("mirrord-x", false),
        ] {
            assert_eq!(
                is_called_mirrord(Some(OsStr::new(program))),
                expected,
                "{program}"
            );
        }
        assert!(!is_called_mirrord(None));
    }

    #[test]
    fn the_longest_ttl_is_a_number_or_nothing_is_run() {
        let told = |value: &str| {
            let variables = environment(&[("HOME", "/h"), (operator::TTL_MAX_VARIABLE, value)]);
            let settings = Settings::resolve(&GlobalArgs::default(), variables).unwrap();
            settings.ttl_max_seconds()
        };
        assert_eq!(told("3600").unwrap(), Some(3600));
        assert_eq!(told("").unwrap(), None);
        assert!(matches!(told("an hour"), Err(SettingsError::NoNumber(_))));
    }

    #[test]
    fn empty_variables_count_as_unset() {
        assert_eq!(environment(&[("NO_COLOR", "")]).get("NO_COLOR"), None);
    }

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let text = format!("{:?}", environment(&[("PASSWORD", "hunter2")]));
        assert!(text.contains("PASSWORD") && !text.contains("hunter2"));
    }
}

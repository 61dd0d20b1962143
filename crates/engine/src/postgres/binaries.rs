//! Where the programs of PostgreSQL are, by major version.
//!
//! Owns the places that are looked at and their order, and the error that says what was found where. A server
//! counts only when `postgres --version` and its `initdb` are there and it runs. Leaves running them to `server`,
//! `initdb` and `base::copy`.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use model::PgMajor;
use model::engine_api::InstallationView;
use tokio::process::Command;

/// How long a program may take to tell its version: it only prints a line, but a network disk may be slow.
const VERSION_TIME_MAX: Duration = Duration::from_secs(10);

/// Where distributions put a major version's programs; `*` stands for the version.
const PLACES: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
];

/// What the search is told.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    /// Folders that were set explicitly: `FOLDER/MAJOR/bin`, or the folder of the programs itself.
    pub roots: Vec<PathBuf>,
    /// Bough's data directory, whose `postgres/MAJOR/bin` is looked at.
    pub data_dir: Option<PathBuf>,
    /// The caller's `PATH`, for `pg_config` and for a `postgres` that lies on it.
    pub path: Option<OsString>,
}

/// Which programs a folder has, all of them executable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Programs {
    /// `postgres` and `initdb`.
    pub server: bool,
    /// `pg_dump`.
    pub pg_dump: bool,
    /// `psql`.
    pub psql: bool,
}

/// The programs of one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Their major version.
    pub major: PgMajor,
    /// Their version as they tell it, such as `16.14`.
    pub full_version: String,
    /// The folder.
    pub bin: PathBuf,
    /// What is in it.
    pub has: Programs,
}

impl Installation {
    /// The path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// What is told of it.
    pub fn view(&self) -> InstallationView {
        InstallationView {
            major: self.major,
            version: self.has.server.then(|| self.full_version.clone()),
            bin: self.bin.display().to_string(),
            server: self.has.server,
            pg_dump: self.has.pg_dump,
            psql: self.has.psql,
        }
    }

    fn describe(&self) -> String {
        let names = [
            (self.has.server, "server"),
            (self.has.pg_dump, "pg_dump"),
            (self.has.psql, "psql"),
        ];
        let names: Vec<_> = names.iter().filter(|(has, _)| *has).collect();
        let names: Vec<_> = names.iter().map(|(_, name)| *name).collect();
        format!(
            "{} ({}) in {}",
            self.full_version,
            names.join(", "),
            self.bin.display()
        )
    }
}

/// Why a version cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BinariesError {
    /// No server of this major version.
    #[error("no PostgreSQL {major} server on this machine: {inventory}")]
    NoServer {
        /// The version that is wanted.
        major: PgMajor,
        /// What was found and where it was looked for.
        inventory: Inventory,
    },
    /// No `pg_dump` that reads this major version: it reads its own version and older ones.
    #[error("no pg_dump of version {source_major} or newer on this machine: {inventory}")]
    NoDumper {
        /// The source's version.
        source_major: PgMajor,
        /// What was found and where it was looked for.
        inventory: Inventory,
    },
}

impl BinariesError {
    /// What to install.
    pub fn hint(&self) -> String {
        match self {
            Self::NoServer { major, .. } => format!(
                "install PostgreSQL {major} (Debian and Ubuntu: postgresql-{major} from apt.postgresql.org; \
                 Homebrew: postgresql@{major}), or set the folder that holds {major}/bin"
            ),
            Self::NoDumper { source_major, .. } => format!(
                "install the client programs of PostgreSQL {source_major} or newer \
                 (Debian and Ubuntu: postgresql-client-{source_major} from apt.postgresql.org)"
            ),
        }
    }
}

/// What a search found, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    found: Vec<String>,
    broken: Vec<String>,
    looked: Vec<PathBuf>,
}

impl std::fmt::Display for Inventory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.found.is_empty() {
            f.write_str("found none")?;
        } else {
            write!(f, "found {}", self.found.join("; "))?;
        }
        if !self.broken.is_empty() {
            write!(f, "; not usable: {}", self.broken.join("; "))?;
        }
        f.write_str("; looked in ")?;
        for (index, path) in self.looked.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", path.display())?;
        }
        Ok(())
    }
}

/// Everything that a search found.
#[derive(Debug, Clone, Default)]
pub struct Installations {
    /// Usable ones, those of the first place first.
    pub found: Vec<Installation>,
    /// The places that were looked at; `*` stands for any version.
    pub looked: Vec<PathBuf>,
    /// Folders whose programs did not run, with what they answered.
    broken: Vec<String>,
}

impl Installations {
    /// Looks in the explicit folders, Bough's data directory, the places of distributions, and on `PATH`.
    pub async fn discover(lookup: &Lookup) -> Self {
        let mut search = Search::default();
        for root in &lookup.roots {
            search.look(root.clone());
            search.look(root.join("*/bin"));
        }
        if let Some(data_dir) = &lookup.data_dir {
            search.look(data_dir.join("postgres/*/bin"));
        }
        for place in PLACES {
            search.look(PathBuf::from(place));
        }
        if let Some(path) = &lookup.path {
            search.look_on_path(path).await;
        }
        let mut installations = Self {
            looked: search.looked,
            ..Self::default()
        };
        for bin in search.folders {
            match examine(&bin).await {
                Ok(installation) => installations.found.push(installation),
                Err(answer) => installations
                    .broken
                    .push(format!("{} ({answer})", bin.display())),
            }
        }
        installations
    }

    /// The server of a major version.
    ///
    /// # Errors
    /// [`BinariesError::NoServer`] says what was found and where it was looked for.
    pub fn server(&self, major: PgMajor) -> Result<&Installation, BinariesError> {
        let fits = |found: &&Installation| found.major == major && found.has.server;
        self.found
            .iter()
            .find(fits)
            .ok_or_else(|| BinariesError::NoServer {
                major,
                inventory: self.inventory(),
            })
    }

    /// The `pg_dump` for a source that is copied into a server of version `target`: the target's own, whose output
    /// suits it best, else the oldest that can read the source.
    ///
    /// # Errors
    /// [`BinariesError::NoDumper`] when none is new enough.
    pub fn dumper(&self, source: PgMajor, target: PgMajor) -> Result<&Installation, BinariesError> {
        let fits = |found: &&Installation| found.major >= source && found.has.pg_dump;
        let rank = |found: &&Installation| (found.major != target, found.major);
        let chosen = self.found.iter().filter(fits).min_by_key(rank);
        chosen.ok_or_else(|| BinariesError::NoDumper {
            source_major: source,
            inventory: self.inventory(),
        })
    }

    /// What is told of them, oldest first.
    pub fn views(&self) -> Vec<InstallationView> {
        let mut found: Vec<_> = self.found.iter().collect();
        found.sort_by_key(|installation| installation.major);
        found.into_iter().map(Installation::view).collect()
    }

    fn inventory(&self) -> Inventory {
        Inventory {
            found: self.found.iter().map(Installation::describe).collect(),
            broken: self.broken.clone(),
            looked: self.looked.clone(),
        }
    }
}

/// Collects folders in the order of the places, each once.
#[derive(Default)]
struct Search {
    looked: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
}

impl Search {
    fn look(&mut self, place: PathBuf) {
        for folder in expand(&place) {
            self.add(folder);
        }
        self.looked.push(place);
    }

    fn add(&mut self, folder: PathBuf) {
        let has_any = has(&folder, "postgres") || has(&folder, "pg_dump");
        let Ok(real) = folder.canonicalize() else {
            return;
        };
        if has_any && self.seen.insert(real) {
            self.folders.push(folder);
        }
    }

    /// Asks the first `pg_config` where its programs are, then takes folders that have a server.
    async fn look_on_path(&mut self, path: &OsString) {
        let folders: Vec<_> = std::env::split_paths(path).collect();
        let pg_config = folders.iter().find(|folder| has(folder, "pg_config"));
        if let Some(folder) = pg_config {
            let answer = run(&folder.join("pg_config"), "--bindir").await;
            if let Ok(bin) = answer {
                self.look(PathBuf::from(bin));
            }
        }
        self.looked.push(PathBuf::from("PATH"));
        for folder in folders.into_iter().filter(|folder| has(folder, "postgres")) {
            self.add(folder);
        }
    }
}

/// The folders that a place stands for, by ascending version, so that two searches find the same.
fn expand(place: &Path) -> Vec<PathBuf> {
    let text = place.to_string_lossy();
    let Some((before, after)) = text.split_once('*') else {
        return vec![place.to_owned()];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = std::fs::read_dir(if parent.is_empty() { "/" } else { parent }) else {
        return Vec::new();
    };
    let version_of = |name: &str| -> Option<u16> { name.strip_prefix(prefix)?.parse().ok() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut versions: Vec<_> = names.filter_map(|name| version_of(&name)).collect();
    versions.sort_unstable();
    let folder = |version| PathBuf::from(format!("{parent}/{prefix}{version}{after}"));
    versions.into_iter().map(folder).collect()
}

fn has(folder: &Path, program: &str) -> bool {
    let found = std::fs::metadata(folder.join(program));
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Asks the programs of a folder for their version; the error is what they answered instead.
async fn examine(bin: &Path) -> Result<Installation, String> {
    let server = has(bin, "postgres");
    let asked = if server { "postgres" } else { "pg_dump" };
    let answer = run(&bin.join(asked), "--version").await?;
    let (major, full_version) =
        parse_version(&answer).ok_or_else(|| format!("{asked} --version says {answer:?}"))?;
    let has = Programs {
        server: server && has(bin, "initdb"),
        pg_dump: has(bin, "pg_dump"),
        psql: has(bin, "psql"),
    };
    Ok(Installation {
        major,
        full_version,
        bin: bin.to_owned(),
        has,
    })
}

/// The first line of what a program prints for one argument.
async fn run(program: &Path, argument: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command
        .arg(argument)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(VERSION_TIME_MAX, command.output()).await;
    let output = match ended {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("it does not start: {error}")),
        Err(_) => return Err(format!("no answer in {} s", VERSION_TIME_MAX.as_secs())),
    };
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let mut answer = text(&output.stderr);
    if answer.is_empty() {
        write!(answer, "it ended with {}", output.status).expect("a String takes any text");
    }
    Err(answer)
}

/// `postgres (PostgreSQL) 16.14 (Debian 16.14-1)` names version 16.14; betas and `devel` keep their suffix.
fn parse_version(answer: &str) -> Option<(PgMajor, String)> {
    let (_, version) = answer.split_once("(PostgreSQL) ")?;
    let version = version.split_whitespace().next()?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((PgMajor(digits.parse().ok()?), version.to_owned()))
}

#[cfg(test)]
mod tests;

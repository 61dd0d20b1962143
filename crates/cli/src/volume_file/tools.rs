//! Programs of the system that make and mount filesystems: run to their end, their complaints kept.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, Stdio};

/// Where the system's programs are when `sudo` or a service has a short `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Lines of a program's complaint that an error shows.
const LINES_MAX: usize = 3;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    /// It is not there, or cannot be run.
    #[error("cannot run {program}")]
    Run {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// The last lines that it printed.
        said: String,
    },
    /// A file of the system's configuration.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ToolError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Run {
                program,
                package,
                source,
            } if source.kind() == io::ErrorKind::NotFound => Some(format!(
                "{program} is in the package {package}, such as: sudo apt-get install {package}"
            )),
            Self::Run { .. } | Self::Failed { .. } | Self::File { .. } => None,
        }
    }
}

/// A program with its arguments.
#[derive(Debug)]
pub(super) struct Tool {
    program: &'static str,
    package: &'static str,
    arguments: Vec<OsString>,
}

impl Tool {
    pub(super) fn new(program: &'static str, package: &'static str) -> Self {
        Self {
            program,
            package,
            arguments: Vec::new(),
        }
    }

    pub(super) fn with<T: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        let more = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned());
        self.arguments.extend(more);
        self
    }

    pub(super) fn run(self) -> Result<(), ToolError> {
        let program = self.program;
        let output = Command::new(program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ToolError::Run {
                program,
                package: self.package,
                source,
            })?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stderr, output.stdout].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let first = lines
            .iter()
            .take(LINES_MAX)
            .copied()
            .collect::<Vec<_>>()
            .join("; ");
        Err(ToolError::Failed {
            program,
            said: if first.is_empty() {
                output.status.to_string()
            } else {
                first
            },
        })
    }
}

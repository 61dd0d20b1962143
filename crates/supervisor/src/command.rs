//! What is run, and its start.
//!
//! Owns the way from a command line to a running process, and the errors that shells know as 126 and 127.
//! Leaves to `child` everything after the start.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use model::ExitCode;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::Rlimit;

use crate::disposition::{AllBlocked, reset_in_child};
use crate::limits::restore_descriptors_in_child;
use crate::lookup::{Candidate, Lookup, find};
use crate::namespaces::Joining;
use crate::process::Process;
use crate::signals::SignalsError;

/// A command, complete: the child gets this and nothing of this process's own.
#[derive(Debug)]
pub struct Command {
    /// The program: a path if it holds a slash, else searched along the `PATH` of `env`.
    pub program: OsString,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Where it reads and writes.
    pub output: Output,
}

/// The child's standard input, output and error.
#[derive(Debug)]
pub enum Output {
    /// All three are this process's own.
    Inherit,
    /// It reads nothing, and writes both to this file.
    File(File),
}

/// How a command is started.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// By itself.
    Plain,
    /// In a filtered thread, for a session that is looked into, with this limit of descriptors.
    Guarded(Rlimit),
    /// In the namespaces of another process.
    Within(Joining),
}

/// Why the command did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No file of that name is there.
    #[error("cannot find the program {0:?}")]
    NotFound(OsString),
    /// The file is there and cannot be executed: no permission, a directory, a missing interpreter, another machine's.
    #[error("cannot execute {path:?}")]
    NotExecutable {
        /// The file that the search chose.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file may be executed and not read. The kernel then lets nobody look into its process (ptrace(2)), and so
    /// neither the session's guard.
    #[error("cannot guard {0:?}, which may be executed and not read")]
    Unguardable(PathBuf),
    /// The working directory cannot be entered.
    #[error("cannot enter the directory {path:?}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A variable that no environment can hold: `=` or NUL in its name, NUL in its value, or no name.
    #[error(
        "cannot pass on the environment variable {0:?}: a name may not be empty or hold '=', and neither name nor value a NUL"
    )]
    Variable(OsString),
    /// An argument that no command line can hold: a NUL in it.
    #[error("cannot pass on an argument with a NUL in it: number {0}")]
    Argument(usize),
    /// This process cannot stand between the child and its signals.
    #[error("cannot prepare for the program's signals")]
    Signals(#[from] SignalsError),
    /// This process or the machine has run out of something.
    #[error("cannot start a process for {path:?}")]
    Start {
        /// The file that the search chose.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SpawnError {
    /// The exit code that shells have for it (POSIX, Shell Command Language, 2.8.2), or ours.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotFound(_) => ExitCode::NotFound,
            Self::NotExecutable { .. } => ExitCode::NotExecutable,
            Self::Unguardable(_) => ExitCode::Branch,
            Self::Variable(_) | Self::Argument(_) => ExitCode::Usage,
            Self::Directory { .. } | Self::Signals(_) | Self::Start { .. } => ExitCode::Internal,
        }
    }
}

impl Command {
    /// Starts it, with the signal mask and the ignored signals that this process was started with, and no handler of ours.
    pub(crate) fn start(self, how: Start) -> Result<Process, SpawnError> {
        self.check_text()?;
        let file = self.find_program()?;
        if let Start::Guarded(_) = how
            && accessat(CWD, self.cwd.join(&file), Access::READ_OK, AtFlags::EACCESS).is_err()
        {
            return Err(SpawnError::Unguardable(file));
        }
        let (stdin, stdout, stderr) = self.output.open().map_err(|source| SpawnError::Start {
            path: file.clone(),
            source,
        })?;
        let mut command = std::process::Command::new(&file);
        command
            .arg0(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.cwd)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let directory = CString::new(self.cwd.as_os_str().as_bytes())
            .expect("a directory that was looked at has no NUL in its name");
        let pid = spawn_blocked(&mut command, how, directory)
            .map_err(|source| spawn_error(file, source))?;
        // A child that nobody has waited for is in /proc even after its end. What hides it is a mount of /proc with
        // `hidepid` and a setuid program, which could not be signalled either: its pid is all that is needed then.
        Ok(Process::of(pid).unwrap_or(Process::from_parts(pid, 0)))
    }

    fn check_text(&self) -> Result<(), SpawnError> {
        let has = |text: &OsStr, byte| text.as_bytes().contains(&byte);
        for (name, value) in &self.env {
            if name.is_empty() || has(name, b'=') || has(name, 0) || has(value, 0) {
                return Err(SpawnError::Variable(name.clone()));
            }
        }
        match self.args.iter().position(|arg| has(arg, 0)) {
            Some(index) => Err(SpawnError::Argument(index + 1)),
            None => Ok(()),
        }
    }

    fn find_program(&self) -> Result<PathBuf, SpawnError> {
        // chdir(2) would fail in the child, where its error cannot be told from exec's.
        check_directory(&self.cwd).map_err(|source| SpawnError::Directory {
            path: self.cwd.clone(),
            source,
        })?;
        let path = self.env.get(OsStr::new("PATH"));
        let examine = |file: &Path| examine(&self.cwd.join(file));
        match find(&self.program, path.map(OsString::as_os_str), examine) {
            Lookup::Found(file) => Ok(file),
            Lookup::Denied(path) => Err(SpawnError::NotExecutable {
                path,
                source: Errno::ACCESS.into(),
            }),
            Lookup::Missing => Err(SpawnError::NotFound(self.program.clone())),
        }
    }
}

impl Output {
    fn open(&self) -> io::Result<(Stdio, Stdio, Stdio)> {
        match self {
            Self::Inherit => Ok((Stdio::inherit(), Stdio::inherit(), Stdio::inherit())),
            Self::File(file) => Ok((
                Stdio::null(),
                file.try_clone()?.into(),
                file.try_clone()?.into(),
            )),
        }
    }
}

fn check_directory(path: &Path) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        return Err(Errno::NOTDIR.into());
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    Ok(())
}

fn examine(file: &Path) -> Candidate {
    match fs::metadata(file) {
        Ok(metadata) if !metadata.is_file() => Candidate::Denied,
        Ok(_) => match accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => Candidate::Executable,
            Err(_) => Candidate::Denied,
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Candidate::Hidden,
        Err(_) => Candidate::Missing,
    }
}

/// Forks and executes with all signals blocked until the child has none of our handlers.
fn spawn_blocked(
    command: &mut std::process::Command,
    how: Start,
    directory: CString,
) -> io::Result<i32> {
    let blocked = AllBlocked::new()?;
    let mask = blocked.before();
    #[expect(
        unsafe_code,
        reason = "the child's dispositions are set between fork and exec"
    )]
    // SAFETY: the closure calls only async-signal-safe functions, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            reset_in_child(&mask);
            match how {
                Start::Plain => {}
                Start::Guarded(limit) => restore_descriptors_in_child(limit),
                Start::Within(namespaces) => namespaces.join_in_child(&directory)?,
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    Ok(i32::try_from(child.id()).expect("a pid is a positive i32"))
}

fn spawn_error(path: PathBuf, source: io::Error) -> SpawnError {
    // fork(2) fails by these two; an exec that does has found the machine in the same state.
    let is_shortage = matches!(
        Errno::from_io_error(&source),
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE)
    );
    if is_shortage {
        SpawnError::Start { path, source }
    } else {
        SpawnError::NotExecutable { path, source }
    }
}

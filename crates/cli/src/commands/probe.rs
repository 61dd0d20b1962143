//! `bough probe`: one thing of the machine tried by doing it, in a process of its own. `doctor` runs it.

use std::io;

use clap::{Args, Subcommand};
use model::ExitCode;
use nix::sched::{CloneFlags, unshare};

use crate::error::CommandError;

/// Try one thing of this machine by doing it
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// A user namespace with a network namespace inside it
    UserNamespace,
}

/// What this machine does not let us do.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("cannot make a user namespace")]
    User(#[source] nix::Error),
    #[error("cannot map the account into the namespace by {file}")]
    Map {
        file: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot make a network namespace inside it")]
    Network(#[source] nix::Error),
}

/// Tries it. Must run while the process has one thread: the kernel makes user namespaces for no other (unshare(2)).
pub(crate) fn run(args: &ProbeArgs) -> Result<ExitCode, CommandError> {
    let tried = match args.what {
        What::UserNamespace => try_user_namespace(),
    };
    match tried {
        Ok(()) => Ok(ExitCode::Success),
        Err(error) => Err(CommandError::new(ExitCode::Internal, error)),
    }
}

fn try_user_namespace() -> Result<(), ProbeError> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    unshare(CloneFlags::CLONE_NEWUSER).map_err(ProbeError::User)?;
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps {
        std::fs::write(file, text).map_err(|source| ProbeError::Map { file, source })?;
    }
    // Distributions that restrict user namespaces let them be made, and take the rights inside them away.
    unshare(CloneFlags::CLONE_NEWNET).map_err(ProbeError::Network)
}

//! `bough probe`: one thing of the machine tried by doing it, in a process of its own. `doctor` runs it.

use std::io;
use std::net::Ipv4Addr;

use agent::relay::{Ground, RelayError, Settings};
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
    /// Rules for a target's traffic, in a network namespace
    Incoming,
    /// Nothing: wait for the end of standard input
    Wait,
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
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error("cannot set rules there")]
    Incoming(#[source] std::io::Error),
}

/// Tries it. Must run while the process has one thread: the kernel makes user namespaces for no other (unshare(2)).
pub(crate) fn run(args: &ProbeArgs) -> Result<ExitCode, CommandError> {
    let tried = match args.what {
        What::UserNamespace => try_user_namespace(),
        What::Incoming => try_incoming(),
        What::Wait => {
            // Whatever is said, its end is what counts.
            let _said = io::copy(&mut io::stdin(), &mut io::sink());
            Ok(())
        }
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

fn try_incoming() -> Result<(), ProbeError> {
    let settings = Settings {
        address: Ipv4Addr::new(198, 18, 0, 1),
        folder: std::path::PathBuf::new(),
        published: Vec::new(),
        ground: Ground::New,
    };
    let _inside = agent::relay::enter(settings)?;
    agent::try_incoming().map_err(ProbeError::Incoming)
}

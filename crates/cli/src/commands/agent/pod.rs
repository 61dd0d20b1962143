//! `bough agent pod`: this process is the agent of one pod, as an ephemeral container of it.
//!
//! Owns what surrounds the agent there: a port on the pod's loopback, which port-forwarding leads to; a key that it draws
//! itself and keeps in its container's own files, where `invite` finds it; its end with its last session.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::{Listener, RunError, Settings};
use clap::Args;
use model::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use wire::AgentKey;

use super::{runtime, say};
use crate::contexts::local::READY;
use crate::contexts::{AGENT_FOLDER, AgentPlace};
use crate::error::CommandError;

/// For how long a session whose link is lost is kept: as long as sessions try to come back.
const GRACE: Duration = Duration::from_secs(15 * 60);

/// How long an agent waits for the next session: ephemeral containers are never removed, so that the next one within a
/// minute had better use this.
const IDLE: Duration = Duration::from_secs(60);

/// Serve the sessions of one pod, until nobody is there
#[derive(Debug, Args)]
pub(super) struct PodArgs {
    /// The target's process, as this container sees it
    #[arg(long, value_name = "PID")]
    process: Option<u32>,

    /// Why the pod's ports are not to be mirrored or stolen
    #[arg(long, value_name = "WHY")]
    hands_off: Option<String>,

    /// Where key and port are kept
    #[arg(long, value_name = "DIR", default_value = AGENT_FOLDER)]
    folder: PathBuf,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
enum PodAgentError {
    #[error("cannot listen on the pod's loopback")]
    Listen(#[source] io::Error),
    #[error("cannot keep the agent's key in {path:?}")]
    Place {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot wait for the container's end")]
    Wait(#[source] io::Error),
    #[error("the agent cannot run")]
    Run(#[source] RunError),
}

/// Serves until nobody is there, or until TERM.
pub(super) fn run(args: &PodArgs) -> Result<(), CommandError> {
    runtime()?
        .block_on(serve(args))
        .map_err(|error| CommandError::new(ExitCode::Internal, error))
}

async fn serve(args: &PodArgs) -> Result<(), PodAgentError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(PodAgentError::Wait)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(PodAgentError::Listen)?;
    let port = listener.local_addr().map_err(PodAgentError::Listen)?.port();
    let key = AgentKey::new(rand::random());
    let place = AgentPlace {
        port,
        key: key.clone(),
    };
    write(&args.folder, &place).map_err(|source| PodAgentError::Place {
        path: args.folder.clone(),
        source,
    })?;
    let settings = Settings {
        key,
        // The kubelet gives every container of a pod the same two files.
        resolv_conf: "/etc/resolv.conf".into(),
        hosts: "/etc/hosts".into(),
        root: args.process.map_or_else(
            || "/".into(),
            |process| format!("/proc/{process}/root").into(),
        ),
        process: args.process,
        grace: GRACE,
        idle: Some(IDLE),
        hands_off: args.hands_off.clone(),
    };
    say(READY);
    let end = async {
        terminate.recv().await;
    };
    agent::run(settings, Listener::Tcp(listener), end)
        .await
        .map_err(PodAgentError::Run)
}

/// Writes key and port for `invite`, whole or not at all.
fn write(folder: &Path, place: &AgentPlace) -> io::Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(folder)?;
    let next = folder.join("place.next");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&next)?.write_all(place.text().as_bytes())?;
    std::fs::rename(next, folder.join("place"))
}

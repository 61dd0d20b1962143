//! `bough agent run`: this process is the agent of one target. A target's keeper starts it.
//!
//! Owns what surrounds the agent: its socket, its key, and its end with the target. Leaves the rest to the crate
//! `agent`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::relay::EnterError;
use agent::{Listener, RunError, Settings};
use clap::Args;
use model::ExitCode;
use supervisor::Process;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use wire::AgentKey;

use super::{runtime, say};
use crate::contexts::hex;
use crate::contexts::local::READY;
use crate::error::CommandError;

/// For how long a session whose link is lost is kept: a laptop that sleeps over lunch finds it again. Stolen ports do not
/// wait for one that was killed; the connections that it made do.
const GRACE: Duration = Duration::from_secs(3600);

/// Serve the sessions of one target, until it ends
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Where sessions come to; a socket that was left there is replaced
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,

    /// Where programs without a session come to, for a SOCKS5 proxy; one that was left there is replaced
    #[arg(long, value_name = "PATH")]
    proxy_socket: Option<PathBuf>,

    /// The file with the agent's key, 64 hexadecimal digits, for its owner alone
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,

    /// The target's process
    #[arg(long, value_name = "PID")]
    process: i32,

    /// The target's resolver configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,

    /// The target's table of hosts
    #[arg(long, value_name = "FILE", default_value = "/etc/hosts")]
    hosts: PathBuf,

    /// Enter the target's namespaces first
    #[arg(long)]
    join: bool,

    /// Why the target's ports are not to be mirrored or stolen
    #[arg(long, value_name = "WHY")]
    hands_off: Option<String>,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("cannot read the agent's key from {path:?}")]
    Key {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot be the agent of process {0}: it is gone")]
    NoProcess(i32),
    #[error("cannot enter the target's network")]
    Enter(#[source] EnterError),
    #[error("cannot listen on {path:?}")]
    Listen {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot wait for the target's end")]
    Wait(#[source] io::Error),
    #[error("the agent cannot run")]
    Run(#[source] RunError),
}

/// Serves until the target ends, or until TERM.
pub(super) fn run(args: &RunArgs) -> Result<(), CommandError> {
    let failed = |error| CommandError::new(ExitCode::Internal, error);
    if args.join {
        let joined = agent::relay::join(args.process);
        joined.map_err(|error| failed(AgentError::Enter(error)))?;
    }
    runtime()?.block_on(serve(args)).map_err(failed)
}

async fn serve(args: &RunArgs) -> Result<(), AgentError> {
    let key = read_key(&args.key_file)?;
    let target = Process::of(args.process).ok_or(AgentError::NoProcess(args.process))?;
    let settings = Settings {
        key,
        resolv_conf: args.resolv_conf.clone(),
        hosts: args.hosts.clone(),
        root: "/".into(),
        process: u32::try_from(args.process).ok(),
        grace: GRACE,
        idle: None,
        hands_off: args.hands_off.clone(),
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Wait)?;
    let listener = open(&args.socket)?;
    let proxy_listener = args.proxy_socket.as_deref().map(open).transpose()?;
    say(READY);
    let end = async {
        tokio::select! {
            // One that cannot be waited for is looked after by its keeper, which ends this process.
            ended = target.ended() => if ended.is_err() { std::future::pending().await },
            _ = terminate.recv() => {}
        }
    };
    let proxy_settings = settings.clone();
    let proxy = async {
        match proxy_listener {
            Some(listener) => agent::proxy::serve(&proxy_settings, listener).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = agent::run(settings, Listener::Unix(listener), end) => ended.map_err(AgentError::Run),
        never = proxy => match never {},
    }
}

fn read_key(path: &Path) -> Result<AgentKey, AgentError> {
    let error = |source| AgentError::Key {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(error)?;
    let key = hex::parse(text.trim_end()).map(AgentKey::new);
    key.ok_or_else(|| error(io::Error::other("it holds no key")))
}

fn open(path: &Path) -> Result<UnixListener, AgentError> {
    listen(path).map_err(|source| AgentError::Listen {
        path: path.to_owned(),
        source,
    })
}

/// A socket for the owner alone, in place of one that an earlier agent left.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

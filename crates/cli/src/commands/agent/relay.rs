//! `bough agent relay`: this process holds a target's network namespace, and is its way out and in.
//!
//! ```text
//!   keeper ──▶ relay: published ports are taken outside ─▶ namespaces ─▶ rules ─▶ "ready"
//!          ◀── ready | forbidden WHY | taken WHY
//!   keeper ──▶ PID of the target, which it started in here; the relay ends with it
//! ```

use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use agent::relay::{Ground, Published, RelayError, Settings};
use clap::Args;
use model::ExitCode;
use supervisor::Process;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::{runtime, say};
use crate::contexts::local::{FORBIDDEN, READY, TAKEN};
use crate::error::CommandError;

/// Hold a target's network, and be its way out and in, until the target ends
#[derive(Debug, Args)]
pub(super) struct RelayArgs {
    /// The target's folder
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,

    /// The target's address
    #[arg(long, value_name = "IP")]
    address: Ipv4Addr,

    /// An address of this machine that leads to a port of the target
    #[arg(long, value_name = "ADDRESS=PORT", value_parser = parse_published)]
    publish: Vec<Published>,

    /// The target's process, whose namespaces are there already; without it, its number is read from standard input
    #[arg(long, value_name = "PID")]
    join: Option<i32>,
}

fn parse_published(text: &str) -> Result<Published, String> {
    let parsed = text.split_once('=').and_then(|(host, port)| {
        let host: SocketAddr = host.parse().ok()?;
        let port = port.parse().ok()?;
        Some(Published { host, port })
    });
    parsed.ok_or_else(|| "expected ADDRESS:PORT=PORT".to_owned())
}

/// Signals cannot be waited for.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for signals")]
struct SignalsFailure(#[source] io::Error);

/// Relays until the target ends.
pub(super) fn run(args: &RelayArgs) -> Result<(), CommandError> {
    let settings = Settings {
        address: args.address,
        folder: args.folder.clone(),
        published: args.publish.clone(),
        ground: args.join.map_or(Ground::New, Ground::Of),
    };
    let relay = agent::relay::enter(settings).map_err(refuse)?;
    runtime()?.block_on(async {
        // Whoever ends the target's processes ends this one by that: it is needed until the last of them is gone.
        let mut deaf = Vec::new();
        for kind in [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ] {
            let ignored = signal(kind)
                .map_err(|error| CommandError::new(ExitCode::Internal, SignalsFailure(error)))?;
            deaf.push(ignored);
        }
        let joined = args.join;
        let target_ended = async move {
            let target = match joined {
                Some(pid) => Some(pid),
                None => hear_target().await,
            };
            // One that cannot be waited for is gone, or there has never been one.
            if let Some(target) = target.and_then(Process::of) {
                let _gone = target.ended().await;
            }
        };
        let served = relay.serve(|| say(READY), target_ended).await;
        drop(deaf);
        served.map_err(refuse)
    })
}

/// The target's number, once its keeper says it; none where he is gone before.
async fn hear_target() -> Option<i32> {
    let (heard_tx, heard_rx) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        let target = read.ok().and_then(|_| line.trim().parse().ok());
        // The relay may be over.
        let _unheard = heard_tx.send(target);
    });
    heard_rx.await.ok().flatten()
}

/// Tells whoever waits why there is no relay.
fn refuse(error: RelayError) -> CommandError {
    let word = match &error {
        RelayError::Publish { .. } => TAKEN,
        RelayError::Enter(_) | RelayError::Network { .. } => FORBIDDEN,
    };
    let failure = CommandError::new(ExitCode::Internal, error);
    say(&format!("{word} {}", failure.message()));
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_port_is_an_address_and_a_port() {
        let published = parse_published("127.0.0.1:18082=8082").unwrap();
        assert_eq!(published.host.to_string(), "127.0.0.1:18082");
        assert_eq!(published.port, 8082);
        for bad in ["", "1=2", "127.0.0.1:1", "127.0.0.1:1=x"] {
            assert!(parse_published(bad).is_err(), "{bad}");
        }
    }
}

//! What a session's network costs: connects that are redirected, calls that nobody asks about, bytes through the agent.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use fixtures::Program;
use serde_json::{Value, json};

use super::{pairs, timed};
use crate::bench::engine::Engine;
use crate::bench::relay::Tap;
use crate::bench::row::Row;
use crate::bench::stage::Scene;
use crate::bench::stopwatch::median;
use crate::command::capture;

/// How long one session may take; the first one copies the source.
const SESSION_TIME_MAX: Duration = Duration::from_secs(600);

/// Bytes that a server sends to each client.
const SENT_BYTES: usize = 512 << 20;

/// The target and its namespace.
const TARGET: &str = "deployment/bench";
const NAMESPACE: &str = "bench";

/// What a session's network is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Traffic {
    /// Connects to a fenced source.
    Redirected,
    /// Calls that have nothing to do with networks, in a session with a fence.
    OtherCalls,
    /// Connects that the target makes.
    Connects,
    /// Bytes through the agent of a target in this machine's network.
    Bytes,
    /// Bytes through the agent of a target in a network of its own, whose way out is a relay.
    BytesOfOwnNetwork,
}

impl Traffic {
    pub(in crate::bench) const ALL: [Self; 5] = [
        Self::Redirected,
        Self::OtherCalls,
        Self::Connects,
        Self::Bytes,
        Self::BytesOfOwnNetwork,
    ];

    /// The row's name.
    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Redirected => "connect_redirected",
            Self::OtherCalls => "other_calls_in_session",
            Self::Connects => "connect_through_agent",
            Self::Bytes => "agent_throughput",
            Self::BytesOfOwnNetwork => "agent_throughput_own_network",
        }
    }
}

/// One row.
pub(super) fn measure(scene: &mut Scene<'_>, traffic: Traffic, runs: u32) -> Result<Row> {
    match traffic {
        Traffic::Redirected => redirected(scene, runs),
        Traffic::OtherCalls => other_calls(scene, runs),
        Traffic::Connects => connects(scene, runs),
        Traffic::Bytes => bytes(scene, traffic, "machine", runs),
        Traffic::BytesOfOwnNetwork => bytes(scene, traffic, "own", runs),
    }
}

fn redirected(scene: &mut Scene<'_>, runs: u32) -> Result<Row> {
    let url = scene.source.url();
    let address = address_of(&url)?;
    let session = Session::on_branch(scene.engine, &url)?;
    let ours = |_| session.probe(&["connect", &address]);
    let theirs = |_| bare(scene.engine, &["connect", &address]);
    let (ours, theirs) = pairs(runs, ours, theirs)?;
    let row = timed(Traffic::Redirected.name(), &ours, "native", &theirs);
    let enough = median(&ours) <= 40.0;
    Ok(microseconds(row).goal("median <= 40 us", enough))
}

fn other_calls(scene: &mut Scene<'_>, runs: u32) -> Result<Row> {
    let url = scene.source.url();
    let session = Session::on_branch(scene.engine, &url)?;
    let ours = |_| session.probe(&["call"]);
    let theirs = |_| bare(scene.engine, &["call"]);
    let (ours, theirs) = pairs(runs, ours, theirs)?;
    let over = median(&ours) - median(&theirs);
    let mut row = timed(Traffic::OtherCalls.name(), &ours, "native", &theirs).value(over);
    row.unit = "ns".to_owned();
    Ok(row.goal("<= 30 ns over native", over <= 30.0))
}

fn connects(scene: &mut Scene<'_>, runs: u32) -> Result<Row> {
    let address = serve(0)?.to_string();
    let session = Session::at_target(scene.engine, "machine")?;
    let ours = |_| session.probe(&["connect", &address]);
    let theirs = |_| bare(scene.engine, &["connect", &address]);
    let (ours, theirs) = pairs(runs, ours, theirs)?;
    let row = timed(Traffic::Connects.name(), &ours, "native", &theirs);
    Ok(microseconds(row).note("the target makes each connection, and the program has its outcome"))
}

fn bytes(scene: &mut Scene<'_>, traffic: Traffic, network: &str, runs: u32) -> Result<Row> {
    let server = serve(SENT_BYTES)?;
    let relay = Tap::open(server.port())?;
    let through_relay = SocketAddr::from((Ipv4Addr::LOCALHOST, relay.port())).to_string();
    let address = server.to_string();
    let session = Session::at_target(scene.engine, network)?;
    let ours = |_| session.probe(&["receive", &address]);
    let theirs = |_| bare(scene.engine, &["receive", &through_relay]);
    let (ours, theirs) = pairs(runs, ours, theirs)?;
    let mut row = timed(traffic.name(), &ours, "a plain TCP relay", &theirs);
    row.unit = "MB/s".to_owned();
    // The lower end is what matters of a rate.
    row.p95 = None;
    let enough = row.ratio.is_some_and(|ratio| ratio >= 0.7);
    Ok(row.goal(">= 70% of a plain TCP relay", enough))
}

/// A row whose numbers are microseconds already.
fn microseconds(row: Row) -> Row {
    Row {
        unit: "us".to_owned(),
        ..row
    }
}

/// Sends so many bytes to each client and closes. Lives as long as this program.
fn serve(bytes: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("open a server")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || send(client, bytes));
        }
    });
    Ok(address)
}

fn send(mut client: TcpStream, bytes: usize) {
    let chunk = vec![0; 256 * 1024];
    for _ in 0..bytes / chunk.len() {
        // A client that has gone says so itself.
        if client.write_all(&chunk).is_err() {
            return;
        }
    }
}

/// `HOST:PORT` of a URL.
fn address_of(url: &str) -> Result<String> {
    let config: tokio_postgres::Config = url.parse().context("read the source's URL")?;
    let port = config.get_ports().first().context("the URL has a port")?;
    Ok(format!("127.0.0.1:{port}"))
}

/// What the program that is measured says without a session.
fn bare(engine: &Engine, words: &[&str]) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.arg("probe").args(words);
    ask(command, engine.home())
}

fn ask(command: Command, directory: &Path) -> Result<f64> {
    let program = Program::start(command, directory, "probe")?;
    let said = program.finish(SESSION_TIME_MAX)?.success()?;
    said.trim()
        .parse()
        .with_context(|| format!("no number: {said:?}"))
}

/// Sessions of one kind, and what they stand on. Dropping it ends that.
struct Session<'a> {
    engine: &'a Engine,
    config: PathBuf,
    url: Option<String>,
    has_target: bool,
}

impl<'a> Session<'a> {
    /// Sessions on a branch of the source behind `url`, without a target.
    fn on_branch(engine: &'a Engine, url: &str) -> Result<Self> {
        let branch = json!({
            "id": "network", "type": "pg", "ttl_secs": 900, "connection": {"url": "DATABASE_URL"},
            "copy": {"mode": "all"},
        });
        let config = json!({
            "target": "targetless", "operator": true,
            "feature": {"network": false, "fs": "local", "db_branches": [branch]},
        });
        Ok(Self {
            config: write(engine, &config)?,
            engine,
            url: Some(url.to_owned()),
            has_target: false,
        })
    }

    /// Sessions at a target that does nothing, in this network.
    fn at_target(engine: &'a Engine, network: &str) -> Result<Self> {
        let (kind, name) = TARGET.split_once('/').context("a target has a kind")?;
        let config = json!({
            "target": {"path": {kind: name}, "namespace": NAMESPACE},
            "feature": {"network": {"incoming": "off", "outgoing": true}, "fs": "local"},
        });
        let config = write(engine, &config)?;
        let mut command = engine.command();
        command.args([
            "local",
            "run",
            TARGET,
            "-n",
            NAMESPACE,
            "--network",
            network,
        ]);
        command.args(["--", "sleep", "100000"]);
        let started = Program::start(command, engine.home(), "target")?;
        started.finish(SESSION_TIME_MAX)?.success()?;
        Ok(Self {
            engine,
            config,
            url: None,
            has_target: true,
        })
    }

    /// What the program that is measured says in a session of its own.
    fn probe(&self, words: &[&str]) -> Result<f64> {
        let mut command = self.engine.command();
        command.args(["exec", "-q", "-f"]).arg(&self.config);
        command.arg("--").arg(std::env::current_exe()?);
        command.arg("probe").args(words);
        if let Some(url) = &self.url {
            command.env("DATABASE_URL", url);
        }
        ask(command, self.engine.home())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut command = self.engine.command();
        if self.has_target {
            command.args(["local", "stop", TARGET, "-n", NAMESPACE]);
        } else {
            command.args(["db-branches", "destroy", "network"]);
        }
        // The engine's own end is the end of what stays.
        let _stays = capture(&mut command);
    }
}

fn write(engine: &Engine, config: &Value) -> Result<PathBuf> {
    let path = engine.home().join("network.json");
    std::fs::write(&path, config.to_string())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

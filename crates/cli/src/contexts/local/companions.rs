//! The programs that a keeper runs beside its target: the relay, which holds the target's network, and the agent.
//!
//! ```text
//!   relay ── "ready" ──▶ the target starts in its namespaces ──▶ agent, which joins them ── "ready"
//!         └─ "forbidden" ──▶ the target shares the machine's network ──▶ agent, which takes no port
//! ```
//!
//! Owns their start, and starting them anew when one was killed. Both end with the target by themselves, so that a
//! keeper that is killed takes neither away.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervisor::{Namespaces, Process};

use super::names;
use super::place::Place;

/// This very program, also where its file was replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// How long a companion may take to be ready: it makes namespaces and opens a few sockets.
const READY_WAIT: Duration = Duration::from_secs(10);

/// The pause before a companion that died is started anew: one that cannot live does not keep the machine busy, and a
/// target's port is back within the second that is promised.
const RESTART_AFTER: Duration = Duration::from_millis(200);

/// What a companion says once it is ready.
pub(crate) const READY: &str = "ready";

/// What a relay says, before the reason, where the machine does not allow it.
pub(crate) const FORBIDDEN: &str = "forbidden";

/// What a relay says, before the reason, where a published port is somebody else's.
pub(crate) const TAKEN: &str = "taken";

/// What an agent lacks whose target shares the machine's network.
const HANDS_OFF: &str = "a network namespace of the target's own";

/// An address of this machine that leads to a port of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedPort {
    /// The address here.
    pub(crate) host: SocketAddr,
    /// The target's port.
    pub(crate) port: u16,
}

/// Why there is no relay.
#[derive(Debug)]
pub(super) enum NoRelay {
    /// The machine does not allow it.
    Forbidden(String),
    /// A published port is somebody else's.
    Taken(String),
}

/// The relay of a target that is to start.
#[derive(Debug)]
pub(super) struct Relay {
    companion: Companion,
    /// Closed without a word, it ends the relay.
    input: UnixStream,
    published: Vec<PublishedPort>,
}

impl Relay {
    /// Starts it, and waits until its namespaces are there.
    ///
    /// # Errors
    /// [`NoRelay`].
    pub(super) fn start(place: &Place, published: &[PublishedPort]) -> Result<Self, NoRelay> {
        let forbidden = |error: io::Error| NoRelay::Forbidden(error.to_string());
        place
            .write_hosts(&names::first_table())
            .map_err(forbidden)?;
        let (input, theirs) = UnixStream::pair().map_err(forbidden)?;
        let (ready, output) = Ready::pair().map_err(forbidden)?;
        let mut command = relay_command(place, published).map_err(forbidden)?;
        command.stdin(OwnedFd::from(theirs)).stdout(output);
        let companion = Companion::spawn(command).map_err(forbidden)?;
        let line = ready.line().map_err(forbidden)?;
        match line.split_once(' ') {
            None if line == READY => Ok(Self {
                companion,
                input,
                published: published.to_vec(),
            }),
            Some((TAKEN, why)) => Err(NoRelay::Taken(why.to_owned())),
            Some((FORBIDDEN, why)) => Err(NoRelay::Forbidden(why.to_owned())),
            Some(_) | None => Err(NoRelay::Forbidden("the relay ended at once".to_owned())),
        }
    }

    /// What a program is started in.
    ///
    /// # Errors
    /// When the relay is gone.
    pub(super) fn namespaces(&self) -> io::Result<Namespaces> {
        Namespaces::of(self.companion.process.pid())
    }
}

fn relay_command(place: &Place, published: &[PublishedPort]) -> io::Result<Command> {
    let mut command = Command::new(OWN_PROGRAM);
    let address = place
        .address()
        .ok_or_else(|| io::Error::other("the target has no address"))?;
    command.args(["agent", "relay", "--address", &address.to_string()]);
    command.arg("--folder").arg(place.path());
    for PublishedPort { host, port } in published {
        command.args(["--publish", &format!("{host}={port}")]);
    }
    command.stderr(place.create_log("relay")?);
    Ok(command)
}

/// The companions of one target.
#[derive(Debug)]
pub(super) struct Companions {
    place: Place,
    target: Process,
    relay: Option<Relay>,
    agent: Option<Companion>,
}

impl Companions {
    /// Tells the relay whom it lives for, starts the agent of `target`, and waits until it is ready.
    ///
    /// # Errors
    /// When one of them is not to be had; the target runs on without.
    pub(super) fn start(
        place: Place,
        target: Process,
        mut relay: Option<Relay>,
    ) -> (Self, io::Result<()>) {
        let told = match &mut relay {
            Some(relay) => writeln!(relay.input, "{}", target.pid()),
            None => Ok(()),
        };
        let mut companions = Self {
            place,
            target,
            relay,
            agent: None,
        };
        let started = told
            .and_then(|()| companions.start_agent())
            .and_then(|ready| match ready.line()?.as_str() {
                READY => Ok(()),
                _ => Err(io::Error::other("it ended at once")),
            });
        (companions, started)
    }

    fn start_agent(&mut self) -> io::Result<Ready> {
        let (ready, output) = Ready::pair()?;
        let mut command = Command::new(OWN_PROGRAM);
        command
            .args(["agent", "run", "--process"])
            .arg(self.target.pid().to_string())
            .arg("--socket")
            .arg(self.place.agent_socket())
            .arg("--key-file")
            .arg(self.place.key_file())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(self.place.create_log("agent")?);
        if self.relay.is_some() {
            command.arg("--join");
            command.arg("--proxy-socket").arg(self.place.proxy_socket());
        } else {
            command.args(["--hands-off", HANDS_OFF]);
        }
        self.agent = Some(Companion::spawn(command)?);
        Ok(ready)
    }

    fn restart_relay(&mut self) -> io::Result<()> {
        let Some(relay) = &mut self.relay else {
            return Ok(());
        };
        let mut command = relay_command(&self.place, &relay.published)?;
        command
            .args(["--join", &self.target.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        relay.companion = Companion::spawn(command)?;
        Ok(())
    }

    /// Waits until one of them is gone, and starts it anew. Cancel-safe.
    pub(super) async fn look_after(&mut self) {
        let relay = self.relay.as_ref().map(|relay| relay.companion.process);
        let agent = self.agent.as_ref().map(|companion| companion.process);
        let is_relay = tokio::select! {
            () = gone(relay) => true,
            () = gone(agent) => false,
        };
        tokio::time::sleep(RESTART_AFTER).await;
        if !self.target.is_alive() {
            // Its end is on its way to the keeper.
            return std::future::pending().await;
        }
        let companion = if is_relay {
            self.relay.as_mut().map(|relay| &mut relay.companion)
        } else {
            self.agent.as_mut()
        };
        if let Some(companion) = companion {
            // It has ended, so this does not wait.
            let _status = companion.child.wait();
        }
        let restarted = if is_relay {
            self.restart_relay()
        } else {
            self.start_agent().map(drop)
        };
        if let Err(error) = restarted {
            tracing::warn!(%error, is_relay, "a companion of the target does not start again");
        }
    }

    /// Lets go of them: they end with the target. What they were met in is removed.
    pub(super) fn end(self) {
        if let Some(agent) = &self.agent {
            // It may have been told of the end already; it tells its sessions.
            let _gone = agent.process.signal(rustix::process::Signal::TERM);
        }
        self.place.remove();
    }
}

/// Ends once `companion` has; never, where there is none or it cannot be waited for.
async fn gone(companion: Option<Process>) {
    if let Some(companion) = companion
        && companion.ended().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// One that runs, or did.
#[derive(Debug)]
struct Companion {
    child: std::process::Child,
    process: Process,
}

impl Companion {
    fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command.env_clear().current_dir("/").spawn()?;
        let pid = i32::try_from(child.id()).expect("a pid is a positive i32");
        let process = Process::of(pid).unwrap_or(Process::from_parts(pid, 0));
        Ok(Self { child, process })
    }
}

/// Our end of a companion's standard output.
struct Ready(UnixStream);

impl Ready {
    fn pair() -> io::Result<(Self, Stdio)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(READY_WAIT))?;
        Ok((Self(ours), OwnedFd::from(theirs).into()))
    }

    /// Its first line; empty where it ends without one.
    fn line(self) -> io::Result<String> {
        let mut line = String::new();
        BufReader::new(self.0).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

//! The programs that a keeper runs beside its target, and the folder where they are met.
//!
//! ```text
//!   <data dir>/targets/XXXXXXXXXXXX/   one a start of a target, with a random name; gone with the target's record
//!     agent.sock   where sessions come to        agent.key   what they prove themselves by
//!     agent.log    what the agent had to say
//! ```
//!
//! Owns their start, their end, and starting them anew when one was killed. The names are short, since paths of sockets
//! are (unix(7)); everything is the owner's alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use supervisor::Process;

use crate::commands::agent::parse_key;
use crate::contexts::AgentLink;

/// This very program, also where its file was replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// How long a helper may take to be ready: it opens a few sockets.
const READY_WAIT: Duration = Duration::from_secs(10);

/// The pause before a helper that died is started anew: one that cannot live does not keep the machine busy.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// What a helper writes to its standard output once it is ready.
pub(crate) const READY: &[u8] = b"ready\n";

/// Why targets that share the machine's network have their ports left alone.
const SHARED_NETWORK: &str = "a network namespace of the target's own";

/// The folder of one start of a target.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    /// A new one below `data_dir`, with a key for the agent in it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn make(data_dir: &Path) -> io::Result<Self> {
        let name = format!("{:012x}", rand::random::<u64>() >> 16);
        let place = Self {
            folder: data_dir.join("targets").join(name),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&place.folder)?;
        let key: [u8; wire::KEY_BYTES] = rand::random();
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        create(&place.key_file())?.write_all(digits.as_bytes())?;
        Ok(place)
    }

    /// The one that was written down.
    pub(super) fn of(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// How sessions come to the agent; none where it has never been ready.
    pub(super) fn agent_link(&self) -> Option<AgentLink> {
        let socket = self.socket();
        let key = fs::read_to_string(self.key_file()).ok()?;
        let key = parse_key(&key)?;
        socket.exists().then_some(AgentLink { socket, key })
    }

    /// Removes it. What cannot be removed is of no use to anybody without its processes.
    pub(super) fn remove(&self) {
        let _left = fs::remove_dir_all(&self.folder);
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }

    fn key_file(&self) -> PathBuf {
        self.folder.join("agent.key")
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

/// The helpers of one target.
#[derive(Debug)]
pub(super) struct Helpers {
    place: Place,
    target: Process,
    agent: Option<Helper>,
}

/// One that runs, or did.
#[derive(Debug)]
struct Helper {
    child: std::process::Child,
    process: Process,
}

impl Helpers {
    /// Starts what `target` needs beside it, and waits until it is ready.
    ///
    /// # Errors
    /// When a helper does not start; the target runs on without.
    pub(super) fn start(place: Place, target: Process) -> (Self, io::Result<()>) {
        let mut helpers = Self {
            place,
            target,
            agent: None,
        };
        let started = helpers.start_agent().and_then(|ready| ready.wait());
        (helpers, started)
    }

    fn start_agent(&mut self) -> io::Result<Ready> {
        let (ready, theirs) = Ready::pair()?;
        let log = create(&self.place.folder.join("agent.log"))?;
        let mut command = Command::new(OWN_PROGRAM);
        command
            .args(["agent", "run", "--process"])
            .arg(self.target.pid().to_string())
            .arg("--socket")
            .arg(self.place.socket())
            .arg("--key-file")
            .arg(self.place.key_file())
            .args(["--hands-off", SHARED_NETWORK])
            .stdout(theirs)
            .stderr(log);
        self.agent = Some(Helper::spawn(command)?);
        Ok(ready)
    }

    /// Waits until a helper is gone, and starts it anew. Cancel-safe; never ends where there is none.
    pub(super) async fn look_after(&mut self) {
        let Some(agent) = &self.agent else {
            return std::future::pending().await;
        };
        if agent.process.ended().await.is_err() {
            // It cannot be waited for, so nobody knows that it is gone.
            return std::future::pending().await;
        }
        tokio::time::sleep(RESTART_AFTER).await;
        if let Some(mut gone) = self.agent.take() {
            let _status = gone.child.wait();
        }
        if let Err(error) = self.start_agent() {
            tracing::warn!(%error, "the target's agent does not start again");
        }
    }

    /// Ends them, and removes where they were met.
    pub(super) fn end(mut self) {
        if let Some(mut agent) = self.agent.take() {
            // It ends with the target by itself, and tells its sessions; so it is not waited for.
            let _gone = agent.process.signal(rustix::process::Signal::TERM);
            let _status = agent.child.try_wait();
        }
        self.place.remove();
    }
}

impl Helper {
    fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).expect("a pid is a positive i32");
        let process = Process::of(pid).unwrap_or(Process::from_parts(pid, 0));
        Ok(Self { child, process })
    }
}

/// Our end of a helper's standard output.
struct Ready(UnixStream);

impl Ready {
    fn pair() -> io::Result<(Self, Stdio)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(READY_WAIT))?;
        Ok((Self(ours), OwnedFd::from(theirs).into()))
    }

    /// Waits for the word.
    fn wait(mut self) -> io::Result<()> {
        let mut word = [0; READY.len()];
        self.0.read_exact(&mut word)?;
        if word == READY {
            Ok(())
        } else {
            Err(io::Error::other("it says something else"))
        }
    }
}

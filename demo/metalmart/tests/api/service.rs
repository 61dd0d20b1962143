//! The service's process for a test: started with a scrubbed environment, watched through its log, never left behind.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// For anything the log is waited for; far above what it takes.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A service process; killed when dropped.
pub(crate) struct Service {
    process: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    text: String,
    ended: bool,
}

/// The command for a service over the database at `url`, on a port that the system chooses.
pub(crate) fn command(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inventory"));
    command
        .env_clear()
        .env("DATABASE_URL", url)
        .args(["--port", "0"]);
    command
}

impl Service {
    /// Starts a service and waits until it listens.
    pub(crate) fn start(url: &str) -> Self {
        let service = Self::launch(command(url));
        service.address();
        service
    }

    /// Starts a service without waiting.
    pub(crate) fn launch(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = process.stderr.take().unwrap();
        let log = Arc::new(Log::default());
        let written = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut state = written.state.lock().unwrap();
                state.text.push_str(&line);
                state.text.push('\n');
                written.changed.notify_all();
            }
            written.state.lock().unwrap().ended = true;
            written.changed.notify_all();
        });
        Self { process, log }
    }

    /// Where the service listens, once it does.
    pub(crate) fn address(&self) -> SocketAddr {
        let line = self.wait_for_line("listening address=");
        line.rsplit_once("address=")
            .unwrap()
            .1
            .trim()
            .parse()
            .unwrap()
    }

    /// Waits for the first line that contains `wanted`.
    pub(crate) fn wait_for_line(&self, wanted: &str) -> String {
        let find = |state: &LogState| {
            state
                .text
                .lines()
                .find(|line| line.contains(wanted))
                .map(str::to_owned)
        };
        let state = self.log.state.lock().unwrap();
        let waiting = |state: &mut LogState| !state.ended && find(state).is_none();
        let (state, _) = self
            .log
            .changed
            .wait_timeout_while(state, WAIT_MAX, waiting)
            .unwrap();
        let (found, text) = (find(&state), state.text.clone());
        // Released first: a panic would poison it for the thread that reads the log.
        drop(state);
        found.unwrap_or_else(|| panic!("the service never logged {wanted:?}:\n{text}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for the end of the process and gives its status and all it wrote.
    pub(crate) fn wait_end(mut self) -> (ExitStatus, String) {
        let state = self.log.state.lock().unwrap();
        let (state, _) = self
            .log
            .changed
            .wait_timeout_while(state, WAIT_MAX, |state| !state.ended)
            .unwrap();
        let (ended, text) = (state.ended, state.text.clone());
        drop(state);
        assert!(ended, "the service did not end:\n{text}");
        let status = self.process.wait().unwrap();
        (status, text)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

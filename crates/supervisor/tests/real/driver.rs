//! Programs run under `supervise`, and what they say, each wait with an end.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use supervisor::{Process, Tree};

/// How long anything may be silent before the test fails.
const PATIENCE: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// Says each signal that it gets on a line of its own, exactly as often as the kernel hands it over; ends at SIGUSR2.
pub(crate) const LISTENER: &str = r#"
import signal
every = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP} | {signal.SIGRTMIN + 3}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
print("ready", flush=True)
while True:
    number = signal.sigwaitinfo(every).si_signo
    print(signal.Signals(number).name if number != signal.SIGRTMIN + 3 else "RTMIN+3", flush=True)
    if number == signal.SIGUSR2:
        break
"#;

/// The program `supervise` with `args`.
pub(crate) fn supervise<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervise"));
    command.args(args);
    command
}

/// The same in a session of its own: a stopped child would stop it, were there a terminal.
pub(crate) fn without_terminal<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new("setsid");
    command.arg(env!("CARGO_BIN_EXE_supervise")).args(args);
    command
}

/// A python3 script under `supervise`.
pub(crate) fn python<'a>(options: impl IntoIterator<Item = &'a str>, script: &'a str) -> Command {
    supervise(
        options
            .into_iter()
            .chain(["/usr/bin/python3", "-c", script]),
    )
}

/// Runs `args` under `supervise` to the end, without input.
pub(crate) fn run<'a>(args: impl IntoIterator<Item = &'a str>) -> Output {
    supervise(args).stdin(Stdio::null()).output().unwrap()
}

/// Something to read from, and what was read and not yet asked for.
pub(crate) struct Reader {
    end: std::fs::File,
    unread: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(end: impl Into<OwnedFd>) -> Self {
        Self {
            end: end.into().into(),
            unread: Vec::new(),
        }
    }

    /// Everything up to and including the first `mark`.
    pub(crate) fn until(&mut self, mark: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.unread).into_owned();
            if let Some(at) = text.find(mark) {
                let (told, rest) = text.split_at(at + mark.len());
                self.unread = rest.as_bytes().to_vec();
                return told.to_owned();
            }
            assert!(self.fill(), "{mark:?} never came; there was {text:?}");
        }
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        self.until("\n").trim_end().to_owned()
    }

    /// Everything to the end.
    pub(crate) fn rest(&mut self) -> String {
        while self.fill() {}
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    fn fill(&mut self) -> bool {
        assert!(is_readable(&self.end), "nothing came for too long");
        let mut bytes = [0; 4096];
        // A terminal whose other side is closed says EIO.
        let read = self.end.read(&mut bytes).unwrap_or(0);
        self.unread.extend(&bytes[..read]);
        read > 0
    }
}

fn is_readable(descriptor: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    poll(&mut polled, Some(&PATIENCE)).unwrap() > 0
}

/// A program that runs under `supervise`, killed with its supervisor if the test ends before it.
pub(crate) struct Running {
    supervisor: Child,
    pub(crate) output: Reader,
}

impl Running {
    /// Starts `command` with its standard output, and if `input` its standard input, on pipes.
    pub(crate) fn start(command: &mut Command, input: Stdio) -> Self {
        let mut supervisor = command.stdin(input).stdout(Stdio::piped()).spawn().unwrap();
        let output = Reader::new(supervisor.stdout.take().unwrap());
        Self { supervisor, output }
    }

    /// Its end for writing.
    pub(crate) fn input(&mut self) -> &mut ChildStdin {
        self.supervisor.stdin.as_mut().unwrap()
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.input().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn close_input(&mut self) {
        drop(self.supervisor.stdin.take());
    }

    pub(crate) fn standard_error(&mut self) -> Reader {
        Reader::new(self.supervisor.stderr.take().unwrap())
    }

    /// The supervisor's pid.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.supervisor)
    }

    /// Sends `signal` to the supervisor alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the supervisor's exit code.
    pub(crate) fn code(&mut self) -> i32 {
        wait_until_ended(self.pid());
        let status = self.supervisor.wait().unwrap();
        status.code().expect("the supervisor ends by an exit code")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill_tree(&mut self.supervisor);
    }
}

/// Kills `child` and all that descends from it, if the test failed before its end.
pub(crate) fn kill_tree(child: &mut Child) {
    if let Ok(None) = child.try_wait() {
        let root = Process::of(child.id().cast_signed()).unwrap();
        Tree::in_session(root, root).kill();
        child.wait().unwrap();
    }
}

/// A process that no tree of the test's has: killed with this where it has not ended.
pub(crate) struct Stray {
    pid: Pid,
    handle: Option<OwnedFd>,
}

impl Stray {
    /// The one whose pid `text` is.
    pub(crate) fn of(text: &str) -> Self {
        let pid = pid(text);
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok();
        Self { pid, handle }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has ended, if it has not yet.
    pub(crate) fn wait_until_ended(&self) {
        if let Some(handle) = &self.handle {
            assert!(is_readable(handle), "{} did not end", self.pid);
        }
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            // It fails where the process has ended.
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

/// Waits until the process `pid` has ended, if it has not yet.
pub(crate) fn wait_until_ended(pid: Pid) {
    if let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) {
        assert!(is_readable(&descriptor), "{pid} did not end");
    }
}

/// The pid that `text` is.
pub(crate) fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

/// Field `field` of /proc/PID/stat, counted from the state (0) on; none when there is no such process.
pub(crate) fn stat_field(pid: Pid, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = &stat[stat.rfind(')')? + 2..];
    rest.split(' ').nth(field).map(str::to_owned)
}

/// Waits until the process is in `state`, a letter of proc_pid_stat(5). Nothing tells of it, so it is looked at often.
pub(crate) fn wait_for_state(pid: Pid, state: &str) {
    let looks_max = 1000 * PATIENCE.tv_sec;
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    for _ in 0..looks_max {
        if stat_field(pid, 0).as_deref() == Some(state) {
            return;
        }
        let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
        let ended = poll(&mut polled, Some(&pause)).unwrap() > 0;
        assert!(!ended, "{pid} has ended");
    }
    panic!("{pid} is not in state {state}");
}

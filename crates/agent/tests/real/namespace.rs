//! A network namespace that lives as long as this value, and programs in it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// A network namespace with its loopback interface up. Its holder ends with its standard input.
pub(crate) struct Namespace {
    holder: Program,
}

/// A program that ends with this value.
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Namespace {
    /// A new one; nothing, said loudly, where the machine has none to give.
    pub(crate) fn new() -> Option<Self> {
        static REFUSED: OnceLock<Option<String>> = OnceLock::new();
        let refused = REFUSED.get_or_init(|| Self::make().err().map(|error| format!("{error:#}")));
        if let Some(why) = refused {
            eprintln!("NOT RUN: this machine has no network namespace for the test: {why}");
            return None;
        }
        Some(Self::make().expect("the machine has namespaces"))
    }

    fn make() -> Result<Self> {
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        Self::hold(command)
    }

    /// Another one, whose first address is 10.77.0.2 and fd77::2, beside this one, which has 10.77.0.1 and fd77::1.
    pub(crate) fn neighbour(&self) -> Self {
        // Of the same user namespace, so that one may put an interface into the other.
        let mut command = Command::new("unshare");
        if !is_root() {
            command = Command::new("nsenter");
            command.args(["--target", &self.holder.id().to_string()]);
            command.args(["--user", "--preserve-credentials", "--", "unshare"]);
        }
        let other = Self::hold(command).unwrap();
        let theirs = other.holder.id();
        self.shell(&format!(
            "ip link add pod type veth peer name pod netns {theirs}"
        ));
        for (namespace, number) in [(self, 1), (&other, 2)] {
            namespace.shell(&format!(
                "ip addr add 10.77.0.{number}/24 dev pod && \
                 ip addr add fd77::{number}/64 dev pod nodad && ip link set pod up"
            ));
        }
        other
    }

    fn hold(mut command: Command) -> Result<Self> {
        let script = "ip link set lo up && echo up && exec cat";
        command.args(["--net", "sh", "-c", script]);
        let mut holder = Program::start(command)?;
        ensure!(holder.line()? == "up", "the loopback interface stays down");
        Ok(Self { holder })
    }

    /// A command that will run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net"]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--", program]);
        command
    }

    /// Runs a line of shell inside; what it printed.
    pub(crate) fn shell(&self, line: &str) -> String {
        let output = self.command("sh").args(["-c", line]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A Python program that runs inside and has printed its first line.
    pub(crate) fn python(&self, script: &str, arguments: &[&str]) -> Program {
        let mut command = self.command("python3");
        command.args(["-u", "-c", script]).args(arguments);
        let mut program = Program::start(command).unwrap();
        assert_eq!(program.line().unwrap(), "ready");
        program
    }
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("a pipe")?;
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints; an error once it prints nothing more.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let count = self.stdout.read_line(&mut line)?;
        ensure!(count > 0, "the program says nothing more");
        Ok(line.trim_end().to_owned())
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        writeln!(stdin, "{line}").unwrap();
    }

    /// Ends its standard input.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Ends it at once, as `kill -9` does, and waits for that.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its end, after which it has a status.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.hang_up();
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stdin = None;
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

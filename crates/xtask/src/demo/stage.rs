//! Everything that the demo starts, and its end on every path.
//!
//! ```text
//! shared PostgreSQL <── inventory, deployed: `bough local run`
//!        ▲                       ▲ its environment
//!        │ copies                │
//!   engine ──> branch <── inventory in a session: `bough exec`
//! ```
//!
//! One directory holds the home and the data directory of a user who has nothing configured; every process is started
//! with an environment that names it, so that whatever an ordered end leaves is found and killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fixtures::{Outcome, Program, Signal, TestEnv, TestPostgres, eventually, sql};

use super::interrupt::Interrupt;
use super::kept::{self, Kept};
use super::shop::{PRODUCT, Shop, Stock};
use super::transcript::Transcript;
use crate::places::workspace;

/// Where a service is started from nothing: its database is there, so seconds; a session copies the database first.
const START_LIMIT: Duration = Duration::from_secs(120);
/// A command that asks the engine for something small.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// From the end of the commands that end everything to the end of every process.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// From the signal to the end of a session: the service finishes its requests.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The application's role in the shared database: owner of its database, no superuser.
pub(super) const ROLE: &str = "inventory";
/// Its password.
const PASSWORD: &str = "metalmart-demo";
/// Its database.
const DATABASE: &str = "inventory";

/// The port that the service listens on, in the cluster and in a network of its own.
const SERVICE_PORT: u16 = 8082;
/// What `local run` exits with where a port cannot be published, as there is no network to publish it of.
const NO_NETWORK: i32 = 3;

/// The name of the deployed service.
pub(super) const TARGET: &str = "deployment/inventory";
/// Its namespace.
pub(super) const NAMESPACE: &str = "metalmart";

/// The two programs, built.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) bough: PathBuf,
    pub(super) inventory: PathBuf,
}

/// A running `bough exec`.
#[derive(Debug)]
pub(super) struct Session {
    program: Program,
    shown_bytes: usize,
}

/// All that runs.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) interrupt: Interrupt,
    env: TestEnv,
    // Dropped after the environment, whose processes use it.
    shared: TestPostgres,
    session: Option<Session>,
    has_target: bool,
}

impl Stage {
    /// Starts the shared database.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn set(
        programs: &Programs,
        search_path: OsString,
        version: u16,
        interrupt: Interrupt,
    ) -> Result<Self> {
        let shared = TestPostgres::start(version).context("start the shared database")?;
        let statements = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'");
        shared.execute("postgres", &statements)?;
        shared.execute(
            "postgres",
            &format!("CREATE DATABASE {DATABASE} OWNER {ROLE}"),
        )?;
        let mut env = TestEnv::new(&programs.bough)?;
        env.set(crate::postgres::PATH_VARIABLE, search_path);
        let bin = programs
            .inventory
            .parent()
            .context("a program is in a directory")?;
        let mut path = bin.as_os_str().to_owned();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        env.set("PATH", path);
        Ok(Self {
            interrupt,
            env,
            shared,
            session: None,
            has_target: false,
        })
    }

    /// The application's URL of the shared database.
    fn shared_url(&self) -> String {
        self.shared.url(ROLE, PASSWORD, DATABASE)
    }

    /// The port of the shared database.
    pub(super) fn shared_port(&self) -> u16 {
        self.shared.port()
    }

    /// The directory that names all of it.
    pub(super) fn directory(&self) -> &Path {
        self.env.root()
    }

    /// The product's stock, asked in the shared database itself.
    pub(super) fn shared_stock(&self) -> Result<Stock> {
        stock_in(&self.shared_url())
    }

    /// The product's stock, asked in a branch's database itself.
    pub(super) fn branch_stock(&self, id: &str) -> Result<Stock> {
        let words = ["db-branches", "-n", NAMESPACE, "url", id, "--show-password"];
        let url = self.run(self.command(&words))?.success()?;
        stock_in(url.trim())
    }

    /// Starts the deployed service: its database is in its environment, as a cluster would put it there. It listens on
    /// its own port in a network of its own, which `port` of this machine leads to; where the machine allows no such
    /// network, on `port` itself.
    pub(super) fn deploy(&mut self, port: u16, transcript: &Transcript) -> Result<()> {
        self.has_target = true;
        let published = format!("{port}:{SERVICE_PORT}");
        let own = ["--publish", &published];
        let mut outcome = self.run_target(&own, SERVICE_PORT, transcript)?;
        if outcome.status.code() == Some(NO_NETWORK) {
            transcript.said(&outcome.stderr)?;
            let port_word = port.to_string();
            outcome = self.run_target(&["--port", &port_word], port, transcript)?;
        }
        let outcome = outcome.exit_code(0)?;
        transcript.said(&outcome.stdout)?;
        transcript.said(&outcome.stderr)?;
        let what = format!("the deployed service answers on port {port}");
        let ready = self
            .interrupt
            .wait_until(&what, START_LIMIT, None, || Shop::on(port).is_healthy());
        if ready.is_err() {
            let logs = self.run(self.command(&["local", "logs", TARGET, "-n", NAMESPACE]))?;
            transcript.said(&logs.stdout)?;
        }
        ready
    }

    fn run_target(&self, flags: &[&str], port: u16, transcript: &Transcript) -> Result<Outcome> {
        let port = port.to_string();
        let start = ["local", "run", TARGET, "-n", NAMESPACE];
        let program = ["--", "inventory", "--port", &port];
        let words = [&start, flags, &program].concat();
        transcript.command(&format!("DATABASE_URL=... bough {}", words.join(" ")))?;
        let mut command = self.command(&words);
        command.env("DATABASE_URL", self.shared_url());
        self.run(command)
    }

    /// Starts the service in a session with a configuration file, and waits until it answers.
    pub(super) fn start_session(
        &mut self,
        file: &Path,
        port: u16,
        transcript: &Transcript,
    ) -> Result<()> {
        let file = file.strip_prefix(workspace()).unwrap_or(file);
        let (file, port_word) = (file.display().to_string(), port.to_string());
        let words = ["exec", "-f", &file, "--", "inventory", "--port", &port_word];
        transcript.command(&format!("bough {}", words.join(" ")))?;
        let program = self.env.start(self.command(&words))?;
        let session = self.session.insert(Session {
            program,
            shown_bytes: 0,
        });
        let what = format!("the session's service answers on port {port}");
        let healthy = || Shop::on(port).is_healthy();
        let ready = self
            .interrupt
            .wait_until(&what, START_LIMIT, Some(&session.program), healthy);
        session.show(transcript)?;
        ready
    }

    /// Ends the session as its user would, by Ctrl-C; gives its exit code.
    pub(super) fn end_session(&mut self, transcript: &Transcript) -> Result<Option<i32>> {
        let mut session = self.session.take().context("no session runs")?;
        session.program.signal(Signal::INT)?;
        let shown_bytes = session.shown_bytes;
        let outcome = self.interrupt.finish(session.program, STOP_LIMIT)?;
        transcript.said(outcome.stderr.get(shown_bytes..).unwrap_or_default())?;
        Ok(outcome.status.code())
    }

    /// Runs `bough` with these arguments, visibly.
    pub(super) fn bough(&self, words: &[&str], transcript: &Transcript) -> Result<Outcome> {
        transcript.command(&format!("bough {}", words.join(" ")))?;
        let outcome = self.run(self.command(words))?;
        transcript.said(&outcome.stdout)?;
        transcript.said(&outcome.stderr)?;
        Ok(outcome)
    }

    /// Ends everything in order and checks that nothing stays.
    ///
    /// # Errors
    /// With what could not be ended; it is killed when this is dropped.
    pub(super) fn end(mut self) -> Result<()> {
        self.interrupt.forget()?;
        self.end_in_order()?;
        // A daemon that has said good-bye may still be on its way out of the kernel.
        let none_left = || Ok(self.env.processes().is_empty().then_some(()));
        eventually("the end of every process", EXIT_LIMIT, none_left)
            .with_context(|| format!("these still run: {:?}", self.env.processes()))
    }

    /// Ends one after the other, each though one before it failed; tells of the first failure.
    fn end_in_order(&mut self) -> Result<()> {
        let session = self.session.take().map_or(Ok(()), end_program);
        // Without a target nothing of Bough runs yet.
        let commands = if self.has_target { &kept::END[..] } else { &[] };
        let ended = commands.iter().map(|words| {
            self.run(self.command(words))?.success()?;
            Ok(())
        });
        let first = std::iter::once(session)
            .chain(ended)
            .fold(Ok(()), Result::and);
        first.and(self.shared.stop())
    }

    /// Leaves everything up; gives the directory by which [`kept::end`] finds it.
    ///
    /// # Errors
    /// When it cannot be noted down; everything is killed then.
    pub(super) fn leave(self, bough: &Path) -> Result<PathBuf> {
        let Self {
            env,
            shared,
            session,
            ..
        } = self;
        let note = Kept {
            bough: bough.to_owned(),
            shared: shared.data_directory().with_file_name(""),
        };
        note.write(env.root())?;
        if let Some(session) = session {
            session.program.leave();
        }
        shared.leave();
        Ok(env.leave())
    }

    /// `bough` with arguments, from the root of the repository, out of reach of the terminal's Ctrl-C: who gets that
    /// is this program, which ends what it started in order.
    fn command(&self, words: &[&str]) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = self.env.command(words);
        command.current_dir(workspace()).process_group(0);
        command
    }

    fn run(&self, command: Command) -> Result<Outcome> {
        self.interrupt
            .finish(self.env.start(command)?, COMMAND_LIMIT)
    }
}

/// Ends a session's program, which may have ended by itself.
fn end_program(mut session: Session) -> Result<()> {
    if session.program.signal(Signal::TERM).is_ok() {
        let _ = session.program.finish(STOP_LIMIT)?;
    }
    Ok(())
}

impl Session {
    /// Shows what it said since it was last shown.
    fn show(&mut self, transcript: &Transcript) -> Result<()> {
        let said = self.program.stderr()?;
        transcript.said(said.get(self.shown_bytes..).unwrap_or_default())?;
        self.shown_bytes = said.len();
        Ok(())
    }
}

/// The product's stock in a database.
fn stock_in(url: &str) -> Result<Stock> {
    let statement = format!(
        "SELECT stock_quantity, reserved_quantity FROM products WHERE product_id = '{PRODUCT}'"
    );
    let rows = sql::query(url, &statement)?;
    let numbers: Option<Vec<i64>> = match rows.as_slice() {
        [row] => row
            .iter()
            .map(|text| text.as_deref()?.parse().ok())
            .collect(),
        _ => None,
    };
    match numbers.as_deref() {
        Some([free, reserved]) => Ok(Stock {
            free: *free,
            reserved: *reserved,
        }),
        _ => bail!("the database has {rows:?} for product {PRODUCT}"),
    }
}

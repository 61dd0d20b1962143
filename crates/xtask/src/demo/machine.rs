//! The demo on this machine alone: a PostgreSQL server of its own, and the service as a target of the context `local`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use fixtures::{Outcome, TestPostgres, sql};

use super::kept::{self, Kept};
use super::shop::{Shop, Stock};
use super::stage::{NAMESPACE, STOCK_SQL, TARGET, stock_of};
use super::transcript::Transcript;
use super::user::User;

/// Where a service is started from nothing: its database is there, so seconds.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The application's role in the shared database: owner of its database, no superuser.
const ROLE: &str = "inventory";
/// Its password.
const PASSWORD: &str = "metalmart-demo";
/// Its database.
const DATABASE: &str = "inventory";

/// The port that the service listens on, in a network of its own.
const SERVICE_PORT: u16 = 8082;
/// What `local run` exits with where a port cannot be published, as there is no network to publish it of.
const NO_NETWORK: i32 = 3;

/// The shared database, and the deployed service.
#[derive(Debug)]
pub(super) struct Machine {
    shared: TestPostgres,
    version: u16,
    /// The port of this machine that leads to the deployed service.
    port: u16,
    has_target: bool,
}

impl Machine {
    /// Starts the shared database; nothing is deployed yet.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn set(
        user: &mut User,
        search_path: OsString,
        version: u16,
        port: u16,
    ) -> Result<Self> {
        let shared = TestPostgres::start(version).context("start the shared database")?;
        let statements = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'");
        shared.execute("postgres", &statements)?;
        shared.execute(
            "postgres",
            &format!("CREATE DATABASE {DATABASE} OWNER {ROLE}"),
        )?;
        user.env.set(crate::postgres::PATH_VARIABLE, search_path);
        Ok(Self {
            shared,
            version,
            port,
            has_target: false,
        })
    }

    /// What there is, in a line.
    pub(super) fn headline(&self) -> String {
        format!(
            "PostgreSQL {} on 127.0.0.1:{} is the shared database; the inventory service is deployed on it",
            self.version,
            self.shared.port()
        )
    }

    /// The deployed service.
    pub(super) fn deployed(&self) -> Shop {
        Shop::on(self.port)
    }

    /// Starts the deployed service: its database is in its environment, as a cluster would put it there. It listens on
    /// its own port in a network of its own, which the machine's port leads to; where the machine allows no such
    /// network, on that port itself.
    pub(super) fn deploy(&mut self, user: &User, transcript: &Transcript) -> Result<()> {
        self.has_target = true;
        let published = format!("{}:{SERVICE_PORT}", self.port);
        let own = ["--publish", &published];
        let mut outcome = self.run_target(user, &own, SERVICE_PORT, transcript)?;
        if outcome.status.code() == Some(NO_NETWORK) {
            transcript.said(&outcome.stderr)?;
            let port_word = self.port.to_string();
            outcome = self.run_target(user, &["--port", &port_word], self.port, transcript)?;
        }
        let outcome = outcome.exit_code(0)?;
        transcript.said(&outcome.stdout)?;
        transcript.said(&outcome.stderr)?;
        let what = format!("the deployed service answers on port {}", self.port);
        let healthy = || self.deployed().is_healthy();
        let ready = user.interrupt.wait_until(&what, START_LIMIT, None, healthy);
        if ready.is_err() {
            let logs = user.run(user.command(&["local", "logs", TARGET, "-n", NAMESPACE]))?;
            transcript.said(&logs.stdout)?;
        }
        ready
    }

    fn run_target(
        &self,
        user: &User,
        flags: &[&str],
        port: u16,
        transcript: &Transcript,
    ) -> Result<Outcome> {
        let port = port.to_string();
        let start = ["local", "run", TARGET, "-n", NAMESPACE];
        let program = ["--", "inventory", "--port", &port];
        let words = [&start, flags, &program].concat();
        transcript.command(&format!("DATABASE_URL=... bough {}", words.join(" ")))?;
        let mut command = user.command(&words);
        command.env("DATABASE_URL", self.shared_url());
        user.run(command)
    }

    /// The application's URL of the shared database.
    fn shared_url(&self) -> String {
        self.shared.url(ROLE, PASSWORD, DATABASE)
    }

    /// The product's stock, asked in the shared database itself.
    pub(super) fn shared_stock(&self) -> Result<Stock> {
        stock_in(&self.shared_url())
    }

    /// The product's stock, asked in a branch's database itself.
    pub(super) fn branch_stock(&self, user: &User, id: &str) -> Result<Stock> {
        let words = ["db-branches", "-n", NAMESPACE, "url", id, "--show-password"];
        let url = user.run(user.command(&words))?.success()?;
        stock_in(url.trim())
    }

    /// Ends one after the other, each though one before it failed; tells of the first failure.
    ///
    /// # Errors
    /// With what could not be ended.
    pub(super) fn end(&mut self, user: &User) -> Result<()> {
        // Without a target nothing of Bough runs yet.
        let commands = if self.has_target { &kept::END[..] } else { &[] };
        let ended = commands.iter().map(|words| {
            user.run(user.command(words))?.success()?;
            Ok(())
        });
        let first = ended.fold(Ok(()), Result::and);
        first.and(self.shared.stop())
    }

    /// Leaves the database up, and a note of it for [`kept::end`].
    ///
    /// # Errors
    /// When it cannot be noted down.
    pub(super) fn leave(self, user: User, bough: &Path) -> Result<PathBuf> {
        let note = Kept {
            bough: bough.to_owned(),
            shared: self.shared.data_directory().with_file_name(""),
        };
        note.write(user.directory())?;
        self.shared.leave();
        Ok(user.env.leave())
    }
}

/// The product's stock in a database.
fn stock_in(url: &str) -> Result<Stock> {
    let rows = sql::query(url, STOCK_SQL)?;
    let [row] = rows.as_slice() else {
        anyhow::bail!("the database has {rows:?} for the product");
    };
    let texts: Vec<_> = row
        .iter()
        .map(|text| text.as_deref().unwrap_or_default())
        .collect();
    stock_of(&texts)
}

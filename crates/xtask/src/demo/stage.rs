//! Everything that the demo starts, and its end on every path.
//!
//! ```text
//! shared PostgreSQL <── inventory, deployed: `bough local run`, or a Deployment
//!        ▲                       ▲ its environment
//!        │ copies                │
//!   engine ──> branch <── inventory in a session: `bough exec`
//! ```
//!
//! What is not the user's own stands on a ground, this machine (`machine.rs`) or a cluster (`cluster.rs`). One directory
//! holds the home and the data directory of a user who has nothing configured (`user.rs`); every process is started with an
//! environment that names it, so that whatever an ordered end leaves is found and killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fixtures::{Program, Signal};

use super::cluster::ClusterGround;
use super::machine::Machine;
use super::shop::{Shop, Stock};
use super::transcript::Transcript;
use super::user::User;
use crate::places::workspace;

/// From the start of a session to its service's answer: it copies the database first.
const START_LIMIT: Duration = Duration::from_secs(180);
/// From the signal to the end of a session: the service finishes its requests.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The name of the deployed service.
pub(super) const TARGET: &str = "deployment/inventory";
/// Its namespace.
pub(super) const NAMESPACE: &str = "metalmart";

/// The stock of the walk-through's product, [`super::shop::PRODUCT`].
pub(super) const STOCK_SQL: &str =
    "SELECT stock_quantity, reserved_quantity FROM products WHERE product_id = '1'";

/// The two programs, built.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) bough: PathBuf,
    pub(super) inventory: PathBuf,
}

/// Where the shared database and the deployed service are.
#[derive(Debug)]
pub(super) enum Ground {
    /// This machine.
    Machine(Machine),
    /// A Kubernetes.
    Cluster(ClusterGround),
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
    pub(super) user: User,
    // Dropped after the user, whose processes use it.
    ground: Ground,
    session: Option<Session>,
}

impl Stage {
    pub(super) fn new(user: User, ground: Ground) -> Self {
        Self {
            user,
            ground,
            session: None,
        }
    }

    /// What the ground is, in a line.
    pub(super) fn headline(&self) -> String {
        match &self.ground {
            Ground::Machine(machine) => machine.headline(),
            Ground::Cluster(cluster) => cluster.headline(),
        }
    }

    /// The directory that names all of it.
    pub(super) fn directory(&self) -> &Path {
        self.user.directory()
    }

    /// Starts the deployed service, and waits until it answers.
    pub(super) fn deploy(&mut self, transcript: &Transcript) -> Result<()> {
        match &mut self.ground {
            Ground::Machine(machine) => machine.deploy(&self.user, transcript),
            Ground::Cluster(cluster) => cluster.deploy(&self.user, transcript),
        }
    }

    /// The deployed service.
    pub(super) fn deployed(&self) -> Shop {
        match &self.ground {
            Ground::Machine(machine) => machine.deployed(),
            Ground::Cluster(cluster) => cluster.deployed(),
        }
    }

    /// The product's stock, asked in the shared database itself.
    pub(super) fn shared_stock(&self) -> Result<Stock> {
        match &self.ground {
            Ground::Machine(machine) => machine.shared_stock(),
            Ground::Cluster(cluster) => cluster.shared_stock(),
        }
    }

    /// The product's stock, asked in a branch's database itself.
    pub(super) fn branch_stock(&self, id: &str) -> Result<Stock> {
        match &self.ground {
            Ground::Machine(machine) => machine.branch_stock(&self.user, id),
            Ground::Cluster(cluster) => cluster.branch_stock(id),
        }
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
        let program = self.user.start(self.user.command(&words))?;
        let session = self.session.insert(Session {
            program,
            shown_bytes: 0,
        });
        let what = format!("the session's service answers on port {port}");
        let healthy = || Shop::on(port).is_healthy();
        let ready =
            self.user
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
        let outcome = self.user.interrupt.finish(session.program, STOP_LIMIT)?;
        transcript.said(outcome.stderr.get(shown_bytes..).unwrap_or_default())?;
        Ok(outcome.status.code())
    }

    /// Ends everything in order and checks that nothing stays.
    ///
    /// # Errors
    /// With what could not be ended; it is killed when this is dropped.
    pub(super) fn end(mut self) -> Result<()> {
        self.user.interrupt.forget()?;
        let session = self.session.take().map_or(Ok(()), end_program);
        let ground = match &mut self.ground {
            Ground::Machine(machine) => machine.end(&self.user),
            Ground::Cluster(cluster) => cluster.end(),
        };
        session.and(ground)?;
        self.user.end()
    }

    /// Leaves everything up; gives the directory by which [`super::kept::end`] finds it.
    ///
    /// # Errors
    /// When it cannot be noted down; everything is killed then.
    pub(super) fn leave(self, bough: &Path) -> Result<PathBuf> {
        let Ground::Machine(machine) = self.ground else {
            bail!("what runs in a cluster is not kept");
        };
        let root = machine.leave(self.user, bough)?;
        if let Some(session) = self.session {
            session.program.leave();
        }
        Ok(root)
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

/// The stock that a row of [`STOCK_SQL`] tells.
///
/// # Errors
/// When it is no such row.
pub(super) fn stock_of(row: &[&str]) -> Result<Stock> {
    let numbers: Option<Vec<i64>> = row.iter().map(|text| text.parse().ok()).collect();
    match numbers.as_deref() {
        Some([free, reserved]) => Ok(Stock {
            free: *free,
            reserved: *reserved,
        }),
        _ => bail!("the database has {row:?} for the product"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_numbers_are_a_stock() {
        let stock = stock_of(&["1", "99"]).expect("a stock");
        assert_eq!((stock.free, stock.reserved), (1, 99));
        for row in [&["1"][..], &["1", "x"], &["1", "2", "3"], &[]] {
            assert!(stock_of(row).is_err(), "{row:?}");
        }
    }
}

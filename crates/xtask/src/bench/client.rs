//! A client of databases: new connections, and what "ready" means.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::stopwatch::Stopwatch;

/// How long a branch is tried that does not answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts: short beside the seconds that are measured.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The last row of the largest table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastRow(pub(super) u64);

/// Milliseconds of each step of a first use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    /// Connecting and logging in.
    pub(super) connect: f64,
    /// Reading the last row.
    pub(super) read: f64,
    /// Updating it.
    pub(super) update: f64,
}

impl Use {
    /// All of it.
    pub(super) fn total(self) -> f64 {
        self.connect + self.read + self.update
    }
}

/// Connects from one thread.
#[derive(Debug)]
pub(super) struct Client {
    runtime: Runtime,
}

impl Client {
    /// A client without connections.
    pub(super) fn new() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: runtime.context("start a runtime")?,
        })
    }

    /// Opens a new connection, reads the last row and updates it.
    ///
    /// # Errors
    /// When a step fails, or the update is not of one row.
    pub(super) fn use_last_row(&self, url: &str, row: LastRow) -> Result<Use> {
        let config = parse(url)?;
        self.runtime.block_on(use_last_row(&config, row))
    }

    /// Uses all of them at once, each as often as it takes; ends when the last was used. Gives how many attempts failed.
    ///
    /// # Errors
    /// As [`Client::use_last_row`], of one that cannot be used for long.
    pub(super) fn use_all(&self, urls: &[String], row: LastRow) -> Result<u32> {
        let configs: Vec<Config> = urls.iter().map(|url| parse(url)).collect::<Result<_>>()?;
        self.runtime.block_on(async {
            let uses = configs
                .into_iter()
                .map(|config| tokio::spawn(async move { use_persistently(&config, row).await }));
            let mut failed = 0;
            for used in uses.collect::<Vec<_>>() {
                failed += used.await.context("a task ended early")??;
            }
            Ok(failed)
        })
    }

    /// Runs `work` with a runtime's help.
    pub(super) fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(work)
    }
}

/// A URL's meaning; an error does not show it, for it has a password.
pub(super) fn parse(url: &str) -> Result<Config> {
    url.parse()
        .map_err(|_| anyhow!("the URL is not one of PostgreSQL"))
}

/// Tries until it works, for about [`PATIENCE`]; gives the number of failed attempts.
async fn use_persistently(config: &Config, row: LastRow) -> Result<u32> {
    let mut failed = 0;
    let watch = Stopwatch::start();
    loop {
        match use_last_row(config, row).await {
            Ok(_) => return Ok(failed),
            Err(error) if watch.total() > PATIENCE.as_secs_f64() * 1000.0 => return Err(error),
            Err(_) => failed += 1,
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn use_last_row(config: &Config, LastRow(row): LastRow) -> Result<Use> {
    let mut watch = Stopwatch::start();
    let (client, connection) = config.connect(NoTls).await.context("connect")?;
    let traffic = tokio::spawn(connection);
    let connect = watch.lap();
    let read = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {row}");
    let found = client
        .simple_query(&read)
        .await
        .context("read the last row")?;
    let rows = found
        .iter()
        .filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
    ensure!(rows.count() == 1, "the last row is not there");
    let read = watch.lap();
    let update = format!("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = {row}");
    let updated = client
        .simple_query(&update)
        .await
        .context("update the last row")?;
    ensure!(
        matches!(updated[..], [SimpleQueryMessage::CommandComplete(1)]),
        "the last row was not updated"
    );
    let update = watch.lap();
    drop(client);
    // Its end is not part of being ready; its errors were a statement's already.
    let _ = traffic.await;
    Ok(Use {
        connect,
        read,
        update,
    })
}

//! What a measurement needs: a source with rows in it, an ordinary server for the baselines, and a bough of its own.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{TempDir, TestEnv, TestPostgres, sql, tool};

use super::{MAJOR, MAJOR_OF_CLIENTS};
use crate::test::{self, Profile};

/// The source's database and its owner.
pub(super) const DATABASE: &str = "bench";
const OWNER: &str = "bench";
const PASSWORD: &str = "bench-password";
/// Megabytes that one unit of pgbench's scale takes, index included.
const MB_PER_SCALE: u32 = 15;
/// How long one program may take before the bench gives up.
pub(super) const PROGRAM_TIME_MAX: Duration = Duration::from_secs(3600);

/// The servers and the program, all ended when dropped.
pub(super) struct Stage {
    pub(super) source: TestPostgres,
    pub(super) ordinary: TestPostgres,
    pub(super) bough: TestEnv,
    pub(super) files: TempDir,
    /// The last row of the largest table.
    pub(super) last_row: u64,
}

impl Stage {
    /// Builds bough, starts the servers, and fills the source with `size_mb` megabytes.
    pub(super) fn set(postgres_path: OsString, size_mb: u32) -> Result<Self> {
        let program = test::build("bough", "bough", Profile::Release)?;
        let mut bough = TestEnv::new(program)?;
        bough.set("BOUGH_POSTGRES_PATH", postgres_path);
        let (source, ordinary) = (TestPostgres::start(MAJOR)?, TestPostgres::start(MAJOR)?);
        for server in [&source, &ordinary] {
            server.execute(
                "postgres",
                &format!("CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'"),
            )?;
            server.execute(
                "postgres",
                &format!("CREATE DATABASE {DATABASE} OWNER {OWNER}"),
            )?;
        }
        let scale = (size_mb / MB_PER_SCALE).max(1);
        let url = source.url(OWNER, PASSWORD, DATABASE);
        let pgbench = tool(MAJOR_OF_CLIENTS, "pgbench")?;
        let filled = std::process::Command::new(pgbench)
            .args([
                "--initialize",
                "--quiet",
                "--scale",
                &scale.to_string(),
                &url,
            ])
            .output()
            .context("run pgbench")?;
        ensure!(
            filled.status.success(),
            "pgbench: {}",
            String::from_utf8_lossy(&filled.stderr)
        );
        let last_row = u64::from(scale) * 100_000;
        // What the load left to do would move the source in mid-measurement.
        sql::execute(&url, "VACUUM ANALYZE")?;
        Ok(Self {
            source,
            ordinary,
            bough,
            files: TempDir::new()?,
            last_row,
        })
    }

    /// The source's URL.
    pub(super) fn url(&self) -> String {
        self.source.url(OWNER, PASSWORD, DATABASE)
    }

    /// A database of the ordinary server.
    pub(super) fn ordinary_url(&self, database: &str) -> String {
        self.ordinary.url(OWNER, PASSWORD, database)
    }

    /// Runs bough to its end and gives what it printed.
    pub(super) fn bough(&self, arguments: &[&str]) -> Result<String> {
        self.bough.run(arguments, PROGRAM_TIME_MAX)?.success()
    }

    /// Makes a branch and gives its URL.
    pub(super) fn create(&self, id: &str) -> Result<String> {
        let url = self.url();
        let created = self.bough(&[
            "db-branches",
            "create",
            id,
            "--source",
            &url,
            "--ttl",
            "900",
            "-o",
            "json",
        ])?;
        let created: serde_json::Value =
            serde_json::from_str(&created).context("read what create says")?;
        Ok(created["url"]
            .as_str()
            .context("create gives a URL")?
            .to_owned())
    }

    /// Removes a branch.
    pub(super) fn destroy(&self, id: &str) -> Result<()> {
        self.bough(&["db-branches", "destroy", id]).map(drop)
    }

    /// What "ready" means: a new connection has read and updated the last row of the largest table.
    pub(super) fn use_last_row(&self, url: &str) -> Result<()> {
        let update = format!(
            "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = {}",
            self.last_row
        );
        let read = format!(
            "SELECT abalance FROM pgbench_accounts WHERE aid = {}",
            self.last_row
        );
        sql::execute(url, &update)?;
        ensure!(
            sql::query_value(url, &read)? == "1",
            "the row has been updated before"
        );
        Ok(())
    }

    /// A file of this stage with this text.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.files.path().join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// How the engine clones, and on what filesystem.
    pub(super) fn volume(&self) -> Result<String> {
        let status = self.bough(&["engine", "status", "-o", "json"])?;
        let status: serde_json::Value =
            serde_json::from_str(&status).context("read the engine's status")?;
        let field = |name: &str| {
            status["volume"][name]
                .as_str()
                .unwrap_or("unknown")
                .to_owned()
        };
        Ok(format!("{} on {}", field("kind"), field("filesystem")))
    }
}

//! One machine of a user: a shared database, a data directory with a volume of its own where this process may mount one,
//! and the built engine in it, which can be killed and started again.
//!
//! Owns their making and their ends. Many schedules share a world: servers and copies are made once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{
    LoopVolume, Options, Outcome, Program, Signal, TestEnv, TestPostgres, built_binary, eventually,
    sql,
};
use model::engine_api::{BaseActivity, EngineView, SourceView};
use serde_json::{Value, json};

use crate::clock;
use crate::engine::{Answer, Engine};

/// The application's role and its database.
pub(crate) const ROLE: &str = "shop";
const PASSWORD: &str = "pa55-of-the-shop";

/// The name that the shared database has in the engine.
pub(crate) const SOURCE_NAME: &str = "shared";

/// The file in a data directory that says by how many seconds its machine's clock is off, to an engine that is built for
/// tests.
pub(crate) const CLOCK_FILE: &str = "clock-moved-by-seconds";

/// From an engine's start to its first answer: it may have to end servers first.
const START_MAX: Duration = Duration::from_secs(60);

/// From a source's name, or its return, to a base that follows it.
const FOLLOWED_MAX: Duration = Duration::from_secs(120);

/// What an engine's log says where its end took too long.
const KILLED_ITSELF: &str = "the engine does not end by itself, and is killed";

/// From a request to an engine's end.
const STOP_MAX: Duration = Duration::from_secs(90);

/// What the shared database holds: two tables that every transaction writes both of, and some ballast, so that a copy
/// takes longer than a moment.
const TABLES: &str = "
    CREATE TABLE ledger (n bigint PRIMARY KEY);
    CREATE TABLE mirror (n bigint PRIMARY KEY);
    CREATE TABLE ballast AS SELECT n, md5(n::text) AS text FROM generate_series(1, 2000) n;";

/// Worlds that this process made.
static WORLDS: AtomicU32 = AtomicU32::new(0);

/// On what a world's branches live, and what its engine is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// A volume in a file, with reflinks; servers never sleep.
    LoopVolume,
    /// The directory as it is; servers sleep after a second without clients.
    Directory,
    /// A volume in a file where this process may mount one, and a source that is followed: its base is a standby, and
    /// branches of a source that has moved are followers.
    Followed,
    /// A volume in a file where this process may mount one, and a source whose owner publishes it: its base is a
    /// subscriber.
    Subscribed,
}

impl Ground {
    fn has_volume(self) -> bool {
        match self {
            Self::LoopVolume => true,
            Self::Followed | Self::Subscribed => rustix::process::geteuid().is_root(),
            Self::Directory => false,
        }
    }

    fn settings(self) -> &'static str {
        match self {
            Self::LoopVolume | Self::Followed | Self::Subscribed => {
                "free_floor_bytes = 67108864\nsleep_after_seconds = 0\n"
            }
            Self::Directory => "free_floor_bytes = 67108864\nsleep_after_seconds = 1\n",
        }
    }

    /// What is asked for of the source's base.
    fn mode(self) -> &'static str {
        match self {
            Self::LoopVolume | Self::Directory | Self::Followed => "auto",
            Self::Subscribed => "logical",
        }
    }

    fn source(self) -> Options {
        match self {
            Self::LoopVolume | Self::Directory | Self::Followed => Options::new(16),
            Self::Subscribed => Options::new(16)
                .setting("wal_level", "logical")
                .setting("max_slot_wal_keep_size", "1GB"),
        }
    }

    /// What the source's owner does so that it can be followed, in the cluster and in the database; nothing where it is not.
    fn grants(self) -> Option<(String, String)> {
        let replicates = format!("ALTER ROLE {ROLE} REPLICATION");
        match self {
            Self::LoopVolume | Self::Directory => None,
            // Else each copy waits for the source's own checkpoint, minutes long.
            Self::Followed => Some((replicates, format!("GRANT pg_checkpoint TO {ROLE}"))),
            Self::Subscribed => Some((
                replicates,
                format!(
                    "CREATE PUBLICATION everything FOR ALL TABLES;
                     GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO {ROLE}"
                ),
            )),
        }
    }
}

/// A world. Dropping it ends everything in it.
#[derive(Debug)]
pub(crate) struct World {
    // In the order in which they must end: the engine, its servers, their volume, the source.
    engine: Mutex<Option<Program>>,
    env: TestEnv,
    volume: Option<LoopVolume>,
    source: Mutex<TestPostgres>,
    source_url: String,
    superuser_url: String,
    source_data: PathBuf,
    /// What lies in the source beside rows, when nobody has done anything.
    source_shape: String,
    namespace: String,
    /// By how many seconds its machine's clock is off.
    clock_moved_by: AtomicI64,
    engine_turn: Mutex<()>,
    volume_turn: Mutex<()>,
}

impl World {
    /// Makes a world, with a running engine that knows the source by name.
    pub(crate) fn begin(ground: Ground) -> Result<Self> {
        let source = ground.source().start()?;
        source.execute(
            "postgres",
            &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"),
        )?;
        source.execute("postgres", &format!("CREATE DATABASE {ROLE} OWNER {ROLE}"))?;
        let source_url = source.url(ROLE, PASSWORD, ROLE);
        sql::execute(&source_url, TABLES)?;
        let grants = ground.grants();
        if let Some((of_cluster, of_database)) = &grants {
            source.execute("postgres", of_cluster)?;
            source.execute(ROLE, of_database)?;
        }
        let mut env = TestEnv::new(built_binary("BOUGH_BIN")?)?;
        env.set("RUST_LOG", "info");
        let data = env.data_directory();
        std::fs::write(data.join("engine.toml"), ground.settings())?;
        let volume = if ground.has_volume() {
            let mount_point = data.join("volume");
            std::fs::create_dir(&mount_point)?;
            Some(LoopVolume::xfs_on(&mount_point)?)
        } else {
            None
        };
        let superuser_url = source.superuser_url(ROLE);
        let world = Self {
            engine: Mutex::new(None),
            env,
            volume,
            source_data: source.data_directory(),
            source: Mutex::new(source),
            source_url,
            source_shape: source_shape(&superuser_url)?,
            superuser_url,
            namespace: format!(
                "w{}-{}",
                std::process::id(),
                WORLDS.fetch_add(1, Ordering::Relaxed)
            ),
            clock_moved_by: AtomicI64::new(0),
            engine_turn: Mutex::new(()),
            volume_turn: Mutex::new(()),
        };
        world.start_engine()?;
        let named = json!({
            "url": world.source_url(), "care": {"warm": 1, "mode": ground.mode()},
        });
        let path = format!("/v1/sources/{SOURCE_NAME}");
        let answer: Answer<Value> = world.engine().request("PUT", &path, &named);
        ensure!(matches!(answer, Answer::Given(_)), "{answer:?}");
        if grants.is_some() {
            world.wait_until_followed()?;
        }
        Ok(world)
    }

    /// Waits until the source's changes arrive.
    pub(crate) fn wait_until_followed(&self) -> Result<()> {
        let mut last = None;
        eventually("a source that is followed", FOLLOWED_MAX, || {
            let answer: Answer<Vec<SourceView>> =
                self.engine().request("GET", "/v1/sources", &Value::Null);
            let base = answer.given().and_then(|mut views| views.pop()?.base);
            let follows = base
                .as_ref()
                .is_some_and(|base| base.activity == BaseActivity::Following);
            last = base;
            Ok(follows.then_some(()))
        })
        .with_context(|| format!("{last:?}"))
    }

    /// Where the ids of its branches count. Of this world alone: a branch's port follows from its name, and another engine
    /// of this machine would take it while this one is dead.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The application's URL of the shared database.
    pub(crate) fn source_url(&self) -> &str {
        &self.source_url
    }

    /// The URL of those who look whether it is untouched.
    pub(crate) fn superuser_url(&self) -> &str {
        &self.superuser_url
    }

    /// The source's server.
    pub(crate) fn source(&self) -> MutexGuard<'_, TestPostgres> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the source's server works.
    pub(crate) fn source_data(&self) -> &Path {
        &self.source_data
    }

    /// What lay in the source beside rows at the beginning.
    pub(crate) fn source_shape(&self) -> &str {
        &self.source_shape
    }

    /// The volume in a file, where there is one.
    pub(crate) fn volume(&self) -> Option<&LoopVolume> {
        self.volume.as_ref()
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.env.data_directory()
    }

    /// The engine, whether or not one runs.
    pub(crate) fn engine(&self) -> Engine {
        Engine::at(self.data().join("engine.sock"))
    }

    /// The end of the engine's log.
    pub(crate) fn log_tail(&self) -> String {
        const SHOWN_LINES: usize = 120;
        let text = std::fs::read(self.data().join("engine.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    /// Held by whoever ends the engine, until another one runs, and by whoever changes what the next one starts with.
    pub(crate) fn engine_turn(&self) -> MutexGuard<'_, ()> {
        self.engine_turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by whoever makes something of the volume that must be mended.
    pub(crate) fn volume_turn(&self) -> MutexGuard<'_, ()> {
        self.volume_turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the clock of the engine's machine ahead or back.
    pub(crate) fn jump_clock(&self, by_s: i64) -> Result<()> {
        let moved_by = self.clock_moved_by.load(Ordering::SeqCst) + by_s;
        std::fs::write(self.data().join(CLOCK_FILE), moved_by.to_string())?;
        self.clock_moved_by.store(moved_by, Ordering::SeqCst);
        Ok(())
    }

    /// That an engine which has just started goes by the clock of its machine.
    fn check_clock(&self, view: &EngineView) -> Result<()> {
        let moved_by = self.clock_moved_by.load(Ordering::SeqCst);
        let off = view.started_at.as_second() - clock::machine_seconds() - moved_by;
        let is_near = off.unsigned_abs() <= START_MAX.as_secs();
        ensure!(
            is_near,
            "the engine's clock is {off} s off that of its machine: it is no build for tests, or does not look"
        );
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Option<Program>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's process, while one runs.
    pub(crate) fn engine_pid(&self) -> Option<u32> {
        self.process().as_ref().map(Program::id)
    }

    /// Starts the engine and waits until it answers.
    pub(crate) fn start_engine(&self) -> Result<()> {
        let mut process = self.process();
        ensure!(process.is_none(), "an engine runs already");
        let command = self.env.command(["engine", "run"]);
        let started = process.insert(self.env.start(command)?);
        let engine = self.engine();
        eventually("an engine that answers", START_MAX, || {
            if let Some(end) = started.ended()? {
                anyhow::bail!("the engine ended at its start with {end}");
            }
            Ok(engine.view().given())
        })
        .with_context(|| started.stderr().unwrap_or_default())
        .and_then(|view| self.check_clock(&view))
    }

    /// Starts the engine, which must refuse to; gives what it said.
    pub(crate) fn start_engine_in_vain(&self) -> Result<String> {
        let command = self.env.command(["engine", "run"]);
        let outcome = self.env.start(command)?.finish(START_MAX)?;
        ensure!(!outcome.status.success(), "it started: {}", outcome.stderr);
        Ok(outcome.stderr)
    }

    /// `kill -9` of the engine; ends when it is gone.
    pub(crate) fn kill_engine(&self) -> Result<()> {
        let Some(mut process) = self.process().take() else {
            return Ok(());
        };
        process.signal(Signal::KILL)?;
        let _killed = process.finish(STOP_MAX)?;
        Ok(())
    }

    /// Has the engine end, its servers too where wanted; ends when it is gone.
    pub(crate) fn stop_engine(&self, servers: bool) -> Result<()> {
        let Some(process) = self.process().take() else {
            return Ok(());
        };
        let answer: Answer<Value> =
            self.engine()
                .request("POST", "/v1/engine/stop", &json!({ "servers": servers }));
        ensure!(
            matches!(answer, Answer::Given(_)),
            "the engine does not stop: {answer:?}"
        );
        let outcome = process.finish(STOP_MAX)?;
        if !outcome.status.success() && self.log_tail().contains(KILLED_ITSELF) {
            // It has a limit, and keeps it; why it came to that is to be found out.
            crate::run::tell(&self.log_tail());
            return Ok(());
        }
        outcome.success().map(drop)
    }

    /// Runs `bough` to its end.
    pub(crate) fn bough(&self, words: &[&str]) -> Result<Outcome> {
        self.env.run(words, STOP_MAX)
    }

    /// What lies in the source beside rows by now.
    pub(crate) fn source_shape_now(&self) -> Result<String> {
        source_shape(&self.superuser_url)
    }
}

/// Every relation, role, lasting slot that is not a base's, publication and setting of a role or database: whoever only reads changes none.
fn source_shape(superuser_url: &str) -> Result<String> {
    let rows = sql::query(
        superuser_url,
        "SELECT 'relation ' || relname || relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
         UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname !~ '^pg_'
         UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)'
         UNION ALL SELECT 'database ' || datname FROM pg_database
         UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE NOT temporary AND slot_name !~ '^bough_'
         UNION ALL SELECT 'publication ' || pubname FROM pg_publication
         UNION ALL SELECT 'setting ' || setconfig::text FROM pg_db_role_setting
         UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts
         ORDER BY 1",
    )?;
    Ok(rows
        .into_iter()
        .flatten()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n"))
}

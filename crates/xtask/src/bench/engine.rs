//! An engine under measurement: started, asked, killed and ended by us, in a place of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, eventually, let_pass};
use serde_json::{Value, json};

use super::api::{Branch, EngineApi};
use super::client::{Client, LastRow, Use};
use super::log;
use super::place::{Ground, Place, unmount};
use super::row::Step;
use super::stage::{Setup, Unmeasurable};
use super::stopwatch::{Stopwatch, median};

/// How long an engine may take to answer for the first time.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How long it may take to end with all its servers.
const STOP_TIME_MAX: Duration = Duration::from_secs(300);
/// How long the pool may take to have a clone ready.
const WARM_WAIT_MAX: Duration = Duration::from_secs(120);
/// Between two looks at a starting engine: short beside the times that are measured.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Above every number of branches that is asked for.
const BRANCHES_MAX: u32 = 5_000;
/// The longest row, with room.
const TTL_MAX_SECONDS: u32 = 24 * 3600;

/// What an engine keeps running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// Branches.
    Branches,
    /// Branches, and a warm clone of each source.
    WarmClones,
    /// Branches that somebody uses.
    UsedBranches,
    /// Branches, and a follower of each source that is being written.
    Followers,
}

impl Keeping {
    /// As `engine.toml` has it.
    fn limits(self) -> String {
        let (warm, sleep_after_seconds, followers) = match self {
            Self::Branches => (0, 0, 0),
            Self::WarmClones => (1, 0, 0),
            Self::UsedBranches => (0, 1, 0),
            Self::Followers => (0, 0, 1),
        };
        format!(
            "branches_max = {BRANCHES_MAX}\nttl_max_seconds = {TTL_MAX_SECONDS}\n\
             warm_per_source_max = {warm}\nsleep_after_seconds = {sleep_after_seconds}\n\
             followers_per_source_max = {followers}\n"
        )
    }
}

/// What one request took, from its beginning until the branch was used.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// All of it, in milliseconds.
    pub(super) total: f64,
    /// Its parts, and, after them, what the engine's log tells of one of them.
    steps: Vec<Step>,
    /// What was got.
    pub(super) branch: Branch,
}

/// The medians of the parts of many samples, in the order of the first sample that has them.
pub(super) fn steps(samples: &[Sample]) -> Vec<Step> {
    let mut names: Vec<&str> = Vec::new();
    for step in samples.iter().flat_map(|sample| &sample.steps) {
        if !names.contains(&step.name.as_str()) {
            names.push(&step.name);
        }
    }
    let of = |name: &str| -> Vec<f64> {
        let steps = samples.iter().flat_map(|sample| &sample.steps);
        steps
            .filter(|step| step.name == name)
            .map(|step| step.ms)
            .collect()
    };
    let step = |name: &str| Step {
        name: name.to_owned(),
        ms: median(&of(name)),
    };
    names.into_iter().map(step).collect()
}

/// A running engine. Dropping it ends it and everything of it.
#[derive(Debug)]
pub(super) struct Engine {
    program: Option<Program>,
    pub(super) api: EngineApi,
    pub(super) place: Place,
    ground: Ground,
    setup: Launch,
    started: u32,
    requests: u32,
}

/// What every start of the engine needs.
#[derive(Debug, Clone)]
struct Launch {
    bough: PathBuf,
    environment: Vec<(&'static str, std::ffi::OsString)>,
}

impl Engine {
    /// Makes the place with room for `bytes` and starts an engine there.
    ///
    /// # Errors
    /// [`Unmeasurable`] when the machine cannot have the place, or the engine makes its branches in another way there.
    pub(super) fn start(setup: &Setup, place: Place, keeping: Keeping, bytes: u64) -> Result<Self> {
        let ground = place.make(bytes)?;
        let file = ground.data_dir().join("engine.toml");
        fs::write(&file, keeping.limits()).with_context(|| format!("write {}", file.display()))?;
        let environment = vec![
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            ),
            ("HOME", ground.data_dir().into()),
            ("BOUGH_POSTGRES_PATH", setup.postgres_path.clone()),
        ];
        let mut engine = Self {
            program: None,
            api: EngineApi::of(ground.data_dir()),
            place,
            ground,
            setup: Launch {
                bough: setup.bough.clone(),
                environment,
            },
            started: 0,
            requests: 0,
        };
        engine.run()?;
        let volume = engine.api.status()?.volume;
        if volume.kind == place.kind() {
            return Ok(engine);
        }
        Err(Unmeasurable::because(volume.why_not(place.kind())))
    }

    /// Starts the engine's program and waits until it answers.
    pub(super) fn run(&mut self) -> Result<()> {
        let mut command = self.command();
        command
            .args(["engine", "run", "--data-dir"])
            .arg(self.data_dir());
        self.started += 1;
        let name = format!("engine-{}", self.started);
        self.program = Some(Program::start(command, self.ground.home(), &name)?);
        let socket = self.data_dir().join("engine.sock");
        let looks = START_TIME_MAX.as_millis() / LOOK_INTERVAL.as_millis();
        for _ in 0..looks {
            if UnixStream::connect(&socket).is_ok() {
                return Ok(());
            }
            let_pass(LOOK_INTERVAL);
        }
        let words = self.program.as_ref().map(Program::stderr).transpose()?;
        anyhow::bail!("the engine does not answer: {}", words.unwrap_or_default())
    }

    /// Bough with the engine's account and environment.
    pub(super) fn command(&self) -> Command {
        let mut command = self.ground.command(&self.setup.bough);
        let environment = self.setup.environment.iter();
        command
            .env_clear()
            .envs(environment.map(|(name, value)| (name, value)))
            .env("BOUGH_DATA_DIR", self.data_dir())
            .current_dir("/");
        command
    }

    /// Kills the engine's process; its servers go on.
    pub(super) fn kill(&mut self) -> Result<()> {
        let mut program = self.program.take().context("the engine does not run")?;
        program.signal(Signal::KILL)?;
        // How it ended is known.
        let _ = program.finish(STOP_TIME_MAX)?;
        Ok(())
    }

    /// Its data directory.
    pub(super) fn data_dir(&self) -> &Path {
        self.ground.data_dir()
    }

    /// All that it has logged; nothing where it cannot be read.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.data_dir().join("engine.log")).unwrap_or_default()
    }

    /// A directory for a program's output.
    pub(super) fn home(&self) -> &Path {
        self.ground.home()
    }

    /// A new id.
    pub(super) fn new_id(&mut self) -> String {
        self.requests += 1;
        format!("b{}", self.requests)
    }

    /// Asks for a new branch and uses it, as soon as it is ready, through a new connection.
    pub(super) fn ready(
        &mut self,
        client: &Client,
        source: &Value,
        row: LastRow,
        max_age_seconds: Option<u32>,
    ) -> Result<Sample> {
        let id = self.new_id();
        let mut watch = Stopwatch::start();
        let branch = self.api.ensure(&id, source, max_age_seconds)?;
        let ask = watch.lap();
        let branch = self.api.wait_until_ready(branch)?;
        let wait = watch.lap();
        let url = self.api.url(&branch)?;
        let connection = watch.lap();
        let Use {
            connect,
            read,
            update,
        } = client.use_last_row(&url, row)?;
        let total = watch.total();
        let parts = [
            ("request is answered", ask),
            ("branch becomes ready", wait),
            ("URL is asked for", connection),
            ("new connection logs in", connect),
            ("row is read", read),
            ("row is updated", update),
        ];
        let parts = parts.map(|(name, ms)| (name.to_owned(), ms));
        let stays = log::stays(&self.log(), &branch.name).into_iter();
        let stays = stays.map(|(state, ms)| (format!("of which {state}"), ms));
        let steps = parts.into_iter().chain(stays);
        let steps = steps.map(|(name, ms)| Step { name, ms }).collect();
        Ok(Sample {
            total,
            steps,
            branch,
        })
    }

    /// What branches that are made of running clones will answer with: those of the clones that are no branch's.
    fn nameless(&self) -> Result<Vec<String>> {
        let branches = self.api.branches()?;
        let taken: Vec<String> = branches
            .into_iter()
            .filter_map(|branch| branch.identity)
            .collect();
        let clones = self.data_dir().join("volume/clones");
        let entries =
            fs::read_dir(&clones).with_context(|| format!("read {}", clones.display()))?;
        let identities = entries.flatten().map(|entry| {
            let clone = entry.file_name();
            format!("bough-{}", clone.to_string_lossy())
        });
        Ok(identities
            .filter(|identity| !taken.contains(identity))
            .collect())
    }

    /// Waits until a clone lies warm; gives what its branch's identity will be.
    pub(super) fn wait_until_warm(&self) -> Result<Vec<String>> {
        eventually("a warm clone", WARM_WAIT_MAX, || {
            let is_warm = self.api.status()?.warm_clones > 0;
            is_warm.then(|| self.nameless()).transpose()
        })
    }

    /// Waits until more clones lie warm than the `left` ones, which may be other sources'.
    pub(super) fn wait_until_refilled(&self, left: u32) -> Result<()> {
        eventually("one more warm clone", WARM_WAIT_MAX, || {
            Ok((self.api.status()?.warm_clones > left).then_some(()))
        })
    }

    /// Waits until a follower waits for a request.
    pub(super) fn wait_until_followed(&self) -> Result<()> {
        eventually("a follower", WARM_WAIT_MAX, || {
            Ok((self.api.status()?.followers > 0).then_some(()))
        })
    }

    /// Waits until a branch's server has been stopped because nobody uses it.
    pub(super) fn wait_until_asleep(&self, branch: &Branch) -> Result<()> {
        eventually("a branch that sleeps", WARM_WAIT_MAX, || {
            let is_asleep = self.api.branch(&branch.name)?.asleep;
            Ok(is_asleep.then_some(()))
        })
    }

    /// The Unix socket of a branch's server, as a place to connect to.
    pub(super) fn socket_dir(&self, branch: &Branch) -> Result<PathBuf> {
        let identity = branch.identity.as_deref().unwrap_or_default();
        let clone = identity
            .strip_prefix("bough-")
            .context("the branch has no clone")?;
        Ok(self.data_dir().join("run").join(clone))
    }

    /// The newest snapshot's data directory.
    pub(super) fn snapshot(&self) -> Result<PathBuf> {
        let snapshots = self.data_dir().join("volume/snapshots");
        let entries =
            fs::read_dir(&snapshots).with_context(|| format!("read {}", snapshots.display()))?;
        let newest = entries.flatten().map(|entry| entry.path()).max();
        Ok(newest.context("there is no snapshot")?.join("data"))
    }

    fn end(&mut self) -> Result<()> {
        let Some(program) = self.program.take() else {
            return Ok(());
        };
        for branch in self.api.branches()? {
            self.api.delete(&branch)?;
        }
        self.api.stop()?;
        let ended = program.finish(STOP_TIME_MAX)?;
        ensure!(
            ended.status.success(),
            "the engine ended with {}",
            ended.status
        );
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            crate::console::note(&format!("the engine did not end by itself: {error:#}"));
        }
        // What a failed row left there: processes that name the directory, mounts and files.
        let ended = || fixtures::end_left(self.ground.data_dir());
        if ended().is_err() {
            unmount(self.ground.data_dir());
            let _ = ended();
        }
    }
}

/// A source as requests name it.
pub(super) fn by_url(url: &str) -> Value {
    json!({"url": url})
}

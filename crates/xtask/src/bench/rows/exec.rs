//! What a session costs over the bare command: `bough exec` with a branch that lives, and with one that is taken from
//! the pool for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use fixtures::Program;
use serde_json::json;

use super::{pairs, timed};
use crate::bench::engine::Engine;
use crate::bench::row::Row;
use crate::bench::stage::Scene;
use crate::bench::stopwatch::{median, time_ms};
use crate::command::capture;

/// How long one session may take; the first one copies the source.
const SESSION_TIME_MAX: Duration = Duration::from_secs(600);

/// The id of the branch that lives.
const KEPT: &str = "exec";

/// How often a warm clone may be another source's, or gone before it is taken.
const MISSES_MAX: u32 = 5;

/// Whose branch a session gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Session {
    /// The branch of the session before.
    Another,
    /// A new one, of a warm clone.
    Own,
}

/// `bough exec -- /bin/true` against `/bin/true`.
pub(super) fn overhead(
    scene: &mut Scene<'_>,
    name: &str,
    runs: u32,
    session: Session,
) -> Result<Row> {
    let (engine, url) = (&scene.engine, scene.source.url());
    let ours = |run: u32| match session {
        Session::Another => time_session(engine, &write_config(engine.home(), KEPT)?, &url),
        Session::Own => own(engine, run, &url),
    };
    let theirs = |_| {
        time_ms(|| {
            let program = Program::start(Command::new("/bin/true"), engine.home(), "true")?;
            program.finish(SESSION_TIME_MAX)?.success().map(drop)
        })
    };
    let (ours, theirs) = pairs(runs, ours, theirs)?;
    if session == Session::Another {
        destroy(engine, KEPT)?;
    }
    let over = median(&ours) - median(&theirs);
    let row = timed(name, &ours, "the bare command", &theirs).value(over);
    let branch = match session {
        Session::Another => "the branch lives",
        Session::Own => "the branch is new, of a warm clone",
    };
    Ok(row
        .goal("<= 25 ms over the bare command", over <= 25.0)
        .note(branch))
}

/// A session with a branch that was made of a clone that lay warm. The first run copies the source.
fn own(engine: &Engine, run: u32, url: &str) -> Result<f64> {
    for miss in 0..MISSES_MAX {
        let id = format!("exec-{run}-{miss}");
        let config = write_config(engine.home(), &id)?;
        let warm = match run {
            0 => Vec::new(),
            _ => engine.wait_until_warm()?,
        };
        let time = time_session(engine, &config, url)?;
        let left = engine.api.status()?.warm_clones;
        let branches = engine.api.branches()?;
        destroy(engine, &id)?;
        engine.wait_until_refilled(left)?;
        let mut identities = branches
            .iter()
            .filter_map(|branch| branch.identity.as_ref());
        if run == 0 || identities.any(|identity| warm.contains(identity)) {
            return Ok(time);
        }
    }
    anyhow::bail!("{MISSES_MAX} sessions in turn got no warm clone though there was one")
}

fn write_config(directory: &Path, id: &str) -> Result<PathBuf> {
    let branch = json!({
        "id": id, "type": "pg", "ttl_secs": 900, "connection": {"url": "DATABASE_URL"}, "copy": {"mode": "all"},
    });
    let config = json!({
        "target": "targetless", "operator": true,
        "feature": {"network": false, "fs": "local", "db_branches": [branch]},
    });
    let path = directory.join("exec.json");
    std::fs::write(&path, config.to_string())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn time_session(engine: &Engine, config: &Path, url: &str) -> Result<f64> {
    let mut command = engine.command();
    command.args(["exec", "-q", "-f"]).arg(config);
    command.args(["--", "/bin/true"]).env("DATABASE_URL", url);
    time_ms(|| {
        let program = Program::start(command, engine.home(), "exec")?;
        program.finish(SESSION_TIME_MAX)?.success().map(drop)
    })
}

fn destroy(engine: &Engine, id: &str) -> Result<()> {
    capture(engine.command().args(["db-branches", "destroy", id])).map(drop)
}

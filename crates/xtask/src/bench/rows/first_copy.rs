//! First copies: from the request to an engine that has never seen the source until its branch was used, against what
//! PostgreSQL's own programs take. Each run has a new engine, so that nothing of an earlier copy helps.

use std::process::Command;

use anyhow::{Context, Result};
use fixtures::tool;
use serde_json::{Value, json};

use super::baseline::dump_restore;
use super::{COPY_RUNS_MAX, pairs, timed};
use crate::bench::api::Refused;
use crate::bench::engine::{Engine, Keeping, by_url, steps};
use crate::bench::place::Place;
use crate::bench::row::Row;
use crate::bench::source::{Data, Source, drop_database};
use crate::bench::stage::{Setup, Stage, Unmeasurable};
use crate::bench::stopwatch::time_ms;
use crate::bench::{MAJOR, client::Client};
use crate::command::capture;

/// How much faster than dump and restore a logical copy is to be, from [`RATIO_FROM_MB`] on.
const RATIO_WANTED: f64 = 1.3;
const RATIO_FROM_MB: u32 = 1_000;

/// A request's source, for an engine that was just started.
type Introduce = fn(&Engine, &Source) -> Result<Value>;

/// Against a parallel dump and restore.
pub(super) fn logical(stage: &mut Stage, data: Data, name: &str, runs: u32) -> Result<Row> {
    let place = best_place(stage, data)?;
    let files = stage.files.path().join("dump");
    stage.ordinary()?;
    let copies = stage.copies()?;
    let theirs = |run: u32| {
        let database = format!("restored_{run}");
        let into = &copies.ordinary.server;
        let time = time_ms(|| {
            dump_restore(copies.source, into, &files, &database)?;
            let url = copies.ordinary.url_of(&database);
            copies
                .client
                .use_last_row(&url, copies.source.last_row)
                .map(drop)
        })?;
        drop_database(into, &database)?;
        Ok(time)
    };
    let introduce: Introduce = |_, source| Ok(by_url(&source.url()));
    let row = measure(
        &copies,
        place,
        name,
        runs,
        introduce,
        "pg_dump -Fd -j2, pg_restore -j2",
        theirs,
    )?;
    let times_as_fast = row.ratio.map_or(f64::NAN, |ratio| 1.0 / ratio);
    if data.megabytes() >= RATIO_FROM_MB {
        return Ok(row.goal(">= 1.3 times as fast", times_as_fast >= RATIO_WANTED));
    }
    Ok(match data {
        Data::Tables(_) => row.goal("never slower", times_as_fast >= 1.0),
        Data::Megabytes(_) => row,
    })
}

/// Against a base backup that is as safe as ours: synchronised to its disk, which is the program's default.
pub(super) fn physical(stage: &mut Stage, data: Data, name: &str, runs: u32) -> Result<Row> {
    let place = best_place(stage, data)?;
    let directory = stage.files.path().join("basebackup");
    stage.ordinary()?;
    let copies = stage.copies()?;
    let theirs = |_| {
        let mut backup = Command::new(tool(MAJOR, "pg_basebackup")?);
        backup
            .args(["--checkpoint=fast", "--wal-method=stream", "--pgdata"])
            .arg(&directory)
            .arg("--dbname")
            .arg(format!(
                "host=127.0.0.1 port={} user={}",
                copies.source.server.port(),
                "postgres"
            ))
            .env("PGPASSWORD", "postgres");
        let time = time_ms(|| capture(&mut backup).map(drop))?;
        std::fs::remove_dir_all(&directory).context("remove a base backup")?;
        Ok(time)
    };
    let row = measure(&copies, place, name, runs, by_name, "pg_basebackup", theirs)?;
    let no_slower = row.ratio.is_some_and(|ratio| ratio <= 1.0);
    Ok(row.goal(">= pg_basebackup", no_slower))
}

/// A source that is to be copied as files.
pub(super) fn by_name(engine: &Engine, source: &Source) -> Result<Value> {
    let replication_url = source.server.superuser_url("postgres");
    let care = json!({"mode": "physical", "replication_url": replication_url});
    let body = json!({"url": source.url(), "care": care});
    match engine.api.add_source("bench", &body) {
        Ok(()) => Ok(json!({"name": "bench"})),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) => Err(Unmeasurable::because(format!(
                "the engine takes no source in physical mode: {refused}"
            ))),
            None => Err(error),
        },
    }
}

/// What first copies are made with.
pub(in crate::bench) struct Copies<'a> {
    pub(in crate::bench) setup: &'a Setup,
    pub(in crate::bench) source: &'a Source,
    pub(in crate::bench) ordinary: &'a Source,
    pub(in crate::bench) client: &'a Client,
    pub(in crate::bench) room: u64,
}

fn best_place(stage: &mut Stage, data: Data) -> Result<Place> {
    stage.source(data)?;
    // One copy of ours and one of theirs.
    stage.check_room(data, 2)?;
    let place = stage.best_scene(data, Keeping::Branches)?.engine.place;
    stage.clear_engine();
    Ok(place)
}

fn measure(
    copies: &Copies<'_>,
    place: Place,
    name: &str,
    runs: u32,
    introduce: Introduce,
    against: &str,
    theirs: impl FnMut(u32) -> Result<f64>,
) -> Result<Row> {
    let ours = |_| {
        let mut engine = Engine::start(copies.setup, place, Keeping::Branches, copies.room)?;
        let source = introduce(&engine, copies.source)?;
        engine.ready(copies.client, &source, copies.source.last_row, None)
    };
    let (samples, theirs) = pairs(runs.min(COPY_RUNS_MAX), ours, theirs)?;
    let times: Vec<f64> = samples.iter().map(|sample| sample.total).collect();
    let row = Row {
        size_mb: Some(copies.source.data.megabytes()),
        steps: steps(&samples),
        ..timed(name, &times, against, &theirs)
    };
    Ok(row.note(place.description()))
}

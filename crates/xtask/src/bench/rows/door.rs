//! Bytes through a branch's door, against a plain TCP relay to the same server.

use anyhow::{Context, Result};
use futures_util::StreamExt;
use tokio_postgres::NoTls;

use super::{pairs, timed};
use crate::bench::client::{Client, parse};
use crate::bench::engine::by_url;
use crate::bench::relay::Relay;
use crate::bench::row::Row;
use crate::bench::stage::Scene;
use crate::bench::stopwatch::Stopwatch;

/// Bytes of a row, and rows: half a gigabyte is some tenths of a second.
const ROW_BYTES: u32 = 8_000;
const ROWS: u32 = 64_000;

/// Megabytes a second out of a branch.
pub(super) fn throughput(scene: &mut Scene<'_>, name: &str, runs: u32) -> Result<Row> {
    let source = by_url(&scene.source.url());
    let sample = scene
        .engine
        .ready(scene.client, &source, scene.source.last_row, None)?;
    let branch = &sample.branch;
    let socket = scene.engine.socket_dir(branch)?.join(".s.PGSQL.5432");
    let relay = Relay::open(socket)?;
    let through_door = scene.engine.api.url(branch)?;
    let endpoint = branch
        .endpoint
        .as_deref()
        .context("the branch has no door")?;
    let through_relay = through_door.replace(endpoint, &format!("127.0.0.1:{}", relay.port()));
    let client = scene.client;
    let ours = |_| rate(client, &through_door);
    let theirs = |_| rate(client, &through_relay);
    let (ours, theirs) = pairs(runs, ours, theirs)?;
    scene.engine.api.delete(branch)?;
    let mut row = timed(name, &ours, "a plain TCP relay to the same server", &theirs);
    row.unit = "MB/s".to_owned();
    // The lower end is what matters of a rate.
    row.p95 = None;
    let enough = row.ratio.is_some_and(|ratio| ratio >= 0.9);
    Ok(row
        .goal(">= 90% of a plain TCP relay", enough)
        .note("COPY of rows of 8 kB to one client"))
}

fn rate(client: &Client, url: &str) -> Result<f64> {
    let config = parse(url)?;
    client.run(async {
        let (client, connection) = config.connect(NoTls).await.context("connect")?;
        let traffic = tokio::spawn(connection);
        let watch = Stopwatch::start();
        let copy = format!(
            "COPY (SELECT repeat('x', {ROW_BYTES}) FROM generate_series(1, {ROWS})) TO STDOUT"
        );
        let rows = client.copy_out(&copy).await.context("copy out")?;
        let mut rows = std::pin::pin!(rows);
        let mut bytes = 0_usize;
        while let Some(row) = rows.next().await {
            bytes += row.context("read a row")?.len();
        }
        let seconds = watch.total() / 1000.0;
        drop(client);
        let _ = traffic.await;
        let megabytes = f64::from(u32::try_from(bytes).context("too many bytes")?) / 1e6;
        Ok(megabytes / seconds)
    })
}

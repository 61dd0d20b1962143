//! Many branches on one machine: what an idle one takes, and how long it takes when many are asked for at once.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};

use crate::bench::client::Client;
use crate::bench::engine::by_url;
use crate::bench::row::Row;
use crate::bench::stage::{Scene, Unmeasurable, free_bytes};
use crate::bench::stopwatch::{Stopwatch, median};
use crate::command::capture;

/// The rows of [`idle`].
pub(super) const IDLE_NAMES: [&str; 4] = [
    "idle_branch_disk",
    "idle_branch_pss",
    "idle_branches_memory",
    "ready_cold_among_many",
];

/// What the goal is about.
const BRANCHES_WANTED: u32 = 500;

/// Branches at either end whose times are compared.
const ENDS: usize = 10;

/// So many branches that nobody uses: disk, memory, and whether the last are made as fast as the first.
pub(super) fn idle(scene: &mut Scene<'_>, branches: u32) -> Result<Vec<Row>> {
    let place = scene.engine.place;
    if !place.shares_blocks() {
        return Err(Unmeasurable::because(format!(
            "each of {branches} branches is a copy of everything here ({})",
            place.description()
        )));
    }
    let source = by_url(&scene.source.url());
    // The snapshot is there before anything is measured.
    let first = scene
        .engine
        .ready(scene.client, &source, scene.source.last_row, None)?;
    scene.engine.api.delete(&first.branch)?;
    let volume = scene.engine.data_dir().to_owned();
    let disk_before = settled_free_bytes(&volume)?;
    let memory_before = available_memory()?;
    let mut times = Vec::new();
    for _ in 0..branches {
        let id = scene.engine.new_id();
        let watch = Stopwatch::start();
        let branch = scene.engine.api.ensure(&id, &source, None)?;
        scene.engine.api.wait_until_ready(branch)?;
        times.push(watch.total());
    }
    let memory = memory_before.saturating_sub(available_memory()?);
    let disk = disk_before.saturating_sub(settled_free_bytes(&volume)?);
    let (servers, pss) = pss_of_servers(&volume)?;
    ensure!(
        servers == branches,
        "{servers} servers run for {branches} branches"
    );
    let per = |bytes: u64| mb(bytes) / f64::from(branches);
    let note = format!(
        "{branches} branches of {}, {}",
        scene.source.data.word(),
        place.description()
    );
    let [disk_name, pss_name, memory_name, among_name] = IDLE_NAMES;
    let (ends, among) = (ENDS.min(times.len()), Row::new(among_name, "ms"));
    let last = median(&times[times.len() - ends..]);
    let rows = vec![
        Row::new(disk_name, "MB")
            .value(per(disk))
            .goal("<= 1 MB", per(disk) <= 1.0),
        Row::new(pss_name, "MB")
            .value(per(pss))
            .goal("<= 5 MB", per(pss) <= 5.0),
        memory_row(Row::new(memory_name, "MB").value(mb(memory)), branches),
        among
            .value(last)
            .against("the first ten", median(&times[..ends])),
    ];
    Ok(rows.into_iter().map(|row| row.note(note.clone())).collect())
}

fn memory_row(row: Row, branches: u32) -> Row {
    let goal = "500 running on one machine";
    if branches < BRANCHES_WANTED {
        row.goal_elsewhere(goal)
    } else {
        row.goal(goal, true)
    }
}

/// So many branches asked for at the same moment, until the last was used.
pub(super) fn burst(scene: &mut Scene<'_>, name: &str, branches: u32) -> Result<Row> {
    let source = by_url(&scene.source.url());
    let first = scene
        .engine
        .ready(scene.client, &source, scene.source.last_row, None)?;
    scene.engine.api.delete(&first.branch)?;
    let ids: Vec<String> = (0..branches).map(|_| scene.engine.new_id()).collect();
    let (api, row) = (&scene.engine.api, scene.source.last_row);
    let watch = Stopwatch::start();
    let made = thread::scope(|scope| {
        let one = |id: String| {
            let source = &source;
            scope.spawn(move || {
                let branch = api.wait_until_ready(api.ensure(&id, source, None)?)?;
                Client::new()?.use_last_row(&api.url(&branch)?, row)?;
                Ok(branch)
            })
        };
        let threads: Vec<_> = ids.into_iter().map(one).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|made| made.map_err(|_| anyhow!("a thread panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let total = watch.total();
    for branch in &made {
        scene.engine.api.delete(branch)?;
    }
    let row = Row {
        runs: Some(1),
        ..Row::new(name, "ms").value(total)
    };
    Ok(row.note(format!(
        "until the last of {branches} was used; {}",
        scene.engine.place.description()
    )))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Free space once everything that waits in memory has its blocks.
fn settled_free_bytes(path: &Path) -> Result<u64> {
    capture(Command::new("sync").arg("--file-system").arg(path))?;
    free_bytes(path)
}

fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    kilobytes(&text, "MemAvailable:").context("the kernel does not say what memory is available")
}

/// How many servers of branches run, and the memory of all of them and their children, shared pages counted in parts.
fn pss_of_servers(data_dir: &Path) -> Result<(u32, u64)> {
    let clones = data_dir.join("volume/clones").display().to_string();
    let processes: Vec<(u32, u32, String)> = processes().collect();
    let servers: Vec<u32> = processes
        .iter()
        .filter(|(_, _, command)| command.contains(&clones))
        .map(|(pid, _, _)| *pid)
        .collect();
    let of_servers = processes
        .iter()
        .filter(|(pid, parent, _)| servers.contains(pid) || servers.contains(parent));
    // One that ends meanwhile takes nothing any more.
    let pss = of_servers.filter_map(|(pid, _, _)| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        kilobytes(&text, "Pss:")
    });
    let count = u32::try_from(servers.len()).context("too many servers")?;
    Ok((count, pss.sum()))
}

/// Id, parent and command line of every process.
fn processes() -> impl Iterator<Item = (u32, u32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let parent = after_name.split_whitespace().nth(1)?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, parent, String::from_utf8_lossy(&command).into_owned()))
    })
}

/// A line of `/proc`, `Name:  123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read_in_bytes() {
        let text = "Rss:     9 kB\nPss:                 120 kB\nPss_Dirty:  7 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), Some(120 * 1024));
        assert_eq!(kilobytes(text, "Swap:"), None);
    }

    #[test]
    fn this_process_is_among_the_processes() {
        let own = std::process::id();
        assert!(processes().any(|(pid, parent, _)| pid == own && parent != 0));
    }
}

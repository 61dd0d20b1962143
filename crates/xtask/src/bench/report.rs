//! All rows and the machine they are of, as JSON and as a page.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::row::Row;
use super::{BenchArgs, MAJOR, page, plot};
use crate::command::capture;
use crate::places::workspace;

/// How much a branch of the largest source may take over one of the smallest: what differs less is the machine's noise.
const GROWTH_MAX: f64 = 1.25;

/// What the numbers are of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Machine {
    /// The processor's name, as the kernel has it.
    pub(super) processor: String,
    /// Processors that this program may use.
    pub(super) processors: usize,
    pub(super) memory_mb: u64,
    pub(super) kernel: String,
    /// The filesystem of temporary files, which everything lies on in the end.
    pub(super) filesystem: String,
    pub(super) postgres: u16,
    /// The repository's commit.
    pub(super) commit: String,
    /// Programs that ran or waited over the last minute when the bench ended.
    pub(super) load: String,
    /// The arguments that matter.
    pub(super) command: String,
}

/// Machine and rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// These rows on this machine, and what follows from them.
    pub(super) fn of(args: &BenchArgs, rows: &[Row]) -> Result<Self> {
        let machine = Machine {
            processor: processor(&read("/proc/cpuinfo")?),
            processors: std::thread::available_parallelism()?.get(),
            memory_mb: memory_mb(&read("/proc/meminfo")?),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            filesystem: filesystem()?,
            postgres: MAJOR,
            commit: commit(),
            load: read("/proc/loadavg")?
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            command: command(args),
        };
        let rows = rows.iter().cloned().chain(growth(rows)).collect();
        Ok(Self { machine, rows })
    }

    /// Writes what was asked for. The plot goes into a directory named after the page, beside it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn write(&self, json: Option<&Path>, markdown: Option<&Path>) -> Result<()> {
        if let Some(path) = json {
            let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
            serde_json::to_writer_pretty(file, self)
                .with_context(|| format!("write {}", path.display()))?;
        }
        if let Some(path) = markdown {
            let directory = path.with_extension("");
            fs::create_dir_all(&directory)
                .with_context(|| format!("create {}", directory.display()))?;
            let drawing = directory.join("ready.svg");
            fs::write(&drawing, plot::draw(&self.rows))
                .with_context(|| format!("write {}", drawing.display()))?;
            let name = directory.file_name().unwrap_or_default().to_string_lossy();
            let page = page::write(self, &format!("{name}/ready.svg"));
            fs::write(path, page).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

/// For every place with two sizes or more: a branch of the largest source over one of the smallest.
pub(super) fn growth(rows: &[Row]) -> Vec<Row> {
    let of_place = |place: Place| {
        let prefix = format!("ready_cold_unmoved_{}_", place.word());
        let of_size = |row: &&Row| {
            row.name
                .strip_prefix(&prefix)
                .is_some_and(|rest| rest.ends_with("mb") && !rest.contains('_'))
        };
        let sized: Vec<(u32, f64)> = rows
            .iter()
            .filter(of_size)
            .filter_map(|row| Some((row.size_mb?, row.p50?)))
            .collect();
        let (small, large) = (
            sized.iter().min_by_key(|(size, _)| *size)?,
            sized.iter().max_by_key(|(size, _)| *size)?,
        );
        if small.0 == large.0 {
            return None;
        }
        let row =
            Row::new(&format!("ready_cold_growth_{}", place.word()), "x").value(large.1 / small.1);
        let row = row.note(format!("{} MB over {} MB", large.0, small.0));
        Some(match place {
            Place::OverlayXfs | Place::OverlayXfsRootless => {
                let grows = large.1 / small.1 > GROWTH_MAX;
                row.goal("no growth", !grows)
            }
            Place::ReflinkXfs | Place::SubvolumeBtrfs | Place::OverlayCopies | Place::Plain => row,
        })
    };
    Place::ALL.into_iter().filter_map(of_place).collect()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

fn processor(cpuinfo: &str) -> String {
    let named = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    named
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']))
        .to_owned()
}

fn memory_mb(meminfo: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1024
}

fn filesystem() -> Result<String> {
    let name = capture(Command::new("stat").args(["--file-system", "--format=%T", "/tmp"]))?;
    Ok(name.trim().to_owned())
}

/// The commit, with a mark where the tree differs from it but for what the bench itself writes; an unpacked archive has
/// none.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        capture(git.args(arguments).current_dir(workspace()))
    };
    let Ok(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let written = [":!docs/benchmarks.md", ":!docs/benchmarks"];
    let changed = git(&[&["status", "--porcelain", "--", "."], &written[..]].concat());
    let is_dirty = changed.is_ok_and(|changed| !changed.trim().is_empty());
    let mark = if is_dirty { "-dirty" } else { "" };
    format!("{}{mark}", commit.trim())
}

fn command(args: &BenchArgs) -> String {
    let list = |numbers: &[u32]| {
        numbers
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let only: String = args
        .only
        .iter()
        .map(|only| format!(" --only {only}"))
        .collect();
    format!(
        "cargo xtask bench{only} --size {} --tables {} --runs {} --branches {}",
        list(&args.size),
        list(&args.tables),
        args.runs,
        args.branches
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cold(place: Place, size: u32, p50: f64) -> Row {
        let name = format!("ready_cold_unmoved_{}_{size}mb", place.word());
        Row {
            size_mb: Some(size),
            p50: Some(p50),
            ..Row::new(&name, "ms").value(p50)
        }
    }

    #[test]
    fn growth_is_the_largest_over_the_smallest_of_one_place() {
        let rows = [
            cold(Place::OverlayXfs, 100, 20.0),
            cold(Place::OverlayXfs, 1_000, 90.0),
            cold(Place::OverlayXfs, 10_000, 30.0),
            // A name that begins like the other's.
            cold(Place::OverlayXfsRootless, 100, 10.0),
            cold(Place::Plain, 100, 10.0),
            cold(Place::Plain, 1_000, 100.0),
        ];
        let grown = growth(&rows);
        assert_eq!(grown.len(), 2, "{grown:?}");
        assert_eq!((grown[0].value, grown[0].met), (Some(1.5), Some(false)));
        assert_eq!((grown[1].value, grown[1].met), (Some(10.0), None));
    }

    #[test]
    fn the_machine_is_read_as_the_kernel_writes_it() {
        assert_eq!(
            processor("vendor_id\t: x\nmodel name\t: A CPU @ 3 GHz\n"),
            "A CPU @ 3 GHz"
        );
        assert_eq!(processor(""), "unknown");
        assert_eq!(memory_mb("MemTotal:       24626176 kB\n"), 24_049);
    }
}

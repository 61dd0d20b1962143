//! What lies on the volume, and what it takes there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{LoopVolume, eventually, sql};

use crate::story::{Story, assert_says, stock};
use crate::traces::entries;

/// The inode of every subvolume's root (linux/btrfs_tree.h: `BTRFS_FIRST_FREE_OBJECTID`).
const SUBVOLUME_INODE: u64 = 256;

/// A measure is told for two seconds.
const MEASURED_LIMIT: Duration = Duration::from_secs(20);

/// The data directories below a directory of trees.
fn data_directories(trees: &Path) -> Result<Vec<PathBuf>> {
    let names = entries(trees)?;
    Ok(names
        .iter()
        .map(|name| trees.join(name).join("data"))
        .collect())
}

/// Were it a plain directory, each clone of it would take a step for every file, with nothing to show for it.
#[test]
fn a_copy_on_btrfs_is_a_subvolume() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("not run: only root can mount a filesystem in a file");
        return Ok(());
    }
    let story = Story::begin()?;
    let mount_point = story.data().join("volume");
    fs::create_dir_all(&mount_point)?;
    let _volume = LoopVolume::btrfs_on(&mount_point)?;
    // The filesystem in the file is smaller than what is kept free of a real one.
    fs::write(
        story.data().join("engine.toml"),
        "free_floor_bytes = 67108864\n",
    )?;
    let url = story.create("first", &[])?;
    ensure!(stock(&url)?.0 > 0);
    let snapshots = data_directories(&mount_point.join("snapshots"))?;
    ensure!(!snapshots.is_empty(), "nothing was copied");
    for data in snapshots {
        let found = fs::metadata(&data).with_context(|| format!("read {}", data.display()))?;
        ensure!(
            found.ino() == SUBVOLUME_INODE,
            "{} is no subvolume",
            data.display()
        );
    }
    story.end()
}

#[test]
fn a_branch_tells_what_is_its_own_and_what_it_shares() -> Result<()> {
    const WRITTEN: u64 = 8 << 20;
    let story = Story::begin()?;
    let url = story.create("first", &[])?;
    let bytes = |key: &str| {
        let branch = story.branch("first")?;
        branch[key]
            .as_u64()
            .with_context(|| format!("a branch has {key}"))
    };
    let (own, shared) = (bytes("disk_bytes")?, bytes("shared_bytes")?);
    ensure!(own < shared, "{own} bytes of its own, {shared} shared");
    let random = "SELECT sha256(i::text::bytea) AS digest FROM generate_series(1, 250000) i";
    sql::execute(&url, &format!("CREATE TABLE written AS {random}"))?;
    eventually("its own bytes grow", MEASURED_LIMIT, || {
        Ok((bytes("disk_bytes")? >= own + WRITTEN).then_some(()))
    })?;
    let told = story
        .bough(&["db-branches", "status", "first"])?
        .success()?;
    assert_says(&told, &["of its own", "shared"])?;
    story.end()
}

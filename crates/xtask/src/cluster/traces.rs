//! What a node would leave on the machine: looked for at its end, so that `down` does not say more than is so.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cgroups;
use super::namespaces::{self, MACHINE_LINK, NAMES, NODE};
use super::place::Place;

/// Everything of a node that is there, each as a person would look for it.
///
/// # Errors
/// When the machine cannot be looked at.
pub(super) fn of(place: &Place) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for point in namespaces::mounts_below(place.directory())? {
        found.push(format!("mounted: {}", point.display()));
    }
    let namespace = Path::new(NAMES).join(NODE);
    let link = Path::new("/sys/class/net").join(MACHINE_LINK);
    found.extend(
        [namespace, link]
            .into_iter()
            .chain(cgroups::all()?)
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    for file in loop_files(Path::new("/sys/block"))? {
        if file.starts_with(place.directory()) {
            found.push(format!("a loop device of {}", file.display()));
        }
    }
    Ok(found)
}

/// The files behind loop devices; of one that was removed while it was in use, the path that it had.
fn loop_files(blocks: &Path) -> Result<Vec<PathBuf>> {
    let devices = fs::read_dir(blocks).with_context(|| format!("list {}", blocks.display()))?;
    let files = devices.filter_map(|device| {
        let file = fs::read_to_string(device.ok()?.path().join("loop/backing_file")).ok()?;
        let file = file.trim_end().trim_end_matches(" (deleted)");
        Some(PathBuf::from(file))
    });
    Ok(files.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_behind_loop_devices_are_found_and_other_devices_have_none() {
        let dir = tempfile::tempdir().expect("a directory");
        for (device, file) in [
            ("loop0", Some("/node/reflink.xfs\n")),
            ("loop1", Some("/node/plain.xfs (deleted)\n")),
            ("loop2", None),
            ("vda", None),
        ] {
            let of_loops = dir.path().join(device).join("loop");
            fs::create_dir_all(&of_loops).expect("created");
            if let Some(file) = file {
                fs::write(of_loops.join("backing_file"), file).expect("written");
            }
        }
        let mut found = loop_files(dir.path()).expect("listed");
        found.sort();
        assert_eq!(
            found,
            ["/node/plain.xfs", "/node/reflink.xfs"].map(PathBuf::from)
        );
    }
}

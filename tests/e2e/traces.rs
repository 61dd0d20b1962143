//! What must not stay behind: processes, and with them their ports, sockets and directories of a data directory.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{TestEnv, eventually};

/// A process that was told to end may still be on its way out of the kernel.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Directories below the data directory that are empty when there is no branch.
const EMPTY: [&str; 3] = ["volume/clones", "volume/making", "run"];

/// That an environment without branches and with its engine stopped has left nothing. A door goes with its process; its
/// port may be the next engine's at once, for a branch's port follows from its name.
pub(crate) fn assert_none(env: &TestEnv) -> Result<()> {
    let root = env.root();
    eventually("the end of all processes", EXIT_LIMIT, || {
        Ok((env.processes().is_empty() && working_in(root)?.is_empty()).then_some(()))
    })
    .with_context(|| format!("still there: {:?} {:?}", env.processes(), working_in(root)))?;
    let data = env.data_directory();
    for name in EMPTY {
        let left = entries(&data.join(name))?;
        ensure!(left.is_empty(), "{name} still has {left:?}");
    }
    let bound = bound_sockets(root)?;
    ensure!(bound.is_empty(), "sockets are still bound: {bound:?}");
    let files = all_files(&data)?;
    let sockets: Vec<_> = files.iter().filter(|path| is_socket(path)).collect();
    ensure!(sockets.is_empty(), "sockets still lie there: {sockets:?}");
    let running: Vec<_> = files
        .iter()
        .filter(|path| path.ends_with("postmaster.pid"))
        .collect();
    ensure!(
        running.is_empty(),
        "these servers were not stopped: {running:?}"
    );
    Ok(())
}

/// The ids of all processes that work in a directory below `root`, with their names.
pub(crate) fn working_in(root: &Path) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Gone meanwhile, or another account's.
        let Ok(directory) = fs::read_link(entry.path().join("cwd")) else {
            continue;
        };
        if directory.starts_with(root) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push((pid, name.trim().to_owned()));
        }
    }
    Ok(found)
}

/// The names in a directory; none when it does not exist.
pub(crate) fn entries(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("list {}", directory.display())),
    }
}

/// Every file below a directory.
pub(crate) fn all_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        // Files may go while they are listed.
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(_) => found.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    Ok(found)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// The sockets below `root` that somebody holds: the last column of proc_net_unix(5).
fn bound_sockets(root: &Path) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/net/unix").context("list sockets")?;
    let paths = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7));
    let ours = paths.filter(|path| Path::new(path).starts_with(root));
    Ok(ours.map(str::to_owned).collect())
}

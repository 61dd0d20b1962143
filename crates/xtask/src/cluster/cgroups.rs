//! The control groups of the node's pods: one directory in every hierarchy of the machine, for the kubelet to work in.
//!
//! By them everything in a container is found at the end, whoever its parent is.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::namespaces::NODE;

/// The directory as the kubelet is told of it.
pub(super) fn root() -> String {
    format!("/{NODE}")
}

/// Makes the directory in every hierarchy, since a kubelet wants it to be there.
///
/// # Errors
/// When a hierarchy takes none.
pub(super) fn make() -> Result<()> {
    for hierarchy in hierarchies()? {
        let ours = hierarchy.join(NODE);
        match fs::create_dir(&ours) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("create {}", ours.display()));
            }
            _ => {}
        }
        // Version 1 starts a group of this controller with no processor, in which no process may be.
        if ours.join("cpuset.sched_load_balance").exists() {
            for name in ["cpuset.cpus", "cpuset.mems"] {
                let pass_on = || fs::write(ours.join(name), fs::read(hierarchy.join(name))?);
                pass_on().with_context(|| format!("write {name} of {}", ours.display()))?;
            }
        }
    }
    Ok(())
}

/// Makes a directory in every hierarchy and removes it again.
///
/// # Errors
/// When there is no hierarchy, or one takes none.
pub(super) fn try_one() -> Result<()> {
    let hierarchies = hierarchies()?;
    ensure!(!hierarchies.is_empty(), "none are mounted");
    for hierarchy in hierarchies {
        let tried = hierarchy.join(format!("{NODE}-tried-{}", std::process::id()));
        let made = fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried));
        made.with_context(|| format!("make {}", tried.display()))?;
    }
    Ok(())
}

/// Where they are, if they are.
///
/// # Errors
/// When the hierarchies are not known.
pub(super) fn all() -> Result<Vec<PathBuf>> {
    let hierarchies = hierarchies()?.into_iter();
    Ok(hierarchies.map(|hierarchy| hierarchy.join(NODE)).collect())
}

/// Every process in them.
///
/// # Errors
/// When a hierarchy cannot be read.
pub(super) fn processes() -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for ours in all()? {
        for group in groups_below(&ours) {
            // A group that goes away meanwhile has no process.
            let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    Ok(found)
}

/// Removes them, the innermost first. No process is in them any more.
///
/// # Errors
/// When one stays.
pub(super) fn remove() -> Result<()> {
    for ours in all()? {
        for group in groups_below(&ours).iter().rev() {
            match fs::remove_dir(group) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", group.display()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A group and all below it, each after its parent; none if it is not there.
fn groups_below(group: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut open = vec![group.to_owned()];
    while let Some(group) = open.pop() {
        let Ok(entries) = fs::read_dir(&group) else {
            continue;
        };
        all.push(group);
        let entries = entries.filter_map(Result::ok);
        let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(groups.map(|entry| entry.path()));
    }
    all
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    Ok(mounted(&mounts))
}

/// Where control groups are mounted, of either version.
fn mounted(mounts: &str) -> Vec<PathBuf> {
    let parts = mounts.lines().map(|line| {
        let mut parts = line.split(' ').skip(1);
        (parts.next(), parts.next())
    });
    let of_groups =
        parts.filter(|(_, kind)| kind.is_some_and(|kind| ["cgroup", "cgroup2"].contains(&kind)));
    of_groups
        .filter_map(|(point, _)| point.map(PathBuf::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_and_nothing_else_is() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup /mnt ext4 rw 0 0\n";
        let expected = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"];
        assert_eq!(mounted(mounts), expected.map(PathBuf::from));
    }

    #[test]
    fn groups_come_after_their_parents() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("pods/one/inner")).expect("created");
        fs::create_dir_all(dir.path().join("pods/two")).expect("created");
        fs::write(dir.path().join("pods/cgroup.procs"), "").expect("written");
        let groups = groups_below(dir.path());
        assert_eq!(groups.len(), 5);
        for (at, group) in groups.iter().enumerate().skip(1) {
            let parent = group.parent().expect("it has one");
            assert!(groups[..at].iter().any(|earlier| earlier == parent));
        }
        assert!(groups_below(&dir.path().join("none")).is_empty());
    }
}

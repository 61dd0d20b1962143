//! Copies that are ZFS datasets: a clone of the whole directory in one step, whatever is in it.
//!
//! ```text
//! TREE/dataset  the dataset's name: it is mounted on TREE/data by us, so that a tree can be moved
//! TREE/data     its mount point
//! ```
//!
//! Owns the calls of the program `zfs`, and mounting: nothing mounts these datasets at boot, `DataDir` does when a
//! server is to start. Takes root, as mounting ZFS does on Linux. An independent copy is made file by file into a
//! dataset of its own.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags};

use super::plain::Plain;
use super::{Cancel, Kind, Motion, Volume, VolumeError, cannot, mounts, walk};

/// Where the program is when `PATH` has no places of the system's own.
const PLACES: [&str; 3] = ["/usr/sbin/zfs", "/sbin/zfs", "/usr/local/sbin/zfs"];

/// Mounts the named dataset on a directory.
type MountDataset = Box<dyn Fn(&str, &Path) -> io::Result<()> + Send + Sync>;

/// The program `zfs`, and how a dataset is mounted.
pub(super) struct Zfs {
    program: PathBuf,
    mount: MountDataset,
}

impl fmt::Debug for Zfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zfs").field(&self.program).finish()
    }
}

impl Zfs {
    /// The machine's own.
    pub(super) fn system() -> Self {
        let found = PLACES.into_iter().find(|place| Path::new(place).exists());
        Self {
            program: PathBuf::from(found.unwrap_or("zfs")),
            mount: Box::new(mount_dataset),
        }
    }

    /// Runs the program; answers what it wrote.
    fn run(&self, arguments: &[&str]) -> Result<String, VolumeError> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(cannot("run", &self.program))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("no reason given").to_owned();
        Err(cannot("do a step with", &self.program)(io::Error::other(
            said,
        )))
    }

    /// Mounts the tree's dataset on its data directory, unless it is.
    pub(super) fn attach(&self, tree: &Path, data: &Path) -> Result<(), VolumeError> {
        let Some(name) = name_of(tree)? else {
            return Ok(());
        };
        if mounts::is_mount_point(data).map_err(cannot("look at", data))? {
            return Ok(());
        }
        (self.mount)(&name, data).map_err(cannot("mount a dataset on", data))
    }

    /// Destroys the tree's dataset, where it is there; its mount is gone. A record may name one that was not made yet, or
    /// is destroyed already.
    pub(super) fn destroy(&self, tree: &Path) -> Result<(), VolumeError> {
        let Some(name) = name_of(tree)? else {
            return Ok(());
        };
        let record = record(tree);
        if self.has(&name)? {
            self.run(&["destroy", "-r", &name])?;
        }
        fs::remove_file(&record).map_err(cannot("remove", &record))
    }

    /// Whether there is a dataset of this name: by a list of its parent's, for an error of the program means many things.
    fn has(&self, name: &str) -> Result<bool, VolumeError> {
        let Some((parent, _)) = name.rsplit_once('/') else {
            // A record that was cut before its first byte came to the disk.
            return Ok(false);
        };
        let listed = self.run(&["list", "-H", "-o", "name", "-d", "1", parent])?;
        Ok(listed.lines().any(|line| line == name))
    }
}

fn mount_dataset(name: &str, data: &Path) -> io::Result<()> {
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
    Ok(rustix::mount::mount(name, data, c"zfs", flags, None)?)
}

/// Unmounts a data directory that is a dataset.
pub(super) fn detach(tree: &Path, data: &Path, flags: UnmountFlags) -> Result<(), VolumeError> {
    if name_of(tree)?.is_none() || !mounts::is_mount_point(data).map_err(cannot("look at", data))? {
        return Ok(());
    }
    rustix::mount::unmount(data, flags).map_err(|errno| match errno {
        rustix::io::Errno::BUSY => VolumeError::InUse {
            path: data.to_owned(),
        },
        _ => cannot("unmount", data)(errno.into()),
    })
}

fn record(tree: &Path) -> PathBuf {
    tree.join("dataset")
}

/// The dataset of a tree; none where its data directory is none.
fn name_of(tree: &Path) -> Result<Option<String>, VolumeError> {
    let record = record(tree);
    match fs::read_to_string(&record) {
        Ok(name) => Ok(Some(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", &record)(error)),
    }
}

/// Data directories are datasets below one.
#[derive(Debug)]
pub(super) struct Datasets {
    zfs: Zfs,
    parent: String,
}

impl Datasets {
    /// The datasets of the dataset that `directory` lies on.
    pub(super) fn of(directory: &Path) -> Result<Self, VolumeError> {
        let path = fs::canonicalize(directory).map_err(cannot("look at", directory))?;
        let mount = mounts::mount_of(&path).map_err(cannot("find the mount of", directory))?;
        let parent = mount.filter(|mount| mount.filesystem == "zfs");
        let parent = parent.and_then(|mount| mount.source.to_str().map(ToOwned::to_owned));
        let parent = parent.ok_or_else(|| VolumeError::Filesystem {
            lacks: "datasets",
            filesystem: super::filesystem_name(directory),
            path: directory.to_owned(),
        })?;
        Ok(Self {
            zfs: Zfs::system(),
            parent,
        })
    }

    /// Makes the dataset of `data` by `make`, which gets its name, and mounts it. The record comes first: what bears one
    /// is destroyed with its tree.
    fn add(
        &self,
        data: &Path,
        make: impl FnOnce(&str) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let tree = data.parent().unwrap_or(Path::new("/"));
        let name = format!("{}/bough-{:016x}", self.parent, rand::random::<u64>());
        let record = record(tree);
        fs::write(&record, &name).map_err(cannot("write", &record))?;
        make(&name)?;
        fs::create_dir(data).map_err(cannot("make", data))?;
        self.zfs.attach(tree, data)
    }
}

impl Volume for Datasets {
    fn kind(&self) -> Kind {
        Kind::Dataset
    }

    fn make_data(&self, data: &Path) -> Result<(), VolumeError> {
        self.add(data, |name| {
            let made = self.zfs.run(&["create", "-o", "mountpoint=legacy", name]);
            made.map(drop)
        })?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(data, private).map_err(cannot("set the mode of", data))
    }

    fn copy_tree(
        &self,
        from: &Path,
        to: &Path,
        motion: Motion,
        cancel: &Cancel,
    ) -> Result<(), VolumeError> {
        self.make_data(to)?;
        walk::fill(from, to, motion, cancel, Plain::copy_file)
    }

    fn clone_tree(&self, from: &Path, to: &Path, cancel: &Cancel) -> Result<(), VolumeError> {
        cancel.check()?;
        let Some(original) = name_of(from.parent().unwrap_or(Path::new("/")))? else {
            return self.copy_tree(from, to, Motion::Still, cancel);
        };
        walk::refuse_links(from)?;
        self.add(to, |name| {
            let number = name.rsplit('-').next().unwrap_or_default();
            let snapshot = format!("{original}@bough-{number}");
            self.zfs.run(&["snapshot", &snapshot])?;
            let cloned = self
                .zfs
                .run(&["clone", "-o", "mountpoint=legacy", &snapshot, name]);
            // Deferred: the snapshot goes with its clone.
            let marked = self.zfs.run(&["destroy", "-d", &snapshot]);
            cloned.and(marked).map(drop)
        })?;
        walk::make_writable(to)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A stand-in for `zfs`: datasets are directories of a store, snapshots and clones are copies of them.
    const STAND_IN: &str = r#"#!/bin/sh
echo "$*" >> STORE/log
cd STORE
case "$1" in
create) mkdir -p "$4" ;;
snapshot) cp -a "${2%@*}" "$2" ;;
clone) cp -a "$4" "$5" ;;
destroy) [ "$2" = -d ] || rm -r "$3" ;;
list) for made in "$7"/*; do echo "$made"; done ;;
*) echo "cannot do '$1'" >&2; exit 2 ;;
esac
"#;

    fn stand_in(store: &Path) -> Datasets {
        let program = store.join("zfs");
        let text = STAND_IN.replace("STORE", &store.display().to_string());
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let store = store.to_owned();
        let mount =
            move |name: &str, data: &Path| Ok(rustix::mount::mount_bind(store.join(name), data)?);
        Datasets {
            zfs: Zfs {
                program,
                mount: Box::new(mount),
            },
            parent: "tank/bough".to_owned(),
        }
    }

    fn tree(root: &Path, name: &str) -> PathBuf {
        let tree = root.join(name);
        fs::create_dir_all(&tree).unwrap();
        tree.join("data")
    }

    /// No machine of these tests has ZFS: the calls are checked against a stand-in, and a probe on a machine that has it
    /// does the same with the real one before it is believed.
    #[test]
    fn datasets_are_made_cloned_and_destroyed_by_the_program() {
        println!("NOT TESTED: a real ZFS; the program's calls are, against a stand-in");
        if !rustix::process::geteuid().is_root() {
            println!("NOT TESTED: only root can mount what stands for a dataset");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let store = root.path().join("store");
        fs::create_dir(&store).unwrap();
        let datasets = stand_in(&store);
        let cancel = Cancel::default();
        let original = tree(root.path(), "original");
        datasets.make_data(&original).unwrap();
        fs::write(original.join("file"), "before").unwrap();
        let clone = tree(root.path(), "clone");
        datasets.clone_tree(&original, &clone, &cancel).unwrap();
        fs::write(clone.join("file"), "after").unwrap();
        assert_eq!(fs::read(original.join("file")).unwrap(), b"before");
        let copy = tree(root.path(), "copy");
        datasets
            .copy_tree(&clone, &copy, Motion::Still, &cancel)
            .unwrap();
        assert_eq!(fs::read(copy.join("file")).unwrap(), b"after");

        // After a boot nothing is mounted, and the record brings it back.
        let clone_tree = clone.parent().unwrap();
        detach(clone_tree, &clone, UnmountFlags::empty()).unwrap();
        assert!(!clone.join("file").exists());
        datasets.zfs.attach(clone_tree, &clone).unwrap();
        datasets.zfs.attach(clone_tree, &clone).unwrap();
        assert_eq!(fs::read(clone.join("file")).unwrap(), b"after");
        for data in [&copy, &clone, &original] {
            let tree = data.parent().unwrap();
            detach(tree, data, UnmountFlags::empty()).unwrap();
            datasets.zfs.destroy(tree).unwrap();
            datasets.zfs.destroy(tree).unwrap();
        }
        let log = fs::read_to_string(store.join("log")).unwrap();
        let verbs: Vec<&str> = log
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let wanted = [
            "create", "snapshot", "clone", "destroy", "create", "list", "destroy", "list",
            "destroy", "list", "destroy",
        ];
        assert_eq!(verbs, wanted, "{log}");
        assert!(
            fs::read_dir(store.join("tank/bough"))
                .unwrap()
                .flatten()
                .all(|left| { left.file_name().to_string_lossy().contains('@') })
        );
    }

    #[test]
    fn a_kill_at_any_step_leaves_nothing_that_no_record_names_and_no_record_that_cannot_go() {
        let root = tempfile::tempdir().unwrap();
        let datasets = stand_in(root.path());
        let made = |name: &str| root.path().join("tank/bough").join(name).is_dir();
        fs::create_dir_all(root.path().join("tank/bough")).unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let data = tree.join("data");
        // Killed before the program made it.
        let interrupted = datasets.add(&data, |name| {
            assert_eq!(name_of(&tree).unwrap().as_deref(), Some(name));
            Err(VolumeError::Cancelled)
        });
        interrupted.unwrap_err();
        datasets.zfs.destroy(&tree).unwrap();
        assert_eq!(name_of(&tree).unwrap(), None);
        // Killed right after.
        let mut names = Vec::new();
        let interrupted = datasets.add(&data, |name| {
            names.push(name.rsplit_once('/').unwrap().1.to_owned());
            datasets
                .zfs
                .run(&["create", "-o", "mountpoint=legacy", name])?;
            Err(VolumeError::Cancelled)
        });
        interrupted.unwrap_err();
        assert!(made(&names[0]));
        datasets.zfs.destroy(&tree).unwrap();
        assert!(!made(&names[0]) && !record(&tree).exists());
        // Killed between the destruction and the end of its record.
        fs::write(record(&tree), "tank/bough/bough-1").unwrap();
        datasets.zfs.destroy(&tree).unwrap();
        assert!(!record(&tree).exists());
    }

    #[test]
    fn what_the_program_says_is_told() {
        let root = tempfile::tempdir().unwrap();
        let datasets = stand_in(root.path());
        let refused = datasets.zfs.run(&["promote", "x"]).unwrap_err();
        let text = model::chain(&refused);
        assert!(text.ends_with("cannot do 'promote'"), "{text}");
        let absent = Datasets::of(root.path()).unwrap_err();
        assert!(matches!(
            absent,
            VolumeError::Filesystem {
                lacks: "datasets",
                ..
            }
        ));
    }
}

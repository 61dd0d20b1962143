//! Where an engine works and as whom: filesystems in files, accounts, and what is kept from it so that it makes branches
//! in the way that is to be measured.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use fixtures::TempDir;
use serde::Serialize;

use super::stage::Unmeasurable;
use crate::command::capture;

/// The number of an account that is nobody's; user namespaces give it to whom they do not know.
const NOBODY: u32 = 65_534;
/// The first number of people's accounts.
const FIRST_OF_PEOPLE: u32 = 1_000;

/// Where an engine works and as whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// XFS with reflinks, as root.
    OverlayXfs,
    /// XFS with reflinks, as an ordinary account.
    OverlayXfsRootless,
    /// XFS with reflinks, mounts denied.
    ReflinkXfs,
    /// btrfs, mounts denied.
    SubvolumeBtrfs,
    /// The filesystem of temporary files, as root.
    OverlayCopies,
    /// The filesystem of temporary files, mounts denied.
    Plain,
}

/// Who runs the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Runner {
    /// Ourselves with all rights.
    Ourselves,
    /// Root that may not mount.
    WithoutMounts,
    /// An ordinary account.
    Ordinary { uid: u32, gid: u32 },
}

impl Place {
    /// All of them, the best first.
    pub(super) const ALL: [Self; 6] = [
        Self::OverlayXfs,
        Self::OverlayXfsRootless,
        Self::SubvolumeBtrfs,
        Self::ReflinkXfs,
        Self::OverlayCopies,
        Self::Plain,
    ];

    /// As names of rows have it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::OverlayXfs => "overlay_xfs",
            Self::OverlayXfsRootless => "overlay_xfs_rootless",
            Self::ReflinkXfs => "reflink_xfs",
            Self::SubvolumeBtrfs => "subvolume_btrfs",
            Self::OverlayCopies => "overlay_with_copies",
            Self::Plain => "plain_copy",
        }
    }

    /// For people.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::OverlayXfs => "overlay over XFS, root",
            Self::OverlayXfsRootless => "overlay over XFS, rootless",
            Self::ReflinkXfs => "reflink per file, XFS",
            Self::SubvolumeBtrfs => "btrfs subvolume",
            Self::OverlayCopies => "overlay without reflinks",
            Self::Plain => "plain copy",
        }
    }

    /// How an engine says that it makes branches there.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::OverlayXfs | Self::OverlayXfsRootless => "overlay",
            Self::ReflinkXfs => "reflink",
            Self::SubvolumeBtrfs => "btrfs subvolume",
            Self::OverlayCopies => "overlay with copies",
            Self::Plain => "plain copy",
        }
    }

    /// Whether a branch shares the blocks of its snapshot.
    pub(super) fn shares_blocks(self) -> bool {
        match self {
            Self::OverlayXfs
            | Self::OverlayXfsRootless
            | Self::ReflinkXfs
            | Self::SubvolumeBtrfs => true,
            Self::OverlayCopies | Self::Plain => false,
        }
    }

    fn runner(self) -> Result<Runner> {
        let is_root = rustix::process::geteuid().is_root();
        match self {
            Self::OverlayXfs | Self::OverlayCopies if is_root => Ok(Runner::Ourselves),
            Self::ReflinkXfs | Self::SubvolumeBtrfs | Self::Plain if is_root => {
                Ok(Runner::WithoutMounts)
            }
            Self::OverlayXfsRootless if is_root => ordinary_account(),
            // Its engine takes what it finds; a kind that was not meant is not measured under this name.
            Self::OverlayCopies | Self::Plain => Ok(Runner::Ourselves),
            Self::OverlayXfs
            | Self::OverlayXfsRootless
            | Self::ReflinkXfs
            | Self::SubvolumeBtrfs => Err(Unmeasurable::because(
                "only root can mount a filesystem in a file",
            )),
        }
    }

    /// Makes it, with room for `bytes`, and nothing in it.
    ///
    /// # Errors
    /// [`Unmeasurable`] when this machine cannot have it.
    pub(super) fn make(self, bytes: u64) -> Result<Ground> {
        let runner = self.runner()?;
        let home = TempDir::new()?;
        let filesystem = match self {
            Self::OverlayXfs | Self::OverlayXfsRootless | Self::ReflinkXfs => {
                Some(("mkfs.xfs", &["-q"][..], "loop"))
            }
            // Without a right to mount, whoever made a subvolume may remove it only so.
            Self::SubvolumeBtrfs => {
                Some(("mkfs.btrfs", &["-q"][..], "loop,user_subvol_rm_allowed"))
            }
            Self::OverlayCopies | Self::Plain => None,
        };
        let mounted = filesystem
            .map(|(mkfs, arguments, options)| Mounted::make(&home, mkfs, arguments, options, bytes))
            .transpose()
            .map_err(|error| Unmeasurable::because(format!("{error:#}")))?;
        let data_dir = mounted
            .as_ref()
            .map_or_else(|| home.path().to_owned(), |mounted| mounted.0.clone())
            .join("e");
        fs::create_dir(&data_dir).context("make a data directory")?;
        fs::set_permissions(&data_dir, Permissions::from_mode(0o711))
            .context("open a data directory")?;
        if let Runner::Ordinary { uid, gid } = runner {
            chown(&data_dir, Some(uid), Some(gid)).context("give a data directory away")?;
        }
        Ok(Ground {
            data_dir,
            runner,
            _mounted: mounted,
            home,
        })
    }
}

/// A place that was made; gone when dropped. What works there has to be ended before.
#[derive(Debug)]
pub(super) struct Ground {
    data_dir: PathBuf,
    runner: Runner,
    // Dropped in this order.
    _mounted: Option<Mounted>,
    home: TempDir,
}

impl Ground {
    /// The engine's data directory.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A directory beside it, for what a measurement keeps.
    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A program as whoever runs the engine.
    pub(super) fn command(&self, program: &Path) -> Command {
        match self.runner {
            Runner::Ourselves => Command::new(program),
            Runner::WithoutMounts => {
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
                command.arg(program);
                command
            }
            Runner::Ordinary { uid, gid } => {
                let mut command = Command::new(program);
                command.uid(uid).gid(gid);
                command
            }
        }
    }
}

/// A filesystem in a file. Unmounted when dropped.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Mounted {
    fn make(
        home: &TempDir,
        mkfs: &str,
        arguments: &[&str],
        options: &str,
        bytes: u64,
    ) -> Result<Self> {
        let image = home.path().join("image");
        let file = File::create(&image).context("create a file for a filesystem")?;
        file.set_len(bytes)
            .context("grow a file for a filesystem")?;
        capture(Command::new(mkfs).args(arguments).arg(&image))?;
        let point = home.create_dir("m")?;
        // Freed blocks go back to the machine's filesystem: the file is sparse.
        let options = format!("{options},discard");
        capture(
            Command::new("mount")
                .args(["-o", &options])
                .arg(&image)
                .arg(&point),
        )?;
        let mounted = Self(point);
        fs::set_permissions(&mounted.0, Permissions::from_mode(0o755))
            .context("open a filesystem")?;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// Unmounts everything at and below a path, lazily: a file that a failed row holds does not keep it.
pub(super) fn unmount(top: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in mount_points(&mounts, top).iter().rev() {
        // It may have gone with one above it; nobody is told in a destructor.
        let _ = capture(Command::new("umount").arg("--lazy").arg(point));
    }
}

/// The mount points at and below a path, in the order of mounting: the fifth field of proc_pid_mountinfo(5). Paths of
/// temporary directories have no character that the kernel escapes.
fn mount_points(mounts: &str, top: &Path) -> Vec<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(PathBuf::from);
    points.filter(|point| point.starts_with(top)).collect()
}

fn ordinary_account() -> Result<Runner> {
    let accounts = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    first_of_people(&accounts).ok_or_else(|| {
        Unmeasurable::because("the machine has no ordinary account to run a rootless engine as")
    })
}

fn first_of_people(accounts: &str) -> Option<Runner> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let of_people = (FIRST_OF_PEOPLE..NOBODY).contains(&uid);
        of_people.then_some(Runner::Ordinary { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_account_is_one_of_people() {
        let accounts = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nann:x:1001:1002::/home/ann:/bin/sh\n";
        assert_eq!(
            first_of_people(accounts),
            Some(Runner::Ordinary {
                uid: 1001,
                gid: 1002
            })
        );
        assert_eq!(first_of_people("root:x:0:0::/root:/bin/sh\n"), None);
    }

    #[test]
    fn mounts_below_a_path_are_found_and_no_others() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/a rw\n\
                      40 22 7:0 / /tmp/bt-1/m rw - xfs /dev/loop0 rw\n\
                      41 40 0:40 / /tmp/bt-1/m/e/x rw - overlay overlay rw\n\
                      42 22 7:1 / /tmp/bt-10/m rw - xfs /dev/loop1 rw\n";
        assert_eq!(
            mount_points(mounts, Path::new("/tmp/bt-1")),
            [
                PathBuf::from("/tmp/bt-1/m"),
                PathBuf::from("/tmp/bt-1/m/e/x")
            ]
        );
    }

    #[test]
    fn every_place_has_its_own_word() {
        let mut words = Place::ALL.map(Place::word).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Place::ALL.len());
    }
}

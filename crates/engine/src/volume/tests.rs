//! One suite for every kind of volume that this machine can do, as root and without; what it cannot do is printed with
//! the reason.
//!
//! Without root a process of these tests cannot mount a filesystem, so the one that can hands directories on it over to
//! another, which runs the same suite as an ordinary account.

mod inside;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{LoopVolume, ServerAccount, TempDir};
use jiff::Timestamp;
use model::ByteSize;

use model::chain;

use super::probe::try_kind;
use super::space::free_space;
use super::*;

/// Names the directories that the suite without root works in: `NAME=PATH`, by colons.
const PLACES_VARIABLE: &str = "BOUGH_TEST_VOLUME_PLACES";

/// A filesystem to test on. Mounted ones go with it.
struct Place {
    name: String,
    root: PathBuf,
    _kept: Box<dyn std::any::Any>,
}

/// Every filesystem that can be had: the temporary directory's own, and as root XFS, btrfs, ext4 and tmpfs.
fn places() -> Vec<Place> {
    let given = std::env::var(PLACES_VARIABLE).unwrap_or_default();
    if !given.is_empty() {
        let given = given.split(':').filter_map(|place| place.split_once('='));
        return given
            .map(|(name, root)| {
                let root = tempfile::tempdir_in(root).unwrap();
                Place {
                    name: name.to_owned(),
                    root: root.path().to_owned(),
                    _kept: Box::new(root),
                }
            })
            .collect();
    }
    let own = TempDir::new().unwrap();
    let mut places = vec![Place {
        name: "the temporary directory".to_owned(),
        root: own.path().to_owned(),
        _kept: Box::new(own),
    }];
    type Make = fn() -> anyhow::Result<LoopVolume>;
    let made: [(&str, Make); 4] = [
        ("XFS", LoopVolume::xfs),
        ("btrfs", LoopVolume::btrfs),
        ("ext4", LoopVolume::ext4),
        ("tmpfs", LoopVolume::tmpfs),
    ];
    for (name, make) in made {
        match make() {
            Ok(volume) => places.push(Place {
                name: name.to_owned(),
                root: volume.path(),
                _kept: Box::new(volume),
            }),
            Err(error) => println!("NOT TESTED on {name}: {error:#}"),
        }
    }
    places
}

/// Does `test` for every kind on every filesystem.
fn everywhere(test: impl Fn(&dyn Volume, &Path)) {
    let mut done = Vec::new();
    for place in places() {
        for kind in Kind::ALL {
            match try_kind(kind, &place.root) {
                Ok(volume) => {
                    let root = place.root.join(kind.as_str().replace(' ', "-"));
                    fs::create_dir(&root).unwrap();
                    println!("{kind} on {}", place.name);
                    let cleared = Cleared(root);
                    test(volume.as_ref(), &cleared.0);
                    done.push(kind);
                }
                Err(error) => {
                    println!("NOT TESTED: {kind} on {}: {}", place.name, chain(&error));
                }
            }
        }
    }
    assert!(done.contains(&Kind::PlainCopy), "{done:?}");
}

/// A test's directory, whose trees are removed with what is mounted in them.
struct Cleared(PathBuf);

impl Drop for Cleared {
    fn drop(&mut self) {
        for name in ["snapshots", "making", "clones"] {
            let trees = fs::read_dir(self.0.join(name)).into_iter().flatten();
            for tree in trees.flatten() {
                if let Err(error) = remove_tree(&tree.path()) {
                    println!("LEFT BEHIND: {}", chain(&error));
                }
            }
        }
    }
}

/// A tree below `root` whose data directory does not exist yet.
fn tree(root: &Path, name: &str) -> PathBuf {
    let tree = root.join(name);
    fs::create_dir_all(&tree).unwrap();
    tree.join("data")
}

fn data_directory(volume: &dyn Volume, root: &Path) -> PathBuf {
    let data = tree(root, "snapshots/original");
    volume.make_data(&data).unwrap();
    fs::create_dir_all(data.join("base/1")).unwrap();
    fs::write(data.join("PG_VERSION"), "16\n").unwrap();
    fs::write(data.join("base/1/1259"), vec![7; 100_000]).unwrap();
    fs::write(data.join("postmaster.opts"), "1\n").unwrap();
    fs::set_permissions(data.join("PG_VERSION"), fs::Permissions::from_mode(0o640)).unwrap();
    data
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_copy_is_whole_and_independent() {
    everywhere(|volume, root| {
        let data = data_directory(volume, root);
        fs::write(data.join("postmaster.pid"), "1\n").unwrap();
        let copy = tree(root, "snapshots/copy");
        let cancel = Cancel::default();
        volume
            .copy_tree(&data, &copy, Motion::Live, &cancel)
            .unwrap();
        assert_eq!(
            fs::read(copy.join("base/1/1259")).unwrap(),
            vec![7; 100_000]
        );
        assert_eq!(mode(&copy.join("PG_VERSION")), 0o640);
        assert_eq!(mode(&copy), 0o700);
        for left in ["postmaster.pid", "postmaster.opts"] {
            assert!(
                !copy.join(left).exists(),
                "a copy may not look like a running server: {left}"
            );
        }
        fs::write(copy.join("base/1/1259"), "changed").unwrap();
        assert_eq!(
            fs::read(data.join("base/1/1259")).unwrap(),
            vec![7; 100_000]
        );
        remove_tree(&root.join("snapshots/original")).unwrap();
        remove_tree(&root.join("snapshots/original")).unwrap();
        assert_eq!(fs::read(copy.join("base/1/1259")).unwrap(), b"changed");
    });
}

#[test]
fn a_link_is_refused_and_a_cancelled_copy_ends() {
    everywhere(|volume, root| {
        let data = data_directory(volume, root);
        let cancel = Cancel::default();
        cancel.cancel();
        let copy = tree(root, "snapshots/copy");
        let cancelled = volume.copy_tree(&data, &copy, Motion::Still, &cancel);
        assert!(
            matches!(cancelled, Err(VolumeError::Cancelled)),
            "{cancelled:?}"
        );
        fs::create_dir(data.join("pg_tblspc")).unwrap();
        std::os::unix::fs::symlink("/tmp", data.join("pg_tblspc/16385")).unwrap();
        for name in ["copied", "cloned"] {
            let to = tree(root, &format!("clones/{name}"));
            let refused = if name == "copied" {
                volume.copy_tree(&data, &to, Motion::Still, &Cancel::default())
            } else {
                volume.clone_tree(&data, &to, &Cancel::default())
            };
            assert!(
                matches!(refused, Err(VolumeError::Foreign { .. })),
                "{refused:?}"
            );
        }
    });
}

#[test]
fn a_clone_of_much_takes_little_where_it_says_so() {
    const LARGE: u64 = 32 << 20;
    everywhere(|volume, root| {
        let data = data_directory(volume, root);
        let bytes = usize::try_from(LARGE).unwrap();
        fs::write(data.join("large"), vec![5; bytes]).unwrap();
        seal(&data).unwrap();
        let before = free_space(root).unwrap();
        let clone = tree(root, "clones/one");
        volume
            .clone_tree(&data, &clone, &Cancel::default())
            .unwrap();
        sync(root).unwrap();
        let taken = before.0.saturating_sub(free_space(root).unwrap().0);
        let usage = Usages::default().of(&clone, Timestamp::UNIX_EPOCH);
        assert!(!usage.is_partial);
        if volume.clone_takes_room() {
            // copy_file_range(2) shares blocks where it can.
            assert!(usage.own.0 + usage.shared.0 >= LARGE, "{usage:?}");
        } else {
            // Others write to what is no volume of this test's.
            let is_alone = room(root).unwrap().places.len() > 1;
            assert!(
                !is_alone || taken < LARGE / 4,
                "a clone of 32 MB took {taken} bytes"
            );
            assert!(usage.own.0 < LARGE / 4, "{usage:?}");
            assert!(usage.shared.0 >= LARGE, "{usage:?}");
        }
        assert!(disk_usage(&data).0 >= LARGE);
    });
}

#[test]
fn usage_is_remembered_for_a_while() {
    let root = tempfile::tempdir().unwrap();
    let data = tree(root.path(), "t");
    fs::create_dir(&data).unwrap();
    let usages = Usages::default();
    let start = Timestamp::UNIX_EPOCH;
    let first = usages.of(&data, start);
    fs::write(data.join("more"), vec![1; 1 << 20]).unwrap();
    let seconds = |seconds| start + jiff::SignedDuration::from_secs(seconds);
    assert_eq!(usages.of(&data, seconds(1)), first);
    assert!(usages.of(&data, seconds(2)).own.0 >= first.own.0 + (1 << 20));
}

#[test]
fn a_volume_in_a_file_has_the_room_of_what_holds_the_file() {
    for make in [LoopVolume::xfs, LoopVolume::btrfs, LoopVolume::ext4] {
        let volume = match make() {
            Ok(volume) => volume,
            Err(error) => {
                println!("NOT TESTED: {error:#}");
                continue;
            }
        };
        let found = room(&volume.path()).unwrap();
        assert_eq!(found.places[1].path, volume.image(), "{found:?}");
        assert_eq!(found.places[0].free, free_space(&volume.path()).unwrap());
        assert!(found.places[1].free.0 > 0);
        let all = ByteSize(found.tightest().free.0 + 1);
        let refused = found.check(all, ByteSize(0)).unwrap_err();
        assert_eq!(refused.path, found.tightest().path);
    }
    let root = tempfile::tempdir().unwrap();
    assert!(!room(root.path()).unwrap().places.is_empty());
}

#[test]
fn a_probe_leaves_nothing_and_says_why_better_kinds_were_passed_over() {
    for place in places() {
        let probed = probe(&place.root).unwrap();
        let chosen = probed.volume.kind();
        println!("{}: {chosen}", place.name);
        assert!(free_space(&place.root).unwrap().0 > 0);
        assert_ne!(filesystem_name(&place.root), "unknown");
        let names: Vec<_> = fs::read_dir(&place.root).unwrap().flatten().collect();
        assert!(
            names.iter().all(|entry| entry.file_name() == "lost+found"),
            "{names:?}"
        );
        let better = Kind::ALL.into_iter().take_while(|kind| *kind != chosen);
        let told: Vec<Kind> = probed
            .passed_over
            .iter()
            .map(|passed| passed.kind)
            .collect();
        assert_eq!(told, better.collect::<Vec<_>>());
        for passed in &probed.passed_over {
            println!("    not {}: {}", passed.kind, passed.reason);
            assert!(!passed.reason.is_empty());
        }
    }
}

/// What a probe that was killed left behind does not stand in the way of the next.
#[test]
fn a_probe_works_where_another_was_killed() {
    for place in places() {
        let leftover = place.root.join(".probe/clone/data");
        fs::create_dir_all(&leftover).unwrap();
        fs::create_dir_all(place.root.join(".probe/original/data")).unwrap();
        let again = probe(&place.root).unwrap();
        let fresh = probe(&place.root).unwrap();
        assert_eq!(again.volume.kind(), fresh.volume.kind());
        assert!(!leftover.exists());
    }
}

/// The same suite once more as an account without privileges, on the filesystems that root has mounted.
#[test]
fn everything_holds_without_root_as_well() {
    let ServerAccount::Other { uid, gid, .. } = ServerAccount::detect().unwrap() else {
        println!("this is not root: the rest of the suite runs without it");
        return;
    };
    let kept = places();
    let mut given = Vec::new();
    for place in &kept {
        let root = place.root.join("without-root");
        fs::create_dir(&root).unwrap();
        chown(&root, Some(uid), Some(gid)).unwrap();
        given.push(format!("{}={}", place.name, root.display()));
    }
    let home = TempDir::new().unwrap();
    chown(home.path(), Some(uid), Some(gid)).unwrap();
    // Through a descriptor: the account may be unable to enter the directory that the program is in.
    let program = fs::File::open("/proc/self/exe").unwrap();
    rustix::io::fcntl_setfd(&program, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&program);
    let output = Command::new(format!("/proc/self/fd/{number}"))
        .args(["volume::tests::", "--nocapture", "--test-threads=1"])
        .args(["--skip", "without_root", "--skip", "in_a_file"])
        .env(PLACES_VARIABLE, given.join(":"))
        .env("TMPDIR", home.path())
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
}

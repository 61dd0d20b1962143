//! One suite for every way of cloning that works on this machine's temporary directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn volumes(directory: &Path) -> Vec<Box<dyn Volume>> {
    let best = probe(directory).unwrap();
    let plain: Box<dyn Volume> = Box::new(plain::Plain);
    if best.kind() == plain.kind() {
        vec![plain]
    } else {
        vec![best, plain]
    }
}

fn data_directory(root: &Path) -> PathBuf {
    let data = root.join("data");
    fs::create_dir_all(data.join("base/1")).unwrap();
    fs::write(data.join("PG_VERSION"), "16\n").unwrap();
    fs::write(data.join("base/1/1259"), vec![7; 100_000]).unwrap();
    fs::write(data.join("postmaster.pid"), "1\n").unwrap();
    fs::set_permissions(data.join("PG_VERSION"), fs::Permissions::from_mode(0o640)).unwrap();
    data
}

#[test]
fn a_clone_is_whole_and_independent() {
    let root = tempfile::tempdir().unwrap();
    let data = data_directory(root.path());
    for volume in volumes(root.path()) {
        let clone = root.path().join(volume.kind());
        volume
            .clone_tree(&data, &clone, &Cancel::default())
            .unwrap();
        assert_eq!(
            fs::read(clone.join("base/1/1259")).unwrap(),
            vec![7; 100_000]
        );
        let mode = fs::metadata(clone.join("PG_VERSION"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(
            !clone.join("postmaster.pid").exists(),
            "a clone may not look like a running server"
        );
        fs::write(clone.join("base/1/1259"), "changed").unwrap();
        assert_eq!(
            fs::read(data.join("base/1/1259")).unwrap(),
            vec![7; 100_000]
        );
        assert!(disk_usage(&clone).0 > 0);
        remove_tree(&clone).unwrap();
        remove_tree(&clone).unwrap();
    }
}

/// Root alone can mount; for everybody else the suite above is about the temporary directory's own filesystem.
#[test]
fn a_filesystem_with_reflinks_shares_blocks() {
    if !fixtures::LoopVolume::is_possible() {
        assert_ne!(rustix::process::geteuid().as_raw(), 0);
        return;
    }
    let mounted = fixtures::LoopVolume::xfs().unwrap();
    let root = mounted.path();
    let volume = probe(&root).unwrap();
    assert_eq!(
        (volume.kind(), volume.clone_takes_room()),
        ("reflink", false)
    );
    assert_eq!(filesystem_name(&root), "xfs");
    let data = data_directory(&root);
    fs::write(data.join("large"), vec![5; 64 << 20]).unwrap();
    let before = free_space(&root).unwrap();
    let clone = root.join("clone");
    volume
        .clone_tree(&data, &clone, &Cancel::default())
        .unwrap();
    let taken = before.0.saturating_sub(free_space(&root).unwrap().0);
    assert!(taken < 8 << 20, "a clone of 64 MB took {taken} bytes");
    fs::write(clone.join("large"), "changed").unwrap();
    assert_eq!(fs::metadata(data.join("large")).unwrap().len(), 64 << 20);
}

#[test]
fn a_link_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let data = data_directory(root.path());
    std::os::unix::fs::symlink("/tmp", data.join("pg_tblspc")).unwrap();
    for volume in volumes(root.path()) {
        let clone = root.path().join(volume.kind());
        let refused = volume.clone_tree(&data, &clone, &Cancel::default());
        assert!(
            matches!(refused, Err(VolumeError::Foreign { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_cancelled_clone_ends() {
    let root = tempfile::tempdir().unwrap();
    let data = data_directory(root.path());
    let cancel = Cancel::default();
    cancel.cancel();
    for volume in volumes(root.path()) {
        let clone = root.path().join(volume.kind());
        assert!(matches!(
            volume.clone_tree(&data, &clone, &cancel),
            Err(VolumeError::Cancelled)
        ));
    }
}

#[test]
fn a_probe_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    probe(root.path()).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    assert!(free_space(root.path()).unwrap().0 > 0);
    assert_ne!(filesystem_name(root.path()), "unknown");
}

//! `engine volume`: a volume in a file, made, found again, told when it is not mounted, removed.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{LoopVolume, TestEnv};

use crate::harness::{environment, run, show};

/// What sudo tells of the account that called it.
const SUDO: [(&str, &str); 3] = [
    ("SUDO_USER", "somebody-of-a-directory"),
    ("SUDO_UID", "65534"),
    ("SUDO_GID", "65534"),
];

/// Unmounts what a failed test leaves.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if ::engine::volume::is_mount_point(&self.0).is_ok_and(|is_mounted| is_mounted) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        }
    }
}

fn unmount(point: &Path) {
    let unmounted = Command::new("umount").arg(point).status().unwrap();
    assert!(unmounted.success());
}

/// Root by sudo, and where somebody's volume would be mounted; none where no file can be.
fn of_somebody() -> Option<(TestEnv, PathBuf)> {
    if let Err(error) = LoopVolume::xfs() {
        println!("NOT TESTED, for this machine cannot mount a file: {error:#}");
        return None;
    }
    let mut env = environment();
    for (name, value) in SUDO {
        env.set(name, value);
    }
    let point = env.data_directory().join("volume");
    Some((env, point))
}

#[test]
fn a_volume_in_a_file_is_made_once_found_again_and_removed() {
    let Some((env, point)) = of_somebody() else {
        return;
    };
    let image = env.root().join("files/b.img");
    let _mounted = Mounted(point.clone());
    let create = format!(
        "engine volume create --size 600M --path {}",
        image.display()
    );
    for _ in 0..2 {
        let made = run(&env, &create);
        assert!(made.status.success(), "{}", show(&env, &made));
        assert!(::engine::volume::is_mount_point(&point).unwrap());
        assert_eq!(::engine::volume::filesystem_name(&point), "xfs");
        assert_eq!(fs::metadata(&point).unwrap().uid(), 65_534);
        assert_eq!(fs::metadata(&image).unwrap().mode() & 0o777, 0o600);
    }
    let probed = ::engine::volume::probe(&point).unwrap();
    assert!(probed.volume.kind() <= ::engine::volume::Kind::Reflink);
    fs::create_dir_all(point.join("clones/one")).unwrap();

    // As after a boot that nobody mounted it after.
    unmount(&point);
    let refused = ::engine::volume::probe(&point).unwrap_err().to_string();
    assert!(refused.contains("sudo mount -o loop,"), "{refused}");
    let shown = run(&env, "engine volume ls").stdout;
    assert!(
        shown.starts_with("No volume"),
        "the file is at no usual place: {shown}"
    );
    let shown = run(
        &env,
        &format!("engine volume ls --path {}", image.display()),
    );
    assert!(shown.stdout.contains("Mounted  no"), "{}", shown.stdout);
    assert!(run(&env, &create).status.success());
    assert!(
        point.join("clones/one").is_dir(),
        "what was on it is there again"
    );

    let refused = run(&env, "engine volume rm");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("1 branches live on the volume"),
        "{}",
        refused.stderr
    );
    let removed = run(&env, "engine volume rm --force");
    assert!(removed.status.success(), "{}", show(&env, &removed));
    assert!(!image.exists() && !::engine::volume::is_mount_point(&point).unwrap());
    ::engine::volume::probe(&point).unwrap();
    assert_eq!(run(&env, "engine volume rm").status.code(), Some(1));
}

#[test]
fn root_writes_through_no_link_and_removes_no_file_that_is_no_volume() {
    let Some((env, point)) = of_somebody() else {
        return;
    };
    let _mounted = Mounted(point.clone());
    let others = env.root().join("others");
    fs::write(&others, "as it was").unwrap();
    fs::create_dir_all(&point).unwrap();
    symlink(&others, point.join(::engine::volume::NOT_MOUNTED_MARK)).unwrap();

    let theirs = format!("--path {}", others.display());
    let removed = run(&env, &format!("engine volume rm --force {theirs}"));
    assert!(
        removed.stderr.contains("neither a mount nor a unit"),
        "{}",
        removed.stderr
    );
    chown(&others, Some(65_534), Some(65_534)).unwrap();
    let made = run(&env, &format!("engine volume create --size 600M {theirs}"));
    assert!(
        made.stderr.contains("is not a file of root's own"),
        "{}",
        made.stderr
    );
    let image = env.root().join("b.img");
    let made = run(
        &env,
        &format!(
            "engine volume create --size 600M --path {}",
            image.display()
        ),
    );
    assert!(made.status.success(), "{}", show(&env, &made));
    unmount(&point);
    let mark = point.join(::engine::volume::NOT_MOUNTED_MARK);
    assert!(fs::symlink_metadata(&mark).unwrap().is_file());
    assert!(fs::read_to_string(&mark).unwrap().contains("mount"));
    assert_eq!(fs::read_to_string(&others).unwrap(), "as it was");
}

#[test]
fn nothing_is_hidden_below_a_volume_and_no_engine_loses_its_own() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: only root gets as far as that");
        return;
    }
    let env = environment();
    let data = env.data_directory();
    let create = format!(
        "engine volume create --size 600M --path {}",
        env.root().join("b.img").display()
    );
    fs::create_dir_all(data.join("volume/clones/one/data")).unwrap();
    fs::write(data.join("volume/clones/one/data/PG_VERSION"), "16").unwrap();
    let refused = run(&env, &create);
    assert!(
        refused.stderr.contains("is not empty"),
        "{}",
        refused.stderr
    );
    fs::remove_dir_all(data.join("volume")).unwrap();
    let lock = fs::File::create(data.join("engine.lock")).unwrap();
    lock.lock().unwrap();
    let refused = run(&env, &create);
    assert!(refused.stderr.contains("is running"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("bough engine stop --servers"),
        "{}",
        refused.stderr
    );
    let small = run(&env, "engine volume create --size 100M");
    assert!(small.stderr.contains("at least"), "{}", small.stderr);
    let wrong = run(&env, "engine volume create --size 100X");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!data.join("volume").exists());
}

#[test]
fn the_profile_for_apparmor_names_this_program() {
    let env = environment();
    let profile = run(&env, "doctor --apparmor-profile").stdout;
    assert!(profile.contains("userns,"), "{profile}");
    assert!(
        profile.contains(&format!(
            "profile bough \"{}\"",
            env!("CARGO_BIN_EXE_bough")
        )),
        "{profile}"
    );
}

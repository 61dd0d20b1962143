//! Programs inside data directories of every kind: what they see, who finds them, and that there is never a second.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;

/// How long a killed process may take until what it held is free.
const LOCK_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// A shell in a data directory that does one line after the other and answers each with a line break and the line `done`.
struct Program {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn start(data: &Path) -> Result<Self, VolumeError> {
        let prepared = DataDir::at(data).prepare()?;
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg("cd \"$0\" && while read -r line; do eval \"$line\"; echo; echo done; done")
            .arg(data)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let entering = prepared.apply(&mut command)?;
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| match entering.explain(error) {
            StartFailure::Volume(error) => error,
            StartFailure::Program(error) => cannot("run a shell for", data)(error),
        })?;
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, answers };
        program.run("true");
        Ok(program)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a line and gives what it prints.
    fn run(&mut self, line: &str) -> String {
        use std::io::Write as _;
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut printed = String::new();
        loop {
            let mut answer = String::new();
            let read = self.answers.read_line(&mut answer).unwrap();
            assert!(read > 0, "the shell ended at {line:?}");
            if answer == "done\n" {
                // The line break before the answer is not the line's own.
                printed.pop();
                return printed;
            }
            printed.push_str(&answer);
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sealed snapshot and a clone of it, moved to its last place.
fn snapshot_and_clone(volume: &dyn Volume, root: &Path) -> (PathBuf, PathBuf) {
    let snapshot = data_directory(volume, root);
    seal(&snapshot).unwrap();
    let making = tree(root, "making/one");
    volume
        .clone_tree(&snapshot, &making, &Cancel::default())
        .unwrap();
    fs::create_dir(root.join("clones")).unwrap();
    fs::rename(root.join("making/one"), root.join("clones/one")).unwrap();
    (snapshot, root.join("clones/one/data"))
}

#[test]
fn a_program_sees_the_snapshot_and_its_own_changes_only() {
    everywhere(|volume, root| {
        let (snapshot, clone) = snapshot_and_clone(volume, root);
        let mut program = Program::start(&clone).unwrap();
        assert_eq!(program.run("wc -c < base/1/1259").trim(), "100000");
        program.run("printf more >> base/1/1259; rm PG_VERSION; mkdir new; echo 1 > new/file");
        assert_eq!(program.run("wc -c < base/1/1259").trim(), "100004");
        assert_eq!(
            fs::read(snapshot.join("base/1/1259")).unwrap().len(),
            100_000
        );
        assert!(snapshot.join("PG_VERSION").exists() && !snapshot.join("new").exists());

        let (second, third) = (tree(root, "clones/two"), tree(root, "clones/three"));
        volume
            .clone_tree(&snapshot, &second, &Cancel::default())
            .unwrap();
        volume
            .clone_tree(&snapshot, &third, &Cancel::default())
            .unwrap();
        let mut other = Program::start(&second).unwrap();
        assert_eq!(other.run("wc -c < base/1/1259; ls new").trim(), "100000");

        program.kill();
        let mut again = Program::start(&clone).unwrap();
        assert_eq!(again.run("wc -c < base/1/1259").trim(), "100004");
        assert_eq!(again.run("cat PG_VERSION new/file").trim(), "1");
    });
}

#[test]
fn files_placed_before_a_start_are_seen_and_what_is_written_is_seen_outside() {
    everywhere(|volume, root| {
        let (snapshot, clone) = snapshot_and_clone(volume, root);
        for text in ["one", "two"] {
            let home = DataDir::at(&clone);
            let prepared = home.prepare().unwrap();
            let path = prepared.files().join("PG_VERSION");
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            drop(prepared);
            let mut program = Program::start(&clone).unwrap();
            assert_eq!(program.run("cat PG_VERSION"), text);
            program.run("echo here > postmaster.pid");
            let seen = home.seen_through(program.pid());
            for place in [home.written(), seen.clone()] {
                let written = fs::read_to_string(place.join("postmaster.pid"));
                assert_eq!(written.unwrap(), "here\n", "{}", place.display());
            }
            assert!(seen.join("base/1/1259").exists());
            program.kill();
        }
        assert_eq!(
            fs::read_to_string(snapshot.join("PG_VERSION")).unwrap(),
            "16\n"
        );
    });
}

#[test]
fn programs_are_found_and_strangers_are_not() {
    everywhere(|volume, root| {
        let (snapshot, clone) = snapshot_and_clone(volume, root);
        let other = tree(root, "clones/two");
        volume
            .clone_tree(&snapshot, &other, &Cancel::default())
            .unwrap();
        let (mut here, there) = (
            Program::start(&clone).unwrap(),
            Program::start(&other).unwrap(),
        );
        let found = |pid| DataDir::at(&clone).is_home_of(pid).is_ok_and(|home| home);
        assert!(found(here.pid()));
        assert!(!found(there.pid()));
        assert!(!found(std::process::id()));
        let child: u32 = here
            .run("sleep 600 > /dev/null & echo $!")
            .trim()
            .parse()
            .unwrap();
        assert!(found(child));
        here.run(&format!("kill -9 {child}"));
        let ended = here.pid();
        here.kill();
        assert!(!found(ended));
    });
}

/// Whoever comes while somebody is there is in the same place, or is refused: there are never two overlays over one
/// directory of changes.
#[test]
fn a_second_program_joins_the_first_one_or_its_survivors() {
    everywhere(|volume, root| {
        let (_snapshot, clone) = snapshot_and_clone(volume, root);
        let mut first = Program::start(&clone).unwrap();
        let survivor: u32 = first
            .run("sleep 600 > /dev/null & echo $!")
            .trim()
            .parse()
            .unwrap();
        first.run("printf 1 > base/1/1259");
        first.kill();
        // The survivor's view of the file is cached in its kernel's overlay; another overlay would not know of it.
        let mut second = Program::start(&clone).unwrap();
        assert_eq!(second.run("cat base/1/1259"), "1");
        second.run("printf 2 > base/1/1259; echo > joined");
        let mounts = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
        assert_eq!(mounts(survivor), mounts(second.pid()));
        let seen = DataDir::at(&clone).seen_through(survivor);
        assert_eq!(fs::read(seen.join("base/1/1259")).unwrap(), b"2");
        second.run(&format!("kill -9 {survivor}"));

        // The lock went over to the second program: it stays when the survivor is gone.
        let refused_or_joined = DataDir::at(&clone).prepare().unwrap();
        assert!(refused_or_joined.files().join("joined").exists());
        drop(refused_or_joined);
        second.kill();
        if volume.mounted_by() == Some(Way::Server) {
            let freed = fixtures::eventually("the lock's end", LOCK_TIME_MAX, || {
                Ok(DataDir::at(&clone).check_exclusive(root).err())
            });
            assert!(matches!(freed, Ok(VolumeError::Untrue { .. })), "{freed:?}");
        }
    });
}

#[test]
fn a_tree_in_use_is_not_detached_and_an_ended_ones_is_removed_whole() {
    everywhere(|volume, root| {
        let (snapshot, clone) = snapshot_and_clone(volume, root);
        let program = Program::start(&clone).unwrap();
        let home = DataDir::at(&clone);
        if volume.mounted_by() == Some(Way::Engine) {
            let refused = home.detach();
            assert!(
                matches!(refused, Err(VolumeError::InUse { .. })),
                "{refused:?}"
            );
        }
        program.kill();
        home.detach().unwrap();
        remove_tree(&root.join("clones/one")).unwrap();
        assert!(!root.join("clones/one").exists());
        assert_eq!(fs::read_dir(root.join("clones")).unwrap().count(), 0);
        remove_tree(&root.join("snapshots/original")).unwrap();
        assert!(!snapshot.exists(), "a sealed snapshot can be removed");
    });
}

#[test]
fn nothing_can_be_added_to_a_sealed_snapshot() {
    everywhere(|volume, root| {
        let (snapshot, clone) = snapshot_and_clone(volume, root);
        assert_eq!(mode(&snapshot) & 0o222, 0);
        let added = fs::write(snapshot.join("postmaster.pid"), "1");
        // Root may do anything; servers never are root.
        assert_eq!(added.is_ok(), rustix::process::geteuid().is_root());
        let mut program = Program::start(&clone).unwrap();
        program.run("echo > postmaster.pid");
        assert_eq!(program.run("stat -c %a .").trim(), "700");
    });
}

#[test]
fn a_snapshot_that_is_gone_or_served_is_told() {
    everywhere(|volume, root| {
        let (snapshot, clone) = snapshot_and_clone(volume, root);
        if volume.clone_needs_original() {
            fs::set_permissions(&snapshot, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(snapshot.join("postmaster.pid"), "1").unwrap();
            let to = tree(root, "clones/two");
            let served = volume.clone_tree(&snapshot, &to, &Cancel::default());
            assert!(
                matches!(served, Err(VolumeError::InUse { .. })),
                "{served:?}"
            );
        }
        remove_tree(&root.join("snapshots/original")).unwrap();
        let started = Program::start(&clone);
        assert_eq!(started.is_err(), volume.clone_needs_original());
        if let Err(error) = started {
            println!("    {}", chain(&error));
        }
        remove_tree(&root.join("clones/one")).unwrap();
    });
}

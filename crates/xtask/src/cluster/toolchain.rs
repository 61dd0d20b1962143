//! Go in a version that builds Kubernetes: the machine's own, or the one that an older one gets as a module.
//!
//! Debian 12 has Go 1.19, which does not know that a newer one can be had (<https://go.dev/doc/toolchain>), but gets it as any
//! other module, its sum looked up in the public database of sums.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, console, debian};

/// What `tests/cluster/node/go.mod` asks for; minor version of Go 1.
const WANTED_MINOR: u32 = 24;

/// The Go that is got where the machine's is older.
const GOT: &str = "go1.24.13";

/// Where the programs of a Go are, from its root.
const PROGRAMS: [&str; 2] = ["bin", "pkg/tool"];

/// Go that is new enough. `root` is a directory without a module, for files.
///
/// # Errors
/// When the machine has none, or none that is new enough can be got.
pub(super) fn go(root: &Path) -> Result<Command> {
    let told = command::capture(debian::go().arg("version")).context("ask Go for its version")?;
    if minor(&told).is_some_and(|minor| minor >= WANTED_MINOR) {
        return Ok(debian::go());
    }
    console::note(&format!("{}: {GOT} is got in its place", told.trim()));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let module = format!("golang.org/toolchain@v0.0.1-{GOT}.linux-{architecture}");
    let mut get = debian::go();
    get.args(["mod", "download", "-json", &module]);
    let answer = command::capture(get.current_dir(root)).with_context(|| format!("get {GOT}"))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).context("read Go's answer")?;
    let directory = PathBuf::from(answer["Dir"].as_str().context("Go names no directory")?);
    for programs in PROGRAMS {
        make_executable(&directory.join(programs))?;
    }
    let mut go = Command::new(directory.join("bin/go"));
    // What an older one was told of its own root is not about this one.
    go.env_remove("GOROOT");
    Ok(go)
}

/// `24` of `go version go1.24.13 linux/amd64`.
fn minor(told: &str) -> Option<u32> {
    let version = told.split_whitespace().nth(2)?.strip_prefix("go1.")?;
    let digits = version.split(|other: char| !other.is_ascii_digit()).next();
    digits?.parse().ok()
}

/// Files of a module are of no program until somebody says so.
fn make_executable(directory: &Path) -> Result<()> {
    let list = || fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>();
    let entries = list().with_context(|| format!("list {}", directory.display()))?;
    for path in entries.iter().map(fs::DirEntry::path) {
        if path.is_dir() {
            make_executable(&path)?;
        } else {
            fs::set_permissions(&path, Permissions::from_mode(0o555))
                .with_context(|| format!("make {} executable", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::workspace;

    #[test]
    fn the_version_is_read_and_a_text_without_one_is_none() {
        assert_eq!(minor("go version go1.19.8 linux/amd64\n"), Some(19));
        assert_eq!(minor("go version go1.26rc1 linux/arm64\n"), Some(26));
        assert_eq!(minor("go version devel +4fd94558b2"), None);
        assert_eq!(minor(""), None);
    }

    #[test]
    fn what_is_wanted_and_what_is_got_are_what_the_module_asks_for() {
        let path = workspace().join("tests/cluster/node/go.mod");
        let module = fs::read_to_string(path).expect("it is in the tree");
        let line = format!("go 1.{WANTED_MINOR}.");
        assert!(module.lines().any(|it| it.starts_with(&line)), "{line}");
        assert!(GOT.starts_with(&format!("go1.{WANTED_MINOR}.")));
    }

    #[test]
    fn programs_in_directories_of_directories_become_executable() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("linux_amd64/compile");
        fs::create_dir_all(program.parent().expect("it has one")).expect("created");
        fs::write(&program, "").expect("written");
        make_executable(dir.path()).expect("made so");
        let mode = fs::metadata(&program).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o555);
    }
}

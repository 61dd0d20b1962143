//! Tools that Rust's own distribution does not have, at pinned versions in the cache directory.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::console;
use crate::lock::Lock;
use crate::places::{Places, create_public_dir};
use crate::python::{PinnedWheel, Venv};

/// The spelling checker, a single program in a wheel.
const TYPOS: PinnedWheel = PinnedWheel {
    project: "typos",
    version: "1.52.0",
    sha256: &[
        "418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6",
        "5e870133c7e9cace94183e4d638697004a1473e79abcd01b8f75e362049a9b5c",
    ],
};

/// The checker of licences, origins and advisories.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// What of the caller's build must not reach the build of a tool: its target directory, target and flags.
const BUILD_VARIABLES: [&str; 5] = [
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
];

/// Set to 0, an error that a test returns is told without its stack, which names the test's own line at best and buries
/// what was printed before it. Panics keep theirs. (`std::backtrace`)
pub(crate) const ERROR_BACKTRACES: &str = "RUST_LIB_BACKTRACE";

/// Cargo itself: the one that runs us, so that the pinned toolchain is used everywhere.
///
/// What `cargo run` says of us (<https://doc.rust-lang.org/cargo/reference/environment-variables.html>) goes no further:
/// build scripts that look at it, ring's is one, would run again whenever a developer's own cargo ran between.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if is_ours(&name) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Whether a variable says which package runs.
fn is_ours(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"CARGO_PKG_") || name.starts_with(b"CARGO_MANIFEST_")
}

/// The program `typos`, installed where it is missing.
///
/// # Errors
/// When Python or the wheel cannot be got.
pub(crate) fn typos(places: &Places) -> Result<PathBuf> {
    create_public_dir(&places.cache)?;
    let venv = Venv::at(&places.cache)?;
    let program = venv.program("typos");
    if !has_version(&program, TYPOS.version) {
        console::note(&format!("installing typos {}", TYPOS.version));
        venv.install(&TYPOS).context("install typos")?;
        ensure!(
            has_version(&program, TYPOS.version),
            "{} is not the pinned version",
            program.display()
        );
    }
    Ok(program)
}

/// The program `cargo-deny`, built where it is missing.
///
/// # Errors
/// When it cannot be got or built.
pub(crate) fn cargo_deny(places: &Places) -> Result<PathBuf> {
    create_public_dir(&places.cache)?;
    let _lock = Lock::take(&places.cache.join(".cargo-deny.lock"))?;
    let root = places
        .cache
        .join(format!("cargo-deny-{CARGO_DENY_VERSION}"));
    let program = root.join("bin/cargo-deny");
    if !has_version(&program, CARGO_DENY_VERSION) {
        console::note(&format!(
            "building cargo-deny {CARGO_DENY_VERSION}, once: this takes some minutes"
        ));
        // Not in the repository: its `.cargo/config.toml` is about our own programs.
        fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        let mut install = cargo();
        install.args([
            "install",
            "cargo-deny",
            "--locked",
            "--force",
            "--version",
            CARGO_DENY_VERSION,
            "--root",
        ]);
        install.arg(&root).current_dir(&root);
        for name in BUILD_VARIABLES {
            install.env_remove(name);
        }
        command::run(&mut install)?;
        ensure!(
            has_version(&program, CARGO_DENY_VERSION),
            "{} is not the pinned version",
            program.display()
        );
    }
    Ok(program)
}

fn has_version(program: &Path, version: &str) -> bool {
    let answer = Command::new(program).arg("--version").output();
    answer.is_ok_and(|answer| {
        String::from_utf8_lossy(&answer.stdout)
            .split_whitespace()
            .any(|word| word == version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_not_told_which_package_runs_it() {
        let cargo = cargo();
        let taken: Vec<_> = cargo
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .filter_map(|(name, _)| name.to_str())
            .collect();
        // Cargo sets both for tests as well.
        assert!(taken.contains(&"CARGO_PKG_NAME"), "{taken:?}");
        assert!(taken.contains(&"CARGO_MANIFEST_DIR"), "{taken:?}");
        assert!(!taken.contains(&"CARGO_HOME"), "{taken:?}");
    }

    #[test]
    fn a_version_is_a_whole_word() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("tool");
        assert!(!has_version(&program, "1.2"), "nothing is there");
        fs::write(&program, "#!/bin/sh\necho tool 1.2.3\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).expect("made a program");
        assert!(has_version(&program, "1.2.3"));
        assert!(!has_version(&program, "1.2"));
    }
}

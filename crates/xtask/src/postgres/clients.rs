//! The client programs, from a wheel whose own server is left out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::versions::Wheel;
use crate::python::{PinnedWheel, Venv};

/// The client programs that we link. `pg_config` is not among them, since it would describe the wheel's
/// server and not ours, nor are those that start a server beside them (`pg_rewind`, `pg_upgrade`, `pg_createsubscriber`).
pub(super) const PROGRAMS: [&str; 19] = [
    "pg_amcheck",
    "pg_basebackup",
    "pg_checksums",
    "pg_combinebackup",
    "pg_controldata",
    "pg_dump",
    "pg_dumpall",
    "pg_isready",
    "pg_receivewal",
    "pg_recvlogical",
    "pg_resetwal",
    "pg_restore",
    "pg_verifybackup",
    "pg_waldump",
    "pg_walsummary",
    "pgbench",
    "psql",
    "reindexdb",
    "vacuumdb",
];

/// Those that speak to a server of any older version; the others read a data directory, of their own version alone.
const OF_ANY_VERSION: [&str; 12] = [
    "pg_amcheck",
    "pg_basebackup",
    "pg_dump",
    "pg_dumpall",
    "pg_isready",
    "pg_receivewal",
    "pg_recvlogical",
    "pg_restore",
    "pgbench",
    "psql",
    "reindexdb",
    "vacuumdb",
];

/// Client programs as they are installed.
#[derive(Debug)]
pub(crate) struct ClientPrograms {
    /// All that they need, which must stay together.
    pub(crate) tree: PathBuf,
    /// Where the programs lie in it, relative.
    pub(crate) bin: PathBuf,
    /// Their names.
    pub(crate) programs: Vec<&'static str>,
}

/// The clients of an installation; for a server of another version, only those that serve it.
///
/// # Errors
/// When there are none.
pub(super) fn installed(place: &Path, of_this_version: bool) -> Result<ClientPrograms> {
    let tree = place.join("clients");
    let programs = if of_this_version {
        PROGRAMS.to_vec()
    } else {
        OF_ANY_VERSION.to_vec()
    };
    Ok(ClientPrograms {
        bin: find_bin(&tree)?,
        tree,
        programs,
    })
}

/// Unpacks the wheel into `<into>/clients` and links its programs from `<into>/bin`. The wheel's tree stays
/// as it is, because its programs find their libraries relative to their real places.
///
/// # Errors
/// When pip cannot get the wheel, or it does not have the expected shape.
pub(super) fn unpack(wheel: &Wheel, venv: &Venv, into: &Path) -> Result<()> {
    let pinned = PinnedWheel {
        project: wheel.project,
        version: wheel.version,
        sha256: &wheel.sha256,
    };
    let clients = into.join("clients");
    venv.unpack(&pinned, &clients)?;
    let bin = find_bin(&clients)?;
    drop_others(&clients.join(&bin))?;
    for program in PROGRAMS {
        let target = Path::new("../clients").join(&bin).join(program);
        let link = into.join("bin").join(program);
        symlink(&target, &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(())
}

/// `<package>/pginstall/bin`, relative to where the wheel was unpacked.
fn find_bin(clients: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(clients).with_context(|| format!("list {}", clients.display()))? {
        let bin = Path::new(&entry?.file_name()).join("pginstall/bin");
        if clients.join(&bin).is_dir() {
            return Ok(bin);
        }
    }
    anyhow::bail!("the wheel has no <package>/pginstall/bin");
}

/// Removes what is not a client program, the wheel's server above all.
fn drop_others(bin: &Path) -> Result<()> {
    for entry in fs::read_dir(bin).with_context(|| format!("list {}", bin.display()))? {
        let entry = entry?;
        if !PROGRAMS.iter().any(|program| entry.file_name() == *program) {
            fs::remove_file(entry.path())
                .with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_of_a_wheel_are_found_and_its_server_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(find_bin(dir.path()).is_err());
        let bin = dir.path().join("some_package/pginstall/bin");
        fs::create_dir_all(&bin).expect("a bin directory");
        for program in ["postgres", "psql"] {
            fs::write(bin.join(program), "").expect("a program");
        }
        assert_eq!(
            find_bin(dir.path()).expect("it is there"),
            Path::new("some_package/pginstall/bin")
        );
        drop_others(&bin).expect("removed");
        assert!(!bin.join("postgres").exists() && bin.join("psql").exists());
    }

    #[test]
    fn a_server_of_another_version_gets_no_program_that_reads_data_directories() {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = Path::new("some_package/pginstall/bin");
        fs::create_dir_all(dir.path().join("clients").join(bin)).expect("a bin directory");
        let own = installed(dir.path(), true).expect("installed");
        assert_eq!(own.bin, bin);
        assert!(own.programs.contains(&"pg_resetwal"));
        let others = installed(dir.path(), false).expect("installed");
        assert!(!others.programs.contains(&"pg_resetwal"));
        assert!(others.programs.iter().all(|name| PROGRAMS.contains(name)));
    }
}

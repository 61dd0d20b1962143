//! What is in a data directory: what of a source's is kept, and what of a standby's a clone must not have.
//!
//! A base backup brings everything that lies in the source's directory: keys, logs, configuration, archives. Only what
//! PostgreSQL itself puts there is kept. Source: PostgreSQL documentation, section 69.1 "Database File Layout", and
//! `excludeDirContents` in `src/backend/backup/basebackup.c`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::postgres::account::{AccountError, ServerAccount};

/// Tells a server that it is a standby.
pub(super) const STANDBY_SIGNAL: &str = "standby.signal";

/// Tells a server from where a clone is to be recovered.
pub(super) const BACKUP_LABEL: &str = "backup_label";

/// Where tablespaces are linked.
const TABLESPACES: &str = "pg_tblspc";

/// What a seeded directory keeps.
const KEPT: [&str; 21] = [
    "PG_VERSION",
    BACKUP_LABEL,
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_multixact",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    TABLESPACES,
    "pg_twophase",
    "pg_wal",
    "pg_xact",
    "pg_hba.conf",
    "pg_ident.conf",
];

/// Directories whose content belongs to the server that wrote it: a clone has them empty. Replication slots above all:
/// they would keep WAL for nobody.
const EMPTIED: [&str; 8] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    TABLESPACES,
];

/// Files that belong to the server that wrote them.
const REMOVED: [&str; 8] = [
    STANDBY_SIGNAL,
    "recovery.signal",
    "promote",
    "postmaster.pid",
    "postmaster.opts",
    "backup_label.old",
    "current_logfiles",
    "postgresql.auto.conf",
];

/// Digits of the name of a WAL file, and those of the timeline at its beginning.
const SEGMENT_NAME_DIGITS: usize = 24;
const TIMELINE_DIGITS: usize = 8;

/// Reads of the control file until two in a row are the same: one is written in one call of 8 kB.
const CONTROL_READS_MAX: usize = 100;

/// Why a directory could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// A file or directory failed.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be given to the servers' account.
    #[error("cannot prepare a file for the server")]
    Own(#[from] AccountError),
    /// A base backup that has tablespaces.
    #[error("the source has a tablespace, which a copy could not place")]
    Tablespace,
    /// The label of a backup that does not say where its WAL begins.
    #[error("the label of the backup makes no sense")]
    Label,
    /// The control file never held still.
    #[error("{path} changes faster than it can be read")]
    Control {
        /// The file.
        path: PathBuf,
    },
}

impl ContentsError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::File { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            Self::Own(_) | Self::Tablespace | Self::Label | Self::Control { .. } => false,
        }
    }
}

fn fail<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ContentsError + 'a {
    move |source| ContentsError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Makes a seeded directory a standby's: what is not PostgreSQL's own goes, the signal comes, and no tablespace can be
/// linked. A `CREATE TABLESPACE` that is replayed then ends the standby before a file of it is touched, which may be
/// the source's own where both run on one machine.
///
/// # Errors
/// [`ContentsError::Tablespace`] when there is one already.
pub(super) fn make_standby(data: &Path, account: &ServerAccount) -> Result<(), ContentsError> {
    for path in entries(data)? {
        let name = path.file_name().unwrap_or_default();
        if !KEPT.iter().any(|kept| name == *kept) {
            remove(&path)?;
        }
    }
    let tablespaces = data.join(TABLESPACES);
    if !entries(&tablespaces)?.is_empty() {
        return Err(ContentsError::Tablespace);
    }
    keep_in_recovery(data, account)
}

/// Makes the next server in `data` a standby that links no tablespace.
pub(super) fn keep_in_recovery(data: &Path, account: &ServerAccount) -> Result<(), ContentsError> {
    set_mode(&data.join(TABLESPACES), 0o500)?;
    write_owned(&data.join(STANDBY_SIGNAL), "", account)
}

/// Lets the server in `data` have tablespaces again, which a branch may.
pub(super) fn allow_tablespaces(data: &Path) -> Result<(), ContentsError> {
    set_mode(&data.join(TABLESPACES), 0o700)
}

/// Takes out of a clone what belongs to the server that it was cloned from.
pub(super) fn weed(clone: &Path) -> Result<(), ContentsError> {
    allow_tablespaces(clone)?;
    for name in EMPTIED {
        for path in entries(&clone.join(name))? {
            remove(&path)?;
        }
    }
    for name in REMOVED {
        remove(&clone.join(name))?;
    }
    Ok(())
}

/// Completes a clone of a living standby, after its backup has ended: the label, then the control file, then WAL from
/// where the label begins. In this order, for the control file says how far the WAL must reach at least.
pub(super) fn complete(
    standby: &Path,
    clone: &Path,
    label: &str,
    account: &ServerAccount,
) -> Result<(), ContentsError> {
    let first = first_segment(label)?;
    weed(clone)?;
    write_owned(&clone.join(BACKUP_LABEL), label, account)?;
    copy_control(standby, clone, account)?;
    let wal = clone.join("pg_wal");
    for path in entries(&wal)? {
        remove(&path)?;
    }
    for path in entries(&standby.join("pg_wal"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !is_wanted(&name, &first) {
            continue;
        }
        let to = wal.join(&*name);
        match fs::copy(&path, &to) {
            Ok(_) => account.own(&to)?,
            // Removed by a restartpoint: what is needed is kept by its place in the label.
            Err(error) if error.kind() == io::ErrorKind::NotFound => remove(&to)?,
            Err(source) => return Err(fail("copy", &path)(source)),
        }
    }
    Ok(())
}

/// The name of the first WAL file that the label needs: `START WAL LOCATION: 0/9000028 (file 000000010000000000000009)`.
fn first_segment(label: &str) -> Result<String, ContentsError> {
    let line = label
        .lines()
        .find_map(|line| line.strip_prefix("START WAL LOCATION: "));
    let name = line
        .and_then(|line| line.split_once("(file "))
        .map(|(_, name)| name.trim_end_matches(')'));
    let is_name = |name: &&str| is_segment(name);
    name.filter(is_name)
        .map(str::to_owned)
        .ok_or(ContentsError::Label)
}

fn is_segment(name: &str) -> bool {
    name.len() == SEGMENT_NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether recovery from the file `first` on may ask for a file: a later one on any timeline, or a timeline's history.
fn is_wanted(name: &str, first: &str) -> bool {
    let is_history = name.ends_with(".history");
    let is_later = is_segment(name) && name[TIMELINE_DIGITS..] >= first[TIMELINE_DIGITS..];
    is_history || is_later
}

fn copy_control(
    standby: &Path,
    clone: &Path,
    account: &ServerAccount,
) -> Result<(), ContentsError> {
    let from = standby.join("global/pg_control");
    let read = || fs::read(&from).map_err(fail("read", &from));
    let mut last = read()?;
    for _ in 0..CONTROL_READS_MAX {
        let now = read()?;
        if now == last {
            return write_owned(&clone.join("global/pg_control"), now, account);
        }
        last = now;
    }
    Err(ContentsError::Control { path: from })
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, ContentsError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory)?;
        entries.map(|entry| Ok(entry?.path())).collect()
    };
    list().map_err(fail("list", directory))
}

/// Removes whatever is there; a link is removed, not followed.
fn remove(path: &Path) -> Result<(), ContentsError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), ContentsError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(fail("set the mode of", path))
}

fn write_owned(
    path: &Path,
    content: impl AsRef<[u8]>,
    account: &ServerAccount,
) -> Result<(), ContentsError> {
    // A new file: the old one may be shared with what it was cloned from.
    remove(path)?;
    fs::write(path, content).map_err(fail("write", path))?;
    set_mode(path, 0o600)?;
    Ok(account.own(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "START WAL LOCATION: 0/9000028 (file 000000010000000000000009)\n\
        CHECKPOINT LOCATION: 0/9000060\nBACKUP METHOD: streamed\nBACKUP FROM: standby\n";

    #[test]
    fn a_label_says_where_its_wal_begins() {
        assert_eq!(first_segment(LABEL).unwrap(), "000000010000000000000009");
        for wrong in [
            "",
            "START WAL LOCATION: 0/9000028 (file ../../etc/passwd)\n",
        ] {
            assert!(matches!(first_segment(wrong), Err(ContentsError::Label)));
        }
    }

    #[test]
    fn recovery_gets_later_files_of_every_timeline_and_their_history() {
        let first = "000000010000000000000009";
        for wanted in [
            "000000010000000000000009",
            "00000002000000000000000A",
            "000000010000000100000000",
            "00000002.history",
        ] {
            assert!(is_wanted(wanted, first), "{wanted}");
        }
        for other in [
            "000000010000000000000008",
            "archive_status",
            "000000010000000000000009.partial",
            "xlogtemp.1234",
        ] {
            assert!(!is_wanted(other, first), "{other}");
        }
    }

    #[test]
    fn a_seeded_directory_keeps_only_what_is_postgres_own() {
        let account = ServerAccount::choose(None).unwrap();
        let root = tempfile::tempdir().unwrap();
        let data = root.path();
        for directory in ["base", "pg_tblspc", "log", "conf.d"] {
            fs::create_dir(data.join(directory)).unwrap();
        }
        for file in [
            "PG_VERSION",
            "server.key",
            "postgresql.auto.conf",
            "log/today",
        ] {
            fs::write(data.join(file), "secret").unwrap();
        }
        std::os::unix::fs::symlink("/etc", data.join("elsewhere")).unwrap();
        make_standby(data, &account).unwrap();
        let mut left: Vec<_> = entries(data).unwrap();
        left.sort();
        let names: Vec<_> = left.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["PG_VERSION", "base", "pg_tblspc", "standby.signal"]);
        assert!(Path::new("/etc/passwd").exists());
        let mode = fs::metadata(data.join("pg_tblspc"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o500, "nothing can be linked there");
    }

    #[test]
    fn a_directory_with_a_tablespace_is_refused() {
        let account = ServerAccount::choose(None).unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("pg_tblspc")).unwrap();
        std::os::unix::fs::symlink("/srv/fast", root.path().join("pg_tblspc/16390")).unwrap();
        let refused = make_standby(root.path(), &account).unwrap_err();
        assert!(matches!(refused, ContentsError::Tablespace));
    }
}

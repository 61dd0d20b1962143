//! The account that servers run as.
//!
//! PostgreSQL refuses to run as root, so an engine that is root hands its servers to an unprivileged account; any
//! other engine runs them as itself. Owns the choice, applying it to a command, and giving files away. Leaves to
//! callers which files and commands.

mod passwd;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};
use tokio::process::Command;

/// Accounts that an engine of root takes, in this order, where no setting names one.
const CANDIDATES: [&str; 3] = ["bough", "postgres", "nobody"];

/// Why there is no account, or why it cannot be given a file.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The account that the settings name does not exist, or is root.
    #[error("servers cannot run as the account {name:?}: {reason}")]
    Unusable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not one of the usual accounts exists.
    #[error(
        "no account for servers: none of bough, postgres and nobody exists, and servers never run as root"
    )]
    None,
    /// The account database cannot be read.
    #[error("cannot look the account {name:?} up")]
    Lookup {
        /// The name that was looked up.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or directory could not be made or given away.
    #[error("cannot give {path} to the account {name}")]
    Give {
        /// The file.
        path: PathBuf,
        /// The account.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The account that servers run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAccount {
    /// Its name, or its number where it has none.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    switched: bool,
}

impl ServerAccount {
    /// The engine's own account unless that is root; then the one named, else the first of `bough`, `postgres` and
    /// `nobody` that exists. `explicit` counts only for root: nobody else can change accounts.
    ///
    /// # Errors
    /// [`AccountError`] when there is none, or the named one is missing or root.
    pub fn choose(explicit: Option<&str>) -> Result<Self, AccountError> {
        let own = geteuid().as_raw();
        if own != 0 {
            let accounts = passwd::read().unwrap_or_default();
            let known = accounts.into_iter().find(|entry| entry.uid == own);
            return Ok(Self {
                name: known.map_or_else(|| own.to_string(), |entry| entry.name),
                uid: own,
                gid: getegid().as_raw(),
                switched: false,
            });
        }
        if let Some(name) = explicit {
            let found = Self::named(name)?;
            return found.ok_or_else(|| AccountError::Unusable {
                name: name.to_owned(),
                reason: "it does not exist",
            });
        }
        for name in CANDIDATES {
            if let Some(account) = Self::named(name)? {
                return Ok(account);
            }
        }
        Err(AccountError::None)
    }

    fn named(name: &str) -> Result<Option<Self>, AccountError> {
        let accounts = passwd::read().map_err(|source| AccountError::Lookup {
            name: name.to_owned(),
            source,
        })?;
        let Some(entry) = accounts.into_iter().find(|entry| entry.name == name) else {
            return Ok(None);
        };
        if entry.uid == 0 {
            return Err(AccountError::Unusable {
                name: name.to_owned(),
                reason: "it is root, as whom PostgreSQL does not run",
            });
        }
        Ok(Some(Self {
            name: entry.name,
            uid: entry.uid,
            gid: entry.gid,
            switched: true,
        }))
    }

    /// Whether servers run as another account than the engine.
    pub fn is_switched(&self) -> bool {
        self.switched
    }

    /// Makes a command run as this account, without the engine's supplementary groups.
    pub fn apply(&self, command: &mut Command) {
        if self.switched {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives a file, or a directory with all that is in it, to this account. Links are given, not followed. What is
    /// in a directory goes first, so that the account cannot reach into it before it is done.
    ///
    /// # Errors
    /// [`AccountError::Give`] names the file.
    pub fn own(&self, path: &Path) -> Result<(), AccountError> {
        if !self.switched {
            return Ok(());
        }
        self.own_tree(path)
    }

    fn own_tree(&self, path: &Path) -> Result<(), AccountError> {
        let failed = |source| self.cannot_give(path, source);
        if fs::symlink_metadata(path).map_err(failed)?.is_dir() {
            for entry in fs::read_dir(path).map_err(failed)? {
                self.own_tree(&entry.map_err(failed)?.path())?;
            }
        }
        lchown(path, Some(self.uid), Some(self.gid)).map_err(failed)
    }

    /// A directory that only this account may enter; it may exist.
    ///
    /// # Errors
    /// [`AccountError::Give`] names it.
    pub fn make_dir(&self, path: &Path) -> Result<(), AccountError> {
        let failed = |source| self.cannot_give(path, source);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        if self.switched {
            chown(path, Some(self.uid), Some(self.gid)).map_err(failed)?;
        }
        Ok(())
    }

    fn cannot_give(&self, path: &Path, source: io::Error) -> AccountError {
        AccountError::Give {
            path: path.to_owned(),
            name: self.name.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn servers_never_run_as_root() {
        let account = ServerAccount::choose(None).unwrap();
        assert_ne!(account.uid, 0);
        assert_eq!(account.is_switched(), geteuid().is_root());
    }

    #[test]
    fn a_tree_is_given_away_whole_and_links_are_not_followed() {
        let account = ServerAccount::choose(None).unwrap();
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        fs::write(&outside, "").unwrap();
        let before = fs::metadata(&outside).unwrap().uid();
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("in")).unwrap();
        fs::write(tree.join("in/file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        account.own(&tree).unwrap();
        for path in ["", "in", "in/file", "link"] {
            let owner = fs::symlink_metadata(tree.join(path)).unwrap().uid();
            assert_eq!(owner, account.uid, "{path:?}");
        }
        assert_eq!(fs::metadata(&outside).unwrap().uid(), before);
    }

    #[test]
    fn only_the_account_enters_a_made_directory() {
        let account = ServerAccount::choose(None).unwrap();
        let root = tempfile::tempdir().unwrap();
        let made = root.path().join("made");
        account.make_dir(&made).unwrap();
        account.make_dir(&made).unwrap();
        let metadata = fs::metadata(&made).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o700);
        assert_eq!(metadata.uid(), account.uid);
    }
}

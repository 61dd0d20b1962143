//! The password of a connection that a program of PostgreSQL makes: a file that it reads at each connection.
//!
//! Owns its form (PostgreSQL documentation, section 34.16 "The Password File") and who may read it. Leaves when it is there
//! to whoever runs the program.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use model::Secret;

use super::account::{AccountError, ServerAccount};

/// Why a password is not in its file, or still is.
#[derive(Debug, thiserror::Error)]
pub enum PassfileError {
    /// The file could not be written or removed.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file could not be given to the servers' account.
    #[error("cannot give the password's file away")]
    Own(#[source] AccountError),
    /// A password that the file cannot hold.
    #[error("the password for replication has a line break, which a password file cannot hold")]
    LineBreak,
}

/// Writes the file, for `account` alone; it may exist. Without a password it is empty.
///
/// # Errors
/// [`PassfileError`].
pub fn write(
    path: &Path,
    password: Option<&Secret>,
    account: &ServerAccount,
) -> Result<(), PassfileError> {
    let text = password.map_or_else(|| Ok(String::new()), line)?;
    let failed = |source| PassfileError::File {
        path: path.to_owned(),
        source,
    };
    remove(path)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    // Given away before the password is in it: a program must be able to read what it finds.
    account.own(path).map_err(PassfileError::Own)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// Removes the file, if it is there.
///
/// # Errors
/// [`PassfileError::File`].
pub fn remove(path: &Path) -> Result<(), PassfileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PassfileError::File {
            path: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Any host, port, database and user, then the password with its colons and backslashes escaped.
fn line(password: &Secret) -> Result<String, PassfileError> {
    let password = password.reveal();
    if password.contains(['\n', '\r', '\0']) {
        return Err(PassfileError::LineBreak);
    }
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    Ok(format!("*:*:*:*:{escaped}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_cannot_end_its_field() {
        let written = line(&Secret::new("a:b\\c")).unwrap();
        assert_eq!(written, "*:*:*:*:a\\:b\\\\c\n");
        assert!(line(&Secret::new("a\nb")).is_err());
    }
}

//! The password of a subscription's connection: a file that the base's worker reads at each connection.
//!
//! Owns its form and who may read it. Leaves when it is there to `subscriber`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use super::reach::Reach;
use super::subscriber::SubscriberError;
use super::{Host, Place};

/// Writes the file that the subscription's connection names, for the servers' account alone; it may exist.
///
/// # Errors
/// [`SubscriberError`].
pub(super) fn write_passfile(
    host: &Host,
    place: &Place,
    reach: &Reach,
) -> Result<(), SubscriberError> {
    let path = place.passfile();
    let text = match reach.password() {
        Some(password) if password.reveal().contains(['\n', '\r', '\0']) => {
            return Err(SubscriberError::Password);
        }
        Some(password) => {
            // Any host, port, database and user (PostgreSQL documentation, section 34.16 "The Password File").
            let escaped = password.reveal().replace('\\', "\\\\").replace(':', "\\:");
            format!("*:*:*:*:{escaped}\n")
        }
        None => String::new(),
    };
    let failed = |source| SubscriberError::PasswordFile {
        path: path.clone(),
        source,
    };
    remove_passfile(place)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    // Given away before the password is in it: the server must be able to read what it finds.
    host.account.own(&path).map_err(SubscriberError::Own)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// Removes the file, if it is there.
///
/// # Errors
/// [`SubscriberError::PasswordFile`].
pub(super) fn remove_passfile(place: &Place) -> Result<(), SubscriberError> {
    let path = place.passfile();
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SubscriberError::PasswordFile { path, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

//! Passwords of roles: making them, and setting them without telling them to a server.
//!
//! Owns generation and the SCRAM verifier. A server is only ever sent the verifier, so that no statement log, no
//! `pg_stat_activity` and no error holds the password.

use std::fmt::Write as _;

use model::Secret;
use postgres_protocol::password::scram_sha_256;
use rand::TryRng as _;
use tokio_postgres::Client;

use super::sql;

/// Random bytes of a password: 192 bits, beyond any guessing.
const PASSWORD_BYTES: usize = 24;

/// Why a role's password was not set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the password of the role {role:?}")]
pub struct PasswordError {
    /// The role.
    pub role: String,
    /// Why.
    #[source]
    pub source: tokio_postgres::Error,
}

/// A new random password, in hexadecimal digits, which need no escape in a URL, a file or SQL.
pub fn generate() -> Secret {
    let mut bytes = [0; PASSWORD_BYTES];
    let filled = rand::rngs::SysRng.try_fill_bytes(&mut bytes);
    filled.expect("the kernel gives random bytes");
    let mut text = String::with_capacity(2 * PASSWORD_BYTES);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes any text");
    }
    Secret::new(text)
}

/// What a server stores of a password: `SCRAM-SHA-256$...` with a salt of its own. Not the password, but secret all the
/// same: it can be guessed against.
pub fn verifier(password: &Secret) -> Secret {
    Secret::new(scram_sha_256(password.reveal().as_bytes()))
}

/// Gives a role a password; only its verifier is sent.
///
/// # Errors
/// [`PasswordError`] when there is no such role or `admin` may not alter it.
pub async fn set_password(
    admin: &Client,
    role: &str,
    password: &Secret,
) -> Result<(), PasswordError> {
    let verifier = verifier(password);
    let statement = format!(
        "ALTER ROLE {} PASSWORD {}",
        sql::ident(role),
        sql::literal(verifier.reveal())
    );
    admin
        .batch_execute(&statement)
        .await
        .map_err(|source| PasswordError {
            role: role.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let [one, two] = [generate(), generate()];
        assert_ne!(one, two);
        assert_eq!(one.reveal().len(), 2 * PASSWORD_BYTES);
        assert!(one.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn a_verifier_does_not_hold_its_password() {
        let password = Secret::new("correct horse");
        let verifier = verifier(&password);
        assert!(verifier.reveal().starts_with("SCRAM-SHA-256$4096:"));
        assert!(!verifier.reveal().contains("correct"));
    }
}

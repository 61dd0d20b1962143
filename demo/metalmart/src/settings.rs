//! What the service is told from outside: arguments, and `DATABASE_URL` from the environment alone.
//!
//! Owns which texts are acceptable. Leaves opening what they name to `database` and `http`. The URL never
//! appears in a message, nor does the parser's own text, which can quote pieces of a password.

use std::env::VarError;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};

/// The environment variable with the database's URL.
pub(crate) const DATABASE_URL: &str = "DATABASE_URL";

/// The inventory service of the Metalmart shop
///
/// Its database is named by the environment variable DATABASE_URL
/// (postgresql://USER:PASSWORD@HOST:PORT/DATABASE); there is no argument for it,
/// since other accounts can read a command line.
#[derive(Debug, clap::Parser)]
#[command(name = "inventory", version)]
pub(crate) struct Arguments {
    /// Port to listen on; 0 lets the system choose one
    #[arg(long, env = "PORT", default_value_t = 8082)]
    pub(crate) port: u16,

    /// Name or address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// Seconds to wait at start for a database that does not answer yet (at most 3600)
    #[arg(long, env = "DATABASE_WAIT_SECS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=3600))]
    database_wait_secs: u64,
}

impl Arguments {
    /// How long a database may take to answer at start.
    pub(crate) fn database_wait(&self) -> Duration {
        Duration::from_secs(self.database_wait_secs)
    }
}

/// Why `DATABASE_URL` cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("{DATABASE_URL} is not set")]
    Missing,
    #[error("{DATABASE_URL} is not UTF-8 text")]
    NotText,
    #[error("{DATABASE_URL} is not a PostgreSQL URL")]
    Unreadable,
    #[error("{DATABASE_URL} names no host")]
    NoHost,
    #[error("{DATABASE_URL} demands TLS (sslmode=require), which this service does not speak")]
    TlsRequired,
}

impl UrlError {
    /// What whoever starts the service can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Missing => {
                "set DATABASE_URL=postgresql://USER:PASSWORD@HOST:PORT/DATABASE in the environment"
            }
            Self::NotText | Self::Unreadable => {
                "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / and other special characters of user and password percent-encoded"
            }
            Self::NoHost => {
                "write the host after the @, as in postgresql://USER:PASSWORD@HOST/DATABASE"
            }
            Self::TlsRequired => "use sslmode=prefer or sslmode=disable",
        }
    }
}

/// Reads the text of `DATABASE_URL` into what `tokio-postgres` connects with.
///
/// # Errors
/// [`UrlError`], none of whose texts contains a part of the URL.
pub(crate) fn read_database_url(
    text: Result<String, VarError>,
) -> Result<tokio_postgres::Config, UrlError> {
    let text = match text {
        Ok(text) if text.is_empty() => return Err(UrlError::Missing),
        Ok(text) => text,
        Err(VarError::NotPresent) => return Err(UrlError::Missing),
        Err(VarError::NotUnicode(_)) => return Err(UrlError::NotText),
    };
    let config: tokio_postgres::Config = text.parse().map_err(|_| UrlError::Unreadable)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(UrlError::NoHost);
    }
    for host in config.get_hosts() {
        match host {
            Host::Tcp(name) if name.is_empty() => return Err(UrlError::NoHost),
            // The parser ends the password at the first @, so the rest of the password would be shown as a host.
            Host::Tcp(name) if name.contains('@') => return Err(UrlError::Unreadable),
            Host::Tcp(_) | Host::Unix(_) => {}
        }
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err(UrlError::TlsRequired);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<tokio_postgres::Config, UrlError> {
        read_database_url(Ok(text.to_owned()))
    }

    #[test]
    fn a_url_is_taken_apart() {
        let config =
            read("postgresql://shop:p%40ss%2Fword@db.metalmart:6432/inventory?sslmode=prefer")
                .unwrap();
        assert_eq!(config.get_hosts(), [Host::Tcp("db.metalmart".to_owned())]);
        assert_eq!(config.get_ports(), [6432]);
        assert_eq!(config.get_user(), Some("shop"));
        assert_eq!(config.get_password(), Some(b"p@ss/word".as_slice()));
        assert_eq!(config.get_dbname(), Some("inventory"));
    }

    #[test]
    fn an_absent_url_is_told_from_a_wrong_one() {
        assert_eq!(
            read_database_url(Err(VarError::NotPresent)).unwrap_err(),
            UrlError::Missing
        );
        assert_eq!(read("").unwrap_err(), UrlError::Missing);
        assert_eq!(
            read("mysql://shop:secret@db/inventory").unwrap_err(),
            UrlError::Unreadable
        );
        assert_eq!(
            read("postgres://shop:secret@db:port/inventory").unwrap_err(),
            UrlError::Unreadable
        );
        assert_eq!(
            read("postgres://shop:sec@ret@db/inventory").unwrap_err(),
            UrlError::Unreadable
        );
        assert_eq!(read("postgres:///inventory").unwrap_err(), UrlError::NoHost);
        assert_eq!(
            read("postgres://shop:secret@/inventory").unwrap_err(),
            UrlError::NoHost
        );
        assert_eq!(
            read("postgres://db/inventory?sslmode=require").unwrap_err(),
            UrlError::TlsRequired
        );
    }

    #[test]
    fn no_message_quotes_the_url() {
        for wrong in [
            "postgres://shop:secret/db",
            "postgres://shop:secret@db/x?secret=1",
            "secret",
            "postgres://a:b@secret@d",
        ] {
            let error = read(wrong).unwrap_err();
            assert!(
                !format!("{error} {error:?} {}", error.hint()).contains("sec"),
                "{error}"
            );
        }
    }
}

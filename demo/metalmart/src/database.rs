//! The way to PostgreSQL: the patient first connection, and the pool that serves requests.
//!
//! Owns every wait and limit on connections. Leaves what is said over them to `migrations` and `inventory`.

use std::io;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tracing::warn;

use crate::clock;
use crate::failure::explain;

/// One attempt to connect and log in; longer than any healthy server takes, short enough to try again within the wait.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// Pauses between attempts double from the first to the longest: a server that is starting is met soon, a missing one
/// is not hammered.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Connections of one service; reservations of the same product wait for each other anyway, and PostgreSQL allows 100
/// in all by default.
const POOL_SIZE: usize = 8;

/// How long a request waits for one of the pool's connections.
const POOL_WAIT: Duration = Duration::from_secs(5);

/// How long a pooled connection may take to prove that it is alive, before another is made.
const RECYCLE_MAX: Duration = Duration::from_secs(2);

/// Server-side limits of each pooled connection: below the deadline of a request, so that the server gives up
/// first and says why.
const SESSION_LIMITS: &str = "SET lock_timeout = '5s'; SET statement_timeout = '8s'";

/// Why there is no connection to the database at start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the database at {place} did not answer within {} s", waited.as_secs())]
    Unreachable {
        place: String,
        waited: Duration,
        #[source]
        source: AttemptError,
    },
    #[error("the database at {place} refused the login")]
    Refused {
        place: String,
        #[source]
        source: AttemptError,
    },
}

impl ConnectError {
    /// What whoever starts the service can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "start PostgreSQL there, correct the host and port in DATABASE_URL, or wait longer with --database-wait-secs"
            }
            Self::Refused { .. } => {
                "correct the user, password and database name in DATABASE_URL, or create them"
            }
        }
    }
}

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error("no answer to the login")]
    Silent,
    #[error("could not connect")]
    Connect(#[source] tokio_postgres::Error),
}

impl AttemptError {
    /// Whether the same attempt can succeed later with nobody changing a setting.
    fn may_pass(&self) -> bool {
        match self {
            Self::Silent => true,
            Self::Connect(error) => is_outage(error),
        }
    }
}

/// Whether `error` says that the server cannot be reached or is not serving, as opposed to refusing what was asked.
pub(crate) fn is_outage(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::TOO_MANY_CONNECTIONS,
        ]
        .contains(code),
        None => {
            let cause = std::error::Error::source(error);
            error.is_closed() || cause.is_some_and(|cause| cause.is::<io::Error>())
        }
    }
}

/// Connects, trying again for up to `wait` while the database cannot be reached or is still starting.
///
/// # Errors
/// [`ConnectError::Refused`] at once when trying again would not help, else [`ConnectError::Unreachable`] when `wait`
/// is over; the last attempt begins no later than that.
pub(crate) async fn connect(config: &Config, wait: Duration) -> Result<Client, ConnectError> {
    let started = clock::now();
    let mut pause = PAUSE_FIRST;
    loop {
        let source = match attempt(config).await {
            Ok(client) => return Ok(client),
            Err(source) => source,
        };
        let place = describe(config);
        if !source.may_pass() {
            return Err(ConnectError::Refused { place, source });
        }
        let waited = clock::now().duration_since(started);
        if waited >= wait {
            return Err(ConnectError::Unreachable {
                place,
                waited,
                source,
            });
        }
        warn!(
            place,
            reason = explain(&source),
            "the database does not answer yet"
        );
        tokio::time::sleep(pause.min(wait - waited)).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
}

async fn attempt(config: &Config) -> Result<Client, AttemptError> {
    let (client, connection) = tokio::time::timeout(ATTEMPT_MAX, config.connect(NoTls))
        .await
        .map_err(|_| AttemptError::Silent)?
        .map_err(AttemptError::Connect)?;
    tokio::spawn(async move {
        // Whoever waits on the client is told as well; this line is for the case that nobody does.
        if let Err(error) = connection.await {
            warn!(
                reason = explain(&error),
                "the connection to the database broke"
            );
        }
    });
    Ok(client)
}

/// The pool that requests are served from. Opens nothing by itself.
pub(crate) fn pool(config: &Config) -> Pool {
    // Verified: a connection whose server was replaced or went silent is found out before a request relies on it.
    let recycling_method = RecyclingMethod::Verified;
    let manager = Manager::from_config(config.clone(), NoTls, ManagerConfig { recycling_method });
    Pool::builder(manager)
        .max_size(POOL_SIZE)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(POOL_WAIT))
        .create_timeout(Some(ATTEMPT_MAX))
        .recycle_timeout(Some(RECYCLE_MAX))
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(async move {
                client
                    .batch_execute(SESSION_LIMITS)
                    .await
                    .map_err(HookError::Backend)
            })
        }))
        .build()
        .expect("a pool with time-outs has been given a runtime")
}

/// Hosts, ports and database of `config`, without user and password: `db:5432/inventory`.
pub(crate) fn describe(config: &Config) -> String {
    let ports = config.get_ports();
    let port_of = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let mut hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port_of(index)),
            Host::Unix(directory) => format!("{}:{}", directory.display(), port_of(index)),
        })
        .collect();
    if hosts.is_empty() {
        let addresses = config.get_hostaddrs().iter().enumerate();
        hosts = addresses
            .map(|(index, address)| format!("{address}:{}", port_of(index)))
            .collect();
    }
    let database = config
        .get_dbname()
        .or(config.get_user())
        .unwrap_or_default();
    format!("{}/{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_neither_user_nor_password() {
        let describe_url = |url: &str| describe(&url.parse().unwrap());
        assert_eq!(
            describe_url("postgres://shop:secret@db:6432/inventory"),
            "db:6432/inventory"
        );
        assert_eq!(
            describe_url("postgres://shop:secret@a:1,b:2/inventory"),
            "a:1,b:2/inventory"
        );
        assert_eq!(
            describe_url("postgres://shop:secret@%2Frun%2Fpg/inventory"),
            "/run/pg:5432/inventory"
        );
        assert_eq!(
            describe_url("hostaddr=10.0.0.7 port=6432 user=shop dbname=inventory"),
            "10.0.0.7:6432/inventory"
        );
    }
}

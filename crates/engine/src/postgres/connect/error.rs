//! Why a connection failed, told apart by what a user does about it. No text here holds a password.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use model::pg_url::Address;
use tokio_postgres::error::SqlState;

use super::gateway::NO_CONNECTION;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL lacks something, or has a value that none can follow.
    #[error("the URL {problem}")]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// A parameter of libpq's that would be ignored, which could weaken what it asks for.
    #[error("the URL has {param}, which is not supported here")]
    Unsupported {
        /// The parameter.
        param: String,
    },
    /// A certificate or key file cannot be used.
    #[error("cannot use {path} for TLS")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The way to a source that only a proxy reaches cannot be laid.
    #[error("cannot use {path} for a gateway to the source")]
    Gateway {
        /// The directory of its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host's name could not be looked up.
    #[error("cannot find the host {host}")]
    Name {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host's name stands for no address.
    #[error("the host {host} has no address")]
    NoSuchHost {
        /// The name.
        host: String,
    },
    /// Nobody listens there, or the network does not reach it.
    #[error("cannot reach PostgreSQL at {address}")]
    Unreachable {
        /// The address.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("PostgreSQL at {address} did not answer within {seconds} s")]
    TimedOut {
        /// The address.
        address: Address,
        /// How long was waited.
        seconds: u64,
    },
    /// TLS failed.
    #[error("no TLS connection to {address}")]
    Tls {
        /// The address.
        address: Address,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server wants a password and the URL has none.
    #[error("PostgreSQL at {address} asks for a password of {user:?}, and the URL has none")]
    NoPassword {
        /// The address.
        address: Address,
        /// The user.
        user: String,
    },
    /// The password is wrong.
    #[error("PostgreSQL at {address} refuses the password of {user:?}")]
    Password {
        /// The address.
        address: Address,
        /// The user.
        user: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// There is no such database.
    #[error("PostgreSQL at {address} has no database {database:?}")]
    NoDatabase {
        /// The address.
        address: Address,
        /// The database.
        database: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// `pg_hba.conf` has no line for this user, database, address and encryption, or there is no such role.
    #[error("PostgreSQL at {address} does not let {user:?} into {database:?} from here")]
    NotAllowed {
        /// The address.
        address: Address,
        /// The user.
        user: String,
        /// The database.
        database: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// All its connections are taken.
    #[error("PostgreSQL at {address} has no connection left for {user:?}")]
    Full {
        /// The address.
        address: Address,
        /// The user.
        user: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A pooler stands there that takes no settings when a connection begins.
    #[error("a pooler answers at {address} that takes no settings when a connection begins")]
    Settings {
        /// The address.
        address: Address,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It starts, stops or recovers.
    #[error("PostgreSQL at {address} takes no connections at the moment")]
    NotReady {
        /// The address.
        address: Address,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Anything else that it said, or that is no PostgreSQL.
    #[error("the connection to {address} failed")]
    Other {
        /// The address.
        address: Address,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Servers answered, but none of the wanted kind.
    #[error("no server of the URL is what target_session_attrs={wanted} asks for")]
    NoneFits {
        /// The value.
        wanted: &'static str,
    },
}

impl ConnectError {
    /// Whether further addresses need not be tried.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Url { .. }
            | Self::Unsupported { .. }
            | Self::Certificate { .. }
            | Self::Gateway { .. }
            | Self::NoPassword { .. }
            | Self::Password { .. }
            | Self::NoDatabase { .. } => true,
            Self::Name { .. }
            | Self::NoSuchHost { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Tls { .. }
            | Self::NotAllowed { .. }
            | Self::Full { .. }
            | Self::Settings { .. }
            | Self::NotReady { .. }
            | Self::Other { .. }
            | Self::NoneFits { .. } => false,
        }
    }

    /// Of two failures the one that came further, else the later: a server that said something says more than an
    /// address where nobody listens.
    pub(super) fn or_nearer(self, later: Self) -> Self {
        if self.distance() < later.distance() {
            self
        } else {
            later
        }
    }

    /// How far the attempt was from a connection.
    fn distance(&self) -> u8 {
        match self {
            Self::NoneFits { .. } => 3,
            Self::Name { .. } | Self::NoSuchHost { .. } => 2,
            Self::Unreachable { .. } | Self::TimedOut { .. } => 1,
            Self::Url { .. }
            | Self::Unsupported { .. }
            | Self::Certificate { .. }
            | Self::Gateway { .. }
            | Self::Tls { .. }
            | Self::NoPassword { .. }
            | Self::Password { .. }
            | Self::NoDatabase { .. }
            | Self::NotAllowed { .. }
            | Self::Full { .. }
            | Self::Settings { .. }
            | Self::NotReady { .. }
            | Self::Other { .. } => 0,
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Url { .. } | Self::Gateway { .. } => return None,
            Self::Unsupported { param } => format!("leave {param} out of the URL"),
            Self::Certificate { .. } => {
                "give the full path of a PEM file that the engine's account can read; a key must not be encrypted".into()
            }
            Self::Name { .. } | Self::NoSuchHost { .. } => {
                "check the host in the URL; a name that only the cluster knows needs an address reachable from here".into()
            }
            Self::Unreachable { .. } => "check host and port, and that the server runs and listens there".into(),
            Self::TimedOut { .. } => "check host and port, and firewalls between here and there".into(),
            Self::Tls { .. } => "check sslmode and sslrootcert in the URL".into(),
            Self::NoPassword { user, .. } => format!("put the password of {user:?} into the URL"),
            Self::Password { user, .. } => {
                format!("check the password of {user:?} in the URL; special characters in it must be percent-encoded")
            }
            Self::NoDatabase { .. } => "check the database's name in the URL".into(),
            Self::NotAllowed { .. } => {
                "check the user's name, and pg_hba.conf of the server for a line that lets this user in from here".into()
            }
            Self::Full { .. } => "raise max_connections or the role's CONNECTION LIMIT, or close other connections".into(),
            Self::Settings { address, .. } => {
                format!("`bough source add URL --address {address}`, with a URL that leads to the server itself")
            }
            Self::NotReady { .. } => "try again when the server has started".into(),
            Self::Other { .. } => return None,
            Self::NoneFits { .. } => "change target_session_attrs, or add the wanted server to the URL".into(),
        };
        Some(hint)
    }
}

/// What was wished for, to explain why it was not had.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    address: &'a Address,
    user: &'a str,
    database: &'a str,
}

impl<'a> Wish<'a> {
    pub(super) fn new(address: &'a Address, user: &'a str, database: &'a str) -> Self {
        Self {
            address,
            user,
            database,
        }
    }

    /// Sorts a failure by its SQLSTATE.
    pub(super) fn explain(self, source: tokio_postgres::Error) -> ConnectError {
        let address = self.address.clone();
        let user = self.user.to_owned();
        let database = self.database.to_owned();
        let Some(code) = source.code() else {
            return self.explain_without_code(source);
        };
        match code {
            code if *code == SqlState::INVALID_PASSWORD => ConnectError::Password {
                address,
                user,
                source,
            },
            code if *code == SqlState::INVALID_CATALOG_NAME => ConnectError::NoDatabase {
                address,
                database,
                source,
            },
            code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                ConnectError::NotAllowed {
                    address,
                    user,
                    database,
                    source,
                }
            }
            code if *code == SqlState::TOO_MANY_CONNECTIONS => ConnectError::Full {
                address,
                user,
                source,
            },
            code if *code == SqlState::CANNOT_CONNECT_NOW => {
                ConnectError::NotReady { address, source }
            }
            code if code.code() == NO_CONNECTION => ConnectError::Unreachable {
                address,
                source: io::Error::other(
                    source
                        .as_db_error()
                        .map_or_else(|| source.to_string(), |said| said.message().to_owned()),
                ),
            },
            // PgBouncer's words for it (`handle_client_startup` in its client.c).
            _ if source.as_db_error().is_some_and(|said| {
                said.message().starts_with("unsupported startup parameter")
            }) =>
            {
                ConnectError::Settings { address, source }
            }
            _ => ConnectError::Other { address, source },
        }
    }

    /// The client's own errors have no public kind, so that their fixed texts tell them apart.
    fn explain_without_code(self, source: tokio_postgres::Error) -> ConnectError {
        let address = self.address.clone();
        let cause = source.source().map(ToString::to_string);
        match (source.to_string().as_str(), cause.as_deref()) {
            (_, Some("password missing")) => ConnectError::NoPassword {
                address,
                user: self.user.to_owned(),
            },
            ("error performing TLS handshake", _) => ConnectError::Tls { address, source },
            _ => ConnectError::Other { address, source },
        }
    }
}

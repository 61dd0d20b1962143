//! Connecting: to servers of ours through their sockets, and to sources by URL.
//!
//! Owns addresses, their order, TLS and what a failure means to a user. A connection to a source changes nothing of
//! its session, since a pooler may hand the session to somebody else: whoever reads does so in a read-only
//! transaction with settings that end with it ([`Session::begin_read`]). Leaves what is asked to `source` and `base`.

mod conninfo;
mod error;
mod gateway;
pub mod raw;
mod resolver;
mod socks;
mod target;
mod tls;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::pg_url::Address;
use model::{PgMajor, PgUrl, Secret};
use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use conninfo::{ConnInfo, conninfo};
pub use error::{ConnectError, Wish};
pub use gateway::Gateway;
pub use target::quote_option;
use target::{Attempt, Target};

use raw::{TappedTls, Taps};

use super::initdb::ADMIN_ROLE;
use super::settings::{HAS_EVENT_TRIGGERS, HAS_TRANSACTION_TIMEOUT, SOCKET_PORT, socket_path};
use super::sql;

/// The name that our connections show in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "bough";

/// How long a connection to a server of ours may take; it answers in milliseconds.
const LOCAL_TIME_MAX: Duration = Duration::from_secs(10);

/// How long our reads wait for a lock on a source: behind somebody's ALTER TABLE it is better to fail than to stand in
/// the way of those who queue after us.
pub const LOCK_TIME_MAX: Duration = Duration::from_secs(30);

/// 17 and newer have one; to others the setting is unknown, which is no error this way.
const NO_TRANSACTION_TIMEOUT: &str =
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'";

/// What we administer a server with, whatever is the default of its databases and roles.
const ADMIN_OPTIONS: &str = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 \
     -c idle_in_transaction_session_timeout=0";

/// When the silence of a source is looked into, and how often: a dead one is seen after idle + count * interval, 75 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_COUNT: u32 = 3;

/// Which server of a source answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address as the URL has it.
    pub address: Address,
    /// The one that its name stood for; none for a Unix socket.
    pub ip: Option<IpAddr>,
    /// Our own end, as this machine has it; none for a Unix socket.
    pub local: Option<SocketAddr>,
    /// Whether TLS protects the connection.
    pub is_tls: bool,
    /// The directory of the gateway that led there; none: it was dialled.
    pub gateway: Option<PathBuf>,
}

/// A connection; it closes when dropped.
pub struct Session {
    client: Client,
    peer: Option<Peer>,
    connection: AbortHandle,
    taps: Taps,
}

impl Session {
    /// The server that answered; none for a server of ours.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Begins a transaction that sees one moment and cannot write, without time-outs of the source's own (a copy may
    /// take longer than they allow) but with one on locks. All of it ends with the transaction.
    ///
    /// # Errors
    /// What the server says.
    pub async fn begin_read(&self) -> Result<(), tokio_postgres::Error> {
        self.begin_read_within(None).await
    }

    /// The same; the moment is that of a snapshot that another session exported.
    ///
    /// # Errors
    /// What the server says.
    pub async fn begin_read_within(
        &self,
        snapshot: Option<&str>,
    ) -> Result<(), tokio_postgres::Error> {
        let begin = begin_read_statements(snapshot);
        let begin = format!("{begin}; {NO_TRANSACTION_TIMEOUT}");
        self.client.batch_execute(&begin).await
    }
}

/// What begins a transaction as [`Session::begin_read_within`] does, for those who send more along with it and are done
/// within milliseconds: a time-out on transactions stays, for looking it up takes longer than the rest.
pub fn begin_read_statements(snapshot: Option<&str>) -> String {
    let within = snapshot.map_or_else(String::new, |snapshot| {
        format!("SET TRANSACTION SNAPSHOT {}; ", sql::literal(snapshot))
    });
    let lock_time_ms = LOCK_TIME_MAX.as_millis();
    format!(
        "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; {within}\
         SET LOCAL statement_timeout = 0; \
         SET LOCAL idle_in_transaction_session_timeout = 0; \
         SET LOCAL lock_timeout = {lock_time_ms}; \
         SET LOCAL search_path = pg_catalog; \
         SET LOCAL DateStyle = ISO; \
         SET LOCAL IntervalStyle = postgres; \
         SET LOCAL extra_float_digits = 3; \
         SET LOCAL lc_monetary = 'C'"
    )
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket even when the other side does not answer.
        self.connection.abort();
    }
}

/// Connects to a server of ours. The administrator's session is not bound by the defaults that a database or a role
/// sets, such as to be read-only.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_local(
    socket_dir: &Path,
    database: &str,
    user: &str,
    password: &Secret,
) -> Result<Session, ConnectError> {
    let options = if user == ADMIN_ROLE {
        ADMIN_OPTIONS
    } else {
        ""
    };
    connect_local_with(socket_dir, database, (user, password), options).await
}

/// Connects to a server of ours as its administrator, and no trigger of the database's notices, but those that fire for
/// replication as well and that [`unnoticed`] silences: 17 and newer have some that fire at a login.
///
/// [`unnoticed`]: super::unnoticed
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_unnoticed(
    socket_dir: &Path,
    database: &str,
    password: &Secret,
    major: PgMajor,
) -> Result<Session, ConnectError> {
    let mut options = admin_options(major);
    options.push_str(" -c session_replication_role=replica");
    if major >= HAS_EVENT_TRIGGERS {
        options.push_str(" -c event_triggers=off");
    }
    connect_local_with(socket_dir, database, (ADMIN_ROLE, password), &options).await
}

/// Connects to a server of ours as its administrator, for statements of somebody else's: what the database sets off is set
/// off.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_admin(
    socket_dir: &Path,
    database: &str,
    password: &Secret,
    major: PgMajor,
) -> Result<Session, ConnectError> {
    let options = admin_options(major);
    connect_local_with(socket_dir, database, (ADMIN_ROLE, password), &options).await
}

fn admin_options(major: PgMajor) -> String {
    if major >= HAS_TRANSACTION_TIMEOUT {
        format!("{ADMIN_OPTIONS} -c transaction_timeout=0")
    } else {
        ADMIN_OPTIONS.to_owned()
    }
}

async fn connect_local_with(
    socket_dir: &Path,
    database: &str,
    (user, password): (&str, &Secret),
    options: &str,
) -> Result<Session, ConnectError> {
    let path = socket_path(socket_dir);
    let address = Address {
        host: socket_dir.display().to_string(),
        port: SOCKET_PORT,
    };
    let mut config = Config::new();
    config
        .user(user)
        .password(password.reveal())
        .dbname(database)
        .options(options)
        .application_name(APPLICATION_NAME);
    let connected = async {
        let stream = UnixStream::connect(&path).await;
        let stream = stream.map_err(|source| ConnectError::Unreachable {
            address: address.clone(),
            source,
        })?;
        let wish = Wish::new(&address, user, database);
        handshake(stream, &config, None::<NoTls>)
            .await
            .map_err(|error| wish.explain(error))
    };
    let (client, connection, taps) = match tokio::time::timeout(LOCAL_TIME_MAX, connected).await {
        Ok(connected) => connected?,
        Err(_) => {
            let seconds = LOCAL_TIME_MAX.as_secs();
            return Err(ConnectError::TimedOut { address, seconds });
        }
    };
    Ok(Session {
        client,
        peer: None,
        connection,
        taps,
    })
}

/// Connects to a source. `database` counts before the URL's; `settings` are given as `-c name=value`.
///
/// # Errors
/// [`ConnectError`] of the last address that was tried.
pub async fn connect_url<'a>(
    url: &PgUrl,
    database: Option<&str>,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Session, ConnectError> {
    connect_by(url, database, settings, None).await
}

/// The same, by the gateway whose socket is in this directory, where there is one.
///
/// # Errors
/// [`ConnectError`] likewise.
pub async fn connect_by<'a>(
    url: &PgUrl,
    database: Option<&str>,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    gateway: Option<&Path>,
) -> Result<Session, ConnectError> {
    let target = Target::read(url, database, settings)?;
    let mut last = ConnectError::NoneFits {
        wanted: target.session.as_str(),
    };
    for pass in target.session.passes() {
        for (index, address) in target.addresses.iter().enumerate() {
            match connect_address(&target, index, address, gateway).await {
                Ok(session) if pass.accepts(&session, address).await? => return Ok(session),
                Ok(_) => {}
                // A wrong password or database is wrong on every host (libpq goes on only to find a living one).
                Err(error) if error.is_final() => return Err(error),
                Err(error) => last = last.or_nearer(error),
            }
        }
    }
    Err(last)
}

/// Connects once more to the server that answered a session: the same address, whatever else its name stands for.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_peer<'a>(
    url: &PgUrl,
    database: Option<&str>,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    peer: &Peer,
) -> Result<Session, ConnectError> {
    let mut target = Target::read(url, database, settings)?;
    target.addresses = vec![peer.address.clone()];
    target.hostaddrs = peer.ip.into_iter().collect();
    connect_address(&target, 0, &peer.address, peer.gateway.as_deref()).await
}

async fn connect_address(
    target: &Target,
    index: usize,
    address: &Address,
    gateway: Option<&Path>,
) -> Result<Session, ConnectError> {
    if let Some(directory) = gateway {
        let socket = socket_path(directory);
        let mut session = within(target, address, connect_socket(target, address, &socket)).await?;
        if let Some(peer) = &mut session.peer {
            peer.gateway = Some(directory.to_owned());
        }
        return Ok(session);
    }
    if address.host.starts_with('/') {
        let socket = Path::new(&address.host).join(format!(".s.PGSQL.{}", address.port));
        return within(target, address, connect_socket(target, address, &socket)).await;
    }
    let ips = within(target, address, resolve(target, index, address)).await?;
    let mut last = None;
    for ip in ips {
        for attempt in target.tls.attempts() {
            let tried = connect_ip(target, address, ip, *attempt);
            match within(target, address, tried).await {
                Ok(session) => return Ok(session),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    last = Some(match last.take() {
                        Some(before) => ConnectError::or_nearer(before, error),
                        None => error,
                    });
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::NoSuchHost {
        host: address.host.clone(),
    }))
}

/// Bounds one step by the URL's `connect_timeout`.
async fn within<T>(
    target: &Target,
    address: &Address,
    step: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let ended = tokio::time::timeout(target.connect_time_max, step).await;
    ended.unwrap_or_else(|_| {
        Err(ConnectError::TimedOut {
            address: address.clone(),
            seconds: target.connect_time_max.as_secs(),
        })
    })
}

async fn resolve(
    target: &Target,
    index: usize,
    address: &Address,
) -> Result<Vec<IpAddr>, ConnectError> {
    if let Some(ip) = target.hostaddrs.get(index) {
        return Ok(vec![*ip]);
    }
    let found = resolver::resolve(&address.host).await;
    found.map_err(|source| ConnectError::Name {
        host: address.host.clone(),
        source,
    })
}

async fn connect_socket(
    target: &Target,
    address: &Address,
    path: &Path,
) -> Result<Session, ConnectError> {
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|source| ConnectError::Unreachable {
        address: address.clone(),
        source,
    })?;
    let config = target.config(Attempt::Plain);
    let shaken = handshake(stream, &config, None::<NoTls>).await;
    let (client, connection, taps) = shaken.map_err(|error| target.wish(address).explain(error))?;
    Ok(Session {
        client,
        peer: Some(Peer {
            address: address.clone(),
            ip: None,
            local: None,
            is_tls: false,
            gateway: None,
        }),
        connection,
        taps,
    })
}

async fn connect_ip(
    target: &Target,
    address: &Address,
    ip: IpAddr,
    attempt: Attempt,
) -> Result<Session, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable {
        address: address.clone(),
        source,
    };
    let stream = TcpStream::connect(SocketAddr::new(ip, address.port)).await;
    let stream = stream.map_err(unreachable)?;
    prepare(&stream).map_err(unreachable)?;
    let local = stream.local_addr().ok();
    let config = target.config(attempt);
    let (shaken, is_tls) = match attempt {
        Attempt::Plain => (handshake(stream, &config, None::<NoTls>).await, false),
        Attempt::Tls | Attempt::TlsIfOffered => {
            let tls = tls::client(target.tls, &target.certificates)?;
            let mut make = MakeRustlsConnect::new(tls);
            let name = target.server_name(address, ip);
            let connect = MakeTlsConnect::<raw::Tap<TcpStream>>::make_tls_connect(&mut make, &name);
            let connect = connect.unwrap_or_else(|never| match never {});
            (handshake(stream, &config, Some(connect)).await, true)
        }
    };
    let (client, connection, taps) = shaken.map_err(|error| target.wish(address).explain(error))?;
    Ok(Session {
        client,
        peer: Some(Peer {
            address: address.clone(),
            ip: Some(ip),
            local,
            is_tls,
            gateway: None,
        }),
        connection,
        taps,
    })
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    Ok(())
}

/// Start-up and authentication; the connection then lives in a task until its client is dropped.
async fn handshake<S, T>(
    stream: S,
    config: &Config,
    tls: Option<T>,
) -> Result<(Client, AbortHandle, Taps), tokio_postgres::Error>
where
    S: raw::Stream + 'static,
    T: TlsConnect<raw::Tap<S>>,
    T::Stream: raw::Stream + 'static,
    T::Future: Send + 'static,
{
    let taps = Taps::default();
    let stream = taps.put(stream);
    let task = match tls {
        None => {
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            // How it ended is told to whoever uses the client.
            (client, tokio::spawn(async { drop(connection.await) }))
        }
        Some(tls) => {
            let taps = taps.clone();
            let tls = TappedTls { tls, taps };
            let (client, connection) = config.connect_raw(stream, tls).await?;
            (client, tokio::spawn(async { drop(connection.await) }))
        }
    };
    Ok((task.0, task.1.abort_handle(), taps))
}

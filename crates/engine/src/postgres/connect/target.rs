//! What a URL asks of a connection: addresses, TLS, options, and what sort of server.
//!
//! Owns reading libpq's parameters. Those that only drivers know (`schema`, `pool_size`, ...) mean nothing to a server
//! and are passed over; those that libpq knows and we do not follow are refused by name where ignoring one could weaken
//! the connection. Source: PostgreSQL documentation, section 34.1.2 "Parameter Key Words".

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::pg_url::Address;
use model::{PgUrl, Secret};
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::{Config, SimpleQueryMessage};

use super::error::Wish;
use super::tls::{Certificates, Roots};
use super::{APPLICATION_NAME, ConnectError, Session};

/// How long one address may take where the URL sets no `connect_timeout`.
const CONNECT_TIME_DEFAULT: Duration = Duration::from_secs(10);

/// libpq's own lower bound of `connect_timeout`.
const CONNECT_SECONDS_MIN: u64 = 2;

/// Parameters of libpq's that would be ignored to somebody's harm.
const UNSUPPORTED: [&str; 11] = [
    "gsslib",
    "oauth_client_id",
    "oauth_issuer",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
];

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// One way to try an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Plain,
    TlsIfOffered,
    Tls,
}

impl TlsMode {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            // `no-verify` is node-postgres's word for what libpq calls require.
            "require" | "no-verify" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// libpq's word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// The ways to try an address, in libpq's order.
    pub(super) fn attempts(self) -> &'static [Attempt] {
        match self {
            Self::Disable => &[Attempt::Plain],
            Self::Allow => &[Attempt::Plain, Attempt::Tls],
            Self::Prefer => &[Attempt::TlsIfOffered, Attempt::Plain],
            Self::Require | Self::VerifyCa | Self::VerifyFull => &[Attempt::Tls],
        }
    }
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionWish {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// A round through the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
}

impl SessionWish {
    const ALL: [Self; 6] = [
        Self::Any,
        Self::ReadWrite,
        Self::ReadOnly,
        Self::Primary,
        Self::Standby,
        Self::PreferStandby,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }

    pub(super) fn passes(self) -> &'static [Pass] {
        match self {
            Self::Any => &[Pass::Any],
            Self::ReadWrite => &[Pass::ReadWrite],
            Self::ReadOnly => &[Pass::ReadOnly],
            Self::Primary => &[Pass::Primary],
            Self::Standby => &[Pass::Standby],
            Self::PreferStandby => &[Pass::Standby, Pass::Any],
        }
    }
}

impl Pass {
    pub(super) async fn accepts(
        self,
        session: &Session,
        address: &Address,
    ) -> Result<bool, ConnectError> {
        if self == Self::Any {
            return Ok(true);
        }
        let asked = "SELECT pg_catalog.pg_is_in_recovery(), \
                     pg_catalog.current_setting('transaction_read_only')::bool";
        let failed = |source| ConnectError::Other {
            address: address.clone(),
            source,
        };
        // A simple query leaves no prepared statement to whoever has a pooler's session next.
        let rows = session.simple_query(asked).await.map_err(failed)?;
        let row = rows.iter().find_map(|message| {
            if let SimpleQueryMessage::Row(row) = message {
                Some(row)
            } else {
                None
            }
        });
        let is = |column| row.and_then(|row| row.get(column)) == Some("t");
        let [in_recovery, read_only] = [is(0), is(1)];
        Ok(match self {
            Self::Any => true,
            Self::ReadWrite => !read_only,
            Self::ReadOnly => read_only,
            Self::Primary => !in_recovery,
            Self::Standby => in_recovery,
        })
    }
}

/// Everything that a connection needs to know.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) addresses: Vec<Address>,
    /// IP addresses that stand in for looking the hosts up; empty, or one a host.
    pub(super) hostaddrs: Vec<IpAddr>,
    user: String,
    password: Option<Secret>,
    database: String,
    options: String,
    pub(super) tls: TlsMode,
    pub(super) certificates: Certificates,
    negotiation: SslNegotiation,
    binding: ChannelBinding,
    pub(super) session: SessionWish,
    pub(super) connect_time_max: Duration,
}

impl Target {
    pub(super) fn read<'a>(
        url: &PgUrl,
        database: Option<&str>,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConnectError> {
        refuse_unsupported(url)?;
        let user = url.user().ok_or_else(|| wrong("names no user"))?;
        let database = database.map(str::to_owned).or_else(|| url.database());
        let mut options = url.param("options").unwrap_or_default();
        for (name, value) in settings {
            let space = if options.is_empty() { "" } else { " " };
            options.push_str(space);
            options.push_str(&quote_option(name, value)?);
        }
        let certificates = read_certificates(url)?;
        Ok(Self {
            addresses: url.addresses(),
            hostaddrs: read_hostaddrs(url)?,
            database: database.unwrap_or_else(|| user.clone()),
            user,
            password: url.password(),
            options,
            tls: read_tls_mode(url, &certificates.roots)?,
            certificates,
            negotiation: read_negotiation(url)?,
            binding: read_channel_binding(url)?,
            session: read_session_wish(url)?,
            connect_time_max: read_connect_time(url)?,
        })
    }

    /// Refuses what a gateway, which ends TLS itself, would take away in silence.
    pub(super) fn check_for_gateway(&self) -> Result<(), ConnectError> {
        let unsupported = |param: &str| {
            let param = param.to_owned();
            Err(ConnectError::Unsupported { param })
        };
        if self.binding == ChannelBinding::Require {
            return unsupported("channel_binding=require through somebody else's network");
        }
        if self.negotiation == SslNegotiation::Direct {
            return unsupported("sslnegotiation=direct through somebody else's network");
        }
        Ok(())
    }

    pub(super) fn wish<'a>(&'a self, address: &'a Address) -> Wish<'a> {
        Wish::new(address, &self.user, &self.database)
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The start-up packet's options.
    pub(super) fn options(&self) -> &str {
        &self.options
    }

    pub(super) fn config(&self, attempt: Attempt) -> Config {
        let mut config = Config::new();
        config
            .user(&self.user)
            .dbname(&self.database)
            .application_name(APPLICATION_NAME)
            .ssl_negotiation(self.negotiation)
            .channel_binding(self.binding)
            .ssl_mode(match attempt {
                Attempt::Plain => SslMode::Disable,
                Attempt::TlsIfOffered => SslMode::Prefer,
                Attempt::Tls => SslMode::Require,
            });
        if let Some(password) = &self.password {
            config.password(password.reveal());
        }
        if !self.options.is_empty() {
            config.options(&self.options);
        }
        config
    }

    /// The name that TLS asks for: the host, or the address where the host is no possible name.
    pub(super) fn server_name(&self, address: &Address, ip: IpAddr) -> String {
        let is_name = rustls::pki_types::ServerName::try_from(address.host.as_str()).is_ok();
        if is_name {
            address.host.clone()
        } else {
            ip.to_string()
        }
    }
}

fn wrong(problem: impl Into<String>) -> ConnectError {
    ConnectError::Url {
        problem: problem.into(),
    }
}

fn refuse_unsupported(url: &PgUrl) -> Result<(), ConnectError> {
    for param in UNSUPPORTED {
        if url.param(param).is_some_and(|value| !value.is_empty()) {
            let param = param.to_owned();
            return Err(ConnectError::Unsupported { param });
        }
    }
    if url.param("gssencmode").as_deref() == Some("require") {
        let param = "gssencmode=require".to_owned();
        return Err(ConnectError::Unsupported { param });
    }
    Ok(())
}

/// One `-c name=value` of the start-up packet's options, in which a backslash keeps a blank or backslash from ending
/// the value.
///
/// # Errors
/// [`ConnectError::Url`] when the name is none of a setting.
pub fn quote_option(name: &str, value: &str) -> Result<String, ConnectError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-';
    if name.is_empty() || !name.chars().all(is_name) || value.contains('\0') {
        return Err(wrong(format!("cannot be used with the setting {name:?}")));
    }
    let mut option = format!("-c {name}=");
    for c in value.chars() {
        if c.is_ascii_whitespace() || c == '\\' {
            option.push('\\');
        }
        option.push(c);
    }
    Ok(option)
}

fn read_hostaddrs(url: &PgUrl) -> Result<Vec<IpAddr>, ConnectError> {
    let Some(text) = url.param("hostaddr").filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    let parse = |part: &str| {
        let parsed = part.parse();
        parsed.map_err(|_| wrong(format!("has the hostaddr {part:?}, which is no IP address")))
    };
    text.split(',').map(parse).collect()
}

/// The public roots sign anybody's certificate, so that with them only the name tells whose it is: as libpq does, they
/// mean verify-full, and a weaker mode beside them is refused (PostgreSQL documentation, section 34.1.2, sslrootcert).
fn read_tls_mode(url: &PgUrl, roots: &Roots) -> Result<TlsMode, ConnectError> {
    match (written_tls_mode(url)?, roots) {
        (None | Some(TlsMode::VerifyFull), Roots::System) => Ok(TlsMode::VerifyFull),
        (Some(weaker), Roots::System) => Err(wrong(format!(
            "has sslrootcert=system, which goes with sslmode=verify-full and not with {}",
            weaker.as_str()
        ))),
        (mode, Roots::Unset | Roots::File(_)) => Ok(mode.unwrap_or(TlsMode::Prefer)),
    }
}

fn written_tls_mode(url: &PgUrl) -> Result<Option<TlsMode>, ConnectError> {
    let parse = |key: &str, value: &str| {
        let mode = TlsMode::parse(value);
        let mode = mode.ok_or_else(|| wrong(format!("has the unknown {key}={value}")));
        mode.map(Some)
    };
    if let Some(value) = url.param("sslmode") {
        return parse("sslmode", &value);
    }
    // What drivers have in its place: JDBC and node-postgres (true), asyncpg (a mode).
    match url.param("ssl").as_deref() {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(TlsMode::Require)),
        Some("false" | "0") => Ok(Some(TlsMode::Disable)),
        Some(value) => parse("ssl", value),
    }
}

fn read_certificates(url: &PgUrl) -> Result<Certificates, ConnectError> {
    let file = |key: &str| url.param(key).filter(|value| !value.is_empty());
    let roots = match file("sslrootcert").as_deref() {
        None => Roots::Unset,
        Some("system") => Roots::System,
        Some(path) => Roots::File(PathBuf::from(path)),
    };
    let own = match (file("sslcert"), file("sslkey")) {
        (None, _) => None,
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (Some(_), None) => return Err(wrong("has sslcert without sslkey")),
    };
    Ok(Certificates { roots, own })
}

fn read_negotiation(url: &PgUrl) -> Result<SslNegotiation, ConnectError> {
    match url.param("sslnegotiation").as_deref() {
        None | Some("postgres") => Ok(SslNegotiation::Postgres),
        Some("direct") => Ok(SslNegotiation::Direct),
        Some(value) => Err(wrong(format!("has the unknown sslnegotiation={value}"))),
    }
}

fn read_channel_binding(url: &PgUrl) -> Result<ChannelBinding, ConnectError> {
    match url.param("channel_binding").as_deref() {
        None | Some("prefer") => Ok(ChannelBinding::Prefer),
        Some("disable") => Ok(ChannelBinding::Disable),
        Some("require") => Ok(ChannelBinding::Require),
        Some(value) => Err(wrong(format!("has the unknown channel_binding={value}"))),
    }
}

fn read_session_wish(url: &PgUrl) -> Result<SessionWish, ConnectError> {
    let Some(value) = url.param("target_session_attrs") else {
        return Ok(SessionWish::Any);
    };
    let found = SessionWish::ALL
        .into_iter()
        .find(|wish| wish.as_str() == value);
    found.ok_or_else(|| wrong(format!("has the unknown target_session_attrs={value}")))
}

fn read_connect_time(url: &PgUrl) -> Result<Duration, ConnectError> {
    match url.param("connect_timeout").as_deref() {
        None | Some("" | "0") => Ok(CONNECT_TIME_DEFAULT),
        Some(text) => match text.parse::<u64>() {
            Ok(seconds) => Ok(Duration::from_secs(seconds.max(CONNECT_SECONDS_MIN))),
            Err(_) => Err(wrong(format!(
                "has the connect_timeout {text:?}, which is no number"
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, ConnectError> {
        Target::read(&PgUrl::parse(url).unwrap(), None, [])
    }

    #[test]
    fn modes_are_libpqs_and_drivers_words_for_them_count() {
        let mode = |query: &str| target(&format!("postgres://u@h/d?{query}")).unwrap().tls;
        assert_eq!(mode(""), TlsMode::Prefer);
        assert_eq!(mode("sslmode=verify-full"), TlsMode::VerifyFull);
        assert_eq!(mode("sslmode=no-verify"), TlsMode::Require);
        assert_eq!(mode("ssl=true"), TlsMode::Require);
        assert_eq!(mode("ssl=verify-ca&sslmode=disable"), TlsMode::Disable);
        let refused = target("postgres://u@h/d?sslmode=verify").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the URL has the unknown sslmode=verify"
        );
    }

    #[test]
    fn with_the_public_roots_the_name_is_always_checked() {
        for query in ["", "&sslmode=verify-full"] {
            let url = format!("postgres://u@h/d?sslrootcert=system{query}");
            assert_eq!(target(&url).unwrap().tls, TlsMode::VerifyFull, "{query}");
        }
        for weaker in ["disable", "allow", "prefer", "require", "verify-ca"] {
            let url = format!("postgres://u@h/d?sslrootcert=system&sslmode={weaker}");
            let refused = target(&url).unwrap_err();
            assert!(matches!(refused, ConnectError::Url { .. }), "{weaker}");
        }
    }

    #[test]
    fn what_drivers_add_is_passed_over_and_what_protects_is_never_ignored() {
        assert!(target("postgres://u@h/d?schema=public&pgbouncer=true&connection_limit=5").is_ok());
        for param in UNSUPPORTED {
            let refused = target(&format!("postgres://u@h/d?{param}=x")).unwrap_err();
            assert!(refused.to_string().contains(param), "{refused}");
        }
        assert!(target("postgres://u@h/d?gssencmode=require").is_err());
        assert!(target("postgres://u@h/d?gssencmode=prefer").is_ok());
    }

    #[test]
    fn settings_join_the_urls_options_and_cannot_become_further_ones() {
        let url = PgUrl::parse("postgres://u@h/d?options=-c%20geqo%3Doff").unwrap();
        let settings = [("app.tenant", "a b\\ -c x=y")];
        let target = Target::read(&url, None, settings).unwrap();
        assert_eq!(
            target.options,
            "-c geqo=off -c app.tenant=a\\ b\\\\\\ -c\\ x=y"
        );
        assert!(Target::read(&url, None, [("a b", "c")]).is_err());
        assert!(Target::read(&url, None, [("", "c")]).is_err());
    }

    #[test]
    fn the_database_is_the_named_one_then_the_urls_then_the_users() {
        let url = PgUrl::parse("postgres://u@h/d").unwrap();
        assert_eq!(Target::read(&url, Some("e"), []).unwrap().database, "e");
        assert_eq!(target("postgres://u@h/d").unwrap().database, "d");
        assert_eq!(target("postgres://u@h").unwrap().database, "u");
        assert!(target("postgres://h/d").is_err());
    }

    #[test]
    fn times_and_addresses_are_read_or_refused() {
        let seconds = |query: &str| target(&format!("postgres://u@h/d?{query}"));
        assert_eq!(
            seconds("connect_timeout=1")
                .unwrap()
                .connect_time_max
                .as_secs(),
            2
        );
        assert_eq!(
            seconds("connect_timeout=0")
                .unwrap()
                .connect_time_max
                .as_secs(),
            10
        );
        assert!(seconds("connect_timeout=soon").is_err());
        assert!(seconds("hostaddr=localhost").is_err());
        let found = seconds("hostaddr=127.0.0.1").unwrap().hostaddrs;
        assert_eq!(found, vec![IpAddr::from([127, 0, 0, 1])]);
    }
}

//! The URI form: `postgresql://user:password@host:port,host2/database?key=value`, and its JDBC and driver prefixes.
//!
//! Owns splitting it into raw parts that join to the same bytes. Leaves meaning of parameters to `pg_url`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Address, PgUrlError, pair_addresses, split_host_port};
use crate::Secret;

/// What need not be escaped in any part of a URI: RFC 3986 section 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What JDBC puts before the scheme.
const JDBC: &str = "jdbc:";

/// The raw parts; joined they give the text that was parsed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Uri {
    /// Up to and with `//`.
    prefix: String,
    /// Before `@`: user and, after `:`, password.
    user: Option<(String, Option<String>)>,
    /// Hosts with ports, `,` between them.
    hosts: String,
    /// After the `/`.
    database: Option<String>,
    /// After the `?`, in order; a value-less key has none.
    query: Option<Vec<(String, Option<String>)>>,
}

/// Schemes of PostgreSQL's: libpq's own, and those of Django, Rails, GeoDjango, Phoenix and Tortoise.
const SCHEMES: [&str; 7] = [
    "postgres",
    "postgresql",
    "psql",
    "pgsql",
    "postgis",
    "ecto",
    "asyncpg",
];

/// The scheme is PostgreSQL's: `postgresql`, `postgresql+driver`, `jdbc:postgresql`, `r2dbc:pool:postgresql`. Case means nothing
/// (RFC 3986 section 3.1).
fn is_postgres(scheme: &str) -> bool {
    let last = scheme.rsplit(':').next().unwrap_or_default();
    let base = last.split('+').next().unwrap_or_default();
    SCHEMES.iter().any(|own| own.eq_ignore_ascii_case(base))
}

fn is_jdbc(scheme: &str) -> bool {
    let start = scheme.get(..JDBC.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(JDBC))
}

/// User, hosts with path, query. The user ends at an `@` before the first `/`, as libpq has it (`fe-connect.c`,
/// `conninfo_uri_parse_options`), so that a password may hold `?`; the last such `@`, as browsers have it, may be the end
/// of a password with `@`. Where there is none, a password may hold `/` unescaped. JDBC has no user there, and a query
/// wherever a `?` is.
fn split_user(text: &str, is_jdbc: bool) -> (Option<&str>, &str, Option<&str>) {
    let authority = &text[..text.find('/').unwrap_or(text.len())];
    if let (Some(first), false) = (authority.find('@'), is_jdbc) {
        let query = authority[first..].find('?').map(|behind| first + behind);
        let sought = &authority[..query.unwrap_or(authority.len())];
        let end = sought.rfind('@').unwrap_or(first);
        let (rest, query) = split_query(&text[end + 1..]);
        return (Some(&text[..end]), rest, query);
    }
    let (rest, query) = split_query(text);
    match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest, query),
        None => (None, rest, query),
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?')
        .map_or((text, None), |(rest, query)| (rest, Some(query)))
}

fn decode(raw: &str, part: &'static str) -> Result<String, PgUrlError> {
    let bytes = raw.as_bytes();
    let broken = bytes.iter().enumerate().any(|(index, byte)| {
        let escape = bytes.get(index + 1..index + 3);
        *byte == b'%' && !escape.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    });
    match percent_decode_str(raw).decode_utf8() {
        Ok(text) if !broken => Ok(text.into_owned()),
        Ok(_) | Err(_) => Err(PgUrlError::Escape(part)),
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

impl Uri {
    /// Splits `text`; none when it has no PostgreSQL scheme.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, PgUrlError> {
        let Some((scheme, rest)) = text
            .split_once("://")
            .filter(|(scheme, _)| is_postgres(scheme))
        else {
            return Ok(None);
        };
        let (user, rest, query) = split_user(rest, is_jdbc(scheme));
        let (hosts, database) = match rest.split_once('/') {
            Some((hosts, database)) => (hosts, Some(database.to_owned())),
            None => (rest, None),
        };
        let user = user.map(|user| match user.split_once(':') {
            Some((user, password)) => (user.to_owned(), Some(password.to_owned())),
            None => (user.to_owned(), None),
        });
        let split_pair = |pair: &str| match pair.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (pair.to_owned(), None),
        };
        let query = query.map(|query| query.split('&').map(split_pair).collect());
        Ok(Some(Self {
            prefix: format!("{scheme}://"),
            user,
            hosts: hosts.to_owned(),
            database,
            query,
        }))
    }

    pub(super) fn from_parts(
        address: &Address,
        user: &str,
        password: Option<&Secret>,
        database: &str,
    ) -> Self {
        let mut uri = Self {
            prefix: "postgresql://".to_owned(),
            user: Some((
                encode(user),
                password.map(|password| encode(password.reveal())),
            )),
            hosts: String::new(),
            database: Some(encode(database)),
            query: None,
        };
        uri.set_address(address);
        uri
    }

    /// Decodes everything once, so that later reads cannot fail.
    pub(super) fn check(&self) -> Result<(), PgUrlError> {
        self.addresses()?;
        if let Some((user, password)) = &self.user {
            decode(user, "user")?;
            decode(password.as_deref().unwrap_or_default(), "password")?;
        }
        decode(self.database.as_deref().unwrap_or_default(), "database")?;
        for (key, value) in self.query.iter().flatten() {
            decode(key, "name of a parameter")?;
            decode(value.as_deref().unwrap_or_default(), "value of a parameter")?;
        }
        Ok(())
    }

    pub(super) fn params(&self) -> Vec<(String, String)> {
        let read = |raw: &str| decode(raw, "parameter").expect("check decoded every part");
        let pairs = self
            .query
            .iter()
            .flatten()
            .filter(|(key, _)| !key.is_empty());
        pairs
            .map(|(key, value)| (read(key), read(value.as_deref().unwrap_or_default())))
            .collect()
    }

    fn query_param(&self, key: &str) -> Option<String> {
        self.params()
            .into_iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    pub(super) fn param(&self, key: &str) -> Option<String> {
        let read = |raw: &str| decode(raw, "part").expect("check decoded every part");
        let from_text = match key {
            "user" => self
                .user
                .as_ref()
                .map(|(user, _)| read(user))
                .filter(|user| !user.is_empty()),
            "password" => self
                .user
                .as_ref()
                .and_then(|(_, password)| password.as_deref())
                .map(read),
            "dbname" => self
                .database
                .as_deref()
                .map(read)
                .filter(|name| !name.is_empty()),
            _ => None,
        };
        self.query_param(key).or(from_text)
    }

    /// Hosts and ports as lists with `,` between their items: libpq makes them of the authority, and a parameter then
    /// replaces the one or the other.
    fn host_and_port_lists(&self) -> Result<(String, String), PgUrlError> {
        if let Some(lists) = self.sqlalchemy_lists()? {
            return Ok(lists);
        }
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for raw in self.hosts.split(',') {
            let (host, port) = match raw.strip_prefix('[') {
                Some(rest) => {
                    let (host, rest) = rest.split_once(']').ok_or(PgUrlError::Bracket)?;
                    (host, rest.strip_prefix(':').unwrap_or(rest))
                }
                None => raw.split_once(':').unwrap_or((raw, "")),
            };
            hosts.push(decode(host, "host")?);
            ports.push(decode(port, "port")?);
        }
        let is_named = hosts.iter().any(|host| !host.is_empty());
        // The authority says more of who is meant than a bare number does.
        let hosts = match (self.raw_query("host"), self.raw_query("hostaddr")) {
            (Some(named), _) => decode(named, "host")?,
            (None, Some(numbers)) if !is_named => decode(numbers, "host")?,
            (None, _) => hosts.join(","),
        };
        let ports = match self.raw_query("port") {
            Some(ports) => decode(ports, "port")?,
            None => ports.join(","),
        };
        Ok((hosts, ports))
    }

    /// SQLAlchemy's way to name several servers, or one beside a user: each `host` counts, and has its port behind it.
    fn sqlalchemy_lists(&self) -> Result<Option<(String, String)>, PgUrlError> {
        let named = self.query.iter().flatten().filter(|(key, _)| key == "host");
        let raw: Vec<&str> = named.filter_map(|(_, value)| value.as_deref()).collect();
        if !self.prefix.contains('+') || raw.is_empty() {
            return Ok(None);
        }
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        let common = self.raw_query("port").unwrap_or_default();
        for value in raw {
            let value = decode(value, "host")?;
            for one in value.split(',') {
                let (host, port) = split_host_port(one).unwrap_or((one, common));
                hosts.push(host.to_owned());
                ports.push(port.to_owned());
            }
        }
        Ok(Some((hosts.join(","), ports.join(","))))
    }

    pub(super) fn addresses(&self) -> Result<Vec<Address>, PgUrlError> {
        let (hosts, ports) = self.host_and_port_lists()?;
        pair_addresses(&hosts, &ports)
    }

    pub(super) fn names_host(&self) -> bool {
        self.host_and_port_lists()
            .is_ok_and(|(hosts, _)| !hosts.trim_matches(',').is_empty())
    }

    pub(super) fn names_port(&self) -> bool {
        self.host_and_port_lists()
            .is_ok_and(|(_, ports)| !ports.is_empty())
    }

    /// As libpq has it the last of several counts.
    fn raw_query(&self, key: &str) -> Option<&str> {
        let mut pairs = self.query.iter().flatten().rev();
        pairs
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    pub(super) fn with_address(&self, address: &Address) -> Self {
        let mut uri = self.clone();
        uri.set_address(address);
        uri
    }

    fn set_address(&mut self, address: &Address) {
        if let Some(query) = &mut self.query {
            query.retain(|(key, _)| !matches!(key.as_str(), "host" | "hostaddr" | "port"));
            if query.is_empty() {
                self.query = None;
            }
        }
        // RFC 3986 section 3.2.2: a colon in a host wants brackets; a socket directory is percent-encoded.
        self.hosts = if address.host.contains(':') {
            format!("[{}]:{}", address.host, address.port)
        } else {
            format!("{}:{}", encode(&address.host), address.port)
        };
    }

    pub(super) fn with_database(&self, database: &str) -> Self {
        let mut uri = self.clone();
        if uri.raw_query("dbname").is_some() {
            return uri.with_param("dbname", database);
        }
        uri.database = Some(encode(database));
        uri
    }

    pub(super) fn with_param(&self, key: &str, value: &str) -> Self {
        let mut uri = self.clone();
        let query = uri.query.get_or_insert_default();
        match query.iter_mut().rev().find(|(name, _)| name == key) {
            Some((_, old)) => *old = Some(encode(value)),
            None => query.push((encode(key), Some(encode(value)))),
        }
        uri
    }

    pub(super) fn without_param(&self, key: &str) -> Self {
        let mut uri = self.clone();
        if let Some(query) = &mut uri.query {
            query.retain(|(name, _)| {
                decode(name, "parameter").expect("check decoded every part") != key
            });
        }
        uri.query = uri.query.filter(|query| !query.is_empty());
        uri
    }

    pub(super) fn redacted(&self) -> Self {
        let mut uri = self.clone();
        if let Some((_, Some(password))) = &mut uri.user {
            "***".clone_into(password);
        }
        for (key, value) in uri.query.iter_mut().flatten() {
            if key.contains("password") {
                *value = Some("***".to_owned());
            }
        }
        uri
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = self.prefix.clone();
        if let Some((user, password)) = &self.user {
            text.push_str(user);
            if let Some(password) = password {
                text.push(':');
                text.push_str(password);
            }
            text.push('@');
        }
        text.push_str(&self.hosts);
        if let Some(database) = &self.database {
            text.push('/');
            text.push_str(database);
        }
        for (index, (key, value)) in self.query.iter().flatten().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(key);
            if let Some(value) = value {
                text.push('=');
                text.push_str(value);
            }
        }
        text
    }
}

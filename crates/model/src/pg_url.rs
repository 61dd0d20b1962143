//! Connection strings of PostgreSQL: libpq URIs (with the schemes of JDBC and other frameworks), `key=value` strings, .NET's form.
//!
//! Owns taking them apart and rewriting address, database and parameters while every other byte stays. Leaves
//! connecting to others. Grammar: PostgreSQL documentation, section 34.1.1 "Connection Strings".

mod dot_net;
mod encryption;
mod key_value;
mod uri;

use std::fmt;
use std::str::FromStr;

use crate::Secret;
use dot_net::DotNet;
use key_value::KeyValue;
use uri::Uri;

pub use encryption::{TlsDemand, asks_for_proof};

/// The port of a URL that names none.
pub const PG_PORT_DEFAULT: u16 = 5432;

/// Why a text is no connection string. Never holds the text: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PgUrlError {
    /// Neither a PostgreSQL URI nor pairs.
    #[error("neither a postgres:// URL, nor a key=value connection string, nor .NET's form")]
    Form,
    /// A port that is not 1 to 65535. What stands in its place may be a part of a password.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A percent escape that is not two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the {0} is not well-formed percent-encoded UTF-8")]
    Escape(&'static str),
    /// A `[` without its `]` in the host.
    #[error("the IPv6 address in the host is not closed by ']'")]
    Bracket,
    /// A quote or backslash of a `key=value` string that nothing ends.
    #[error("the value of {0:?} has no closing quote")]
    Quote(String),
}

/// One host that a connection string names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name, an IP address without brackets, or the directory of a Unix socket (begins with `/`).
    pub host: String,
    /// The port; [`PG_PORT_DEFAULT`] where none is named.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Text that is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no HOST:PORT")]
pub struct AddressError(pub String);

/// As it is written: a host with colons in brackets.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let address = Self {
            host: bare.unwrap_or(host).to_owned(),
            port: port.parse().map_err(|_| wrong())?,
        };
        let is_whole = !address.host.is_empty() && bare.is_some() == address.host.contains(':');
        is_whole.then_some(address).ok_or_else(wrong)
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Syntax {
    Uri(Uri),
    KeyValue(KeyValue),
    DotNet(DotNet),
}

/// A parsed connection string. `Debug` and [`PgUrl::redacted`] hide the password; [`PgUrl::reveal`] does not.
#[derive(Clone, PartialEq, Eq)]
pub struct PgUrl(Syntax);

impl PgUrl {
    /// Takes a connection string apart.
    ///
    /// # Errors
    /// [`PgUrlError`] says what is wrong without showing the text.
    pub fn parse(text: &str) -> Result<Self, PgUrlError> {
        let syntax = match Uri::parse(text)? {
            Some(uri) => Syntax::Uri(uri),
            None => match DotNet::parse(text)? {
                Some(pairs) => Syntax::DotNet(pairs),
                None => Syntax::KeyValue(KeyValue::parse(text)?),
            },
        };
        let url = Self(syntax);
        url.check()?;
        Ok(url)
    }

    /// A URI made of its parts.
    pub fn from_parts(
        address: &Address,
        user: &str,
        password: Option<&Secret>,
        database: &str,
    ) -> Self {
        Self(Syntax::Uri(Uri::from_parts(
            address, user, password, database,
        )))
    }

    fn check(&self) -> Result<(), PgUrlError> {
        match &self.0 {
            Syntax::Uri(uri) => uri.check(),
            Syntax::KeyValue(pairs) => pairs.addresses().map(drop),
            Syntax::DotNet(pairs) => pairs.addresses().map(drop),
        }
    }

    /// The parameter `key` as libpq knows it (`host`, `user`, `sslmode`, ...), decoded.
    pub fn param(&self, key: &str) -> Option<String> {
        match &self.0 {
            Syntax::Uri(uri) => uri.param(key),
            Syntax::KeyValue(pairs) => pairs.get(key).map(str::to_owned),
            Syntax::DotNet(pairs) => pairs.get(key).map(str::to_owned),
        }
    }

    /// Parameters other than address, user, password and database, decoded, in the order of the text.
    pub fn options(&self) -> Vec<(String, String)> {
        const ITS_OWN: [&str; 6] = ["host", "hostaddr", "port", "user", "password", "dbname"];
        let all = match &self.0 {
            Syntax::Uri(uri) => uri.params(),
            Syntax::KeyValue(pairs) => pairs.pairs(),
            Syntax::DotNet(pairs) => pairs.pairs(),
        };
        all.into_iter()
            .filter(|(key, _)| !ITS_OWN.contains(&key.as_str()))
            .collect()
    }

    /// Every address in the order in which a client tries them; `localhost` where none is named.
    pub fn addresses(&self) -> Vec<Address> {
        let found = match &self.0 {
            Syntax::Uri(uri) => uri.addresses(),
            Syntax::KeyValue(pairs) => pairs.addresses(),
            Syntax::DotNet(pairs) => pairs.addresses(),
        };
        found.expect("parse checked the addresses")
    }

    /// The first address.
    pub fn address(&self) -> Address {
        let first = self.addresses().into_iter().next();
        first.unwrap_or(Address {
            host: "localhost".to_owned(),
            port: PG_PORT_DEFAULT,
        })
    }

    /// Whether the text says where the server is, and leaves it not to the client.
    pub fn names_host(&self) -> bool {
        match &self.0 {
            Syntax::Uri(uri) => uri.names_host(),
            Syntax::KeyValue(pairs) => pairs.names_host(),
            Syntax::DotNet(pairs) => pairs.names_host(),
        }
    }

    /// Whether the text says a port of any of its hosts. Of several none is left to the client.
    pub fn names_port(&self) -> bool {
        match &self.0 {
            Syntax::Uri(uri) => uri.names_port(),
            Syntax::KeyValue(pairs) => pairs.get("port").is_some_and(|ports| !ports.is_empty()),
            Syntax::DotNet(pairs) => pairs.names_port(),
        }
    }

    /// The user; none where the text leaves it to the client's account name.
    pub fn user(&self) -> Option<String> {
        self.param("user")
    }

    /// The password.
    pub fn password(&self) -> Option<Secret> {
        self.param("password").map(Secret::new)
    }

    /// The database: the named one, or the user's name as libpq has it.
    pub fn database(&self) -> Option<String> {
        self.param("dbname").or_else(|| self.user())
    }

    /// The same string for another single host and port; everything else keeps its bytes.
    #[must_use]
    pub fn with_address(&self, address: &Address) -> Self {
        Self(match &self.0 {
            Syntax::Uri(uri) => Syntax::Uri(uri.with_address(address)),
            Syntax::KeyValue(pairs) => Syntax::KeyValue(pairs.with_address(address)),
            Syntax::DotNet(pairs) => Syntax::DotNet(pairs.with_address(address)),
        })
    }

    /// The same string for another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self(match &self.0 {
            Syntax::Uri(uri) => Syntax::Uri(uri.with_database(database)),
            Syntax::KeyValue(pairs) => Syntax::KeyValue(pairs.with("dbname", database)),
            Syntax::DotNet(pairs) => Syntax::DotNet(pairs.with("dbname", database)),
        })
    }

    /// The same string with `key` set to `value`, in place where it stood, else at the end.
    #[must_use]
    pub fn with_param(&self, key: &str, value: &str) -> Self {
        Self(match &self.0 {
            Syntax::Uri(uri) => Syntax::Uri(uri.with_param(key, value)),
            Syntax::KeyValue(pairs) => Syntax::KeyValue(pairs.with(key, value)),
            Syntax::DotNet(pairs) => Syntax::DotNet(pairs.with(key, value)),
        })
    }

    /// The same string without `key`.
    #[must_use]
    pub fn without_param(&self, key: &str) -> Self {
        Self(match &self.0 {
            Syntax::Uri(uri) => Syntax::Uri(uri.without_param(key)),
            Syntax::KeyValue(pairs) => Syntax::KeyValue(pairs.without(key)),
            Syntax::DotNet(pairs) => Syntax::DotNet(pairs.without(key)),
        })
    }

    /// The whole text, password included: for the environment of a process that must connect, and nothing else.
    pub fn reveal(&self) -> String {
        match &self.0 {
            Syntax::Uri(uri) => uri.to_text(),
            Syntax::KeyValue(pairs) => pairs.to_text(),
            Syntax::DotNet(pairs) => pairs.to_text(),
        }
    }

    /// The text with `***` in place of the password.
    pub fn redacted(&self) -> String {
        match &self.0 {
            Syntax::Uri(uri) => uri.redacted().to_text(),
            Syntax::KeyValue(pairs) => pairs.redacted().to_text(),
            Syntax::DotNet(pairs) => pairs.redacted().to_text(),
        }
    }
}

impl fmt::Debug for PgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgUrl({})", self.redacted())
    }
}

/// Reads a port as libpq does: empty means the default.
fn parse_port(text: &str) -> Result<u16, PgUrlError> {
    match text {
        "" => Ok(PG_PORT_DEFAULT),
        digits => match digits.parse() {
            Ok(port) if port != 0 => Ok(port),
            Ok(_) | Err(_) => Err(PgUrlError::Port),
        },
    }
}

/// Splits `host:port` and `[v6]:port`, where one value holds both. None where it has no port, or several hosts.
pub fn split_host_port(value: &str) -> Option<(&str, &str)> {
    let (host, port) = value.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(host) if is_port => Some((host, port)),
        // More than one colon is an IPv6 address without a port, a comma several hosts.
        None if is_port && !host.contains([':', ',', '/']) && !host.is_empty() => {
            Some((host, port))
        }
        Some(_) | None => None,
    }
}

/// Pairs hosts with ports as libpq does: one port serves every host, else they go by position.
fn pair_addresses(hosts: &str, ports: &str) -> Result<Vec<Address>, PgUrlError> {
    let ports = ports
        .split(',')
        .map(parse_port)
        .collect::<Result<Vec<_>, _>>()?;
    let pair = |(index, host): (usize, &str)| Address {
        host: if host.is_empty() {
            "localhost".to_owned()
        } else {
            host.to_owned()
        },
        port: *ports
            .get(index)
            .or(ports.first())
            .unwrap_or(&PG_PORT_DEFAULT),
    };
    Ok(hosts.split(',').enumerate().map(pair).collect())
}

#[cfg(test)]
mod tests;

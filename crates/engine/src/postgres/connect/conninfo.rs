//! The same connection for a program of PostgreSQL: what of it may be seen by others, and what may not.
//!
//! Owns the split. A command line is there for everybody to read, so that the password goes through the environment,
//! and the settings with it. The address is the one that answered us, so that a name with several servers behind it
//! does not lead the program to another.

use model::{PgUrl, Secret};

use super::target::{Target, TlsMode};
use crate::postgres::settings::SOCKET_PORT;

use super::{
    APPLICATION_NAME, ConnectError, KEEPALIVE_COUNT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, Peer,
};

/// Parameters of a URL that libpq is given as they are. `sslmode` is given in our reading of it.
const PASSED_ON: [&str; 9] = [
    "channel_binding",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "tcp_user_timeout",
];

/// A connection in libpq's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnInfo {
    /// For the command line: `host='...' port='...' ...`, without secrets.
    pub text: String,
    /// For `PGPASSWORD`.
    pub password: Option<Secret>,
    /// For `PGOPTIONS`: the URL's options and the settings.
    pub options: String,
}

/// Describes the connection that `peer` is the other end of.
///
/// # Errors
/// [`ConnectError`] as for connecting.
pub fn conninfo<'a>(
    url: &PgUrl,
    database: &str,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    peer: &Peer,
) -> Result<ConnInfo, ConnectError> {
    let target = Target::read(url, Some(database), settings)?;
    let (host, port) = match &peer.gateway {
        Some(directory) => (directory.display().to_string(), SOCKET_PORT),
        None => (peer.address.host.clone(), peer.address.port),
    };
    // A gateway has TLS behind it, as the URL wants it.
    let tls = match peer.gateway {
        Some(_) => TlsMode::Disable,
        None => target.tls,
    };
    let mut pairs = vec![
        ("host", host),
        ("port", port.to_string()),
        ("user", target.user().to_owned()),
        ("dbname", database.to_owned()),
        ("application_name", APPLICATION_NAME.to_owned()),
        (
            "connect_timeout",
            target.connect_time_max.as_secs().to_string(),
        ),
        ("keepalives_idle", KEEPALIVE_IDLE.as_secs().to_string()),
        (
            "keepalives_interval",
            KEEPALIVE_INTERVAL.as_secs().to_string(),
        ),
        ("keepalives_count", KEEPALIVE_COUNT.to_string()),
        ("gssencmode", "disable".to_owned()),
        ("sslmode", tls.as_str().to_owned()),
    ];
    if let Some(ip) = peer.ip {
        pairs.push(("hostaddr", ip.to_string()));
    }
    let passed_on = match peer.gateway {
        Some(_) => &[][..],
        None => &PASSED_ON[..],
    };
    for key in passed_on {
        if let Some(value) = url.param(key).filter(|value| !value.is_empty()) {
            pairs.push((*key, value));
        }
    }
    let quoted = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", quote(value)));
    Ok(ConnInfo {
        text: quoted.collect::<Vec<_>>().join(" "),
        password: url.password(),
        options: target.options().to_owned(),
    })
}

fn quote(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn no_secret_is_in_what_others_see() {
        let url = "postgres://app:s3cr%27t@db.example:5433/shop?sslmode=no-verify&schema=x&options=-c%20geqo%3Doff";
        let url = PgUrl::parse(url).unwrap();
        let peer = Peer {
            address: url.address(),
            ip: Some(IpAddr::from([10, 0, 0, 7])),
            local: None,
            is_tls: true,
            gateway: None,
        };
        let info = conninfo(&url, "it's", [("app.tenant", "7")], &peer).unwrap();
        assert!(!info.text.contains("s3cr"));
        for part in [
            "host='db.example'",
            "hostaddr='10.0.0.7'",
            "port='5433'",
            "user='app'",
            "dbname='it\\'s'",
            "sslmode='require'",
        ] {
            assert!(info.text.contains(part), "{part} is not in {}", info.text);
        }
        assert!(
            !info.text.contains("schema"),
            "what libpq does not know would be an error"
        );
        assert_eq!(info.password, Some(Secret::new("s3cr't")));
        assert_eq!(info.options, "-c geqo=off -c app.tenant=7");
    }

    #[test]
    fn a_gateways_socket_stands_for_the_address_and_its_tls() {
        let url = "postgres://app@db:5433/shop?sslmode=verify-full&sslrootcert=/root.crt";
        let url = PgUrl::parse(url).unwrap();
        let peer = Peer {
            address: url.address(),
            ip: None,
            local: None,
            is_tls: false,
            gateway: Some("/run/to-1".into()),
        };
        let info = conninfo(&url, "shop", [], &peer).unwrap();
        for part in ["host='/run/to-1'", "port='5432'", "sslmode='disable'"] {
            assert!(info.text.contains(part), "{part} is not in {}", info.text);
        }
        for part in ["db", "5433", "hostaddr", "root.crt"] {
            let other = info.text.replace("dbname", "");
            assert!(!other.contains(part), "{part} is in {}", info.text);
        }
    }
}

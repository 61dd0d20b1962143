//! `-L [LOCAL_PORT:]HOST:PORT` and `-R [TARGET_PORT:]LOCAL_PORT`, as people know them from other tools.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use wire::{Endpoint, HOST_NAME_MAX};

/// A port of this machine, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct To {
    /// The port here.
    pub(super) local: u16,
    /// The host, as the target knows it.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
}

/// A port of the target, and where on this machine it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct From {
    /// The target's port.
    pub(super) remote: u16,
    /// The port here.
    pub(super) local: u16,
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is no port")),
        Ok(port) => Ok(port),
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "expected HOST:PORT or LOCAL_PORT:HOST:PORT, as 5433:db:5432".to_owned();
        let (rest, remote) = text.rsplit_once(':').ok_or_else(shape)?;
        let remote = port(remote)?;
        // An address of version 6 stands in brackets, since it has colons of its own.
        let (local, host) = match rest.split_once(':') {
            Some((local, host)) if !rest.starts_with('[') => (port(local)?, host),
            Some(_) | None => (remote, rest),
        };
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(shape)?,
            None if host.contains(':') => return Err(shape()),
            None => host,
        };
        if bare.is_empty() || bare.len() > HOST_NAME_MAX {
            return Err(shape());
        }
        Ok(Self {
            local,
            host: bare.to_owned(),
            port: remote,
        })
    }
}

impl To {
    /// Where it leads, for the agent.
    pub(super) fn endpoint(&self) -> Endpoint {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => Endpoint::Address(SocketAddr::new(ip, self.port)),
            Err(_) => Endpoint::Name {
                host: self.host.clone(),
                port: self.port,
            },
        }
    }
}

impl fmt::Display for To {
    /// Its far end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((remote, local)) => Ok(Self {
                remote: port(remote)?,
                local: port(local)?,
            }),
            None => {
                let same = port(text)?;
                Ok(Self {
                    remote: same,
                    local: same,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_has_a_host_and_one_or_two_ports() {
        for (text, local, shown) in [
            ("5433:db:5432", 5433, "db:5432"),
            ("db:5432", 5432, "db:5432"),
            ("10.0.0.7:80", 80, "10.0.0.7:80"),
            ("8080:10.0.0.7:80", 8080, "10.0.0.7:80"),
            ("[::1]:80", 80, "[::1]:80"),
            ("8080:[fd00::7]:80", 8080, "[fd00::7]:80"),
        ] {
            let mapping: To = text.parse().unwrap();
            assert_eq!(
                (mapping.local, mapping.to_string().as_str()),
                (local, shown)
            );
        }
        for wrong in [
            "",
            ":",
            "80",
            "db",
            "db:",
            ":80",
            "db:0",
            "0:db:80",
            "x:db:80",
            "1:2:3:4",
            "::1:80",
            "[::1:80",
            "80:[::1:90",
            "70000:db:80",
        ] {
            assert!(wrong.parse::<To>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_no_name() {
        let endpoint = |text: &str| text.parse::<To>().unwrap().endpoint();
        assert!(matches!(endpoint("[::1]:80"), Endpoint::Address(_)));
        assert!(matches!(endpoint("10.0.0.7:80"), Endpoint::Address(_)));
        assert!(matches!(endpoint("db:80"), Endpoint::Name { .. }));
    }

    #[test]
    fn a_reverse_mapping_has_one_or_two_ports() {
        let parse = |text: &str| text.parse::<From>().map(|from| (from.remote, from.local));
        assert_eq!(parse("8082"), Ok((8082, 8082)));
        assert_eq!(parse("8082:18000"), Ok((8082, 18000)));
        for wrong in ["", ":", "0", "1:0", "a:1", "1:2:3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

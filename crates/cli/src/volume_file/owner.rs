//! Whom a volume is for: the account that called sudo, another that is named, or root itself.

use std::path::PathBuf;

use crate::settings::Environment;

/// Where the accounts are. Read without the C library, whose lookup may load modules that crash a static program.
const ACCOUNTS: &str = "/etc/passwd";

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Its name.
    pub(crate) name: String,
    /// Its user id.
    pub(crate) uid: u32,
    /// Its group id.
    pub(crate) gid: u32,
    /// Its home, where that is known.
    pub(crate) home: Option<PathBuf>,
}

/// Why it is not known whom a volume is for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnerError {
    /// No such account.
    #[error("there is no account {0:?} in {ACCOUNTS}")]
    Unknown(String),
    /// Nothing says where its engine keeps its data.
    #[error("the home of the account {0:?} is not known")]
    Homeless(String),
    /// The accounts cannot be read.
    #[error("cannot read {ACCOUNTS}")]
    Read(#[source] std::io::Error),
}

impl Owner {
    /// The account `named`, else the one that called sudo, else root.
    ///
    /// # Errors
    /// [`OwnerError`] when the named one is not in `/etc/passwd`.
    pub(crate) fn choose(
        named: Option<&str>,
        environment: &Environment,
    ) -> Result<Self, OwnerError> {
        let accounts = std::fs::read_to_string(ACCOUNTS).map_err(OwnerError::Read)?;
        choose(named, environment, &accounts)
    }

    /// Whether it is root.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }
}

fn choose(
    named: Option<&str>,
    environment: &Environment,
    accounts: &str,
) -> Result<Owner, OwnerError> {
    let caller = environment.get("SUDO_USER").and_then(|name| name.to_str());
    let Some(name) = named.or(caller) else {
        return Ok(Owner {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            home: None,
        });
    };
    if let Some(owner) = accounts
        .lines()
        .filter_map(parse)
        .find(|owner| owner.name == name)
    {
        return Ok(owner);
    }
    // Of an account of a directory service sudo tells the numbers.
    let number = |variable| environment.get(variable)?.to_str()?.parse().ok();
    match (named, number("SUDO_UID"), number("SUDO_GID")) {
        (None, Some(uid), Some(gid)) => Ok(Owner {
            name: name.to_owned(),
            uid,
            gid,
            home: None,
        }),
        _ => Err(OwnerError::Unknown(name.to_owned())),
    }
}

/// A line of passwd(5).
fn parse(line: &str) -> Option<Owner> {
    let fields: Vec<&str> = line.split(':').collect();
    Some(Owner {
        name: (*fields.first()?).to_owned(),
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
        home: fields.get(5).map(PathBuf::from),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nada:x:1001:1002:Ada,,,:/home/ada:/bin/sh\n";

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        variables.iter().map(pair).collect()
    }

    #[test]
    fn a_volume_is_for_whoever_is_named_then_for_whoever_called_sudo() {
        let sudo = environment(&[
            ("SUDO_USER", "ada"),
            ("SUDO_UID", "1001"),
            ("SUDO_GID", "1002"),
        ]);
        let ada = choose(None, &sudo, PASSWD).unwrap();
        assert_eq!((ada.uid, ada.gid), (1001, 1002));
        assert_eq!(ada.home.as_deref(), Some(Path::new("/home/ada")));
        assert!(choose(Some("root"), &sudo, PASSWD).unwrap().is_root());
        assert!(choose(None, &environment(&[]), PASSWD).unwrap().is_root());
    }

    #[test]
    fn an_account_of_a_directory_service_is_known_by_sudo_alone() {
        let sudo = environment(&[
            ("SUDO_USER", "eve"),
            ("SUDO_UID", "70000"),
            ("SUDO_GID", "70001"),
        ]);
        let eve = choose(None, &sudo, PASSWD).unwrap();
        assert_eq!((eve.uid, eve.gid, eve.home), (70_000, 70_001, None));
        let refused = choose(Some("eve"), &sudo, PASSWD).unwrap_err();
        assert!(matches!(refused, OwnerError::Unknown(name) if name == "eve"));
    }
}

//! Whether somebody stands between us and a source's server, and what of a session he keeps.
//!
//! ```text
//!   the server sees our own end ───────────────────────────▶ Nothing
//!   it does not: two connections ask which session they have
//!      one has two, or both have one ──────────────────────▶ Transactions   (PgBouncer's transaction mode, and its kin)
//!      each has its own ───────────────────────────────────▶ Sessions       (its session mode, a proxy, an address that
//!                                                                            is translated)
//! ```
//!
//! A copy is made by several connections that share a moment, and `pg_dump` sets its session up before it begins. Where the
//! next transaction may be of another session, neither holds, and what was set stays behind for other clients: such a
//! source is refused before anything is set. Leaves it to `base::copy` which of its steps need settings.

use std::net::{IpAddr, SocketAddr};

use model::pg_url::Address;

use super::{Answer, SourceAccess, SourceError, row};
use crate::postgres::connect::{Session, connect_peer};

/// How often the two connections ask. A pooler gives out the session that came back last, or the one that waited longest:
/// in either case one round shows it where nobody else is busy.
const ROUNDS: usize = 3;

/// A setting that no server has: whether it is in force says whether settings of a start-up packet are taken.
const PROBE: (&str, &str) = ("bough.seen", "yes");

/// What stands between us and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Nothing: the server sees our own end of the connection.
    Nothing,
    /// Somebody who keeps a session for each connection, for as long as that stays.
    Sessions {
        /// Whether the settings of a start-up packet (`options`) reach the server.
        takes_options: bool,
    },
    /// A pooler whose clients take turns at its sessions.
    Transactions,
}

impl Between {
    /// Whether settings can be given when a connection begins.
    pub fn takes_options(self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Sessions { takes_options } => takes_options,
            Self::Transactions => false,
        }
    }
}

/// Looks what stands between us and the server that answered `session`, which is in no transaction.
///
/// # Errors
/// [`SourceError`] where it does not answer, or has no second connection for us.
async fn look(access: &SourceAccess, session: &Session) -> Result<Between, SourceError> {
    let peer = session.peer().expect("a source's session has a peer");
    let answer = ask(session).await?;
    if peer
        .local
        .is_some_and(|own| is_own(own, answer.get(1), answer.get(2)))
    {
        return Ok(Between::Nothing);
    }
    let settings = access.settings.iter();
    let settings = settings.map(|(name, value)| (name.as_str(), value.as_str()));
    let database = access.database.as_deref();
    let probed = settings.clone().chain([PROBE]);
    let other = match connect_peer(&access.url, database, probed, peer).await {
        Ok(other) => other,
        // Whatever is the matter, a connection as ours is says it better.
        Err(_) => connect_peer(&access.url, database, settings, peer).await?,
    };
    for _ in 0..ROUNDS {
        let mut pids = Vec::new();
        for one in [session, session, &other] {
            pids.push(ask(one).await?.text(0)?);
        }
        if takes_turns(&pids) {
            return Ok(Between::Transactions);
        }
    }
    let takes_options = ask(&other).await?.get(3) == Some(PROBE.1);
    Ok(Between::Sessions { takes_options })
}

/// The same, where a copy could be made through it.
///
/// # Errors
/// [`SourceError`], a pooler that keeps no sessions included, and settings of ours that do not reach the server.
pub async fn check(access: &SourceAccess, session: &Session) -> Result<Between, SourceError> {
    let between = look(access, session).await?;
    let address = || session.peer().map(|peer| peer.address.clone());
    let options = access.url.param("options").unwrap_or_default();
    let wants_options = !access.settings.is_empty() || names_settings(&options);
    match between {
        Between::Transactions => Err(SourceError::Pooled {
            address: address().unwrap_or_else(|| access.url.address()),
        }),
        Between::Sessions {
            takes_options: false,
        } if wants_options => Err(SourceError::NoOptions {
            address: address().unwrap_or_else(|| access.url.address()),
        }),
        Between::Nothing | Between::Sessions { .. } => Ok(between),
    }
}

/// Whether a connection string's `options` set something; providers use the same parameter for names of their own.
fn names_settings(options: &str) -> bool {
    options.split_whitespace().any(|word| word.starts_with('-'))
}

/// What to do where the way to a server does not do: its own address, once.
pub(super) fn hint(address: &Address) -> String {
    format!(
        "`bough source add URL --address {address}`, with a URL that leads to the server itself: copies are made there, and \
         both addresses lead to its branches (in a cluster: a Source with both)"
    )
}

/// One simple query, a transaction of its own. Columns: the session's process, the other end of its connection, and
/// [`PROBE`].
async fn ask(session: &Session) -> Result<Answer, SourceError> {
    let asked = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.host(pg_catalog.inet_client_addr()), \
                 pg_catalog.inet_client_port(), pg_catalog.current_setting('bough.seen', true)";
    row(session, "session", asked).await
}

/// Whether what the server has for the other end is our own end. An address that is translated on the way is none of ours.
fn is_own(own: SocketAddr, ip: Option<&str>, port: Option<&str>) -> bool {
    let ip = ip.and_then(|text| text.parse::<IpAddr>().ok());
    let port = port.and_then(|text| text.parse::<u16>().ok());
    ip.map(|ip| ip.to_canonical()) == Some(own.ip().to_canonical()) && port == Some(own.port())
}

/// Whether one connection had two sessions, or two had one: the processes that the first had, the first again, the other.
fn takes_turns(pids: &[String]) -> bool {
    pids.first() != pids.get(1) || pids.get(1) == pids.get(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_sees_another_end_is_not_talked_to_directly() {
        let own: SocketAddr = "192.0.2.7:40001".parse().unwrap();
        assert!(is_own(own, Some("192.0.2.7"), Some("40001")));
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:40001".parse().unwrap();
        assert!(is_own(mapped, Some("192.0.2.7"), Some("40001")));
        assert!(!is_own(own, Some("192.0.2.7"), Some("40002")));
        assert!(!is_own(own, Some("192.0.2.8"), Some("40001")));
        // By its Unix socket.
        assert!(!is_own(own, None, None));
        assert!(!is_own(own, None, Some("-1")));
    }

    #[test]
    fn sessions_that_are_shared_or_change_hands_are_a_poolers() {
        let turns = |pids: [&str; 3]| takes_turns(&pids.map(str::to_owned));
        assert!(!turns(["7", "7", "8"]));
        // The one that came back last, and the one that waited longest.
        assert!(turns(["7", "7", "7"]));
        assert!(turns(["7", "8", "9"]));
        assert!(turns(["7", "8", "7"]));
    }

    #[test]
    fn what_names_an_endpoint_sets_nothing() {
        assert!(!names_settings(""));
        assert!(!names_settings("endpoint=quiet-sea-1"));
        assert!(names_settings("-c app.tenant=7"));
        assert!(names_settings("endpoint=quiet-sea-1 --geqo=off"));
    }
}

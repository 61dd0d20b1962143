//! The rules that bring connections here instead of to the target, and that vanish with this process.
//!
//! ```text
//! table inet bough-XXXXXXXX {            owned by our netlink socket: gone when it closes, however we end
//!   set ports { inet_service; timeout }   each port in it expires unless we renew it
//!   chain prerouting {                    clients of the same machine come through here as well, by lo
//!     mark neither ours nor outward, SYN alone, tcp dport @ports, tproxy to :LISTENER
//!   }
//! }
//! ```
//!
//! No address is translated and nothing is tracked: `tproxy` hands the first packet to our transparent listener, whose
//! connections then have the target's own address. So established connections are not touched; without a listener the
//! rule does nothing; and the resets of our sudden end reach the clients. (Translation by `redirect` was tried: without
//! its rules no reset reached the clients that we held, and with them a client's port that came again was still sent to
//! the dead listener.) Our own connections to the target bear a mark. The chain comes after those of a service mesh,
//! whose proxy's connections to the target then arrive here by `lo`. Numbers are those of
//! linux/netfilter/nf_tables.h.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rustix::net::netlink::NETFILTER;

use crate::marks::{AGENT_MARK, OUTWARD_MARK};
use crate::netlink::{ACK, CREATE, Content, Messages, Socket};
use crate::nftables::{
    DELETE_ELEMENTS, ELEMENT, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, NEW_SET, NEW_TABLE, REGISTER,
    SYN_ALONE, VALUE, batch, compare, expression, generic, load_meta, load_tcp_flags,
    load_transport, put_chain, tproxy,
};

/// For how long a port is redirected without being renewed: the target serves again within a second of our end.
pub(super) const LIFETIME: Duration = Duration::from_millis(900);

/// How often ports are renewed: often enough that a busy machine may forget it twice.
pub(super) const RENEW_EVERY: Duration = Duration::from_millis(200);

/// After the chains of service meshes, which stand at -100 (`dstnat`).
const PRIORITY: i32 = -90;

/// `NFPROTO_INET`: versions 4 and 6 by the same rules.
const INET: u8 = 1;

/// `NFT_TABLE_F_OWNER`, since Linux 5.12.
const OWNED: u32 = 0x2;
/// `NFT_SET_TIMEOUT`.
const EXPIRES: u32 = 0x10;
const SET: &str = "ports";
const CHAIN: &str = "prerouting";

/// Why connections cannot be redirected.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedirectError {
    /// The process lacks CAP_NET_ADMIN over its network namespace.
    #[error("rules may not be set")]
    NotPermitted {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel lacks a part.
    #[error("rules cannot be set on this kernel")]
    Unsupported {
        /// What the kernel said.
        source: io::Error,
    },
}

impl RedirectError {
    fn of(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::NotPermitted { source }
        } else {
            Self::Unsupported { source }
        }
    }
}

/// The rules, and the ports that they redirect.
#[derive(Debug)]
pub(super) struct Redirect {
    socket: Socket,
    table: String,
    ports: BTreeSet<u16>,
}

impl Redirect {
    /// Sets rules that redirect nothing yet, towards `listener` on the same machine. `name` tells several apart.
    ///
    /// # Errors
    /// [`RedirectError`]; nothing is left behind.
    pub(super) fn install(listener: u16, name: u32) -> Result<Self, RedirectError> {
        let socket = Socket::open(NETFILTER).map_err(RedirectError::of)?;
        let redirect = Self {
            socket,
            table: format!("bough-{name:08x}"),
            ports: BTreeSet::new(),
        };
        let owned = redirect.socket.tell(&redirect.rules(listener, OWNED));
        let outcome = match owned {
            // An older kernel knows no owners; there the ports still expire, and an empty table is left.
            Err(error) if is_unknown(&error) => redirect.socket.tell(&redirect.rules(listener, 0)),
            outcome => outcome,
        };
        outcome.map_err(RedirectError::of)?;
        Ok(redirect)
    }

    /// Redirects these ports and no others, for [`LIFETIME`] from this moment.
    ///
    /// # Errors
    /// The kernel's; what was redirected is until it expires.
    pub(super) fn renew(&mut self, ports: &BTreeSet<u16>) -> io::Result<()> {
        let touched: BTreeSet<u16> = self.ports.union(ports).copied().collect();
        if touched.is_empty() {
            return Ok(());
        }
        // Adding what is there does not renew it, deleting what has expired fails; together they do, without a gap.
        let messages = batch(|messages| {
            self.elements(messages, NEW_ELEMENTS, CREATE, &touched);
            self.elements(messages, DELETE_ELEMENTS, 0, &touched);
            if !ports.is_empty() {
                self.elements(messages, NEW_ELEMENTS, CREATE, ports);
            }
        });
        self.socket.tell(&messages)?;
        self.ports.clone_from(ports);
        Ok(())
    }

    fn elements(&self, messages: &mut Messages, kind: u16, flags: u16, ports: &BTreeSet<u16>) {
        messages.message(kind, flags | ACK, |content| {
            content.raw(&generic(INET, 0));
            content.text(1, &self.table);
            content.text(2, SET);
            content.nested(3, |list| {
                for port in ports {
                    list.nested(ELEMENT, |element| {
                        element.nested(1, |key| key.attribute(VALUE, &port.to_be_bytes()));
                    });
                }
            });
        });
    }

    fn rules(&self, listener: u16, table_flags: u32) -> Messages {
        let new = CREATE | ACK;
        let lifetime = u64::try_from(LIFETIME.as_millis()).expect("below a second");
        batch(|messages| {
            messages.message(NEW_TABLE, new, |content| {
                content.raw(&generic(INET, 0));
                content.text(1, &self.table);
                content.number(2, table_flags);
            });
            messages.message(NEW_SET, new, |content| {
                content.raw(&generic(INET, 0));
                content.text(1, &self.table);
                content.text(2, SET);
                content.number(3, EXPIRES);
                // The type's number is for people who list the set: `inet_service` of nft.
                content.number(4, 13);
                content.number(5, 2);
                content.attribute(11, &lifetime.to_be_bytes());
                // The set's name within this batch.
                content.number(10, 1);
            });
            messages.message(NEW_CHAIN, new, |content| {
                content.raw(&generic(INET, 0));
                put_chain(content, &self.table, CHAIN, PRIORITY);
            });
            messages.message(NEW_RULE, new, |content| {
                content.raw(&generic(INET, 0));
                content.text(1, &self.table);
                content.text(2, CHAIN);
                content.nested(4, |list| expressions(list, listener));
            });
        })
    }
}

/// Whether the kernel did not know something that it was told.
fn is_unknown(error: &io::Error) -> bool {
    /// EINVAL and EOPNOTSUPP.
    const UNKNOWN: [i32; 2] = [22, 95];
    error
        .raw_os_error()
        .is_some_and(|number| UNKNOWN.contains(&number))
}

/// The expressions of the rule.
fn expressions(list: &mut Content, listener: u16) {
    /// Keys of `meta`: the mark and the protocol.
    const MARK: u32 = 3;
    const PROTOCOL: u32 = 16;
    /// The protocol's number.
    const TCP: u8 = 6;
    /// Of either family, as no address is given.
    const EITHER: u8 = 0;
    load_meta(list, MARK);
    compare(list, false, &AGENT_MARK.to_ne_bytes());
    compare(list, false, &OUTWARD_MARK.to_ne_bytes());
    load_meta(list, PROTOCOL);
    compare(list, true, &[TCP]);
    load_tcp_flags(list);
    compare(list, true, &[SYN_ALONE]);
    // The destination's port.
    load_transport(list, 2, 2);
    expression(list, "lookup", |data| {
        data.text(1, SET);
        data.number(2, REGISTER);
        data.number(4, 1);
    });
    tproxy(list, EITHER, listener);
}

//! The rules that show the relay what leaves the target.
//!
//! ```text
//! table ip bough-relay, table ip6 bough-relay {
//!   chain ask {                   prerouting, before the agent's: everything that is sent comes by here, as all routes
//!     marked by agent or inward     lead to loopback                                                      -> accept
//!     tcp SYN, udp: a socket of the target's own is there                                                 -> accept
//!     tcp SYN                                                                           -> queue, or accept without us
//!     udp                                                                                    -> tproxy to the datagrams'
//!   }
//!   chain take {                  right after it
//!     tcp SYN that the queue marked                                                            -> tproxy to the streams'
//!   }
//! }
//! ```
//!
//! `socket` finds listeners as the kernel itself does; those of relay and agent are transparent, and none of the
//! target's is. Without a living relay a SYN is accepted, finds nobody, and its client is refused. The rules stay as
//! long as the namespace, and a relay that comes after another replaces them.

use std::io;

use rustix::net::netlink::NETFILTER;

use crate::marks::{AGENT_MARK, INWARD_MARK};
use crate::netlink::{ACK, APPEND, CREATE, Content, Messages, Socket};
use crate::nftables::{
    DELETE_TABLE, NEW_CHAIN, NEW_RULE, NEW_TABLE, SYN_ALONE, batch, compare, expression, generic,
    load_meta, load_tcp_flags, put_chain, tproxy,
};

pub(super) use crate::marks::OUTWARD_MARK;

/// The queue that first packets are held in. A namespace has numbers of its own.
pub(super) const QUEUE_NUMBER: u16 = 0x6f75;

/// Where the chains stand: both before the agent's redirection (-90).
const ASK_PRIORITY: i32 = -100;
const TAKE_PRIORITY: i32 = -95;

const TABLE: &str = "bough-relay";
const ASK: &str = "ask";
const TAKE: &str = "take";

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const FAMILIES: [u8; 2] = [2, 10];

/// Protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Keys of `meta`.
const META_MARK: u32 = 3;
const META_PROTOCOL: u32 = 16;

/// Where the relay listens inside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) streams: u16,
    pub(super) datagrams: u16,
}

/// How the queue is spelled.
#[derive(Debug, Clone, Copy)]
enum Spelling {
    /// As nftables' own expression.
    Own,
    /// As the target of iptables, which some kernels have alone.
    Target,
}

/// Sets the rules in the calling thread's namespace, in the place of those of an earlier relay.
///
/// # Errors
/// The kernel's, where it knows neither spelling of the queue, or lacks `socket` or `tproxy`.
pub(super) fn install(ports: Ports) -> io::Result<()> {
    let socket = Socket::open(NETFILTER)?;
    for family in FAMILIES {
        let own = socket.tell(&rules(family, ports, Spelling::Own));
        let outcome = own.or_else(|_| socket.tell(&rules(family, ports, Spelling::Target)));
        match outcome {
            // A machine without version 6 sends nothing by it.
            Err(_) if family == FAMILIES[1] && !has_version_6() => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn has_version_6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

fn rules(family: u8, ports: Ports, spelling: Spelling) -> Messages {
    let new = CREATE | ACK;
    batch(|messages| {
        let table = |messages: &mut Messages, kind, flags| {
            messages.message(kind, flags, |content| {
                content.raw(&generic(family, 0));
                content.text(1, TABLE);
            });
        };
        table(messages, NEW_TABLE, new);
        table(messages, DELETE_TABLE, ACK);
        table(messages, NEW_TABLE, new);
        for (chain, priority) in [(ASK, ASK_PRIORITY), (TAKE, TAKE_PRIORITY)] {
            messages.message(NEW_CHAIN, new, |content| {
                content.raw(&generic(family, 0));
                put_chain(content, TABLE, chain, priority);
            });
        }
        let mut rule = |chain: &str, put: &dyn Fn(&mut Content)| {
            // Without this each rule would stand before those that were there.
            messages.message(NEW_RULE, new | APPEND, |content| {
                content.raw(&generic(family, 0));
                content.text(1, TABLE);
                content.text(2, chain);
                content.nested(4, put);
            });
        };
        for mark in [AGENT_MARK, INWARD_MARK] {
            rule(ASK, &|list| {
                marked(list, mark);
                accept(list);
            });
        }
        rule(ASK, &|list| {
            first_packet(list);
            has_own_socket(list);
            accept(list);
        });
        rule(ASK, &|list| {
            first_packet(list);
            queue(list, spelling);
        });
        rule(ASK, &|list| {
            protocol(list, UDP);
            has_own_socket(list);
            accept(list);
        });
        rule(ASK, &|list| {
            protocol(list, UDP);
            tproxy(list, family, ports.datagrams);
        });
        rule(TAKE, &|list| {
            marked(list, OUTWARD_MARK);
            first_packet(list);
            tproxy(list, family, ports.streams);
        });
    })
}

fn marked(list: &mut Content, mark: u32) {
    load_meta(list, META_MARK);
    compare(list, true, &mark.to_ne_bytes());
}

fn protocol(list: &mut Content, number: u8) {
    load_meta(list, META_PROTOCOL);
    compare(list, true, &[number]);
}

fn first_packet(list: &mut Content) {
    protocol(list, TCP);
    load_tcp_flags(list);
    compare(list, true, &[SYN_ALONE]);
}

/// Holds where a socket that is not transparent would get the packet.
fn has_own_socket(list: &mut Content) {
    expression(list, "socket", |data| {
        // `NFT_SOCKET_TRANSPARENT`, into the first register.
        data.number(1, 0);
        data.number(2, 1);
    });
    compare(list, true, &[0]);
}

/// Ends the chain.
fn accept(list: &mut Content) {
    expression(list, "immediate", |data| {
        // The verdict's register, and `NF_ACCEPT` in it.
        data.number(1, 0);
        data.nested(2, |value| value.nested(2, |verdict| verdict.number(1, 1)));
    });
}

/// Holds the packet for the relay; accepts it where there is none.
fn queue(list: &mut Content, spelling: Spelling) {
    /// The flag `bypass` in both spellings.
    const BYPASS: u16 = 1;
    match spelling {
        Spelling::Own => expression(list, "queue", |data| {
            data.attribute(1, &QUEUE_NUMBER.to_be_bytes());
            data.attribute(2, &1_u16.to_be_bytes());
            data.attribute(3, &BYPASS.to_be_bytes());
        }),
        Spelling::Target => expression(list, "target", |data| {
            data.text(1, "NFQUEUE");
            data.number(2, 3);
            // struct xt_NFQ_info_v3, padded to eight bytes.
            let words = [QUEUE_NUMBER, 1, BYPASS, 0];
            let words: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            data.attribute(3, &words);
        }),
    }
}

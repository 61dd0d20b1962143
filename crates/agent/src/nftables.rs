//! What rules of nftables are made of (linux/netfilter/nf_tables.h): batches, chains, and the expressions that are used
//! here. Which rules there are is for `incoming::redirect` and `relay::rules`.

use crate::netlink::{Content, Messages};

/// The kind of a message of nftables: the subsystem in the high byte.
const fn nft(message: u16) -> u16 {
    (10 << 8) | message
}

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
pub(crate) const NEW_TABLE: u16 = nft(0);
pub(crate) const DELETE_TABLE: u16 = nft(2);
pub(crate) const NEW_CHAIN: u16 = nft(3);
pub(crate) const NEW_RULE: u16 = nft(6);
pub(crate) const NEW_SET: u16 = nft(9);
pub(crate) const NEW_ELEMENTS: u16 = nft(12);
pub(crate) const DELETE_ELEMENTS: u16 = nft(14);

/// `NFTA_LIST_ELEM` and `NFTA_DATA_VALUE`.
pub(crate) const ELEMENT: u16 = 1;
pub(crate) const VALUE: u16 = 1;
/// `NFT_REG_1`.
pub(crate) const REGISTER: u32 = 1;

/// What [`load_tcp_flags`] loads of a connection's first packet.
pub(crate) const SYN_ALONE: u8 = 0x02;

/// `struct nfgenmsg`.
pub(crate) fn generic(family: u8, resource: u16) -> [u8; 4] {
    let resource = resource.to_be_bytes();
    [family, 0, resource[0], resource[1]]
}

/// Messages that take effect together or not at all.
pub(crate) fn batch(put: impl FnOnce(&mut Messages)) -> Messages {
    /// `NFNL_SUBSYS_NFTABLES`.
    const NFTABLES: u16 = 10;
    let mut messages = Messages::default();
    messages.message(BATCH_BEGIN, 0, |content| content.raw(&generic(0, NFTABLES)));
    put(&mut messages);
    messages.message(BATCH_END, 0, |content| content.raw(&generic(0, NFTABLES)));
    messages
}

/// A chain of `table` where packets come in, before they are routed.
pub(crate) fn put_chain(content: &mut Content, table: &str, chain: &str, priority: i32) {
    content.text(1, table);
    content.text(3, chain);
    content.nested(4, |place| {
        // The hook's number is that of prerouting.
        place.number(1, 0);
        place.attribute(2, &priority.to_be_bytes());
    });
    content.text(7, "filter");
}

/// Loads the flags that tell a connection's first packet from every other.
pub(crate) fn load_tcp_flags(list: &mut Content) {
    /// Flags of TCP (RFC 9293 section 3.1).
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACKNOWLEDGES: u8 = 0x10;
    load_transport(list, 13, 1);
    expression(list, "bitwise", |data| {
        data.number(1, REGISTER);
        data.number(2, REGISTER);
        data.number(3, 1);
        data.nested(4, |mask| {
            mask.attribute(VALUE, &[FIN | SYN | RST | ACKNOWLEDGES])
        });
        data.nested(5, |flip| flip.attribute(VALUE, &[0]));
    });
}

/// Hands the packet to the transparent socket on `port`, whatever it is addressed to.
pub(crate) fn tproxy(list: &mut Content, family: u8, port: u16) {
    expression(list, "immediate", |data| {
        data.number(1, REGISTER);
        data.nested(2, |value| value.attribute(VALUE, &port.to_be_bytes()));
    });
    expression(list, "tproxy", |data| {
        data.number(1, u32::from(family));
        data.number(3, REGISTER);
    });
}

/// An expression of a rule.
pub(crate) fn expression(list: &mut Content, name: &str, put: impl FnOnce(&mut Content)) {
    list.nested(ELEMENT, |element| {
        element.text(1, name);
        element.nested(2, put);
    });
}

/// Loads bytes of the transport header.
pub(crate) fn load_transport(list: &mut Content, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        data.number(1, REGISTER);
        data.number(2, 2);
        data.number(3, offset);
        data.number(4, length);
    });
}

/// Loads what is known of the packet beside its bytes.
pub(crate) fn load_meta(list: &mut Content, key: u32) {
    expression(list, "meta", |data| {
        data.number(1, REGISTER);
        data.number(2, key);
    });
}

/// Goes on where the register holds `value`, or does not.
pub(crate) fn compare(list: &mut Content, equal: bool, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.number(1, REGISTER);
        data.number(2, u32::from(!equal));
        data.nested(3, |inner| inner.attribute(VALUE, value));
    });
}

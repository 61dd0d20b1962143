//! Netlink messages and the socket that they go through: what nftables, routes, queues and socket diagnosis have in
//! common.
//!
//! Owns the form (`struct nlmsghdr`, `struct nlattr` of linux/netlink.h) and reading answers. What stands in a message
//! is for `nftables` and for those who ask. The kernel answers before `send` returns, so nothing here waits.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto,
    socket_with,
};

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`, `NLM_F_APPEND`, `NLM_F_DUMP`.
pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
pub(crate) const DUMP: u16 = 0x300;

/// `NLMSG_ERROR` and `NLMSG_DONE`, which end an answer.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// Bytes of one answer that are taken: a dump comes in pieces of at most 32 KiB.
const ANSWER_MAX: usize = 64 * 1024;

/// Messages that go to the kernel together.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    sequence: u32,
    /// How many ask for an acknowledgement.
    acknowledged: usize,
}

impl Messages {
    /// All of them, as they are sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a message of `kind`, whose content `put` writes.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, put: impl FnOnce(&mut Content)) {
        self.sequence += 1;
        self.acknowledged += usize::from(flags & ACK != 0);
        let mut content = Content::default();
        put(&mut content);
        let length = u32::try_from(HEADER_BYTES + content.bytes.len()).expect("messages are small");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        // The kernel knows the sender.
        self.bytes.extend([0; 4]);
        self.bytes.extend(content.bytes);
        pad(&mut self.bytes);
    }
}

/// What stands in one message.
#[derive(Debug, Default)]
pub(crate) struct Content {
    bytes: Vec<u8>,
}

impl Content {
    /// Bytes without a header of their own.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// An attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("attributes are small");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        pad(&mut self.bytes);
    }

    /// An attribute that holds a text and its final zero.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, &[text.as_bytes(), b"\0"].concat());
    }

    /// An attribute that holds a number, as nftables wants it.
    pub(crate) fn number(&mut self, kind: u16, number: u32) {
        self.attribute(kind, &number.to_be_bytes());
    }

    /// An attribute that holds attributes.
    pub(crate) fn nested(&mut self, kind: u16, put: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        put(&mut inner);
        self.attribute(NESTED | kind, &inner.bytes);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A socket to one part of the kernel.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: OwnedFd,
}

impl Socket {
    /// A socket to `protocol`; rtnetlink(7), whose number is 0, is none.
    pub(crate) fn open(protocol: impl Into<Option<Protocol>>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::RAW;
        let socket = socket_with(AddressFamily::NETLINK, kind, flags, protocol.into())?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Sends messages and waits for every acknowledgement that they ask for.
    ///
    /// # Errors
    /// The first refusal of the kernel's.
    pub(crate) fn tell(&self, messages: &Messages) -> io::Result<()> {
        self.send(messages)?;
        let mut left = messages.acknowledged;
        while left > 0 {
            for answer in self.receive()? {
                if let Answer::Outcome(outcome) = answer {
                    outcome?;
                    left = left.saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    /// Sends one question and collects what is answered, each without its header.
    pub(crate) fn ask(&self, question: &Messages) -> io::Result<Vec<Vec<u8>>> {
        self.send(question)?;
        let mut found = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer {
                    Answer::Outcome(outcome) => {
                        outcome?;
                        return Ok(found);
                    }
                    Answer::Content(content) => found.push(content),
                }
            }
        }
    }

    fn send(&self, messages: &Messages) -> io::Result<()> {
        // What was not read of an earlier answer is none of this one's.
        while self.receive().is_ok() {}
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &messages.bytes, SendFlags::empty(), &kernel)?;
        Ok(())
    }

    /// The answers of one datagram.
    fn receive(&self) -> io::Result<Vec<Answer>> {
        let mut buffer = vec![MaybeUninit::uninit(); ANSWER_MAX];
        let ((bytes, _), _) = recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
        Ok(parse(bytes))
    }
}

/// One message of the kernel's.
#[derive(Debug)]
enum Answer {
    /// The end, or an acknowledgement.
    Outcome(io::Result<()>),
    /// Something that was asked for.
    Content(Vec<u8>),
}

fn parse(bytes: &[u8]) -> Vec<Answer> {
    let messages = split(bytes).into_iter();
    messages
        .map(|(kind, content)| match kind {
            DONE => Answer::Outcome(Ok(())),
            ERROR => Answer::Outcome(outcome(content)),
            _ => Answer::Content(content.to_vec()),
        })
        .collect()
}

/// The kinds and contents of the messages of one datagram; what is cut off is left out.
pub(crate) fn split(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut messages = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(content) = bytes.get(HEADER_BYTES..length) else {
            break;
        };
        messages.push((kind, content));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// The kinds and values of the attributes in `bytes`; what is cut off is left out.
pub(crate) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !NESTED;
        let Some(value) = bytes.get(4..length) else {
            break;
        };
        found.push((kind, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// `struct nlmsgerr` begins with a negative error number, or 0.
fn outcome(content: &[u8]) -> io::Result<()> {
    let number = content
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    match number {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(-number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_are_padded_but_not_counted_so() {
        let mut messages = Messages::default();
        messages.message(7, ACK, |content| {
            content.raw(&[1, 2, 3, 4]);
            content.nested(3, |inner| inner.text(1, "ab"));
            content.number(2, 258);
        });
        let (length, kind, flags) = (40_u32, 7_u16, 5_u16);
        let mut expected = Vec::new();
        expected.extend(length.to_ne_bytes());
        expected.extend(kind.to_ne_bytes());
        expected.extend(flags.to_ne_bytes());
        expected.extend(1_u32.to_ne_bytes());
        expected.extend([0; 4]);
        expected.extend([1, 2, 3, 4]);
        expected.extend(12_u16.to_ne_bytes());
        expected.extend(0x8003_u16.to_ne_bytes());
        expected.extend(7_u16.to_ne_bytes());
        expected.extend(1_u16.to_ne_bytes());
        expected.extend(b"ab\0\0");
        expected.extend(8_u16.to_ne_bytes());
        expected.extend(2_u16.to_ne_bytes());
        expected.extend([0, 0, 1, 2]);
        assert_eq!(messages.bytes, expected);
        assert_eq!(messages.acknowledged, 1);
    }

    #[test]
    fn answers_that_are_cut_off_are_left_out() {
        let mut bytes = Vec::new();
        bytes.extend(20_u32.to_ne_bytes());
        bytes.extend(ERROR.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend((-1_i32).to_ne_bytes());
        let refused = parse(&bytes);
        let [Answer::Outcome(Err(error))] = &refused[..] else {
            panic!("{refused:?}")
        };
        assert_eq!(error.raw_os_error(), Some(1));
        assert!(parse(&bytes[..19]).is_empty());
        assert!(parse(&[0; 64]).len() <= 4);
    }
}

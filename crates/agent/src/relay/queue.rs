//! First packets of connections, held by the kernel until their fate is known: nfnetlink_queue
//! (linux/netfilter/nfnetlink_queue.h).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};
use tokio::sync::mpsc;

use super::packet::Ends;
use super::rules::{OUTWARD_MARK, QUEUE_NUMBER};
use crate::netlink::{Messages, attributes, split};

/// `NFNL_SUBSYS_QUEUE`, in the high byte of a message's kind.
const fn queue(message: u16) -> u16 {
    (3 << 8) | message
}

const PACKET: u16 = queue(0);
const VERDICT: u16 = queue(1);
const CONFIG: u16 = queue(2);

/// Attributes of packets and of configuration that are used here.
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const MARK: u16 = 3;
const PAYLOAD: u16 = 10;
const COMMAND: u16 = 1;
const PARAMETERS: u16 = 2;
const LENGTH_MAX: u16 = 3;

/// `NF_DROP` and `NF_ACCEPT`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Bytes of a packet that are wanted: both headers with every option.
const COPIED: u32 = 160;

/// Packets that the kernel holds at once: first packets of connections that are still being dialled.
const HELD_MAX: u32 = 4096;

/// Packets between the receiving thread and the dialling task.
const WAITING_MAX: usize = 1024;

/// Bytes of a datagram of the kernel's.
const DATAGRAM_MAX: usize = 16 * 1024;

/// A held packet.
#[derive(Debug)]
pub(super) struct Packet {
    /// The kernel's number for it.
    pub(super) id: u32,
    /// Whose it is; none where it cannot be read.
    pub(super) ends: Option<Ends>,
}

/// What becomes of a held packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The relay takes the connection.
    Taken,
    /// It goes where it would go without the relay: nobody is there, so its client is refused.
    Refused,
    /// It vanishes, as on the way to somebody who does not answer.
    Lost,
}

/// The way back to the kernel.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    socket: Arc<OwnedFd>,
}

/// Opens the queue of the calling thread's namespace, and starts the thread that receives.
///
/// # Errors
/// When the kernel lacks nfnetlink_queue.
pub(super) fn open() -> io::Result<(Queue, mpsc::Receiver<Packet>)> {
    configure()?;
    let kind = SocketType::RAW;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, kind, flags, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let queue = Queue {
        socket: Arc::new(socket),
    };
    queue.bind()?;
    let (packets_tx, packets_rx) = mpsc::channel(WAITING_MAX);
    let receiver = queue.clone();
    let thread = thread::Builder::new().name("queue".to_owned());
    thread.spawn(move || receiver.receive(&packets_tx))?;
    Ok((queue, packets_rx))
}

/// Tries the parts that a kernel may lack, where its answer is read.
fn configure() -> io::Result<()> {
    let probe = crate::netlink::Socket::open(NETFILTER)?;
    let mut messages = Messages::default();
    put_command(&mut messages, crate::netlink::ACK);
    probe.tell(&messages)
    // The probe's queue ends with its socket.
}

/// Asks for the queue (`NFQNL_CFG_CMD_BIND`).
fn put_command(messages: &mut Messages, flags: u16) {
    messages.message(CONFIG, flags, |content| {
        content.raw(&header());
        content.attribute(COMMAND, &[1, 0, 0, 0]);
    });
}

/// `struct nfgenmsg`: no family, version 0, the queue.
fn header() -> [u8; 4] {
    let number = QUEUE_NUMBER.to_be_bytes();
    [0, 0, number[0], number[1]]
}

impl Queue {
    fn bind(&self) -> io::Result<()> {
        let mut messages = Messages::default();
        put_command(&mut messages, 0);
        messages.message(CONFIG, 0, |content| {
            content.raw(&header());
            // Whole packets, as far as this (`NFQNL_COPY_PACKET`).
            let range = COPIED.to_be_bytes();
            content.attribute(PARAMETERS, &[range[0], range[1], range[2], range[3], 2]);
            content.attribute(LENGTH_MAX, &HELD_MAX.to_be_bytes());
        });
        self.send(&messages)
    }

    /// Decides a packet's fate. One that the kernel gave up meanwhile needs none.
    pub(super) fn decide(&self, packet: &Packet, fate: Fate) {
        let verdict = match fate {
            Fate::Taken | Fate::Refused => ACCEPT,
            Fate::Lost => DROP,
        };
        let mut messages = Messages::default();
        messages.message(VERDICT, 0, |content| {
            content.raw(&header());
            let (verdict, id) = (verdict.to_be_bytes(), packet.id.to_be_bytes());
            content.attribute(VERDICT_HEADER, &[verdict, id].concat());
            if fate == Fate::Taken {
                content.attribute(MARK, &OUTWARD_MARK.to_be_bytes());
            }
        });
        if let Err(error) = self.send(&messages) {
            tracing::warn!(%error, "a connection's first packet is not let go");
        }
    }

    fn send(&self, messages: &Messages) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&*self.socket, messages.bytes(), SendFlags::empty(), &kernel)?;
        Ok(())
    }

    fn receive(&self, packets_tx: &mpsc::Sender<Packet>) {
        let mut buffer = vec![MaybeUninit::uninit(); DATAGRAM_MAX];
        loop {
            let datagram = match recv(&*self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok(((bytes, _), _)) => bytes,
                // Packets were lost for want of room: their clients send them again.
                Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => continue,
                Err(error) => return tracing::error!(%error, "packets cannot be received"),
            };
            for (kind, content) in split(datagram) {
                if kind != PACKET {
                    continue;
                }
                let Some(packet) = parse(content) else {
                    continue;
                };
                match packets_tx.try_send(packet) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(packet)) => {
                        self.decide(&packet, Fate::Lost);
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => return,
                }
            }
        }
    }
}

fn parse(content: &[u8]) -> Option<Packet> {
    let mut id = None;
    let mut ends = None;
    for (kind, value) in attributes(content.get(4..)?) {
        match kind {
            PACKET_HEADER => id = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            PAYLOAD => ends = Ends::parse(value),
            _ => {}
        }
    }
    Some(Packet { id: id?, ends })
}

//! What a relay of datagrams does: it carries them between the program's socket and whatever stands behind it.
//!
//! Owns each way of carrying and its orderly end: what the program had sent before its socket was closed goes on, and a
//! socket at the target is let go once it has sent everything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{RecvFlags, recvfrom};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::pump::Stream as WireStream;

use super::{Behind, Sender, open};
use crate::remote::TargetNetwork;
use crate::resolver::{self, Transport};
use crate::session::Session;

/// Questions of one socket that are being answered; more are lost.
const QUESTIONS_MAX: usize = 256;

/// Bytes of the longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// How long a socket at the target may take to send what it was given before it is cut.
const TARGET_FINISH_MAX: Duration = Duration::from_secs(30);

/// The two ends of a relay: the program's socket, and the place that the relay stands for.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) sender: Sender,
    pub(super) place: SocketAddr,
    /// Whether the program's socket, or the relay, is gone.
    pub(super) closing: CancellationToken,
}

/// Who ended an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The program.
    Here,
    /// The socket at the target, as where nobody is there.
    AtTheTarget,
}

impl Ends {
    /// The next datagram of the program's own; strangers of this machine are not heard. None once the relay is closed and what
    /// had come before has been taken.
    async fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<(&'a [u8], SocketAddr)> {
        loop {
            let received = tokio::select! {
                biased;
                () = self.closing.cancelled() => self.take_rest(buffer),
                received = self.socket.recv_from(buffer) => received,
            };
            match received {
                Ok((length, from)) if from.port() == self.sender.local.port() => {
                    return Some((&buffer[..length], from));
                }
                // An answer that the program's socket did not take.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!(%error, "a relay of datagrams ends");
                    }
                    return None;
                }
            }
        }
    }

    /// What is there already: asks the kernel itself, which may not have told the runtime yet.
    fn take_rest(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (length, _, from) = recvfrom(&self.socket, buffer, RecvFlags::DONTWAIT)?;
        let from = from.ok_or(rustix::io::Errno::AFNOSUPPORT)?;
        Ok((length, SocketAddr::try_from(from)?))
    }
}

/// Answers questions to name servers, until nobody is there to hear an answer.
pub(super) async fn answer(session: &Arc<Session>, network: &Arc<TargetNetwork>, ends: Ends) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut answers = JoinSet::new();
    while let Some((query, from)) = ends.receive(&mut buffer).await {
        if ends.closing.is_cancelled() {
            return;
        }
        while answers.try_join_next().is_some() {}
        if answers.len() >= QUESTIONS_MAX {
            continue;
        }
        let (session, network) = (Arc::clone(session), Arc::clone(network));
        let (socket, server, query) = (Arc::clone(&ends.socket), ends.place, query.to_vec());
        answers.spawn(async move {
            let told = resolver::resolve(&session, &network, &query, server, Transport::Udp).await;
            if let Some(told) = told {
                // A program that has gone needs no answer.
                let _gone = socket.send_to(&told, from).await;
            }
        });
    }
}

/// Carries datagrams between the program's socket and one place, until either end is over.
pub(super) async fn exchange(ends: &Ends, stream: WireStream) -> End {
    let outwards = async {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while let Some((bytes, _)) = ends.receive(&mut buffer).await {
            if stream.send_datagram(ends.place, bytes).is_err() {
                return End::AtTheTarget;
            }
        }
        End::Here
    };
    let inwards = async {
        let Ok(own) = ends.socket.local_addr() else {
            return End::Here;
        };
        while let Ok(Some((_, bytes))) = stream.receive_datagram().await {
            // A full queue loses datagrams, as anywhere.
            let to = ends.sender.reached_from(own);
            let _lost = ends.socket.send_to(&bytes, to).await;
        }
        End::AtTheTarget
    };
    let end = tokio::select! {
        end = outwards => end,
        end = inwards => end,
    };
    if end == End::Here {
        finish(stream).await;
    }
    end
}

/// Gives what the program sends to one place to the socket that all of them share.
pub(super) async fn pass_on(ends: &Ends, outgoing_tx: &mpsc::Sender<(SocketAddr, Bytes)>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while let Some((bytes, _)) = ends.receive(&mut buffer).await {
        let bytes = Bytes::copy_from_slice(bytes);
        if outgoing_tx.send((ends.place, bytes)).await.is_err() {
            return;
        }
    }
}

/// Carries datagrams between a socket at the target and all places that the program sends to.
pub(super) async fn share(
    session: &Arc<Session>,
    network: &Arc<TargetNetwork>,
    sender: Sender,
    version_6: bool,
    mut outgoing_rx: mpsc::Receiver<(SocketAddr, Bytes)>,
) {
    let stream = match network.open_udp(None, version_6).await {
        Ok((stream, _)) => stream,
        Err(error) => {
            tracing::debug!(%error, "the target has no socket for datagrams");
            return;
        }
    };
    let outwards = async {
        while let Some((place, bytes)) = outgoing_rx.recv().await {
            if stream.send_datagram(place, &bytes).is_err() {
                return End::AtTheTarget;
            }
        }
        End::Here
    };
    let inwards = async {
        while let Ok(Some((from, bytes))) = stream.receive_datagram().await {
            if let Some(relay) = relay_for(session, network, sender, from)
                && let Ok(own) = relay.local_addr()
            {
                let _lost = relay.send_to(&bytes, sender.reached_from(own)).await;
            }
        }
        End::AtTheTarget
    };
    let end = tokio::select! {
        end = outwards => end,
        end = inwards => end,
    };
    if end == End::Here {
        finish(stream).await;
    }
}

/// Waits until the target's socket has sent everything, which it says by its end; nobody hears what still comes.
async fn finish(mut stream: WireStream) {
    let finished = async {
        if stream.shutdown().await.is_ok() {
            while let Ok(Some(_)) = stream.receive_datagram().await {}
        }
    };
    if tokio::time::timeout(TARGET_FINISH_MAX, finished)
        .await
        .is_err()
    {
        tracing::debug!("a socket for datagrams at the target is cut");
    }
}

/// The relay that stands for `from`, who may be somebody whom the program has not sent to.
fn relay_for(
    session: &Arc<Session>,
    network: &Arc<TargetNetwork>,
    sender: Sender,
    from: SocketAddr,
) -> Option<Arc<UdpSocket>> {
    let find = || {
        let mut inner = session.datagrams.lock();
        let relay = inner.find(sender.cookie, from)?;
        Some(Arc::clone(&relay.socket))
    };
    if let Some(relay) = find() {
        return Some(relay);
    }
    // Not for a socket that is gone meanwhile.
    if !session.datagrams.has(sender.cookie) {
        return None;
    }
    open(session, network, sender, from, Behind::Shared).ok()?;
    find()
}

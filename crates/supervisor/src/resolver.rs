//! The session's name server: questions of its programs, answered as the target would, or passed on as they are.
//!
//! ```text
//!   a question, by UDP or TCP ─▶ whose name is it? ─┬─ the target's: asked through the agent, told in the same form
//!                                                   └─ this machine's: passed on to the server that was asked
//! ```
//!
//! Owns whose answer it is, and learning from answers: the names of addresses, for filters, and addresses of sources,
//! for the fence. Programs that read `/etc/hosts` find there what this machine has, as ever.

mod message;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use wire::{DnsAnswer, DnsFailure};

use crate::network::Side;
use crate::remote::{Stream, TargetNetwork};
use crate::session::Session;
use message::{A, AAAA, Question, answer, refusal};

/// The port of name servers (RFC 1035, section 4.2).
pub(crate) const PORT: u16 = 53;

/// How long a server of this machine may take: what a C library gives it before it asks the next.
const FORWARD_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a client over TCP may be silent before it is let go (RFC 7766, section 6.2.3).
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Bytes of the longest message (RFC 1035, section 4.2.2).
const MESSAGE_BYTES_MAX: usize = 65_535;

/// What a question came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A datagram.
    Udp,
    /// A stream, where nothing is too long.
    Tcp,
}

/// Answers `query`, which was meant for `server`; none where it gets no answer.
pub(crate) async fn resolve(
    session: &Session,
    network: &TargetNetwork,
    query: &[u8],
    server: SocketAddr,
    transport: Transport,
) -> Option<Vec<u8>> {
    let Some(question) = Question::parse(query) else {
        // What is no plain question is between the program and its server.
        return forward(query, server, transport).await.ok();
    };
    let name = question.name();
    match network.plan().dns.side(name) {
        Side::Target => {
            let found = if question.kind == AAAA && !network.plan().ipv6 {
                Ok(Vec::new())
            } else {
                network.look_up(name, question.kind).await
            };
            learn_records(session, network, name, &found);
            let limit = match transport {
                Transport::Udp => question.udp_bytes_max,
                Transport::Tcp => MESSAGE_BYTES_MAX,
            };
            Some(answer(&question, &found, limit))
        }
        Side::Here => match forward(query, server, transport).await {
            Ok(told) => {
                learn_message(session, network, name, &told);
                Some(told)
            }
            Err(error) => {
                tracing::debug!(%error, %server, name, "a name server does not answer");
                Some(refusal(&question, DnsFailure::ServerFailed))
            }
        },
    }
}

fn learn_records(session: &Session, network: &TargetNetwork, name: &str, found: &DnsAnswer) {
    for record in found.iter().flatten() {
        let ip = match (record.kind, record.data.len()) {
            (A, 4) => <[u8; 4]>::try_from(&record.data[..])
                .ok()
                .map(|octets| IpAddr::from(Ipv4Addr::from(octets))),
            (AAAA, 16) => <[u8; 16]>::try_from(&record.data[..])
                .ok()
                .map(|octets| IpAddr::from(Ipv6Addr::from(octets))),
            _ => None,
        };
        if let Some(ip) = ip {
            learn(session, network, name, ip);
        }
    }
}

fn learn_message(session: &Session, network: &TargetNetwork, name: &str, told: &[u8]) {
    let Ok(message) = Message::from_vec(told) else {
        return;
    };
    for ip in message
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr())
    {
        learn(session, network, name, ip);
    }
}

fn learn(session: &Session, network: &TargetNetwork, name: &str, ip: IpAddr) {
    network.names().learn(name, ip);
    session.fence.book.learn_answer(name, ip);
}

/// Passes a question on from this machine, as it is.
async fn forward(query: &[u8], server: SocketAddr, transport: Transport) -> io::Result<Vec<u8>> {
    let asking = async {
        match transport {
            Transport::Udp => {
                let any: IpAddr = if server.is_ipv4() {
                    Ipv4Addr::UNSPECIFIED.into()
                } else {
                    Ipv6Addr::UNSPECIFIED.into()
                };
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(server).await?;
                socket.send(query).await?;
                let mut told = vec![0; MESSAGE_BYTES_MAX];
                loop {
                    let length = socket.recv(&mut told).await?;
                    // An answer to another question is none (RFC 5452, section 9.1).
                    if told.get(..2) == query.get(..2) {
                        told.truncate(length);
                        return Ok(told);
                    }
                }
            }
            Transport::Tcp => {
                let mut stream = TcpStream::connect(server).await?;
                write_message(&mut stream, query).await?;
                let told = read_message(&mut stream).await?;
                told.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
        }
    };
    tokio::time::timeout(FORWARD_TIME_MAX, asking)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Answers the questions of a client over TCP, one after the other, until it goes.
///
/// # Errors
/// When the client is gone, or silent for too long.
pub(crate) async fn serve(
    session: &Session,
    network: &TargetNetwork,
    mut client: Box<dyn Stream>,
    server: SocketAddr,
) -> io::Result<()> {
    loop {
        let reading = tokio::time::timeout(IDLE_TIME_MAX, read_message(&mut client));
        let Some(query) = reading.await.map_err(io::Error::other)?? else {
            return client.shutdown().await;
        };
        let told = resolve(session, network, &query, server, Transport::Tcp).await;
        let Some(told) = told else {
            return client.shutdown().await;
        };
        write_message(&mut client, &told).await?;
    }
}

/// A message with its length before it; none at the end.
async fn read_message(stream: &mut (impl Stream + ?Sized)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write_message(stream: &mut (impl Stream + ?Sized), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await?;
    stream.flush().await
}

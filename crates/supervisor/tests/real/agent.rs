//! An agent of this test's own, over the wire: a made-up network whose every answer the test knows.
//!
//! ```text
//!   192.0.2.10   says `target PORT` and echoes           db.target, and every A of *.target
//!   192.0.2.20   a PostgreSQL server, as `fence` has them   pg.target; moves.target, which was 192.0.2.10 at first
//!   192.0.2.30 and 31, one at a time                 turns.target
//!   192.0.2.80   has its sockets for datagrams when the test lets them be
//!   192.0.2.66   refuses          192.0.2.99   no way there
//!   192.0.2.77   answers after a while  192.0.2.79   does not answer
//!   192.0.2.78   refuses after a while  192.0.2.97   after a while, no way there
//!   192.0.2.55   says `half`, and is cut 192.0.2.56   the same, after a while
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener};
use wire::pump::{Inbound, Inbox, Offer, Question, Session, Stream, greet};
use wire::{
    AgentKey, Answer, DnsFailure, DnsRecord, Endpoint, Errno, OpenRequest, Opened, Request, Role,
    Start, Subscribed, Subscription,
};

/// How late the slow address answers: later than a non-blocking connect is held.
pub(crate) const LATE: Duration = Duration::from_millis(150);

/// The address that a connection has in the made-up network.
pub(crate) const OWN: &str = "192.0.2.1";

/// A running agent. Ends with the test's process.
pub(crate) struct Agent {
    folder: TempDir,
    shared: Arc<Shared>,
    subscribed_rx: mpsc::Receiver<Told>,
    runtime: tokio::runtime::Handle,
}

/// What the session asked for about a port, or takes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Subscribed(Subscription),
    Unsubscribed(u32),
    /// A socket for datagrams that waits to be there.
    Waits,
    /// A connect that was not answered.
    Withdrawn,
}

#[derive(Default)]
struct Shared {
    session: Mutex<Option<Session>>,
    /// Where the made-up PostgreSQL server really is.
    postgres: Option<SocketAddr>,
    /// How often addresses of names were asked for.
    lookups: AtomicUsize,
    /// Datagrams that came.
    datagrams: AtomicUsize,
    /// Whether sockets for datagrams of many places are there after a while only.
    opens_late: AtomicBool,
    /// Where a socket for datagrams of one place waits until it is let be.
    holds_back: tokio::sync::Notify,
}

impl Agent {
    /// An agent in whose network `postgres` is 192.0.2.20.
    pub(crate) fn start(postgres: Option<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            postgres,
            ..Shared::default()
        });
        let (told_tx, subscribed_rx) = mpsc::channel();
        let (handle_tx, handle_rx) = mpsc::channel();
        let (path, state) = (folder.path().join("agent.sock"), Arc::clone(&shared));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(path).unwrap();
                handle_tx.send(tokio::runtime::Handle::current()).unwrap();
                while let Ok((transport, _)) = listener.accept().await {
                    tokio::spawn(serve(Arc::clone(&state), transport, told_tx.clone()));
                }
            });
        });
        let runtime = handle_rx.recv().unwrap();
        Self {
            folder,
            shared,
            subscribed_rx,
            runtime,
        }
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// The next thing that the session asks about ports or takes back.
    pub(crate) fn told(&self) -> Told {
        self.subscribed_rx
            .recv_timeout(Duration::from_secs(30))
            .unwrap()
    }

    /// From now on sockets for datagrams of many places are there after a while only.
    pub(crate) fn open_late(&self) {
        self.shared.opens_late.store(true, Ordering::Relaxed);
    }

    /// Sockets for datagrams that wait at 192.0.2.80 are there.
    pub(crate) fn let_be(&self) {
        self.shared.holds_back.notify_one();
    }

    /// How many datagrams have come.
    pub(crate) fn datagrams(&self) -> usize {
        self.shared.datagrams.load(Ordering::Relaxed)
    }

    /// A client at the target's port sends `bytes` and ends; what the program answers.
    pub(crate) fn connect(&self, subscription: u32, copy: bool, bytes: &'static [u8]) -> String {
        let session = self.shared.session.lock().unwrap().clone().unwrap();
        let (answer_tx, answer_rx) = mpsc::channel();
        self.runtime.spawn(async move {
            let request = OpenRequest::Incoming {
                subscription,
                peer: "198.51.100.7:4711".parse().unwrap(),
                local: format!("{OWN}:80").parse().unwrap(),
                copy,
            };
            let (mut stream, _) = session.open(request).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            if !copy {
                stream.read_to_string(&mut answer).await.unwrap();
            }
            answer_tx.send(answer).unwrap();
            // The copy is read to its end before the stream is dropped.
            stream.cut().await;
        });
        answer_rx.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

async fn serve(
    shared: Arc<Shared>,
    transport: tokio::net::UnixStream,
    told_tx: mpsc::Sender<Told>,
) {
    let key = AgentKey::new([7; 32]);
    let Ok(guest) = greet(transport, |id| Some(key.session_key(id))).await else {
        return;
    };
    let session = match guest.start() {
        Start::Fresh => {
            let (session, inbox) = Session::new(Role::Agent, Duration::from_secs(30));
            *shared.session.lock().unwrap() = Some(session.clone());
            tokio::spawn(answer(Arc::clone(&shared), inbox, told_tx));
            session
        }
        Start::Resumed { .. } => shared.session.lock().unwrap().clone().unwrap(),
    };
    guest.carry(&session).await;
}

async fn answer(shared: Arc<Shared>, mut inbox: Inbox, told_tx: mpsc::Sender<Told>) {
    while let Some(inbound) = inbox.next().await {
        match inbound {
            Inbound::Stream(offer) => {
                tokio::spawn(open(Arc::clone(&shared), offer, told_tx.clone()));
            }
            Inbound::Call(question) => reply(&shared, question, &told_tx),
            Inbound::Notice(_) => {}
        }
    }
}

fn reply(shared: &Shared, question: Question, told_tx: &mpsc::Sender<Told>) {
    let answer = match question.request() {
        Request::Dns(query) => Answer::Dns(look_up(shared, &query.name, query.kind)),
        Request::Subscribe(subscription) => {
            told_tx.send(Told::Subscribed(subscription.clone())).ok();
            Answer::Subscribe(Ok(Subscribed {
                left_established: 0,
                ended_established: 0,
            }))
        }
        Request::Unsubscribe { subscription } => {
            told_tx.send(Told::Unsubscribed(*subscription)).ok();
            Answer::Unsubscribe
        }
    };
    question.answer(answer).ok().unwrap();
}

/// Lookups after which `moves.target` has moved: those of a session's start.
const LOOKUPS_BEFORE: usize = 3;

fn look_up(shared: &Shared, name: &str, kind: u16) -> Result<Vec<DnsRecord>, DnsFailure> {
    let lower = name.to_ascii_lowercase();
    if !lower.ends_with(".target") {
        return Err(DnsFailure::NoSuchName);
    }
    let count: u8 = match lower.as_str() {
        // More than a datagram of 512 bytes holds.
        "many.target" => 100,
        _ => 1,
    };
    let before = match kind {
        1 => shared.lookups.fetch_add(1, Ordering::Relaxed),
        _ => 0,
    };
    let first = match lower.as_str() {
        "pg.target" => 20,
        "moves.target" if before >= LOOKUPS_BEFORE => 20,
        "turns.target" => 30 + u8::from(before.is_multiple_of(2)),
        _ => 10,
    };
    let records = (0..count).map(|number| DnsRecord {
        name: format!("{name}."),
        kind: 1,
        ttl_seconds: 5,
        data: vec![192, 0, 2, first + number].into(),
    });
    Ok(if kind == 1 {
        records.collect()
    } else {
        Vec::new()
    })
}

async fn open(shared: Arc<Shared>, offer: Offer, told_tx: mpsc::Sender<Told>) {
    match offer.request().clone() {
        OpenRequest::Tcp {
            destination: Endpoint::Address(address),
        } if last(address.ip()) == 79 => {
            offer.withdrawn().await;
            told_tx.send(Told::Withdrawn).ok();
        }
        OpenRequest::Tcp {
            destination: Endpoint::Address(address),
        } => connect(&shared, offer, address).await,
        OpenRequest::Udp { connected, .. } => {
            if connected.is_some_and(|address| last(address.ip()) == 66) {
                let stream = offer.accept(opened(connected));
                // The first datagram finds nobody.
                stream.receive_datagram().await.ok();
                stream.reset(Errno::ECONNREFUSED);
                return;
            }
            if connected.is_some_and(|address| last(address.ip()) == 80) {
                told_tx.send(Told::Waits).ok();
                shared.holds_back.notified().await;
            }
            if connected.is_none() && shared.opens_late.load(Ordering::Relaxed) {
                tokio::time::sleep(LATE).await;
            }
            let stream = offer.accept(opened(connected));
            echo_datagrams(&shared, &stream).await;
        }
        OpenRequest::Tcp { .. }
        | OpenRequest::Unix { .. }
        | OpenRequest::Environ
        | OpenRequest::Incoming { .. } => offer.refuse(Errno::EOPNOTSUPP),
    }
}

fn last(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    }
}

fn opened(peer: Option<SocketAddr>) -> Opened {
    Opened {
        local: Some(format!("{OWN}:5555").parse().unwrap()),
        peer,
    }
}

async fn connect(shared: &Shared, offer: Offer, address: SocketAddr) {
    match last(address.ip()) {
        66 => return offer.refuse(Errno::ECONNREFUSED),
        99 => return offer.refuse(Errno::EHOSTUNREACH),
        77 => tokio::time::sleep(LATE).await,
        host @ (55 | 56) => {
            if host == 56 {
                tokio::time::sleep(LATE).await;
            }
            let mut stream = offer.accept(opened(Some(address)));
            stream.write_all(b"half").await.unwrap();
            // The program has it, and says so.
            stream.read_u8().await.unwrap();
            return stream.reset(Errno::ECONNRESET);
        }
        78 => {
            tokio::time::sleep(LATE).await;
            return offer.refuse(Errno::ECONNREFUSED);
        }
        97 => {
            tokio::time::sleep(LATE).await;
            return offer.refuse(Errno::EHOSTUNREACH);
        }
        20 => {
            let mut server = TcpStream::connect(shared.postgres.unwrap()).await.unwrap();
            let mut stream = offer.accept(opened(Some(address)));
            copy_bidirectional(&mut stream, &mut server).await.ok();
            return;
        }
        _ => {}
    }
    let mut stream = offer.accept(opened(Some(address)));
    echo(&mut stream, address.port()).await.ok();
}

async fn echo(stream: &mut Stream, port: u16) -> io::Result<()> {
    stream
        .write_all(format!("target {port}\n").as_bytes())
        .await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// Sends each datagram back; one that says `other` from another address as well.
async fn echo_datagrams(shared: &Shared, stream: &Stream) {
    while let Ok(Some((to, bytes))) = stream.receive_datagram().await {
        shared.datagrams.fetch_add(1, Ordering::Relaxed);
        let told = [&b"target "[..], &bytes].concat();
        stream.send_datagram(to, &told).ok();
        if &bytes[..] == b"other" {
            let other = "192.0.2.11:9".parse().unwrap();
            stream.send_datagram(other, b"from another").ok();
        }
    }
}

//! What a session reaches through the agent: connections, datagrams, sockets, names, the environment.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::pump::{OpenFailure, Session, Stream};
use wire::{Answer, CloseReason, DnsAnswer, DnsFailure, DnsQuery, Errno, OpenRequest, Request};

use crate::agent::{Files, TestAgent, soon, tcp, tcp_to};
use crate::namespace::Namespace;

/// Echoes on TCP and UDP ports 9000 of both loopback addresses, and on a Unix socket if there is an argument.
pub(crate) const ECHO: &str = r#"
import socket, sys, threading
def serve(listener):
    def handle(connection):
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.close()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()
def serve_datagrams(udp):
    while True:
        data, sender = udp.recvfrom(65536)
        udp.sendto(data, sender)
def start(function, *args):
    threading.Thread(target=function, args=args, daemon=True).start()
for family, address in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    start(serve, socket.create_server((address, 9000), family=family, backlog=4096))
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, 9000))
    start(serve_datagrams, udp)
for path in sys.argv[1:]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path.replace('@', '\0'))
    listener.listen()
    start(serve, listener)
print('ready')
sys.stdin.read()
"#;

/// A name server on 127.0.0.1:53. Arguments are `NAME/TYPE=VALUE`; any other type of a known name has no data.
const NAME_SERVER: &str = r#"
import ipaddress, socket, struct, sys
def encode(name):
    return b''.join(bytes([len(l)]) + l.encode() for l in name.split('.') if l) + b'\0'
records, names = {}, set()
for argument in sys.argv[1:]:
    key, value = argument.split('=')
    name, kind = key.split('/')
    names.add(name)
    if kind in ('A', 'AAAA'):
        data = ipaddress.ip_address(value).packed
    elif kind == 'CNAME':
        data = encode(value)
    elif kind == 'SRV':
        data = struct.pack('!HHH', 1, 2, 8080) + encode(value)
    else:
        data = bytes([len(value)]) + value.encode()
    records[name, {'A': 1, 'CNAME': 5, 'TXT': 16, 'AAAA': 28, 'SRV': 33}[kind]] = data
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('127.0.0.1', 53))
print('ready')
while True:
    query, sender = udp.recvfrom(4096)
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += query[at] + 1
    name = '.'.join(labels)
    kind = struct.unpack('!H', query[at + 1:at + 3])[0]
    question, answers = query[12:at + 5], []
    for _ in range(9):
        if (name, kind) in records:
            answers.append((name, kind, records[name, kind]))
            break
        if (name, 5) not in records:
            break
        target = records[name, 5]
        answers.append((name, 5, target))
        at, labels = 0, []
        while target[at]:
            labels.append(target[at + 1:at + 1 + target[at]].decode())
            at += target[at] + 1
        name = '.'.join(labels)
    code = 2 if 'broken' in name else 0 if name in names else 3
    reply = query[:2] + struct.pack('!HHHHH', 0x8180 | code, 1, len(answers), 0, 0) + question
    for owner, kind, data in answers:
        reply += encode(owner) + struct.pack('!HHIH', kind, 1, 30, len(data)) + data
    udp.sendto(reply, sender)
"#;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

async fn echo(mut stream: Stream, bytes: &[u8]) {
    soon(async {
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, bytes);
    })
    .await;
}

async fn refusal(session: &Session, request: OpenRequest) -> Errno {
    match soon(session.open(request)).await {
        Err(OpenFailure::Refused { errno }) => errno,
        other => panic!("{other:?}"),
    }
}

async fn resolve(session: &Session, name: &str, kind: u16) -> DnsAnswer {
    let name = name.into();
    match soon(session.call(Request::Dns(DnsQuery { name, kind }))).await {
        Ok(Answer::Dns(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// An answer as `NAME TYPE DATA` lines.
async fn lookup(session: &Session, name: &str, kind: u16) -> Vec<String> {
    let records = resolve(session, name, kind).await.unwrap();
    let shown = records.iter().map(|record| {
        let data: Vec<String> = record.data.iter().map(u8::to_string).collect();
        format!("{} {} {}", record.name, record.kind, data.join("."))
    });
    shown.collect()
}

#[tokio::test]
async fn connections_lead_from_the_targets_network() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let agent = TestAgent::start(&namespace, &Files::default());
    let path = agent.dir().join("echo");
    let _echo = namespace.python(ECHO, &[path.to_str().unwrap(), "@bough-test"]);
    let (session, _inbox) = agent.session().await;

    for address in ["127.0.0.1:9000", "[::1]:9000"] {
        let (stream, opened) = soon(session.open(tcp(address))).await.unwrap();
        assert_eq!(opened.peer.unwrap().to_string(), address);
        assert!(opened.local.unwrap().ip().is_loopback());
        echo(stream, &vec![7; 1_000_000]).await;
        // Nobody has this port, in the target's network or in ours.
        let nobody = address.replace("9000", "1");
        assert_eq!(refusal(&session, tcp(&nobody)).await, Errno::ECONNREFUSED);
    }
    // ENETUNREACH: the namespace has no way to anywhere.
    assert_eq!(refusal(&session, tcp("192.0.2.1:80")).await, Errno(101));
    for path in [&b"/echo"[..], b"\0bough-test"] {
        let path = path.to_vec().into();
        let request = OpenRequest::Unix { path };
        let (stream, _) = soon(session.open(request)).await.unwrap();
        echo(stream, b"through a file").await;
    }
    let path = b"/nothing".to_vec().into();
    let errno = refusal(&session, OpenRequest::Unix { path }).await;
    assert_eq!(errno, Errno::ENOENT);
}

#[tokio::test]
async fn datagrams_lead_from_the_targets_network() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let agent = TestAgent::start(&namespace, &Files::default());
    let _echo = namespace.python(ECHO, &[]);
    let (session, _inbox) = agent.session().await;
    for (address, version_6) in [("127.0.0.1:9000", false), ("[::1]:9000", true)] {
        let address: SocketAddr = address.parse().unwrap();
        for connected in [None, Some(address)] {
            let request = OpenRequest::Udp {
                connected,
                version_6,
            };
            let (stream, opened) = soon(session.open(request)).await.unwrap();
            assert!(opened.local.unwrap().port() > 0);
            for bytes in [vec![1; 60_000], Vec::new(), b"small".to_vec()] {
                assert!(stream.send_datagram(address, &bytes).unwrap());
                let back = soon(stream.receive_datagram()).await.unwrap().unwrap();
                assert_eq!((back.0, &back.1[..]), (address, &bytes[..]));
            }
        }
    }
    // A connected socket learns that nobody is there, as a local one does.
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let request = OpenRequest::Udp {
        connected: Some(nobody),
        version_6: false,
    };
    let (stream, _) = soon(session.open(request)).await.unwrap();
    stream.send_datagram(nobody, b"hello?").unwrap();
    assert_eq!(
        soon(stream.receive_datagram()).await,
        Err(Errno::ECONNREFUSED)
    );
}

/// A namespace with a name server and an echo, and an agent with files of its own.
fn with_names() -> Option<(Namespace, [crate::namespace::Program; 2], TestAgent)> {
    let namespace = Namespace::new()?;
    let records = [
        "db.shop.svc.cluster.local/A=10.9.8.7",
        "db.shop.svc.cluster.local/TXT=hello",
        "www.example.test/CNAME=edge.example.test",
        "edge.example.test/A=127.0.0.1",
        "edge.example.test/AAAA=::1",
        "_http._tcp.example.test/SRV=edge.example.test",
    ];
    let server = namespace.python(NAME_SERVER, &records);
    let echo = namespace.python(ECHO, &[]);
    let files = Files {
        resolv_conf: "nameserver 127.0.0.1\n\
                      search shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n",
        hosts: "127.0.0.1 localhost\n127.0.0.1 ledger ledger.internal\n::1 ledger\n",
        ..Files::default()
    };
    let agent = TestAgent::start(&namespace, &files);
    Some((namespace, [server, echo], agent))
}

#[tokio::test]
async fn names_are_searched_as_the_target_searches_them() {
    let Some((_namespace, _programs, agent)) = with_names() else {
        return;
    };
    let (session, _inbox) = agent.session().await;
    assert_eq!(
        lookup(&session, "db", A).await[1..],
        ["db.shop.svc.cluster.local. 1 10.9.8.7"]
    );
    // The answer leads from the asked name.
    let first = &resolve(&session, "db", A).await.unwrap()[0];
    assert_eq!((first.name.as_str(), first.kind), ("db.", CNAME));
    assert_eq!(
        &first.data[..],
        b"\x02db\x04shop\x03svc\x07cluster\x05local\0"
    );
    assert_eq!(
        resolve(&session, "db.", A).await,
        Err(DnsFailure::NoSuchName),
        "an absolute name is not searched"
    );
    assert_eq!(
        lookup(&session, "DB.shop", A).await.len(),
        2,
        "case does not matter, and dots below ndots are searched"
    );
    assert_eq!(
        lookup(&session, "db.shop.svc.cluster.local.", AAAA).await,
        [""; 0],
        "a name without such a record is no error"
    );
    assert_eq!(
        resolve(&session, "nobody.test.", A).await,
        Err(DnsFailure::NoSuchName)
    );
    assert_eq!(
        resolve(&session, "broken.test.", A).await,
        Err(DnsFailure::ServerFailed)
    );
    let too_long = "x".repeat(64);
    assert_eq!(
        resolve(&session, &too_long, A).await,
        Err(DnsFailure::BadName)
    );
}

#[tokio::test]
async fn records_of_any_type_arrive_as_the_server_sent_them() {
    let Some((_namespace, _programs, agent)) = with_names() else {
        return;
    };
    let (session, _inbox) = agent.session().await;
    let edge = "4.101.100.103.101.7.101.120.97.109.112.108.101.4.116.101.115.116.0";
    assert_eq!(
        lookup(&session, "www.example.test.", AAAA).await,
        [
            format!("www.example.test. 5 {edge}"),
            "edge.example.test. 28 0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1".into(),
        ]
    );
    assert_eq!(
        lookup(&session, "_http._tcp.example.test.", 33).await,
        [format!("_http._tcp.example.test. 33 0.1.0.2.31.144.{edge}")]
    );
    assert_eq!(
        lookup(&session, "db.shop.svc.cluster.local.", 16).await,
        ["db.shop.svc.cluster.local. 16 5.104.101.108.108.111"]
    );
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_is_read_again_when_it_changes() {
    let Some((_namespace, _programs, agent)) = with_names() else {
        return;
    };
    let (session, _inbox) = agent.session().await;
    assert_eq!(lookup(&session, "ledger", A).await, ["ledger. 1 127.0.0.1"]);
    assert_eq!(
        lookup(&session, "ledger.internal", A).await,
        ["ledger.internal. 1 127.0.0.1"]
    );
    std::fs::write(agent.dir().join("hosts"), "10.0.0.9 ledger newcomer\n").unwrap();
    assert_eq!(
        lookup(&session, "newcomer", A).await,
        ["newcomer. 1 10.0.0.9"]
    );
    assert_eq!(lookup(&session, "ledger", A).await, ["ledger. 1 10.0.0.9"]);
}

#[tokio::test]
async fn connections_are_made_by_name() {
    let Some((_namespace, _programs, agent)) = with_names() else {
        return;
    };
    let (session, _inbox) = agent.session().await;
    for host in ["ledger", "www.example.test", "127.0.0.1", "::1"] {
        let (stream, _) = soon(session.open(tcp_to(host, 9000))).await.unwrap();
        echo(stream, host.as_bytes()).await;
    }
    assert_eq!(
        refusal(&session, tcp_to("nobody.test", 9000)).await,
        Errno::ENOENT
    );
}

#[tokio::test]
async fn the_environment_is_that_of_the_targets_process() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let mut command = namespace.command("python3");
    let script = "import sys; print('ready', flush=True); sys.stdin.read()";
    command.args(["-c", script]).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.env("LONG", "x".repeat(100_000));
    command.env("SECRET_OF_TARGET", "a=b\nc");
    let mut target = crate::namespace::Program::start(command).unwrap();
    assert_eq!(target.line().unwrap(), "ready");
    let files = Files {
        process: Some(target.id()),
        ..Files::default()
    };
    let agent = TestAgent::start(&namespace, &files);
    let (session, _inbox) = agent.session().await;
    let (mut stream, _) = soon(session.open(OpenRequest::Environ)).await.unwrap();
    let mut environ = Vec::new();
    soon(stream.read_to_end(&mut environ)).await.unwrap();
    let entries: Vec<&[u8]> = environ.split(|byte| *byte == 0).collect();
    assert!(entries.contains(&&b"SECRET_OF_TARGET=a=b\nc"[..]));
    let long = [b"LONG=".as_slice(), &[b'x'; 100_000]].concat();
    assert!(entries.contains(&&long[..]));

    target.kill();
    // ESRCH or ENOENT: the process is gone.
    let errno = refusal(&session, OpenRequest::Environ).await;
    assert!([Errno(3), Errno::ENOENT].contains(&errno), "{errno:?}");
    let without = TestAgent::start(&namespace, &Files::default());
    let (session, _inbox) = without.session().await;
    assert_eq!(refusal(&session, OpenRequest::Environ).await, Errno(3));
}

#[tokio::test]
async fn ten_thousand_connections_leave_nothing_behind() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let agent = TestAgent::start(&namespace, &Files::default());
    let _echo = namespace.python(ECHO, &[]);
    let (session, _inbox) = agent.session().await;
    let process = agent.program.id();
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{process}/fd"))
            .unwrap()
            .count()
    };
    let mut tasks = tokio::task::JoinSet::new();
    let mut before = None;
    for round in 0..10_000 {
        let session = session.clone();
        tasks.spawn(async move {
            let (stream, _) = soon(session.open(tcp("127.0.0.1:9000"))).await.unwrap();
            echo(stream, b"one of many").await;
        });
        if tasks.len() >= 100 {
            tasks.join_next().await.unwrap().unwrap();
        }
        if round == 1000 {
            before = Some(resident_kib(process));
        }
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    soon(async {
        while session.streams() > 0 || session.held() > 0 || descriptors() > 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (before, after) = (before.unwrap(), resident_kib(process));
    assert!(after < before + 8192, "{before} KiB grew to {after} KiB");
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_with_one_stalled_all_but_it_arrive() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let agent = TestAgent::start(&namespace, &Files::default());
    let _echo = namespace.python(ECHO, &[]);
    let (session, _inbox) = agent.session().await;
    let (mut stalled, _) = soon(session.open(tcp("127.0.0.1:9000"))).await.unwrap();
    let stuffed = tokio::time::timeout(std::time::Duration::from_secs(2), async {
        loop {
            stalled.write_all(&[1; 65_536]).await.unwrap();
        }
    });
    stuffed.await.expect_err("an echo that nobody reads stops");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (stream, _) = soon(session.open(tcp("127.0.0.1:9000"))).await.unwrap();
        tasks.spawn(async move { echo(stream, &[9; 100_000]).await });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
}

/// Takes one connection on port 9001, reads it slowly to its end, and says how much it was and how it ended.
const SLOW_READER: &str = r#"
import socket, time
listener = socket.create_server(('127.0.0.1', 9001))
print('ready')
while True:
    connection, _ = listener.accept()
    count, end = 0, 'end'
    try:
        while data := connection.recv(65536):
            count += len(data)
            time.sleep(.002)
    except ConnectionResetError:
        end = 'reset'
    print(count, end)
"#;

#[tokio::test]
async fn what_a_program_sent_and_ended_outlives_its_session_and_what_it_did_not_end_is_cut() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let agent = TestAgent::start(&namespace, &Files::default());
    let mut reader = namespace.python(SLOW_READER, &[]);
    // Several times: what is lost is on its way when the link ends.
    for is_ended in [true, false].repeat(8) {
        let (session, _inbox) = agent.session().await;
        let (mut stream, _) = soon(session.open(tcp("127.0.0.1:9001"))).await.unwrap();
        soon(stream.write_all(&[7; 8_000_000])).await.unwrap();
        if is_ended {
            stream.shutdown().await.unwrap();
            while session.unsent() > 0 {
                soon(tokio::task::yield_now()).await;
            }
        }
        session.leave(CloseReason::Done).await;
        let heard = reader.line().unwrap();
        if is_ended {
            assert_eq!(heard, "8000000 end");
        } else {
            assert!(heard.ends_with(" reset"), "{heard}");
        }
    }
}

/// Answers each connection on port 9002 without reading it, so that a reset follows the answer.
const SHORT_ANSWER: &str = r#"
import socket, time
listener = socket.create_server(('127.0.0.1', 9002))
print('ready')
while True:
    connection, _ = listener.accept()
    while len(connection.recv(10, socket.MSG_PEEK)) < 10:
        time.sleep(.001)
    connection.sendall(b'too large')
    connection.close()
"#;

#[tokio::test]
async fn an_answer_that_a_reset_follows_arrives_before_it() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let agent = TestAgent::start(&namespace, &Files::default());
    let _server = namespace.python(SHORT_ANSWER, &[]);
    let (session, _inbox) = agent.session().await;
    for _ in 0..20 {
        let (mut stream, _) = soon(session.open(tcp("127.0.0.1:9002"))).await.unwrap();
        // The reset may be here before all of it is written.
        let _cut = soon(stream.write_all(&[7; 100_000])).await;
        let mut answer = Vec::new();
        let error = soon(stream.read_to_end(&mut answer)).await.unwrap_err();
        assert_eq!(answer, b"too large");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

//! Requests that are taken by their heads, while others go to the target.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use wire::pump::{Inbound, Inbox};
use wire::{HttpFilter, IncomingMode, OnConcurrentSteal, Opened};

use crate::namespace::Program;
use crate::pod::{Pod, answer, steal, subscribe};

/// A server that speaks HTTP/2 alone, with trailers as gRPC has them.
const TARGET_2: &str = r#"
const http2 = require('node:http2');
const server = http2.createServer();
server.on('stream', (stream, headers) => {
  let length = 0;
  stream.on('data', (data) => { length += data.length; });
  stream.on('end', () => {
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': 'target' }));
    stream.end(`target ${headers[':path']} ${length}`);
  });
});
server.listen(8080, '::', () => console.log('ready'));
"#;

/// One HTTP/2 connection with many streams at once; prints `WHO TRAILER` for each of them, sorted and counted.
const CLIENT_2: &str = r#"
const http2 = require('node:http2');
const session = http2.connect('http://10.77.0.1:8080');
const ask = (headers, body) => new Promise((resolve, reject) => {
  const stream = session.request({ ':method': 'POST', ':path': '/x', ...headers });
  let answer = '', end = '';
  stream.on('data', (data) => { answer += data; });
  stream.on('trailers', (trailers) => { end = trailers['x-end']; });
  stream.on('end', () => resolve(`${answer} ${end}`));
  stream.on('error', reject);
  stream.end(body);
});
(async () => {
  const asked = [];
  for (let i = 0; i < 40; i++) {
    asked.push(ask(i % 4 ? {} : { 'x-user': 'me' }, 'x'.repeat(100000)));
  }
  const counts = {};
  for (const answer of await Promise.all(asked)) counts[answer] = (counts[answer] ?? 0) + 1;
  for (const answer of Object.keys(counts).sort()) console.log(`${counts[answer]} ${answer}`);
  session.close();
})().catch((error) => { console.log(error.message); process.exit(1); });
"#;

/// One HTTP/2 connection, on which a request of the session's comes before one of the target's; prints each answer's first
/// word as it comes.
const CLIENT_2_OF_BOTH: &str = r#"
const http2 = require('node:http2');
const session = http2.connect('http://10.77.0.1:8080');
const ask = (headers) => new Promise((resolve, reject) => {
  const stream = session.request({ ':method': 'POST', ':path': '/x', ...headers });
  let answer = '';
  stream.on('data', (data) => { answer += data; });
  stream.on('end', () => { console.log(answer.split(' ')[0]); resolve(); });
  stream.on('error', reject);
  stream.end();
});
Promise.all([ask({ 'x-user': 'me' }), ask({})]).then(() => session.close());
"#;

/// Asks for an upgrade and sends a line over what comes of it. Arguments are further headers.
const UPGRADE: &str = r#"
import socket, sys
connection = socket.create_connection(('10.77.0.1', 8080), timeout=20)
more = ''.join(f'{header}\r\n' for header in sys.argv[1:])
connection.sendall(f'GET /socket HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n{more}\r\n'.encode())
answer = b''
while b'\r\n\r\n' not in answer:
    answer += connection.recv(4096)
assert answer.startswith(b'HTTP/1.1 101'), answer
connection.sendall(b'hello')
print('ready')
print(connection.recv(4096).decode())
"#;

/// Says nothing until it is spoken to, as clients of many databases do, and then prints what the server said first.
const QUIET: &str = r#"
import socket
connection = socket.create_connection(('10.77.0.1', 8080), timeout=20)
print('ready')
print(connection.recv(100).decode())
connection.sendall(b'SSH-2.0-me\r\n')
print(connection.recv(100).decode())
"#;

/// A server that speaks first and repeats what it is told.
const SPEAKS_FIRST: &str = r#"
import socket
listener = socket.create_server(('::', 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print('ready')
while True:
    connection, _ = listener.accept()
    connection.sendall(b'welcome')
    connection.sendall(connection.recv(100))
"#;

fn mine() -> HttpFilter {
    HttpFilter::Header("^x-user: me$".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_where_their_heads_say_on_one_connection() {
    let Some(pod) = Pod::new() else { return };
    let (session, inbox) = pod.agent.session().await;
    let got = answer(inbox);
    let filter = HttpFilter::AllOf(vec![
        mine(),
        HttpFilter::AnyOf(vec![
            HttpFilter::Path("^/api/".into()),
            HttpFilter::Method("put".into()),
        ]),
    ]);
    subscribe(&session, 1, steal(Some(filter)), false)
        .await
        .unwrap();
    let me = ["--header", "X-User: me"];
    for (path, more, expected) in [
        ("/api/1", &[][..], "target GET /api/1 0\n"),
        ("/api/1", &me, "session 0\n"),
        ("/other", &me, "target GET /other 0\n"),
        (
            "/api/1",
            &["--header", "X-User: you"],
            "target GET /api/1 0\n",
        ),
        (
            "/api/1",
            &["--header", "X-User: me", "--data", "12345"],
            "session 5\n",
        ),
        (
            "/o",
            &["--header", "X-User: me", "--request", "PUT"],
            "session 0\n",
        ),
    ] {
        assert_eq!(pod.ask(path, more), expected, "{path} {more:?}");
    }
    // Alternating on one connection.
    let next = |path: &str| {
        [
            "--next".to_owned(),
            "--silent".into(),
            format!("http://10.77.0.1:8080{path}"),
        ]
    };
    let mut arguments = vec!["--silent".to_owned(), "http://10.77.0.1:8080/api/0".into()];
    for round in 0..5 {
        arguments.extend(next(&format!("/api/{round}")));
        arguments.extend(["--header".into(), "X-User: me".into()]);
        arguments.extend(next(&format!("/plain/{round}")));
    }
    let mut command = pod.outside.command("curl");
    command.args(["--max-time", "60", "--write-out", "%{num_connects}"]);
    let output = command.args(&arguments).output().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let sessions = answers.matches("session 0").count();
    let targets = answers.matches("target GET").count();
    assert_eq!((sessions, targets), (5, 6), "{answers}");
    // Headers arrive as they were written, in both directions.
    let head = pod.ask("/", &["--include"]);
    assert!(head.contains("X-Mixed-Case: Kept\r\n"), "{head}");
    let got = got.lock().unwrap();
    let seen: String = got
        .connections
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes))
        .collect();
    assert!(
        seen.contains("X-User: me\r\n") && seen.contains("Host: 10.77.0.1:8080\r\n"),
        "{seen}"
    );
    assert!(!seen.contains("/other") && !seen.contains("you"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways_through_a_filter() {
    let Some(pod) = Pod::new() else { return };
    let (session, inbox) = pod.agent.session().await;
    answer(inbox);
    subscribe(&session, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    let path = pod.agent.dir().join("body");
    std::fs::write(&path, vec![b'x'; 5_000_000]).unwrap();
    let data = format!("@{}", path.display());
    assert_eq!(
        pod.ask("/", &["--data-binary", &data]),
        "target POST / 5000000\n",
        "with its Expect: 100-continue"
    );
    let more = ["--data-binary", &data, "--header", "x-user: me"];
    assert_eq!(pod.ask("/", &more), "session 5000000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_carried_on() {
    let Some(pod) = Pod::new() else { return };
    let (session, inbox) = pod.agent.session().await;
    answer(inbox);
    subscribe(&session, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    let mut theirs = pod.outside.python(UPGRADE, &[]);
    assert_eq!(theirs.line().unwrap(), "target hello");
    let mut ours = pod.outside.python(UPGRADE, &["X-User: me"]);
    assert_eq!(ours.line().unwrap(), "session hello");
}

/// Keeps one connection and asks over it twice; between the two it waits for a line.
const KEEPS_ALIVE: &str = r#"
import http.client
connection = http.client.HTTPConnection('10.77.0.1', 8080, timeout=20)
print("ready")
for _ in range(3):
    connection.request('GET', '/', headers={'X-User': 'me', 'X-Large': 'x' * 50000})
    print(connection.getresponse().read().decode().strip())
    input()
"#;

/// As the pool of a proxy in front of the target does, which lives longer than any session.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_kept_knows_who_takes_its_requests_now() {
    let Some(pod) = Pod::new() else { return };
    let (first, inbox) = pod.agent.session().await;
    answer(inbox);
    subscribe(&first, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    let mut client = pod.outside.python(KEEPS_ALIVE, &[]);
    assert_eq!(client.line().unwrap(), "session 0");
    first.leave(wire::CloseReason::Done).await;
    client.say("");
    assert_eq!(client.line().unwrap(), "target GET / 0");
    let (second, inbox) = pod.agent.session().await;
    answer(inbox);
    subscribe(&second, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    client.say("");
    assert_eq!(client.line().unwrap(), "session 0");
}

/// A proxy, as far as anybody asks it.
const MAKES_TUNNELS: &str = r#"
import socket
listener = socket.create_server(('::', 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print('ready')
while True:
    connection, _ = listener.accept()
    head = b''
    while b'\r\n\r\n' not in head: head += connection.recv(4096)
    connection.sendall(b'HTTP/1.1 200 Connection established\r\n\r\n')
    connection.sendall(b'target ' + connection.recv(100))
"#;

/// Asks for a tunnel and sends a line through it.
const TUNNEL: &str = r#"
import socket
connection = socket.create_connection(('10.77.0.1', 8080), timeout=20)
connection.sendall(b'CONNECT bank:443 HTTP/1.1\r\nHost: bank:443\r\n\r\n')
answer = b''
while b'\r\n\r\n' not in answer:
    answer += connection.recv(4096)
assert answer.startswith(b'HTTP/1.1 200'), answer
connection.sendall(b'hello')
print('ready')
print(connection.recv(4096).decode())
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_through_the_target_is_carried_on() {
    let Some(mut pod) = Pod::new() else { return };
    pod.target.kill();
    let _target = pod.inside.python(MAKES_TUNNELS, &[]);
    let (session, inbox) = pod.agent.session().await;
    answer(inbox);
    subscribe(&session, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    let mut client = pod.outside.python(TUNNEL, &[]);
    assert_eq!(client.line().unwrap(), "target hello");
}

/// The target of `TARGET_2` in the place of the pod's.
fn serve_2(pod: &mut Pod) -> Program {
    pod.target.kill();
    let mut target = pod.inside.command("node");
    target.args(["-e", TARGET_2]);
    let mut target = Program::start(target).unwrap();
    assert_eq!(target.line().unwrap(), "ready");
    target
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_stays_http_2_with_its_trailers() {
    let Some(mut pod) = Pod::new() else { return };
    let _target = serve_2(&mut pod);
    let (session, inbox) = pod.agent.session().await;
    tokio::spawn(answer_2(inbox));
    let ask = || {
        let mut client = pod.outside.command("node");
        let output = client.args(["-e", CLIENT_2]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ask(), "40 target /x 100000 target\n");
    subscribe(&session, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    assert_eq!(
        ask(),
        "10 session /x 100000 session\n30 target /x 100000 target\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_takes_its_time_holds_up_no_stream_of_the_targets() {
    let Some(mut pod) = Pod::new() else { return };
    let _target = serve_2(&mut pod);
    let (session, inbox) = pod.agent.session().await;
    subscribe(&session, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    let mut client = pod.outside.command("node");
    client.args(["-e", CLIENT_2_OF_BOTH]);
    let mut client = Program::start(client).unwrap();
    assert_eq!(client.line().unwrap(), "target");
    tokio::spawn(answer_2(inbox));
    assert_eq!(client.line().unwrap(), "session");
}

/// Answers HTTP/2 as `TARGET_2` does, in the session's name.
async fn answer_2(mut inbox: Inbox) {
    while let Some(inbound) = inbox.next().await {
        let Inbound::Stream(offer) = inbound else {
            continue;
        };
        let stream = TokioIo::new(offer.accept(Opened::default()));
        let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let text = Bytes::from(format!("session {path} {}", body.len()));
            let trailers = async {
                let mut trailers = hyper::HeaderMap::new();
                trailers.insert("x-end", "session".parse().unwrap());
                Some(Ok::<_, Infallible>(trailers))
            };
            let body = Full::new(text).with_trailers(trailers);
            Ok::<_, Infallible>(Response::new(body))
        });
        tokio::spawn(async move {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(stream, service)
                .await
                .ok();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_goes_to_the_target_whoever_speaks_first() {
    let Some(mut pod) = Pod::new() else { return };
    pod.target.kill();
    let _target = pod.inside.python(SPEAKS_FIRST, &[]);
    let (session, _inbox) = pod.agent.session().await;
    subscribe(&session, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    let mut client = pod.outside.python(QUIET, &[]);
    assert_eq!(client.line().unwrap(), "welcome");
    assert_eq!(client.line().unwrap().trim(), "SSH-2.0-me");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_filters_share_a_port_where_both_want_it_so() {
    let Some(pod) = Pod::new() else { return };
    let steal = |who: &str| IncomingMode::Steal {
        filter: Some(HttpFilter::Header(format!("^x-user: {who}$"))),
        on_concurrent: OnConcurrentSteal::Continue,
    };
    let mut seen = Vec::new();
    for who in ["one", "two"] {
        let (session, inbox) = pod.agent.session().await;
        seen.push(answer(inbox));
        subscribe(&session, 1, steal(who), false).await.unwrap();
    }
    for who in ["one", "two"] {
        let header = format!("x-user: {who}");
        assert_eq!(pod.ask("/", &["--header", &header]), "session 0\n");
    }
    assert_eq!(
        pod.ask("/", &["--header", "x-user: three"]),
        "target GET / 0\n"
    );
    crate::pod::wait_until(|| {
        seen.iter()
            .all(|got| got.lock().unwrap().connections.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_refuses_is_told_to_the_client_by_name() {
    let Some(pod) = Pod::new() else { return };
    let (session, inbox) = pod.agent.session().await;
    drop(inbox);
    subscribe(&session, 1, steal(Some(mine())), false)
        .await
        .unwrap();
    let answer = pod.ask("/", &["--include", "--header", "x-user: me"]);
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("bough: the session that takes this request"),
        "{answer}"
    );
    assert_eq!(pod.ask("/", &[]), "target GET / 0\n");
}

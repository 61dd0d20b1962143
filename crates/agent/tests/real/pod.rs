//! A target with an HTTP server, its neighbour who asks it, an agent beside it, and sessions that answer.

use std::process::Output;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::pump::{Inbound, Inbox, Session};
use wire::{
    Answer, HttpFilter, IncomingMode, Notice, OnConcurrentSteal, OpenRequest, Opened, Request,
    SubscribeFailure, Subscribed, Subscription,
};

use crate::agent::{Files, TestAgent, soon};
use crate::namespace::{Namespace, Program};

/// The target's port.
pub(crate) const PORT: u16 = 8080;

/// A server on port 8080 of every address, as real ones are: answers `target METHOD PATH BODY-LENGTH`,
/// and takes a second for it on `/slow`.
const TARGET: &str = r#"
import socket, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self):
        if self.headers.get('Upgrade') == 'echo':
            self.wfile.write(b'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n')
            while data := self.connection.recv(4096):
                self.wfile.write(b'target ' + data)
            self.close_connection = True
            return
        if self.path == '/slow':
            time.sleep(1)
        length = int(self.headers.get('Content-Length') or 0)
        left = length
        while left and (data := self.rfile.read(min(left, 1 << 20))):
            left -= len(data)
        body = f'target {self.command} {self.path} {length - left}\n'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('X-Mixed-Case', 'Kept')
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = do_PUT = answer
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 4096
    daemon_threads = True
    def handle_error(self, *args):
        pass
server = Server(('::', 8080), Handler)
print('ready')
server.serve_forever()
"#;

/// Everything around one target.
pub(crate) struct Pod {
    pub(crate) agent: TestAgent,
    pub(crate) target: Program,
    pub(crate) inside: Namespace,
    pub(crate) outside: Namespace,
}

/// What a session got.
#[derive(Debug, Default)]
pub(crate) struct Got {
    /// What clients sent, one a connection, in the order of their ends.
    pub(crate) connections: Vec<Vec<u8>>,
    pub(crate) notices: Vec<Notice>,
    /// Copies that ended by an error.
    pub(crate) broken: usize,
}

impl Pod {
    pub(crate) fn new() -> Option<Self> {
        let inside = Namespace::new()?;
        let outside = inside.neighbour();
        let target = inside.python(TARGET, &[]);
        let agent = TestAgent::start(&inside, &Files::default());
        Some(Self {
            agent,
            target,
            inside,
            outside,
        })
    }

    /// What the neighbour gets from the target's port.
    pub(crate) fn ask(&self, path: &str, more: &[&str]) -> String {
        told(&curl(&self.outside, "10.77.0.1", path, more))
    }

    /// Everybody who can ask gets this: neighbours and the pod itself, by both versions.
    pub(crate) fn assert_all_get(&self, expected: &str) {
        for host in ["10.77.0.1", "[fd77::1]"] {
            assert_eq!(
                told(&curl(&self.outside, host, "/", &[])),
                expected,
                "{host}"
            );
        }
        for host in ["10.77.0.1", "[fd77::1]", "127.0.0.1", "[::1]"] {
            assert_eq!(
                told(&curl(&self.inside, host, "/", &[])),
                expected,
                "{host}"
            );
        }
    }
}

/// One request of a client's.
pub(crate) fn curl(from: &Namespace, host: &str, path: &str, more: &[&str]) -> Output {
    let url = format!("http://{host}:{PORT}{path}");
    let mut command = from.command("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]);
    command.args(more).arg(url).output().unwrap()
}

/// What it printed.
pub(crate) fn told(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) async fn subscribe(
    session: &Session,
    id: u32,
    mode: IncomingMode,
    end_established: bool,
) -> Result<Subscribed, SubscribeFailure> {
    let request = Request::Subscribe(Subscription {
        id,
        port: PORT,
        mode,
        end_established,
    });
    match soon(session.call(request)).await.unwrap() {
        Answer::Subscribe(outcome) => outcome,
        answer @ (Answer::Dns(_) | Answer::Unsubscribe) => panic!("{answer:?}"),
    }
}

pub(crate) fn steal(filter: Option<HttpFilter>) -> IncomingMode {
    IncomingMode::Steal {
        filter,
        on_concurrent: OnConcurrentSteal::Abort,
    }
}

/// Answers every connection of a session's as its application would: `session BODY-LENGTH` to each request with a
/// `Content-Length` or without a body; copies are read and not answered.
pub(crate) fn answer(mut inbox: Inbox) -> Arc<Mutex<Got>> {
    let got = Arc::new(Mutex::new(Got::default()));
    let shared = Arc::clone(&got);
    tokio::spawn(async move {
        while let Some(inbound) = inbox.next().await {
            match inbound {
                Inbound::Stream(offer) => {
                    let copy = matches!(offer.request(), OpenRequest::Incoming { copy: true, .. });
                    let got = Arc::clone(&shared);
                    let stream = offer.accept(Opened::default());
                    tokio::spawn(async move {
                        let (bytes, whole) = converse(stream, !copy).await;
                        let mut got = got.lock().unwrap();
                        got.connections.push(bytes);
                        got.broken += usize::from(!whole);
                    });
                }
                Inbound::Notice(notice) => shared.lock().unwrap().notices.push(notice),
                Inbound::Call(_) => panic!("clients are not called"),
            }
        }
    });
    got
}

/// Reads requests, and answers them; all that was read, and whether it came to an orderly end.
async fn converse(mut stream: wire::pump::Stream, answers: bool) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let mut from = 0;
    let mut upgraded = false;
    loop {
        match stream.read_buf(&mut all).await {
            Ok(0) => {
                stream.shutdown().await.ok();
                return (all, true);
            }
            Ok(count) if upgraded => {
                let echo = [b"session ", &all[all.len() - count..]].concat();
                stream.write_all(&echo).await.unwrap();
            }
            Ok(_) => {}
            Err(_) => return (all, false),
        }
        while answers
            && !upgraded
            && let Some(end) = find(&all[from..], b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&all[from..from + end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if all.len() < from + end + 4 + length {
                break;
            }
            from += end + 4 + length;
            let response = if head.contains("upgrade: echo") {
                upgraded = true;
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
                    .into()
            } else {
                let body = format!("session {length}\n");
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            };
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Looks until it is so.
pub(crate) async fn wait_until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

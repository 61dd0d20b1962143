//! The proxy of a running agent: what a program without a session reaches through it.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::agent::{Files, TestAgent, soon};
use crate::namespace::{Namespace, Program};
use crate::outgoing::ECHO;

/// A server of pages on port 8000 of the loopback interface.
const PAGES: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'a page of the target')
    def log_message(self, *words):
        pass
server = http.server.HTTPServer(('127.0.0.1', 8000), Handler)
print('ready')
server.serve_forever()
"#;

/// Asks for a port of loopback; the proxy's code, and the connection.
async fn connect(agent: &TestAgent, port: u16) -> (u8, UnixStream) {
    let mut stream = UnixStream::connect(agent.proxy()).await.unwrap();
    let request = [
        &[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1][..],
        &port.to_be_bytes(),
    ]
    .concat();
    stream.write_all(&request).await.unwrap();
    let mut answer = [0; 12];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!((answer[..3].to_vec(), answer[4]), (vec![5, 0, 5], 0));
    (answer[3], stream)
}

#[tokio::test]
async fn it_leads_into_the_targets_network_and_tells_its_failures() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let agent = TestAgent::start(&namespace, &Files::default());
    let _echo = namespace.python(ECHO, &[]);
    let (code, mut stream) = connect(&agent, 9000).await;
    assert_eq!(code, 0);
    let sent = vec![7; 3_000_000];
    let (mut reading, mut writing) = stream.split();
    let mut back = Vec::new();
    let write = async {
        writing.write_all(&sent).await?;
        writing.shutdown().await
    };
    let (written, read) = soon(async { tokio::join!(write, reading.read_to_end(&mut back)) }).await;
    written.unwrap();
    read.unwrap();
    assert_eq!(back, sent, "both ends come through, one after the other");
    // Refused, by RFC 1928.
    assert_eq!(connect(&agent, 1).await.0, 5);
}

/// What curl makes of it, which knows the protocol from its own side.
fn curl(agent: &TestAgent, url: &str) -> Result<String, String> {
    let proxy = format!("socks5h://localhost{}", agent.proxy().display());
    let mut command = Command::new("curl");
    let output = command.args(["-sS", "--max-time", "60", "--proxy", &proxy, url]);
    let output = output.output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_of_the_protocol_reach_names_of_the_target() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let files = Files {
        hosts: "127.0.0.1 pages.only-there\n",
        ..Files::default()
    };
    let agent = TestAgent::start(&namespace, &files);
    let _pages: Program = namespace.python(PAGES, &[]);
    let page = curl(&agent, "http://pages.only-there:8000/").unwrap();
    assert_eq!(page, "a page of the target");
    let refused = curl(&agent, "http://127.0.0.1:1/").unwrap_err();
    assert!(refused.contains("(5)"), "by RFC 1928: {refused}");
}

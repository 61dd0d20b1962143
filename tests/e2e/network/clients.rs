//! The usual HTTP clients, each asked to fetch a page through the target, by address and by a name that only the target
//! knows: printed as a table, whose every cell must hold.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use anyhow::Result;
use fixtures::built_binary;
use serde_json::json;

use super::{network_file, run};
use crate::clients::source_of;
use crate::story::{NAMESPACE, Story};

/// What the server says.
pub(super) const PAGE: &str = "the page\n";

/// A server of pages on loopback. Lives as long as the test's process.
pub(super) fn serve() -> Result<SocketAddr> {
    serve_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
}

/// The same on this listener.
pub(super) fn serve_on(listener: TcpListener) -> Result<SocketAddr> {
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || answer(client));
        }
    });
    Ok(address)
}

fn answer(mut client: impl Read + Write) {
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut bytes) {
            Ok(read @ 1..) => request.extend_from_slice(&bytes[..read]),
            Ok(0) | Err(_) => return,
        }
    }
    let length = PAGE.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // A client that has gone is seen by its own test.
    client.write_all(format!("{head}{PAGE}").as_bytes()).ok();
}

/// What the other target says.
const NEIGHBOURS: &str = "the neighbour's page";

/// Another target, which says it.
const NEIGHBOUR: &str = r#"
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"the neighbour's page"
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('Connection', 'close')
        self.end_headers()
        self.wfile.write(body)
ThreadingHTTPServer(('0.0.0.0', 9090), Handler).serve_forever()
"#;

/// Whether this machine runs a program of 32 bits: one that is told nothing says so and fails.
fn runs(program: &str) -> bool {
    Command::new(program).env_clear().output().is_ok()
}

const PYTHON: &str = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end='')";
const NODE_HTTP: &str = "require('http').get(process.argv[1], (r) => r.pipe(process.stdout))";
const NODE_FETCH: &str =
    "fetch(process.argv[1]).then((r) => r.text()).then((t) => process.stdout.write(t))";

#[test]
fn every_http_client_fetches_through_the_target() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let served = ["python3", "-c", NEIGHBOUR];
    let neighbour = [
        "local",
        "run",
        "deployment/pages",
        "-n",
        NAMESPACE,
        "--port",
        "9090",
        "--",
    ];
    story
        .bough(&[&neighbour[..], &served].concat())?
        .success()?;
    let address = serve()?.to_string();
    let file = network_file(&story, &json!({"incoming": "off"}))?;
    let go = built_binary("BOUGH_TEST_GO_CLIENT")?;
    let go_32 = go.with_file_name("client-32");
    let (go, go_32) = (go.to_string_lossy(), go_32.to_string_lossy());
    let java = source_of("java", "Fetch.java");
    let java = java.to_string_lossy();
    let mut clients: Vec<(&str, Vec<&str>, Option<&str>)> = vec![
        ("curl", vec!["curl", "-sS"], None),
        ("Python urllib", vec!["python3", "-c", PYTHON], None),
        ("Node http", vec!["node", "-e", NODE_HTTP], None),
        ("Node fetch", vec!["node", "-e", NODE_FETCH], None),
        ("Java HttpURLConnection", vec!["java", &java], Some("url")),
        ("Java HttpClient", vec!["java", &java], None),
        ("Java NIO", vec!["java", &java], Some("nio")),
        ("Go net/http, static", vec![&go], None),
    ];
    if runs(&go_32) {
        clients.push(("Go net/http, 32-bit", vec![&go_32], None));
    } else {
        writeln!(
            io::stderr(),
            "NOT RUN: this machine runs no 32-bit programs"
        )?;
    }
    println!("{:<24} address  name", "client");
    for (name, program, way) in clients {
        for (place, page) in [
            (address.as_str(), PAGE),
            ("pages.metalmart:9090", NEIGHBOURS),
        ] {
            let url = format!("http://{place}/");
            let mut words = program.clone();
            words.push(&url);
            words.extend(way);
            let session = run(&story, &file, &words)?;
            let all = session.report["others"].to_string();
            let reached = session.through_target();
            let told = session.outcome.success()?;
            assert_eq!(told.trim(), page.trim(), "{name} {place}");
            // A client may try the addresses of a name at once.
            assert!(reached >= 1, "{name} {place}: {all}");
        }
        println!("{name:<24} yes      yes");
    }
    story.end()
}

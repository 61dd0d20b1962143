//! The usual HTTP clients, each asked to fetch a page through the target: printed as a table, whose every cell must hold.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use anyhow::Result;
use serde_json::json;

use super::{network_file, run};
use crate::clients::source_of;
use crate::story::Story;

/// What the server says.
pub(super) const PAGE: &str = "the page\n";

/// A server of pages on loopback. Lives as long as the test's process.
pub(super) fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
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

const PYTHON: &str = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end='')";
const NODE_HTTP: &str = "require('http').get(process.argv[1], (r) => r.pipe(process.stdout))";
const NODE_FETCH: &str =
    "fetch(process.argv[1]).then((r) => r.text()).then((t) => process.stdout.write(t))";

#[test]
fn every_http_client_fetches_through_the_target() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let address = serve()?.to_string();
    let url = format!("http://{address}/");
    let file = network_file(&story, &json!({"incoming": "off"}))?;
    let java = source_of("java", "Fetch.java");
    let java = java.to_string_lossy();
    let clients: [(&str, Vec<&str>); 7] = [
        ("curl", vec!["curl", "-sS", &url]),
        ("Python urllib", vec!["python3", "-c", PYTHON, &url]),
        ("Node http", vec!["node", "-e", NODE_HTTP, &url]),
        ("Node fetch", vec!["node", "-e", NODE_FETCH, &url]),
        ("Java HttpURLConnection", vec!["java", &java, &url, "url"]),
        ("Java HttpClient", vec!["java", &java, &url]),
        ("Java NIO", vec!["java", &java, &url, "nio"]),
    ];
    println!("{:<24} page  through the target", "client");
    for (name, program) in clients {
        let session = run(&story, &file, &program)?;
        let reached = session.reached(&address);
        let page = session.outcome.success()?;
        println!("{name:<24} {:<5} {}", page.trim() == PAGE.trim(), reached.1);
        assert_eq!(page.trim(), PAGE.trim(), "{name}");
        assert_eq!(reached, (1, 1), "{name}");
    }
    story.end()
}

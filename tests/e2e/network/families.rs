//! Addresses of version 6, and Unix sockets of the target's.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread;

use anyhow::{Context, Result, ensure};
use fixtures::TempDir;
use serde_json::json;

use super::{clients, network_file, run};
use crate::story::{Story, assert_says};

#[test]
fn addresses_of_version_6_are_reached_through_the_target() -> Result<()> {
    let listener = match TcpListener::bind("[::1]:0") {
        Ok(listener) => listener,
        Err(error) => {
            writeln!(io::stderr(), "NOT RUN: no IPv6 on this machine: {error}")?;
            return Ok(());
        }
    };
    let story = Story::begin()?;
    story.deploy_idle()?;
    let address = clients::serve_on(listener)?.to_string();
    let url = format!("http://{address}/");
    for (network, through) in [
        (json!({"incoming": "off"}), 1),
        (
            json!({"incoming": "off", "outgoing": {"filter": {"local": [address]}}}),
            0,
        ),
        (
            json!({"incoming": "off", "outgoing": {"filter": {"remote": ["[::1]/128"]}}}),
            1,
        ),
    ] {
        let file = network_file(&story, &network)?;
        let session = run(&story, &file, &["curl", "-sS", "-g", &url])?;
        let all = session.report["others"].to_string();
        assert_eq!(session.reached(&address), (1, through), "{network}: {all}");
        assert_eq!(session.outcome.success()?, clients::PAGE, "{network}");
    }
    story.end()
}

/// Says who connected, and reads what they send.
const ASK: &str = r#"
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"hello"); s.shutdown(socket.SHUT_WR)
print(s.makefile().read(), end="")
"#;

#[test]
fn unix_sockets_that_the_file_names_are_the_targets() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    // Beside the story: its server lives as long as this process.
    let home = TempDir::new()?;
    let path = home.path().join("shared.sock");
    let listener = UnixListener::bind(&path)?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that fails is seen by its own test.
            let _failed = answer(client);
        }
    });
    let path = path.to_str().context("a path is text")?;
    for (streams, by) in [
        (json!(["/shared\\.sock$"]), true),
        (json!(["^/other"]), false),
    ] {
        let network = json!({"incoming": "off", "outgoing": {"unix_streams": streams}});
        let file = network_file(&story, &network)?;
        let session = run(&story, &file, &["python3", "-c", ASK, path])?;
        let said = session.outcome.success()?;
        assert_says(&said, &["hello from"])?;
        ensure!(said.contains("agent") == by, "{streams}: {said}");
    }
    let file = network_file(&story, &json!({"outgoing": {"unix_streams": ["("]}}))?;
    let refused = story.run_session(&file, &["true"])?.exit_code(2)?;
    assert_says(&refused.stderr, &["unix_streams"])?;
    story.end()
}

/// Says what was sent, and which process connected.
fn answer(mut client: std::os::unix::net::UnixStream) -> Result<()> {
    let sent = io::read_to_string(&client)?;
    let peer = rustix::net::sockopt::socket_peercred(&client)?;
    let pid = peer.pid.as_raw_nonzero();
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    client.write_all(format!("{sent} from {}\n", line.replace('\0', " ")).as_bytes())?;
    Ok(())
}

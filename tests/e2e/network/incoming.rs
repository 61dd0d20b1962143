//! What comes to the target: copied or stolen, seen by its clients and by the session's program.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, eventually, http};
use serde_json::{Value, json};

use super::network_file;
use crate::clients::source_of;
use crate::story::{LIMIT, Story, free_port};

/// The target's port, which its clients know.
pub(super) const PORT: u16 = 8082;

/// A target takes its port back within this.
const STEP: Duration = Duration::from_secs(30);

/// A server that answers each request with `name` and the path, and says the path.
pub(super) fn server(name: &str, port: u16) -> Result<Vec<String>> {
    let script = source_of("python", "serve.py");
    let script = script.to_str().context("a path is text")?;
    let words = ["python3", script, name, &port.to_string()];
    Ok(words.map(str::to_owned).to_vec())
}

/// A target that serves, started with these further words, and the port of this machine that leads to it.
pub(super) fn deploy_with(story: &Story, words: &[&str]) -> Result<u16> {
    let published = free_port()?;
    let (publish, port) = (format!("{published}:{PORT}"), PORT.to_string());
    let network = ["--network", "own", "--publish", &publish, "--port", &port];
    let server = server("target", PORT)?;
    let server: Vec<&str> = server.iter().map(String::as_str).collect();
    story.deploy(&[&network[..], words, &["--"], &server].concat())?;
    Ok(published)
}

fn deploy(story: &Story) -> Result<u16> {
    deploy_with(story, &[])
}

fn serve(story: &Story, network: &Value) -> Result<Program> {
    serve_by(story, network, &server("session", PORT)?)
}

/// A session whose program serves on the target's port, from when its connections come to it.
pub(super) fn serve_by(story: &Story, network: &Value, program: &[String]) -> Result<Program> {
    let file = network_file(story, network)?;
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let mut session = story.env.start(story.exec(&file, &program))?;
    session.wait_for(LIMIT, |_, stderr| {
        stderr.contains(&format!("connections to port {PORT} of the target come to"))
    })?;
    Ok(session)
}

pub(super) fn ask(port: u16, path: &str) -> Result<String> {
    let answer = http::get(port, path)?;
    ensure!(answer.status == 200, "{}", answer.status);
    Ok(answer.body)
}

fn end(mut session: Program, published: u16) -> Result<()> {
    session.signal(Signal::TERM)?;
    let ended = session.finish(LIMIT)?;
    let _ended = ended.exit_code(128 + Signal::TERM.as_raw())?;
    wait_for_target(published)
}

/// Waits until the target answers its clients itself.
pub(super) fn wait_for_target(published: u16) -> Result<()> {
    eventually("the target's own answer", STEP, || {
        let answer = ask(published, "/after").ok();
        Ok(answer
            .filter(|answer| answer == "target /after")
            .map(|_| ()))
    })
}

#[test]
fn with_mirror_both_see_a_request_and_the_client_gets_the_targets_answer() -> Result<()> {
    let story = Story::begin()?;
    let published = deploy(&story)?;
    let mut session = serve(&story, &json!({"incoming": "mirror"}))?;
    for number in 0..20 {
        let path = format!("/mirrored/{number}");
        assert_eq!(ask(published, &path)?, format!("target {path}"));
        session.wait_for(LIMIT, |stdout, _| stdout.lines().any(|line| line == path))?;
    }
    end(session, published)?;
    story.end()
}

#[test]
fn with_steal_the_program_answers_what_the_filter_means_and_the_target_the_rest() -> Result<()> {
    let story = Story::begin()?;
    let published = deploy(&story)?;
    let session = serve(&story, &json!({"incoming": "steal"}))?;
    assert_eq!(ask(published, "/a")?, "session /a");
    end(session, published)?;
    let filtered =
        json!({"incoming": {"mode": "steal", "http_filter": {"path_filter": "^/mine/"}}});
    let session = serve(&story, &filtered)?;
    assert_eq!(ask(published, "/mine/a")?, "session /mine/a");
    assert_eq!(ask(published, "/theirs/a")?, "target /theirs/a");
    end(session, published)?;
    story.end()
}

/// Answers one request, closes its listener, and goes on.
const ONE_ANSWER: &str = r"
import socket, sys, time
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[2]))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('0.0.0.0', int(sys.argv[1])))
listener.listen()
connection, _ = listener.accept()
connection.recv(65536)
connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nsession')
connection.close()
listener.close()
time.sleep(100000)
";

/// Protocols that streams of TCP have: its own, and MPTCP, which is that of Go's listeners.
const PROTOCOLS: [&str; 2] = ["6", "262"];

#[test]
fn a_port_is_the_targets_again_once_its_listener_is_closed_whatever_its_protocol() -> Result<()> {
    let story = Story::begin()?;
    let published = deploy(&story)?;
    for protocol in PROTOCOLS {
        let port = PORT.to_string();
        let program = ["python3", "-c", ONE_ANSWER, &port, protocol].map(str::to_owned);
        let session = serve_by(&story, &json!({"incoming": "steal"}), &program)?;
        assert_eq!(ask(published, "/a")?, "session", "{protocol}");
        wait_for_target(published).with_context(|| format!("protocol {protocol}"))?;
        end(session, published)?;
    }
    story.end()
}

#[test]
fn a_session_that_is_killed_leaves_the_target_serving_and_its_port_to_the_next() -> Result<()> {
    let story = Story::begin()?;
    let published = deploy(&story)?;
    let mut session = serve(&story, &json!({"incoming": "steal"}))?;
    assert_eq!(ask(published, "/before")?, "session /before");
    session.signal(Signal::KILL)?;
    wait_for_target(published)?;
    let session = serve(&story, &json!({"incoming": "steal"}))?;
    assert_eq!(ask(published, "/next")?, "session /next");
    end(session, published)?;
    story.end()
}

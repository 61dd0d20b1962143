//! What comes to the target: copied or stolen, seen by its clients and by the session's program.

use std::time::Duration;

use anyhow::{Result, ensure};
use fixtures::{Program, Signal, eventually, http};
use serde_json::{Value, json};

use super::network_file;
use crate::story::{LIMIT, Story, free_port};

/// The target's port, which its clients know.
const PORT: u16 = 8082;

/// A target takes its port back within this.
const STEP: Duration = Duration::from_secs(30);

/// Answers each request with its own name and the path, and says the path.
const SERVER: &str = r"
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f'{sys.argv[1]} {self.path}'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(self.path, flush=True)
    def log_message(self, *args): pass
ThreadingHTTPServer(('0.0.0.0', int(sys.argv[2])), Handler).serve_forever()
";

/// A target that serves, and the port of this machine that leads to it.
fn deploy(story: &Story) -> Result<u16> {
    let published = free_port()?;
    let (publish, port) = (format!("{published}:{PORT}"), PORT.to_string());
    let server = ["--", "python3", "-c", SERVER, "target", &port];
    story.deploy(
        &[
            &["--network", "own", "--publish", &publish, "--port", &port],
            &server[..],
        ]
        .concat(),
    )?;
    Ok(published)
}

/// A session that serves on the target's port, from when its connections come to it.
fn serve(story: &Story, network: &Value) -> Result<Program> {
    let file = network_file(story, network)?;
    let port = PORT.to_string();
    let program = ["python3", "-c", SERVER, "session", &port];
    let mut session = story.env.start(story.exec(&file, &program))?;
    session.wait_for(LIMIT, |_, stderr| {
        stderr.contains(&format!("connections to port {PORT} of the target come to"))
    })?;
    Ok(session)
}

fn ask(port: u16, path: &str) -> Result<String> {
    let answer = http::get(port, path)?;
    ensure!(answer.status == 200, "{}", answer.status);
    Ok(answer.body)
}

fn end(mut session: Program, published: u16) -> Result<()> {
    session.signal(Signal::TERM)?;
    let ended = session.finish(LIMIT)?;
    let _ended = ended.exit_code(128 + Signal::TERM.as_raw())?;
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

#[test]
fn a_session_that_is_killed_leaves_the_target_serving_and_its_port_to_the_next() -> Result<()> {
    let story = Story::begin()?;
    let published = deploy(&story)?;
    let mut session = serve(&story, &json!({"incoming": "steal"}))?;
    assert_eq!(ask(published, "/before")?, "session /before");
    session.signal(Signal::KILL)?;
    eventually("the target's own answer", STEP, || {
        let answer = ask(published, "/after").ok();
        Ok(answer
            .filter(|answer| answer == "target /after")
            .map(|_| ()))
    })?;
    let session = serve(&story, &json!({"incoming": "steal"}))?;
    assert_eq!(ask(published, "/next")?, "session /next");
    end(session, published)?;
    story.end()
}

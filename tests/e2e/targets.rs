//! The walk-through's traffic: clients of the published port, the target that answers them, and the session's program
//! that gets copies of what they ask, or the requests themselves.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, eventually, http};
use serde_json::json;

use crate::story::{LIMIT, NAMESPACE, Story, TARGET, free_port, shop_file};

/// The port that the shop's service listens on, wherever it runs.
const PORT: u16 = 8082;

/// A server on the service's port that says each path that it is asked for.
const SEEING: &str = r#"
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, flush=True)
        body = b'the session\n'
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = ThreadingHTTPServer(('127.0.0.1', 8082), Handler)
print('ready', flush=True)
server.serve_forever()
"#;

/// Starts the shop's service as a target, published; where it is published. None, said loudly, where the machine allows
/// the target no network of its own.
fn deploy(story: &Story) -> Result<Option<u16>> {
    let published = free_port()?;
    let mapping = format!("{published}:{PORT}");
    let start = ["local", "run", TARGET, "-n", NAMESPACE, "--network", "own"];
    let program = ["--publish", &mapping, "--", "inventory", "--port", "8082"];
    let mut command = story.env.command([&start[..], &program].concat());
    command.env("DATABASE_URL", story.source_url());
    let outcome = story.env.start(command)?.finish(LIMIT)?;
    if outcome.stderr.contains("a network of its own") {
        writeln!(io::stderr(), "NOT RUN: {}", outcome.stderr)?;
        return Ok(None);
    }
    outcome.success()?;
    let healthy = || http::get(published, "/healthz").is_ok_and(|answer| answer.status == 200);
    eventually("a healthy target", LIMIT, || Ok(healthy().then_some(())))?;
    Ok(Some(published))
}

fn start_session(story: &Story, file: PathBuf) -> Result<Program> {
    let mut session = story
        .env
        .start(story.exec(&file, &["python3", "-c", SEEING]))?;
    session.wait_for(LIMIT, |stdout, _| stdout.contains("ready"))?;
    Ok(session)
}

#[test]
fn a_mirrored_request_is_answered_by_the_target_and_seen_by_the_session() -> Result<()> {
    let story = Story::begin()?;
    let Some(published) = deploy(&story)? else {
        return story.end();
    };
    let path = "/api/inventory/1";
    let before = http::get(published, path)?;
    ensure!(before.body.contains("stock_quantity"), "{}", before.body);
    let mut session = start_session(&story, shop_file("inventory.json"))?;
    // The port is asked for when the program listens, and stands a moment later.
    let seen = || -> Result<Option<()>> {
        let answer = http::get(published, path)?;
        ensure!(answer == before, "the target answers as before: {answer:?}");
        Ok(session.stdout()?.contains(path).then_some(()))
    };
    eventually("a copy of the request", LIMIT, seen)?;
    session.signal(Signal::TERM)?;
    let _ended = session.finish(LIMIT)?;
    ensure!(
        http::get(published, path)? == before,
        "the target serves on"
    );
    story.end()
}

#[test]
fn a_stolen_request_is_answered_by_the_session_until_it_ends() -> Result<()> {
    let story = Story::begin()?;
    let Some(published) = deploy(&story)? else {
        return story.end();
    };
    let (kind, name) = TARGET.split_once('/').context("a target has a kind")?;
    let file = story.env.home().join("steal.json");
    let content = json!({
        "target": {"path": {kind: name}, "namespace": NAMESPACE},
        "feature": {"network": {"incoming": "steal", "outgoing": true}, "fs": "local"},
    });
    fs::write(&file, content.to_string())?;
    let mut session = start_session(&story, file)?;
    let get = || http::get(published, "/healthz").map(|answer| answer.body);
    let is_sessions = || Ok((get()? == "the session\n").then_some(()));
    eventually("an answer of the session's", LIMIT, is_sessions)?;
    // However it ends, the port is the target's again.
    session.signal(Signal::KILL)?;
    let _ended = session.finish(LIMIT)?;
    let is_targets = || {
        Ok(get()
            .is_ok_and(|body| body != "the session\n")
            .then_some(()))
    };
    eventually("an answer of the target's", LIMIT, is_targets)?;
    story.end()
}

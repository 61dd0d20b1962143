//! The engine's API as a program of the user's language would call it: one request a connection, over its Unix socket.
//!
//! Owns the requests and the few fields of answers that measurements need. It is written apart from the product's own
//! client, blocking and without a runtime, so that a time is the engine's and not the client's.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long one answer, or one change of a watched branch, may take: a first copy of many gigabytes tells its progress
/// more often.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(600);

/// How long a branch of a bench lives without a session: as long as the longest row.
const TTL_SECONDS: u32 = 6 * 3600;

/// What measurements need of a branch.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Branch {
    /// The resource name.
    pub(super) name: String,
    /// `ready`, `failed`, or one on the way there.
    pub(super) phase: String,
    /// `bough-` and its clone's name.
    pub(super) identity: Option<String>,
    /// Its door.
    pub(super) endpoint: Option<String>,
    /// What it was made of.
    pub(super) base: Option<Base>,
    /// Whether its server is stopped until the next client connects.
    #[serde(default)]
    pub(super) asleep: bool,
    message: Option<String>,
}

/// What a branch was made of.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Base {
    /// How it is known to be fresh: `unmoved`, `copied`, or what a later engine says.
    pub(super) freshness: String,
    /// How long a base that follows was waited for.
    #[serde(default)]
    pub(super) lag_milliseconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Ensured {
    branch: Branch,
}

#[derive(Debug, Deserialize)]
struct Connection {
    url: String,
}

/// The engine's own words of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Status {
    /// Its volume.
    pub(super) volume: Volume,
    /// Clones that run before anybody has asked for them.
    pub(super) warm_clones: u32,
    /// Followers of sources that are being written, which wait for a request.
    #[serde(default)]
    pub(super) followers: u32,
}

/// How the engine makes branches.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Volume {
    /// `overlay`, `reflink`, `plain copy` and so on.
    pub(super) kind: String,
    /// Better kinds and why they do not work.
    #[serde(default)]
    passed_over: Vec<PassedOver>,
}

#[derive(Debug, Clone, Deserialize)]
struct PassedOver {
    kind: String,
    reason: String,
}

impl Volume {
    /// Why branches are not made by `kind`.
    pub(super) fn why_not(&self, kind: &str) -> String {
        let passed_over = self.passed_over.iter().find(|each| each.kind == kind);
        let reason = passed_over.map_or_else(String::new, |each| format!(": {}", each.reason));
        format!(
            "the engine makes branches by {} there, not by {kind}{reason}",
            self.kind
        )
    }
}

/// A request that was answered with a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// The HTTP status.
    pub(super) status: u16,
    /// The engine's words.
    pub(super) detail: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.status)
    }
}

impl std::error::Error for Refused {}

/// Speaks to the engine behind one socket.
#[derive(Debug, Clone)]
pub(super) struct EngineApi {
    socket: PathBuf,
}

impl EngineApi {
    /// The engine of a data directory.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self {
            socket: data_dir.join("engine.sock"),
        }
    }

    /// The engine itself.
    pub(super) fn status(&self) -> Result<Status> {
        self.ask("GET", "/v1/engine", None)
    }

    /// Asks for a whole copy of a source, not older than `max_age_seconds` where that is given; answers at once.
    pub(super) fn ensure(
        &self,
        id: &str,
        source: &Value,
        max_age_seconds: Option<u32>,
    ) -> Result<Branch> {
        let body = json!({
            "id": id, "namespace": "bench", "source": source, "copy": {"mode": "all"}, "ttl": TTL_SECONDS,
            "max_age_seconds": max_age_seconds,
        });
        let ensured: Ensured = self.ask("POST", "/v1/branches", Some(&body))?;
        Ok(ensured.branch)
    }

    /// Follows a branch until it is ready.
    ///
    /// # Errors
    /// When it fails: with its message.
    pub(super) fn wait_until_ready(&self, branch: Branch) -> Result<Branch> {
        if let Some(ready) = settled(&branch)? {
            return Ok(ready);
        }
        let path = format!("/v1/branches/{}/watch", branch.name);
        let mut answer = self.send("GET", &path, None)?;
        answer.check()?;
        let mut line = String::new();
        loop {
            line.clear();
            let read = answer.body.read_line(&mut line).context("watch a branch")?;
            ensure!(read > 0, "the engine stopped telling of {}", branch.name);
            let seen: Branch = serde_json::from_str(&line).context("read a branch's change")?;
            if let Some(ready) = settled(&seen)? {
                return Ok(ready);
            }
        }
    }

    /// A branch's URL, password included.
    pub(super) fn url(&self, branch: &Branch) -> Result<String> {
        let path = format!("/v1/branches/{}/connection", branch.name);
        let connection: Connection = self.ask("GET", &path, None)?;
        Ok(connection.url)
    }

    /// One branch.
    pub(super) fn branch(&self, name: &str) -> Result<Branch> {
        self.ask("GET", &format!("/v1/branches/{name}"), None)
    }

    /// Every branch.
    pub(super) fn branches(&self) -> Result<Vec<Branch>> {
        self.ask("GET", "/v1/branches", None)
    }

    /// Deletes a branch and waits until nothing is left of it.
    pub(super) fn delete(&self, branch: &Branch) -> Result<()> {
        let path = format!("/v1/branches/{}", branch.name);
        self.send("DELETE", &path, None)?.check()
    }

    /// Names a source.
    pub(super) fn add_source(&self, name: &str, source: &Value) -> Result<()> {
        let path = format!("/v1/sources/{name}");
        self.send("PUT", &path, Some(source))?.check()
    }

    /// Ends the engine and its servers.
    pub(super) fn stop(&self) -> Result<()> {
        let body = json!({"servers": true});
        self.send("POST", "/v1/engine/stop", Some(&body))?.check()
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T> {
        let mut answer = self.send(method, path, body)?;
        answer.check()?;
        let text = answer.text()?;
        serde_json::from_str(&text).with_context(|| format!("read the answer to {method} {path}"))
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let shown = || format!("{method} {path} of the engine");
        let mut stream = UnixStream::connect(&self.socket).with_context(shown)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        // Version 1.0, so that the connection's end is the body's and nothing comes in chunks.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).with_context(shown)?;
        Answer::read(BufReader::new(stream)).with_context(shown)
    }
}

/// An answer whose head was read.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: BufReader<UnixStream>,
}

impl Answer {
    fn read(mut body: BufReader<UnixStream>) -> Result<Self> {
        let mut first = String::new();
        body.read_line(&mut first)?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("{first:?} is no answer of HTTP"))?;
        let mut header = String::new();
        while header.trim_end() != "" || header.is_empty() {
            header.clear();
            ensure!(
                body.read_line(&mut header)? > 0,
                "the answer ends in its head"
            );
        }
        Ok(Self { status, body })
    }

    fn text(&mut self) -> Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        Ok(text)
    }

    fn check(&mut self) -> Result<()> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        let text = self.text()?;
        let problem: Option<Value> = serde_json::from_str(&text).ok();
        let detail = problem.and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()));
        bail!(Refused {
            status: self.status,
            detail: detail.unwrap_or(text),
        })
    }
}

fn settled(branch: &Branch) -> Result<Option<Branch>> {
    match branch.phase.as_str() {
        "ready" => Ok(Some(branch.clone())),
        "failed" => bail!(
            "the branch failed: {}",
            branch.message.as_deref().unwrap_or("without a word")
        ),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &'static str) -> Result<Answer> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        theirs.write_all(text.as_bytes()).expect("written");
        drop(theirs);
        Answer::read(BufReader::new(ours))
    }

    #[test]
    fn a_body_begins_after_the_head() {
        let mut read = answer("HTTP/1.0 200 OK\r\na: b\r\n\r\n{\"x\":1}").expect("an answer");
        read.check().expect("a success");
        assert_eq!(read.text().expect("a text"), "{\"x\":1}");
        assert!(answer("HTTP/1.0 200 OK\r\na: b\r\n").is_err());
        assert!(answer("").is_err());
    }

    #[test]
    fn a_refusal_is_told_in_the_engines_words() {
        let mut read =
            answer("HTTP/1.0 409 Conflict\r\n\r\n{\"detail\":\"taken\"}").expect("an answer");
        let error = read.check().expect_err("a refusal");
        let refused: &Refused = error.downcast_ref().expect("a refusal");
        assert_eq!((refused.status, refused.detail.as_str()), (409, "taken"));
    }

    #[test]
    fn ready_and_failed_are_ends() {
        let branch = |phase: &str| Branch {
            name: "pg-1".to_owned(),
            phase: phase.to_owned(),
            identity: None,
            endpoint: None,
            base: None,
            asleep: false,
            message: Some("no room".to_owned()),
        };
        assert!(settled(&branch("ready")).expect("no failure").is_some());
        assert!(settled(&branch("cloning")).expect("no failure").is_none());
        let error = settled(&branch("failed"))
            .expect_err("a failure")
            .to_string();
        assert!(error.contains("no room"), "{error}");
    }
}

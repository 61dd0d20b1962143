//! The engine's HTTP API as a client of another make uses it: one request a connection, each answer kept apart from an
//! answer that never came.
//!
//! Owns the bytes of requests. Leaves the engine's process to `world`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use model::engine_api::{BranchConnection, BranchView, EngineView, EnsuredBranch, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A bound on the silence of an engine: a deletion waits for its server's end, and machines may be busy.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// What became of a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer<T> {
    /// It was done.
    Given(T),
    /// It was refused.
    Refused(Problem),
    /// Nobody can say: the engine was not there, or went away.
    Lost(String),
    /// What no engine may answer: nothing for as long as [`SILENCE_MAX`], or something that is not of its API.
    Wrong(String),
}

impl<T> Answer<T> {
    /// The answer, if it was given.
    pub(crate) fn given(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Refused(_) | Self::Lost(_) | Self::Wrong(_) => None,
        }
    }
}

/// An engine's socket.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
}

impl Engine {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(crate) fn view(&self) -> Answer<EngineView> {
        self.request("GET", "/v1/engine", &Value::Null)
    }

    pub(crate) fn branches(&self) -> Answer<Vec<BranchView>> {
        self.request("GET", "/v1/branches", &Value::Null)
    }

    pub(crate) fn branch(&self, name: &str) -> Answer<BranchView> {
        self.request("GET", &format!("/v1/branches/{name}"), &Value::Null)
    }

    pub(crate) fn connection(&self, name: &str) -> Answer<BranchConnection> {
        let path = format!("/v1/branches/{name}/connection");
        self.request("GET", &path, &Value::Null)
    }

    pub(crate) fn ensure(&self, wanted: &Value) -> Answer<EnsuredBranch> {
        self.request("POST", "/v1/branches", wanted)
    }

    /// Sends a request and reads its whole answer. An answer without a body reads as null.
    pub(crate) fn request<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer<T> {
        match self.exchange(method, path, body) {
            Ok((status, text)) => read(status, &text),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Answer::Wrong(format!("{method} {path}: nothing within {SILENCE_MAX:?}"))
            }
            Err(error) => Answer::Lost(error.to_string()),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        // Version 1.0: the connection's end is the body's, and nothing comes in chunks.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        receive(stream)
    }
}

/// Reads an answer: its status and its body, which is as long as the head says.
pub(crate) fn receive(stream: UnixStream) -> std::io::Result<(u16, Vec<u8>)> {
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(cut)?;
    let mut length = None;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(cut());
        }
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    if length.is_some_and(|length| length != body.len()) {
        return Err(cut());
    }
    Ok((status, body))
}

fn read<T: DeserializeOwned>(status: u16, text: &[u8]) -> Answer<T> {
    let text = if text.is_empty() { b"null" } else { text };
    if (200..300).contains(&status) {
        return match serde_json::from_slice(text) {
            Ok(value) => Answer::Given(value),
            Err(error) => Answer::Wrong(format!("an answer of status {status}: {error}")),
        };
    }
    match serde_json::from_slice(text) {
        Ok(problem) => Answer::Refused(problem),
        Err(error) => Answer::Wrong(format!(
            "a refusal of status {status} that is no problem: {error}"
        )),
    }
}

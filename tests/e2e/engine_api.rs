//! The engine's HTTP API as a program of another make would use it: requests on its Unix socket, and changes of a
//! branch as they come. Also the engine's sudden death.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fixtures::eventually;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A bound on the silence of an engine that has something to say.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// A killed process is gone as soon as the kernel has freed its memory.
const DEATH_LIMIT: Duration = Duration::from_secs(20);

/// Sends a request and reads the whole answer: status and JSON body, null where there is none.
pub(crate) fn request(data: &Path, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
    let mut answer = open(data, method, path, body)?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk()? {
        text.extend(chunk);
    }
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&text).context("read an answer")?
    };
    Ok((answer.status, body))
}

/// Every branch.
pub(crate) fn branches(data: &Path) -> Result<Vec<Value>> {
    let (status, branches) = request(data, "GET", "/v1/branches", &Value::Null)?;
    ensure!(status == 200, "{status} {branches}");
    Ok(branches.as_array().context("branches are a list")?.clone())
}

/// Asks for a branch of a source, in the namespace `default`; gives its resource name.
pub(crate) fn ensure_branch(data: &Path, id: &str, source_url: &str) -> Result<String> {
    let wanted = serde_json::json!({
        "id": id, "namespace": "default", "source": {"url": source_url}, "copy": {"mode": "all"},
    });
    let (status, answer) = request(data, "POST", "/v1/branches", &wanted)?;
    ensure!(status == 200 || status == 201, "{status} {answer}");
    let name = answer["branch"]["name"]
        .as_str()
        .context("a branch has a name")?;
    Ok(name.to_owned())
}

/// The changes of one branch.
#[derive(Debug)]
pub(crate) struct Watch {
    answer: Answer,
    buffer: Vec<u8>,
}

impl Watch {
    /// Begins with how the branch stands.
    pub(crate) fn open(data: &Path, name: &str) -> Result<Self> {
        let answer = open(
            data,
            "GET",
            &format!("/v1/branches/{name}/watch"),
            &Value::Null,
        )?;
        ensure!(answer.status == 200, "no watch: {}", answer.status);
        Ok(Self {
            answer,
            buffer: Vec::new(),
        })
    }

    /// Waits for the next change; none when the branch is gone.
    pub(crate) fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .context("read a change");
            }
            match self.answer.chunk()? {
                Some(chunk) => self.buffer.extend(chunk),
                None => return Ok(None),
            }
        }
    }

    /// Waits for a change of which `wanted` holds.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        while let Some(view) = self.next()? {
            if wanted(&view) {
                return Ok(view);
            }
            ensure!(view["phase"] != "failed", "the branch failed: {view}");
        }
        bail!("the branch is gone");
    }
}

/// Kills the engine with SIGKILL and waits until it is gone; gives its process id.
pub(crate) fn kill_engine(data: &Path) -> Result<i32> {
    let (_, view) = request(data, "GET", "/v1/engine", &Value::Null)?;
    let pid = view["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .context("an engine has a pid")?;
    let handle = Pid::from_raw(pid).context("a pid of 0")?;
    kill_process(handle, Signal::KILL).context("kill the engine")?;
    eventually("the engine's death", DEATH_LIMIT, || {
        Ok(is_dead(pid).then_some(()))
    })?;
    Ok(pid)
}

/// Whether a process is gone, or only its entry for its parent is left.
fn is_dead(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    })
}

/// An answer whose body is still coming.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// Bytes of the body; none where it comes in chunks (RFC 9112, section 7.1).
    length: Option<usize>,
    is_done: bool,
    stream: BufReader<UnixStream>,
}

impl Answer {
    /// The next piece of the body; none at its end.
    fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        if self.is_done {
            return Ok(None);
        }
        let size = match self.length {
            Some(length) => {
                self.is_done = true;
                length
            }
            None => {
                let line = self.line()?;
                let size = usize::from_str_radix(line.trim(), 16);
                size.with_context(|| format!("{line:?} begins a chunk"))?
            }
        };
        let mut piece = vec![0; size];
        self.stream.read_exact(&mut piece).context("read a body")?;
        if self.length.is_none() {
            self.line()?;
            self.is_done = size == 0;
        }
        Ok((size > 0).then_some(piece))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("read an answer")?;
        ensure!(line.ends_with('\n'), "the answer is cut: {line:?}");
        Ok(line)
    }
}

fn open(data: &Path, method: &str, path: &str, body: &Value) -> Result<Answer> {
    let socket = data.join("engine.sock");
    let mut stream =
        UnixStream::connect(&socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Answer {
        status: 0,
        length: Some(0),
        is_done: false,
        stream: BufReader::new(stream),
    };
    let status_line = answer.line()?;
    let status = status_line
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok());
    answer.status = status.with_context(|| format!("{status_line:?} has no status"))?;
    loop {
        let line = answer.line()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => {
                answer.length = Some(value.parse().context("read a length")?)
            }
            ("transfer-encoding", "chunked") => answer.length = None,
            _ => {}
        }
    }
    Ok(answer)
}

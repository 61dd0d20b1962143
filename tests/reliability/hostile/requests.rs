//! Requests of no sense, clients that are slow or say nothing, and far too many of them.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use model::engine_api::ProblemKind;
use serde_json::{Value, json};

use super::{begin, check_whole};
use crate::actions::name_of;
use crate::engine::{Answer, receive};
use crate::world::World;

/// For one answer of an engine under attack, on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Clients that say nothing: within what the engine serves at once.
const SILENT: usize = 200;

/// Clients in all: some more than it serves at once.
const CROWD: usize = 520;

fn connect(world: &World) -> Result<UnixStream> {
    let stream = UnixStream::connect(world.data().join("engine.sock"))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    Ok(stream)
}

/// Sends bytes, says that there are no more, and reads the status of the answer; none when the connection ends without
/// one: whoever says no more while an answer is made has gone, for all that the engine knows.
fn status_of(world: &World, bytes: &[u8]) -> Result<Option<u16>> {
    let stream = send(world, bytes)?;
    let _ = stream.shutdown(std::net::Shutdown::Write);
    read_status(stream)
}

fn send(world: &World, bytes: &[u8]) -> Result<UnixStream> {
    let mut stream = connect(world)?;
    // An engine that has heard enough closes before the last byte.
    let _ = stream.write_all(bytes);
    Ok(stream)
}

fn read_status(stream: UnixStream) -> Result<Option<u16>> {
    match receive(stream) {
        Ok((status, _)) => Ok(Some(status)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            anyhow::bail!("no answer within {ANSWER_MAX:?}")
        }
        Err(_) => Ok(None),
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/branches HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Bytes that are no request.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let long = "a".repeat(200_000);
    let many: String = (0..5000).map(|n| format!("x-{n}: y\r\n")).collect();
    let chunk = "POST /v1/branches HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n";
    let lengths = |length: &str| {
        format!(
            "POST /v1/branches HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{}}"
        )
    };
    vec![
        ("zeros", vec![0; 4096]),
        ("noise", (0..=255).cycle().take(8192).collect()),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (
            "another version",
            b"GET /v1/engine HTTP/9.9\r\n\r\n".to_vec(),
        ),
        (
            "a long path",
            format!("GET /{long} HTTP/1.0\r\n\r\n").into_bytes(),
        ),
        (
            "a long header",
            format!("GET / HTTP/1.0\r\nx: {long}\r\n\r\n").into_bytes(),
        ),
        (
            "many headers",
            format!("GET / HTTP/1.0\r\n{many}\r\n").into_bytes(),
        ),
        (
            "an absurd length",
            lengths("18446744073709551615").into_bytes(),
        ),
        (
            "a length too large for a number",
            lengths("99999999999999999999999").into_bytes(),
        ),
        ("a negative length", lengths("-1").into_bytes()),
        (
            "two lengths",
            lengths("2\r\nContent-Length: 3").into_bytes(),
        ),
        ("an absurd chunk", chunk.as_bytes().to_vec()),
        ("a large body", post(&vec![b' '; 1 << 20])),
        ("depth", post("[".repeat(100_000).as_bytes())),
        ("no text", post(b"{\"id\":\"\xff\xfe\"}")),
        ("nothing", post(b"")),
        ("half a body", post(b"{\"id\":")),
    ]
}

/// Bodies that are JSON and no request.
fn senseless(url: &str) -> Vec<Value> {
    let with = |key: &str, value: Value| {
        let mut body = json!({
            "id": "senseless", "namespace": "default", "source": {"url": url},
            "copy": {"mode": "all"}, "ttl": 300,
        });
        body[key] = value;
        body
    };
    vec![
        json!(null),
        json!([]),
        with("id", json!("")),
        with("id", json!("a\u{0}b")),
        with("id", json!("x".repeat(10_000))),
        with("id", json!(7)),
        with("namespace", json!("../../etc")),
        with("ttl", json!(-1)),
        with("ttl", json!(1e300)),
        with("ttl", json!(u64::MAX)),
        with("max_age_seconds", json!(-1)),
        with("version", json!(999_999)),
        with("source", json!({"url": "not a URL"})),
        with("source", json!({"name": "nobody-named-this"})),
        with("source", json!({"url": url, "name": "both"})),
        with("copy", json!({"mode": "everything"})),
        with(
            "copy",
            json!({"mode": "all", "dump_args": ["--file=/etc/passwd"]}),
        ),
        with("copy", json!({"mode": "all", "dump_args": ["; rm -rf /"]})),
        with("unknown", json!(true)),
    ]
}

#[test]
fn requests_of_no_sense_are_refused_and_nothing_is_lost() -> Result<()> {
    let world = begin()?;
    for (name, bytes) in broken() {
        let status = status_of(&world, &bytes).with_context(|| name.to_owned())?;
        ensure!(
            status.is_none_or(|status| (400..500).contains(&status)),
            "{name}: {status:?}"
        );
    }
    for body in senseless(world.source_url()) {
        let answer: Answer<Value> = world.engine().request("POST", "/v1/branches", &body);
        let Answer::Refused(problem) = answer else {
            anyhow::bail!("{body}: {answer:?}");
        };
        ensure!((400..500).contains(&problem.status), "{body}: {problem:?}");
        ensure!(!problem.detail.is_empty(), "{body}: {problem:?}");
    }
    for path in [
        "/v1/branches/../../etc/passwd",
        "/v1/branches/%2e%2e%2f%2e%2e",
        "/v1/branches/pg-0123456789abcdef",
        "/v1/branches/%00",
        "/v1/branches?namespace=..%2f",
        "/v1/sources/%ff",
        "/v2/branches",
        "/",
    ] {
        let asked = send(&world, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let status = read_status(asked)?;
        ensure!(
            status.is_some_and(|status| (400..500).contains(&status)),
            "{path}: {status:?}"
        );
    }
    check_whole(&world)?;
    let branches = world.engine().branches().given().context("a list")?;
    ensure!(branches.len() == 1, "{branches:?}");
    Ok(())
}

#[test]
fn absurd_sessions_are_refused_and_the_journal_stays_small() -> Result<()> {
    let world = begin()?;
    let long = "x".repeat(100_000);
    let joins = [
        ("session", json!({"owner": long, "pid": 1, "program": "p"})),
        ("session", json!({"owner": "o", "pid": 1, "program": long})),
        (
            &long[..5000],
            json!({"owner": "o", "pid": 1, "program": "p"}),
        ),
    ];
    for (id, mut join) in joins {
        join["branches"] = json!([name_of(&world, super::SLOT)]);
        let answer: Answer<Value> =
            world
                .engine()
                .request("PUT", &format!("/v1/sessions/{id}"), &join);
        ensure!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    }
    check_whole(&world)
}

#[test]
fn clients_that_say_nothing_or_are_too_many_keep_nobody_out() -> Result<()> {
    let world = begin()?;
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut stream = connect(&world)?;
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /v1/eng")?,
            _ => stream.write_all(b"POST /v1/branches HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")?,
        }
        silent.push(stream);
    }
    check_whole(&world)?;
    while silent.len() < CROWD {
        // The socket's own queue is as long as the kernel has it; what waits there is nobody's yet.
        silent.push(connect(&world)?);
    }
    let answer = world.engine().view();
    let is_told = matches!(&answer, Answer::Refused(problem)
        if problem.kind == ProblemKind::LimitPassed && problem.hint.is_some());
    ensure!(is_told, "one too many was told {answer:?}");
    drop(silent);
    // It learns of each one's end by itself.
    fixtures::eventually("places for others again", ANSWER_MAX, || {
        Ok(matches!(world.engine().view(), Answer::Given(_)).then_some(()))
    })?;
    check_whole(&world)
}

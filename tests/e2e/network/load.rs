//! Many connections through one session and through a target's relay, and ends by violence under load.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, eventually, http};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::{Session, is_not_possible, network_file, run};
use crate::story::{LIMIT, NAMESPACE, Story, TARGET, free_port};

/// What nothing hangs for longer than, whoever is killed.
const HANG_MAX: Duration = Duration::from_secs(5);

/// How often somebody is killed, and after how many answers of the session's at most.
const KILLS: usize = 8;
const KILL_WITHIN: u32 = 400;

/// Answers that the target is waited for: more than there are askers.
const SERVED: u32 = 9;

/// Descriptors and memory that ten thousand connections, ten at a time, may leave a session with.
const SESSION_DESCRIPTORS_MAX: usize = 100;
const SESSION_KIB_MAX: u64 = 64 * 1024;

/// Memory by which they may leave an agent larger.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

/// The same of a target's relay, whose allocator keeps more: it stands still at some 50 MiB from 60,000 connections on.
const RELAY_GROWTH_KIB_MAX: u64 = 64 * 1024;

/// Memory that an agent or a session may have grown to, however many streams stand: a hundred times 256 KiB in each
/// direction, and the program.
const RESIDENT_KIB_MAX: u64 = 200 * 1024;

/// Connections that may wait for the echo: where its queue is full, the kernel itself resets some.
const ECHO_BACKLOG: i32 = 1024;

/// Gives back what it gets. Lives as long as the test's process.
fn echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Again, with another length (listen(2)).
    rustix::net::listen(&listener, ECHO_BACKLOG)?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || -> io::Result<()> {
                let (mut reader, mut writer) = (client.try_clone()?, client);
                io::copy(&mut reader, &mut writer)?;
                writer.shutdown(std::net::Shutdown::Write)
            });
        }
    });
    Ok(address)
}

/// The one process of a story whose command line has these words.
fn process(story: &Story, words: &str) -> Result<i32> {
    let has_words = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.replace('\0', " ").contains(words)
    };
    let found: Vec<i32> = story
        .env
        .processes()
        .into_iter()
        .filter(has_words)
        .collect();
    match found[..] {
        [pid] => Ok(pid),
        _ => anyhow::bail!("{} processes have {words:?}: {found:?}", found.len()),
    }
}

fn resident_kib(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.context("a process has memory")?.trim();
    Ok(number.trim_end_matches(" kB").parse()?)
}

fn descriptors(pid: i32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Stalls one connection, which nobody reads, then has 200 others echo at once; says so, and waits to be told to end.
const MANY: &str = r#"
import signal, socket, sys, threading
where = (sys.argv[1], int(sys.argv[2]))
stalled = socket.create_connection(where)
stalled.settimeout(2)
try:
    while True: stalled.send(b'x' * 65536)
except TimeoutError: pass
sent, failures = b'y' * 100_000, []
def one():
    try:
        s = socket.create_connection(where, timeout=60)
        threading.Thread(target=lambda: (s.sendall(sent), s.shutdown(socket.SHUT_WR))).start()
        got = b''
        while data := s.recv(65536): got += data
        assert got == sent, len(got)
    except Exception as error: failures.append(repr(error))
threads = [threading.Thread(target=one) for _ in range(200)]
for t in threads: t.start()
for t in threads: t.join()
print('done', len(failures), failures[:3], flush=True)
signal.pause()
"#;

#[test]
fn two_hundred_connections_of_a_session_pass_one_that_stalls() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let address = echo()?;
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let file = network_file(&story, &json!({"incoming": "off"}))?;
    let command = story.exec(&file, &["python3", "-c", MANY, &ip, &port]);
    let mut session = story.env.start(command)?;
    session.wait_for(LIMIT, |stdout, _| stdout.contains("done"))?;
    let said = session.stdout()?;
    ensure!(said.starts_with("done 0 "), "{said}");
    for pid in [process(&story, "agent run")?, i32::try_from(session.id())?] {
        let resident = resident_kib(pid)?;
        ensure!(resident < RESIDENT_KIB_MAX, "{pid} has {resident} KiB");
    }
    session.signal(Signal::TERM)?;
    let code = 128 + Signal::TERM.as_raw();
    drop(session.finish(LIMIT)?.exit_code(code)?);
    story.end()
}

/// Connects again and again, ten at a time, and says whether each had its answer.
const OVER_AND_OVER: &str = r#"
import socket, sys
from concurrent.futures import ThreadPoolExecutor
where, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
def one(n):
    with socket.create_connection(where, timeout=60) as s:
        s.sendall(b'%d' % n); s.shutdown(socket.SHUT_WR)
        got = b''
        while data := s.recv(100): got += data
        return got == b'%d' % n
with ThreadPoolExecutor(10) as pool:
    print('done', sum(pool.map(one, range(count))), flush=True)
"#;

/// Connections of each kind.
const COUNT: &str = "10000";

#[test]
fn ten_thousand_connections_of_a_session_leave_no_descriptor_and_no_memory() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let address = echo()?;
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let file = network_file(&story, &json!({"incoming": "off"}))?;
    // The first connection of an agent's life opens what stays open.
    let once = ["python3", "-c", OVER_AND_OVER, &ip, &port, "1"];
    run(&story, &file, &once)?.outcome.success()?;
    let agent = process(&story, "agent run")?;
    let before = (descriptors(agent)?, resident_kib(agent)?);
    let stays = format!("{OVER_AND_OVER}\nimport signal; signal.pause()");
    let report = story.env.home().join("report.json");
    let mut command = story.env.command(["exec", "-f"]);
    command.arg(&file).arg("--report").arg(&report);
    command.args(["--", "python3", "-c", &stays, &ip, &port, COUNT]);
    let mut session = story.env.start(command)?;
    session.wait_for(LIMIT, |stdout, _| stdout.contains("done"))?;
    assert_eq!(session.stdout()?.trim(), format!("done {COUNT}"));
    let supervisor = i32::try_from(session.id())?;
    eventually("the session's few descriptors", LIMIT, || {
        Ok((descriptors(supervisor)? <= SESSION_DESCRIPTORS_MAX).then_some(()))
    })?;
    let resident = resident_kib(supervisor)?;
    ensure!(
        resident <= SESSION_KIB_MAX,
        "the session has {resident} KiB"
    );
    session.signal(Signal::TERM)?;
    let code = 128 + Signal::TERM.as_raw();
    let outcome = session.finish(LIMIT)?.exit_code(code)?;
    let report = serde_json::from_slice(&fs::read(report)?)?;
    let reached = Session { outcome, report }.reached(&address.to_string());
    assert_eq!(reached, (10_000, 10_000));
    eventually("the agent's descriptors of before", LIMIT, || {
        Ok((descriptors(agent)? <= before.0).then_some(()))
    })?;
    let grown = resident_kib(agent)?.saturating_sub(before.1);
    ensure!(
        grown <= GROWTH_KIB_MAX,
        "the agent has grown by {grown} KiB"
    );
    story.end()
}

/// Echoes on port 8082; told to dial, it makes so many connections out, as [`OVER_AND_OVER`] does.
const BUSY_TARGET: &str = r#"
import socketserver, subprocess, sys, threading
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        got = b''
        while data := self.request.recv(100): got += data
        if got == b'dial': got = subprocess.check_output(['python3', '-c'] + sys.argv[1:])
        self.request.sendall(got)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 1000
    allow_reuse_address = daemon_threads = True
Server(('127.0.0.1', 8082), Echo).serve_forever()
"#;

#[test]
fn ten_thousand_connections_each_way_leave_a_targets_relay_as_it_was() -> Result<()> {
    let story = Story::begin()?;
    let (address, published) = (echo()?, free_port()?);
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mapping = format!("{published}:8082");
    let start = ["local", "run", TARGET, "-n", NAMESPACE, "--network", "own"];
    let program = ["--publish", &mapping, "--", "python3", "-c", BUSY_TARGET];
    let dial = [OVER_AND_OVER, &ip, &port, COUNT];
    let started = story.bough(&[&start[..], &program, &dial].concat())?;
    if is_not_possible(&started)? {
        return story.end();
    }
    started.success()?;
    let ask = |word: &str| -> io::Result<String> {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, published))?;
        client.write_all(word.as_bytes())?;
        client.shutdown(std::net::Shutdown::Write)?;
        io::read_to_string(&client)
    };
    eventually("a target that echoes", LIMIT, || {
        Ok(ask("hello").is_ok_and(|said| said == "hello").then_some(()))
    })?;
    let relay = process(&story, "agent relay")?;
    let before = (descriptors(relay)?, resident_kib(relay)?);
    let here = published.to_string();
    let inward = ["-c", OVER_AND_OVER, "127.0.0.1", &here, COUNT];
    let inward = std::process::Command::new("python3")
        .args(inward)
        .output()?;
    assert_eq!(
        String::from_utf8_lossy(&inward.stdout).trim(),
        format!("done {COUNT}")
    );
    assert_eq!(ask("dial")?.trim(), format!("done {COUNT}"));
    eventually("the relay's descriptors of before", LIMIT, || {
        Ok((descriptors(relay)? <= before.0).then_some(()))
    })?;
    let grown = resident_kib(relay)?.saturating_sub(before.1);
    ensure!(
        grown <= RELAY_GROWTH_KIB_MAX,
        "the relay has grown by {grown} KiB"
    );
    story.end()
}

/// A server on the service's port that says who it is.
const THE_SESSION: &str = r#"
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '7')
        self.end_headers()
        self.wfile.write(b'session')
    def log_message(self, *args): pass
ThreadingHTTPServer(('127.0.0.1', 8082), Handler).serve_forever()
"#;

/// Asks a port without pause, until it is told to end.
struct Askers {
    is_over: Arc<AtomicBool>,
    /// Answers of the session's, and of the target's.
    answers: Arc<[AtomicU32; 2]>,
    threads: Vec<thread::JoinHandle<Result<()>>>,
}

impl Askers {
    fn begin(port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let answers: Arc<[AtomicU32; 2]> = Arc::default();
        let begin = |_| {
            let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    if let Some(body) = ask(port)? {
                        let whose = usize::from(body != "session");
                        answers[whose].fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            })
        };
        Self {
            threads: (0..8).map(begin).collect(),
            is_over,
            answers,
        }
    }

    /// Waits for so many more answers of the session's (0) or the target's (1).
    fn wait_for(&self, whose: usize, more: u32, limit: Duration) -> Result<()> {
        let before = self.answers[whose].load(Ordering::Relaxed);
        let what = ["an answer of the session's", "an answer of the target's"][whose];
        eventually(what, limit, || {
            let now = self.answers[whose].load(Ordering::Relaxed);
            Ok((now >= before + more).then_some(()))
        })
    }

    fn end(self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let ended = thread.join();
            ended.map_err(|_| anyhow::anyhow!("an asker panicked"))??;
        }
        Ok(())
    }
}

/// One request's body; none where the connection was cut, as those of somebody who is killed are. What hangs is an
/// error.
fn ask(port: u16) -> Result<Option<String>> {
    let asked = || -> io::Result<String> {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let mut client = TcpStream::connect_timeout(&address, HANG_MAX)?;
        client.set_read_timeout(Some(HANG_MAX))?;
        let request = "GET /healthz HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
        client.write_all(request.as_bytes())?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match asked() {
        Ok(answer) => {
            let body = answer
                .split_once("\r\n\r\n")
                .map(|(_, body)| body.to_owned());
            Ok(body.filter(|_| {
                answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200")
            }))
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(error).with_context(|| format!("a request hangs for longer than {HANG_MAX:?}"))
        }
        Err(_) => Ok(None),
    }
}

/// Where chance begins: as `BOUGH_TEST_SEED` says, else anywhere.
fn seed() -> Result<u64> {
    let seed = match std::env::var("BOUGH_TEST_SEED") {
        Ok(seed) => seed.parse().context("BOUGH_TEST_SEED is a number")?,
        Err(_) => rand::random(),
    };
    Ok(seed)
}

#[test]
fn whoever_is_killed_at_random_under_load_nothing_hangs_and_the_target_serves_on() -> Result<()> {
    let seed = seed()?;
    // So that a run can be had again.
    println!("BOUGH_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let story = Story::begin()?;
    let published = free_port()?;
    let mapping = format!("{published}:8082");
    let start = ["local", "run", TARGET, "-n", NAMESPACE, "--network", "own"];
    let program = ["--publish", &mapping, "--", "inventory", "--port", "8082"];
    let mut command = story.env.command([&start[..], &program].concat());
    command.env("DATABASE_URL", story.source_url());
    let started = story.env.start(command)?.finish(LIMIT)?;
    if is_not_possible(&started)? {
        return story.end();
    }
    started.success()?;
    let healthy = || http::get(published, "/healthz").is_ok_and(|answer| answer.status == 200);
    eventually("a healthy target", LIMIT, || Ok(healthy().then_some(())))?;
    let file = network_file(&story, &json!({"incoming": "steal"}))?;
    let askers = Askers::begin(published);
    for _ in 0..KILLS {
        let victim = if random.random() { "agent" } else { "session" };
        let session = story.exec(&file, &["python3", "-c", THE_SESSION]);
        let mut session = story.env.start(session)?;
        askers.wait_for(0, random.random_range(1..=KILL_WITHIN), LIMIT)?;
        if victim == "agent" {
            let agent = process(&story, "agent run")?;
            let agent = rustix::process::Pid::from_raw(agent).context("a pid")?;
            rustix::process::kill_process(agent, Signal::KILL)?;
        } else {
            session.signal(Signal::KILL)?;
        }
        askers.wait_for(1, SERVED, HANG_MAX)?;
        let ended = session.finish(HANG_MAX)?;
        println!("{victim} killed: the target served, the session ended");
        if victim == "agent" {
            // The session says what it lost, and ends.
            let ended = ended.exit_code(3)?;
            ensure!(
                ended.stderr.contains("the target's network is lost"),
                "{}",
                ended.stderr
            );
        }
    }
    askers.end()?;
    story.end()
}

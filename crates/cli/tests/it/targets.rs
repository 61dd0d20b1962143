//! Networks of targets: what leads in, what leads out, and that nothing of it depends on the helpers' lives.
//!
//! As root every story is told twice, as root and as an unprivileged account in user namespaces. Where the machine allows
//! no namespaces, what was not run is said.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fixtures::{Outcome, ServerAccount, TestEnv, eventually};

use crate::harness::{LONG, environment};

/// Answers every request with its name and the path.
const SERVER: &str = r#"
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f'{sys.argv[1]} {self.path}\n'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
Server(('0.0.0.0', int(sys.argv[2])), Handler).serve_forever()
"#;

/// Asks what a target can ask: its own loopback, another target by every name, the machine's loopback by TCP and UDP,
/// and ports where nobody is, blocking and not.
const QUESTIONS: &str = r#"
import errno, select, socket, sys, urllib.request
machine, datagrams, closed = map(int, sys.argv[1:])
get = lambda url: urllib.request.urlopen(url, timeout=20).read().decode().strip()
print(get('http://127.0.0.1:8082/own'))
for name in ('cart', 'cart.shop', 'cart.shop.svc.cluster.local'):
    print(get(f'http://{name}:9090/{name}'))
print(get(f'http://127.0.0.1:{machine}/machine'))
try:
    socket.create_connection(('127.0.0.1', closed), timeout=20)
except ConnectionRefusedError:
    print('refused')
late = socket.socket()
late.setblocking(False)
assert late.connect_ex(('127.0.0.1', closed)) == errno.EINPROGRESS
select.select([], [late], [], 20)
print(errno.errorcode[late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
for connected in (False, True):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(20)
    if connected:
        client.connect(('127.0.0.1', datagrams))
        client.send(b'ping')
    else:
        client.sendto(b'ping', ('127.0.0.1', datagrams))
    print(client.recvfrom(100) == (b'pong', ('127.0.0.1', datagrams)))
"#;

/// What it prints.
const ANSWERS: &str = "\
inventory /own
cart /cart
cart /cart.shop
cart /cart.shop.svc.cluster.local
machine /machine
refused
ECONNREFUSED
True
True
";

/// One account's machine.
struct Ground {
    env: TestEnv,
    account: ServerAccount,
}

impl Ground {
    /// One for each account that there is; fewer, said loudly, where namespaces are forbidden.
    fn all() -> Vec<Self> {
        let mut accounts = vec![ServerAccount::Ourselves];
        let other = ServerAccount::detect().unwrap();
        if other != ServerAccount::Ourselves {
            accounts.push(other);
        }
        let grounds = accounts.into_iter().map(|account| {
            let env = environment();
            // Below a directory of root's alone nobody else finds anything.
            fs::set_permissions(env.root(), fs::Permissions::from_mode(0o755)).unwrap();
            let data = env.data_directory();
            fs::create_dir_all(&data).unwrap();
            account.own(&data).unwrap();
            Self { env, account }
        });
        grounds.filter(Self::has_namespaces).collect()
    }

    fn has_namespaces(&self) -> bool {
        let tried = self.bough(&[
            "local",
            "run",
            "pod/probe",
            "--network",
            "own",
            "--",
            "true",
        ]);
        if tried.stderr.contains("a network of its own") {
            eprintln!("NOT RUN as {:?}: {}", self.account, tried.stderr);
            return false;
        }
        tried.success().unwrap();
        true
    }

    fn bough(&self, words: &[&str]) -> Outcome {
        self.start(words).finish(LONG).unwrap()
    }

    fn start(&self, words: &[&str]) -> fixtures::Program {
        let mut command = self.env.command(words);
        command.current_dir("/");
        self.account.apply(&mut command);
        self.env.start(command).unwrap()
    }

    /// Forwards ports of the target `inventory`, once so many lines were told of them.
    fn forward(&self, mappings: &[&str], lines: usize) -> fixtures::Program {
        let words = ["port-forward", "-t", "deployment/inventory", "-n", "shop"];
        let mut forward = self.start(&[&words[..], mappings].concat());
        forward
            .wait_for(LONG, |_, stderr| stderr.lines().count() == lines)
            .unwrap();
        forward
    }

    /// Starts a server as the target `name` of the namespace `shop`.
    fn run(&self, name: &str, flags: &[&str], port: u16) {
        let target = format!("deployment/{name}");
        let port = port.to_string();
        let start = ["local", "run", &target, "-n", "shop", "--network", "own"];
        let program = ["--", "python3", "-c", SERVER, name, &port];
        self.bough(&[&start, flags, &program].concat())
            .success()
            .unwrap();
    }

    /// Runs a Python program in the place of the target `inventory`.
    fn ask_inside(&self, script: &str, arguments: &[String]) -> Outcome {
        let listed = self.bough(&["local", "ls", "-n", "shop", "-o", "json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed.success().unwrap()).unwrap();
        let found = listed.as_array().unwrap().iter();
        let pid = found
            .filter(|target| target["name"] == "inventory")
            .find_map(|target| target["pid"].as_i64())
            .unwrap();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--net", "--mount"]);
        if self.account != ServerAccount::Ourselves || !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
            .args(["--", "python3", "-c", script])
            .args(arguments);
        self.account.apply(&mut command);
        self.env.start(command).unwrap().finish(LONG).unwrap()
    }

    /// Kills every helper of this name, as `kill -9` does.
    fn kill(&self, helper: &str) {
        let data = self.env.data_directory();
        let data = data.to_str().unwrap();
        let mut killed = 0;
        for process in self.env.processes() {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&format!(" agent {helper} ")) && line.contains(data) {
                let pid = process.to_string();
                assert!(
                    Command::new("kill")
                        .args(["-9", &pid])
                        .status()
                        .unwrap()
                        .success()
                );
                killed += 1;
            }
        }
        assert!(killed > 0, "no helper {helper} runs");
    }

    fn end(self) {
        self.bough(&["local", "stop", "--all", "-n", "shop"])
            .success()
            .unwrap();
        let none_left = || Ok(self.env.processes().is_empty().then_some(()));
        eventually("the end of every helper", LONG, none_left).unwrap();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn get(port: u16) -> Option<String> {
    let answer = fixtures::http::get(port, "/published").ok()?;
    Some(answer.body)
}

#[test]
fn a_target_reaches_itself_others_and_the_machine_and_is_reached_where_it_is_published() {
    for ground in Ground::all() {
        let published = free_port();
        let mapping = format!("{published}:8082");
        ground.run("inventory", &["--publish", &mapping], 8082);
        // It starts later, and its name is known all the same.
        let elsewhere = format!("{}:9090", free_port());
        ground.run("cart", &["--publish", &elsewhere], 9090);
        assert_eq!(get(published).as_deref(), Some("inventory /published\n"));
        let listed = ground.bough(&["local", "ls"]).success().unwrap();
        assert!(listed.contains(&format!(" {published}:8082 ")), "{listed}");

        let machine = free_port();
        let mut server = Command::new("python3");
        server.args(["-c", SERVER, "machine", &machine.to_string()]);
        let server = ground.env.start(server).unwrap();
        eventually("the machine's server", LONG, || Ok(get(machine))).unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let echo = datagrams.local_addr().unwrap().port();
        let answering = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut buffer = [0; 16];
                let (_, from) = datagrams.recv_from(&mut buffer).unwrap();
                datagrams.send_to(b"pong", from).unwrap();
            }
        });
        let closed = free_port();
        let arguments = [machine, echo, closed].map(|port| port.to_string());
        let asked = ground.ask_inside(QUESTIONS, &arguments);
        assert_eq!(asked.success().unwrap(), ANSWERS, "{:?}", ground.account);
        answering.join().unwrap();
        drop(server);
        ground.end();
    }
}

#[test]
fn a_target_is_served_again_when_its_helpers_were_killed() {
    for ground in Ground::all() {
        let published = free_port();
        let mapping = format!("{published}:8082");
        ground.run("inventory", &["--publish", &mapping], 8082);
        for helper in ["run", "relay"] {
            ground.kill(helper);
            eventually("an answer", LONG, || Ok(get(published))).unwrap();
            let own = "import urllib.request as u; print(u.urlopen('http://inventory:8082/', timeout=20).status)";
            let asked = ground.ask_inside(own, &[]);
            assert_eq!(asked.success().unwrap(), "200\n");
        }
        let targets = ground.env.data_directory().join("targets");
        eventually("a new agent", LONG, || Ok(agent_answers(&targets))).unwrap();
        ground.end();
    }
}

fn agent_answers(targets: &Path) -> Option<()> {
    let folders = fs::read_dir(targets).ok()?.flatten();
    folders
        .map(|folder| folder.path().join("agent.sock"))
        .find_map(|socket| std::os::unix::net::UnixStream::connect(socket).ok())
        .map(drop)
}

#[test]
fn ports_lead_through_a_targets_network_and_to_this_machine() {
    for ground in Ground::all() {
        let (published, out, here) = (free_port(), free_port(), free_port());
        let mapping = format!("{published}:8082");
        ground.run("inventory", &["--publish", &mapping], 8082);
        let mut server = Command::new("python3");
        server.args(["-c", SERVER, "here", &here.to_string()]);
        let server = ground.env.start(server).unwrap();
        eventually("the server here", LONG, || Ok(get(here))).unwrap();

        let lead_out = format!("{out}:inventory.shop:8082");
        let lead_here = format!("8082:{here}");
        let mut forward = ground.forward(&["-L", &lead_out, "-R", &lead_here], 2);
        // Taken, the port answers from here, whoever asks: from this machine, and by name through the target.
        assert_eq!(get(published).as_deref(), Some("here /published\n"));
        assert_eq!(get(out).as_deref(), Some("here /published\n"));
        forward.signal(fixtures::Signal::INT).unwrap();
        let ended = forward.finish(LONG).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert_eq!(get(published).as_deref(), Some("inventory /published\n"));
        drop(server);
        ground.end();
    }
}

#[test]
fn connections_that_ports_led_out_end_with_the_command() {
    for ground in Ground::all() {
        ground.run(
            "inventory",
            &["--publish", &format!("{}:8082", free_port())],
            8082,
        );
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let out = free_port();
        let lead_out = format!("{out}:127.0.0.1:{}", server.local_addr().unwrap().port());
        let mut forward = ground.forward(&["-L", &lead_out], 1);
        let mut client = std::net::TcpStream::connect(("127.0.0.1", out)).unwrap();
        client.write_all(b"x").unwrap();
        let (mut served, _) = server.accept().unwrap();
        served.set_read_timeout(Some(LONG)).unwrap();
        served.read_exact(&mut [0]).unwrap();
        forward.signal(fixtures::Signal::INT).unwrap();
        assert_eq!(forward.finish(LONG).unwrap().status.code(), Some(0));
        // Nothing of the server's waits for a client that is gone.
        let end = served.read(&mut [0]).map_err(|error| error.kind());
        assert!(
            matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
            "{end:?}"
        );
        ground.end();
    }
}

#[test]
fn a_copied_request_is_seen_here_and_answered_by_the_target() {
    for ground in Ground::all() {
        let (published, here) = (free_port(), free_port());
        let mapping = format!("{published}:8082");
        ground.run("inventory", &["--publish", &mapping], 8082);
        // Says each request that it sees.
        let seeing = SERVER.replace("pass", "print(self.path, flush=True)");
        let mut server = Command::new("python3");
        server.args(["-c", &seeing, "here", &here.to_string()]);
        let mut server = ground.env.start(server).unwrap();
        eventually("the server here", LONG, || Ok(get(here))).unwrap();

        let lead_here = format!("8082:{here}");
        let forward = ground.forward(&["-R", &lead_here, "--copy"], 1);
        let answer = fixtures::http::get(published, "/copied").unwrap();
        assert_eq!(answer.body, "inventory /copied\n");
        server
            .wait_for(LONG, |stdout, _| stdout.contains("/copied"))
            .unwrap();
        // The agent is killed, and the target serves.
        ground.kill("run");
        let again = || Ok(get(published).filter(|body| body == "inventory /published\n"));
        eventually("the target's own answer", LONG, again).unwrap();
        drop((server, forward));
        ground.end();
    }
}

#[test]
fn what_cannot_be_published_is_told_and_nothing_runs() {
    let env = environment();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let line = format!("local run pod/a --network machine --publish {port}:8082 -- sleep 600");
    let refused = crate::harness::run(&env, &line);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        refused
            .stderr
            .contains("shares the machine's network: it was asked for"),
        "{}",
        refused.stderr
    );
    for ground in Ground::all() {
        let mapping = format!("{port}:8082");
        let words = [
            "local",
            "run",
            "pod/a",
            "--publish",
            &mapping,
            "--",
            "sleep",
            "600",
        ];
        let refused = ground.bough(&words);
        assert_eq!(refused.status.code(), Some(3));
        assert!(
            refused.stderr.contains("Address already in use"),
            "{}",
            refused.stderr
        );
        let listed = ground
            .bough(&["local", "ls", "-o", "json"])
            .success()
            .unwrap();
        assert!(!listed.contains("pod/a\""), "{listed}");
    }
    for wrong in ["8082", "0:1", "1:0", "x:1", "127.0.0.1:1"] {
        let line = format!("local run pod/a --publish {wrong} -- true");
        assert_eq!(
            crate::harness::run(&env, &line).status.code(),
            Some(2),
            "{wrong}"
        );
    }
}

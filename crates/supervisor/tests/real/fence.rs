//! The fence around real programs: who is led where, who is refused, and what is told of it.
//!
//! The servers are of this test's own: each says its name, and which database it was asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{self as unix, UnixListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::driver::{Running, Stray, supervise, wait_for_state, wait_until_ended};

/// The program of this package that is static and dials by itself.
pub(crate) const DRIVER: &str = env!("CARGO_BIN_EXE_supervise");

/// Says `NAME:DATABASE` to whoever begins a session, and refuses TLS. Lives as long as the test's process.
pub(crate) fn server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || converse(client.unwrap(), name));
        }
    });
    address
}

/// The same on a Unix socket.
pub(crate) fn unix_server(path: &Path, name: &'static str) {
    serve_unix(UnixListener::bind(path).unwrap(), name);
}

/// The same at an abstract name.
pub(crate) fn abstract_server(place: &str, name: &'static str) {
    let address = unix::SocketAddr::from_abstract_name(place).unwrap();
    serve_unix(UnixListener::bind_addr(&address).unwrap(), name);
}

fn serve_unix(listener: UnixListener, name: &'static str) {
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || converse(client.unwrap(), name));
        }
    });
}

fn converse(mut client: impl Read + Write, name: &str) {
    loop {
        let mut header = [0; 8];
        if client.read_exact(&mut header).is_err() {
            return;
        }
        if header[4..] == [0x04, 0xd2, 0x16, 0x2f] {
            client.write_all(b"N").unwrap();
            continue;
        }
        let length = u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
        let mut parameters = vec![0; length - 8];
        client.read_exact(&mut parameters).unwrap();
        let text = String::from_utf8(parameters).unwrap();
        let mut words = text.split('\0');
        let database = words
            .find(|word| *word == "database")
            .and_then(|_| words.next());
        let body = format!("{name}:{}", database.unwrap_or("?"));
        // ReadyForQuery, of a length that no real one has.
        let length = u32::try_from(body.len() + 4).unwrap();
        client
            .write_all(&[&b"Z"[..], &length.to_be_bytes(), body.as_bytes()].concat())
            .unwrap();
        return;
    }
}

/// A source, a branch's door, and the rule that joins them for the database `shop`.
pub(crate) struct Stage {
    pub(crate) source: SocketAddr,
    pub(crate) rule: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let (source, door) = (server("source"), server("branch"));
        let rule = format!("{source}/shop={door}");
        Self { source, rule }
    }

    pub(crate) fn run(&self, options: &[&str], program: &[&str]) -> Told {
        let mut command = supervise(["--fence", &self.rule]);
        command.args(options).args(program);
        Told::by(&mut command)
    }

    fn dial(&self, options: &[&str], address: &str, database: &str) -> Told {
        self.run(options, &[DRIVER, "--dial", address, database])
    }
}

/// What a fenced run said.
pub(crate) struct Told {
    pub(crate) out: String,
    err: String,
    code: Option<i32>,
    report: String,
}

impl Told {
    pub(crate) fn by(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.stdin(Stdio::null()).output().unwrap();
        let err = String::from_utf8(stderr).unwrap();
        let last = err.lines().last().unwrap_or_default();
        Self {
            out: String::from_utf8_lossy(&stdout).into_owned(),
            report: last.to_owned(),
            code: status.code(),
            err,
        }
    }

    pub(crate) fn says(&self, words: &str) {
        assert!(
            self.out.contains(words),
            "{words:?} is not in {:?}; {}",
            self.out,
            self.err
        );
    }

    pub(crate) fn reports(&self, words: &str) {
        assert!(
            self.report.contains(words),
            "{words:?} is not in {}",
            self.err
        );
    }
}

#[test]
fn a_static_program_is_led_to_the_branch() {
    let stage = Stage::new();
    let told = stage.dial(&[], &stage.source.to_string(), "shop");
    told.says("branch:shop_branch");
    told.reports("redirected: 1");
    assert_eq!(told.code, Some(0));
}

#[test]
fn another_database_goes_where_it_was_going() {
    let stage = Stage::new();
    let told = stage.dial(&[], &stage.source.to_string(), "stock");
    told.says("source:stock");
    told.reports("redirected: 0");
    told.reports(r#"database: "stock", connections: 1"#);
}

#[test]
fn a_name_that_the_server_cuts_is_the_name_that_is_left() {
    let (source, door) = (server("source"), server("branch"));
    let name = "d".repeat(63);
    let stage = Stage {
        source,
        rule: format!("{source}/{name}={door}"),
    };
    for longer in ["_test", "\u{20ac}"] {
        let told = stage.dial(&[], &source.to_string(), &format!("{name}{longer}"));
        told.says(&format!("branch:{name}_branch"));
        told.reports("redirected: 1");
    }
    let other = "d".repeat(62);
    stage
        .dial(&[], &source.to_string(), &other)
        .says(&format!("source:{other}"));
}

#[test]
fn every_way_of_writing_the_address_is_the_source() {
    let stage = Stage::new();
    let port = stage.source.port();
    for host in [
        "127.0.0.1",
        "0.0.0.0",
        "127.0.0.7",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
    ] {
        let told = stage.dial(&[], &format!("{host}:{port}"), "shop");
        told.says("branch:shop_branch");
    }
}

#[test]
fn a_door_is_counted_and_left_alone() {
    let stage = Stage::new();
    let door = stage.rule.split_once('=').unwrap().1.to_owned();
    let told = stage.dial(&[], &door, "anything");
    told.says("branch:anything");
    told.reports("direct: 1");
    told.reports("redirected: 0");
}

#[test]
fn other_destinations_are_counted_and_left_alone() {
    let stage = Stage::new();
    let other = server("other");
    let told = stage.dial(&[], &other.to_string(), "shop");
    told.says("other:shop");
    told.reports(&format!(
        "DestinationCount {{ address: \"{other}\", connections: 1, through_target: 0 }}"
    ));
    // Nobody listens there.
    let closed = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let told = stage.dial(&[], &closed.to_string(), "shop");
    told.says("errno 111");
}

#[test]
fn a_source_may_be_refused_or_allowed() {
    let stage = Stage::new();
    let source = stage.source.to_string();
    let refused = stage.dial(&["--refuse"], &source, "shop");
    refused.says("bough: branch shop stands in for database \"shop\"");
    refused.reports("refused: 1");
    stage
        .dial(&["--refuse"], &source, "stock")
        .says("source:stock");
    let allowed = stage.dial(&["--allow"], &source, "shop");
    allowed.says("source:shop");
    allowed.reports("allowed: 1");
}

#[test]
fn a_replication_that_would_read_branched_databases_is_refused() {
    let stage = Stage::new();
    let run = |options: &[&str], parameters: &str| {
        let script = format!(
            "import socket,struct\ns=socket.create_connection(('127.0.0.1',{}))\n\
             b=b'user\\0u\\0{parameters}\\0\\0'\n\
             s.sendall(struct.pack('!II',len(b)+8,3<<16)+b)\nprint(s.recv(999))",
            stage.source.port()
        );
        stage.run(options, &["/usr/bin/python3", "-c", &script])
    };
    let whole = run(&[], r"replication\0true");
    whole.says("a connection to replicate");
    whole.reports("(replication of the server)");
    // It takes BASE_BACKUP, whichever database it names.
    let other = run(&[], r"database\0stock\0replication\0database");
    other.says("a connection to replicate");
    other.reports("database: \"stock (replication)\", connections: 1");
    let branched = run(&[], r"database\0shop\0replication\0database");
    branched.says("branch:");
    branched.reports("redirected: 1");
    let allowed = run(&["--allow"], r"database\0stock\0replication\0database");
    allowed.says("source:stock");
}

#[test]
fn a_connect_that_does_not_wait_does_not_and_its_socket_stays_registered() {
    let stage = Stage::new();
    // The registration with epoll is made before connect, and must see it writable after.
    let script = r#"
import socket, select, struct, sys, errno
port = int(sys.argv[1])
poll = select.epoll()
s = socket.socket(); s.setblocking(False)
poll.register(s, select.EPOLLOUT | select.EPOLLIN)
assert s.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS
while not poll.poll(10)[0][1] & select.EPOLLOUT: pass
assert s.connect_ex(("127.0.0.1", port)) in (0, errno.EISCONN)
assert s.getpeername() == ("127.0.0.1", port), s.getpeername()
d = s.dup(); d.setblocking(True)
body = b"user\0u\0database\0shop\0\0"
d.sendall(struct.pack("!II", len(body) + 8, 3 << 16) + body)
print(d.recv(100))
"#;
    let port = stage.source.port().to_string();
    let told = stage.run(&[], &["/usr/bin/python3", "-c", script, &port]);
    told.says("branch:shop_branch");
}

#[test]
fn a_child_of_a_child_is_in_the_session_too() {
    let stage = Stage::new();
    let script = format!(
        "(setsid {DRIVER} --dial {} shop | cat) & wait",
        stage.source
    );
    stage
        .run(&[], &["sh", "-c", &script])
        .says("branch:shop_branch");
}

#[test]
fn what_would_pass_the_filter_is_not_there() {
    let stage = Stage::new();
    // io_uring_setup is 425 everywhere; prctl(PR_SET_DUMPABLE, 0) succeeds and changes nothing.
    let script = r#"
import ctypes, ctypes.util, errno, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(425, 1, ctypes.create_string_buffer(120)) == -1
assert ctypes.get_errno() == errno.ENOSYS
assert libc.prctl(4, 0, 0, 0, 0) == 0 and libc.prctl(3, 0, 0, 0, 0) == 1
s = socket.socket()
try:
    s.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", int(sys.argv[1])))
    print("went")
except OSError as error:
    print("errno", error.errno == errno.EOPNOTSUPP)
"#;
    let port = stage.source.port().to_string();
    let told = stage.run(&[], &["/usr/bin/python3", "-c", script, &port]);
    told.says("errno True");
}

#[test]
fn a_unix_socket_of_the_source_is_the_source() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!(".s.PGSQL.{}", stage.source.port()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut bytes = [0; 100];
            let read = client.read(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[8..read]).replace('\0', " ");
            let length = u32::try_from(text.len() + 4).unwrap();
            client
                .write_all(&[&b"Z"[..], &length.to_be_bytes(), text.as_bytes()].concat())
                .unwrap();
        }
    });
    let path = path.to_str().unwrap();
    stage.dial(&[], path, "shop").says("branch:shop_branch");
    let told = stage.dial(&[], path, "stock");
    told.says("database stock");
    told.reports(&format!("address: \"{path}\", database: \"stock\""));
}

#[test]
fn a_unix_socket_of_the_source_is_the_source_by_every_other_name() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!(".s.PGSQL.{}", stage.source.port()));
    unix_server(&path, "source");
    let other = dir.path().join(".s.PGSQL.1");
    unix_server(&other, "other");
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("lnk")).unwrap();
    std::os::unix::fs::symlink(&path, at("pg.sock")).unwrap();
    std::os::unix::fs::symlink(at("pg.sock"), at("lnk/.s.PGSQL.5432")).unwrap();
    std::fs::hard_link(&path, at("hard")).unwrap();
    std::fs::hard_link(&path, at("lnk/.s.PGSQL.7001")).unwrap();
    std::os::unix::fs::symlink(&other, at("other")).unwrap();
    for name in ["pg.sock", "lnk/.s.PGSQL.5432", "hard", "lnk/.s.PGSQL.7001"] {
        let place = at(name);
        let place = place.to_str().unwrap();
        let told = stage.dial(&[], place, "shop");
        told.says("branch:shop_branch");
        told.reports("redirected: 1");
        let told = stage.dial(&["--assert-isolated"], place, "stock");
        told.says("no branch stands in for database \"stock\"");
    }
    let told = stage.dial(&[], at("other").to_str().unwrap(), "shop");
    told.says("other:shop");
    told.reports("sockets_unseen: 1");
}

#[test]
fn a_unix_socket_of_somebody_elses_is_counted_and_under_assertion_looked_into() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.sock");
    unix_server(&path, "relay");
    let place = path.to_str().unwrap();
    let told = stage.dial(&[], place, "shop");
    told.says("relay:shop");
    told.reports(&format!(
        "sockets: [DestinationCount {{ address: \"{place}\", connections: 1, through_target: 0 }}]"
    ));
    told.reports("sockets_unseen: 1");
    let told = stage.dial(&["--assert-isolated"], place, "shop");
    told.says("no branch stands in for database \"shop\"");
    told.reports(&format!("address: \"{place}\", database: \"shop\""));
    // What is no PostgreSQL goes through; between the session's own programs, descriptors as well.
    let echo = dir.path().join("echo.sock");
    let listener = UnixListener::bind(&echo).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut other = client.try_clone().unwrap();
            let _gone = std::io::copy(&mut client, &mut other);
        }
    });
    let script = r#"
import array, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b"GET"); print(s.recv(3))
own = socket.socket(socket.AF_UNIX); own.bind(sys.argv[2]); own.listen()
c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[2]); a, _ = own.accept()
socket.send_fds(c, [b"x"], [0]); print("passed", len(socket.recv_fds(a, 1, 1)[1]))
"#;
    // By a folder that is a link, as /var/run is.
    std::os::unix::fs::symlink(dir.path(), dir.path().join("run")).unwrap();
    let (echo, own) = (echo.to_str().unwrap(), dir.path().join("run/own.sock"));
    let program = [
        "/usr/bin/python3",
        "-c",
        script,
        echo,
        own.to_str().unwrap(),
    ];
    for options in [&[][..], &["--assert-isolated"]] {
        let _fresh = std::fs::remove_file(&own);
        let told = stage.run(options, &program);
        told.says("b'GET'\npassed 1");
        told.reports(&format!(
            "sockets: [DestinationCount {{ address: \"{echo}\", connections: 1, through_target: 0 }}]"
        ));
    }
}

#[test]
fn a_connection_that_stood_before_the_session_is_no_way_past_the_fence() {
    let stage = Stage::new();
    let other = server("other");
    let run = |to: SocketAddr, options: &str| {
        let script = format!(
            "exec 7<>/dev/tcp/127.0.0.1/{}; exec {DRIVER} --fence '{}' {options} echo ran",
            to.port(),
            stage.rule
        );
        Told::by(Command::new("bash").args(["-c", &script]))
    };
    let refused = run(stage.source, "");
    assert_eq!((refused.code, refused.out.as_str()), (Some(4), ""));
    refused.reports(&format!(
        "Inherited {{ descriptor: 7, address: \"{}\" }}",
        stage.source
    ));
    let asserted = run(other, "--assert-isolated");
    assert_eq!((asserted.code, asserted.out.as_str()), (Some(4), ""));
    let told = run(other, "");
    told.says("ran");
    told.reports(&format!(
        "inherited: [InheritedSocket {{ descriptor: 7, address: \"{other}\" }}]"
    ));
    let clean = Told::by(supervise(["--fence", &stage.rule]).arg("true"));
    clean.reports("inherited: []");
}

#[test]
fn a_session_inside_a_session_is_refused_by_name() {
    let stage = Stage::new();
    let told = stage.run(&[], &[DRIVER, "--fence", &stage.rule, "true"]);
    assert_eq!(told.code, Some(4));
    assert!(told.err.contains("Install(Nested)"), "{}", told.err);
}

/// A TCP server that says a word to everybody first, and then everything back.
fn echo(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || {
                let mut client = client.unwrap();
                client.write_all(word.as_bytes()).unwrap();
                let mut other = client.try_clone().unwrap();
                let _gone = std::io::copy(&mut client, &mut other);
            });
        }
    });
    address
}

#[test]
fn under_assertion_no_start_up_reaches_what_is_no_branch() {
    let stage = Stage::new();
    let other = server("other");
    let options = ["--assert-isolated"];
    let told = stage.dial(&options, &other.to_string(), "shop");
    told.says("no branch stands in for database \"shop\"");
    told.reports(&format!(
        "address: \"{other}\", database: \"shop\", connections: 1"
    ));
    let told = stage.dial(&options, &stage.source.to_string(), "stock");
    told.says("no branch stands in for database \"stock\"");
    stage
        .dial(&options, &stage.source.to_string(), "shop")
        .says("branch:shop_branch");
}

#[test]
fn under_assertion_other_protocols_go_through_with_the_other_ends_own_outcome() {
    let stage = Stage::new();
    let echo = echo("hello ");
    let closed = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let script = r#"
import socket, sys, select, errno
def wait(s):
    p = select.poll(); p.register(s, select.POLLOUT | select.POLLIN); p.poll(10000)
    return s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
open_, closed = int(sys.argv[1]), int(sys.argv[2])
for first in (b"", b"\0", b"GET"):
    s = socket.create_connection(("127.0.0.1", open_))
    assert s.recv(6) == b"hello ", "the server speaks first"
    s.sendall(first); s.shutdown(socket.SHUT_WR)
    rest = b""
    while (got := s.recv(100)): rest += got
    assert rest == first, rest
try:
    socket.create_connection(("127.0.0.1", closed)); print("connected")
except ConnectionRefusedError: pass
s = socket.socket(); s.setblocking(False)
assert s.connect_ex(("127.0.0.1", open_)) == errno.EINPROGRESS
assert wait(s) == 0
assert s.getpeername() == ("127.0.0.1", open_)
s = socket.socket(); s.setblocking(False)
said = s.connect_ex(("127.0.0.1", closed))
assert said == errno.ECONNREFUSED or wait(s) == errno.ECONNREFUSED, said
print("all went")
"#;
    let (open, shut) = (echo.port().to_string(), closed.port().to_string());
    let program = ["/usr/bin/python3", "-c", script, &open, &shut];
    stage.run(&["--assert-isolated"], &program).says("all went");
}

#[test]
fn under_assertion_a_pause_within_the_start_up_packet_changes_nothing() {
    let stage = Stage::new();
    let (other, echo) = (server("other"), echo("hello "));
    // Long enough for any patience with a client that may be another protocol's.
    let script = r#"
import socket, struct, sys, time
body = b"user\0u\0database\0shop\0\0"
packet = struct.pack("!II", len(body) + 8, 3 << 16) + body
for at in (1, 4, 8, 20):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(packet[:at]); time.sleep(1.5); s.sendall(packet[at:])
    print(s.recv(200))
# Whoever is spoken to first, and then sends what begins as a start-up does, is no other's for a pause either.
s = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
assert s.recv(6) == b"hello "
s.sendall(b"\0"); time.sleep(1.5); s.sendall(b"\1"); print("echoed", s.recv(2))
"#;
    let (other, echo) = (other.port().to_string(), echo.port().to_string());
    let program = ["/usr/bin/python3", "-c", script, &other, &echo];
    let told = stage.run(&["--assert-isolated"], &program);
    let refused = told.out.matches("no branch stands in").count();
    assert_eq!(refused, 4, "{}", told.out);
    told.says("echoed b'\\x00\\x01'");
    told.reports("database: \"shop\", connections: 4");
}

#[test]
fn a_program_that_may_not_be_read_does_not_start() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        println!("not run: root reads everything");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::copy("/bin/true", &file).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o111)).unwrap();
    let stage = Stage::new();
    let told = stage.run(&[], &[file.to_str().unwrap()]);
    assert_eq!(told.code, Some(4));
    assert!(told.err.contains("Unguardable"), "{}", told.err);
}

#[test]
fn a_taken_port_is_another_one_and_the_program_does_not_notice() {
    let stage = Stage::new();
    let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let script = r#"
import socket, sys, errno
port = int(sys.argv[1])
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", port))
# As Python's own servers do, before they listen.
assert s.getsockname() == ("127.0.0.1", port)
s.listen()
assert s.getsockname() == ("127.0.0.1", port)
# The session's own connections lead to it, by the port that it asked for.
c = socket.create_connection(("127.0.0.1", port))
a, _ = s.accept(); a.sendall(b"mine"); assert c.recv(4) == b"mine"
# What the session itself has it cannot have twice.
try:
    socket.socket().bind(("127.0.0.1", port)); print("bound twice")
except OSError as error:
    assert error.errno == errno.EADDRINUSE
print("served")
"#;
    let told = stage.run(&[], &["/usr/bin/python3", "-c", script, &port]);
    told.says("served");
    let event = format!("PortTaken(PortTaken {{ asked: 127.0.0.1:{port}");
    assert!(told.err.contains(&event), "{}", told.err);
    let pid = format!("pid: {}", std::process::id());
    assert!(told.err.contains(&pid), "{}", told.err);
}

#[test]
fn a_port_that_nobody_listens_on_is_refused_as_everywhere() {
    let stage = Stage::new();
    let script = r#"
import errno, socket
def bind(port):
    s = socket.socket()
    try: s.bind(("127.0.0.1", port))
    except OSError as error: return errno.errorcode[error.errno]
    return s
# A port as a lock: a second instance must not have it.
lock = bind(0); print(bind(lock.getsockname()[1]))
# A connection's, which its server closed a moment ago.
server = bind(0); server.listen(); place = server.getsockname()
client = socket.create_connection(place); server.accept()[0].close(); server.close()
client.recv(1); client.close(); print(bind(place[1]))
"#;
    let told = stage.run(&[], &["/usr/bin/python3", "-c", script]);
    told.says("EADDRINUSE\nEADDRINUSE\n");
}

/// Connects to where nobody answers, which a fence that asserts isolation does in its place, and ends.
const WAITS: &str = "
import socket, sys
print('asks', flush=True)
try: socket.create_connection(('127.0.0.1', int(sys.argv[1])))
except OSError: pass
";

/// A listener on loopback whose queue is full: a connect to it waits.
fn full_listener() -> (rustix::fd::OwnedFd, Vec<std::net::TcpStream>, u16) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&listener, 0).unwrap();
    let place = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let mut queued = Vec::new();
    while let Ok(client) = std::net::TcpStream::connect_timeout(&place, Duration::from_millis(300))
    {
        queued.push(client);
    }
    (listener, queued, place.port())
}

#[test]
fn a_call_that_a_killed_supervisor_had_taken_up_ends() {
    let stage = Stage::new();
    let (_listener, _queued, port) = full_listener();
    // Nothing tells that it is the session's: no parent, no environment.
    let script =
        format!("(setsid env -i /usr/bin/python3 -c \"$0\" {port} & echo $!); wait; sleep 1000");
    let rule = ["--fence", &stage.rule, "--assert-isolated"];
    let program = ["sh", "-c", &script, WAITS];
    let mut running = Running::start(
        &mut supervise([rule.as_slice(), &program].concat()),
        Stdio::null(),
    );
    let mut lines = [running.output.line(), running.output.line()];
    lines.sort();
    let process = Stray::of(&lines[0]);
    assert_eq!(lines[1], "asks");
    wait_for_state(process.pid(), "S");
    running.signal(Signal::KILL);
    wait_until_ended(running.pid());
    process.wait_until_ended();
}

#[test]
fn a_killed_supervisor_takes_its_session_along() {
    let stage = Stage::new();
    // A child, a child of it in a session of its own, and a daemon whose parent has ended; and one that hides its
    // environment and is found by what it asks.
    let script = format!(
        "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; (setsid sleep 1000 & echo $!); \
         (setsid env -i {DRIVER} --dial-forever {} & echo $!); wait",
        stage.source
    );
    let mut command = supervise(["--fence", &stage.rule, "sh", "-c", &script]);
    let mut running = Running::start(&mut command, Stdio::null());
    let said = &mut running.output;
    let processes: Vec<Stray> = (0..4).map(|_| Stray::of(&said.line())).collect();
    running.signal(Signal::KILL);
    wait_until_ended(running.pid());
    for process in processes {
        process.wait_until_ended();
    }
}

//! Programs in a target's network: what they connect to, look up, send and listen on is the target's, with its results.

use std::process::{Command, Output, Stdio};

use crate::agent::{Agent, Told};
use crate::driver::{Running, supervise};
use crate::fence::{DRIVER, server};

/// A program under `supervise` in the network of `agent`, with the words of the plan.
fn command(agent: &Agent, plan: &str, args: &[&str]) -> Command {
    let mut command = supervise(args.iter().copied());
    command
        .env("TARGET_AGENT", agent.socket())
        .env("TARGET_PLAN", plan);
    command
}

/// What a python3 script prints in the target's network.
fn python(agent: &Agent, plan: &str, script: &str) -> String {
    // Any option of a fence has the program guarded.
    let args = ["--refuse", "/usr/bin/python3", "-c", script];
    let output = command(agent, plan, &args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    said(&output)
}

fn said(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

#[test]
fn a_connection_by_a_name_of_the_target_is_made_there_and_believed_in() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp dns",
        r#"
import socket
s = socket.create_connection(("db.target", 80))
print(s.recv(100).decode().strip(), *s.getpeername(), s.getsockname()[0])
s.sendall(b"x" * 1000000); s.shutdown(socket.SHUT_WR)
n = 0
while b := s.recv(65536): n += len(b)
print(n)
"#,
    );
    assert_eq!(told, "target 80 192.0.2.10 80 192.0.2.1\n1000000\n");
}

#[test]
fn results_are_the_targets_own_whether_a_program_waits_or_not() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp",
        r#"
import errno, select, socket, time
def blocking(ip):
    with socket.socket() as s:
        return errno.errorcode.get(s.connect_ex((ip, 80)), "ok")
def polled(ip):
    with socket.socket() as s:
        s.setblocking(False)
        begun = time.monotonic()
        first = s.connect_ex((ip, 80))
        held = time.monotonic() - begun
        if first != errno.EINPROGRESS:
            return errno.errorcode[first]
        assert held < 0.1, held
        select.select([], [s], [])
        late = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if late: return errno.errorcode[late]
        s.setblocking(True)
        return s.recv(100).decode().strip() + " " + s.getpeername()[0]
for ip in ["192.0.2.10", "192.0.2.66", "192.0.2.99", "192.0.2.77", "192.0.2.78", "192.0.2.97"]:
    print(blocking(ip), "|", polled(ip))
"#,
    );
    assert_eq!(
        told,
        "ok | target 80 192.0.2.10\n\
         ECONNREFUSED | ECONNREFUSED\n\
         EHOSTUNREACH | EHOSTUNREACH\n\
         ok | target 80 192.0.2.77\n\
         ECONNREFUSED | ECONNREFUSED\n\
         EHOSTUNREACH | EHOSTUNREACH\n"
    );
}

#[test]
fn a_connection_that_is_cut_there_is_cut_here_and_not_over() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp",
        r#"
import socket
for ip in ["192.0.2.55", "192.0.2.56"]:
    for timeout in [None, 20]:
        s = socket.create_connection((ip, 80), timeout=timeout)
        half = s.recv(100)
        s.sendall(b"x")
        try: print(half, s.recv(100))
        except ConnectionResetError: print(half, "cut")
"#,
    );
    assert_eq!(told, "b'half' cut\n".repeat(4));
}

#[test]
fn a_program_that_waits_for_a_connection_hears_signals_and_keeps_its_time() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp",
        r#"
import errno, signal, socket, struct, threading, time
def timed(act):
    begun = time.monotonic()
    try: said = act()
    except TimeoutError as error: said = error
    return said, time.monotonic() - begun < 3
def raising(*_): raise TimeoutError("alarm")
silent = ("192.0.2.79", 80)
s = socket.socket()
signal.signal(signal.SIGALRM, raising)
signal.setitimer(signal.ITIMER_REAL, 0.3)
print(*timed(lambda: s.connect(silent)))
# The socket is on its way, as after the kernel's own connect.
s.setblocking(False); print(errno.errorcode[s.connect_ex(silent)])
# A handler that returns has the call go on, or end, as it was installed.
for restarts in [True, False]:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, not restarts)
    signal.setitimer(signal.ITIMER_REAL, 0.06)
    s = socket.create_connection(("192.0.2.77", 80))
    print(s.recv(100).decode().strip(), s.getpeername())
# A time of the socket's own.
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 300_000))
print(*timed(lambda: errno.errorcode[s.connect_ex(silent)]))
# Another thread's wait is not cut short by what the first one hears.
got = []
t = threading.Thread(target=lambda: got.append(socket.create_connection(("192.0.2.77", 80)).recv(100)))
t.start(); signal.setitimer(signal.ITIMER_REAL, 0.06); t.join(); print(got[0].decode().strip())
"#,
    );
    assert_eq!(
        told,
        "alarm True\n\
         EALREADY\n\
         target 80 ('192.0.2.77', 80)\n\
         target 80 ('192.0.2.77', 80)\n\
         EINPROGRESS True\n\
         target 80\n"
    );
}

#[test]
fn a_failure_that_comes_late_is_the_targets_own_for_whoever_asks() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp",
        r#"
import errno, select, signal, socket
place = ("192.0.2.97", 80)
def begin():
    s = socket.socket(); s.setblocking(False)
    assert s.connect_ex(place) == errno.EINPROGRESS
    p = select.poll(); p.register(s, select.POLLOUT); assert p.poll(20000)
    return s
def error(s): return errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "ok")
# By its error, once.
s = begin(); print(error(s), error(s))
# By another connect; the socket is then as new.
s = begin(); print(errno.errorcode[s.connect_ex(place)], error(s))
s.setblocking(True); s.connect(("192.0.2.10", 80)); print(s.recv(100).decode().strip())
# By the call itself, which a signal had begin anew.
signal.signal(signal.SIGALRM, lambda *_: None); signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.05)
s = socket.socket(); print(errno.errorcode[s.connect_ex(place)], error(s))
"#,
    );
    let unreachable = "EHOSTUNREACH ok\n";
    assert_eq!(
        told,
        format!("{unreachable}{unreachable}target 80\n{unreachable}")
    );
}

#[test]
fn a_connect_that_its_program_gives_up_is_taken_back_at_the_target() {
    let agent = Agent::start(None);
    let script = r#"
import errno, os, socket
def begin():
    s = socket.socket(); s.setblocking(False)
    assert s.connect_ex(("192.0.2.79", 80)) == errno.EINPROGRESS
    return s
begin().close()
# By a program that ends, too.
if not (child := os.fork()): begin(); os._exit(0)
os.waitpid(child, 0)
# One that is connected anew is on its way there alone.
s = begin()
libc = __import__("ctypes").CDLL(None)
assert libc.connect(s.fileno(), bytes(16), 16) == 0
s.setblocking(True); s.connect(("192.0.2.10", 80)); print(s.recv(100).decode().strip(), flush=True)
input()
"#;
    let args = ["--refuse", "/usr/bin/python3", "-c", script];
    let mut command = command(&agent, "tcp", &args);
    let mut running = Running::start(command.stderr(Stdio::inherit()), Stdio::piped());
    assert_eq!(running.output.line(), "target 80");
    for _ in 0..3 {
        assert_eq!(agent.told(), Told::Withdrawn);
    }
    running.write("\n");
    assert_eq!(running.code(), 0);
}

#[test]
fn many_connects_that_do_not_wait_do_not_hold_their_thread() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp",
        r#"
import socket, time
def begin():
    s = socket.socket(); s.setblocking(False); s.connect_ex(("192.0.2.79", 80))
    return s
begun = time.monotonic()
all = [begin() for _ in range(100)]
took = time.monotonic() - begun
# Held for each, it were two seconds.
print(took < 1.5, took)
"#,
    );
    assert!(told.starts_with("True"), "{told}");
}

#[test]
fn a_connect_goes_on_for_whoever_has_a_copy_of_its_socket() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp",
        r#"
import errno, os, select, socket
s = socket.socket(); s.setblocking(False)
assert s.connect_ex(("192.0.2.77", 80)) == errno.EINPROGRESS
# Another process has it, by another number.
copy = os.dup(s.fileno()); os.set_inheritable(copy, True); s.close()
if not os.fork():
    s = socket.socket(fileno=copy)
    select.select([], [s], [])
    s.setblocking(True); print(s.recv(100).decode().strip(), s.getpeername()[0], flush=True); os._exit(0)
os.close(copy); os.wait()
"#,
    );
    assert_eq!(told, "target 80 192.0.2.77\n");
}

#[test]
fn what_the_session_listens_on_is_its_own_by_every_address_of_this_machine() {
    // No packet is sent: the kernel says from which address it would be.
    let any = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    any.connect(("203.0.113.1", 9))
        .expect("this machine has a network");
    let own = any.local_addr().unwrap().ip().to_string();
    assert!(!own.starts_with("127."), "{own}");
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp udp",
        &(format!("own = '{own}'")
            + r#"
import socket
def reached(host):
    l = socket.create_server((host, 0))
    s = socket.create_connection((own, l.getsockname()[1]))
    l.settimeout(5)
    try: c, who = l.accept()
    except TimeoutError: return s.recv(100)[:6].decode()
    return who == s.getsockname() and who[0] == own
print(reached("0.0.0.0"), reached(own), reached("127.0.0.1"))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("0.0.0.0", 0)); u.settimeout(20)
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); v.sendto(b"own", (own, u.getsockname()[1])); print(u.recv(100))
"#),
    );
    assert_eq!(told, "True True target\nb'own'\n");
}

#[test]
fn names_are_answered_to_every_kind_of_resolver() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "dns",
        r#"
import socket, struct
# The C library.
print(sorted({a[4][0] for a in socket.getaddrinfo("Db.Target", 80)}))
print(len({a[4][0] for a in socket.getaddrinfo("many.target", 80, socket.AF_INET)}))
try: socket.getaddrinfo("nobody.elsewhere", 80)
except socket.gaierror as e: print(e.errno == socket.EAI_NONAME)
query = struct.pack(">6H", 7, 256, 1, 0, 0, 0) + b"\2db\6target\0" + struct.pack(">2H", 1, 1)
# A resolver that sends without connecting and looks at whom it hears from.
for receive in ["recvfrom", "recvmsg"]:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
    assert s.fileno() >= 640
    s.sendto(query, ("203.0.113.53", 53))
    got = getattr(s, receive)(512)
    print(got[-1], got[0][-4:] == bytes([192, 0, 2, 10]))
# One that connects.
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("203.0.113.53", 53)); s.send(query)
print(s.recvfrom(512)[1], s.getpeername())
# One that asks by TCP, twice.
s = socket.create_connection(("203.0.113.53", 53))
for _ in range(2):
    s.sendall(struct.pack(">H", len(query)) + query)
    length, = struct.unpack(">H", s.recv(2, socket.MSG_WAITALL))
    print(s.recv(length, socket.MSG_WAITALL)[-4:] == bytes([192, 0, 2, 10]))
"#,
    );
    let server = "('203.0.113.53', 53)";
    assert_eq!(
        told,
        format!(
            "['192.0.2.10']\n100\nTrue\n{server} True\n{server} True\n{server} {server}\nTrue\nTrue\n"
        )
    );
}

#[test]
fn datagrams_go_through_the_target_and_come_back_from_where_they_went() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "udp",
        r#"
import signal, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
for ip in ["192.0.2.10", "192.0.2.12"]:
    s.sendto(b"hello", (ip, 9)); print(*s.recvfrom(100))
s.sendto(b"other", ("192.0.2.10", 9))
print(*sorted(s.recvfrom(100) for _ in range(2)))
# With ancillary data and several pieces.
s.sendmsg([b"a", b"bc"], [], 0, ("192.0.2.10", 9)); print(s.recvmsg(100)[0])
# Connected: everything else works without an address.
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.settimeout(20)
c.connect(("192.0.2.10", 7)); c.send(b"hi")
print(c.recv(100), c.getpeername(), c.getsockname()[0])
# Nobody is there, which a connected socket learns while it waits.
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.settimeout(20)
c.connect(("192.0.2.66", 7)); c.send(b"hi")
try: print(c.recv(100))
except ConnectionRefusedError: print("refused")
# A wait that a signal ends.
s.settimeout(None)
signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("alarm")))
signal.setitimer(signal.ITIMER_REAL, 0.2)
try: s.recvfrom(100)
except TimeoutError as e: print(e)
# A mapped address.
v6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); v6.settimeout(20)
v6.sendto(b"six", ("::ffff:192.0.2.10", 9)); print(v6.recvfrom(100)[1][:2])
# What is between programs of the session stays between them.
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(("127.0.0.1", 0)); a.settimeout(20)
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.sendto(b"own", a.getsockname()); print(a.recvfrom(100)[0])
"#,
    );
    assert_eq!(
        told,
        "b'target hello' ('192.0.2.10', 9)\n\
         b'target hello' ('192.0.2.12', 9)\n\
         (b'from another', ('192.0.2.11', 9)) (b'target other', ('192.0.2.10', 9))\n\
         b'target abc'\n\
         b'target hi' ('192.0.2.10', 7) 192.0.2.1\n\
         refused\n\
         alarm\n\
         ('::ffff:192.0.2.10', 9)\n\
         b'own'\n"
    );
}

#[test]
fn what_was_sent_before_a_close_or_the_programs_end_arrives() {
    let agent = Agent::start(None);
    agent.open_late();
    python(
        &agent,
        "udp",
        r#"
import socket
def fresh(): return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(20):
    with fresh() as s:
        for _ in range(10): s.sendto(b"x", ("192.0.2.10", 9))
    with fresh() as s:
        s.connect(("192.0.2.10", 9))
        for _ in range(10): s.send(b"x")
"#,
    );
    assert_eq!(agent.datagrams(), 400);
}

/// The kernel's own waits for nobody, and an event loop would stand still.
#[test]
fn a_connect_of_datagrams_goes_on_while_the_target_does_not_answer() {
    let agent = Agent::start(None);
    let program = r#"
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
begun = time.monotonic()
s.connect(("192.0.2.80", 9))
s.send(b"early"); s.send(b"bird")
print(time.monotonic() - begun < 5, s.getpeername(), flush=True)
print(s.recv(100), s.recv(100), flush=True)
"#;
    let args = ["--refuse", "/usr/bin/python3", "-c", program];
    let mut command = command(&agent, "udp", &args);
    let mut running = Running::start(command.stderr(Stdio::inherit()), Stdio::piped());
    assert_eq!(running.output.line(), "True ('192.0.2.80', 9)");
    assert_eq!(agent.told(), Told::Waits);
    agent.let_be();
    assert_eq!(running.output.line(), "b'target early' b'target bird'");
    assert_eq!(running.code(), 0);
}

#[test]
fn a_wait_for_a_datagram_ends_as_the_kernels_own() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "udp",
        r#"
import ctypes, errno, signal, socket, threading
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def ask(): s.sendto(b"hello", ("192.0.2.10", 9))
ask(); s.recvfrom(100)
# Python calls once more by itself; the C library does not.
library = ctypes.CDLL(None, use_errno=True)
def receive():
    room, name, size = ctypes.create_string_buffer(100), ctypes.create_string_buffer(128), ctypes.c_uint(128)
    length = library.recvfrom(s.fileno(), room, 100, 0, name, ctypes.byref(size))
    return room.value if length >= 0 else errno.errorcode[ctypes.get_errno()]
heard, hears = socket.socketpair(); hears.setblocking(False)
signal.set_wakeup_fd(hears.fileno()); signal.signal(signal.SIGALRM, lambda *_: None)
for restarts in [True, False]:
    signal.siginterrupt(signal.SIGALRM, not restarts)
    t = threading.Thread(target=lambda: (heard.recv(1), ask())); t.start()
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    print(receive()); t.join()
s.recvfrom(100)
# Another thread shuts the socket down, to end the wait.
for receive in [lambda: s.recvfrom(100), lambda: s.recvmsg(100)]:
    got = []
    t = threading.Thread(target=lambda: got.append(receive()), daemon=True); t.start()
    try: s.shutdown(socket.SHUT_RDWR)
    except OSError: pass
    t.join(20); print(got)
"#,
    );
    assert_eq!(
        told,
        "b'target hello'\nEINTR\n[(b'', None)]\n[(b'', [], 0, None)]\n"
    );
}

#[test]
fn a_socket_may_send_to_any_number_of_places_and_names_are_still_answered() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "udp dns",
        r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
for port in range(4500): s.sendto(b"x", ("192.0.2.12", 20000 + port))
first = ("192.0.2.12", 20000)
s.sendto(b"again", first)
while (got := s.recvfrom(100)) != (b"target again", first): s.sendto(b"again", first)
print(got, socket.gethostbyname("db.target"))
"#,
    );
    assert_eq!(
        told,
        "(b'target again', ('192.0.2.12', 20000)) 192.0.2.10\n"
    );
}

#[test]
fn sockets_for_datagrams_take_no_number_that_the_program_may_reach() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "udp",
        r#"
import os, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
def fill(until):
    while (last := os.open("/dev/null", os.O_RDONLY)) < until: pass
    return last
def echoed(s):
    s.settimeout(20); s.sendto(b"hello", ("192.0.2.10", 9)); return s.recvfrom(100)
for taken in [700, 900]:
    last = fill(taken)
    a, b = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    # The next that open(2) gives is far from them, or they are the kernel's own and not marked.
    print(a.fileno() - last, b.fileno() - last, *echoed(a))
    a.close(); b.close()
"#,
    );
    let echo = "b'target hello' ('192.0.2.10', 9)";
    assert_eq!(told, format!("323 322 {echo}\n1 2 {echo}\n"));
}

#[test]
fn a_copy_of_a_socket_for_datagrams_sends_through_the_target_as_well() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "udp",
        r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
copy = s.dup(); copy.settimeout(20)
copy.sendto(b"copy", ("192.0.2.10", 9)); print(copy.recvfrom(100), copy.fileno() < 640)
"#,
    );
    assert_eq!(told, "(b'target copy', ('192.0.2.10', 9)) True\n");
}

/// Listens, says so, and tells what each of two clients sent and who it was.
const LISTENER: &str = r#"
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
got = b""
while b := c.recv(100): got += b
c.sendall(b"answer to " + got); print(got.decode(), *c.getpeername(), flush=True)
c.close()
# The session's own connection stays its own.
o = socket.create_connection(s.getsockname()); s.accept()[0].sendall(b"own"); print(o.recv(9).decode(), flush=True)
s.close()
input()
"#;

fn listen(mode: &str) {
    let agent = Agent::start(None);
    let args = ["--refuse", "/usr/bin/python3", "-c", LISTENER];
    let mut command = command(&agent, &format!("tcp {mode}"), &args);
    let mut running = Running::start(command.stderr(Stdio::inherit()), Stdio::piped());
    let port: u16 = running.output.line().parse().unwrap();
    let Told::Subscribed(wish) = agent.told() else {
        panic!("a subscription comes first")
    };
    assert_eq!(wish.port, port);
    let is_copy = mode == "mirror";
    assert_eq!(matches!(wish.mode, wire::IncomingMode::Mirror), is_copy);
    let answer = agent.connect(wish.id, is_copy, b"hello");
    assert_eq!(answer, if is_copy { "" } else { "answer to hello" });
    assert_eq!(running.output.line(), "hello 198.51.100.7 4711");
    assert_eq!(running.output.line(), "own");
    assert_eq!(agent.told(), Told::Unsubscribed(wish.id));
    running.write("\n");
    assert_eq!(running.code(), 0);
}

#[test]
fn stolen_connections_come_to_the_programs_port_until_it_is_closed() {
    listen("steal");
}

#[test]
fn copies_come_to_the_programs_port_and_its_answers_go_nowhere() {
    listen("mirror");
}

#[test]
fn the_fence_holds_for_a_source_that_only_the_target_knows() {
    let (source, door) = (server("source"), server("branch"));
    let agent = Agent::start(Some(source));
    for address in ["pg.target:5432", "192.0.2.20:5432"] {
        let rule = format!("{address}/shop={door}");
        for (database, expected) in [("shop", "branch:shop_branch"), ("other", "source:other")] {
            let place = "192.0.2.20:5432";
            let args = ["--fence", &rule, DRIVER, "--dial", place, database];
            let output = command(&agent, "tcp dns", &args).output().unwrap();
            let out = String::from_utf8_lossy(&output.stdout);
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(out.contains(expected), "{address} {database}: {out} {err}");
        }
    }
}

/// As the reader endpoint of a cluster of databases, or weighted records, lead to one of several servers at a time; and a
/// name that fails over between two looks.
#[test]
fn a_name_that_leads_elsewhere_each_time_leads_nobody_past_the_fence() {
    let (source, door) = (server("source"), server("branch"));
    for (name, expected) in [
        ("turns.target", "branch:shop_branch"),
        ("moves.target", "branch:shop_branch"),
        // Somebody else's server on the same port, with a database of the same name.
        ("db.target", "source:shop"),
    ] {
        let agent = Agent::start(Some(source));
        let rule = format!("{name}:5432/shop={door}");
        let args = [
            "--fence",
            &rule,
            DRIVER,
            "--dial",
            "192.0.2.20:5432",
            "shop",
        ];
        let output = command(&agent, "tcp dns", &args).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(out.contains(expected), "{name}: {out} {err}");
    }
}

#[test]
fn isolation_is_asserted_of_the_targets_servers_as_well() {
    let agent = Agent::start(Some(server("source")));
    let place = "192.0.2.20:5432";
    let args = ["--assert-isolated", DRIVER, "--dial", place, "shop"];
    let output = command(&agent, "tcp dns", &args).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("asserts isolation"), "{out}");
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let agent = Agent::start(None);
    let told = python(
        &agent,
        "tcp dns udp",
        r#"
import os, socket, threading
supervisor = os.getppid()
def count(): return len(os.listdir(f"/proc/{supervisor}/fd"))
def resident():
    with open(f"/proc/{supervisor}/statm") as f: return int(f.read().split()[1]) * 4
def one(i):
    with socket.create_connection(("192.0.2.10", 80)) as s:
        assert s.recv(100) == b"target 80\n"
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
    if i % 10 == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as d:
            d.settimeout(20); d.sendto(b"x", ("192.0.2.10", 9)); d.recvfrom(9)
def many(n):
    threads = [threading.Thread(target=lambda k=k: [one(i) for i in range(k, n, 8)]) for k in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
# What waits to be closed takes memory, up to its bounds: the first ones reach them.
many(2000)
before, memory = count(), resident()
many(10000)
import time
end = time.monotonic() + 20
while count() > before + 20 and time.monotonic() < end: time.sleep(0.05)
print(count() <= before + 20, resident() < memory + 60000, before, count(), memory, resident())
"#,
    );
    assert!(told.starts_with("True True"), "{told}");
}

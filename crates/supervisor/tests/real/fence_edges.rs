//! The fence where it is hard: other architectures' calls, answers that come late, thousands of connections.

use std::net::TcpListener;
use std::process::Command;

use crate::fence::{DRIVER, Stage};

/// A program that makes the calls of i386 (`int 0x80`), which every x86-64 program can where the kernel has them: it
/// connects by `connect` or, with an argument, by `socketcall`, begins a session, and says what it is told.
const CALLS_OF_I386: &str = r#"
static long call(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory");
    return r;
}
static unsigned char address[16] = {2, 0, PORT_HIGH, PORT_LOW, 127, 0, 0, 1};
static unsigned char packet[] = "\0\0\0\037\0\3\0\0user\0me\0database\0shop\0\0";
static unsigned char answer[100];
static int words[3];
void begin(long *stack) {
    long s = call(359, 2, 1, 0);
    words[0] = s; words[1] = (int)(long)address; words[2] = 16;
    long c = stack[0] > 1 ? call(102, 3, (long)words, 0) : call(362, s, (long)address, 16);
    if (s < 0 || c != 0) call(1, c == 0 ? 99 : -c, 0, 0);
    call(4, s, (long)packet, sizeof packet - 1);
    call(4, 1, (long)answer, call(3, s, (long)answer, 100));
    call(1, 0, 0, 0);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\ncall begin");
"#;

#[test]
fn calls_of_32_bits_are_looked_at_too() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("calls.c"), dir.path().join("calls"));
    let port = stage.source.port();
    let text = CALLS_OF_I386
        .replace("PORT_HIGH", &(port >> 8).to_string())
        .replace("PORT_LOW", &(port & 0xff).to_string());
    std::fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args([
        "-O1",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-fno-stack-protector",
        "-w",
        "-o",
    ]);
    assert!(
        compiler
            .arg(&program)
            .arg(&source)
            .status()
            .unwrap()
            .success()
    );
    let program = program.to_str().unwrap();
    // 38: ENOSYS. Without a fence nothing else is in the way.
    let alone = Command::new(program).output().unwrap().status;
    if !cfg!(target_arch = "x86_64") || alone.code().is_none() {
        println!("not run: this kernel has no calls of i386 ({alone})");
        return;
    }
    stage.run(&[], &[program]).says("branch:shop_branch");
    stage
        .run(&[], &[program, "socketcall"])
        .says("branch:shop_branch");
}

#[test]
fn an_answer_that_comes_late_is_an_answer_and_nobody_waited_for_it() {
    let stage = Stage::new();
    // The server's queue is full, so that it answers once it has accepted somebody: after a repeated SYN, a second or
    // three later.
    let script = r#"
import errno, select, socket, threading
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen(0)
filling = socket.socket(); filling.setblocking(False)
filling.connect_ex(server.getsockname())
s = socket.socket(); s.setblocking(False)
assert s.connect_ex(server.getsockname()) == errno.EINPROGRESS
p = select.poll(); p.register(s, select.POLLOUT)
assert p.poll(0) == [], "it is not connected yet"
first, _ = server.accept()
assert p.poll(60000), "it is connected in the end"
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
assert s.getpeername() == server.getsockname()
# Somebody of both is the other: the filling one came by the fence as well.
second, _ = server.accept()
s.setblocking(True); s.sendall(b"late")
ready, _, _ = select.select([first, second], [], [], 60)
print(ready[0].recv(4))
"#;
    let told = stage.run(&["--assert-isolated"], &["/usr/bin/python3", "-c", script]);
    told.says("late");
}

#[test]
fn a_late_refusal_is_a_refusal() {
    let stage = Stage::new();
    // As above, but the server goes away instead of accepting.
    let script = r#"
import errno, select, socket
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen(0)
filling = socket.socket(); filling.setblocking(False)
filling.connect_ex(server.getsockname())
s = socket.socket(); s.setblocking(False)
assert s.connect_ex(server.getsockname()) == errno.EINPROGRESS
server.close()
p = select.poll(); p.register(s, select.POLLOUT)
assert p.poll(60000), "it is refused in the end"
said = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
print("refused", said == errno.ECONNREFUSED)
"#;
    let told = stage.run(&["--assert-isolated"], &["/usr/bin/python3", "-c", script]);
    told.says("refused True");
}

#[test]
fn connects_that_wait_for_a_port_with_another_number_hold_up_nobody_else() {
    let stage = Stage::new();
    let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    // The session's own listener, whose queue is full: more connects wait than there are threads that receive.
    let script = r#"
import os, socket, sys, threading
server = socket.socket(); server.bind(("127.0.0.1", int(sys.argv[1]))); server.listen(0)
def connect():
    s = socket.socket(); s.connect(("127.0.0.1", int(sys.argv[1]))); held.append(s)
held = []
threads = [threading.Thread(target=connect, daemon=True) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join(0.3)
assert any(thread.is_alive() for thread in threads), "the queue is full"
other = socket.socket(); other.settimeout(10); other.connect(("127.0.0.1", int(sys.argv[2])))
print("not held up", flush=True); os._exit(0)
"#;
    let source = stage.source.port().to_string();
    let program = ["/usr/bin/python3", "-c", script, &port, &source];
    stage.run(&[], &program).says("not held up");
}

#[test]
fn thousands_of_connections_leave_no_descriptor_behind() {
    let stage = Stage::new();
    let watched = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let other = watched.local_addr().unwrap();
    std::thread::spawn(move || watched.incoming().for_each(drop));
    // 2,000 a run; the first one opens what stays open.
    let count = "ls /proc/$PPID/fd | wc -l";
    let time = |address: &dyn std::fmt::Display| format!("{DRIVER} --time {address} >/dev/null");
    let script = format!(
        "{0}; {count}; {0}; {0}; {1}; {1}; {count}",
        time(&stage.source),
        time(&other)
    );
    let told = stage.run(&["--assert-isolated"], &["sh", "-c", &script]);
    let counts: Vec<i64> = told
        .out
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    let [before, after] = counts[..] else {
        panic!("{:?}", told.out);
    };
    // Some of the last ones may not be over yet.
    assert!(after - before < 64, "{before} descriptors became {after}");
    told.reports("silent: 6000");
    told.reports("connections: 4000");
}

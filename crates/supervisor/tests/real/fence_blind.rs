//! The fence where the supervisor cannot look: without descriptors, in other roots and networks. Nothing gets past it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::fence::{DRIVER, Stage, Told, abstract_server, unix_server};

/// A directory with the socket of the stage's source, as another server of it would have one.
fn directory_of(stage: &Stage) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let name = format!(".s.PGSQL.{}", stage.source.port());
    unix_server(&dir.path().join(&name), "source");
    (dir, name)
}

/// `unshare` with an option, as an account may have it; none, said loudly, where the machine has no namespaces to give.
fn unshared(option: &str) -> Option<Vec<String>> {
    let mut words = vec!["unshare".to_owned(), option.to_owned()];
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"].map(str::to_owned));
    }
    let Output { status, stderr, .. } = Command::new(&words[0])
        .args(&words[1..])
        .arg("true")
        .output()
        .unwrap();
    if !status.success() {
        let why = String::from_utf8_lossy(&stderr);
        eprintln!("NOT RUN: this machine has no namespace for the test: {why}");
        return None;
    }
    Some(words)
}

/// Four programs hold 45 connections each, for which the supervisor has no descriptors; a fifth asks for the source.
const MORE_THAN_IT_HOLDS: &str = r#"
import os, signal, socket, struct, sys
other, source = int(sys.argv[1]), int(sys.argv[2])
holders = []
for _ in range(4):
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        held = [socket.socket() for _ in range(45)]
        for s in held:
            s.setblocking(False)
            try: s.connect_ex(("127.0.0.1", other))
            except OSError: pass
        os.write(done, b"x")
        signal.pause()
    os.read(ready, 1); os.close(ready); os.close(done)
    holders.append(pid)
body = b"user\0u\0database\0shop\0\0"
for _ in range(5):
    s = socket.socket(); s.settimeout(1)
    try:
        s.connect(("127.0.0.1", source))
        s.sendall(struct.pack("!II", len(body) + 8, 3 << 16) + body)
        print(s.recv(100))
    except OSError as error:
        print(repr(error))
    s.close()
for pid in holders: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
"#;

#[test]
fn a_supervisor_without_descriptors_lets_nobody_past() {
    let stage = Stage::new();
    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let place = other.local_addr().unwrap();
    std::thread::spawn(move || other.incoming().collect::<Vec<_>>());
    let script = format!(
        "ulimit -n 64; exec {DRIVER} --fence {} --assert-isolated /usr/bin/python3 -c \"$0\" {} {}",
        stage.rule,
        place.port(),
        stage.source.port()
    );
    let told = Told::by(Command::new("sh").args(["-c", &script, MORE_THAN_IT_HOLDS]));
    assert!(!told.out.contains("source:"), "{}", told.out);
    assert_eq!(told.out.lines().count(), 5, "{}", told.out);
    told.reports("unreadable: [ProgramCount");
}

#[test]
fn a_socket_is_the_sources_whatever_its_path_is_called() {
    let stage = Stage::new();
    let (dir, name) = directory_of(&stage);
    let dir = dir.path().display();
    for script in [
        format!("cd {dir} && exec {DRIVER} --dial /proc/self/cwd/{name} shop"),
        format!("cd {dir} && exec {DRIVER} --dial /proc/thread-self/cwd/{name} shop"),
        format!("exec 9<{dir} && exec {DRIVER} --dial /dev/fd/9/{name} shop"),
        format!(
            "ln -s /proc/self/cwd {dir}/link && cd {dir} && exec {DRIVER} --dial {dir}/link/{name} shop"
        ),
    ] {
        let told = stage.run(&[], &["sh", "-c", &script]);
        assert!(
            told.out.contains("branch:shop_branch"),
            "{script}: {}",
            told.out
        );
    }
}

/// Asks a PostgreSQL server at an abstract name.
const AT_AN_ABSTRACT_NAME: &str = r#"
import socket, struct, sys
body = b"user\0u\0database\0shop\0\0"
s = socket.socket(socket.AF_UNIX)
try:
    s.connect("\0" + sys.argv[1])
    s.sendall(struct.pack("!II", len(body) + 8, 3 << 16) + body)
    print(s.recv(100))
except OSError as error:
    print(repr(error))
"#;

#[test]
fn an_abstract_name_of_the_sources_port_leads_nowhere_and_another_where_it_says() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    for (port, expected) in [
        (stage.source.port(), "PermissionError"),
        (stage.source.port() ^ 1, "source:shop"),
    ] {
        let name = format!("{}/.s.PGSQL.{port}", dir.path().display());
        abstract_server(&name, "source");
        let program = ["/usr/bin/python3", "-c", AT_AN_ABSTRACT_NAME, &name];
        stage.run(&[], &program).says(expected);
    }
}

#[test]
fn a_socket_that_is_nowhere_is_absent() {
    let stage = Stage::new();
    let (dir, name) = directory_of(&stage);
    let dir = dir.path().display();
    for (place, errno) in [
        (format!("{dir}/none/{name}"), libc::ENOENT),
        (format!("/none/at/all/{name}"), libc::ENOENT),
        (format!("{dir}/{name}/{name}"), libc::ENOTDIR),
    ] {
        let told = stage.run(&[], &[DRIVER, "--dial", &place, "shop"]);
        assert_eq!(told.out, format!("errno {errno}\n"), "{place}");
    }
}

#[test]
fn a_program_in_another_root_is_led_to_the_branch_and_to_its_own_servers() {
    let Some(mut program) = unshared("--mount") else {
        return;
    };
    let stage = Stage::new();
    let (dir, name) = directory_of(&stage);
    let inside = dir.path().join("dial");
    std::fs::copy(DRIVER, &inside).unwrap();
    program.extend(["chroot".to_owned(), dir.path().display().to_string()]);
    for (database, expected) in [("shop", "branch:shop_branch"), ("stock", "source:stock")] {
        let mut words: Vec<&str> = program.iter().map(String::as_str).collect();
        let place = Path::new("/").join(&name);
        words.extend(["/dial", "--dial", place.to_str().unwrap(), database]);
        stage.run(&[], &words).says(expected);
    }
}

#[test]
fn under_assertion_a_network_of_its_own_leads_nowhere() {
    let Some(mut program) = unshared("--net") else {
        return;
    };
    let stage = Stage::new();
    let script = "import os, socket\nos.system('ip link set lo up')\n\
                  s = socket.create_server(('127.0.0.1', 0))\n\
                  print(socket.socket().connect_ex(s.getsockname()))";
    program.extend(["/usr/bin/python3", "-c", script].map(str::to_owned));
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    for (options, expected) in [(&[][..], "0\n"), (&["--assert-isolated"], "13\n")] {
        let told = stage.run(options, &program);
        assert_eq!(told.out, expected);
        told.reports("unseen: 1");
    }
}

/// A source and a branch's door, and the session's program, in a network whose loopback has a link-local address.
const ON_A_LINK: &str = r#"
import os, socket, struct, subprocess, sys, threading
for words in ["link set lo up", "addr add fe80::77/64 dev lo nodad"]:
    subprocess.run(["ip", *words.split()], check=True)
def serve(name):
    s = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    def one(c):
        length = struct.unpack("!I", c.recv(4, socket.MSG_WAITALL))[0]
        words = c.recv(length - 4, socket.MSG_WAITALL)[4:].split(b"\0")
        said = name + b":" + words[words.index(b"database") + 1]
        c.sendall(b"Z" + struct.pack("!I", len(said) + 4) + said); c.close()
    def all():
        while True: threading.Thread(target=one, args=[s.accept()[0]]).start()
    threading.Thread(target=all, daemon=True).start()
    return s.getsockname()[1]
source, door = serve(b"source"), serve(b"branch")
rule = f"127.0.0.1:{source}/shop=127.0.0.1:{door}"
driver = sys.argv[1]
sys.exit(subprocess.run([driver, "--fence", rule, driver, "--dial", f"[fe80::77%1]:{source}", "shop"]).returncode)
"#;

#[test]
fn a_link_local_address_is_this_machines_too() {
    let Some(program) = unshared("--net") else {
        return;
    };
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]);
    let told = Told::by(command.args(["/usr/bin/python3", "-c", ON_A_LINK, DRIVER]));
    told.says("branch:shop_branch");
}

//! How a command starts or does not, and how its end is told on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::driver::{run, supervise};

fn code(args: &[&str]) -> i32 {
    run(args.iter().copied()).status.code().unwrap()
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_exit_code_is_the_childs() {
    for expected in [0, 1, 42, 126, 127, 255] {
        assert_eq!(code(&["sh", "-c", &format!("exit {expected}")]), expected);
    }
}

#[test]
fn a_signals_end_is_128_and_its_number() {
    for (name, number) in [
        ("HUP", 1),
        ("INT", 2),
        ("KILL", 9),
        ("SEGV", 11),
        ("TERM", 15),
    ] {
        let script = format!("ulimit -c 0; kill -{name} $$");
        assert_eq!(code(&["sh", "-c", &script]), 128 + number, "{name}");
    }
}

/// As in a container that was entered: getsid and getpgrp answer 0 there (pid_namespaces(7)).
#[test]
fn a_session_whose_leader_is_outside_the_pid_namespace_is_no_obstacle() {
    let user_namespace: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else {
        &["--user", "--map-current-user"]
    };
    let inside = Command::new("unshare")
        .args(user_namespace)
        .args(["--pid", "--fork", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_supervise"))
        .args(["sh", "-c", "exit 42"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&inside.stderr);
    assert_eq!(inside.status.code(), Some(42), "{errors}");
}

#[test]
fn what_is_not_there_is_127() {
    let error = run(["no-such-program-anywhere"]);
    assert_eq!(error.status.code(), Some(127));
    let text = String::from_utf8(error.stderr).unwrap();
    assert_eq!(text, "NotFound(\"no-such-program-anywhere\")\n");
    assert_eq!(code(&["/no/such/program"]), 127);
    assert_eq!(code(&[""]), 127);
}

#[test]
fn what_cannot_be_executed_is_126() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    write(&plain, "echo no\n", 0o644);
    assert_eq!(code(&[plain.to_str().unwrap()]), 126);
    assert_eq!(code(&[dir.path().to_str().unwrap()]), 126);
    let lost = dir.path().join("lost");
    write(&lost, "#!/no/such/interpreter\n", 0o755);
    assert_eq!(code(&[lost.to_str().unwrap()]), 126);
    let torn = dir.path().join("torn");
    write(&torn, "\x7fELF", 0o755);
    // execvp(3) hands what is of no known format to the shell, which makes 127 or 2 of it.
    assert!([2, 126, 127].contains(&code(&[torn.to_str().unwrap()])));
}

#[test]
fn a_script_without_an_interpreter_line_is_the_shells() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    write(&script, "echo \"$0 $1\"; exit 7\n", 0o755);
    let script = script.to_str().unwrap();
    let output = run([script, "one"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{script} one\n")
    );
}

#[test]
fn the_search_follows_path_and_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for folder in [&first, &second] {
        fs::create_dir(folder).unwrap();
    }
    write(&first.join("tool"), "#!/bin/sh\nexit 1\n", 0o644);
    write(&second.join("tool"), "#!/bin/sh\nexit 9\n", 0o755);
    let status = |path: &str, program: &str| {
        let mut command = supervise([program]);
        command.current_dir(&second).env("PATH", path);
        command.output().unwrap().status.code().unwrap()
    };
    let both = format!("{}:{}", first.display(), second.display());
    assert_eq!(status(&both, "tool"), 9);
    assert_eq!(status(first.to_str().unwrap(), "tool"), 126);
    assert_eq!(status("/none:", "tool"), 9);
    assert_eq!(status("../second", "tool"), 9);
    assert_eq!(status("/none", "./tool"), 9);
    assert_eq!(status("/none", "tool"), 127);
}

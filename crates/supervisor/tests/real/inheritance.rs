//! What the child is given: input, environment, descriptors, signal masks. Everything as if no supervisor were there.

use std::process::{Command, Stdio};

use crate::driver::{Running, supervise};

/// Says, among more, which signals are blocked, ignored and handled. A program that handles none itself.
const STATUS: [&str; 2] = ["cat", "/proc/self/status"];

/// The lines of `status` that tell of signals, as masks with signal 1 at bit 0: blocked, ignored, handled.
fn masks(status: &str) -> [u64; 3] {
    ["SigBlk", "SigIgn", "SigCgt"].map(|name| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    })
}

fn text(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn input_and_output_pass_through() {
    let mut cat = Running::start(&mut supervise(["cat"]), Stdio::piped());
    cat.write("one\n");
    assert_eq!(cat.output.line(), "one");
    cat.write("two");
    cat.close_input();
    assert_eq!(cat.output.rest(), "two");
    assert_eq!(cat.code(), 0);
}

#[test]
fn the_environment_is_exactly_what_was_given() {
    let mut command = supervise(["/usr/bin/env"]);
    command
        .env_clear()
        .env("EMPTY", "")
        .env("LINES_OF", "a\nb=c")
        .env("ONE", "1");
    assert_eq!(text(&mut command), "EMPTY=\nLINES_OF=a\nb=c\nONE=1\n");
}

#[test]
fn arguments_and_working_directory_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let script = "printf '%s|' \"$@\"; pwd -P";
    let mut command = supervise(["sh", "-c", script, "sh", "", "a b", "--", "$HOME"]);
    let expected = format!("|a b|--|$HOME|{}\n", dir.display());
    assert_eq!(text(command.current_dir(&dir)), expected);
}

#[test]
fn a_descriptor_that_was_handed_down_is_handed_on_and_no_other_appears() {
    let list = "ls /proc/self/fd | sort -n | tr '\\n' ' '";
    let direct = text(Command::new("sh").args(["-c", &format!("exec 7</dev/null; {list}")]));
    let supervised = format!("exec 7</dev/null; exec \"$0\" sh -c \"{list}\"");
    let program = env!("CARGO_BIN_EXE_supervise");
    let supervised = text(Command::new("sh").args(["-c", &supervised, program]));
    assert!(supervised.contains(" 7 "), "{supervised}");
    assert_eq!(supervised, direct);
}

#[test]
fn signals_start_as_they_would_without_us() {
    let direct = masks(&text(Command::new(STATUS[0]).arg(STATUS[1])));
    let supervised = masks(&text(&mut supervise(STATUS)));
    assert_eq!(supervised, direct);
    assert_eq!(direct[2], 0);
}

#[test]
fn ignored_and_blocked_signals_reach_through() {
    let script = r#"
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTSTP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.execv(sys.argv[1], sys.argv[1:])
"#;
    let program = env!("CARGO_BIN_EXE_supervise");
    let text = text(
        Command::new("/usr/bin/python3")
            .args(["-c", script, program])
            .args(STATUS),
    );
    let [blocked, ignored, handled] = masks(&text);
    let bit = |signal: i32| 1_u64 << (signal - 1);
    assert_eq!(blocked, bit(libc::SIGUSR1));
    assert_eq!(ignored & bit(libc::SIGHUP), bit(libc::SIGHUP));
    assert_eq!(ignored & bit(libc::SIGTSTP), bit(libc::SIGTSTP));
    assert_eq!(handled, 0);
}

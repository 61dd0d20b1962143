//! Signals that a process sends to the supervisor alone.

use std::process::Stdio;

use rustix::process::Signal;

use crate::driver::{LISTENER, Running, pid, python, wait_for_state, without_terminal};

fn listener() -> Running {
    let mut listener = Running::start(&mut python([], LISTENER), Stdio::null());
    assert_eq!(listener.output.line(), "ready");
    listener
}

#[test]
fn each_is_forwarded_exactly_once() {
    let mut listener = listener();
    let signals = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::TSTP, "SIGTSTP"),
        (Signal::TTIN, "SIGTTIN"),
        (Signal::URG, "SIGURG"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::WINCH, "SIGWINCH"),
        (Signal::IO, "SIGIO"),
        (Signal::POWER, "SIGPWR"),
        (Signal::TERM, "SIGTERM"),
    ];
    for (signal, name) in signals {
        listener.signal(signal);
        assert_eq!(listener.output.line(), name);
    }
    listener.signal(Signal::USR2);
    assert_eq!(listener.output.rest(), "SIGUSR2\n");
    assert_eq!(listener.code(), 0);
}

#[test]
fn real_time_signals_are_forwarded() {
    let mut listener = listener();
    let number = libc::SIGRTMIN() + 3;
    let pid = listener.pid().as_raw_nonzero().get();
    let sent = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("kill -{number} {pid}")])
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(listener.output.line(), "RTMIN+3");
    listener.signal(Signal::USR2);
    assert_eq!(listener.output.rest(), "SIGUSR2\n");
}

#[test]
fn a_child_that_dies_of_one_is_told_on() {
    let mut sleeper = Running::start(
        &mut python([], "print('up', flush=True)\nwhile True: input()"),
        Stdio::piped(),
    );
    assert_eq!(sleeper.output.line(), "up");
    sleeper.signal(Signal::TERM);
    assert_eq!(sleeper.code(), 128 + 15);
}

#[test]
fn what_the_session_sends_to_its_parent_does_not_come_back() {
    let script = format!("import os\nos.kill(os.getppid(), 10)\n{LISTENER}");
    let mut listener = Running::start(&mut python([], &script), Stdio::null());
    assert_eq!(listener.output.line(), "ready");
    listener.signal(Signal::USR2);
    assert_eq!(listener.output.rest(), "SIGUSR2\n");
    assert_eq!(listener.code(), 0);
}

#[test]
fn a_stopped_child_without_a_terminal_does_not_stop_the_supervisor() {
    let script = "import os\nprint(os.getpid(), flush=True)\nos.kill(os.getpid(), 19)\nprint('on', flush=True)";
    let mut command = without_terminal(["/usr/bin/python3", "-c", script]);
    let mut child = Running::start(&mut command, Stdio::null());
    wait_for_state(pid(&child.output.line()), "T");
    // The supervisor is told to continue it, and can be told only while it runs itself.
    child.signal(Signal::CONT);
    assert_eq!(child.output.line(), "on");
    assert_eq!(child.code(), 0);
}

//! A child that is ended by us, with all that descends from it.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::driver::{
    Running, pid, python, supervise, wait_for_state, wait_until_ended, without_terminal,
};

/// Says its children's pids: one in the same session, one that has lost its parent in a session of its own.
const FAMILY: &str = r#"
import os, signal
def say(text):
    os.write(1, f"{text}\n".encode()) # in one piece, since several speak
def stay(name):
    say(f"{name} {os.getpid()}")
    while True: signal.pause()
if os.fork() == 0:
    stay("child")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        stay("orphan")
    os._exit(0)
"#;

fn family(run: &mut Running) -> [Pid; 2] {
    let mut pids = [run.output.line(), run.output.line()];
    pids.sort();
    pids.map(|line| pid(line.split(' ').nth(1).unwrap()))
}

#[test]
fn a_polite_program_ends_itself_and_its_descendants_are_ended() {
    let script = format!(
        "{FAMILY}\nsignal.signal(signal.SIGTERM, lambda *_: (say('bye'), os._exit(0)))\n\
         say('up')\nwhile True: signal.pause()"
    );
    let mut run = Running::start(&mut python(["--stop", "20000"], &script), Stdio::piped());
    // The three speak in any order.
    let mut lines = [run.output.line(), run.output.line(), run.output.line()];
    lines.sort();
    assert_eq!(lines[2], "up");
    run.write("stop\n");
    assert_eq!(run.output.rest(), "bye\n");
    assert_eq!(run.code(), 4);
    for line in &lines[..2] {
        assert_gone(pid(line.split(' ').nth(1).unwrap()));
    }
}

#[test]
fn what_does_not_listen_is_killed_after_the_grace() {
    let script = format!(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FAMILY}\nwhile True: signal.pause()"
    );
    let mut run = Running::start(&mut python(["--stop", "100"], &script), Stdio::piped());
    let family = family(&mut run);
    run.write("stop\n");
    assert_eq!(run.output.rest(), "");
    assert_eq!(run.code(), 4);
    family.into_iter().for_each(assert_gone);
}

#[test]
fn a_stopped_tree_is_continued_to_end_itself() {
    let script = "trap 'echo bye; exit' TERM; echo $$; kill -STOP $$; echo no";
    let mut command = without_terminal(["--stop", "20000", "sh", "-c", script]);
    let mut run = Running::start(&mut command, Stdio::piped());
    let child = pid(&run.output.line());
    wait_for_state(child, "T");
    run.write("stop\n");
    assert_eq!(run.output.rest(), "bye\n");
    assert_eq!(run.code(), 4);
    assert_gone(child);
}

#[test]
fn dropping_the_child_kills_its_tree() {
    let script = format!("{FAMILY}\nsay(f'parent {{os.getpid()}}')\nwhile True: signal.pause()");
    let mut command = python(["--drop"], &script);
    let mut run = Running::start(command.stderr(Stdio::piped()), Stdio::piped());
    let pids = [run.output.line(), run.output.line(), run.output.line()];
    run.write("drop\n");
    assert_eq!(run.standard_error().line(), "dropped");
    for line in pids {
        wait_until_ended(pid(line.split(' ').nth(1).unwrap()));
    }
    // It still runs, so that it was the dropping that killed them.
    run.close_input();
    assert_eq!(run.code(), 0);
}

#[test]
fn orphans_that_end_do_not_stay_as_zombies() {
    let script = format!(
        "{FAMILY}\nos.wait()\nsignal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})\n\
         say('up')\nsignal.sigwait({{signal.SIGUSR1}})\nsay('seen')\nwhile True: signal.pause()"
    );
    let mut run = Running::start(&mut python(["--stop", "100"], &script), Stdio::piped());
    let mut lines = [run.output.line(), run.output.line(), run.output.line()];
    lines.sort();
    let orphan = pid(lines[1].strip_prefix("orphan ").unwrap());
    kill_process(orphan, Signal::TERM).unwrap();
    wait_until_ended(orphan);
    // The supervisor takes its signals in order: by the time this one came through, the orphan's end was taken in.
    run.signal(Signal::USR1);
    assert_eq!(run.output.line(), "seen");
    assert_gone(orphan);
    run.write("stop\n");
    assert_eq!(run.code(), 4);
}

#[test]
fn what_a_child_leaves_behind_runs_on_after_its_own_end() {
    let mut run = Running::start(&mut python([], FAMILY), Stdio::null());
    let family = family(&mut run);
    assert_eq!(run.code(), 0);
    for pid in family {
        kill_process(pid, Signal::KILL).unwrap();
        wait_until_ended(pid);
    }
}

#[test]
fn a_daemon_of_the_same_program_is_spared() {
    let script = "setsid \"$0\" sh -c 'echo $PPID $$; exec sleep 1000' & wait";
    let mut command = supervise(["--stop", "20000", "sh", "-c", script]);
    command.arg(env!("CARGO_BIN_EXE_supervise"));
    let mut run = Running::start(&mut command, Stdio::piped());
    let line = run.output.line();
    let (daemon, below) = line.split_once(' ').unwrap();
    run.write("stop\n");
    assert_eq!(run.code(), 4);
    for pid in [pid(below), pid(daemon)] {
        kill_process(pid, Signal::KILL).unwrap();
        wait_until_ended(pid);
    }
}

/// Neither running nor a zombie.
fn assert_gone(pid: Pid) {
    let ps = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(ps.stdout).unwrap(), "", "{pid} is there");
}

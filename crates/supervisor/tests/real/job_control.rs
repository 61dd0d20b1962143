//! The terminal's own signals and a shell's job control, on a real terminal.

use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::driver::{LISTENER, Reader, pid, stat_field, wait_for_state, wait_until_ended};
use crate::pty::Pty;

const SUPERVISE: &str = env!("CARGO_BIN_EXE_supervise");

/// Says its pid, then says each line again.
const ECHO: &str = "sh -c 'echo \"pid $$ .\"; while read line; do echo \"<$line>\"; done'";

#[test]
fn control_c_reaches_the_child_once_and_the_supervisor_waits() {
    let mut pty = Pty::lead(&[SUPERVISE, "/usr/bin/python3", "-c", LISTENER]);
    pty.screen.until("ready\r\n");
    for (key, name) in [("\x03", "SIGINT"), ("\x1c", "SIGQUIT"), ("\x03", "SIGINT")] {
        pty.write(key);
        pty.screen.until(&format!("{name}\r\n"));
    }
    kill_process(pty.leader(), Signal::USR2).unwrap();
    assert_eq!(pty.screen.until("SIGUSR2\r\n"), "SIGUSR2\r\n");
    assert_eq!(pty.code(), 0);
}

#[test]
fn control_z_that_the_child_takes_itself_stops_nobody() {
    let mut pty = Pty::lead(&[SUPERVISE, "/usr/bin/python3", "-c", LISTENER]);
    pty.screen.until("ready\r\n");
    pty.write("\x1a");
    pty.screen.until("SIGTSTP\r\n");
    // Were the supervisor stopped, it would forward nothing.
    kill_process(pty.leader(), Signal::USR2).unwrap();
    assert_eq!(pty.screen.until("SIGUSR2\r\n"), "SIGUSR2\r\n");
    assert_eq!(pty.code(), 0);
}

#[test]
fn control_c_ends_a_plain_program_as_shells_know_it() {
    let mut bash = Pty::bash();
    bash.enter(&format!("{SUPERVISE} {ECHO}"));
    bash.screen.until(" .\r\n");
    bash.write("\x03");
    bash.screen.until("prompt> ");
    bash.enter("echo code=$?");
    assert_eq!(bash.screen.line(), "code=130");
}

#[test]
fn control_z_and_fg_stop_and_continue_both() {
    let mut bash = Pty::bash();
    bash.enter(&format!("{SUPERVISE} {ECHO}"));
    bash.screen.until("pid ");
    let child = pid(&bash.screen.until(" .\r\n").replace('.', ""));
    // Many times: a late look at one stop or continue must not undo the next.
    for round in 1..=20 {
        bash.write("\x1a");
        bash.screen.until("Stopped ");
        bash.screen.until("prompt> ");
        // The shell looks at the supervisor only, and the child may be a moment later, as in every group of processes.
        wait_for_state(child, "T");
        bash.enter("fg");
        bash.write(&format!("{round}\n"));
        bash.screen.until(&format!("<{round}>\r\n"));
    }
    bash.write("\x04");
    bash.screen.until("prompt> ");
    bash.enter("echo code=$?");
    assert_eq!(bash.screen.line(), "code=0");
}

#[test]
fn bg_and_a_read_from_the_background_are_the_shells_to_see() {
    let mut bash = Pty::bash();
    bash.enter(&format!("{SUPERVISE} {ECHO} &"));
    bash.screen.until(" .\r\n");
    // It reads from the terminal without being in the foreground; the shell says so before a prompt.
    wait_for_job(&mut bash, "Stopped (tty input)");
    bash.enter("fg");
    bash.write("hello\n");
    bash.screen.until("<hello>\r\n");
    bash.write("\x03");
    bash.screen.until("prompt> ");
}

#[test]
fn a_child_that_stops_itself_stops_the_job() {
    let mut bash = Pty::bash();
    bash.enter(&format!(
        "{SUPERVISE} sh -c 'kill -STOP $$; echo again; exit 5'"
    ));
    bash.screen.until("Stopped ");
    bash.screen.until("prompt> ");
    bash.enter("fg");
    bash.screen.until("again\r\n");
    bash.screen.until("prompt> ");
    bash.enter("echo code=$?");
    assert_eq!(bash.screen.line(), "code=5");
}

#[test]
fn a_stop_and_a_continue_of_the_supervisor_alone_reach_the_child() {
    let mut bash = Pty::bash();
    bash.enter(&format!("{SUPERVISE} {ECHO} </dev/tty"));
    bash.screen.until("pid ");
    let child = pid(&bash.screen.until(" .").replace('.', ""));
    let supervisor = pid(&stat_field(child, 1).unwrap());
    kill_process(supervisor, Signal::TSTP).unwrap();
    bash.screen.until("Stopped ");
    bash.screen.until("prompt> ");
    assert_eq!(
        [supervisor, child].map(|pid| stat_field(pid, 0).unwrap()),
        ["T", "T"]
    );
    // Continued alone, it continues the child, which then reads from the terminal in the background and stops again.
    kill_process(supervisor, Signal::CONT).unwrap();
    wait_for_job(&mut bash, "Stopped (tty input)");
    bash.enter("fg");
    bash.write("hello\n");
    bash.screen.until("<hello>\r\n");
    bash.write("\x04");
    bash.screen.until("prompt> ");
}

/// Asks the shell until its one job is in `state`; a shell learns of a stop in its own time.
fn wait_for_job(bash: &mut Pty, state: &str) {
    for _ in 0..1000 {
        bash.enter("jobs -l");
        if bash.screen.until("prompt> ").contains(state) {
            return;
        }
    }
    panic!("the job is not {state}");
}

#[test]
fn a_closed_terminal_ends_the_child_of_a_session_leader() {
    let (read_end, write_end) = std::io::pipe().unwrap();
    let command = [SUPERVISE, "/usr/bin/python3", "-c", LISTENER];
    let pty = Pty::lead_with_output(&command, Stdio::from(write_end));
    let mut output = Reader::new(read_end);
    assert_eq!(output.line(), "ready");
    let mut leader = pty.close();
    assert_eq!(output.line(), "SIGHUP");
    let pid = rustix::process::Pid::from_child(&leader);
    kill_process(pid, Signal::USR2).unwrap();
    // The kernel continues those whom it hangs up.
    let rest = output.rest();
    assert_eq!(rest.replace("SIGCONT\n", ""), "SIGUSR2\n");
    wait_until_ended(pid);
    assert_eq!(leader.wait().unwrap().code(), Some(0));
}

#[test]
fn the_terminal_is_put_right_after_a_killed_program_and_left_alone_after_an_ended_one() {
    let mut killed = Pty::lead(&[SUPERVISE, "sh", "-c", "stty -echo; kill -KILL $$"]);
    assert_eq!(killed.code(), 128 + 9);
    assert!(killed.echoes());
    let mut ended = Pty::lead(&[SUPERVISE, "sh", "-c", "stty -echo"]);
    assert_eq!(ended.code(), 0);
    assert!(!ended.echoes());
}

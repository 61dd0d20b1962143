//! `engine`: what it says when it runs, and when it does not.

use std::io::Read;
use std::process::Stdio;

use fixtures::eventually;
use model::ByteSize;

use crate::harness::{Harness, LONG, environment, run, show};

#[test]
fn an_engine_that_does_not_run_is_no_error() {
    let env = environment();
    insta::assert_snapshot!(show(&env, &run(&env, "engine status")), @r#"
    exit 0
    --- stdout
    The engine of [ROOT]/data/engine.sock is not running.
    --- stderr
    "#);
    insta::assert_snapshot!(show(&env, &run(&env, "engine status -o json")), @r#"
    exit 0
    --- stdout
    {
      "running": false,
      "socket": "[ROOT]/data/engine.sock",
      "engine": null
    }
    --- stderr
    "#);
    insta::assert_snapshot!(show(&env, &run(&env, "engine stop")), @r#"
    exit 0
    --- stdout
    --- stderr
    the engine is not running
    "#);
    insta::assert_snapshot!(show(&env, &run(&env, "engine logs")), @r#"
    exit 1
    --- stdout
    --- stderr
    error: cannot read the engine's log [ROOT]/data/engine.log: No such file or directory (os error 2)
    hint: no engine has run with this data directory yet
    "#);
}

#[test]
fn a_running_engine_tells_where_it_works() {
    let harness = Harness::new();
    harness.engine.script().view.pid = 4242;
    let shown = harness.show(&harness.run("engine status"));
    insta::assert_snapshot!(shown, @r#"
    exit 0
    --- stdout
    Engine          bough 0.1.0, pid 4242
    Started         [TIME] ago
    Socket          [ROOT]/data/engine.sock
    Data            [ROOT]/data
    Volume          overlay on xfs: branches of any size at once; mounted by the engine
                    in the file /var/lib/bough-volumes/bough.img
    Room            50.0 GB free, and 70.0 GB where its file is; below 268 MB nothing is copied
    Servers run as  bough
    Servers reach   nothing but their clients
    Branches        1 of 100 at most
    Bases           1
    Warm clones     0
    Followers       0
    Longest TTL     15 min
    PostgreSQL      16.4 in /usr/lib/postgresql/16/bin: server, pg_dump, psql
    --- stderr
    "#);
}

#[test]
fn what_superseded_bases_take_is_told() {
    let harness = Harness::new();
    {
        let mut script = harness.engine.script();
        script.view.bases = 3;
        script.view.superseded_bases = 2;
        script.view.superseded_bytes = ByteSize(3_200_000_000);
    }
    let shown = harness.show(&harness.run("engine status"));
    let told = "Bases           3, 2 of them superseded (3.20 GB)";
    assert!(shown.contains(told), "{shown}");
    let shown = harness.show(&harness.run("engine status -o json"));
    assert!(
        shown.contains("\"superseded_bytes\": 3200000000"),
        "{shown}"
    );
}

#[test]
fn stop_waits_for_the_end() {
    let harness = Harness::new();
    let outcome = harness.run("engine stop --servers");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 0
    --- stdout
    --- stderr
    the engine has stopped
    "#);
    let script = harness.engine.script();
    assert_eq!(script.requests[0].0, "POST /v1/engine/stop");
    assert_eq!(script.requests[0].1["servers"], true);
}

#[test]
fn the_log_is_shown_as_it_is() {
    let env = environment();
    std::fs::write(env.data_directory().join("engine.log"), "one\ntwo\n").unwrap();
    assert_eq!(run(&env, "engine logs").success().unwrap(), "one\ntwo\n");
}

#[test]
fn a_followed_log_goes_on() {
    use std::io::Write;
    let env = environment();
    let path = env.data_directory().join("engine.log");
    std::fs::write(&path, "one\n").unwrap();
    let mut program = env.start(env.command(["engine", "logs", "-f"])).unwrap();
    let limit = crate::harness::LONG;
    program.wait_for(limit, |out, _| out == "one\n").unwrap();
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    log.write_all(b"two\n").unwrap();
    program
        .wait_for(limit, |out, _| out == "one\ntwo\n")
        .unwrap();
}

#[test]
fn an_engine_that_does_not_start_says_why() {
    let env = environment();
    let shown = show(
        &env,
        &run(&env, "--data-dir /proc/nowhere db-branches status"),
    );
    insta::assert_snapshot!(shown, @r#"
    exit 1
    --- stdout
    --- stderr
    error: the engine of /proc/nowhere ended at its start (exit status: 1)
      error: cannot write the engine's log /proc/nowhere/engine.log: No such file or directory (os error 2)
    hint: its log /proc/nowhere/engine.log may say more, and so may `bough doctor`
    "#);
    let long = "x".repeat(120);
    let outcome = run(&env, &format!("--data-dir /tmp/{long} db-branches status"));
    insta::assert_snapshot!(show(&env, &outcome).replace(&long, "[LONG]"), @r#"
    exit 1
    --- stdout
    --- stderr
    error: cannot use the engine of /tmp/[LONG]: cannot reach the engine at /tmp/[LONG]/engine.sock: path must be shorter than SUN_LEN
    hint: a socket's path is short: --data-dir or BOUGH_DATA_DIR name a shorter one
    "#);
}

#[test]
fn an_answer_of_another_api_is_told_as_such() {
    use std::io::{Read, Write};
    let env = environment();
    let socket = env.data_directory().join("engine.sock");
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let _ = client.read(&mut [0; 4096]).unwrap();
        client
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            .unwrap();
    });
    insta::assert_snapshot!(show(&env, &run(&env, "db-branches status")), @r#"
    exit 1
    --- stdout
    --- stderr
    error: cannot use the engine of [ROOT]/data: the engine's answer to GET /v1/engine (200 OK) is not understood: missing field `version` at line 1 column 2
    hint: the engine may be of another version: `bough engine stop` ends it, and the next command starts this version
    "#);
    answering.join().unwrap();
}

#[test]
fn a_log_that_nobody_reads_any_more_is_not_followed() {
    let env = environment();
    std::fs::create_dir_all(env.data_directory()).unwrap();
    std::fs::write(env.data_directory().join("engine.log"), "one\n").unwrap();
    let mut logs = env.command(["engine", "logs", "-f"]);
    let mut logs = logs.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 4];
    let mut out = logs.stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"one\n");
    // Nothing is written any more, either.
    drop(out);
    let ended = eventually("the end of it", LONG, || Ok(logs.try_wait()?));
    // One that goes on is not left behind.
    logs.kill().ok();
    assert_eq!(ended.unwrap().code(), Some(0));
}

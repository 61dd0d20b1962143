//! `exec`: nothing runs before its branch is proven, and what runs is told on as it ended.

use std::path::PathBuf;

use fixtures::{Outcome, Signal};
use model::engine_api::{BranchPhase, BranchView};

use crate::fake_door::FakeDoor;
use crate::fake_engine::Plan;
use crate::harness::{Harness, LONG};
use crate::samples;

const PASSWORD: &str = "hunter2";

/// A user whose own environment names the source, a file that wants a branch of it, and the branch's door.
struct Session {
    harness: Harness,
    door: FakeDoor,
}

impl Session {
    fn new() -> Self {
        let branch = samples::branch("metalmart", "my-debug-session");
        Self::with_identity(branch.identity.expect("the sample is cloned"))
    }

    fn with_identity(identity: String) -> Self {
        let mut harness = Harness::new();
        let door = FakeDoor::open(PASSWORD, identity);
        let port = door.port();
        let url = format!("postgres://app:{PASSWORD}@127.0.0.1:{port}/inventory");
        harness.engine.script().url = url;
        let source = format!("postgres://app:{PASSWORD}@db:5432/inventory?application_name=shop");
        harness.env.set("DATABASE_URL", source);
        let session = Self { harness, door };
        session.write(FILE);
        session
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.harness.env.home().join("x.json");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs `exec` with the file and a shell's script.
    fn exec(&self, script: &str) -> Outcome {
        self.exec_with("", script)
    }

    fn exec_with(&self, flags: &str, script: &str) -> Outcome {
        let mut command = self
            .harness
            .command(&format!("{flags} exec -f x.json -- sh -c"));
        command.arg(script);
        self.harness.finish(command)
    }

    fn show(&self, outcome: &Outcome) -> String {
        let port = self.door.port().to_string();
        self.harness.show(outcome).replace(&port, "[PORT]")
    }

    /// Runs a program that must not start, and shows what is said instead.
    fn refused(&self) -> String {
        let outcome = self.exec("touch started");
        let started = self.harness.env.home().join("started");
        assert!(!started.exists(), "{}", self.show(&outcome));
        self.show(&outcome)
    }
}

const FILE: &str = r#"{
  "target": {"namespace": "metalmart"},
  "feature": {
    "network": {"incoming": "mirror", "outgoing": true},
    "fs": "local",
    "db_branches": [{
      "id": "my-debug-session", "type": "pg", "version": "16", "name": "inventory", "ttl_secs": 300,
      "connection": {"url": {"type": "env", "variable": "DATABASE_URL"}}, "copy": {"mode": "all"}
    }]
  }
}
"#;

#[test]
fn the_program_reaches_its_branch_and_its_end_is_told_on() {
    let session = Session::new();
    let outcome = session.exec("echo $DATABASE_URL; exit 7");
    insta::assert_snapshot!(session.show(&outcome), @r#"
    exit 7
    --- stdout
    postgres://app:hunter2@127.0.0.1:[PORT]/inventory?application_name=shop
    --- stderr
    bough: context local (embedded default: no kubeconfig names one), namespace metalmart, no target: environment and network are your own
    bough: branch my-debug-session (pg-746727604a61cacd) of db:5432/inventory as app, by DATABASE_URL: new
    bough:   holds all: structure and every row
    bough:   data as of 2020-09-13T12:26:40Z ([TIME] ago), position 0/16B3748; copied for this branch
    bough:   cannot log in there, their passwords cannot be read: reporting
    bough: feature.hostname (by default): not in force yet: the process sees this machine's host name
    bough: the fence is in force: connections to db:5432 for inventory are led to branch my-debug-session
    bough:   no address on this machine yet: db; looked up again while the program runs
    bough: 0 connections to branch my-debug-session
    bough: nothing got past the fence to db:5432/inventory
    bough: branch my-debug-session lives until 2096-10-02T07:06:40Z (in [TIME]); the same command comes back to it, `bough db-branches -n metalmart destroy my-debug-session` deletes it
    "#);
    assert_eq!(session.door.logins(), 1);
    let asked = session.harness.engine.script().requests[0].1.clone();
    let holder = &asked["holder"];
    assert_eq!(
        session.harness.engine.requests(),
        [
            "POST /v1/branches".to_owned(),
            format!("DELETE /v1/sessions/{}", holder["id"].as_str().unwrap()),
        ]
    );
    assert_eq!(holder["program"], "sh");
    assert!(holder["owner"].as_str().unwrap().starts_with("ada@"));
    let mut wanted = asked.clone();
    wanted.as_object_mut().unwrap().remove("holder");
    insta::assert_snapshot!(wanted, @r#"{"connection_settings":{},"copy":{"mode":"all"},"database":"inventory","id":"my-debug-session","max_age_seconds":null,"namespace":"metalmart","source":{"url":"postgres://app:hunter2@db:5432/inventory?application_name=shop"},"ttl":300,"version":16}"#);
}

#[test]
fn a_branch_is_found_again_and_its_age_is_told() {
    let session = Session::new();
    let branch = samples::branch("metalmart", "my-debug-session");
    session.harness.engine.script().add(branch);
    let outcome = session.exec("true");
    assert_eq!(outcome.status.code(), Some(0));
    assert!(
        session.show(&outcome).contains(": reused, made [TIME] ago"),
        "{}",
        session.show(&outcome)
    );
}

#[test]
fn quiet_leaves_the_program_alone() {
    let session = Session::new();
    let outcome = session.exec_with("-q", "echo out; echo err >&2");
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn older_data_will_do_where_the_file_or_the_flag_says_so() {
    let session = Session::new();
    session.write(&FILE.replace(
        r#""copy": {"mode": "all"}"#,
        r#""copy": {"mode": "all"}, "freshness": {"max_age_secs": 3600}"#,
    ));
    session.exec("true").success().unwrap();
    let command = session
        .harness
        .command("exec --max-age 60 -f x.json -- true");
    session.harness.finish(command).success().unwrap();
    let asked = session.harness.engine.script().requests.clone();
    let ages = asked
        .iter()
        .map(|(_, body)| body["max_age_seconds"].as_u64());
    let ages: Vec<_> = ages.flatten().collect();
    assert_eq!(ages, [3600, 60]);
}

#[test]
fn another_server_behind_the_address_stops_everything() {
    let session = Session::with_identity("bough-another".to_owned());
    insta::assert_snapshot!(session.refused(), @r#"
    exit 4
    --- stdout
    --- stderr
    error: DATABASE_URL does not lead to branch my-debug-session: another server answered
    "#);
    assert!(session.harness.engine.script().sessions.is_empty());
}

#[test]
fn a_login_that_fails_stops_everything() {
    let mut session = Session::new();
    session
        .harness
        .env
        .set("DATABASE_URL", "postgres://app:wrong@db:5432/inventory");
    insta::assert_snapshot!(session.refused(), @r#"
    exit 4
    --- stdout
    --- stderr
    error: cannot log in to branch my-debug-session by DATABASE_URL: db error: FATAL: password authentication failed for user "app"
    hint: the branch has the source's own roles; one whose password could not be read cannot log in: `bough db-branches status ID` names them
    "#);
}

#[test]
fn a_url_without_a_password_is_told_what_a_branch_asks_for() {
    let mut session = Session::new();
    session
        .harness
        .env
        .set("DATABASE_URL", "postgres://app@db:5432/inventory");
    insta::assert_snapshot!(session.refused(), @r#"
    exit 4
    --- stdout
    --- stderr
    error: DATABASE_URL has no password, and branch my-debug-session asks for one
    hint: a branch trusts nobody, though its source may: give the source's role a password, and name it in the URL or in PGPASSWORD
    "#);
}

#[test]
fn a_url_that_verifies_asks_no_proof_of_the_branch() {
    let mut session = Session::new();
    let url = format!("postgres://app:{PASSWORD}@db:5432/inventory?sslmode=verify-full");
    session.harness.env.set("DATABASE_URL", url);
    let outcome = session.exec("echo $DATABASE_URL");
    assert!(
        outcome.stdout.ends_with("/inventory?sslmode=disable\n"),
        "{}",
        session.show(&outcome)
    );
    let params = r#""ttl_secs": 300, "query_params": {"sslmode": "require"}"#;
    session.write(&FILE.replace(r#""ttl_secs": 300"#, params));
    let outcome = session.exec("echo $DATABASE_URL");
    assert!(
        outcome.stdout.ends_with("/inventory?sslmode=require\n"),
        "{}",
        session.show(&outcome)
    );
}

#[test]
fn a_proof_that_libpq_s_variables_ask_for_stops_everything() {
    let mut session = Session::new();
    session.harness.env.set("PGSSLMODE", "verify-full");
    insta::assert_snapshot!(session.refused(), @r#"
    exit 4
    --- stdout
    --- stderr
    error: DATABASE_URL demands to know who answers (PGSSLMODE=verify-full), and a branch answers under a certificate of the session's own
    hint: "override": {"PGSSLMODE": "require"} of "env" in the configuration file encrypts without asking who answers, where "unset" removes PGSSLROOTCERT and PGCHANNELBINDING
    "#);
}

#[test]
fn what_no_branch_can_be_put_into_is_told_before_there_is_one() {
    let mut session = Session::new();
    let other = format!("postgres://app:{PASSWORD}@db:5432/analytics");
    session.harness.env.set("ANALYTICS_URL", other);
    let one = r#"{"type": "env", "variable": "DATABASE_URL"}"#;
    let both = r#"["DATABASE_URL", "ANALYTICS_URL"]"#;
    session.write(&FILE.replace(one, both));
    insta::assert_snapshot!(session.refused(), @r#"
    exit 4
    --- stdout
    --- stderr
    error: cannot lead ANALYTICS_URL, DATABASE_URL to branch my-debug-session: ANALYTICS_URL names another database than DATABASE_URL: only one database is branched
    hint: two databases are two entries of "db_branches": take ANALYTICS_URL out of this one
    "#);
    assert!(session.harness.engine.script().requests.is_empty());
}

#[test]
fn without_a_target_the_source_is_in_the_env_file() {
    let mut session = Session::new();
    session.harness.env.unset("DATABASE_URL");
    let url = format!("DATABASE_URL=postgres://app:{PASSWORD}@db:5432/inventory\n");
    std::fs::write(session.harness.env.home().join(".env"), url).unwrap();
    let with = r#""fs": "local", "env": {"env_file": ".env"},"#;
    session.write(&FILE.replace(r#""fs": "local","#, with));
    let outcome = session.exec("echo $DATABASE_URL");
    let led = format!("@127.0.0.1:{}/inventory\n", session.door.port());
    assert!(outcome.stdout.ends_with(&led), "{}", session.show(&outcome));
}

/// A bash script that begins a session with PostgreSQL at a place: `user=app database=inventory`, protocol 3.0.
fn begin_session(port: u16) -> String {
    format!(
        r"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && printf %b \\0\\0\\0\\045\\0\\3\\0\\0user\\0app\\0database\\0inventory\\0\\0 >&3 && head -c 60 <&3 | tr -cd [:print:]'"
    )
}

#[test]
fn what_asserts_isolation_ends_by_it_and_a_report_says_why() {
    let session = Session::new();
    let stranger = FakeDoor::open(PASSWORD, "stranger".to_owned());
    let script = format!("{}; exit 0", begin_session(stranger.port()));
    let mut command = session
        .harness
        .command("-q exec -f x.json --assert-isolated --report report.json -- sh -c");
    command.arg(script);
    let outcome = session.harness.finish(command);
    let shown = session
        .show(&outcome)
        .replace(&stranger.port().to_string(), "[STRANGER]");
    insta::assert_snapshot!(shown, @r#"
    exit 4
    --- stdout
    ESFATALVFATALC08004Mbough: no branch stands in for da--- stderr
    error: the session was not isolated: it was refused inventory at 127.0.0.1:[STRANGER]
    hint: a branch for each database of the file, or no such connection in the program
    "#);
    let report = std::fs::read(session.harness.env.home().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["isolated"], false);
    assert_eq!(report["refused"][0]["database"], "inventory");
    assert_eq!(report["branched_databases_untouched"], true);
    assert_eq!(stranger.logins(), 0);
}

#[test]
fn an_address_that_libpq_would_take_before_the_branchs_is_refused() {
    let session = Session::new();
    let mut command = session.harness.command("-q exec -f x.json -- echo never");
    command.env("PGSERVICE", "shop");
    let outcome = session.harness.finish(command);
    insta::assert_snapshot!(session.show(&outcome), @r#"
    exit 4
    --- stdout
    --- stderr
    error: PGSERVICE is set for the program, and libpq takes an address from it in place of the one of DATABASE_URL
    hint: "unset": ["PGSERVICE", "PGHOSTADDR"] of "env" in the configuration file removes it
    "#);
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_runs() {
    let session = Session::new();
    let command = session
        .harness
        .command("-q exec -f x.json --report nowhere/report.json -- echo never");
    let outcome = session.harness.finish(command);
    assert_eq!(
        (outcome.status.code(), outcome.stdout.as_str()),
        (Some(1), ""),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_report_is_a_page_unless_its_name_says_otherwise() {
    let session = Session::new();
    let mut command = session
        .harness
        .command("-q exec -f x.json --report report.md -- true");
    command.current_dir(session.harness.env.home());
    assert_eq!(session.harness.finish(command).status.code(), Some(0));
    let report = std::fs::read_to_string(session.harness.env.home().join("report.md")).unwrap();
    insta::assert_snapshot!(report, @r#"
    # Bough session

    - context: local, namespace `metalmart`, target: none
    - branched databases untouched: yes
    - every session with PostgreSQL that was looked into ended in a branch: yes
    - `inventory` at db:5432 is branch `my-debug-session`

    | branch | by its address | had aimed at the source, led here | refused |
    |---|---|---|---|
    | `my-debug-session` | 0 | 0 | 0 |

    ## Other destinations

    none
    "#);
}

#[test]
fn a_branch_that_fails_stops_everything() {
    let session = Session::new();
    let plan = Plan::Failed("cannot copy inventory: no space left");
    session.harness.engine.script().plans.push_back(plan);
    insta::assert_snapshot!(session.refused(), @r#"
    exit 4
    --- stdout
    --- stderr
    my-debug-session: asking the source whether it moved
    error: branch my-debug-session could not be made: cannot copy inventory: no space left
    hint: look at the source
    "#);
}

#[test]
fn a_branch_that_takes_too_long_stops_everything_and_goes_on() {
    let session = Session::new();
    let timeout = r#""ttl_secs": 300, "creation_timeout_secs": 1"#;
    session.write(&FILE.replace(r#""ttl_secs": 300"#, timeout));
    let plan = Plan::Phases(vec![BranchPhase::Copying]);
    session.harness.engine.script().plans.push_back(plan);
    insta::assert_snapshot!(session.refused(), @r#"
    exit 4
    --- stdout
    --- stderr
    my-debug-session: asking the source whether it moved
    error: not ready after 1 s: branch my-debug-session (copying)
    hint: the copy goes on in the engine: the same command waits on for it, and `bough db-branches status` shows how far it is
    "#);
    let script = session.harness.engine.script();
    assert!(script.sessions.is_empty());
    assert_eq!(script.branches.len(), 1);
}

#[test]
fn a_variable_that_is_not_there_stops_everything() {
    let mut session = Session::new();
    session.harness.env.unset("DATABASE_URL");
    session
        .harness
        .env
        .set("DATABASE_URI", "postgres://db/inventory");
    insta::assert_snapshot!(session.refused(), @r#"
    exit 4
    --- stdout
    --- stderr
    error: cannot find the source of branch my-debug-session (feature.db_branches[0]): DATABASE_URL is not in the target's environment
    hint: did you mean DATABASE_URI?
    "#);
}

#[test]
fn a_wrong_file_exits_with_2_and_every_error() {
    let session = Session::new();
    let wrong = FILE
        .replace("\"fs\"", "\"fz\"")
        .replace("\"all\"", "\"everything\"");
    session.write(&wrong);
    insta::assert_snapshot!(session.refused(), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 2 errors
    x.json:5:5: feature.fz: "feature" has no key "fz"
        "fz": "local",
        ^^^^
        hint: did you mean "fs"?
    x.json:8:92: feature.db_branches[0].copy.mode: "everything" is none of "empty", "schema", "all"
        "connection": {"url": {"type": "env", "variable": "DATABASE_URL"}}, "copy": {"mode": "everything"}
                                                                                             ^^^^^^^^^^^^
    "#);
}

#[test]
fn a_file_that_is_not_there_exits_with_2() {
    let session = Session::new();
    let outcome = session.harness.run("exec -f y.json -- true");
    insta::assert_snapshot!(session.show(&outcome), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot read the configuration file y.json: No such file or directory (os error 2)
    "#);
    let outcome = session.harness.run("exec -f -- true");
    assert!(
        outcome.stderr.contains(".mirrord/mirrord.json"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_unknown_context_or_target_exits_with_3() {
    let session = Session::new();
    let outcome = session
        .harness
        .run("exec -f x.json --context staging -- true");
    assert_eq!(outcome.status.code(), Some(3), "{}", session.show(&outcome));
    let outcome = session
        .harness
        .run("exec -f x.json -t deployment/nobody -- true");
    assert_eq!(outcome.status.code(), Some(3), "{}", session.show(&outcome));
}

#[test]
fn programs_that_cannot_run_exit_as_in_a_shell() {
    let session = Session::new();
    let outcome = session.harness.run("-q exec -- no-such-program");
    insta::assert_snapshot!(session.show(&outcome), @r#"
    exit 127
    --- stdout
    --- stderr
    error: cannot find the program "no-such-program"
    "#);
    let outcome = session.harness.run("-q exec -- /etc/passwd");
    insta::assert_snapshot!(session.show(&outcome), @r#"
    exit 126
    --- stdout
    --- stderr
    error: cannot execute "/etc/passwd": Permission denied (os error 13)
    "#);
    let outcome = session.exec_with("-q", "kill -9 $$");
    assert_eq!(outcome.status.code(), Some(137));
}

#[test]
fn without_branches_no_engine_is_asked() {
    let session = Session::new();
    session.write("{}");
    let outcome = session.exec("echo $DATABASE_URL");
    insta::assert_snapshot!(session.show(&outcome), @r#"
    exit 0
    --- stdout
    postgres://app:hunter2@db:5432/inventory?application_name=shop
    --- stderr
    bough: context local (embedded default: no kubeconfig names one), namespace default, no target: environment and network are your own
    bough: feature.fs.mode (by default): nobody chose a mode, and the default "read" is not supported yet: runs as "local"
    bough: feature.hostname (by default): not in force yet: the process sees this machine's host name
    "#);
    assert!(session.harness.engine.requests().is_empty());
}

#[test]
fn a_branch_that_is_lost_ends_the_program_loudly() {
    let session = Session::new();
    let mut command = session.harness.command("-q exec -f x.json -- sh -c");
    command.arg("echo started; exec sleep 600");
    let mut program = session.harness.env.start(command).unwrap();
    program
        .wait_for(LONG, |out, _| out.contains("started"))
        .unwrap();
    session.harness.engine.script().branches.clear();
    let outcome = program.finish(LONG).unwrap();
    insta::assert_snapshot!(session.show(&outcome), @r#"
    exit 4
    --- stdout
    started
    --- stderr
    warning: branch my-debug-session was deleted while the session held it; ending the program
    error: branch my-debug-session was deleted while the session held it
    hint: the same command makes it again
    "#);
}

#[test]
fn a_branch_that_fails_in_mid_run_ends_the_program_too() {
    let session = Session::new();
    let mut command = session.harness.command("-q exec -f x.json -- sh -c");
    command.arg("echo started; exec sleep 600");
    let mut program = session.harness.env.start(command).unwrap();
    program
        .wait_for(LONG, |out, _| out.contains("started"))
        .unwrap();
    let failed = BranchView {
        phase: BranchPhase::Failed,
        message: Some("its server is gone".to_owned()),
        ..samples::branch("metalmart", "my-debug-session")
    };
    session.harness.engine.script().add(failed);
    let outcome = program.finish(LONG).unwrap();
    insta::assert_snapshot!(session.show(&outcome), @r#"
    exit 4
    --- stdout
    started
    --- stderr
    warning: branch my-debug-session failed while the session held it: its server is gone; ending the program
    error: branch my-debug-session failed while the session held it: its server is gone
    hint: `bough engine logs` shows what the engine did
    "#);
}

#[test]
fn signals_are_the_programs_own_and_end_a_wait_before_it() {
    let session = Session::new();
    let mut command = session.harness.command("-q exec -f x.json -- sh -c");
    command.arg("trap 'echo got it; kill $!; exit 5' TERM; sleep 600 & echo started; wait");
    let mut program = session.harness.env.start(command).unwrap();
    program
        .wait_for(LONG, |out, _| out.contains("started"))
        .unwrap();
    program.signal(Signal::TERM).unwrap();
    let outcome = program.finish(LONG).unwrap();
    assert_eq!(
        (outcome.status.code(), outcome.stdout.as_str()),
        (Some(5), "started\ngot it\n")
    );

    let session = Session::new();
    let plan = Plan::Phases(vec![BranchPhase::Copying]);
    session.harness.engine.script().plans.push_back(plan);
    let command = session.harness.command("exec -f x.json -- touch started");
    let mut program = session.harness.env.start(command).unwrap();
    program
        .wait_for(LONG, |_, err| err.contains("asking the source"))
        .unwrap();
    program.signal(Signal::INT).unwrap();
    assert_eq!(program.finish(LONG).unwrap().status.code(), Some(130));
    assert!(session.harness.engine.script().sessions.is_empty());
    assert!(!session.harness.env.home().join("started").exists());
}

#[test]
fn a_key_names_branches_without_an_id() {
    let session = Session::new();
    session.write(&FILE.replace(r#""id": "my-debug-session", "#, ""));
    // Another branch, so another identity than the door's: it is asked for all the same.
    let outcome = session.harness.run("exec -f x.json -k mine -- true");
    assert_eq!(outcome.status.code(), Some(4));
    assert_eq!(session.harness.engine.script().requests[0].1["id"], "mine");
    let outcome = session.harness.run("exec -f x.json -- true");
    assert_eq!(outcome.status.code(), Some(4));
}

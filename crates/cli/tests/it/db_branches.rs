//! `db-branches`: what there is, what is made, what is deleted, and what is said where there is nothing.

use model::PgMajor;
use model::engine_api::{BranchPhase, CopyPhase, CopyProgress, Problem, ProblemKind, SessionView};
use model::{ByteSize, Secret};
use serde_json::Value;

use crate::fake_engine::Plan;
use crate::harness::Harness;
use crate::samples;

fn json(outcome: &fixtures::Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn with_branches(branches: &[(&str, &str)]) -> Harness {
    let harness = Harness::new();
    for (namespace, id) in branches {
        harness.engine.script().add(samples::branch(namespace, id));
    }
    harness
}

#[test]
fn no_branch_is_a_line_and_no_error() {
    let harness = with_branches(&[("other", "x")]);
    insta::assert_snapshot!(harness.show(&harness.run("db-branches -n metalmart status")), @r#"
    exit 0
    --- stdout
    No branch in namespace metalmart.
    --- stderr
    "#);
    let outcome = harness.run("db-branches -n metalmart status -o json");
    assert_eq!(outcome.success().unwrap(), "[]\n");
}

#[test]
fn status_lists_the_namespaces_branches() {
    let harness = with_branches(&[("metalmart", "my-debug-session"), ("other", "x")]);
    let mut held = samples::branch("metalmart", "held");
    held.expires_at = None;
    held.sessions.push(session());
    harness.engine.script().add(held);
    let outcome = harness.run("db-branches -n metalmart status");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 0
    --- stdout
    NAME                 ID                NAMESPACE  PHASE  SOURCE             COPY  VERSION  SESSIONS  CONNECTIONS  DISK     TTL    EXPIRES
    pg-7a913dcd4bdc6771  held              metalmart  ready  db:5432/inventory  all   16       1         0            1.20 MB  5 min  in use
    pg-746727604a61cacd  my-debug-session  metalmart  ready  db:5432/inventory  all   16       0         0            1.20 MB  5 min  in [TIME]
    --- stderr
    "#);
    let all = json(&harness.run("db-branches -A status -o json"));
    assert_eq!(all.as_array().unwrap().len(), 3);
}

fn session() -> SessionView {
    SessionView {
        id: "00112233aabbccdd".to_owned().try_into().unwrap(),
        owner: "ada@host".to_owned(),
        pid: 4242,
        program: "inventory".to_owned(),
        joined_at: samples::start(),
        stopped_by: None,
    }
}

#[test]
fn one_named_branch_is_told_in_full() {
    let harness = with_branches(&[("default", "a")]);
    let outcome = harness.run("db-branches status a");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 0
    --- stdout
    Name            pg-c004033e982d5965
    Id              a
    Namespace       default
    Phase           ready
    Source          db:5432/inventory as app
    Copy            all: structure and every row
    Version         16
    Endpoint        127.0.0.1:40001
    Created         [TIME] ago (2020-09-13T12:26:40Z)
    Ready           [TIME] ago (2020-09-13T12:26:40Z)
    TTL             5 min
    Lives           until 2096-10-02T07:06:40Z (in [TIME])
    Connections     0 now, 0 since the engine started
    Disk            1.20 MB of its own, 48.3 MB shared
    Freshness       data as of 2020-09-13T12:26:40Z ([TIME] ago), position 0/16B3748; copied for this branch
    Source version  16
    Cannot log in   reporting
    Sessions        none
    --- stderr
    "#);
    let listed = json(&harness.run("db-branches status a -o json"));
    let mut keys: Vec<_> = listed[0].as_object().unwrap().keys().cloned().collect();
    keys.sort();
    insta::assert_snapshot!(keys.join(" "), @"asleep base connections connections_total created_at disk_bytes endpoint expires_at generation hint id identity message name namespace phase progress ready_at sessions shared_bytes spec ttl_seconds version");
}

#[test]
fn unknown_names_exit_with_1_say_what_exists_and_touch_nothing() {
    let harness = with_branches(&[("metalmart", "my-debug-session"), ("other", "x")]);
    let outcome = harness.run("db-branches -n metalmart destroy my-debug-session my-debug-sesion");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 1
    --- stdout
    --- stderr
    error: no branch "my-debug-sesion" in namespace metalmart: there is my-debug-session
    hint: did you mean my-debug-session?
    "#);
    assert_eq!(harness.engine.requests(), Vec::<String>::new());

    let outcome = harness.run("db-branches -n metalmart stop x");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 1
    --- stdout
    --- stderr
    error: no branch "x" in namespace metalmart: there is my-debug-session
    hint: namespace other has a branch x: add -n other
    "#);
    assert_eq!(harness.engine.script().branches.len(), 2);
}

#[test]
fn destroy_takes_ids_names_and_all() {
    let harness = with_branches(&[
        ("default", "a"),
        ("default", "b"),
        ("other", "c"),
        ("other", "d"),
    ]);
    let b = samples::branch("default", "b").name;
    let outcome = harness.run(&format!("db-branches destroy a {b}"));
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 0
    --- stdout
    Branch a (pg-c004033e982d5965, namespace default) is deleted.
    Branch b (pg-e22f8db7012bb8a8, namespace default) is deleted.
    --- stderr
    "#);
    let outcome = harness.run("db-branches -n other stop --all");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 0
    --- stdout
    Branch c (pg-69a2d6becd68d157, namespace other) is deleted.
    Branch d (pg-33b07e3352fddb9e, namespace other) is deleted.
    --- stderr
    "#);
    assert!(harness.engine.script().branches.is_empty());
    let outcome = harness.run("db-branches -A destroy --all");
    assert_eq!(outcome.success().unwrap(), "No branch in any namespace.\n");
}

#[test]
fn create_waits_with_progress_and_tells_the_url_without_its_password() {
    let harness = Harness::new();
    {
        let mut script = harness.engine.script();
        script.progress = Some(CopyProgress {
            phase: CopyPhase::Copying,
            source_size_bytes: Some(ByteSize(4_500_000_000)),
            disk_needed_bytes: Some(ByteSize(5_100_000_000)),
            disk_free_bytes: Some(ByteSize(50_000_000_000)),
            estimate_seconds: Some(40),
            copied_bytes: ByteSize(1_200_000_000),
            copied_rows: 1_234_567,
            table: Some("public.orders".to_owned()),
            advice: None,
            started_at: samples::start(),
        });
        script.plans.push_back(Plan::Phases(vec![
            BranchPhase::Copying,
            BranchPhase::Starting,
            BranchPhase::Ready,
        ]));
    }
    let outcome =
        harness.run("db-branches create try-it --source inventory --copy schema --ttl 600");
    let shown = harness.show(&outcome);
    assert!(outcome.status.success(), "{shown}");
    assert!(
        shown.contains("postgres://app:***@127.0.0.1:40001/inventory"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    let refused = "  refuses  reporting: passwords that cannot be read\n";
    assert!(shown.contains(refused), "{shown}");
    assert!(shown.contains("try-it: copying inventory of db:5432, 4.50 GB; needs 5.10 GB of disk here, 50.0 GB is free; about 40 s; this command waits 10 min at most, the copy goes on without it"), "{shown}");
    assert!(
        shown.contains("try-it: copying 1.20 GB of 4.50 GB, 1,234,567 rows, public.orders"),
        "{shown}"
    );
    let script = harness.engine.script();
    let (line, body) = &script.requests[0];
    assert_eq!(line, "POST /v1/branches");
    insta::assert_snapshot!(body, @r#"{"connection_settings":{},"copy":{"mode":"schema"},"database":null,"id":"try-it","max_age_seconds":null,"namespace":"default","source":{"name":"inventory"},"ttl":600,"version":null}"#);
}

#[test]
fn create_gives_a_shell_its_url() {
    let harness = Harness::new();
    harness.engine.script().url = "postgres://app:it's@127.0.0.1:40001/inventory".to_owned();
    let outcome = harness.run("db-branches create try-it --source inventory -o env");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 0
    --- stdout
    export DATABASE_URL='postgres://app:it'\''s@127.0.0.1:40001/inventory'
    --- stderr
    "#);
    let again = json(&harness.run("db-branches create try-it --source inventory -o json"));
    assert_eq!(again["reused"], true);
    assert_eq!(
        again["url"],
        "postgres://app:it's@127.0.0.1:40001/inventory"
    );
    assert_eq!(again["branch"]["id"], "try-it");
}

#[test]
fn a_url_in_the_arguments_is_warned_of_and_one_of_the_environment_is_not() {
    let mut harness = Harness::new();
    let outcome = harness.run("db-branches create a --source postgres://u:hunter2@db/inventory");
    insta::assert_snapshot!(outcome.stderr, @r#"
    warning: every account of this machine can read the password in this command's arguments
    hint: give `-` and the URL on standard input, or set BOUGH_SOURCE_URL
    "#);
    harness
        .env
        .set("BOUGH_SOURCE_URL", "postgres://u:hunter2@db/inventory");
    let outcome = harness.run("db-branches create b");
    assert_eq!(outcome.stderr, "");
    let script = harness.engine.script();
    let sent = &script.requests[1].1["source"]["url"];
    assert_eq!(
        sent,
        Secret::new("postgres://u:hunter2@db/inventory").reveal()
    );
}

#[test]
fn a_broken_url_is_refused_without_being_shown() {
    let harness = Harness::new();
    let outcome = harness.run("db-branches create a --source mysql://u:hunter2@db/inventory");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot read the source's connection string: neither a postgres:// URL, nor a key=value connection string, nor .NET's form
    hint: a connection string looks like postgres://user:password@host:5432/database
    "#);
}

#[test]
fn a_failed_branch_exits_with_4_and_its_reason() {
    let harness = Harness::new();
    let plan = Plan::Failed("cannot copy inventory: permission denied for table secrets");
    harness.engine.script().plans.push_back(plan);
    let outcome = harness.run("db-branches create a --source inventory");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 4
    --- stdout
    --- stderr
    a: asking the source whether it moved
    error: branch a could not be made: cannot copy inventory: permission denied for table secrets
    hint: look at the source
    "#);
}

#[test]
fn a_branch_that_takes_too_long_exits_with_4_and_goes_on() {
    let harness = Harness::new();
    let plan = Plan::Phases(vec![BranchPhase::Copying]);
    harness.engine.script().plans.push_back(plan);
    let outcome = harness.run("-q db-branches create a --source inventory --wait-timeout 0");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 4
    --- stdout
    --- stderr
    error: not ready after 0 s: branch a (copying)
    hint: the copy goes on in the engine: the same command waits on for it, and `bough db-branches status` shows how far it is
    "#);
    assert_eq!(harness.engine.script().branches.len(), 1);
}

#[test]
fn a_different_spec_is_shown_beside_the_living_one() {
    let harness = Harness::new();
    let mut problem = Problem::new(ProblemKind::SpecDiffers, "branch a lives with another spec")
        .with_hint("bough db-branches destroy a, or another id");
    let mut asked = samples::branch("default", "a").spec;
    problem.existing = Some(Box::new(asked.clone()));
    asked.version = Some(PgMajor(17));
    problem.asked = Some(Box::new(asked));
    harness
        .engine
        .script()
        .plans
        .push_back(Plan::Refused(problem));
    let outcome = harness.run("db-branches create a --source inventory");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 4
    --- stdout
    --- stderr
    error: branch a lives with another spec
                ASKED FOR  LIVING
      source    db:5432    db:5432
      database  inventory  inventory
      user      app        app
      copy      all        all
      tables    -          -
      version   17         16         differs
      settings  -          -
    hint: bough db-branches destroy a, or another id
    "#);
}

#[test]
fn reset_waits_for_fresh_data() {
    let harness = with_branches(&[("default", "a")]);
    let plan = Plan::Phases(vec![BranchPhase::Cloning, BranchPhase::Ready]);
    harness.engine.script().plans.push_back(plan);
    let outcome = harness.run("-q db-branches reset a");
    let text = outcome.success().unwrap();
    assert!(
        text.starts_with("Branch a has fresh data; it lives until "),
        "{text}"
    );
    let name = samples::branch("default", "a").name;
    assert_eq!(
        harness.engine.requests(),
        [format!("POST /v1/branches/{name}/reset")]
    );
}

#[test]
fn extend_asks_for_the_branchs_own_ttl_or_the_given_one() {
    let harness = with_branches(&[("default", "a")]);
    harness.run("db-branches extend a").success().unwrap();
    harness
        .run("db-branches extend a --ttl 900")
        .success()
        .unwrap();
    let ttls: Vec<_> = {
        let script = harness.engine.script();
        let bodies = script.requests.iter().map(|(_, body)| body["ttl"].clone());
        bodies.collect()
    };
    assert_eq!(ttls, [300, 900]);
    let outcome = harness.run("db-branches extend a --ttl 901");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 4
    --- stdout
    --- stderr
    error: a TTL of 901 s is above the maximum of 900 s
    "#);
}

#[test]
fn connections_lists_sessions_and_urls_without_passwords() {
    let harness = with_branches(&[("default", "b")]);
    let mut held = samples::branch("default", "a");
    held.sessions.push(session());
    held.connections = 3;
    harness.engine.script().add(held);
    let outcome = harness.run("db-branches connections");
    let text = outcome.success().unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    let listed = json(&harness.run("db-branches connections -o json"));
    let by_id: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["id"] == "a")
        .collect();
    let row = serde_json::to_string_pretty(by_id[0]).unwrap();
    insta::assert_snapshot!(row, @r#"
    {
      "connections": 3,
      "connections_total": 0,
      "id": "a",
      "name": "pg-c004033e982d5965",
      "namespace": "default",
      "phase": "ready",
      "sessions": [
        {
          "id": "00112233aabbccdd",
          "joined_at": "2020-09-13T12:26:40Z",
          "owner": "ada@host",
          "pid": 4242,
          "program": "inventory"
        }
      ],
      "url": "postgres://app:***@127.0.0.1:40001/inventory"
    }
    "#);
}

#[test]
fn a_url_hides_its_password_unless_asked() {
    let harness = with_branches(&[("default", "a")]);
    let hidden = harness.run("db-branches url a").success().unwrap();
    assert_eq!(hidden, "postgres://app:***@127.0.0.1:40001/inventory\n");
    let shown = harness
        .run("db-branches url a --show-password")
        .success()
        .unwrap();
    assert_eq!(shown, "postgres://app:hunter2@127.0.0.1:40001/inventory\n");
}

#[test]
fn a_url_as_json_has_its_parts_and_a_password_only_when_asked() {
    let harness = with_branches(&[("default", "a")]);
    let url = |flags: &str| -> serde_json::Value {
        let told = harness.run(&format!("db-branches url a -o json{flags}"));
        serde_json::from_str(&told.success().unwrap()).unwrap()
    };
    let hidden = url("");
    assert_eq!(hidden["id"], "a");
    assert!(hidden["port"].is_u64() && hidden["host"].is_string());
    assert_eq!(hidden.get("password"), None);
    assert!(!hidden.to_string().contains("hunter2"), "{hidden}");
    assert_eq!(url(" --show-password")["password"], "hunter2");
}

#[test]
fn psql_gets_its_password_by_environment_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mut harness = with_branches(&[("default", "a")]);
    let bin = harness.env.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let psql = bin.join("psql");
    std::fs::write(&psql, "#!/bin/sh\necho \"$@\"\nenv | grep ^PG\nexit 7\n").unwrap();
    std::fs::set_permissions(&psql, PermissionsExt::from_mode(0o755)).unwrap();
    {
        let mut script = harness.engine.script();
        script.view.installations[0].bin = bin.display().to_string();
        script.url =
            "postgres://app:hunter2@127.0.0.1:40001/inventory?sslmode=require&options=-c%20x.y%3D1"
                .to_owned();
    }
    harness.env.set("PGHOST", "elsewhere");
    let outcome = harness.run("db-branches psql a -- -c select");
    insta::assert_snapshot!(harness.show(&outcome), @r#"
    exit 7
    --- stdout
    postgresql://app@127.0.0.1:40001/inventory?sslmode=disable&options=-c%20x.y%3D1 -c select
    PGPASSWORD=hunter2
    --- stderr
    "#);
}

#[test]
fn an_engine_of_another_version_is_told_of() {
    let harness = Harness::new();
    harness.engine.script().view.version = "9.9.9".to_owned();
    let outcome = harness.run("db-branches status");
    assert!(
        outcome
            .stderr
            .starts_with("warning: the engine is bough 9.9.9, this is "),
        "{}",
        outcome.stderr
    );
    assert!(outcome.status.success());
}

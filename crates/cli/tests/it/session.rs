//! `session`: who holds which branches, and what is said when somebody is stopped.

use model::engine_api::SessionView;

use crate::harness::Harness;
use crate::samples;

fn session(id: &str, owner: &str) -> SessionView {
    SessionView {
        id: id.to_owned().try_into().unwrap(),
        owner: owner.to_owned(),
        pid: 4242,
        program: "inventory".to_owned(),
        joined_at: samples::start(),
        stopped_by: None,
    }
}

/// Two branches of a namespace: one held by both, one by Ada alone; and one of Bob's elsewhere.
fn held() -> Harness {
    let harness = Harness::new();
    let (ada, bob) = (
        session("00112233aabbccdd", "ada@host"),
        session("0011ffff", "bob@host"),
    );
    for (namespace, id, sessions) in [
        ("metalmart", "both", vec![ada.clone(), bob]),
        ("metalmart", "hers", vec![ada]),
        ("other", "elsewhere", vec![session("9f", "bob@host")]),
    ] {
        let mut branch = samples::branch(namespace, id);
        branch.sessions = sessions;
        harness.engine.script().add(branch);
    }
    harness
}

#[test]
fn sessions_are_listed_once_each_with_what_they_hold() {
    let harness = held();
    insta::assert_snapshot!(harness.show(&harness.run("session -n metalmart ls")), @r#"
    exit 0
    --- stdout
    SESSION  OWNER  PID  PROGRAM  JOINED  NAMESPACE  TARGET  BRANCHES  STOPPED BY
    00112233aabbccdd  ada@host  4242  inventory  [TIME] ago  metalmart  -  both, hers  -
    0011ffff  bob@host  4242  inventory  [TIME] ago  metalmart  -  both  -
    --- stderr
    "#);
    let all = harness.run("session -A ls -o json").success().unwrap();
    assert_eq!(all.matches("bob@host").count(), 2, "{all}");
    insta::assert_snapshot!(harness.show(&harness.run("session ls")), @r#"
    exit 0
    --- stdout
    No session is known in namespace default.
    --- stderr
    "#);
}

#[test]
fn a_session_is_stopped_by_a_beginning_that_is_its_own() {
    let harness = held();
    insta::assert_snapshot!(harness.show(&harness.run("session -n metalmart stop 0011")), @r#"
    exit 1
    --- stdout
    --- stderr
    error: "0011" begins the ids of 2 sessions: 00112233aabbccdd, 0011ffff
    hint: `bough session ls` shows them; -n names another namespace
    "#);
    insta::assert_snapshot!(harness.show(&harness.run("session -n metalmart stop 9f")), @r#"
    exit 1
    --- stdout
    --- stderr
    error: no session "9f" is known in namespace metalmart
    hint: `bough session ls` shows them; -n names another namespace
    "#);
    insta::assert_snapshot!(harness.show(&harness.run("session -n metalmart stop 00112")), @r#"
    exit 0
    --- stdout
    Session 00112233aabbccdd (inventory of ada@host) has ended.
    --- stderr
    "#);
    let left = harness
        .run("session -n metalmart ls -o json")
        .success()
        .unwrap();
    assert!(
        left.contains("0011ffff") && !left.contains("00112233aabbccdd"),
        "{left}"
    );
}

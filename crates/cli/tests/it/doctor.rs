//! `doctor`: what it says of an engine that works and of one that does not start.

use model::ByteSize;
use serde_json::Value;

use crate::harness::Harness;

/// The verdict and what was found, by the name of the check.
fn examine(harness: &Harness) -> (Option<i32>, Value) {
    let outcome = harness.run("doctor -o json");
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    (outcome.status.code(), report["checks"].clone())
}

fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let mut list = checks.as_array().unwrap().iter();
    list.find(|check| check["name"] == name).unwrap()
}

#[test]
fn a_machine_that_can_branch_exits_with_0() {
    let harness = Harness::new();
    let (code, checks) = examine(&harness);
    assert_eq!(code, Some(0));
    for name in ["engine", "servers run as", "PostgreSQL", "volume", "disk"] {
        assert_eq!(check(&checks, name)["verdict"], "good", "{name}");
    }
    // What these say depends on the machine; that they are looked at does not.
    for name in ["kernel", "seccomp notification", "user namespaces"] {
        let check = check(&checks, name);
        assert_eq!(
            check["verdict"] == "good",
            check["advice"].is_null(),
            "{check}"
        );
    }
    let text = harness.run("doctor").success().unwrap();
    assert!(text.contains("ok      PostgreSQL"), "{text}");
}

#[test]
fn what_is_missing_comes_with_what_to_do() {
    let harness = Harness::new();
    {
        let mut script = harness.engine.script();
        script.view.installations.clear();
        script.view.volume.kind = "plain copy".to_owned();
        script.view.volume.free_bytes = ByteSize(1_000);
    }
    let (code, checks) = examine(&harness);
    assert_eq!(code, Some(1));
    for (name, verdict) in [
        ("PostgreSQL", "missing"),
        ("volume", "limited"),
        ("disk", "missing"),
    ] {
        let check = check(&checks, name);
        assert_eq!(check["verdict"], verdict, "{name}");
        assert!(check["advice"].is_string(), "{name}");
    }
    let found = check(&checks, "PostgreSQL")["found"].as_str().unwrap();
    assert!(
        found.starts_with("neither server nor pg_dump; looked in /"),
        "{found}"
    );
}

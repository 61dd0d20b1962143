//! `doctor`: what it says of an engine that works and of one that does not start.

use model::engine_api::{BackingView, PassedOverKind};
use model::{ByteSize, VolumeKind};
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
    for name in [
        "kernel",
        "seccomp notification",
        "look into programs",
        "user namespaces",
        "target's network",
        "mirror and steal",
    ] {
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
        script.view.volume.kind = VolumeKind::PlainCopy;
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

#[test]
fn whoever_has_less_than_possible_is_told_what_there_is_to_gain() {
    let harness = Harness::new();
    let reason =
        "cannot mount the overlay in a user namespace for /d: Permission denied (os error 13)";
    for (kind, advice) in [
        (VolumeKind::Reflink, "user namespaces"),
        (
            VolumeKind::OverlayWithCopies,
            "sudo bough engine volume create --size",
        ),
    ] {
        {
            let mut script = harness.engine.script();
            script.view.volume.kind = kind;
            script.view.volume.passed_over = vec![PassedOverKind {
                kind: VolumeKind::Overlay,
                reason: reason.to_owned(),
            }];
        }
        let (code, checks) = examine(&harness);
        assert_eq!(code, Some(0), "less is not nothing");
        let check = check(&checks, "volume");
        assert_eq!(check["verdict"], "limited", "{kind}");
        assert!(
            check["advice"].as_str().unwrap().contains(advice),
            "{check}"
        );
        assert!(check["found"].as_str().unwrap().contains(reason), "{check}");
    }
}

#[test]
fn a_full_filesystem_below_the_volume_is_missing_room() {
    let harness = Harness::new();
    harness.engine.script().view.volume.backing = Some(BackingView {
        path: "/b.img".to_owned(),
        free_bytes: ByteSize(1_000),
    });
    let (code, checks) = examine(&harness);
    assert_eq!(code, Some(1));
    assert_eq!(check(&checks, "disk")["verdict"], "missing");
}

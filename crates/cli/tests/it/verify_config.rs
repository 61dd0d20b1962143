//! `verify-config`: every error with its place, and whether `exec` would take the file.

use std::fs::File;

use crate::harness::{environment, run, show};

fn verify(text: &str, flags: &str) -> String {
    let env = environment();
    std::fs::write(env.home().join("x.json"), text).unwrap();
    show(&env, &run(&env, &format!("verify-config x.json {flags}")))
}

/// A file that asks for what is not in force.
const WISHFUL: &str = r#"{"feature": {"hostname": true, "fs": "local", "network": {"incoming": {"tls_delivery": {"protocol": "tcp"}}}}}"#;

#[test]
fn a_valid_file_exits_with_0_and_names_what_is_not_in_force() {
    insta::assert_snapshot!(verify(WISHFUL, ""), @r#"
    exit 0
    --- stdout
    x.json is valid.
    not supported: x.json:1:26: feature.hostname: not in force yet: the process sees this machine's host name
    not supported: x.json:1:88: feature.network.incoming.tls_delivery: has no effect: stolen TLS comes to the process as its client sent it
    --- stderr
    "#);
}

#[test]
fn programs_read_what_editor_plugins_of_mirrord_read() {
    insta::assert_snapshot!(verify(WISHFUL, "-o json"), @r#"
    exit 0
    --- stdout
    {
      "type": "Success",
      "config": {
        "path": null,
        "namespace": null
      },
      "warnings": [
        "x.json:1:26: feature.hostname: not in force yet: the process sees this machine's host name",
        "x.json:1:88: feature.network.incoming.tls_delivery: has no effect: stolen TLS comes to the process as its client sent it"
      ],
      "compatible_target_types": [
        "targetless",
        "pod",
        "deployment",
        "rollout",
        "statefulset",
        "service",
        "replicaset",
        "label"
      ],
      "findings": [
        {
          "severity": "unsupported",
          "path": "feature.hostname",
          "file": "x.json",
          "line": 1,
          "column": 26,
          "text": "not in force yet: the process sees this machine's host name",
          "hint": null
        },
        {
          "severity": "unsupported",
          "path": "feature.network.incoming.tls_delivery",
          "file": "x.json",
          "line": 1,
          "column": 88,
          "text": "has no effect: stolen TLS comes to the process as its client sent it",
          "hint": null
        }
      ]
    }
    --- stderr
    "#);
}

#[test]
fn every_error_has_its_place_a_caret_and_a_hint() {
    let text = "{\n  \"feature\": {\n    \"netwrk\": {},\n    \"fs\": \"locl\"\n  }\n}\n";
    insta::assert_snapshot!(verify(text, ""), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 2 errors
    x.json:3:5: feature.netwrk: "feature" has no key "netwrk"
        "netwrk": {},
        ^^^^^^^^
        hint: did you mean "network"?
    x.json:4:11: feature.fs: "locl" is none of "local", "localwithoverrides", "read", "write"
        "fs": "locl"
              ^^^^^^
        hint: did you mean "local"?
    "#);
    insta::assert_snapshot!(verify(text, "-o json"), @r#"
    exit 2
    --- stdout
    {
      "type": "Fail",
      "errors": [
        "x.json:3:5: feature.netwrk: \"feature\" has no key \"netwrk\" (did you mean \"network\"?)",
        "x.json:4:11: feature.fs: \"locl\" is none of \"local\", \"localwithoverrides\", \"read\", \"write\" (did you mean \"local\"?)"
      ],
      "warnings": [],
      "findings": [
        {
          "severity": "error",
          "path": "feature.netwrk",
          "file": "x.json",
          "line": 3,
          "column": 5,
          "text": "\"feature\" has no key \"netwrk\"",
          "hint": "did you mean \"network\"?"
        },
        {
          "severity": "error",
          "path": "feature.fs",
          "file": "x.json",
          "line": 4,
          "column": 11,
          "text": "\"locl\" is none of \"local\", \"localwithoverrides\", \"read\", \"write\"",
          "hint": "did you mean \"local\"?"
        }
      ]
    }
    --- stderr
    "#);
}

#[test]
fn what_exec_would_refuse_is_told_and_no_error() {
    let text = r#"{"target": "deployment/a", "feature": {"copy_target": true}}"#;
    insta::assert_snapshot!(verify(text, ""), @r#"
    exit 0
    --- stdout
    x.json is valid.
    warning: x.json:1:55: feature.copy_target: requests that come to the copy get no answer: its program does not run
        {"target": "deployment/a", "feature": {"copy_target": true}}
                                                              ^^^^
        hint: write "incoming": "steal" under "feature.network"
    refused by `exec`: x.json:1:55: feature.copy_target: copies of a target are not supported yet
    not supported: feature.fs.mode (by default): nobody chose a mode, and the default "read" is not supported yet: runs as "local"
    not supported: feature.hostname (by default): not in force yet: the process sees this machine's host name
    --- stderr
    "#);
}

#[test]
fn a_file_that_cannot_be_read_exits_with_2() {
    let env = environment();
    insta::assert_snapshot!(show(&env, &run(&env, "verify-config y.json -o json")), @r#"
    exit 2
    --- stdout
    {
      "type": "Fail",
      "errors": [
        "cannot read the configuration file y.json: No such file or directory (os error 2)"
      ],
      "warnings": [],
      "findings": []
    }
    --- stderr
    "#);
}

#[test]
fn what_a_default_chose_is_no_warning_for_a_program() {
    let text = r#"{"target": "deployment/a", "feature": {"fs": "local"}}"#;
    insta::assert_snapshot!(verify(text, "-o json"), @r#"
    exit 0
    --- stdout
    {
      "type": "Success",
      "config": {
        "path": {
          "deployment": "a",
          "container": null
        },
        "namespace": null
      },
      "warnings": [],
      "compatible_target_types": [
        "targetless",
        "pod",
        "deployment",
        "rollout",
        "statefulset",
        "service",
        "replicaset",
        "label"
      ],
      "findings": [
        {
          "severity": "unsupported",
          "path": "feature.hostname",
          "file": null,
          "line": null,
          "column": null,
          "text": "not in force yet: the process sees this machine's host name",
          "hint": null
        }
      ]
    }
    --- stderr
    "#);
}

#[test]
fn a_whole_configuration_stands_alone_on_standard_output() {
    let text = r#"{"key": "k", "agent": {"ttl": 5}, "feature": {"fs": "local", "db_branches": [{"type": "pg", "connection": {"url": "DATABASE_URL"}}]}}"#;
    let env = environment();
    std::fs::write(env.home().join("x.json"), text).unwrap();
    let outcome = run(&env, "verify-config --resolved x.json");
    let resolved: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(resolved["feature"]["fs"]["mode"], "local");
    assert_eq!(resolved["agent"]["ttl"], 5);
    assert_eq!(
        resolved["feature"]["db_branches"][0]["copy"]["mode"],
        "empty"
    );
    insta::assert_snapshot!(outcome.stderr, @r#"
    warning: x.json:1:23: agent: has no effect in this version
    warning: feature.hostname (by default): not in force yet: the process sees this machine's host name
    "#);
    let document = run(&env, "verify-config --resolved x.json -o json");
    let document: serde_json::Value = serde_json::from_str(&document.stdout).unwrap();
    assert_eq!(document["resolved_config"], resolved);
}

#[test]
fn yaml_and_toml_are_read_by_their_ends() {
    let env = environment();
    let yaml = "feature:\n  fs: local\n  netwrk: {}\n";
    std::fs::write(env.home().join("x.yaml"), yaml).unwrap();
    insta::assert_snapshot!(show(&env, &run(&env, "verify-config x.yaml")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.yaml: 1 error
    x.yaml:3:3: feature.netwrk: "feature" has no key "netwrk"
        netwrk: {}
        ^^^^^^
        hint: did you mean "network"?
    "#);
    let toml = "[feature]\nfs = \"local\"\nnetwrk = {}\n";
    std::fs::write(env.home().join("x.toml"), toml).unwrap();
    insta::assert_snapshot!(show(&env, &run(&env, "verify-config x.toml")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.toml: 1 error
    x.toml:3:1: feature.netwrk: "feature" has no key "netwrk"
        netwrk = {}
        ^^^^^^
        hint: did you mean "network"?
    "#);
}

#[test]
fn standard_input_is_a_file_named_by_a_dash() {
    let env = environment();
    std::fs::write(env.home().join("input"), r#"{"tagret": "pod/a"}"#).unwrap();
    let mut command = env.command(["verify-config", "-"]);
    command.stdin(File::open(env.home().join("input")).unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r#"
    error: cannot use the configuration file -: 1 error
    -:1:2: tagret: the file has no key "tagret"
        {"tagret": "pod/a"}
         ^^^^^^^^
        hint: did you mean "target"?
    "#);
}

#[test]
fn a_variable_that_sets_a_key_is_where_its_error_is() {
    let mut env = environment();
    env.set("MIRRORD_FILE_MODE", "reed");
    std::fs::write(env.home().join("x.json"), "{}").unwrap();
    insta::assert_snapshot!(show(&env, &run(&env, "verify-config x.json")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 1 error
    MIRRORD_FILE_MODE:1:1: feature.fs.mode: "reed" is none of "local", "localwithoverrides", "read", "write"
        reed
        ^^^^
        hint: did you mean "read"?
    "#);
    insta::assert_snapshot!(show(&env, &run(&env, "verify-config x.json -o json")), @r#"
    exit 2
    --- stdout
    {
      "type": "Fail",
      "errors": [
        "MIRRORD_FILE_MODE:1:1: feature.fs.mode: \"reed\" is none of \"local\", \"localwithoverrides\", \"read\", \"write\" (did you mean \"read\"?)"
      ],
      "warnings": [],
      "findings": [
        {
          "severity": "error",
          "path": "feature.fs.mode",
          "file": "MIRRORD_FILE_MODE",
          "line": 1,
          "column": 1,
          "text": "\"reed\" is none of \"local\", \"localwithoverrides\", \"read\", \"write\"",
          "hint": "did you mean \"read\"?"
        }
      ]
    }
    --- stderr
    "#);
}

#[test]
fn an_editor_asks_for_the_target_itself() {
    let text = r#"{"feature": {"fs": "local", "copy_target": true}}"#;
    insta::assert_snapshot!(verify(text, ""), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 1 error
    x.json:1:44: feature.copy_target: there is no target to copy
        {"feature": {"fs": "local", "copy_target": true}}
                                                   ^^^^
        hint: add a "target", or name one with --target
    "#);
    assert!(verify(text, "--ide").starts_with("exit 0\n"));
}

//! `verify-config`: every error with its place, and whether `exec` would take the file.

use crate::harness::{environment, run, show};

fn verify(text: &str, flags: &str) -> String {
    let env = environment();
    std::fs::write(env.home().join("x.json"), text).unwrap();
    show(&env, &run(&env, &format!("verify-config x.json {flags}")))
}

#[test]
fn a_valid_file_exits_with_0_and_names_what_is_not_in_force() {
    let text =
        r#"{"feature": {"network": {"incoming": "mirror", "outgoing": true}, "fs": "local"}}"#;
    insta::assert_snapshot!(verify(text, ""), @r#"
    exit 0
    --- stdout
    x.json is valid.
    not supported: x.json:1:38: feature.network.incoming: not in force yet: the target keeps its traffic, and the process is reached on this machine alone
    not supported: x.json:1:60: feature.network.outgoing: not in force yet: the process connects from this machine
    not supported: feature.network.dns (by default): not in force yet: names are resolved on this machine
    not supported: feature.hostname (by default): not in force yet: the process sees this machine's host name
    --- stderr
    "#);
    insta::assert_snapshot!(verify(text, "-o json"), @r#"
    exit 0
    --- stdout
    {
      "file": "x.json",
      "valid": true,
      "errors": [],
      "warnings": [],
      "unsupported": [
        {
          "path": "feature.network.incoming",
          "line": 1,
          "column": 38,
          "effect": "not in force yet: the target keeps its traffic, and the process is reached on this machine alone",
          "refused": false
        },
        {
          "path": "feature.network.outgoing",
          "line": 1,
          "column": 60,
          "effect": "not in force yet: the process connects from this machine",
          "refused": false
        },
        {
          "path": "feature.network.dns",
          "line": null,
          "column": null,
          "effect": "not in force yet: names are resolved on this machine",
          "refused": false
        },
        {
          "path": "feature.hostname",
          "line": null,
          "column": null,
          "effect": "not in force yet: the process sees this machine's host name",
          "refused": false
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
      "file": "x.json",
      "valid": false,
      "errors": [
        {
          "line": 3,
          "column": 5,
          "path": "feature.netwrk",
          "text": "\"feature\" has no key \"netwrk\"",
          "hint": "did you mean \"network\"?"
        },
        {
          "line": 4,
          "column": 11,
          "path": "feature.fs",
          "text": "\"locl\" is none of \"local\", \"localwithoverrides\", \"read\", \"write\"",
          "hint": "did you mean \"local\"?"
        }
      ],
      "warnings": [],
      "unsupported": []
    }
    --- stderr
    "#);
}

#[test]
fn what_exec_would_refuse_is_refused() {
    let text = r#"{"target": "deployment/a", "feature": {"copy_target": true}}"#;
    insta::assert_snapshot!(verify(text, ""), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 1 error
    x.json:1:55: feature.copy_target: copies of a target are not supported yet
    hint: this version of bough cannot do that: take it out of the file
    "#);
}

#[test]
fn a_file_that_cannot_be_read_exits_with_2() {
    let env = environment();
    insta::assert_snapshot!(show(&env, &run(&env, "verify-config y.json -o json")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot read the configuration file y.json: No such file or directory (os error 2)
    "#);
}

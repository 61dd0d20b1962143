//! What people who know mirrord type and set: its name, its flags and variables, its commands.

use std::fs;

use fixtures::TestEnv;
use serde_json::Value;

use crate::fake_engine::FakeEngine;
use crate::harness::{LONG, environment, run, show};

/// A file that chooses what the flags and variables of these tests choose otherwise.
const FILE: &str = r#"{"target": {"namespace": "metalmart"}, "feature": {"fs": "local", "env": {"exclude": "FROM_FILE"}}}"#;

/// What is in force with `variables` and the flags of `exec`, as far as `env` and the namespace go.
fn exec(variables: &[(&str, &str)], line: &str) -> String {
    let mut env = environment();
    for (name, value) in variables {
        env.set(name, value);
    }
    fs::write(env.home().join("x.json"), FILE).unwrap();
    show(&env, &run(&env, line))
}

/// `bough` called as `mirrord`, in an environment of its own; the other one has the link.
fn called_as_mirrord() -> (TestEnv, TestEnv) {
    let owner = environment();
    let home = owner.home();
    let words = ["alias", "--dir", home.to_str().unwrap()];
    owner.run(words, LONG).unwrap().success().unwrap();
    let env = TestEnv::new(home.join("mirrord")).unwrap();
    (owner, env)
}

#[test]
fn a_key_comes_from_the_variable_then_the_file() {
    let resolve = |variables: &[(&str, &str)]| {
        let mut env = environment();
        for (name, value) in variables {
            env.set(name, value);
        }
        fs::write(env.home().join("x.json"), r#"{"key": "file"}"#).unwrap();
        let outcome = run(&env, "verify-config --resolved x.json");
        let resolved: Value = serde_json::from_str(&outcome.stdout).unwrap();
        resolved["key"].clone()
    };
    assert_eq!(resolve(&[]), "file");
    assert_eq!(resolve(&[("MIRRORD_KEY", "variable")]), "variable");
    assert_eq!(resolve(&[("MIRRORD_KEY", "")]), "file");
}

#[test]
fn flags_go_before_variables_and_variables_before_the_file() {
    insta::assert_snapshot!(exec(&[("MIRRORD_TARGET_NAMESPACE", "other")], "exec -f x.json -- true"), @r#"
    exit 0
    --- stdout
    --- stderr
    bough: context local (embedded default: no kubeconfig names one), namespace other, no target: environment and network are your own
    bough: feature.hostname (by default): not in force yet: the process sees this machine's host name
    "#);
    insta::assert_snapshot!(
        exec(&[("MIRRORD_TARGET_NAMESPACE", "other")], "exec -f x.json -n third -- true"),
        @r#"
    exit 0
    --- stdout
    --- stderr
    bough: context local (embedded default: no kubeconfig names one), namespace third, no target: environment and network are your own
    bough: feature.hostname (by default): not in force yet: the process sees this machine's host name
    "#
    );
    insta::assert_snapshot!(exec(&[("MIRRORD_FILE_MODE", "write")], "exec -f x.json -- true"), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 1 error
    MIRRORD_FILE_MODE:1:1: feature.fs.mode: the mode "write" is not supported yet: write "local" to run with this machine's files
    hint: this version of bough cannot do that: leave out the flag, or unset the variable
    "#);
    insta::assert_snapshot!(
        exec(&[("MIRRORD_FILE_MODE", "write")], "exec -f x.json --fs-mode local -- true"),
        @r#"
    exit 0
    --- stdout
    --- stderr
    bough: context local (embedded default: no kubeconfig names one), namespace metalmart, no target: environment and network are your own
    bough: feature.hostname (by default): not in force yet: the process sees this machine's host name
    "#
    );
}

#[test]
fn flags_exclude_each_other_as_their_keys_do() {
    insta::assert_snapshot!(exec(&[], "exec -f x.json -s A -x B -- true"), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 1 error
    x.json:1:74: feature.env: "include" and "exclude" exclude each other
        {"target": {"namespace": "metalmart"}, "feature": {"fs": "local", "env": {"exclude": "FROM_FILE"}}}
                                                                                 ^^^^^^^^^^^^^^^^^^^^^^^^
        hint: keep one of them
    "#);
}

#[test]
fn flags_without_effect_are_taken() {
    let line = "exec -f x.json -a ns -l debug -i image --agent-ttl 5 --skip-processes bash --no-telemetry --disable-version-check -- true";
    insta::assert_snapshot!(exec(&[], line), @r#"
    exit 0
    --- stdout
    --- stderr
    warning: --agent-namespace:1:1: agent.namespace: has no effect without target
        ns
        ^^
        hint: "target": {"namespace": ...} says where such a session is
    bough: context local (embedded default: no kubeconfig names one), namespace metalmart, no target: environment and network are your own
    bough: --skip-processes:1:1: skip_processes: has no effect: nothing is preloaded, so no program has to be left alone
    bough: --agent-log-level:1:1: agent: has no effect in this version
    bough: feature.hostname (by default): not in force yet: the process sees this machine's host name
    "#);
}

#[test]
fn a_container_beside_no_target_is_refused_as_it_is_elsewhere() {
    insta::assert_snapshot!(exec(&[], "exec -f x.json -e -- true"), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 1 error
    --ephemeral-container:1:1: agent.ephemeral: there is no target to put a container into
        true
        ^^^^
        hint: add a "target", or name one with --target
    "#);
}

#[test]
fn progress_that_is_off_is_quiet() {
    let off = exec(
        &[("MIRRORD_PROGRESS_MODE", "off")],
        "exec -f x.json -- true",
    );
    assert_eq!(off, "exit 0\n--- stdout\n--- stderr\n");
}

#[test]
fn a_file_gives_db_branches_its_namespace() {
    let env = environment();
    let engine = FakeEngine::start(&env.data_directory());
    engine
        .script()
        .add(crate::samples::branch("metalmart", "one"));
    engine
        .script()
        .add(crate::samples::branch("default", "two"));
    fs::write(env.home().join("x.json"), FILE).unwrap();
    let ids = |line: &str| -> Vec<String> {
        let listed: Value = serde_json::from_str(&run(&env, line).stdout).unwrap();
        let listed = listed.as_array().unwrap().iter();
        listed
            .map(|branch| branch["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("db-branches -f x.json status -o json"), ["one"]);
    assert_eq!(ids("db-branches status -f x.json -o json"), ["one"]);
    assert_eq!(
        ids("db-branches -f x.json -n default status -o json"),
        ["two"]
    );
    assert_eq!(ids("db-branches status -o json"), ["two"]);
    fs::write(env.home().join("x.json"), "{").unwrap();
    insta::assert_snapshot!(show(&env, &run(&env, "db-branches -f x.json status")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: cannot use the configuration file x.json: 1 error
    x.json:1:1: the object is not closed
        {
        ^
        hint: add "}"
    "#);
}

#[test]
fn an_alias_is_made_kept_and_removed_and_replaces_nothing() {
    let env = environment();
    let program = env!("CARGO_BIN_EXE_bough");
    let home = env.home().display().to_string();
    let show = |line: &str| show(&env, &run(&env, line)).replace(program, "[BOUGH]");
    insta::assert_snapshot!(show(&format!("alias --dir {home}")), @r#"
    exit 0
    --- stdout
    [ROOT]/home/mirrord is a link to [BOUGH].
    --- stderr
    "#);
    insta::assert_snapshot!(show(&format!("alias --dir {home}")), @r#"
    exit 0
    --- stdout
    [ROOT]/home/mirrord is a link to [BOUGH] already.
    --- stderr
    "#);
    insta::assert_snapshot!(show(&format!("alias --dir {home} --remove")), @r#"
    exit 0
    --- stdout
    [ROOT]/home/mirrord is removed.
    --- stderr
    "#);
    fs::write(env.home().join("mirrord"), "#!/bin/sh\n").unwrap();
    insta::assert_snapshot!(show(&format!("alias --dir {home}")), @r#"
    exit 1
    --- stdout
    --- stderr
    error: [ROOT]/home/mirrord is there and is not this program: it stays
    hint: name another folder with --dir, one that comes earlier in PATH
    "#);
    insta::assert_snapshot!(show(&format!("alias --dir {home} --remove")), @r#"
    exit 1
    --- stdout
    --- stderr
    error: [ROOT]/home/mirrord is there and is not this program: it stays
    hint: name another folder with --dir, one that comes earlier in PATH
    "#);
    assert_eq!(
        fs::read_to_string(env.home().join("mirrord")).unwrap(),
        "#!/bin/sh\n"
    );
}

#[test]
fn called_as_mirrord_it_answers_as_scripts_expect() {
    let (_owner, env) = called_as_mirrord();
    fs::write(env.home().join("x.json"), FILE).unwrap();
    let outcome = run(&env, "verify-config x.json");
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(document["type"], "Success");
    assert_eq!(document["config"]["namespace"], "metalmart");
    assert_eq!(run(&env, "ls").success().unwrap(), "[]\n");
    let script = run(&env, "completions bash").success().unwrap();
    assert!(
        script.contains("complete -F _mirrord") && script.contains(" mirrord\n"),
        "{script}"
    );
    let words = ["exec", "-f", "x.json", "--", "sh", "-c", "exit 9"];
    let outcome = env.run(words, LONG).unwrap();
    assert_eq!(outcome.status.code(), Some(9), "{}", outcome.stderr);
}

#[test]
fn commands_of_mirrord_that_are_not_there_are_refused_by_name() {
    let env = environment();
    insta::assert_snapshot!(show(&env, &run(&env, "kill 7")), @r#"
    exit 2
    --- stdout
    --- stderr
    error: there is no command "kill" in bough
    hint: `bough session stop ID` ends one that holds a branch; `bough session ls` shows them
    "#);
}

#[test]
fn the_schema_is_written_for_editors() {
    let env = environment();
    let outcome = run(&env, "schema");
    let schema: Value = serde_json::from_str(&outcome.success().unwrap()).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert!(schema["properties"]["feature"].is_object());
}

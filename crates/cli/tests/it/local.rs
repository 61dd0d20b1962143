//! `local`: targets that stay when their command has ended, and sessions that find them.

use fixtures::{Outcome, TestEnv};

use crate::harness::{LONG, environment, run, show};

const TARGET: &str = "deployment/inventory";

fn start(env: &TestEnv, flags: &str, script: &str) -> Outcome {
    let line = format!("local run {TARGET} -n metalmart {flags} -- sh -c");
    let mut command = env.command(line.split_whitespace());
    command.arg(script);
    env.start(command).unwrap().finish(LONG).unwrap()
}

/// Masks what a process's start decides.
fn masked(env: &TestEnv, outcome: &Outcome) -> String {
    let text = show(env, outcome);
    let pid = regex::Regex::new(r"process \d+").unwrap();
    pid.replace_all(&text, "process [PID]").into_owned()
}

#[test]
fn a_target_is_found_with_its_own_environment() {
    let mut env = environment();
    env.set("FROM_CALLER", "one");
    env.set("BOUGH_SOURCE_URL", "not the target's");
    let script = "echo at work; exec sleep 600";
    let started = start(
        &env,
        "--network machine --env GREETING=hello --env FROM_CALLER=two",
        script,
    );
    insta::assert_snapshot!(masked(&env, &started), @r#"
    exit 0
    --- stdout
    Target deployment/inventory (namespace metalmart) runs as process [PID].
      network  the machine's, as asked
      log      [ROOT]/data/local/metalmart/deployment/inventory/output.log
    --- stderr
    "#);
    let listed = run(&env, "local ls").success().unwrap();
    for word in [TARGET, "metalmart", "running", "sh"] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    let listed = run(&env, "local ls -o json").success().unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["target"], TARGET);
    assert_eq!(listed[0]["state"], "running");
    assert_eq!(
        run(&env, "local ls -n other -o json").success().unwrap(),
        "[]\n"
    );
    let targets = run(&env, "ls -n metalmart -o json").success().unwrap();
    let targets: serde_json::Value = serde_json::from_str(&targets).unwrap();
    assert_eq!(targets, serde_json::json!([TARGET]));
    let none = run(&env, "ls -n metalmart -t pod").success().unwrap();
    assert_eq!(
        none,
        "No target in namespace metalmart, context local (embedded default: no kubeconfig names one).\n"
    );

    env.unset("FROM_CALLER");
    env.unset("BOUGH_SOURCE_URL");
    let words = [
        "exec",
        "-t",
        TARGET,
        "-n",
        "metalmart",
        "-q",
        "--",
        "sh",
        "-c",
    ];
    let mut command = env.command(words);
    command.arg("echo $GREETING $FROM_CALLER ${BOUGH_SOURCE_URL-none}");
    let seen = env.start(command).unwrap().finish(LONG).unwrap();
    assert_eq!(seen.success().unwrap(), "hello two none\n");
}

#[test]
fn a_target_runs_once_says_what_it_does_and_is_stopped_by_name() {
    let env = environment();
    start(&env, "", "echo first; echo at work; exec sleep 600")
        .success()
        .unwrap();
    let again = start(&env, "", "true");
    insta::assert_snapshot!(masked(&env, &again), @r#"
    exit 3
    --- stdout
    --- stderr
    error: deployment/inventory in namespace metalmart runs already (process [PID])
    hint: `bough local stop deployment/inventory -n metalmart` ends it
    "#);
    let mut logs = env.command(["local", "logs", TARGET, "-n", "metalmart", "-f"]);
    logs.stdin(std::process::Stdio::null());
    let mut following = env.start(logs).unwrap();
    following
        .wait_for(LONG, |out, _| out == "first\nat work\n")
        .unwrap();
    let end = run(&env, &format!("local logs {TARGET} -n metalmart --lines 1"));
    assert_eq!(end.success().unwrap(), "at work\n");

    let stopped = run(&env, "local stop deployment/inventory -n metalmart");
    insta::assert_snapshot!(show(&env, &stopped), @r#"
    exit 0
    --- stdout
    Target deployment/inventory (namespace metalmart) is stopped.
    --- stderr
    "#);
    insta::assert_snapshot!(show(&env, &run(&env, "local ls")), @r#"
    exit 0
    --- stdout
    No target; `bough local run KIND/NAME -- COMMAND` starts one.
    --- stderr
    "#);
    let gone = run(&env, "exec -t deployment/inventory -n metalmart -- true");
    insta::assert_snapshot!(show(&env, &gone), @r#"
    exit 3
    --- stdout
    --- stderr
    error: no target deployment/inventory in namespace metalmart
    hint: `bough local run deployment/inventory -n metalmart -- COMMAND` registers a process as that target
    "#);
}

#[test]
fn what_does_not_start_is_told_at_once_and_not_kept() {
    let env = environment();
    let refused = run(
        &env,
        "local run deployment/inventory -n metalmart -- no-such-program",
    );
    insta::assert_snapshot!(show(&env, &refused), @r#"
    exit 127
    --- stdout
    --- stderr
    error: cannot run the target: cannot find the program "no-such-program"
    "#);
    assert_eq!(run(&env, "local ls -o json").success().unwrap(), "[]\n");
    let variable = run(&env, "local run deployment/a --env GREETING -- true");
    assert_eq!(variable.status.code(), Some(2), "{}", variable.stderr);
}

#[test]
fn a_port_that_never_answers_is_told() {
    let env = environment();
    let silent = start(&env, "--port 1 --wait 1", "exec sleep 600");
    insta::assert_snapshot!(masked(&env, &silent), @r#"
    exit 3
    --- stdout
    --- stderr
    waiting until it listens on 1
    error: the target runs (process [PID]) and does not listen on 1 after 1 s
    hint: it is left running: [ROOT]/data/local/metalmart/deployment/inventory/output.log has what it wrote, `bough local stop` ends it, --wait SECONDS waits longer
    "#);
    let stopped = run(&env, "local stop --all -n metalmart -q");
    assert!(stopped.status.success(), "{}", stopped.stderr);
}

#[test]
fn unknown_targets_exit_with_1_and_what_exists() {
    let env = environment();
    for verb in ["logs", "stop"] {
        let unknown = run(
            &env,
            &format!("local {verb} deployment/nobody -n metalmart"),
        );
        assert_eq!(unknown.status.code(), Some(1), "{}", unknown.stderr);
    }
    start(&env, "", "exec sleep 600").success().unwrap();
    let unknown = run(
        &env,
        "local stop deployment/inventory deployment/nobody -n metalmart",
    );
    insta::assert_snapshot!(show(&env, &unknown), @r#"
    exit 1
    --- stdout
    --- stderr
    error: no target deployment/nobody in namespace metalmart
      namespace metalmart has deployment/inventory
    hint: `bough local run deployment/nobody -n metalmart -- COMMAND` registers a process as that target
    "#);
    let listed = run(&env, "local ls").success().unwrap();
    assert!(listed.contains("running"), "{listed}");
    run(&env, "local stop --all -n metalmart")
        .success()
        .unwrap();
}

#[test]
fn a_target_has_an_agent_for_its_owner_alone_that_ends_with_it() {
    use std::os::unix::fs::PermissionsExt;
    let env = environment();
    start(&env, "", "exec sleep 600").success().unwrap();
    let folders = || {
        let entries = std::fs::read_dir(env.data_directory().join("targets")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let folder = folders().remove(0);
    std::os::unix::net::UnixStream::connect(folder.join("agent.sock")).unwrap();
    for name in ["agent.sock", "agent.key"] {
        let mode = folder.join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    run(&env, &format!("local stop {TARGET} -n metalmart"))
        .success()
        .unwrap();
    assert_eq!(folders(), Vec::<std::path::PathBuf>::new());
    let none_left = || Ok(env.processes().is_empty().then_some(()));
    fixtures::eventually("the agent's end", LONG, none_left).unwrap();
}

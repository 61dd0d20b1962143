//! Contexts of a kubeconfig, as far as they go without a cluster: which one it is, and what is refused before one is asked.

use std::os::unix::process::ExitStatusExt;

use fixtures::TestEnv;

use crate::harness::{LONG, environment, run, show};

/// A kubeconfig whose cluster nobody answers for.
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: shop
contexts:
- name: shop
  context: {cluster: shop, user: me, namespace: metalmart}
clusters:
- name: shop
  cluster: {server: 'http://127.0.0.1:9'}
users:
- name: me
  user: {token: hunter2}
";

const BRANCHED: &str = r#"{"target": {"deployment": "inventory"}, "feature": {"db_branches":
    [{"type": "pg", "id": "x", "connection": {"url": "DATABASE_URL"}}]}}"#;

fn with_kubeconfig() -> TestEnv {
    let env = environment();
    let folder = env.home().join(".kube");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config"), KUBECONFIG).unwrap();
    env
}

#[test]
fn the_kubeconfigs_current_context_is_taken_and_told_unless_another_is_named() {
    let env = with_kubeconfig();
    // With a network it would have a pod there.
    let quiet = r#"{"target": "targetless", "feature": {"network": false}}"#;
    std::fs::write(env.home().join("quiet.json"), quiet).unwrap();
    let outcome = run(&env, "exec -f quiet.json -- true");
    let told = outcome.stderr.lines().next().unwrap_or_default();
    assert_eq!(
        told,
        "bough: context shop (the kubeconfig's current one), namespace metalmart, no target: environment and network are \
         your own"
    );
    let outcome = run(&env, "exec --context local -t targetless -- true");
    assert!(
        outcome
            .stderr
            .contains("context local (--context), namespace default")
    );
    let outcome = run(&env, "exec -t targetless -- echo never");
    assert_eq!(
        (outcome.status.code(), outcome.stdout.as_str()),
        (Some(3), "")
    );
    let told = "error: cannot make a pod for the session in namespace metalmart";
    assert!(outcome.stderr.starts_with(told), "{}", outcome.stderr);
}

#[test]
fn branches_that_no_operator_makes_are_refused_before_anything_is_asked() {
    let env = with_kubeconfig();
    let file = env.home().join("x.json");
    let forbidden = BRANCHED.replacen('{', r#"{"operator": false, "#, 1);
    std::fs::write(&file, forbidden).unwrap();
    let outcome = run(&env, "exec -f x.json -- echo never");
    assert_eq!(
        (outcome.status.code(), outcome.stdout.as_str()),
        (Some(4), "")
    );
    assert!(
        outcome.stderr.contains("\"operator\" is false"),
        "{}",
        outcome.stderr
    );
    // Whether there is an operator, only the cluster says.
    std::fs::write(&file, BRANCHED).unwrap();
    insta::assert_snapshot!(show(&env, &run(&env, "exec -f x.json -- echo never")), @r#"
    exit 4
    --- stdout
    --- stderr
    error: cannot look for branches in namespace metalmart: client error (Connect): tcp connect error: Connection refused (os error 111)
    hint: `kubectl get pods` shows whether the cluster is there at all
    "#);
    std::fs::write(&file, r#"{"operator": true}"#).unwrap();
    let outcome = run(&env, "exec -f x.json -- echo never");
    assert_eq!(
        (outcome.status.code(), outcome.stdout.as_str()),
        (Some(3), "")
    );
}

#[test]
fn names_of_sources_and_all_namespaces_are_asked_of_the_cluster() {
    let env = with_kubeconfig();
    let outcome = run(&env, "db-branches create x --source shop --version 16");
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("Connection refused"),
        "{}",
        outcome.stderr
    );
    for command in ["db-branches -A status", "session -A ls"] {
        let outcome = run(&env, command);
        assert_eq!(outcome.status.code(), Some(3), "{command}");
        let told = "error: cannot look for branch hosts in all namespaces";
        assert!(outcome.stderr.starts_with(told), "{}", outcome.stderr);
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_told() {
    let env = with_kubeconfig();
    let outcome = run(&env, "exec -t deployment/inventory -- echo never");
    assert_eq!(outcome.status.code(), Some(3));
    assert_eq!(outcome.stdout, "");
    insta::assert_snapshot!(show(&env, &outcome), @r#"
    exit 3
    --- stdout
    --- stderr
    error: cannot ask the cluster as whom it knows you: client error (Connect): tcp connect error: Connection refused (os error 111)
    hint: `kubectl get pods` shows whether the cluster is there at all
    "#);
}

#[test]
fn a_context_that_no_kubeconfig_has_is_refused_with_those_that_it_has() {
    let env = with_kubeconfig();
    insta::assert_snapshot!(show(&env, &run(&env, "exec --context prod -- echo never")), @r#"
    exit 3
    --- stdout
    --- stderr
    error: no context "prod" (--context) in [ROOT]/home/.kube/config
    hint: there are shop, local; --context names one
    "#);
    let env = environment();
    insta::assert_snapshot!(show(&env, &run(&env, "exec --context prod -- echo never")), @r#"
    exit 3
    --- stdout
    --- stderr
    error: no context "prod" (--context) in [ROOT]/home/.kube/config
    hint: there are local; --context names one
    "#);
}

#[test]
fn a_script_is_not_left_waiting_for_a_way_into_a_cluster() {
    let env = with_kubeconfig();
    let create = "db-branches create x --source shop --version 16 -o env";
    let outcome = run(&env, create);
    assert_eq!(outcome.status.code(), Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`--stay`"), "{}", outcome.stderr);
    let outcome = run(&env, &format!("{create} --stay"));
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.stderr);
}

/// Each command that works in a session's context, as far as it gets without a cluster.
const COMMANDS: [&str; 5] = [
    "exec -t targetless",
    "db-branches status",
    "session ls",
    "ls",
    "port-forward -t pod/a -L 5433:db:5432",
];

/// The same of an administrator's, which take no file.
const OPERATOR_COMMANDS: [&str; 4] = [
    "operator status",
    "operator clear",
    "operator install --dry-run",
    "operator uninstall --dry-run",
];

#[test]
fn every_command_works_in_the_cluster_that_the_variables_name() {
    let mut env = with_kubeconfig();
    env.set("MIRRORD_KUBE_CONTEXT", "staging");
    for command in COMMANDS.into_iter().chain(OPERATOR_COMMANDS) {
        let command = with_program(command, "");
        let outcome = run(&env, &command);
        assert_eq!(outcome.status.code(), Some(3), "{command}");
        let told = "error: no context \"staging\" (MIRRORD_KUBE_CONTEXT) in ";
        assert!(outcome.stderr.starts_with(told), "{}", outcome.stderr);
    }
    // Another file, whose context has the same name.
    let other = env.home().join("other");
    std::fs::write(&other, KUBECONFIG.replace("current-context: shop", "")).unwrap();
    env.set("MIRRORD_KUBECONFIG", "~/other");
    for command in COMMANDS.into_iter().chain(OPERATOR_COMMANDS) {
        let outcome = run(&env, &with_program(command, ""));
        let told = format!("in {}\n", other.display());
        assert!(outcome.stderr.contains(&told), "{}", outcome.stderr);
    }
}

#[test]
fn every_command_works_in_the_cluster_that_the_file_names() {
    let env = with_kubeconfig();
    let file = r#"{"kubeconfig": "~/missing"}"#;
    std::fs::write(env.home().join("x.json"), file).unwrap();
    for command in COMMANDS {
        let command = with_program(command, "-f x.json");
        let outcome = run(&env, &command);
        assert_eq!(outcome.status.code(), Some(3), "{command}");
        let read = format!("{:?}", env.home().join("missing"));
        assert!(outcome.stderr.contains(&read), "{}", outcome.stderr);
    }
}

/// A command with further flags; a session with a program as well.
fn with_program(command: &str, flags: &str) -> String {
    let program = if command.starts_with("exec") {
        "-- echo never"
    } else {
        ""
    };
    format!("{command} {flags} {program}")
}

#[test]
fn files_of_kubeconfig_that_are_not_there_are_passed_over_unless_none_is() {
    let mut env = with_kubeconfig();
    let there = env.home().join(".kube/config").display().to_string();
    env.set("KUBECONFIG", format!("/nonexistent:{there}"));
    let outcome = run(&env, "exec --context prod -- echo never");
    let known = "hint: there are shop, local";
    assert!(outcome.stderr.contains(known), "{}", outcome.stderr);
    env.set("KUBECONFIG", "/nonexistent");
    let outcome = run(&env, "exec -- echo never");
    let told = r#"cannot read the kubeconfig "/nonexistent""#;
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

#[test]
fn ports_whose_cluster_does_not_answer_are_given_up_by_a_signal() {
    let env = with_kubeconfig();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap().to_string();
    let silent_there = KUBECONFIG.replace("127.0.0.1:9", &server);
    std::fs::write(env.home().join(".kube/config"), silent_there).unwrap();
    let words = ["port-forward", "-t", "pod/a", "-L", "5433:db:5432"];
    let mut forward = env.start(env.command(words)).unwrap();
    let asked = silent.accept().unwrap();
    forward.signal(fixtures::Signal::INT).unwrap();
    let outcome = forward.finish(LONG).unwrap();
    assert_eq!(outcome.status.signal(), Some(2), "{}", outcome.stderr);
    drop(asked);
}

#[test]
fn the_definitions_are_a_list_that_kubectl_takes() {
    let env = environment();
    let text = run(&env, "operator manifests --only-definitions")
        .success()
        .unwrap();
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&list["apiVersion"], &list["kind"]),
        (&"v1".into(), &"List".into())
    );
    let kinds: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["spec"]["names"]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Branch", "Session", "Source"]);
    let kind = "CustomResourceDefinition";
    assert!(
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["kind"] == kind)
    );
    let whole = run(&env, "operator manifests --image i:1")
        .success()
        .unwrap();
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let deployment = whole["items"].as_array().unwrap().last().unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&deployment["kind"], &container["image"]),
        (&"Deployment".into(), &"i:1".into())
    );
}

#[test]
fn the_chart_has_the_rules_that_manifests_writes() {
    let outcome = run(&environment(), "operator manifests --only-rules");
    let chart = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../charts/bough/files/rules.json"
    );
    let kept = std::fs::read_to_string(chart).unwrap();
    assert!(
        outcome.stdout == kept,
        "`bough operator manifests --only-rules > charts/bough/files/rules.json` brings it up to date"
    );
}

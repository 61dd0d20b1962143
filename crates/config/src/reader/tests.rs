//! Whole files: the walk-through's, templates, keys, files that cannot be read, and any text at all.

use std::path::Path;
use std::sync::Arc;

use model::CopyMode;

use super::*;
use crate::connection::{Connection, Origin, VariableKind};
use crate::diagnostic::Weight;
use crate::fs::FsMode;
use crate::target::TargetChoice;
use model::IncomingMode;

const INVENTORY: &str = r#"{
  "target": {
    "path": {
      "deployment": "inventory"
    },
    "namespace": "metalmart"
  },
  "feature": {
    "network": {
      "incoming": "mirror",
      "outgoing": true
    },
    "fs": "local",
    "env": true
  }
}
"#;

const INVENTORY_DB_BRANCH: &str = r#"{
  "target": {
    "path": {
      "deployment": "inventory"
    },
    "namespace": "metalmart"
  },
  "feature": {
    "network": {
      "incoming": "mirror",
      "outgoing": true
    },
    "fs": "local",
    "env": true
  },
  "operator": true,
  "db_branches": [
    {
      "id": "my-debug-session",
      "type": "pg",
      "version": "16",
      "name": "inventory",
      "ttl_secs": 300,
      "connection": {
        "url": {
          "type": "env",
          "variable": "DATABASE_URL"
        }
      },
      "copy": {
        "mode": "all"
      }
    }
  ]
}
"#;

fn surroundings() -> Surroundings {
    Surroundings::new("/nowhere", "r4nd0m")
}

fn read_json(text: &str) -> Result<Config, Rejected> {
    read_text(Path::new("f.json"), text, &surroundings())
}

fn accepted(text: &str) -> Config {
    read_json(text).unwrap_or_else(|rejected| panic!("{rejected}"))
}

#[test]
fn the_files_of_the_walk_through_are_read() {
    let plain = accepted(INVENTORY);
    let workload = plain.target.workload().map(ToString::to_string);
    assert_eq!(workload.as_deref(), Some("deployment/inventory"));
    let namespace = plain.target.namespace.as_ref().map(Namespace::as_str);
    assert_eq!(namespace, Some("metalmart"));
    assert_eq!(plain.network.incoming.mode, IncomingMode::Mirror);
    assert!(plain.network.outgoing.tcp && plain.network.dns.enabled);
    assert_eq!(plain.fs.mode, FsMode::Local);
    assert!(plain.branches.is_empty() && plain.warnings.is_empty());
    assert_eq!(plain.refused().count(), 0);
    let told: Vec<(&str, bool)> = plain
        .unsupported
        .iter()
        .map(|unsupported| (unsupported.path.as_str(), unsupported.is_chosen()))
        .collect();
    assert_eq!(told, [("feature.hostname", false),]);
    let effect = &plain.unsupported[0].effect;
    assert!(effect.starts_with("not in force yet"), "{effect}");

    let branched = accepted(INVENTORY_DB_BRANCH);
    assert_eq!(branched.operator, Some(true));
    assert_eq!(branched.refused().count(), 0);
    let [branch] = branched.branches.as_slice() else {
        panic!("one branch")
    };
    assert_eq!(branch.id.as_str(), "my-debug-session");
    assert_eq!(branch.copy.mode, CopyMode::All);
    assert!(branch.is_copy_chosen);
    assert_eq!(branch.database.as_deref(), Some("inventory"));
    assert_eq!(
        branch.connection,
        Connection::Url(vec![Origin::Variable {
            name: "DATABASE_URL".to_owned(),
            kind: VariableKind::Env,
            container: None,
            literal: None,
        }])
    );
}

#[test]
fn an_empty_object_is_every_default() {
    let config = accepted("{}");
    assert_eq!(config.target.choice, TargetChoice::Unset);
    assert_eq!(config.fs.mode, FsMode::Read);
    assert_eq!(config.env.unset, ["AWS_PROFILE"]);
    assert_eq!(
        (config.operator, config.kube_context.as_deref()),
        (None, None)
    );
    assert!(config.hostname && config.magic.aws && !config.copy_target.enabled);
    // Whatever only a default chose lets a run go on.
    assert!(
        config
            .unsupported
            .iter()
            .all(|one| one.weight == Weight::Told && !one.is_chosen())
    );
    assert!(
        config
            .unsupported
            .iter()
            .any(|one| one.path == "feature.fs.mode")
    );
    assert_eq!(accepted(r#"{"feature": null}"#), config);
}

#[test]
fn what_the_file_chose_and_cannot_be_done_is_refused() {
    for (text, path) in [
        (r#"{"feature": {"fs": "read"}}"#, "feature.fs"),
        (r#"{"feature": {"fs": true}}"#, "feature.fs"),
        (
            r#"{"feature": {"fs": {"mode": "write"}}}"#,
            "feature.fs.mode",
        ),
        (
            r#"{"feature": {"fs": {"read_only": "x"}}}"#,
            "feature.fs.read_only",
        ),
        (
            r#"{"target": "pod/a", "feature": {"copy_target": true}}"#,
            "feature.copy_target",
        ),
        (
            r#"{"feature": {"split_queues": {"q": {"queue_type": "SQS"}}}}"#,
            "feature.split_queues",
        ),
        (r#"{"profile": "p"}"#, "profile"),
        (r#"{"multi_cluster": true}"#, "multi_cluster"),
    ] {
        let config = accepted(text);
        let refused: Vec<&str> = config.refused().map(|one| one.path.as_str()).collect();
        assert_eq!(refused, [path], "{text}");
        assert!(config.refused().all(Unsupported::is_chosen));
    }
    for text in [
        r#"{"feature": {"fs": "local", "copy_target": false, "split_queues": {}, "hostname": false}}"#,
        r#"{"target": "pod/a", "agent": {"ephemeral": true}, "telemetry": false, "multi_cluster": false, "profile": null}"#,
        r#"{"feature": {"fs": {"mode": "local", "read_only": "x"}}}"#,
    ] {
        assert_eq!(accepted(text).refused().count(), 0, "{text}");
    }
}

#[test]
fn keys_that_are_not_used_are_checked_by_name() {
    for (text, path) in [
        (r#"{"agent": {"ephemral": true}}"#, "agent.ephemral"),
        (r#"{"agent": {"dns": {"time": 1}}}"#, "agent.dns.time"),
        (
            r#"{"agent": {"image": {"registry": "r", "tags": "t"}}}"#,
            "agent.image.tags",
        ),
        (r#"{"experimental": {"foo": 1}}"#, "experimental.foo"),
        (r#"{"internal_proxy": 1}"#, "internal_proxy"),
        (
            r#"{"feature": {"preview": {"idle": {"x": 1}}}}"#,
            "feature.preview.idle.x",
        ),
        (r#"{"connect_tcp": "x"}"#, "connect_tcp"),
    ] {
        let rejected = read_json(text).expect_err(text);
        let paths: Vec<&str> = rejected
            .errors
            .iter()
            .map(|error| error.path.as_str())
            .collect();
        assert_eq!(paths, [path], "{text}");
    }
    accepted(r#"{"agent": {"image": "a:b", "labels": {"any": "x"}, "dns": {"timeout": 1}}}"#);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let given = Surroundings {
        key: Some("given".to_owned()),
        target: Some("deployment/b".parse().expect("a target")),
        namespace: Some(Namespace::new("other").expect("a namespace")),
        ..surroundings()
    };
    let text = r#"{"key": "own", "target": "pod/{{ key }}", "feature": {"network": {"incoming": "steal"}}}"#;
    let config = read_text(Path::new("f.json"), text, &given).expect("accepted");
    assert_eq!(config.key, SessionKey::new("given", KeyOrigin::Given));
    assert_eq!(
        config.target.workload().map(ToString::to_string).as_deref(),
        Some("deployment/b")
    );
    assert_eq!(
        config.target.namespace.as_ref().map(Namespace::as_str),
        Some("other")
    );
}

#[test]
fn the_files_key_is_known_to_its_own_template() {
    let config = accepted(r#"{"key": "abc", "target": "pod/{{ key }}"}"#);
    assert_eq!(config.key, SessionKey::new("abc", KeyOrigin::File));
    assert_eq!(
        config.target.workload().map(|it| it.name.as_str()),
        Some("abc")
    );
    let config = accepted(r#"{"target": "pod/{{ key }}"}"#);
    assert_eq!(config.key, SessionKey::new("r4nd0m", KeyOrigin::Random));
    let with_branch = Surroundings {
        git_branch: Some("feature/x".to_owned()),
        ..surroundings()
    };
    let text = r#"{"key": "{{ git_branch }}", "target": "pod/a", "db_branches":
        [{"type": "pg", "id": "{{ key }}-db", "connection": {"url": "U"}}]}"#;
    let config = read_text(Path::new("f.json"), text, &with_branch).expect("accepted");
    assert_eq!(config.branches[0].id.as_str(), "feature/x-db");
    let rejected = read_json(r#"{"key": "{{ key }}x"}"#).expect_err("made from itself");
    assert!(
        rejected.to_string().contains("made from itself"),
        "{rejected}"
    );
    assert!(read_json(r#"{"key": ""}"#).is_err());
}

#[test]
fn templates_see_the_environment_that_they_are_given() {
    let given = Surroundings {
        environment: Arc::new(Environment::from([("NAME".into(), "shop".into())])),
        ..surroundings()
    };
    let text = r#"{"target": "pod/{{ get_env(name="NAME") }}"}"#;
    let config = read_text(Path::new("f.json"), text, &given).expect("accepted");
    assert_eq!(
        config.target.workload().map(|it| it.name.as_str()),
        Some("shop")
    );
    let rejected = read_json(text).expect_err("not set");
    let error = &rejected.errors[0];
    assert_eq!((error.place.line, error.place.column), (1, 20));
    assert!(error.text.contains("\"NAME\" is not set"), "{}", error.text);
}

#[test]
fn a_secret_from_a_template_is_in_no_error() {
    let given = Surroundings {
        environment: Arc::new(Environment::from([("PW".into(), "hunter2".into())])),
        ..surroundings()
    };
    for text in [
        r#"{"feature": {"env": {"x": "{{ get_env(name="PW") }}"}}}"#,
        r#"{"a": "{{ get_env(name="PW") }}""#,
        r#"{"feature": {"env": {"override": {"A": "{{ get_env(name="PW") }}", "B": 1}}}}"#,
    ] {
        let rejected = read_text(Path::new("f.json"), text, &given).expect_err(text);
        assert!(!format!("{rejected:?}").contains("hunter2"), "{rejected:?}");
    }
}

#[test]
fn files_that_cannot_be_read_are_said_to_be() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| temp.path().join(name);
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).expect("a file");
        read(&path(name), &surroundings())
    };
    assert!(matches!(
        read(&path("none.json"), &surroundings()),
        Err(ReadError::Open { .. })
    ));
    assert!(matches!(
        read(temp.path(), &surroundings()),
        Err(ReadError::Open { .. })
    ));
    assert!(matches!(
        write("latin.json", b"{\"key\": \"\xff\"}"),
        Err(ReadError::NotText { valid_up_to: 9, .. })
    ));
    assert!(matches!(
        write("huge.json", &vec![b' '; 2 << 20]),
        Err(ReadError::TooLarge { .. })
    ));
    assert!(matches!(
        write("bad.json", b"{"),
        Err(ReadError::Rejected(_))
    ));
    assert!(write("good", INVENTORY.as_bytes()).is_ok());
    let mut large = b"{}".to_vec();
    large.resize(1 << 20, b' ');
    assert!(write("large.json", &large).is_ok(), "a mebibyte");
}

#[test]
fn an_env_file_is_checked_for_connection_variables() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let text = r#"{"target": "pod/a", "feature": {"env": {"env_file": ".env"},
        "db_branches": [{"type": "pg", "id": "x", "connection": {"url": "DATABASE_URL"}}]}}"#;
    let read = || {
        read_text(
            Path::new("f.json"),
            text,
            &Surroundings::new(temp.path(), "k"),
        )
    };
    let said = |outcome: Result<Config, Rejected>| outcome.map(drop).map_err(|it| it.to_string());
    assert!(said(read()).is_err_and(|error| error.contains("cannot be checked")));
    std::fs::write(temp.path().join(".env"), "OTHER=1\n").expect("a file");
    assert_eq!(said(read()), Ok(()));
    std::fs::write(
        temp.path().join(".env"),
        "DATABASE_URL=postgres://u:hunter2@h/d\n",
    )
    .expect("a file");
    let error = said(read()).expect_err("it gives another value");
    assert!(error.contains("gives it another value"), "{error}");
    assert!(!error.contains("hunter2"));
    std::fs::write(temp.path().join(".env"), "DATABASE_URL='hunter2\n").expect("a file");
    let error = said(read()).expect_err("it is broken");
    assert!(
        error.contains("line 1: the quote of DATABASE_URL is not closed"),
        "{error}"
    );
}

#[test]
fn of_very_many_errors_some_are_told_and_the_rest_counted() {
    let keys: Vec<String> = (0..5_000)
        .map(|number| format!("\"k{number}\":1"))
        .collect();
    let rejected = read_json(&format!("{{{}}}", keys.join(","))).expect_err("unknown keys");
    assert_eq!(rejected.errors.len(), ERRORS_MAX);
    assert_eq!(rejected.errors_left_out, 5_000 - ERRORS_MAX);
    assert!(rejected.to_string().ends_with("and 4900 more errors"));
    let nested = format!("{}1{}", "{\"feature\":".repeat(500), "}".repeat(500));
    assert!(read_json(&nested).is_err());
}

#[test]
fn what_is_refused_is_among_what_is_told_however_much_that_is() {
    let branch = |at: usize| {
        format!(
            r#"{{"type": "pg", "id": "b{at}", "connection": {{"url": {{"type": "env", "variable": "U{at}", "container": "c"}}}}}}"#
        )
    };
    let branches: Vec<String> = (0..=ERRORS_MAX).map(branch).collect();
    let text = format!(
        r#"{{"target": "pod/a", "feature": {{"db_branches": [{}]}}, "profile": "p"}}"#,
        branches.join(",")
    );
    let config = accepted(&text);
    assert_eq!(config.unsupported.len(), ERRORS_MAX);
    let refused: Vec<&str> = config.refused().map(|one| one.path.as_str()).collect();
    assert_eq!(refused, ["profile"]);
}

#[test]
fn checks_between_concerns() {
    let branches =
        r#""db_branches": [{"type": "pg", "id": "x", "connection": {"url": "DATABASE_URL"}}]"#;
    for (text, expected) in [
        (r#"{"feature": {"network": {"incoming": "steal"}}}"#.to_owned(), "no target to steal from"),
        (
            r#"{"target": "targetless", "feature": {"network": {"incoming": {"mode": "steal"}}}}"#.to_owned(),
            "no target to steal from",
        ),
        (r#"{"feature": {"copy_target": {}}}"#.to_owned(), "no target to copy"),
        (
            r#"{"target": "label/a=b", "feature": {"copy_target": true}}"#.to_owned(),
            "a target by label does not go with \"copy_target\"",
        ),
        (
            format!(r#"{{"target": "label/a=b", {branches}}}"#),
            "a target by label does not go with \"db_branches\"",
        ),
        (
            r#"{"target": "pod/a", "db_branches": [{"type": "pg", "connection": {"url": "HOME"}}]}"#.to_owned(),
            "db_branches[0] needs HOME, and that name always stays this machine's own",
        ),
        (
            format!(r#"{{"target": "pod/a", "feature": {{"env": {{"mapping": {{"URL$": "x"}}}}}}, {branches}}}"#),
            "feature.env.mapping: db_branches[0] needs DATABASE_URL, and this gives it another value",
        ),
    ] {
        let rejected = read_json(&text).expect_err(&text);
        assert!(rejected.to_string().contains(expected), "{text}: {rejected}");
    }
    let literal = r#"{"target": "pod/a", "feature": {"env": false}, "db_branches": [{"type": "pg", "id": "x",
        "connection": {"url": {"type": "env", "variable": "U", "value": "postgres://h/d"}}}]}"#;
    accepted(literal);
    let warned = accepted(&format!(
        r#"{{"target": "pod/a", "operator": false, {branches}}}"#
    ));
    assert_eq!(warned.warnings[0].path, "operator");
    let targetless = accepted(&format!(r#"{{"target": "targetless", {branches}}}"#));
    // A session without a target has the caller's own environment.
    assert_eq!(targetless.warnings, []);
}

mod any_text {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::tree_of_words;

    /// A file with parts cut out, doubled, or replaced.
    fn mutated() -> impl Strategy<Value = String> {
        let edits = proptest::collection::vec(
            (
                any::<prop::sample::Index>(),
                0usize..12,
                "[\\[\\]{}\":,0-9a-z{% ü\n\u{0}]{0,6}",
            ),
            1..6,
        );
        (
            prop::sample::select(vec![INVENTORY, INVENTORY_DB_BRANCH]),
            edits,
        )
            .prop_map(|(text, edits)| {
                let mut chars: Vec<char> = text.chars().collect();
                for (at, cut, insert) in edits {
                    let from = at.index(chars.len() + 1);
                    let to = (from + cut).min(chars.len());
                    chars.splice(from..to, insert.chars());
                }
                chars.into_iter().collect()
            })
    }

    fn check(text: &str) {
        if let Err(rejected) = read_json(text) {
            assert!(!rejected.errors.is_empty());
            for error in &rejected.errors {
                let lines = text.split('\n').count();
                assert!((1..=lines).contains(&error.place.line), "{error}");
                assert!(error.excerpt.width >= 1);
                assert!(error.excerpt.line.chars().count() <= 120);
            }
        }
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(text in mutated()) {
            check(&text);
        }

        #[test]
        fn any_text_never_panics(text in "\\PC{0,200}") {
            check(&text);
        }

        #[test]
        fn any_tree_of_the_formats_own_words_never_panics(
            text in tree_of_words().prop_map(|value| value.to_string()),
        ) {
            check(&text);
        }
    }
}

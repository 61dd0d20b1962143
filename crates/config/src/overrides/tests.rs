//! Flags over variables over the file, shorthands made whole, and errors that name the variable.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::diagnostic::Rejected;
use crate::environment::Selection;
use crate::fs::FsMode;
use crate::json::Json;
use model::IncomingMode;

use crate::network::ConcurrentSteal;
use crate::reader::{Surroundings, read_text};

fn read(file: &str, variables: &[(&str, &str)], flags: &[Flag]) -> Result<Config, Rejected> {
    let environment: Environment = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let surroundings = Surroundings {
        environment: Arc::new(environment),
        flags: flags.to_vec(),
        ..Surroundings::new("/nowhere", "k3y")
    };
    read_text(Path::new("f.json"), file, &surroundings)
}

fn accepted(file: &str, variables: &[(&str, &str)]) -> Config {
    read(file, variables, &[]).unwrap_or_else(|rejected| panic!("{file}: {rejected}"))
}

#[test]
fn a_variable_wins_over_the_file_and_a_flag_over_the_variable() {
    let file = r#"{"feature": {"fs": "write"}}"#;
    let variable = [("MIRRORD_FILE_MODE", "read")];
    let flag = Flag {
        name: "--fs-mode",
        variable: "MIRRORD_FILE_MODE",
        value: "local".to_owned(),
    };
    let mode = |config: Config| config.fs.mode;
    assert_eq!(mode(accepted(file, &[])), FsMode::Write);
    assert_eq!(mode(accepted(file, &variable)), FsMode::Read);
    let config = read(file, &variable, &[flag]).expect("accepted");
    assert_eq!(mode(config), FsMode::Local);
}

#[test]
fn a_shorthand_becomes_the_object_that_it_stands_for() {
    let off = r#"{"feature": {"network": false, "fs": "local", "env": false}}"#;
    let config = accepted(off, &[("MIRRORD_TCP_OUTGOING", "true")]);
    assert!(config.network.outgoing.tcp && !config.network.outgoing.udp);
    assert!(!config.network.dns.enabled && config.network.incoming.mode == IncomingMode::Off);
    let config = accepted(off, &[("MIRRORD_FILE_LOCAL_PATTERN", "^/a;^/b")]);
    assert_eq!(config.fs.mode, FsMode::Local);
    assert_eq!(
        config.fs.local.map(|list| list.0),
        Some(vec!["^/a".to_owned(), "^/b".to_owned()])
    );
    let config = accepted(off, &[("MIRRORD_OVERRIDE_ENV_VARS_INCLUDE", "A_*; B")]);
    assert!(matches!(&config.env.selection, Selection::Include(list) if list.len() == 2));
    let config = accepted(off, &[("MIRRORD_OVERRIDE_ENV_VARS_FILE", ".env")]);
    assert!(matches!(&config.env.selection, Selection::Exclude(_)));
    let config = accepted(off, &[("MIRRORD_REMOTE_DNS", "true")]);
    assert!(config.network.dns.enabled);
    let stealing =
        r#"{"target": "pod/a", "feature": {"network": {"incoming": "steal", "outgoing": true}}}"#;
    let config = accepted(
        stealing,
        &[
            ("MIRRORD_OPERATOR_ON_CONCURRENT_STEAL", "override"),
            ("MIRRORD_HTTP_HEADER_FILTER", "^x: y"),
            ("MIRRORD_HTTP_FILTER_PORTS", "80;8080"),
            ("MIRRORD_UDP_OUTGOING", "false"),
        ],
    );
    let incoming = &config.network.incoming;
    assert_eq!(incoming.mode, IncomingMode::Steal);
    assert_eq!(incoming.on_concurrent_steal, ConcurrentSteal::Override);
    assert_eq!(incoming.http_filter.header_filter.as_deref(), Some("^x: y"));
    assert_eq!(
        incoming
            .http_filter
            .ports
            .as_ref()
            .map(|ports| ports.0.clone()),
        Some(vec![80, 8080])
    );
    assert!(config.network.outgoing.tcp && !config.network.outgoing.udp);
}

#[test]
fn what_a_shorthand_said_stays_when_a_variable_says_more() {
    let incoming = |on: bool| {
        let file =
            format!(r#"{{"target": "pod/a", "feature": {{"network": {{"incoming": {on}}}}}}}"#);
        let config = accepted(&file, &[("MIRRORD_HTTP_FILTER_PORTS", "80")]);
        config.network.incoming.mode
    };
    assert_eq!(incoming(true), IncomingMode::Mirror);
    assert_eq!(incoming(false), IncomingMode::Off);
    let files = |on: bool| {
        let file = format!(r#"{{"feature": {{"fs": {on}}}}}"#);
        let config = accepted(&file, &[("MIRRORD_FILE_LOCAL_PATTERN", "^/a")]);
        config.fs.mode
    };
    assert_eq!(files(true), FsMode::Read);
    assert_eq!(files(false), FsMode::Local);
}

#[test]
fn a_variable_gives_a_number_where_one_belongs() {
    let ttl = |text: &str| {
        let config = accepted("{}", &[("MIRRORD_AGENT_TTL", text)]);
        let agent = config.resolved.get("agent").cloned();
        agent.and_then(|agent| agent.get("ttl").cloned())
    };
    assert_eq!(ttl("30"), Some(Json::from(30)));
}

#[test]
fn the_target_in_each_of_its_forms_is_replaced_whole() {
    let variables = [
        ("MIRRORD_IMPERSONATED_TARGET", "deployment/b/container/c"),
        ("MIRRORD_TARGET_NAMESPACE", "other"),
    ];
    for file in [
        "{}",
        r#"{"target": null}"#,
        r#"{"target": "pod/a"}"#,
        r#"{"target": {"deployment": "a"}}"#,
        r#"{"target": {"path": {"deployment": "a"}, "namespace": "n"}}"#,
        r#"{"target": {"namespace": "n"}}"#,
    ] {
        let config = accepted(file, &variables);
        let target = config.target.workload().map(ToString::to_string);
        assert_eq!(
            target.as_deref(),
            Some("deployment/b/container/c"),
            "{file}"
        );
        let namespace = config.target.namespace.map(String::from);
        assert_eq!(namespace.as_deref(), Some("other"), "{file}");
    }
    let config = accepted(r#"{"target": {"deployment": "a"}}"#, &variables[1..]);
    let target = config.target.workload().map(ToString::to_string);
    assert_eq!(target.as_deref(), Some("deployment/a"));
}

#[test]
fn stealing_and_files_have_words_of_their_own() {
    for (value, mode) in [
        ("true", IncomingMode::Steal),
        ("false", IncomingMode::Off),
        ("mirror", IncomingMode::Mirror),
    ] {
        let variables = [
            ("MIRRORD_IMPERSONATED_TARGET", "pod/a"),
            ("MIRRORD_AGENT_TCP_STEAL_TRAFFIC", value),
        ];
        assert_eq!(
            accepted("{}", &variables).network.incoming.mode,
            mode,
            "{value}"
        );
    }
    for (variables, mode) in [
        (&[("MIRRORD_FILE_OPS", "true")][..], FsMode::Write),
        (&[("MIRRORD_FILE_OPS", "false")], FsMode::Local),
        (&[("MIRRORD_FILE_RO_OPS", "true")], FsMode::Read),
        (&[("MIRRORD_FILE_RO_OPS", "false")], FsMode::Local),
        (
            &[
                ("MIRRORD_FILE_OPS", "false"),
                ("MIRRORD_FILE_RO_OPS", "true"),
            ],
            FsMode::Read,
        ),
        (
            &[("MIRRORD_FILE_OPS", "true"), ("MIRRORD_FILE_MODE", "local")],
            FsMode::Local,
        ),
    ] {
        assert_eq!(accepted("{}", variables).fs.mode, mode, "{variables:?}");
    }
}

#[test]
fn what_a_variable_says_wrong_is_said_of_the_variable() {
    for (variable, value, expected) in [
        (
            "MIRRORD_TCP_OUTGOING",
            "yes",
            "MIRRORD_TCP_OUTGOING:1:1: feature.network.outgoing.tcp: expected true or false, found a string",
        ),
        (
            "MIRRORD_AGENT_TTL",
            "soon",
            "MIRRORD_AGENT_TTL:1:1: agent.ttl: expected a whole number from 0 to 65535, found a string",
        ),
        (
            "MIRRORD_HTTP_FILTER_PORTS",
            "80;x",
            "MIRRORD_HTTP_FILTER_PORTS:1:4: feature.network.incoming.http_filter.ports[1]: \
             expected a whole number from 0 to 65535, found x",
        ),
        (
            "MIRRORD_IMPERSONATED_TARGET",
            "sts/a",
            "MIRRORD_IMPERSONATED_TARGET:1:1: target.path: \"sts\" in \"sts/a\" is not a kind of target",
        ),
    ] {
        let rejected = read("{\n}", &[(variable, value)], &[]).expect_err(variable);
        assert!(rejected.to_string().starts_with(expected), "{rejected}");
    }
    let marked = |variables: &[(&str, &str)]| {
        let rejected = read("{}", variables, &[]).expect_err("wrong");
        rejected.errors[0].excerpt.to_string()
    };
    assert_eq!(
        marked(&[("MIRRORD_HTTP_FILTER_PORTS", "80;  x1;81")]),
        "80;  x1;81\n     ^^"
    );
    assert_eq!(marked(&[("MIRRORD_TCP_OUTGOING", "yes")]), "yes\n^^^");
    let lists = [
        ("MIRRORD_OVERRIDE_ENV_VARS_INCLUDE", "A_*;B"),
        ("MIRRORD_OVERRIDE_ENV_VARS_EXCLUDE", "C"),
    ];
    assert_eq!(marked(&lists), "A_*;B\n^^^^^", "the first of two at odds");
}

#[test]
fn conflicts_count_whoever_says_them() {
    let file = r#"{"feature": {"env": {"include": "A"}}}"#;
    let rejected = read(file, &[("MIRRORD_OVERRIDE_ENV_VARS_EXCLUDE", "B")], &[]);
    assert!(rejected.is_err_and(|rejected| rejected.to_string().contains("exclude each other")));
    let steal = [("MIRRORD_AGENT_TCP_STEAL_TRAFFIC", "true")];
    let rejected = read("{}", &steal, &[]).expect_err("no target");
    assert_eq!(rejected.errors[0].file, "MIRRORD_AGENT_TCP_STEAL_TRAFFIC");
}

#[test]
fn parts_of_an_image_count_where_the_file_names_none() {
    let variables = [("MIRRORD_AGENT_IMAGE_TAG", "t")];
    let image = |file: &str| {
        let config = accepted(file, &variables);
        let agent = config.resolved.get("agent").cloned();
        agent.and_then(|agent| agent.get("image").cloned())
    };
    let tag = |file| image(file).and_then(|image| image.get("tag").cloned());
    assert_eq!(tag("{}"), Some("t".into()));
    assert_eq!(
        tag(r#"{"agent": {"image": {"registry": "r"}}}"#),
        Some("t".into())
    );
    assert_eq!(
        tag(r#"{"agent": {"image": {"tag": "own"}}}"#),
        Some("own".into())
    );
    assert_eq!(
        image(r#"{"agent": {"image": "whole"}}"#),
        Some("whole".into())
    );
}

#[test]
fn empty_variables_and_a_file_that_is_no_object_change_nothing() {
    let config = accepted("{}", &[("MIRRORD_FILE_MODE", ""), ("TRACEPARENT", "00-x")]);
    assert_eq!(config.resolved, accepted("{}", &[]).resolved);
    assert!(read("[]", &[("MIRRORD_FILE_MODE", "local")], &[]).is_err());
    // A value of a wrong kind stays what it is, and is told.
    let rejected = read(r#"{"feature": 1}"#, &[("MIRRORD_FILE_MODE", "local")], &[]);
    assert!(
        rejected
            .is_err_and(|rejected| rejected.to_string().contains("feature: expected an object"))
    );
}

#[test]
fn gits_branch_has_a_variable_of_its_own() {
    let file = r#"{"target": "pod/{{ git_branch }}"}"#;
    let config = accepted(file, &[("MIRRORD_BRANCH_NAME", "main")]);
    assert_eq!(
        config.target.workload().map(|it| it.name.as_str()),
        Some("main")
    );
}

#[test]
fn every_variable_sets_a_key_that_there_is() {
    let keys = crate::reference::keys();
    for variable in VARIABLES {
        assert!(
            keys.iter().any(|key| key.path == variable.path),
            "{} sets {}",
            variable.name,
            variable.path
        );
    }
}

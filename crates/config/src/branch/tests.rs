//! Branches: every key, every refusal, ids.

use model::{CopyMode, PgMajor, Ttl};

use super::*;
use crate::config::{Config, KeyOrigin};
use crate::diagnostic::{Rejected, Weight};
use crate::reader::{Surroundings, read_text};

fn read(branches: &str) -> Result<Config, Rejected> {
    let text = format!(
        r#"{{"target": "deployment/a", "feature": {{"fs": "local", "db_branches": [{branches}]}}}}"#
    );
    read_text(
        "f.json".as_ref(),
        &text,
        &Surroundings::new("/nowhere", "k3y"),
    )
}

fn one(keys: &str) -> Result<Config, Rejected> {
    read(&format!(
        r#"{{"type": "pg", "connection": {{"url": "U"}}, {keys}}}"#
    ))
}

fn branch(keys: &str) -> DbBranch {
    let config = one(keys).unwrap_or_else(|rejected| panic!("{keys}: {rejected}"));
    config.branches.into_iter().next().expect("one branch")
}

fn refusals(config: &Config) -> Vec<String> {
    config
        .refused()
        .map(|refused| format!("{}: {}", refused.path, refused.effect))
        .collect()
}

#[test]
fn defaults_are_the_formats() {
    let branch = branch(r#""id": "x""#);
    assert_eq!(branch.path, "feature.db_branches[0]");
    assert_eq!(branch.id.as_str(), "x");
    assert!(branch.is_id_chosen && !branch.is_copy_chosen);
    assert_eq!(branch.copy.mode, CopyMode::Empty);
    assert_eq!(branch.ttl, Ttl(300));
    assert_eq!(branch.creation_timeout, Duration::from_secs(60));
    assert_eq!(branch.max_age, None);
    assert_eq!((branch.version, branch.database), (None, None));
}

#[test]
fn every_key_is_kept() {
    let branch = branch(
        r#""name": "shop", "ttl_mins": 5, "creation_timeout_secs": 9, "version": "16.4",
           "copy": {"mode": "schema", "tables": {"public.users": {"filter": "id < 9"}, "t": {}}, "dump_args": ["--no-owner"]},
           "connection_settings": {"app.tenant": "7"}, "query_params": {"sslmode": "disable"}, "freshness": {"max_age_secs": 60}"#,
    );
    assert_eq!(branch.max_age, Some(Duration::from_secs(60)));
    assert_eq!(branch.database.as_deref(), Some("shop"));
    assert_eq!(branch.ttl, Ttl(300));
    assert_eq!(branch.creation_timeout.as_secs(), 9);
    assert_eq!(branch.version, Some(PgMajor(16)));
    assert_eq!(branch.copy.mode, CopyMode::Schema);
    assert_eq!(
        branch.copy.tables["public.users"].filter.as_deref(),
        Some("id < 9")
    );
    assert_eq!(branch.copy.tables["t"].filter, None);
    assert_eq!(branch.copy.dump_args, ["--no-owner"]);
    assert_eq!(branch.connection_settings["app.tenant"], "7");
    assert_eq!(branch.query_params["sslmode"], "disable");
}

/// Keys of a branch that are wrong, the path that is named, and a part of what is said.
const WRONG: &[(&str, &str, &str)] = &[
    (r#""id": """#, ".id", "may not be empty"),
    (r#""ttl_secs": 0"#, ".ttl_secs", "lives for no time"),
    (r#""ttl_mins": 0"#, ".ttl_mins", "lives for no time"),
    (r#""ttl_secs": -1"#, ".ttl_secs", "not negative, found -1"),
    (r#""ttl_secs": 1.5"#, ".ttl_secs", "found 1.5"),
    (r#""ttl_secs": "60""#, ".ttl_secs", "found a string"),
    (
        r#""ttl_secs": 1, "ttl_mins": 1"#,
        ".ttl_mins",
        "exclude each other",
    ),
    (
        r#""version": "16", "image": "postgres:16""#,
        ".image",
        "exclude each other",
    ),
    (r#""version": 16.0"#, ".version", "a version is none"),
    (r#""version": """#, ".version", "may not be empty"),
    (r#""copy": {}"#, ".copy", "\"mode\" is missing"),
    (r#""copy": null"#, ".copy", "found null"),
    (
        r#""creation_timeout_secs": null"#,
        ".creation_timeout_secs",
        "found null",
    ),
    (r#""copy": "all""#, ".copy", "found a string"),
    (
        r#""copy": {"mode": "All"}"#,
        ".copy.mode",
        "\"All\" is none of",
    ),
    (
        r#""copy": {"mode": "all", "tables": {"t": {}}}"#,
        ".copy.tables",
        "exclude each other",
    ),
    (
        r#""copy": {"mode": "schema", "tables": {"t": {"where": "x"}}}"#,
        ".copy.tables.t.where",
        "has no key",
    ),
    (
        r#""location": "remote""#,
        ".location",
        "has no key \"location\"",
    ),
    (
        r#""migrations": {"flavor": "flyway", "path": "m"}"#,
        ".migrations",
        "need the database's \"name\"",
    ),
    (
        r#""name": "d", "migrations": {"flavor": "flyway"}"#,
        ".migrations",
        "Flyway's files",
    ),
    (
        r#""name": "d", "migrations": {"flavor": "liquibase"}"#,
        ".migrations.flavor",
        "is none of",
    ),
    (
        r#""iam_auth": {"type": "azure"}"#,
        ".iam_auth.type",
        "is none of",
    ),
    (
        r#""iam_auth": {"type": "aws_rds", "project": null}"#,
        ".iam_auth.project",
        "has no key",
    ),
    (
        r#""connection_settings": {"a;b": "1"}"#,
        ".connection_settings",
        "no name of a setting",
    ),
    (
        r#""connection_settings": {"app.t": 1}"#,
        ".connection_settings[\"app.t\"]",
        "found a number",
    ),
    (
        r#""query_params": {"host": "prod"}"#,
        ".query_params",
        "may not be set",
    ),
    (
        r#""query_params": {"": "x"}"#,
        ".query_params",
        "may not be set",
    ),
];

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    for (keys, path, text) in WRONG {
        let rejected = one(keys).expect_err(keys);
        let path = format!("feature.db_branches[0]{path}");
        let found = rejected
            .errors
            .iter()
            .any(|error| error.path == path && error.text.contains(text));
        assert!(found, "{keys}: {rejected}");
    }
}

#[test]
fn types_are_told_apart() {
    for (kind, hint) in [
        ("Pg", "did you mean \"pg\"?"),
        ("postgres", "did you mean \"pg\"?"),
        ("postgresql", "did you mean \"pg\"?"),
        ("mysq", "did you mean \"mysql\"?"),
    ] {
        let text = format!(r#"{{"type": "{kind}", "connection": {{"url": "U"}}}}"#);
        let rejected = read(&text).expect_err(kind);
        assert_eq!(rejected.errors[0].hint.as_deref(), Some(hint), "{kind}");
    }
    for kind in other_databases::types() {
        let text = if kind == "generic" {
            r#"{"type": "generic", "image": "influxdb:2", "port": 8086, "connection": {"params": {"host": "H"}}}"#
                .to_owned()
        } else {
            format!(r#"{{"type": "{kind}", "connection": {{"url": "U"}}}}"#)
        };
        let config = read(&text).unwrap_or_else(|rejected| panic!("{kind}: {rejected}"));
        assert_eq!(
            refusals(&config),
            [format!(
                "feature.db_branches[0]: branches of {kind} are not supported yet"
            )]
        );
        assert!(config.branches.is_empty());
    }
    for bad in [
        r#"{"type": "mongodb", "connection": {"url": "N"}, "copy": {"mode": "schema"}}"#,
        r#"{"type": "mysql"}"#,
        r#"{"type": "mysql", "connection": "U"}"#,
        r#"{"connection": {"url": "U"}}"#,
        r#""pg""#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn branches_without_an_id_have_the_key_and_a_number() {
    let config = read(
        r#"{"type": "pg", "connection": {"url": "A"}}, {"type": "pg", "id": "x", "connection": {"url": "B"}},
           {"type": "pg", "connection": {"url": "C"}}, {"type": "pg", "id": null, "connection": {"url": "D"}}"#,
    )
    .expect("accepted");
    let ids: Vec<&str> = config
        .branches
        .iter()
        .map(|branch| branch.id.as_str())
        .collect();
    assert_eq!(ids, ["k3y", "x", "k3y-2", "k3y-3"]);
    assert_eq!(config.key.origin, KeyOrigin::Random);
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
}

#[test]
fn an_id_is_one_branchs() {
    for (second, named) in [(r#""id": "x","#, "\"x\""), (r#""id": "k3y","#, "\"k3y\"")] {
        let first = if named == "\"x\"" {
            r#""id": "x","#
        } else {
            ""
        };
        let text = format!(
            "{{\"type\": \"pg\", {first} \"connection\": {{\"url\": \"A\"}}}},\n{{\"type\": \"pg\", {second} \"connection\": {{\"url\": \"B\"}}}}"
        );
        let rejected = read(&text).expect_err(named);
        assert_eq!(rejected.errors.len(), 1, "{rejected}");
        let error = &rejected.errors[0];
        assert_eq!(
            error.text,
            format!("two branches have the id {named} (first on line 1)")
        );
        assert_eq!(error.path, "feature.db_branches[1].id");
        assert_eq!(error.place.line, 2);
    }
    let mixed = r#"{"type": "pg", "id": "x", "connection": {"url": "A"}}, {"type": "redis", "id": "x", "connection": {"url": "B"}}"#;
    assert!(read(mixed).is_err());
}

#[test]
fn a_variable_leads_to_one_branch() {
    let rejected = read(
        r#"{"type": "pg", "id": "a", "connection": {"url": "U"}}, {"type": "pg", "id": "b", "connection": {"url": ["V", "U"]}}"#,
    )
    .expect_err("U cannot lead to both");
    assert!(
        rejected.errors[0]
            .text
            .contains("U leads to feature.db_branches[0] already"),
        "{rejected}"
    );
}

#[test]
fn both_homes_are_read_and_not_at_once() {
    let branch = r#"[{"type": "pg", "id": "x", "connection": {"url": "U"}}]"#;
    let read = |text: String| {
        read_text(
            "f.json".as_ref(),
            &text,
            &Surroundings::new("/nowhere", "k"),
        )
    };
    let in_root =
        read(format!(r#"{{"target": "pod/a", "db_branches": {branch}}}"#)).expect("accepted");
    assert_eq!(in_root.branches[0].path, "db_branches[0]");
    let in_both = read(format!(
        r#"{{"target": "pod/a", "db_branches": {branch}, "feature": {{"db_branches": {branch}}}}}"#
    ));
    let rejected = in_both.expect_err("both");
    assert!(
        rejected
            .errors
            .iter()
            .any(|error| error.path == "db_branches"),
        "{rejected}"
    );
}

#[test]
fn what_cannot_be_done_is_named() {
    for (keys, effect) in [
        (
            r#""profile": "p""#,
            "profile: profiles are not supported yet",
        ),
        (
            r#""iam_auth": {"type": "aws_rds", "region": {"type": "env", "variable": "R"}}"#,
            "iam_auth: ",
        ),
        (
            r#""name": "d", "migrations": {"flavor": "container", "image": "i"}"#,
            "migrations: ",
        ),
        (
            r#""version": "latest""#,
            "version: this names no version of PostgreSQL",
        ),
        (
            r#""image": "registry/partman:16""#,
            "image: images other than",
        ),
    ] {
        let config = one(keys).unwrap_or_else(|rejected| panic!("{keys}: {rejected}"));
        let expected = format!("feature.db_branches[0].{effect}");
        let refusals = refusals(&config);
        assert!(
            refusals.iter().any(|one| one.starts_with(&expected)),
            "{keys}: {refusals:?}"
        );
    }
    let stock = one(r#""image": "postgres:17""#).expect("accepted");
    assert_eq!(stock.branches[0].version, Some(PgMajor(17)));
    assert!(refusals(&stock).is_empty());
    assert!(
        stock
            .unsupported
            .iter()
            .any(|one| one.path.ends_with(".image") && one.weight == Weight::Told)
    );
}

#[test]
fn connections_that_cannot_be_led_here_are_named() {
    for (connection, effect) in [
        (
            r#"{"url": {"type": "secret", "name": "s", "key": "k"}}"#,
            "the Secret \"s\" can be read in a cluster only",
        ),
        (
            r#"{"params": {"host": "H", "foo": "F"}}"#,
            "the param \"foo\" means nothing",
        ),
        (
            r#"{"params": {"password": {"env_var_name": "PW", "value": "x"}}}"#,
            "no param names the host",
        ),
    ] {
        let config = read(&format!(
            r#"{{"type": "pg", "id": "x", "connection": {connection}}}"#
        ))
        .unwrap_or_else(|rejected| panic!("{connection}: {rejected}"));
        let refusals = refusals(&config);
        assert!(
            refusals.iter().any(|one| one.contains(effect)),
            "{connection}: {refusals:?}"
        );
    }
}

#[test]
fn parameters_that_a_connection_by_params_has_no_place_for_are_named() {
    let refusals = |params: &str, query: &str| {
        let text = format!(
            r#"{{"type": "pg", "id": "x", "connection": {{"params": {params}}}, "query_params": {query}}}"#
        );
        refusals(&read(&text).unwrap())
    };
    let with_mode = r#"{"host": "H", "port": "P", "user": "U", "sslmode": "S"}"#;
    let mode = r#"{"sslmode": "require"}"#;
    assert_eq!(refusals(with_mode, mode), Vec::<String>::new());
    let other = refusals(with_mode, r#"{"application_name": "x"}"#).concat();
    assert!(
        other.contains("\"application_name\" has no place"),
        "{other}"
    );
    let nowhere = refusals(r#"{"host": "H", "port": "P", "user": "U"}"#, mode).concat();
    assert!(nowhere.contains("no param \"sslmode\""), "{nowhere}");
}

#[test]
fn a_ttl_over_the_maximum_is_warned_of() {
    let config = one(r#""ttl_secs": 3600"#).expect("accepted");
    assert_eq!(config.branches[0].ttl, Ttl(3600));
    assert_eq!(config.warnings.len(), 1);
    assert_eq!(config.warnings[0].path, "feature.db_branches[0].ttl_secs");
    assert_eq!(
        config.warnings[0].hint.as_deref(),
        Some("write at most 900")
    );
    let config = one(r#""ttl_mins": 16"#).expect("accepted");
    assert_eq!(config.warnings[0].hint.as_deref(), Some("write at most 15"));
    let longest = one(r#""ttl_secs": 900"#).expect("accepted");
    assert_eq!(longest.warnings, []);
}

//! The order of the rules, and what each does to one variable.

use std::collections::BTreeMap;

use model::Secret;

use super::*;
use crate::decode::Decode;
use crate::testing::read_value;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect()
}

fn secrets(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
        .collect()
}

fn rules(json: &str) -> EnvRules {
    read_value(json, EnvRules::decode).unwrap_or_else(|errors| panic!("{json}: {errors:?}"))
}

fn applied(
    json: &str,
    target: &[(&str, &str)],
    env_file: &[(&str, &str)],
    caller: &[(&str, &str)],
    branch: &[(&str, &str)],
) -> Environment {
    rules(json).apply(
        &environment(target),
        Some(&environment(env_file)),
        &environment(caller),
        &secrets(branch),
    )
}

#[test]
fn each_step_wins_over_the_ones_before() {
    let json = r#"{"mapping": {"^M": "mapping"}, "override": {"O": "override", "MO": "override"}, "unset": ["gone"]}"#;
    let target = [
        ("CALLER", "target"),
        ("FILE", "target"),
        ("M1", "target"),
        ("O", "target"),
        ("Gone", "target"),
        ("B", "target"),
    ];
    let env_file = [("FILE", "file"), ("M2", "file"), ("NEW", "file")];
    let caller = [
        ("CALLER", "caller"),
        ("ONLY", "caller"),
        ("M3", "caller"),
        ("GONE", "caller"),
        ("B", "caller"),
        ("PATH", "/bin"),
    ];
    let branch = [("B", "branch")];
    assert_eq!(
        applied(json, &target, &env_file, &caller, &branch),
        environment(&[
            ("CALLER", "target"),
            ("FILE", "file"),
            ("NEW", "file"),
            ("M1", "mapping"),
            ("M2", "mapping"),
            // Mapping is for the target's variables and the file's, not for the caller's own.
            ("M3", "caller"),
            ("MO", "override"),
            ("O", "override"),
            ("ONLY", "caller"),
            ("B", "branch"),
            ("PATH", "/bin"),
        ])
    );
}

#[test]
fn branch_variables_come_last_even_over_unset_and_override() {
    let json = r#"{"override": {"B": "override"}, "unset": ["b"]}"#;
    let made = applied(json, &[("B", "target")], &[], &[], &[("B", "branch")]);
    assert_eq!(made, environment(&[("B", "branch")]));
}

#[test]
fn selections_filter_the_target_alone() {
    let target = [("DB_URL", "t"), ("DB_USER", "t"), ("OTHER", "t")];
    let names = |json: &str| -> Vec<String> {
        let made = applied(json, &target, &[("FILE", "f")], &[("MINE", "c")], &[]);
        made.into_keys()
            .map(|name| name.into_string().expect("UTF-8"))
            .collect()
    };
    assert_eq!(
        names("true"),
        ["DB_URL", "DB_USER", "FILE", "MINE", "OTHER"]
    );
    assert_eq!(names("false"), ["FILE", "MINE"]);
    assert_eq!(
        names(r#"{"include": "DB_*"}"#),
        ["DB_URL", "DB_USER", "FILE", "MINE"]
    );
    assert_eq!(
        names(r#"{"include": "DB_U?L;OTHER"}"#),
        ["DB_URL", "FILE", "MINE", "OTHER"]
    );
    assert_eq!(
        names(r#"{"exclude": ["DB_USER", "OTHER"]}"#),
        ["DB_URL", "FILE", "MINE"]
    );
    assert_eq!(names(r#"{"exclude": "*"}"#), ["FILE", "MINE"]);
}

#[test]
fn this_machines_own_variables_are_never_the_targets() {
    for json in ["true", r#"{"include": ["PATH", "HOME", "RUST_LOG"]}"#] {
        let target: Vec<(&str, &str)> =
            OWN_VARIABLES.iter().map(|name| (*name, "target")).collect();
        let made = applied(json, &target, &[], &[("PATH", "/bin")], &[]);
        assert_eq!(made, environment(&[("PATH", "/bin")]), "{json}");
    }
}

#[test]
fn the_list_of_own_variables_names_each_once() {
    let mut names = OWN_VARIABLES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), OWN_VARIABLES.len());
}

#[test]
fn the_first_mapping_that_matches_counts() {
    let json = r#"{"mapping": {"ZKO_I$": "first", "ZKO": "second"}}"#;
    let made = applied(
        json,
        &[("LESZKO_I", "t"), ("LESZKO_II", "t")],
        &[],
        &[],
        &[],
    );
    assert_eq!(
        made,
        environment(&[("LESZKO_I", "first"), ("LESZKO_II", "second")])
    );
}

#[cfg(unix)]
#[test]
fn values_that_are_not_text_pass_unchanged() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0xff, 0xfe]);
    let caller = Environment::from([("RAW".into(), value.clone())]);
    let made = EnvRules::default().apply(&Environment::new(), None, &caller, &BTreeMap::new());
    assert_eq!(made.get(OsStr::new("RAW")), Some(&value));
}

#[test]
fn a_rule_against_a_variable_is_named() {
    for (json, expected) in [
        ("true", None),
        ("false", Some(Rule::Off)),
        (r#"{"include": "X"}"#, Some(Rule::Include)),
        (r#"{"include": "X;DATABASE_*"}"#, None),
        (r#"{"exclude": "DATABASE_URL"}"#, Some(Rule::Exclude)),
        (r#"{"exclude": "X"}"#, None),
        (r#"{"mapping": {"BASE": "x"}}"#, Some(Rule::Mapping)),
        (
            r#"{"override": {"DATABASE_URL": "x"}}"#,
            Some(Rule::Override),
        ),
        (r#"{"unset": ["database_url"]}"#, Some(Rule::Unset)),
    ] {
        assert_eq!(rules(json).rule_against("DATABASE_URL"), expected, "{json}");
    }
    assert_eq!(rules("true").rule_against("HOME"), Some(Rule::Own));
}

#[test]
fn what_is_wrong_in_the_rules_is_said() {
    for (json, expected) in [
        (r#"{"include": "A", "exclude": "B"}"#, "exclude each other"),
        (
            r#"{"override": {"A": 1}}"#,
            "override.A: expected a string, found a number",
        ),
        (
            r#"{"mapping": {"(": "x"}}"#,
            "not a regular expression: opening parenthesis",
        ),
        (r#"{"foo": 1}"#, "has no key \"foo\""),
        ("1", "expected true, false or an object"),
    ] {
        let errors = read_value(json, EnvRules::decode).expect_err(json);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{json}: {errors:?}"
        );
    }
}

#[test]
fn an_env_file_is_read_from_the_directory() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(temp.path().join(".env"), "A=$HOME/x\n").expect("a file");
    let caller = environment(&[("HOME", "/home/me")]);
    let rules = rules(r#"{"env_file": ".env"}"#);
    let found = rules.read_env_file(temp.path(), &caller).expect("readable");
    assert_eq!(found, Some(environment(&[("A", "/home/me/x")])));
    assert!(matches!(
        rules.read_env_file(&temp.path().join("elsewhere"), &caller),
        Err(EnvFileError::Read { .. })
    ));
    std::fs::write(temp.path().join(".env"), "A").expect("a file");
    assert!(matches!(
        rules.read_env_file(temp.path(), &caller),
        Err(EnvFileError::Dotenv { .. })
    ));
    let none = EnvRules::default().read_env_file(temp.path(), &caller);
    assert_eq!(none.expect("nothing to read"), None);
}

#[test]
fn an_env_file_has_at_most_a_mebibyte() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let rules = rules(r#"{"env_file": ".env"}"#);
    let mut text = "A=1\n#".to_owned().into_bytes();
    text.resize(1 << 20, b'x');
    std::fs::write(temp.path().join(".env"), &text).expect("a file");
    let found = rules.read_env_file(temp.path(), &Environment::new());
    assert_eq!(found.expect("just fits"), Some(environment(&[("A", "1")])));
    text.push(b'x');
    std::fs::write(temp.path().join(".env"), &text).expect("a file");
    assert!(matches!(
        rules.read_env_file(temp.path(), &Environment::new()),
        Err(EnvFileError::Text { .. })
    ));
}

#[test]
fn aws_magic_adds_its_variable_once() {
    let mut rules = rules(r#"{"unset": ["aws_profile"]}"#);
    rules.add_aws_magic();
    assert_eq!(rules.unset, ["aws_profile"]);
}

#[test]
fn nothing_secret_is_in_debug_output() {
    let rules = rules(r#"{"override": {"A": "hunter2"}, "mapping": {"B": "hunter2"}}"#);
    assert!(!format!("{rules:?}").contains("hunter2"));
}

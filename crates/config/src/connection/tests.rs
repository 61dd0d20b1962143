//! Every shape of `connection`: read, located, rewritten.

mod whole;

use std::collections::BTreeMap;
use std::ffi::OsString;

use model::pg_url::Address;

use super::*;
use crate::decode::Decode;
use crate::environment::Environment;
use crate::testing::read_value;

const URL: &str =
    "postgres://shop:hunter2@db.internal:6432/inventory?sslmode=disable&application_name=x";

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect()
}

fn connection(json: &str) -> Connection {
    read_value(json, Connection::decode).unwrap_or_else(|errors| panic!("{json}: {errors:?}"))
}

fn located(json: &str, pairs: &[(&str, &str)]) -> Result<String, LocateError> {
    connection(json)
        .locate(&environment(pairs))
        .map(|source| source.url.reveal())
}

fn rewritten(
    json: &str,
    pairs: &[(&str, &str)],
    database: Option<&str>,
    query: &[(&str, &str)],
) -> Result<Vec<(String, String)>, RewriteError> {
    let address = Address {
        host: "127.0.0.1".to_owned(),
        port: 54321,
    };
    let query_params = query
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let destination = Destination {
        address: &address,
        database,
        query_params: &query_params,
    };
    let variables = connection(json).rewrite(&environment(pairs), &destination)?;
    Ok(variables
        .into_iter()
        .map(|(name, value)| (name, value.reveal().to_owned()))
        .collect())
}

fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, RewriteError> {
    Ok(expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect())
}

#[test]
fn every_accepted_shape_names_its_variables() {
    for (json, variables) in [
        (r#"{"url": {"type": "env", "variable": "U"}}"#, vec!["U"]),
        (
            r#"{"url": {"type": "env", "variable": "U", "container": "c", "value": "x"}}"#,
            vec!["U"],
        ),
        (
            r#"{"url": {"type": "env_from", "variable": "U", "container": "c"}}"#,
            vec!["U"],
        ),
        (
            r#"{"url": {"type": "secret", "name": "s", "key": "k"}}"#,
            vec![],
        ),
        (
            r#"{"url": {"type": "secret", "name": "s", "key": "k", "env_var_name": "U"}}"#,
            vec!["U"],
        ),
        (
            r#"{"url": {"type": "gcp_secret_manager", "secret_ref": "r", "env_var_name": "U"}}"#,
            vec!["U"],
        ),
        (r#"{"url": "U"}"#, vec!["U"]),
        (r#"{"type": "env", "url": "U"}"#, vec!["U"]),
        (
            r#"{"type": "env_from", "url": ["U2", "U1"]}"#,
            vec!["U1", "U2"],
        ),
        (r#"{"params": {"host": "H"}}"#, vec!["H"]),
        (
            r#"{"type": "env_from", "params": {"host": ["H", "H2"], "port": "P"}}"#,
            vec!["H", "H2", "P"],
        ),
        (
            r#"{"params": {"host": {"variable": "H"}, "user": {"env_var_name": "U", "value": "x"}}}"#,
            vec!["H", "U"],
        ),
        (
            r#"{"params": {"host": {"env_var_name": "S", "value_pattern": "^([^:]+):"}}}"#,
            vec!["S"],
        ),
        (
            r#"{"params": {"password": {"secret": "s", "key": "k", "env_var_name": "P"}}}"#,
            vec!["P"],
        ),
        (
            r#"{"params": {"password": {"gcp_secret_manager": "r"}}}"#,
            vec![],
        ),
    ] {
        assert_eq!(connection(json).variables(), variables, "{json}");
    }
}

/// What is no connection, and a part of what is said of it.
const SHAPELESS: &[(&str, &str)] = &[
    ("{}", "names neither \"url\" nor \"params\""),
    (r#"{"type": "env"}"#, "names neither \"url\" nor \"params\""),
    (r#"{"urls": "U"}"#, "has no key \"urls\""),
    (r#""DATABASE_URL""#, "found a string"),
    (r#"{"url": {"variable": "U"}}"#, "\"type\" is missing"),
    (
        r#"{"url": {"env_var_name": "U", "value_pattern": "(.*)"}}"#,
        "\"type\" is missing",
    ),
    (
        r#"{"type": "secret", "url": "U"}"#,
        "\"secret\" is none of \"env\", \"env_from\"",
    ),
    (
        r#"{"url": [{"type": "env", "variable": "A"}]}"#,
        "expected the name of a variable, found an object",
    ),
    (
        r#"{"url": {"type": "env", "variable": "U"}, "type": "env"}"#,
        "has no key \"type\"",
    ),
    (
        r#"{"url": "U", "params": {"host": "H"}}"#,
        "exclude each other",
    ),
    (
        r#"{"params": {"host": {"value": "x"}}}"#,
        "\"env_var_name\" is missing",
    ),
    (
        r#"{"params": {"host": {"env_var_name": "S", "value_pattern": "(a)", "value": "b"}}}"#,
        "exclude each other",
    ),
    (
        r#"{"params": {"host": {"env_var_name": "S", "variable": "S"}}}"#,
        "both are given",
    ),
    (
        r#"{"params": {"host": {"secret": "s", "key": "k", "value": "x"}}}"#,
        "has no key \"value\"",
    ),
    (
        r#"{"params": {"host": {"invalid": "object"}}}"#,
        "has no key \"invalid\"",
    ),
    (
        r#"{"url": {"type": "envFrom", "variable": "U"}}"#,
        "\"envFrom\" is none of",
    ),
    (
        r#"{"url": {"type": "env", "variable": "U", "foo": 1}}"#,
        "has no key \"foo\"",
    ),
    (
        r#"{"url": {"type": "env_from", "variable": "U", "value": "x"}}"#,
        "has no key \"value\"",
    ),
    (r#"{"params": {}}"#, "names no variable"),
    (r#"{"params": {"host": []}}"#, "names no variable"),
    (r#"{"url": []}"#, "names no variable"),
    (r#"{"url": ""}"#, "this is no name of a variable"),
    (
        r#"{"params": {"host": {"env_var_name": "S", "value_pattern": "("}}}"#,
        "without closing parenthesis",
    ),
    (
        r#"{"params": {"host": {"env_var_name": "S", "value_pattern": "abc"}}}"#,
        "has no group",
    ),
    (
        r#"{"params": {"host": {"env_var_name": "S", "value_pattern": "(?:a)"}}}"#,
        "has no group",
    ),
];

#[test]
fn what_is_no_shape_is_refused_in_words() {
    for (json, expected) in SHAPELESS {
        let errors = read_value(json, Connection::decode).expect_err(json);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{json}: {errors:?}"
        );
    }
}

#[test]
fn a_url_keeps_every_byte_but_its_address() {
    let json = r#"{"url": {"type": "env", "variable": "DATABASE_URL"}}"#;
    assert_eq!(located(json, &[("DATABASE_URL", URL)]).as_deref(), Ok(URL));
    assert_eq!(
        rewritten(json, &[("DATABASE_URL", URL)], None, &[]),
        pairs(&[(
            "DATABASE_URL",
            "postgres://shop:hunter2@127.0.0.1:54321/inventory?sslmode=disable&application_name=x",
        )])
    );
}

#[test]
fn the_database_changes_where_it_differs_and_query_params_are_set() {
    let json = r#"{"url": "U"}"#;
    assert_eq!(
        rewritten(
            json,
            &[("U", URL)],
            Some("inventory"),
            &[("sslmode", "require"), ("a", "b c")]
        ),
        pairs(&[(
            "U",
            "postgres://shop:hunter2@127.0.0.1:54321/inventory?sslmode=require&application_name=x&a=b%20c",
        )])
    );
    assert_eq!(
        rewritten(json, &[("U", "host=db user=u dbname=a")], Some("b"), &[]),
        pairs(&[("U", "host=127.0.0.1 user=u dbname=b port=54321")])
    );
}

#[test]
fn a_missing_variable_is_named_with_the_nearest() {
    let error = located(
        r#"{"url": "DATABSE_URL"}"#,
        &[("DATABASE_URL", URL), ("PATH", "x")],
    );
    let error = error.expect_err("it is misspelt");
    assert_eq!(
        error.to_string(),
        "DATABSE_URL is not in the target's environment"
    );
    assert_eq!(error.hint().as_deref(), Some("did you mean DATABASE_URL?"));
    let error = located(r#"{"url": "U"}"#, &[("DATABASE_URL", "")]).expect_err("not there");
    assert!(matches!(error, LocateError::Missing { nearest: None, .. }));
    let error = located(r#"{"url": "U"}"#, &[("U", "")]).expect_err("empty");
    assert_eq!(error.to_string(), "U is empty in the target's environment");
}

#[test]
fn no_error_holds_a_value() {
    let error =
        located(r#"{"url": "U"}"#, &[("U", "mysql://u:hunter2@h/d")]).expect_err("not ours");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let error = located(
        r#"{"url": {"type": "env", "variable": "U", "value": "hunter2"}}"#,
        &[],
    );
    assert!(!format!("{error:?}").contains("hunter2"));
    let json = r#"{"url": {"type": "env", "variable": "U", "value": "postgres://u:hunter2@h/d"}}"#;
    assert!(!format!("{:?}", connection(json)).contains("hunter2"));
}

#[test]
fn a_literal_wins_over_the_target_and_is_given_to_the_process() {
    let json = r#"{"url": {"type": "env", "variable": "U", "value": "postgres://a:b@lit:1/d"}}"#;
    assert_eq!(
        located(json, &[("U", URL)]).as_deref(),
        Ok("postgres://a:b@lit:1/d")
    );
    assert_eq!(
        rewritten(json, &[], None, &[]),
        pairs(&[("U", "postgres://a:b@127.0.0.1:54321/d")])
    );
}

#[test]
fn of_several_urls_the_first_is_the_source_and_all_lead_to_the_branch() {
    let json = r#"{"url": ["A", "B", "C"]}"#;
    let env = [
        ("A", "postgres://u:p@h:1/d"),
        ("B", "jdbc:postgresql://replica:2/d?user=other&password=x"),
    ];
    assert_eq!(located(json, &env).as_deref(), Ok("postgres://u:p@h:1/d"));
    // `other` has its own default database where none is named; here it names the same.
    assert_eq!(
        rewritten(json, &env, None, &[]),
        pairs(&[
            ("A", "postgres://u:p@127.0.0.1:54321/d"),
            (
                "B",
                "jdbc:postgresql://127.0.0.1:54321/d?user=other&password=x"
            ),
            ("C", "postgres://u:p@127.0.0.1:54321/d"),
        ])
    );
    let other = [("A", "postgres://u@h/d"), ("B", "postgres://u@h/e")];
    assert!(matches!(
        rewritten(json, &other, None, &[]),
        Err(RewriteError::OtherDatabase { variable, first }) if variable == "B" && first == "A"
    ));
    let broken = [("A", "postgres://u@h/d"), ("B", "redis://h")];
    assert!(matches!(
        rewritten(json, &broken, None, &[]),
        Err(RewriteError::NotAUrl { variable, .. }) if variable == "B"
    ));
}

const PARAMS: &str = r#"{"params": {
    "host": "H", "port": "P", "user": "U", "password": "PW", "database": "D", "sslmode": "M"
}}"#;

#[test]
fn params_make_a_connection_and_are_rewritten_one_by_one() {
    let env = [
        ("H", "db"),
        ("P", "6432"),
        ("U", "shop"),
        ("PW", "hunter'2\\ x"),
        ("D", "inventory"),
        ("M", "disable"),
    ];
    let source = connection(PARAMS)
        .locate(&environment(&env))
        .expect("located");
    assert_eq!(source.url.address().to_string(), "db:6432");
    assert_eq!(source.url.user().as_deref(), Some("shop"));
    assert_eq!(
        source.url.password().expect("a password").reveal(),
        "hunter'2\\ x"
    );
    assert_eq!(source.url.database().as_deref(), Some("inventory"));
    assert_eq!(source.url.param("sslmode").as_deref(), Some("disable"));
    assert_eq!(source.variables, ["H", "P", "U", "PW", "D", "M"]);
    assert_eq!(
        rewritten(PARAMS, &env, None, &[]),
        pairs(&[
            ("D", "inventory"),
            ("H", "127.0.0.1"),
            ("M", "disable"),
            ("P", "54321"),
            ("PW", "hunter'2\\ x"),
            ("U", "shop"),
        ])
    );
}

#[test]
fn a_host_with_its_port_stays_one() {
    let json = r#"{"params": {"host": "H", "user": {"env_var_name": "U", "value": "me"}}}"#;
    let source = connection(json)
        .locate(&environment(&[("H", "db:6432")]))
        .expect("located");
    assert_eq!(source.url.address().to_string(), "db:6432");
    assert_eq!(
        rewritten(json, &[("H", "db:6432")], None, &[]),
        pairs(&[("H", "127.0.0.1:54321"), ("U", "me")])
    );
    let v6 = connection(json)
        .locate(&environment(&[("H", "[::1]:6432")]))
        .expect("located");
    assert_eq!(v6.url.address().to_string(), "[::1]:6432");
}

#[test]
fn a_host_beside_its_port_never_gets_both() {
    let json = r#"{"params": {"host": "H", "port": "P", "user": "U"}}"#;
    let env = [("H", "db:1"), ("P", "1"), ("U", "me")];
    assert_eq!(
        rewritten(json, &env, None, &[]),
        pairs(&[("H", "127.0.0.1"), ("P", "54321"), ("U", "me")])
    );
}

#[test]
fn what_cannot_be_led_to_the_branch_is_refused_before_it_is_made() {
    for (json, env, missing) in [
        (
            r#"{"params": {"host": "H", "user": "U"}}"#,
            vec![("H", "db"), ("U", "u")],
            Param::Port,
        ),
        (
            r#"{"params": {"host": "H", "port": "P"}}"#,
            vec![("H", "db"), ("P", "1")],
            Param::User,
        ),
        (
            r#"{"params": {"port": "P", "user": "U"}}"#,
            vec![("P", "1"), ("U", "u")],
            Param::Host,
        ),
    ] {
        assert_eq!(
            located(json, &env),
            Err(LocateError::NoParam { param: missing }),
            "{json}"
        );
    }
    let port = located(
        r#"{"params": {"host": "H", "port": "P", "user": "U"}}"#,
        &[("H", "db"), ("P", "many"), ("U", "u")],
    );
    assert!(
        matches!(port, Err(LocateError::NotAConnection { .. })),
        "{port:?}"
    );
    assert_eq!(
        located(
            r#"{"params": {"host": "H", "foo": "F"}}"#,
            &[("H", "db"), ("F", "x")]
        ),
        Err(LocateError::UnknownParam {
            param: Param::Other("foo".to_owned())
        })
    );
}

#[test]
fn of_a_pattern_only_the_captured_part_changes() {
    let json = r#"{"params": {
        "host": {"env_var_name": "SPRING", "value_pattern": "//([^:/]+)"},
        "port": {"env_var_name": "SPRING", "value_pattern": ":(\\d+)/"},
        "database": {"env_var_name": "SPRING", "value_pattern": "/(\\w+)\\?"},
        "user": "U"
    }}"#;
    let env = [
        (
            "SPRING",
            "jdbc:postgresql://db.internal:6432/shop?a=b&c=%20",
        ),
        ("U", "me"),
    ];
    let source = connection(json)
        .locate(&environment(&env))
        .expect("located");
    assert_eq!(source.url.address().to_string(), "db.internal:6432");
    assert_eq!(source.url.database().as_deref(), Some("shop"));
    assert_eq!(
        rewritten(json, &env, None, &[]),
        pairs(&[
            ("SPRING", "jdbc:postgresql://127.0.0.1:54321/shop?a=b&c=%20"),
            ("U", "me"),
        ])
    );
    let error = located(json, &[("SPRING", "nothing here"), ("U", "me")]).expect_err("no match");
    assert!(matches!(error, LocateError::NoMatch { .. }));
}

#[test]
fn parts_that_overlap_are_refused() {
    let json = r#"{"params": {
        "host": {"env_var_name": "S", "value_pattern": "^(.*)$"},
        "port": {"env_var_name": "S", "value_pattern": ":(\\d+)"},
        "user": {"env_var_name": "U", "value": "x"}
    }}"#;
    assert!(matches!(
        rewritten(json, &[("S", "db:5432")], None, &[]),
        Err(RewriteError::Overlap { variable }) if variable == "S"
    ));
    let twice = r#"{"params": {"host": "S", "port": "S", "user": "U"}}"#;
    assert!(matches!(
        rewritten(twice, &[("S", "1"), ("U", "u")], None, &[]),
        Err(RewriteError::Overlap { variable }) if variable == "S"
    ));
}

#[test]
fn further_variables_of_a_param_get_the_same() {
    let json = r#"{"params": {"host": ["H", "H2"], "port": "P", "user": ["U", "U2"]}}"#;
    assert_eq!(
        rewritten(
            json,
            &[("H", "db"), ("P", "1"), ("U", "me"), ("U2", "old")],
            None,
            &[]
        ),
        pairs(&[
            ("H", "127.0.0.1"),
            ("H2", "127.0.0.1"),
            ("P", "54321"),
            ("U", "me"),
            ("U2", "me"),
        ])
    );
}

#[test]
fn what_only_a_cluster_has_is_said_by_name() {
    for (json, name) in [
        (
            r#"{"url": {"type": "secret", "name": "db-cred", "key": "k", "env_var_name": "U"}}"#,
            "\"db-cred\"",
        ),
        (
            r#"{"url": {"type": "gcp_secret_manager", "secret_ref": "projects/p", "env_var_name": "U"}}"#,
            "\"projects/p\"",
        ),
        (
            r#"{"params": {"host": "H", "port": "P", "user": "U", "password": {"secret": "db-cred", "key": "k"}}}"#,
            "\"db-cred\"",
        ),
    ] {
        let env = [("H", "db"), ("P", "1"), ("U", "postgres://u@h/d")];
        let error = located(json, &env).expect_err(json);
        assert!(matches!(error, LocateError::ClusterOnly { .. }), "{json}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn of_what_only_a_cluster_has_nothing_but_the_login_goes_unnamed() {
    let environment = environment(&[("H", "db"), ("P", "1"), ("U", "me")]);
    let secret = |key: &str, value: &str| {
        let name = ("db-cred".to_owned(), key.to_owned());
        (name, Secret::new(value.to_owned()))
    };
    let values = Values {
        secrets: BTreeMap::from([secret("pw", "hunter2"), secret("host", "db")]),
        ..Values::of(&environment)
    };
    let address = Address {
        host: "127.0.0.1".to_owned(),
        port: 54321,
    };
    let destination = Destination {
        address: &address,
        database: None,
        query_params: &BTreeMap::new(),
    };
    let rewrite = |json: &str| connection(json).rewrite_in(&values, &destination);
    let password = r#"{"params": {"host": "H", "port": "P", "user": "U", "password": {"secret": "db-cred", "key": "pw"}}}"#;
    let names: Vec<String> = rewrite(password).expect("led").into_keys().collect();
    assert_eq!(names, ["H", "P", "U"]);
    let host =
        r#"{"params": {"host": {"secret": "db-cred", "key": "host"}, "port": "P", "user": "U"}}"#;
    assert!(matches!(
        rewrite(host),
        Err(RewriteError::NoVariable { what }) if what.contains("host")
    ));
}

#[test]
fn a_branch_at_an_ipv6_address_stands_in_brackets_within_a_longer_text() {
    let address = Address {
        host: "::1".to_owned(),
        port: 1,
    };
    let destination = Destination {
        address: &address,
        database: None,
        query_params: &BTreeMap::new(),
    };
    for (pattern, before, after) in [
        (
            "//([^:/]+)",
            "jdbc:postgresql://db:1/shop",
            "jdbc:postgresql://[::1]:1/shop",
        ),
        (
            "\\\\[([^\\\\]]+)",
            "tcp://[fe80::2]:1/shop",
            "tcp://[::1]:1/shop",
        ),
        ("^(.*)$", "db", "::1"),
    ] {
        let json = format!(
            r#"{{"params": {{"host": {{"env_var_name": "S", "value_pattern": "{pattern}"}}, "port": "P", "user": "U"}}}}"#
        );
        let environment = environment(&[("S", before), ("P", "1"), ("U", "me")]);
        let led = connection(&json).rewrite(&environment, &destination);
        let led = led.unwrap_or_else(|error| panic!("{pattern}: {error:?}"));
        assert_eq!(led["S"].reveal(), after, "{pattern}");
    }
}

#[test]
fn parts_that_touch_are_parts_of_their_own() {
    let json = r#"{"params": {
        "host": {"env_var_name": "S", "value_pattern": "^([a-z]+)"},
        "port": {"env_var_name": "S", "value_pattern": "([0-9]+)$"},
        "user": {"env_var_name": "U", "value": "me"}
    }}"#;
    assert_eq!(
        rewritten(json, &[("S", "db5432")], None, &[]),
        pairs(&[("S", "127.0.0.154321"), ("U", "me")])
    );
}

proptest::proptest! {
    #[test]
    fn params_of_any_text_come_back(
        user in "[^\u{0}]{0,11}[^\u{0}\r\n]", password in "[^\u{0}]{0,11}[^\u{0}\r\n]", database in "[^\u{0}]{0,11}[^\u{0}\r\n]",
    ) {
        let env = [("H", "db"), ("P", "1"), ("U", &*user), ("PW", &*password), ("D", &*database), ("M", "prefer")];
        let url = connection(PARAMS).locate(&environment(&env)).expect("located").url;
        proptest::prop_assert_eq!(url.user(), Some(user));
        proptest::prop_assert_eq!(url.password().map(|it| it.reveal().to_owned()), Some(password));
        proptest::prop_assert_eq!(url.database(), Some(database));
    }

    #[test]
    fn a_rewritten_connection_leads_to_the_branch_and_nowhere_else(
        host in "[a-z]{1,8}(\\.[a-z]{1,5})?", port in 1u16.., database in "[a-z]{1,8}",
    ) {
        let url = format!("postgres://u:p@{host}:{port}/{database}");
        let led = rewritten(r#"{"url": ["A", "B"]}"#, &[("A", &url), ("B", &url)], None, &[]).expect("rewritten");
        for (_, value) in led {
            let parsed = model::PgUrl::parse(&value).expect("still a URL");
            proptest::prop_assert_eq!(parsed.addresses().len(), 1);
            proptest::prop_assert_eq!(parsed.address().to_string(), "127.0.0.1:54321");
            proptest::prop_assert_eq!(parsed.database(), Some(database.clone()));
        }
    }
}

#[test]
fn origins_say_whether_the_target_is_asked() {
    let json = r#"{"params": {"host": "H", "user": {"env_var_name": "U", "value": "x"}}}"#;
    let from_target: BTreeMap<&str, bool> = connection(json)
        .origins()
        .into_iter()
        .filter_map(|(_, origin)| Some((origin.variable()?, origin.is_from_target())))
        .map(|(name, from_target)| match name {
            "H" => ("H", from_target),
            _ => ("U", from_target),
        })
        .collect();
    assert_eq!(from_target, BTreeMap::from([("H", true), ("U", false)]));
}

/// What a target's client completes its connections with.
const CLIENT: &[(&str, &str)] = &[
    ("PGHOST", "db.internal"),
    ("PGPORT", "6432"),
    ("PGUSER", "app"),
    ("PGPASSWORD", "hunter2"),
    ("PGDATABASE", "inventory"),
];

/// Login, address and database of the source that `url` means beside these variables.
fn completed(url: &str, client: &[(&str, &str)]) -> Result<String, LocateError> {
    let given = [&[("U", url)], client].concat();
    let source = connection(r#"{"url": "U"}"#).locate(&environment(&given))?;
    let url = source.url;
    let password = url.password().map(|it| it.reveal().to_owned());
    let login = (url.user().unwrap_or_default(), password.unwrap_or_default());
    let database = url.database().unwrap_or_default();
    Ok(format!(
        "{}:{} {} {database}",
        login.0,
        login.1,
        url.address()
    ))
}

#[test]
fn what_a_connection_leaves_out_is_found_where_its_client_finds_it() {
    for (url, expected) in [
        ("postgres://", "app:hunter2 db.internal:6432 inventory"),
        (
            "postgres:///other?user=u&password=p",
            "u:p db.internal:6432 other",
        ),
        ("postgres://u@db/d", "u:hunter2 db:6432 d"),
        ("postgres://u:p@db:1/d", "u:p db:1 d"),
        ("dbname=d", "app:hunter2 db.internal:6432 d"),
        ("host=db port=1 user=u password=p dbname=d", "u:p db:1 d"),
    ] {
        assert_eq!(completed(url, CLIENT).unwrap(), expected, "{url}");
    }
    let params = r#"{"params": {"host": "H", "port": "P", "user": "V"}}"#;
    let given = [
        ("H", "db"),
        ("P", "1"),
        ("V", "u"),
        ("PGPASSWORD", "hunter2"),
    ];
    let source = connection(params).locate(&environment(&given)).unwrap();
    assert_eq!(source.url.password().unwrap().reveal(), "hunter2");
    // The program completes its own.
    assert_eq!(
        rewritten(
            r#"{"url": "U"}"#,
            &[("U", "postgres:///d"), ("PGUSER", "app")],
            Some("d"),
            &[]
        ),
        pairs(&[("U", "postgres://127.0.0.1:54321/d")])
    );
}

#[test]
fn a_source_whose_host_each_client_finds_elsewhere_is_refused() {
    let variables = || vec!["U".to_owned()];
    assert_eq!(
        completed("postgres:///d?user=u", &CLIENT[1..]),
        Err(LocateError::NoHost {
            variables: variables()
        })
    );
    for (url, client) in [
        ("postgres:///?service=shop", CLIENT),
        ("postgres:///d", &[("PGSERVICE", "shop"), ("PGHOST", "db")]),
    ] {
        let refused = LocateError::Service {
            variables: variables(),
        };
        assert_eq!(completed(url, client), Err(refused), "{url}");
    }
}

#[test]
fn a_connection_whose_user_stands_elsewhere_is_refused_with_the_params_that_find_it() {
    let spring = [
        ("SPRING_DATASOURCE_URL", "jdbc:postgresql://db:6432/shop"),
        ("SPRING_DATASOURCE_USERNAME", "app"),
        ("SPRING_DATASOURCE_PASSWORD", "hunter2"),
    ];
    let refused = located(r#"{"url": "SPRING_DATASOURCE_URL"}"#, &spring).expect_err("no user");
    assert_eq!(
        refused.to_string(),
        "SPRING_DATASOURCE_URL names no user, and there is no PGUSER"
    );
    assert!(refused.hint().is_some_and(|hint| hint.contains("params")));
    // As the guide has them.
    let guide = include_str!("../../../../docs/guide/branches.md");
    let shown = guide
        .split_once("\"connection\": {\"params\"")
        .expect("it is shown")
        .1;
    let params = shown.split_once("}}\n\n").expect("an end").0;
    let json = format!("{{\"params\"{params}}}}}");
    assert_eq!(
        located(&json, &spring).as_deref(),
        Ok("host=db port=6432 user=app password=hunter2 dbname=shop")
    );
    let changed = rewritten(&json, &spring, Some("shop"), &[]).expect("rewritten");
    let url = (
        "SPRING_DATASOURCE_URL",
        "jdbc:postgresql://127.0.0.1:54321/shop",
    );
    assert!(
        changed.contains(&(url.0.to_owned(), url.1.to_owned())),
        "{changed:?}"
    );
}

#[test]
fn the_sslmode_of_query_params_is_that_of_params_as_well() {
    let params = r#"{"params": {"host": "H", "port": "P", "user": "V", "sslmode": "PGSSLMODE"}}"#;
    let given = [
        ("H", "db"),
        ("P", "1"),
        ("V", "u"),
        ("PGSSLMODE", "verify-full"),
    ];
    let sslmode = |query: &[(&str, &str)]| {
        let variables = rewritten(params, &given, None, query).unwrap();
        let mut values = variables
            .into_iter()
            .filter(|(name, _)| name == "PGSSLMODE");
        values.next().unwrap().1
    };
    // Nobody can prove that he is the branch: it is on this machine.
    assert_eq!(sslmode(&[]), "disable");
    assert_eq!(sslmode(&[("sslmode", "require")]), "require");
}

//! What is a port behind a host, and how errors name variables.

use super::*;

#[test]
fn a_host_holds_its_port_only_where_no_other_reading_is_left() {
    for (value, expected) in [
        ("db:5432", Some(("db", "5432"))),
        ("[::1]:5432", Some(("::1", "5432"))),
        ("[::1]:x", None),
        ("[::1]", None),
        ("::1", None),
        ("db", None),
        ("db:", None),
        ("db:x", None),
        (":5432", None),
        ("a:1,b:2", None),
        ("/run/postgresql:5432", None),
    ] {
        assert_eq!(split_host_port(value), expected, "{value}");
    }
}

#[test]
fn variables_without_a_host_are_named_one_and_all() {
    let error = |variables: &[&str]| {
        let variables = variables.iter().map(|name| (*name).to_owned()).collect();
        LocateError::NoHost { variables }.to_string()
    };
    assert_eq!(error(&["A"]), "A names no host, and there is no PGHOST");
    assert_eq!(
        error(&["A", "B"]),
        "A, B name no host, and there is no PGHOST"
    );
}

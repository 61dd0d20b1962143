//! Scalars, lists, maps, and finding the nearest name.

use super::*;
use crate::testing::read_value;

record! {
    /// A record of the tests.
    struct Sample {
        /// Required.
        name: String,
        /// May be missing.
        port: Option<u16>,
        /// Has a default.
        on: bool = true,
        /// Has a name that is no Rust name.
        kind as "type": NotNull<String> = NotNull("plain".to_owned()),
    }
}

fn sample(json: &str) -> Result<Sample, Vec<String>> {
    read_value(json, Sample::decode)
}

#[test]
fn null_is_the_same_as_leaving_the_key_out() {
    let least = sample(r#"{"name": "a"}"#);
    assert_eq!(least, sample(r#"{"name": "a", "port": null, "on": null}"#));
    assert_eq!(
        least,
        Ok(Sample {
            name: "a".to_owned(),
            port: None,
            on: true,
            kind: NotNull("plain".to_owned()),
        })
    );
    assert_eq!(
        sample(r#"{"name": null}"#),
        Err(vec![": the key \"name\" is missing".to_owned()])
    );
    assert_eq!(
        sample(r#"{"name": "a", "type": null}"#),
        Err(vec!["type: expected a string, found null".to_owned()])
    );
}

#[test]
fn every_error_is_found_not_only_the_first() {
    assert_eq!(
        sample(r#"{"prot": 1, "port": 70000, "on": "yes", "type": []}"#),
        Err(vec![
            "prot: the file has no key \"prot\"".to_owned(),
            ": the key \"name\" is missing".to_owned(),
            "port: expected a whole number from 0 to 65535, found 70000".to_owned(),
            "on: expected true or false, found a string".to_owned(),
            "type: expected a string, found a list".to_owned(),
        ])
    );
    assert_eq!(
        read_value("[1, \"a\", -1, 2.5]", Vec::<u16>::decode),
        Err(vec![
            "[1]: expected a whole number from 0 to 65535, found a string".to_owned(),
            "[2]: expected a whole number from 0 to 65535, found -1".to_owned(),
            "[3]: expected a whole number from 0 to 65535, found 2.5".to_owned(),
        ])
    );
    assert_eq!(
        read_value(r#"{"a": 1, "b c": true}"#, BTreeMap::<String, bool>::decode),
        Err(vec!["a: expected true or false, found a number".to_owned()])
    );
}

#[test]
fn quotes_are_what_is_wrong_with_a_number_only_where_one_is_in_them() {
    let hint = |json: &str| {
        let tree = crate::format::Format::Json.parse(json).expect("JSON");
        let mut report = Report::default();
        assert_eq!(u16::decode(&Node::root(&tree), &mut report), None);
        report.problems[0].hint.clone()
    };
    assert_eq!(hint("\"80\"").as_deref(), Some("write 80, without quotes"));
    assert_eq!(hint("\"eighty\""), None);
}

#[test]
fn the_nearest_name_is_near() {
    let known = ["incoming", "outgoing", "dns", "ipv6", "db_branches"];
    for (name, expected) in [
        ("incomming", Some("incoming")),
        ("Outgoing", Some("outgoing")),
        ("ougtoing", Some("outgoing")),
        ("db_branch", Some("db_branches")),
        ("dsn", Some("dns")),
        ("target", None),
        ("x", None),
        ("", None),
    ] {
        assert_eq!(nearest(name, known), expected, "{name}");
    }
    let long = "x".repeat(64);
    assert_eq!(nearest(&long, [long.as_str()]), Some(long.as_str()));
    let longer = "x".repeat(65);
    assert_eq!(nearest(&longer, [longer.as_str()]), None);
}

#[test]
fn pairs_are_lists_of_two() {
    assert_eq!(read_value("[1, 2]", <(u16, u16)>::decode), Ok((1, 2)));
    for bad in ["[1]", "[1, 2, 3]", "1", "[1, \"a\"]"] {
        assert!(read_value(bad, <(u16, u16)>::decode).is_err(), "{bad}");
    }
}

#[test]
fn one_or_many_are_a_list() {
    let read = |json| read_value(json, OneOrMany::<String>::decode).map(|many| many.0);
    assert_eq!(read("\"a\""), Ok(vec!["a".to_owned()]));
    assert_eq!(
        read("[\"a\", \"b\"]"),
        Ok(vec!["a".to_owned(), "b".to_owned()])
    );
    assert!(read("[1]").is_err());
}

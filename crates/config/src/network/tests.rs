//! `feature.network` in its forms, and what its parts refuse.

use model::IncomingMode;

use super::*;
use crate::decode::Decode;
use crate::testing::read_value;

fn network(json: &str) -> Network {
    read_value(json, Network::decode).unwrap_or_else(|errors| panic!("{json}: {errors:?}"))
}

fn errors(json: &str) -> Vec<String> {
    read_value(json, Network::decode).expect_err(json)
}

#[test]
fn on_is_every_default_and_off_is_nothing_but_ipv6() {
    assert_eq!(network("true"), network("{}"));
    let off = network("false");
    assert_eq!(off.incoming.mode, IncomingMode::Off);
    assert!(!off.outgoing.tcp && !off.outgoing.udp && !off.dns.enabled && off.ipv6);
    let on = network("{}");
    assert_eq!(on.incoming.mode, IncomingMode::Mirror);
    assert!(on.outgoing.tcp && on.outgoing.udp && on.dns.enabled && on.ipv6);
}

#[test]
fn names_of_the_target_that_this_machine_resolves_are_warned_of() {
    let warnings = |json: &str| {
        let tree = crate::format::Format::Json.parse(json).expect("JSON");
        let (node, mut report) = (Node::root(&tree), Report::default());
        let mut network = Network::decode(&node, &mut report).expect("a network");
        network.reflect(Some(&node), &mut report);
        report.warnings.len()
    };
    for (json, count) in [
        (
            r#"{"dns": false, "outgoing": {"filter": {"remote": ["db"]}}}"#,
            1,
        ),
        (
            r#"{"dns": true, "outgoing": {"filter": {"remote": ["db"]}}}"#,
            0,
        ),
        (
            r#"{"dns": false, "outgoing": {"filter": {"local": ["db"]}}}"#,
            0,
        ),
        (
            r#"{"dns": false, "outgoing": {"filter": {"remote": ["10.0.0.0/8"]}}}"#,
            0,
        ),
    ] {
        assert_eq!(warnings(json), count, "{json}");
    }
}

#[test]
fn incoming_in_every_form() {
    for (json, mode) in [
        (r#""mirror""#, IncomingMode::Mirror),
        (r#""steal""#, IncomingMode::Steal),
        (r#""off""#, IncomingMode::Off),
        ("true", IncomingMode::Mirror),
        ("false", IncomingMode::Off),
        ("null", IncomingMode::Mirror),
        ("{}", IncomingMode::Mirror),
        (r#"{"mode": "steal", "ports": [80]}"#, IncomingMode::Steal),
        (r#"{"mode": null}"#, IncomingMode::Mirror),
    ] {
        let read = network(&format!("{{\"incoming\": {json}}}"));
        assert_eq!(read.incoming.mode, mode, "{json}");
    }
    for json in [r#""Steal""#, r#""none""#, "1", "[]"] {
        errors(&format!("{{\"incoming\": {json}}}"));
    }
}

#[test]
fn incoming_with_particulars() {
    let read = network(
        r#"{"incoming": {"port_mapping": [[9333, 80]], "listen_ports": [[80, 4480], [81, 4481]], "ignore_ports": [1],
            "on_concurrent_steal": "override", "tls_delivery": {"protocol": "tcp"},
            "http_filter": {"all_of": [{"header": "a"}, {"body": "json", "query": "$.a", "matches": "b"}], "ports": 80}}}"#,
    );
    assert_eq!(read.incoming.port_mapping, [(9333, 80)]);
    assert_eq!(read.incoming.listen_ports, [(80, 4480), (81, 4481)]);
    assert_eq!(read.incoming.on_concurrent_steal, ConcurrentSteal::Override);
    assert!(read.incoming.http_filter.is_set());
    assert_eq!(
        read.incoming.http_filter.ports.map(|ports| ports.0),
        Some(vec![80])
    );
    let delivery = read.incoming.tls_delivery.expect("tls_delivery");
    assert_eq!(delivery.protocol, DeliveryProtocol::Tcp);
    for filter in [
        r#""header_filter": "a""#,
        r#""path_filter": "a""#,
        r#""method_filter": "GET""#,
        r#""body_filter": {"body": "json", "query": "$.a", "matches": "b"}"#,
        r#""header_filter_jq": ".a""#,
        r#""all_of": [{"path": "a"}]"#,
        r#""any_of": [{"path": "a"}]"#,
    ] {
        let read = network(&format!(
            "{{\"incoming\": {{\"http_filter\": {{{filter}}}}}}}"
        ));
        assert!(read.incoming.http_filter.is_set(), "{filter}");
    }
    for json in ["true", "false", "{}"] {
        let read = network(&format!("{{\"incoming\": {{\"http_filter\": {json}}}}}"));
        assert!(!read.incoming.http_filter.is_set(), "{json}");
    }
}

#[test]
fn what_excludes_each_other_is_refused() {
    for (incoming, expected) in [
        (
            r#"{"port_mapping": [[1, 80], [2, 80]]}"#,
            "port_mapping[1]: the port 80 is in another pair already",
        ),
        (
            r#"{"listen_ports": [[80, 1], [80, 2]]}"#,
            "listen_ports[1]: the port 80 is in another pair already",
        ),
        (
            r#"{"ports": [1], "ignore_ports": [2]}"#,
            "exclude each other",
        ),
        (
            r#"{"https_delivery": {"protocol": "tls"}, "tls_delivery": {"protocol": "tls"}}"#,
            "both are given",
        ),
        (r#"{"port_mapping": [[1]]}"#, "expected a list of two"),
        (
            r#"{"ports": [70000]}"#,
            "expected a whole number from 0 to 65535, found 70000",
        ),
        (
            r#"{"http_filter": {"header_filter": "a", "path_filter": "b"}}"#,
            "is of one kind",
        ),
        (
            r#"{"http_filter": {"header_filter": "a", "method_filter": "GET"}}"#,
            "is of one kind",
        ),
        (
            r#"{"http_filter": {"header_filter_jq": "a", "any_of": [{"path": "b"}]}}"#,
            "is of one kind",
        ),
        (r#"{"http_filter": {"path_filter": ""}}"#, "an empty filter"),
        (
            r#"{"http_filter": {"all_of": []}}"#,
            "the list of filters is empty",
        ),
        (
            r#"{"http_filter": {"any_of": [{"header": "a", "path": "b"}]}}"#,
            "no one filter",
        ),
        (r#"{"http_filter": {"any_of": [{}]}}"#, "no one filter"),
        (
            r#"{"http_filter": {"any_of": [{"foo": "a"}]}}"#,
            "has no key \"foo\"",
        ),
        (
            r#"{"http_filter": {"body_filter": {"body": "xml", "query": "a", "matches": "b"}}}"#,
            "\"xml\" is none of",
        ),
    ] {
        let errors = errors(&format!("{{\"incoming\": {incoming}}}"));
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{incoming}: {errors:?}"
        );
    }
}

#[test]
fn outgoing_and_dns_in_every_form() {
    let read =
        network(r#"{"outgoing": {"udp": false, "filter": {"remote": "db:5432"}}, "dns": false}"#);
    assert!(read.outgoing.tcp && !read.outgoing.udp && !read.dns.enabled);
    let filter = read.outgoing.filter.expect("a filter");
    assert_eq!((filter.side, filter.entries.len()), (Side::Remote, 1));
    let read = network(r#"{"outgoing": false, "dns": {"filter": {"local": ["a", "b:1"]}}}"#);
    assert!(!read.outgoing.tcp && !read.outgoing.udp && read.dns.enabled);
    assert_eq!(read.dns.filter.map(|filter| filter.entries.len()), Some(2));
    for json in [
        r#"{"outgoing": {"filter": {}}}"#,
        r#"{"outgoing": {"filter": {"remote": "a", "local": "b"}}}"#,
        r#"{"outgoing": {"filter": {"local": ["a b"]}}}"#,
        r#"{"outgoing": "remote"}"#,
        r#"{"dns": {"filter": {"local": ["tcp://a"]}}}"#,
        r#"{"dns": {"filter": {"local": [""]}}}"#,
        r#"{"dns": 1}"#,
        r#"{"mode": "steal"}"#,
    ] {
        errors(json);
    }
}

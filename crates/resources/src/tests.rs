//! The definitions are what the API server takes, and refuse what their types refuse.

use model::CopyMode;
use serde_json::{Value, json};

use super::*;

/// The schema of one kind, as the API server uses it for everything but CEL.
fn schema(kind: &str) -> Value {
    let definitions = definitions();
    let found = definitions
        .iter()
        .find(|definition| definition.spec.names.kind == kind)
        .expect("the kind is defined");
    let schema = found.spec.versions[0].schema.as_ref();
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
    serde_json::to_value(schema.expect("it has a schema")).expect("a schema is JSON")
}

fn fits(kind: &str, spec: &Value) -> bool {
    let validator = jsonschema::draft202012::new(&schema(kind)).expect("it is a schema");
    validator.is_valid(&json!({"spec": spec}))
}

#[test]
fn every_definition_is_of_our_group_and_keeps_its_status_apart() {
    let definitions = definitions();
    let names: Vec<_> = definitions
        .iter()
        .map(|definition| definition.metadata.name.as_deref().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "branches.bough.dev",
            "sessions.bough.dev",
            "sources.bough.dev"
        ]
    );
    for definition in &definitions {
        assert_eq!(definition.spec.group, GROUP);
        assert_eq!(definition.spec.scope, "Namespaced");
        let version = &definition.spec.versions[0];
        assert_eq!(version.name, VERSION);
        let subresources = version.subresources.as_ref().expect("subresources");
        assert!(subresources.status.is_some());
    }
}

#[test]
fn the_schema_refuses_nonsense() {
    let good = json!({"id": "my debug/session", "source": "db:5432/inventory", "version": 16});
    assert!(fits("Branch", &good));
    for (pointer, wrong) in [
        ("id", json!("")),
        ("id", json!("x".repeat(254))),
        ("ttlSeconds", json!(-1)),
        ("version", json!(9)),
        ("copy", json!({"mode": "everything"})),
        ("target", json!({"kind": "deployment", "name": "inventory"})),
        ("source", json!("")),
    ] {
        let mut bad = good.clone();
        bad[pointer] = wrong;
        assert!(!fits("Branch", &bad), "{bad}");
    }
    let session =
        json!({"target": {"kind": "Deployment", "name": "a"}, "asks": [{"key": "0f".repeat(32)}]});
    assert!(fits("Session", &session));
    for (pointer, wrong) in [
        ("target", json!({"kind": "Label", "name": "a"})),
        ("asks", json!([{"key": "0f"}])),
        ("asks", json!([{"key": "0F".repeat(32)}])),
        (
            "asks",
            json!([{"key": "0f".repeat(32), "pod": {"name": "p"}}]),
        ),
        ("network", json!({"incoming": "all"})),
    ] {
        let mut bad = session.clone();
        bad[pointer] = wrong;
        assert!(!fits("Session", &bad), "{bad}");
    }
    let source = json!({
        "connection": {"name": "s", "key": "url"}, "version": 16, "addresses": [{"host": "db", "port": 5432}],
    });
    assert!(fits("Source", &source));
    for (pointer, wrong) in [
        ("image", json!("postgres:16")),
        ("addresses", json!([])),
        ("version", json!(9)),
        ("follow", json!("always")),
        ("access", json!("closed")),
    ] {
        let mut bad = source.clone();
        bad[pointer] = wrong;
        assert!(!fits("Source", &bad), "{bad}");
    }
}

/// The rules in CEL below `value`, at their places.
fn rules(value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(members) = value.as_object() {
        for rule in value["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            found.push(format!(
                "{place}: {}",
                rule["rule"].as_str().expect("a rule")
            ));
        }
        for (name, member) in members {
            rules(member, &format!("{place}/{name}"), found);
        }
    }
}

#[test]
fn what_several_fields_decide_is_a_rule() {
    let mut found = Vec::new();
    rules(&schema("Branch"), "", &mut found);
    let has = |place: &str, word: &str| {
        let at = format!("/properties/spec{place}: ");
        found
            .iter()
            .any(|rule| rule.starts_with(&at) && rule.contains(word))
    };
    for field in ["id", "source", "version", "copy", "target", "requester"] {
        assert!(has("", &format!("oldSelf.{field}")), "{field}: {found:#?}");
    }
    assert!(!has("", "oldSelf.ttlSeconds"), "{found:#?}");
    assert!(has("/properties/copy", "self.tables"), "{found:#?}");
    let mut found = Vec::new();
    rules(&schema("Session"), "", &mut found);
    for field in ["target", "network", "requester"] {
        let place = "/properties/spec: ";
        let is_its =
            |rule: &&String| rule.starts_with(place) && rule.contains(&format!("oldSelf.{field}"));
        assert!(found.iter().any(|it| is_its(&it)), "{field}: {found:#?}");
    }
    assert!(
        !found.iter().any(|it| it.contains("oldSelf.asks")),
        "{found:#?}"
    );
    let mut found = Vec::new();
    rules(&schema("Source"), "", &mut found);
    let version = "/properties/spec: self.version == oldSelf.version";
    assert!(found.iter().any(|it| it == version), "{found:#?}");
    let hosts = format!("/properties/spec: self.hosts >= 1 && self.hosts <= {SOURCE_HOSTS_MAX}");
    assert!(found.contains(&hosts), "{found:#?}");
}

#[test]
fn a_source_without_a_number_of_hosts_has_one_and_no_status_names_more_than_it_may_have() {
    let spec = &schema("Source")["properties"]["spec"];
    assert_eq!(spec["properties"]["hosts"]["default"], 1);
    let told = &schema("Source")["properties"]["status"]["properties"]["hosts"];
    assert_eq!(told["maxItems"], SOURCE_HOSTS_MAX);
    let ordinal = &schema("Branch")["properties"]["status"]["properties"]["homeOrdinal"];
    assert_eq!(ordinal["maximum"], f64::from(SOURCE_HOSTS_MAX - 1));
}

#[test]
fn the_rule_about_a_source_s_name_is_the_one_that_is_documented() {
    let rules = schema("Source")["x-kubernetes-validations"].clone();
    let rule = rules[0]["rule"].as_str().expect("a rule");
    let limit = format!("self.metadata.name.size() <= {SOURCE_NAME_CHARS_MAX} ");
    assert!(rule.starts_with(&limit), "{rule}");
    let message = rules[0]["message"].as_str().expect("a message");
    let limit = format!("at most {SOURCE_NAME_CHARS_MAX} characters");
    assert!(message.contains(&limit), "{message}");
}

#[test]
fn a_branch_comes_back_from_json_as_it_was() {
    let text = json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Branch",
        "metadata": {"name": "pg-0123456789abcdef", "namespace": "metalmart"},
        "spec": {
            "id": "my-debug-session",
            "source": "db:5432/inventory",
            "version": 16,
            "copy": {"mode": "schema", "tables": {"items": {"filter": "id < 3"}}},
            "ttlSeconds": 300,
        },
    });
    let branch: Branch = serde_json::from_value(text.clone()).expect("it is a branch");
    assert_eq!(branch.spec.copy.mode, CopyMode::Schema);
    assert_eq!(serde_json::to_value(&branch).expect("JSON"), text);
}

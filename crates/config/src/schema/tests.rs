//! The schema takes whatever the reader takes, and says what every key is.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use jsonschema::Validator;
use serde_json::Value;

use super::*;
use crate::environment::Environment;
use crate::format::Format;
use crate::reader::{Surroundings, read_text};
use crate::template::{self, Variables};

fn as_value(json: &Json) -> Value {
    serde_json::to_value(json.reveal()).expect("JSON can be written")
}

/// Made once: it is what most of these tests' time goes into.
fn validator() -> &'static Validator {
    static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
        jsonschema::draft202012::new(&as_value(&schema())).expect("the schema is one")
    });
    &VALIDATOR
}

fn complaints(validator: &Validator, value: &Value) -> Vec<String> {
    validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// A vector's text as the value that editors would check, after its templates.
fn written(file: &str, input: &str) -> Option<Value> {
    let environment = Arc::new(Environment::new());
    let variables = Variables {
        key: "random",
        git_branch: Some("b"),
        environment: &environment,
    };
    let text = template::render(input, &variables).ok()?;
    let tree = Format::of(Path::new(file)).ok()?.parse(&text).ok()?;
    Some(as_value(&tree.to_json()))
}

#[test]
fn whatever_the_reader_takes_of_the_vectors_fits_the_schema() {
    let validator = validator();
    let surroundings = Surroundings {
        git_branch: Some("b".to_owned()),
        ..Surroundings::new("/nowhere", "random")
    };
    let (mut fitting, mut refused_by_both) = (0, 0);
    for line in include_str!("../../tests/vectors.jsonl").lines() {
        let vector: Value = serde_json::from_str(line).expect("a record is JSON");
        let text = |key: &str| vector[key].as_str().expect(key).to_owned();
        let (file, input) = (text("file"), text("input"));
        let Some(value) = written(&file, &input) else {
            continue;
        };
        let found = complaints(validator, &value);
        match read_text(Path::new(&file), &input, &surroundings) {
            // The truth values of YAML 1.1 are texts to a schema, which knows none but those of JSON.
            Ok(_) if file == "yaml-bool-yes.yaml" => assert!(!found.is_empty()),
            Ok(config) => {
                assert!(found.is_empty(), "{file}: {found:?}");
                let resolved = complaints(validator, &as_value(&config.resolved));
                assert!(resolved.is_empty(), "{file}, resolved: {resolved:?}");
                fitting += 1;
            }
            Err(_) if !found.is_empty() => refused_by_both += 1,
            Err(_) => {}
        }
    }
    assert!(fitting >= 80, "{fitting}");
    // What hangs together over several keys no schema says: that stays the reader's.
    assert!(refused_by_both >= 25, "{refused_by_both}");
}

/// Where the schema is published, from this crate's folder.
const PUBLISHED: &str = "../../docs/reference/config.schema.json";

#[test]
fn the_published_schema_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PUBLISHED);
    let generated = serde_json::to_string_pretty(&schema()).expect("JSON can be written") + "\n";
    if std::env::var_os("BOUGH_PUBLISH").is_some() {
        std::fs::write(&path, &generated).expect("the schema can be written");
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == generated,
        "{} is not what the code says: run `BOUGH_PUBLISH=1 cargo test -p config published` and commit it",
        path.display()
    );
}

#[test]
fn typical_mistakes_are_seen_in_the_editor() {
    let validator = validator();
    for text in [
        r#"{"feature": {"netwrok": {}}}"#,
        r#"{"feature": {"fs": "disabled"}}"#,
        r#"{"feature": {"network": {"incoming": "Steal"}}}"#,
        r#"{"feature": {"db_branches": [{"type": "postgres", "connection": {"url": "U"}}]}}"#,
        r#"{"feature": {"db_branches": [{"type": "pg"}]}}"#,
        r#"{"feature": {"db_branches": [{"type": "pg", "connection": "DATABASE_URL"}]}}"#,
        r#"{"feature": {"db_branches": [{"type": "pg", "connection": {"url": "U"}, "copy": {"mode": "full"}}]}}"#,
        r#"{"feature": {"db_branches": [{"type": "mysql", "connection": {"url": "U"}, "location": "local"}]}}"#,
        r#"{"feature": {"env": {"override": {"A": 1}}}}"#,
        r#"{"target": {"path": {"statefulset": "a"}}}"#,
        r#"{"agent": {"ttl": 70000}}"#,
        r#"{"operator": "yes"}"#,
        r#"{"key": ""}"#,
    ] {
        let value: Value = serde_json::from_str(text).expect("JSON");
        assert!(!complaints(validator, &value).is_empty(), "{text}");
    }
}

/// Every object that the schema describes, with its place.
fn objects<'v>(value: &'v Value, place: &str, found: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Object(members) => {
            if members.contains_key("properties") {
                found.push((place.to_owned(), value));
            }
            for (key, value) in members {
                objects(value, &format!("{place}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for item in items {
                objects(item, place, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_key_has_words_and_examples_that_fit() {
    let schema = as_value(&schema());
    let mut found = Vec::new();
    objects(&schema, "", &mut found);
    let mut examples = 0;
    for (place, object) in found {
        for (key, property) in object["properties"].as_object().expect("an object") {
            let place = format!("{place}/{key}");
            let text = property["description"].as_str().unwrap_or_default();
            assert!(text.ends_with('.'), "{place}: {text:?}");
            let mut own = property.clone();
            own["$defs"] = schema["$defs"].clone();
            let validator = jsonschema::draft202012::new(&own).expect("a key has a schema");
            let given = property["examples"].as_array().cloned().unwrap_or_default();
            for value in given.iter().chain(property.get("default")) {
                let found = complaints(&validator, value);
                assert!(found.is_empty(), "{place}: {value}: {found:?}");
                examples += 1;
            }
        }
    }
    assert!(examples > 200, "{examples}");
}

/// Every record within a shape.
fn records<'s>(shape: &'s Shape, found: &mut Vec<&'s RecordShape>) {
    match shape {
        Shape::Any | Shape::Bool | Shape::Whole(_) | Shape::Text(_) | Shape::Words(_) => {}
        Shape::List(inner) | Shape::Pair(inner) | Shape::Map(inner) => records(inner, found),
        Shape::OneOf(shapes) => shapes.iter().for_each(|one| records(one, found)),
        Shape::Record(record) => {
            found.push(record);
            record
                .fields
                .iter()
                .for_each(|field| records(&field.shape, found));
        }
    }
}

#[test]
fn a_name_stands_for_one_object() {
    let root = root::shape();
    let mut found = Vec::new();
    records(&root, &mut found);
    assert!(found.len() > 50);
    let mut named: BTreeMap<&str, &RecordShape> = BTreeMap::new();
    for record in found {
        let first = *named.entry(&record.name).or_insert(record);
        assert_eq!(first, record, "{}", record.name);
    }
}

mod any_tree {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::tree_of_words;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn what_the_reader_takes_fits_the_schema(value in tree_of_words()) {
            let surroundings = Surroundings::new("/nowhere", "k3y");
            if read_text(Path::new("f.json"), &value.to_string(), &surroundings).is_ok() {
                let found = complaints(validator(), &value);
                prop_assert!(found.is_empty(), "{value}: {found:?}");
            }
        }
    }
}

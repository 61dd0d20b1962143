//! The page is published, its examples are read, and every key is in it.

use std::path::Path;

use super::*;
use crate::reader::{Surroundings, read_text};
use crate::support::{Standing, TABLE};

/// Where the page is published, from this crate's folder.
const PUBLISHED: &str = "../../docs/configuration.md";

#[test]
fn the_published_page_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PUBLISHED);
    let generated = configuration_page();
    if std::env::var_os("BOUGH_PUBLISH").is_some() {
        std::fs::write(&path, &generated).expect("the page can be written");
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == generated,
        "{} is not what the code says: run `BOUGH_PUBLISH=1 cargo test -p config published` and commit it",
        path.display()
    );
}

#[test]
fn every_key_says_what_it_is_by_whole_sentences() {
    let keys = keys();
    assert!(keys.len() > 250, "{}", keys.len());
    for key in &keys {
        assert!(key.text.ends_with('.'), "{}: {:?}", key.path, key.text);
        assert!(!key.kind.is_empty(), "{}", key.path);
    }
}

#[test]
fn every_entry_of_the_table_is_a_key() {
    let keys = keys();
    for support in TABLE {
        assert!(
            keys.iter().any(|key| key.path == support.path),
            "{}",
            support.path
        );
    }
}

#[test]
fn every_refused_key_has_its_line_in_the_roadmap() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/roadmap.md");
    let roadmap = std::fs::read_to_string(path).expect("the roadmap is there");
    let is_named = |word: &str| roadmap.contains(&format!("`{word}`"));
    for support in TABLE {
        if support.standing != Standing::Refused {
            continue;
        }
        let path = support.path;
        let above = path.match_indices('.').map(|(end, _)| &path[..end]);
        let last = path.rsplit('.').next();
        // The parts of a secret's name are told by what they name.
        let secret = path.contains(".connection.").then_some("secret");
        assert!(
            above.chain([path]).chain(last).chain(secret).any(is_named),
            "{path}"
        );
    }
}

/// An object with `key`, and with everything that must stand beside it.
fn object(record: &RecordShape, key: &str, value: Json) -> Json {
    let beside = record
        .fields
        .iter()
        .filter(|field| field.is_required && field.key != key)
        .map(|field| (field.key, example(field)));
    Json::object(
        beside.chain([(
            record
                .fields
                .iter()
                .find(|field| field.key == key)
                .expect("a key of the record")
                .key,
            value,
        )]),
    )
}

fn example(field: &Field) -> Json {
    let text = field
        .doc
        .examples
        .first()
        .cloned()
        .or_else(|| example_of(&field.shape, field.default.as_ref()))
        .unwrap_or_else(|| panic!("{} has no example", field.key));
    let tree = crate::format::Format::Json
        .parse(&text)
        .unwrap_or_else(|error| panic!("{text}: {}", error.text));
    tree.to_json()
}

/// Every example within the smallest file that has it.
fn files(shape: &Shape, path: &str, wrap: &dyn Fn(Json) -> Json, found: &mut Vec<(String, Json)>) {
    match shape {
        Shape::Any
        | Shape::Bool
        | Shape::Whole(_)
        | Shape::Text(_)
        | Shape::Words(_)
        | Shape::Pair(_) => {}
        Shape::List(inner) => files(inner, path, &|value| wrap(Json::list([value])), found),
        Shape::Map(inner) => {
            files(
                inner,
                path,
                &|value| wrap(Json::object([("x", value)])),
                found,
            );
        }
        Shape::OneOf(shapes) => shapes.iter().for_each(|one| files(one, path, wrap, found)),
        Shape::Record(record) => {
            for field in &record.fields {
                let path = format!("{path}/{}", field.key);
                found.push((
                    path.clone(),
                    wrap(object(record, field.key, example(field))),
                ));
                let wrap = |value| wrap(object(record, field.key, value));
                files(&field.shape, &path, &wrap, found);
            }
        }
    }
}

/// Keys that mean nothing without another one, which their own error names.
const NOT_ALONE: [(&str, &str); 11] = [
    ("/payload", "the key \"type\" is missing beside \"payload\""),
    (
        "/params",
        "a generic branch reads no \"gcp_secret_manager\"",
    ),
    ("/container", "the target has no kind"),
    (
        "/tables",
        "\"tables\" and the mode \"all\" exclude each other",
    ),
    (
        "/migrations",
        "Flyway's files are at a \"path\", or in an \"image\"",
    ),
    ("_mounts", "a file has one of \"payload\" and \"from_file\""),
    ("/migrations", "migrations need the database's \"name\""),
    ("/body", "this is no one filter"),
    ("/matches", "this is no one filter"),
    ("/value", "the key \"env_var_name\" is missing"),
    ("/value_pattern", "the key \"env_var_name\" is missing"),
];

#[test]
fn every_example_is_read() {
    let mut found = Vec::new();
    files(&root::shape(), "", &|value| value, &mut found);
    assert!(found.len() > 400, "{}", found.len());
    let mut refused = Vec::new();
    for (path, file) in found {
        let Json::Object(mut members) = file else {
            panic!("{path}: not an object")
        };
        if !members.iter().any(|(key, _)| key == "target") {
            members.push(("target".to_owned(), "pod/a".into()));
        }
        let text = serde_json::to_string(&Json::Object(members)).expect("JSON can be written");
        let surroundings = Surroundings {
            git_branch: Some("main".to_owned()),
            ..Surroundings::new("/nowhere", "k3y")
        };
        if let Err(rejected) = read_text(Path::new("f.json"), &text, &surroundings) {
            let said = rejected.to_string();
            let excused = NOT_ALONE
                .iter()
                .any(|(key, why)| path.contains(key) && said.contains(why));
            if !excused {
                refused.push(format!("{path}: {text}\n  {said}"));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

//! The published document is the one that the code generates.

use std::path::Path;

/// Where the document is published, from this crate's folder.
const PUBLISHED: &str = "../../docs/reference/engine-api-v1.json";

#[test]
fn the_published_document_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PUBLISHED);
    let generated = super::openapi() + "\n";
    if std::env::var_os("BOUGH_PUBLISH").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == generated,
        "{} is not what the code says: run `BOUGH_PUBLISH=1 cargo test -p engine published` and commit it",
        path.display()
    );
}

#[test]
fn every_path_has_the_version_and_says_what_it_does() {
    let document: serde_json::Value = serde_json::from_str(&super::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 10);
    for (path, methods) in paths {
        assert!(path.starts_with("/v1/"), "{path}");
        for (method, operation) in methods.as_object().unwrap() {
            let says = operation["summary"]
                .as_str()
                .or(operation["description"].as_str());
            assert!(says.is_some_and(|text| !text.is_empty()), "{method} {path}");
        }
    }
}

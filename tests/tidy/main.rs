//! Rules about the repository itself: who may depend on whom, what every file looks like, that papers tell the truth.
//!
//! Each rule is a function from what is there to complaints, with tests of its own that make it complain; here the
//! rules meet the repository. What cargo, clippy and rustfmt can check is left to them.

mod dependencies;
mod documents;
mod layers;
mod repository;
mod sizes;
mod sources;

use repository::Repository;

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn here() -> Repository {
    Repository::load().expect("the repository can be read")
}

#[test]
fn dependencies_go_in_the_drawn_direction() {
    let repository = here();
    let ours = |edge: &layers::Edge| edge.from == "xtask" && edge.to == "fixtures";
    assert!(
        repository.edges.iter().any(ours),
        "the workspace's dependencies were read"
    );
    assert_none(&layers::complaints(&repository.names(), &repository.edges));
}

#[test]
fn every_dependency_has_a_reason_and_a_use() {
    const TABLE: &str = "docs/decisions/2026-11-29-what-others-wrote.md";
    let repository = here();
    let declared = repository.outside();
    assert!(declared.iter().any(|one| one.name == "serde"));
    let table = repository.document(TABLE);
    assert_none(&dependencies::unexplained(&declared, table));
    assert_none(&dependencies::unused(&declared, &repository.sources));
    let lock = std::fs::read_to_string(repository.root.join("Cargo.lock"));
    assert_none(&dependencies::too_many(
        &lock.expect("the lock can be read"),
    ));
}

#[test]
fn every_source_file_opens_with_its_purpose() {
    assert_none(&sources::without_purpose(&here().sources));
}

#[test]
fn no_source_file_is_too_long() {
    assert_none(&sources::too_long(&here().sources));
}

#[test]
fn most_files_and_functions_are_short() {
    assert_none(&sizes::too_long_as_a_rule(&here().sources));
}

#[test]
fn no_module_is_named_mod() {
    assert_none(&sources::named_mod(&here().sources));
}

#[test]
fn every_source_file_is_compiled() {
    let repository = here();
    assert_none(&sources::forgotten(&repository.sources, &repository.roots));
}

#[test]
fn the_architecture_is_short_and_names_every_crate() {
    let repository = here();
    let text = repository.document("ARCHITECTURE.md");
    assert_none(&documents::architecture(text, &repository.directories()));
    let exists = |path: &str| repository.root.join(path).exists();
    assert_none(&documents::lost_files(text.unwrap_or_default(), exists));
    let drawn = documents::lost_functions(text.unwrap_or_default(), &repository.sources);
    assert_none(&drawn);
}

#[test]
fn contributing_is_short() {
    assert_none(&documents::contributing(here().document("CONTRIBUTING.md")));
}

#[test]
fn every_link_in_a_document_resolves() {
    let repository = here();
    let exists = |path: &str| repository.root.join(path).exists();
    assert_none(&documents::broken_links(&repository.documents, exists));
}

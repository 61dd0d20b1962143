//! Names given, branches meant.

use super::*;
use crate::samples;

fn branches() -> Vec<BranchView> {
    vec![
        samples::branch("metalmart", "my-debug-session"),
        samples::branch("metalmart", "other"),
        samples::branch("default", "other"),
    ]
}

fn scope(namespace: &str) -> Scope {
    Scope::Namespace(Namespace::new(namespace).unwrap())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn ids_and_resource_names_mean_the_same_branch_once() {
    let branches = branches();
    let name = branches[0].name.to_string();
    let given = names(&["other", "my-debug-session", &name]);
    let selected = select(&given, &scope("metalmart"), &branches).unwrap();
    let ids: Vec<_> = selected.iter().map(|branch| branch.id.as_str()).collect();
    assert_eq!(ids, ["other", "my-debug-session"]);
}

#[test]
fn unknown_names_are_told_together_with_what_exists() {
    let branches = branches();
    let given = names(&["my-debug-sesion", "other", "zzz"]);
    let error = select(&given, &scope("metalmart"), &branches).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"no branch "my-debug-sesion", "zzz" in namespace metalmart: there are my-debug-session, other"#
    );
    let error = CommandError::from(error);
    assert_eq!(error.exit(), ExitCode::Internal);
    assert_eq!(error.hints(), ["did you mean my-debug-session?"]);
}

#[test]
fn a_branch_of_another_namespace_is_pointed_at() {
    let branches = branches();
    let error = select_one("my-debug-session", &scope("default"), &branches).unwrap_err();
    let hint = "namespace metalmart has a branch my-debug-session: add -n metalmart";
    assert_eq!(CommandError::from(error).hints(), [hint]);
}

#[test]
fn an_id_of_two_namespaces_is_ambiguous_and_a_name_is_not() {
    let branches = branches();
    let error = select_one("other", &Scope::All, &branches).unwrap_err();
    assert!(matches!(error, SelectError::Ambiguous { .. }), "{error}");
    let name = branches[2].name.to_string();
    let one = select_one(&name, &Scope::All, &branches).unwrap();
    assert_eq!(one.namespace.as_str(), "default");
}

#[test]
fn nothing_there_is_said_as_such() {
    let error = select_one("x", &scope("default"), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"no branch "x" in namespace default: there is none"#
    );
}

//! What others wrote: each package has a reason in the table of docs/decisions, is used where it is declared, and all
//! that comes with them stays below a ceiling.

use crate::repository::Texts;

/// Packages in Cargo.lock, ours among them. Raise it with a row in the table that says what for.
const LOCKED_MAX: usize = 440;

/// One package of ours declares one of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outside {
    /// The directory of ours, relative.
    pub(crate) directory: String,
    /// The other's name.
    pub(crate) name: String,
}

/// Dependencies without a row in the table: its first column has the name as code.
pub(crate) fn unexplained(declared: &[Outside], table: Option<&str>) -> Vec<String> {
    let Some(table) = table else {
        return vec!["the table of dependencies is missing".to_owned()];
    };
    let mut names: Vec<&str> = declared.iter().map(|one| &*one.name).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !table.contains(&format!("\n| `{name}` |")));
    names
        .iter()
        .map(|name| format!("{name}: no row in the table of dependencies says why it is needed"))
        .collect()
}

/// Dependencies that no source of the package that declares them names.
pub(crate) fn unused(declared: &[Outside], sources: &Texts) -> Vec<String> {
    let is_used = |one: &Outside| {
        let (prefix, name) = (format!("{}/", one.directory), one.name.replace('-', "_"));
        sources
            .iter()
            .any(|(path, text)| path.starts_with(&prefix) && names(text, &name))
    };
    let unused = declared.iter().filter(|one| !is_used(one));
    unused
        .map(|one| {
            format!(
                "{}: declares {} and does not use it",
                one.directory, one.name
            )
        })
        .collect()
}

/// Whether a word of `text` is `name`.
fn names(text: &str, name: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.split(|letter| !is_part(letter))
        .any(|word| word == name)
}

/// More locked packages than agreed upon.
pub(crate) fn too_many(lock: &str) -> Vec<String> {
    let locked = lock
        .lines()
        .filter(|line| line.trim() == "[[package]]")
        .count();
    if locked == 0 {
        return vec!["Cargo.lock names no package".to_owned()];
    }
    if locked > LOCKED_MAX {
        return vec![format!(
            "Cargo.lock has {locked} packages, and {LOCKED_MAX} were agreed upon (tests/tidy/dependencies.rs)"
        )];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Outside {
        Outside {
            directory: "crates/a".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_dependency_without_a_reason_is_a_complaint() {
        let table = "\n| `serde` | words as documents |\n";
        assert!(unexplained(&[one("serde")], Some(table)).is_empty());
        assert_eq!(unexplained(&[one("serd")], Some(table)).len(), 1);
        assert_eq!(unexplained(&[], None).len(), 1);
    }

    #[test]
    fn a_dependency_that_nothing_names_is_a_complaint() {
        let source =
            |text: &str| Texts::from([("crates/a/src/lib.rs".to_owned(), text.to_owned())]);
        let declared = [one("http-body-util")];
        assert!(unused(&declared, &source("use http_body_util::Full;")).is_empty());
        assert_eq!(
            unused(&declared, &source("use http_body_utility::Full;")).len(),
            1
        );
        let elsewhere = Texts::from([("crates/ab/x.rs".to_owned(), "http_body_util".to_owned())]);
        assert_eq!(unused(&declared, &elsewhere).len(), 1);
    }

    #[test]
    fn a_lock_that_grew_is_a_complaint() {
        assert!(too_many("[[package]]\nname = \"a\"\n").is_empty());
        assert_eq!(too_many("").len(), 1);
        assert_eq!(too_many(&"[[package]]\n".repeat(LOCKED_MAX + 1)).len(), 1);
    }
}

//! What every source file looks like, and that none is forgotten.

use std::collections::BTreeSet;

use crate::repository::Texts;

/// Wanted are about half; beyond this a file holds two things.
const LINES_MAX: usize = 800;

/// Files that do not open with `//!`: what they own and what they leave to others.
pub(crate) fn without_purpose(sources: &Texts) -> Vec<String> {
    let silent = sources.iter().filter(|(_, text)| !text.starts_with("//! "));
    silent
        .map(|(path, _)| format!("{path}: does not open with `//!` and what it is for"))
        .collect()
}

/// Files that are too long.
pub(crate) fn too_long(sources: &Texts) -> Vec<String> {
    let lengths = sources
        .iter()
        .map(|(path, text)| (path, text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(path, lines)| format!("{path}: has {lines} lines, more than {LINES_MAX}: split it"))
        .collect()
}

/// Files named `mod.rs`: a module `foo` is `foo.rs` with its children in `foo/`.
pub(crate) fn named_mod(sources: &Texts) -> Vec<String> {
    let named = sources
        .keys()
        .filter(|path| path.rsplit('/').next() == Some("mod.rs"));
    named
        .map(|path| format!("{path}: name it after its module, beside the directory"))
        .collect()
}

/// Files that no other declares and that are no root of anything that cargo compiles: their tests never run.
pub(crate) fn forgotten(sources: &Texts, roots: &[String]) -> Vec<String> {
    let mut reached: BTreeSet<String> = roots.iter().cloned().collect();
    for (path, text) in sources {
        reached.extend(declared(path, text, roots.contains(path)));
    }
    let lost = sources.keys().filter(|path| !reached.contains(*path));
    lost.map(|path| format!("{path}: no file declares it by `mod`, so it is never compiled"))
        .collect()
}

/// The files that a file's `mod name;` lines declare: beside a root, else in the directory named after the file; or
/// where `#[path = "..."]` on the line before says.
fn declared(path: &str, text: &str, root: bool) -> Vec<String> {
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let children = if root {
        dir
    } else {
        path.trim_end_matches(".rs")
    };
    let mut found = Vec::new();
    let mut elsewhere = None;
    for line in text.lines().map(str::trim) {
        if let Some(target) = line
            .strip_prefix("#[path = \"")
            .and_then(|rest| rest.strip_suffix("\"]"))
        {
            elsewhere = Some(format!("{dir}/{target}"));
        } else if let Some(name) = module_name(line) {
            found.push(
                elsewhere
                    .take()
                    .unwrap_or_else(|| format!("{children}/{name}.rs")),
            );
        }
    }
    found
}

/// `name` of `mod name;`, `pub mod name;` and `pub(crate) mod name;`.
fn module_name(line: &str) -> Option<&str> {
    let declaration = line.strip_suffix(';')?;
    let (visibility, name) = declaration.rsplit_once("mod ")?;
    let private = visibility.is_empty();
    let public =
        visibility == "pub " || (visibility.starts_with("pub(") && visibility.ends_with(") "));
    (private || public).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<const N: usize>(files: [(&str, &str); N]) -> Texts {
        files
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .into()
    }

    #[test]
    fn a_file_must_say_what_it_is_for() {
        let sources = texts([
            ("a.rs", "//! Words.\n"),
            ("b.rs", "use x;\n//! Late.\n"),
            ("c.rs", ""),
            ("d.rs", "//!\n"),
        ]);
        let found = without_purpose(&sources);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("b.rs:"), "{found:?}");
    }

    #[test]
    fn the_longest_allowed_file_is_allowed_and_one_more_line_is_not() {
        let sources = texts([
            ("a.rs", &"x\n".repeat(LINES_MAX)),
            ("b.rs", &"x\n".repeat(LINES_MAX + 1)),
        ]);
        let found = too_long(&sources);
        assert!(
            found.len() == 1 && found[0].starts_with("b.rs:"),
            "{found:?}"
        );
    }

    #[test]
    fn modules_are_not_named_mod() {
        let found = named_mod(&texts([
            ("src/mod.rs", ""),
            ("src/model.rs", ""),
            ("src/a_mod.rs", ""),
        ]));
        assert!(
            found.len() == 1 && found[0].starts_with("src/mod.rs:"),
            "{found:?}"
        );
    }

    #[test]
    fn declared_files_are_reached_at_every_depth() {
        let sources = texts([
            ("c/src/lib.rs", "pub mod a;\n#[cfg(test)]\nmod t;\n"),
            ("c/src/a.rs", "    pub(crate) mod b;\n"),
            ("c/src/a/b.rs", ""),
            ("c/src/t.rs", ""),
            ("c/tests/it.rs", "#[path = \"it/story.rs\"]\nmod story;\n"),
            ("c/tests/it/story.rs", ""),
        ]);
        let roots = ["c/src/lib.rs".to_owned(), "c/tests/it.rs".to_owned()];
        assert_eq!(forgotten(&sources, &roots), [""; 0]);
    }

    #[test]
    fn undeclared_files_are_forgotten() {
        let sources = texts([
            ("c/src/lib.rs", "// mod a;\nmod b { }\n/// Not mod c;\n"),
            ("c/src/a.rs", ""),
            ("c/src/c.rs", "mod d;\n"),
            ("c/src/d.rs", ""),
            ("c/tests/real/main.rs", "mod one;\n"),
            ("c/tests/real/one.rs", ""),
            ("c/tests/real/two.rs", ""),
        ]);
        let roots = ["c/src/lib.rs".to_owned(), "c/tests/real/main.rs".to_owned()];
        let found = forgotten(&sources, &roots);
        let paths: Vec<&str> = found
            .iter()
            .filter_map(|text| Some(text.split_once(':')?.0))
            .collect();
        assert_eq!(
            paths,
            [
                "c/src/a.rs",
                "c/src/c.rs",
                "c/src/d.rs",
                "c/tests/real/two.rs"
            ]
        );
    }
}

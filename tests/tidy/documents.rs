//! That papers are short, complete, and do not point into nothing.

use crate::repository::Texts;

const ARCHITECTURE_LINES_MAX: usize = 250;
const CONTRIBUTING_LINES_MAX: usize = 120;

/// What is wrong with ARCHITECTURE.md, given the directories of all packages.
pub(crate) fn architecture(text: Option<&str>, directories: &[String]) -> Vec<String> {
    let mut found = length("ARCHITECTURE.md", text, ARCHITECTURE_LINES_MAX);
    let text = text.unwrap_or_default();
    let unnamed = directories
        .iter()
        .filter(|directory| !names(text, directory));
    found.extend(unnamed.map(|directory| format!("ARCHITECTURE.md: does not name {directory}")));
    found
}

/// Source files that ARCHITECTURE.md names and that are not there. `exists` is asked with paths relative to the root.
pub(crate) fn lost_files(text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    // The odd parts are code; paths begin at a crate's name, or at the root.
    let code = text.split('`').skip(1).step_by(2);
    let files = code.filter(|code| code.contains("/src/") && code.ends_with(".rs"));
    let lost = files.filter(|file| !exists(file) && !exists(&format!("crates/{file}")));
    lost.map(|file| format!("ARCHITECTURE.md: names {file}, which is not there"))
        .collect()
}

/// Functions that the drawings of ARCHITECTURE.md name, as `crate::file::function`, and that are not there; a name without
/// a function is a file's. Words that begin with no crate's name are others' business.
pub(crate) fn lost_functions(text: &str, sources: &Texts) -> Vec<String> {
    let drawings = text.split("```").skip(1).step_by(2);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = drawings.flat_map(|drawing| drawing.split(|c| !is_part(c)));
    let names = words.map(|word| word.trim_matches(':'));
    let lost = names.filter(|name| name.contains("::") && !is_there(name, sources));
    lost.map(|name| format!("ARCHITECTURE.md: draws {name}, which is not there"))
        .collect()
}

fn is_there(name: &str, sources: &Texts) -> bool {
    let file = |name: &str| {
        let (package, module) = name.split_once("::")?;
        let module = module.replace("::", "/");
        sources.get(&format!("crates/{package}/src/{module}.rs"))
    };
    let package = name.split("::").next().unwrap_or_default();
    let is_ours = sources
        .keys()
        .any(|path| path.starts_with(&format!("crates/{package}/src/")));
    if !is_ours || file(name).is_some() {
        return true;
    }
    name.rsplit_once("::").is_some_and(|(module, function)| {
        let declares = |text: &String| {
            let heads = ["(", "<"].map(|next| format!("fn {function}{next}"));
            heads.iter().any(|head| text.contains(head))
        };
        file(module).is_some_and(declares)
    })
}

/// What is wrong with CONTRIBUTING.md.
pub(crate) fn contributing(text: Option<&str>) -> Vec<String> {
    length("CONTRIBUTING.md", text, CONTRIBUTING_LINES_MAX)
}

fn length(name: &str, text: Option<&str>, lines_max: usize) -> Vec<String> {
    match text.map(|text| text.lines().count()) {
        None => vec![format!("{name}: is missing")],
        Some(lines) if lines > lines_max => {
            vec![format!("{name}: has {lines} lines, more than {lines_max}")]
        }
        Some(_) => Vec::new(),
    }
}

/// Whether a text names a package's directory: by its path, its last part in backticks, or as `part/` of a drawn tree.
fn names(text: &str, directory: &str) -> bool {
    let last = directory.rsplit('/').next().unwrap_or(directory);
    let in_tree = |line: &str| {
        line.split(|c: char| c.is_whitespace() || "│├└─`".contains(c))
            .any(|word| word == format!("{last}/"))
    };
    text.contains(&format!("`{last}`"))
        || (directory.contains('/') && text.contains(directory))
        || text.lines().any(in_tree)
}

/// Relative links to files that do not exist, or to headings that their file does not have. `exists` is asked with
/// paths relative to the root.
pub(crate) fn broken_links(documents: &Texts, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in documents {
        for link in links(text) {
            if let Some(reason) = broken(path, &link, documents, &exists) {
                found.push(format!("{path}: the link {link} {reason}"));
            }
        }
    }
    found
}

fn broken(
    path: &str,
    link: &str,
    documents: &Texts,
    exists: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    if ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| link.starts_with(scheme))
    {
        return None;
    }
    let (file, heading) = link
        .split_once('#')
        .map_or((link, None), |(file, heading)| (file, Some(heading)));
    let target = if file.is_empty() {
        Some(path.to_owned())
    } else {
        resolve(path, file)
    };
    let Some(target) = target else {
        return Some("leads out of the repository");
    };
    if !exists(&target) {
        return Some("leads to nothing");
    }
    let heading = heading?;
    let known = documents
        .get(&target)
        .is_some_and(|text| headings(text).iter().any(|each| each == heading));
    (!known).then_some("names a heading that is not there")
}

/// The path that a link in the document `from` means; `None` above the root.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    (!link.starts_with('/')).then(|| parts.join("/"))
}

/// The targets of all `[text](target)` and `[name]: target` outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let end = after.find(')').unwrap_or(after.len());
            // A title may follow the target.
            found.extend(after[..end].split_whitespace().next().map(str::to_owned));
            rest = &after[end..];
        }
        if let Some((_, target)) = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("]: "))
        {
            found.push(target.trim().to_owned());
        }
    }
    found
}

/// The lines of a document outside fenced blocks, without their code spans.
fn prose(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // The parts at even places are outside of backticks.
            lines.push(line.split('`').step_by(2).collect::<Vec<_>>().join(" "));
        }
    }
    lines
}

/// The anchors of a document's headings, as code hosts make them.
fn headings(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut anchors: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title
            .trim()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept
            .flat_map(char::to_lowercase)
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let repeated = anchors.iter().filter(|known| **known == anchor).count();
        anchors.push(if repeated == 0 {
            anchor
        } else {
            format!("{anchor}-{repeated}")
        });
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_must_exist_be_short_and_name_all() {
        let directories = [
            "crates/model".to_owned(),
            "crates/engine".to_owned(),
            "demo/metalmart".to_owned(),
            "tests".to_owned(),
        ];
        let good = "crates/\n├── model/  words\n`engine` and demo/metalmart, tests/\n";
        assert_eq!(architecture(Some(good), &directories), [""; 0]);
        assert_eq!(architecture(None, &[]), ["ARCHITECTURE.md: is missing"]);
        assert_eq!(architecture(Some(&"x\n".repeat(251)), &[]).len(), 1);
        let vague = "the engine has models, and there are tests in crates";
        assert_eq!(
            architecture(Some(vague), &directories).len(),
            4,
            "words in passing name no crate"
        );
    }

    #[test]
    fn files_that_the_architecture_names_must_be_there() {
        let exists = |path: &str| path == "crates/model/src/ttl.rs";
        let text = "`model/src/ttl.rs` and `crates/model/src/ttl.rs`, `model::ttl`";
        assert_eq!(lost_files(text, exists), [""; 0]);
        assert_eq!(lost_files("see `model/src/gone.rs`", exists).len(), 1);
    }

    #[test]
    fn functions_that_the_architecture_draws_must_be_there() {
        let sources: Texts = [
            ("crates/cli/src/main.rs", "fn run(args: &Args) {}"),
            ("crates/cli/src/session/proof.rs", "pub fn prove<T>() {}"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
        let drawn =
            |drawing: &str| lost_functions(&format!("a::b\n```text\n{drawing}\n```\n"), &sources);
        let good =
            "cli::main::run -> (cli::session::proof::prove): cli::session::proof; std::fs::read";
        assert_eq!(drawn(good), [""; 0]);
        for gone in [
            "cli::main::walk",
            "cli::session::prove",
            "cli::session::gone::prove",
        ] {
            assert_eq!(drawn(gone).len(), 1, "{gone}");
        }
        assert_eq!(lost_functions("`cli::main::walk`", &sources), [""; 0]);
    }

    #[test]
    fn contributing_must_exist_and_be_short() {
        assert_eq!(contributing(Some(&"x\n".repeat(120))), [""; 0]);
        assert_eq!(contributing(Some(&"x\n".repeat(121))).len(), 1);
        assert_eq!(contributing(None).len(), 1);
    }

    fn check(text: &str) -> Vec<String> {
        let documents: Texts = [
            ("docs/a.md", text),
            ("docs/b.md", "# One `thing`, two\n## Same\n## Same\n"),
            ("README.md", ""),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
        broken_links(&documents, |path| {
            documents.contains_key(path) || path == "LICENSE"
        })
    }

    #[test]
    fn links_that_resolve_are_fine() {
        let text = "[b](b.md) [r](../README.md \"title\") [l](../LICENSE)\n[x](https://example.com/nothing) [h](b.md#one-thing-two)\n\
            [s](b.md#same-1) [own](#here)\n# Here\n[b]: b.md\n`[code](nothing.md)`\n```\n[code](nothing.md)\n```\n";
        assert_eq!(check(text), [""; 0]);
    }

    #[test]
    fn links_into_nothing_are_complaints() {
        for text in [
            "[b](nothing.md)",
            "[ok](b.md) and [b](../b.md)",
            "[b](/docs/b.md)",
            "[b](../../b.md)",
            "[b](b.md#three)",
            "[b](b.md#same-2)",
            "[own](#nowhere)",
            "[b]: nothing.md",
        ] {
            assert_eq!(check(text).len(), 1, "{text}");
        }
    }
}

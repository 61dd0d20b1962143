//! Variables of the environment, and flags that stand for them, in place of what the file says.
//!
//! Owns putting their values into the file's tree, so that they are read and checked as if the file had them; `table`
//! says which variable sets which key. A value that is a shorthand (`"network": false`) becomes the object that it stands for first.
//! Precedence: flag, variable, file, default.

mod table;

use std::ffi::OsStr;

use crate::environment::Environment;
use crate::text::{SourceText, Sources, Span};
use crate::tree::{Member, Node, Tree, Value};
use table::{Reads, VARIABLES, Variable};

pub(crate) use table::{table, variables_of};

/// A flag of the command line that says what a variable would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// As it was given, such as `--no-remote-dns`.
    pub name: &'static str,
    /// The variable that it stands for.
    pub variable: &'static str,
    /// The value that the variable would have.
    pub value: String,
}

/// A value in place of the file's.
struct Given {
    /// The variable, or the flag that stands for it.
    name: String,
    text: String,
}

fn given(name: &str, environment: &Environment, flags: &[Flag]) -> Option<Given> {
    if let Some(flag) = flags.iter().rev().find(|flag| flag.variable == name) {
        return Some(Given {
            name: flag.name.to_owned(),
            text: flag.value.clone(),
        });
    }
    let value = environment.get(OsStr::new(name))?;
    // What is no text is no value of any key: the reader of that key says so.
    let text = value.to_string_lossy().into_owned();
    (!text.is_empty()).then(|| Given {
        name: name.to_owned(),
        text,
    })
}

/// Puts every value that is given into `tree`; their texts join `sources`.
pub(crate) fn apply(
    tree: &mut Tree,
    sources: &mut Sources,
    environment: &Environment,
    flags: &[Flag],
) {
    if !matches!(tree.value, Value::Object(_)) {
        return;
    }
    let file_mode = choose_file_mode(environment, flags);
    for variable in VARIABLES {
        if variable.reads == Reads::Elsewhere {
            continue;
        }
        if variable.reads == Reads::FileMode && file_mode != Some(variable.name) {
            continue;
        }
        let Some(given) = given(variable.name, environment, flags) else {
            continue;
        };
        let text = SourceText::new(given.name, given.text);
        let start = sources.add(text.clone());
        let value = value_of(variable, &text.text, start, environment, flags);
        let span = start..start + text.text.len();
        let keys: Vec<&str> = variable.path.split('.').collect();
        put(tree, "", &keys, variable, value, span);
    }
}

/// Which of the three variables for files counts.
fn choose_file_mode(environment: &Environment, flags: &[Flag]) -> Option<&'static str> {
    [
        "MIRRORD_FILE_MODE",
        "MIRRORD_FILE_OPS",
        "MIRRORD_FILE_RO_OPS",
    ]
    .into_iter()
    .find(|name| given(name, environment, flags).is_some())
}

fn value_of(
    variable: &Variable,
    text: &str,
    start: usize,
    environment: &Environment,
    flags: &[Flag],
) -> Tree {
    let span = start..start + text.len();
    let as_text = || Value::Text(text.to_owned());
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = match variable.reads {
        Reads::Truth => truth(text).map_or_else(as_text, Value::Bool),
        Reads::Whole | Reads::WholeOrWord if is_digits => Value::Number(text.to_owned()),
        Reads::Whole | Reads::WholeOrWord | Reads::Text | Reads::ImagePart | Reads::Elsewhere => {
            as_text()
        }
        Reads::List => Value::List(parts(text, start).into_iter().map(text_tree).collect()),
        Reads::Ports => {
            let numbers = parts(text, start)
                .into_iter()
                .map(|(part, span)| Tree::new(span, Value::Number(part.to_owned())));
            Value::List(numbers.collect())
        }
        Reads::Steal => match truth(text) {
            Some(true) => Value::Text("steal".to_owned()),
            Some(false) => Value::Text("off".to_owned()),
            None => as_text(),
        },
        Reads::FileMode => {
            let read_only = given("MIRRORD_FILE_RO_OPS", environment, flags)
                .and_then(|given| truth(&given.text));
            file_mode(variable.name, text, read_only)
                .map_or_else(as_text, |mode| Value::Text(mode.to_owned()))
        }
    };
    Tree::new(span, value)
}

fn truth(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// The mode that the two older variables stand for; none where it is said in so many words.
fn file_mode(name: &str, text: &str, read_only: Option<bool>) -> Option<&'static str> {
    match (name, truth(text)) {
        ("MIRRORD_FILE_OPS", Some(true)) => Some("write"),
        ("MIRRORD_FILE_OPS", Some(false)) if read_only == Some(true) => Some("read"),
        ("MIRRORD_FILE_OPS" | "MIRRORD_FILE_RO_OPS", Some(false)) => Some("local"),
        ("MIRRORD_FILE_RO_OPS", Some(true)) => Some("read"),
        _ => None,
    }
}

/// The parts between `;`, each with its place.
fn parts(text: &str, start: usize) -> Vec<(&str, Span)> {
    let mut found = Vec::new();
    let mut at = start;
    for part in text.split(';') {
        let trimmed = part.trim();
        if !trimmed.is_empty() {
            let from = at + (part.len() - part.trim_start().len());
            found.push((trimmed, from..from + trimmed.len()));
        }
        at += part.len() + 1;
    }
    found
}

fn text_tree((text, span): (&str, Span)) -> Tree {
    Tree::new(span, Value::Text(text.to_owned()))
}

/// Walks down to the key, making objects on the way, and sets it.
fn put(tree: &mut Tree, path: &str, keys: &[&str], variable: &Variable, value: Tree, span: Span) {
    let [key, rest @ ..] = keys else {
        *tree = value;
        return;
    };
    expand(tree, path, variable, &span);
    let Value::Object(members) = &mut tree.value else {
        // It is of a wrong kind, and whoever reads it says so.
        return;
    };
    let here = if path.is_empty() {
        (*key).to_owned()
    } else {
        format!("{path}.{key}")
    };
    let at = match members.iter().position(|member| member.key == *key) {
        Some(at) => at,
        None => {
            members.push(Member {
                key: (*key).to_owned(),
                key_span: span.clone(),
                value: Tree::new(span.clone(), Value::Null),
            });
            members.len() - 1
        }
    };
    let is_given = !matches!(members[at].value.value, Value::Null);
    if variable.reads == Reads::ImagePart && rest.is_empty() && is_given {
        return;
    }
    put(&mut members[at].value, &here, rest, variable, value, span);
}

/// Makes the object that a shorthand stands for; `path` says what it is a shorthand of.
fn expand(tree: &mut Tree, path: &str, variable: &Variable, span: &Span) {
    let truth = Node::root(tree).truth();
    let text = Node::root(tree).text().map(str::to_owned);
    let member = |key: &str, value: Value| Member {
        key: key.to_owned(),
        key_span: tree.span.clone(),
        value: Tree::new(tree.span.clone(), value),
    };
    let word = |word: &str| Value::Text(word.to_owned());
    let members = match (path, truth, text) {
        _ if matches!(tree.value, Value::Null) => {
            tree.span = span.clone();
            Vec::new()
        }
        ("target", _, _) if is_workload(tree) => {
            let whole = tree.clone();
            vec![Member {
                key: "path".to_owned(),
                key_span: tree.span.clone(),
                value: whole,
            }]
        }
        ("feature.network", Some(false), _) => ["incoming", "outgoing", "dns"]
            .map(|key| member(key, Value::Bool(false)))
            .into(),
        ("feature.network.incoming", Some(on), _) => {
            vec![member("mode", word(if on { "mirror" } else { "off" }))]
        }
        ("feature.network.incoming" | "feature.fs", None, Some(mode)) => {
            vec![member("mode", Value::Text(mode))]
        }
        ("feature.network.outgoing", Some(false), _) => {
            vec![
                member("tcp", Value::Bool(false)),
                member("udp", Value::Bool(false)),
            ]
        }
        ("feature.network.dns", Some(on), _) => vec![member("enabled", Value::Bool(on))],
        ("feature.fs", Some(on), _) => {
            vec![member("mode", word(if on { "read" } else { "local" }))]
        }
        // What is included by name comes along even where nothing else does.
        ("feature.env", Some(false), _) if variable.path == "feature.env.include" => Vec::new(),
        ("feature.env", Some(false), _) => vec![member("exclude", word("*"))],
        (
            "feature.network"
            | "feature.network.outgoing"
            | "feature.network.incoming.http_filter"
            | "feature.env",
            Some(_),
            _,
        ) => Vec::new(),
        _ => return,
    };
    tree.value = Value::Object(members);
}

/// Whether a target is a workload itself: the other form has `path` and `namespace`.
fn is_workload(tree: &Tree) -> bool {
    match &tree.value {
        Value::Text(_) => true,
        Value::Object(members) => members
            .first()
            .is_some_and(|first| !matches!(first.key.as_str(), "path" | "namespace")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => false,
    }
}

#[cfg(test)]
mod tests;

//! The tree that every file format is read into: values with the place they stand at.
//!
//! Owns the tree, walking it by name, and the search for keys given twice. Leaves making it to `format` and meaning to
//! `decode`. It has no `Debug`: a file may hold passwords.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::decode::Report;
use crate::json::Json;
use crate::text::Span;

/// A value and where it stands in the text.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// A scalar of YAML that stands in no quotes: what it is, the key decides that it stands under.
    pub(crate) is_plain: bool,
}

impl Tree {
    pub(crate) fn new(span: Span, value: Value) -> Self {
        Self {
            span,
            value,
            is_plain: false,
        }
    }

    /// The same as JSON, whatever it was written in.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(on) => Json::Bool(*on),
            Value::Number(digits) => Json::Number(digits.clone()),
            Value::Text(text) => Json::text(text),
            Value::List(items) => Json::list(items.iter().map(Self::to_json)),
            Value::Object(members) => Json::object(
                members
                    .iter()
                    .map(|member| (&member.key, member.value.to_json())),
            ),
        }
    }

    /// How many values it is, itself counted.
    pub(crate) fn count(&self) -> usize {
        let inner: usize = match &self.value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => 0,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Object(members) => members.iter().map(|member| member.value.count()).sum(),
        };
        1 + inner
    }
}

/// What a value is, as written.
#[derive(Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// The digits as written: whoever wants a number says which kind.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<Member>),
}

/// A key with its value.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Tree,
}

/// A value with the path that leads to it, such as `feature.db_branches[0].copy.mode`; the root's is empty.
#[derive(Clone)]
pub(crate) struct Node<'t> {
    pub(crate) path: String,
    pub(crate) tree: &'t Tree,
}

impl<'t> Node<'t> {
    pub(crate) fn root(tree: &'t Tree) -> Self {
        Self {
            path: String::new(),
            tree,
        }
    }

    /// The path of a key of this object, whether or not it is there.
    pub(crate) fn path_to(&self, key: &str) -> String {
        let plain = !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
        let key = shorten(key);
        match (plain, self.path.is_empty()) {
            (true, true) => key.into_owned(),
            (true, false) => format!("{}.{key}", self.path),
            (false, _) => format!("{}[{key:?}]", self.path),
        }
    }

    /// The members of an object; none for any other value.
    pub(crate) fn members(&self) -> &'t [Member] {
        match &self.tree.value {
            Value::Object(members) => members,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                &[]
            }
        }
    }

    /// The value of a key: the first where it is given twice.
    pub(crate) fn get(&self, key: &str) -> Option<Node<'t>> {
        let member = self.members().iter().find(|member| member.key == key)?;
        Some(Node {
            path: self.path_to(key),
            tree: &member.value,
        })
    }

    /// The value of a key that is there and not `null`.
    pub(crate) fn given(&self, key: &str) -> Option<Node<'t>> {
        self.get(key).filter(|value| !value.is_null())
    }

    /// Walks down several keys.
    pub(crate) fn find(&self, keys: &[&str]) -> Option<Node<'t>> {
        keys.iter()
            .try_fold(self.clone(), |node, key| node.get(key))
    }

    /// The entries of a list; none for any other value.
    pub(crate) fn items(&self) -> Vec<Node<'t>> {
        match &self.tree.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, tree)| Node {
                    path: format!("{}[{index}]", self.path),
                    tree,
                })
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => {
                Vec::new()
            }
        }
    }

    /// The text of a string; none for any other value.
    pub(crate) fn text(&self) -> Option<&'t str> {
        match &self.tree.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => {
                None
            }
        }
    }

    /// The truth value: `true` and `false`, and what YAML 1.1 reads as such where it stands in no quotes.
    pub(crate) fn truth(&self) -> Option<bool> {
        match &self.tree.value {
            Value::Bool(on) => Some(*on),
            Value::Text(text) if self.tree.is_plain => truth_of(&text.to_lowercase()),
            Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
                None
            }
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.tree.value, Value::Null)
    }

    /// What the value is, for errors: never its content.
    pub(crate) fn kind(&self) -> &'static str {
        match self.tree.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// The truth value that a word means in YAML 1.1; `word` is in lowercase.
pub(crate) fn truth_of(word: &str) -> Option<bool> {
    match word {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// Characters of a key that are told: a file of one endless key must not be told again and again.
const KEY_CHARS_MAX: usize = 80;

/// A key as it is told.
pub(crate) fn shorten(key: &str) -> Cow<'_, str> {
    match key.char_indices().nth(KEY_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}...", &key[..end])),
        None => Cow::Borrowed(key),
    }
}

/// Reports every key that an object has twice.
pub(crate) fn report_duplicates(node: &Node<'_>, report: &mut Report) {
    let mut first_spans: HashMap<&str, &Span> = HashMap::new();
    for member in node.members() {
        if let Some(first) = first_spans.get(member.key.as_str()) {
            report
                .problem_at(
                    node.path_to(&member.key),
                    &member.key_span,
                    format!("the key {:?} is given twice", shorten(&member.key)),
                )
                .also_at(first);
        } else {
            first_spans.insert(&member.key, &member.key_span);
        }
        let child = Node {
            path: node.path_to(&member.key),
            tree: &member.value,
        };
        report_duplicates(&child, report);
    }
    for item in node.items() {
        report_duplicates(&item, report);
    }
}

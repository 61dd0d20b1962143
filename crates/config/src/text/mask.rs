//! What of a file's text may be shown beside an error: everything but values that may be secret.
//!
//! Owns the rule. A value is masked where its key or shape says that it may be a secret, and in a rendered file where it
//! does not stand in the file itself: a template may have put a password of the environment there.

use std::collections::HashSet;

use crate::text::Span;
use crate::tree::{Node, Value};

/// Words in a key that make its value a secret.
const SECRET_WORDS: [&str; 6] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "key_id",
];

/// Objects whose every value may be a secret: environment variables.
const SECRET_OBJECTS: [&str; 2] = ["override", "mapping"];

/// The key of literal connection values.
const LITERAL_KEY: &str = "value";

/// The parts of a text that may not be shown, in order.
#[derive(Default)]
pub(crate) struct Masks(Vec<Span>);

impl Masks {
    #[cfg(test)]
    pub(crate) fn from_span(span: Span) -> Self {
        Self(Vec::from([span]))
    }

    /// The mask that hides the byte at `offset`.
    pub(crate) fn covering(&self, offset: usize) -> Option<&Span> {
        let after = self.0.partition_point(|span| span.start <= offset);
        self.0[..after].last().filter(|span| span.contains(&offset))
    }

    /// For a text that was read: its secret values. `template` is the file's own text where `text` was rendered from it.
    pub(crate) fn of_tree(root: &Node<'_>, text: &str, template: Option<&str>) -> Self {
        let own: Option<HashSet<&str>> = template.map(quoted_parts);
        let mut masks = Self::default();
        masks.collect(root, text, own.as_ref(), false);
        masks.0.sort_by_key(|span| span.start);
        masks
    }

    /// For a text that could not be read: every word of a line that is none of the format's own.
    ///
    /// Where a quote is missing, what is a key and what is a value cannot be told.
    pub(crate) fn of_words(text: &str, line: &Span, known: &[&str]) -> Self {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let mut spans: Vec<Span> = Vec::new();
        let mut start = None;
        let end_mark = std::iter::once((line.len(), ' '));
        for (at, c) in text[line.clone()].char_indices().chain(end_mark) {
            match (start, is_word(c)) {
                (None, true) => start = Some(at),
                (Some(from), false) => {
                    let span = line.start + from..line.start + at;
                    if !known.contains(&&text[span.clone()]) {
                        spans.push(span);
                    }
                    start = None;
                }
                (None, false) | (Some(_), true) => {}
            }
        }
        Self(spans)
    }

    fn collect(&mut self, node: &Node<'_>, text: &str, own: Option<&HashSet<&str>>, secret: bool) {
        if let Value::Text(value) = &node.tree.value {
            let written = text.get(node.tree.span.clone()).unwrap_or_default();
            let foreign = own.is_some_and(|own| !own.contains(written));
            if secret || foreign || may_hold_password(value) {
                let inner = node.tree.span.start + 1..node.tree.span.end.saturating_sub(1);
                self.0.push(if written.len() < 2 {
                    node.tree.span.clone()
                } else {
                    inner
                });
            }
        }
        for member in node.members() {
            let key = member.key.to_lowercase();
            let named = key == LITERAL_KEY || SECRET_WORDS.iter().any(|word| key.contains(word));
            let holder = SECRET_OBJECTS.contains(&key.as_str());
            let child = Node {
                path: String::new(),
                tree: &member.value,
            };
            self.collect(&child, text, own, secret || named || holder);
        }
        for item in node.items() {
            self.collect(&item, text, own, secret);
        }
    }
}

/// Whether a value has the shape of a connection string with a password.
fn may_hold_password(value: &str) -> bool {
    let lower = value.to_lowercase();
    (value.contains("://") && value.contains('@'))
        || ["password=", "passwd=", "pwd="]
            .iter()
            .any(|key| lower.contains(key))
}

/// The strings of a template, quotes included: what its author wrote with no template in it.
fn quoted_parts(template: &str) -> HashSet<&str> {
    let quotes: Vec<usize> = template.match_indices('"').map(|(at, _)| at).collect();
    quotes
        .chunks_exact(2)
        .map(|pair| &template[pair[0]..=pair[1]])
        .filter(|part| !crate::template::is_template(part))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::text::SourceText;

    fn shown(text: &str, template: Option<&str>) -> String {
        let tree = Format::Json.parse(text).expect("the test's text is JSON");
        let masks = Masks::of_tree(&Node::root(&tree), text, template);
        SourceText::new("f", text).excerpt(&(0..1), &masks).line
    }

    #[test]
    fn values_that_may_be_secret_are_hidden() {
        assert_eq!(
            shown(r#"{"env_var_name": "PW", "value": "hunter2"}"#, None),
            r#"{"env_var_name": "PW", "value": "***"}"#
        );
        assert_eq!(
            shown(r#"{"override": {"A": "hunter2"}, "x": "y"}"#, None),
            r#"{"override": {"A": "***"}, "x": "y"}"#
        );
        assert_eq!(
            shown(r#"{"x": "postgres://u:hunter2@h/d"}"#, None),
            r#"{"x": "***"}"#
        );
        assert_eq!(
            shown(r#"{"DB_PASSWORD": ["hunter2"]}"#, None),
            r#"{"DB_PASSWORD": ["***"]}"#
        );
        assert_eq!(
            shown(r#"{"x": "host=h password=hunter2"}"#, None),
            r#"{"x": "***"}"#
        );
    }

    #[test]
    fn what_a_template_put_in_is_hidden() {
        assert_eq!(
            shown(
                r#"{"a": "own", "b": "hunter2"}"#,
                Some(r#"{"a": "own", "b": "{{ get_env(name="PW") }}"}"#)
            ),
            r#"{"a": "own", "b": "***"}"#
        );
    }

    #[test]
    fn of_a_broken_line_only_the_formats_own_words_are_shown() {
        let text = "{\"password: \"hunter2\"}";
        let line = 0..text.len();
        let masks = Masks::of_words(text, &line, &["password"]);
        let excerpt = SourceText::new("f", text).excerpt(&(0..1), &masks);
        assert_eq!(excerpt.line, "{\"password: \"***\"}");
    }
}

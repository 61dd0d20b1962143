//! What of a file's text may be shown beside an error: everything but values that may be secret.
//!
//! Owns the rule. A value is masked where its key or shape says that it may be a secret, and in a rendered file where it
//! does not stand in the file itself: a template may have put a password of the environment there.

use crate::text::{Sources, Span};
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

    /// The same for a text that starts at `start`.
    pub(super) fn shifted(&self, start: usize) -> Self {
        let shift = |span: &Span| span.start.saturating_sub(start)..span.end.saturating_sub(start);
        let within = self.0.iter().filter(|span| span.start >= start);
        Self(within.map(shift).collect())
    }

    /// For texts that were read: the secret values among what is `shown`. `template` is the file's own text where the
    /// file was rendered.
    pub(crate) fn of_tree(
        root: &Node<'_>,
        sources: &Sources,
        template: Option<&str>,
        mut shown: Vec<Span>,
    ) -> Self {
        shown.sort_by_key(|span| span.start);
        shown.dedup();
        let rule = MaskRule {
            sources,
            own: template.map(literal_parts),
            shown,
        };
        let mut masks = Self::default();
        masks.collect(root, &rule, false);
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

    fn collect(&mut self, node: &Node<'_>, rule: &MaskRule<'_>, secret: bool) {
        if let Value::Text(value) = &node.tree.value
            && rule.is_shown(&node.tree.span)
        {
            let span = &node.tree.span;
            let written = rule.sources.get(span);
            if secret || rule.is_foreign(span, written) || may_hold_password(value) {
                let is_quoted = written.len() >= 2 && written.starts_with(['"', '\'']);
                self.0.push(if is_quoted {
                    span.start + 1..span.end - 1
                } else {
                    span.clone()
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
            self.collect(&child, rule, secret || named || holder);
        }
        for item in node.items() {
            self.collect(&item, rule, secret);
        }
    }
}

/// What the values of one configuration are judged by.
struct MaskRule<'a> {
    sources: &'a Sources,
    /// What the author of a template wrote; none where the file is none.
    own: Option<Vec<&'a str>>,
    /// The parts of the texts that are shown, in order: looking further would cost as much as the file is long, for
    /// each of its values.
    shown: Vec<Span>,
}

impl MaskRule<'_> {
    fn is_shown(&self, span: &Span) -> bool {
        let after = self.shown.partition_point(|shown| shown.start < span.end);
        // Lines may be shown twice, so the last that begins before the end need not be the longest.
        self.shown[..after]
            .iter()
            .any(|shown| shown.end > span.start)
    }

    /// Whether a template put the value there.
    fn is_foreign(&self, span: &Span, written: &str) -> bool {
        self.sources.is_in_file(span.start)
            && self
                .own
                .as_ref()
                .is_some_and(|parts| !parts.iter().any(|part| holds(part, written)))
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

/// The parts of a template that its author wrote: what stands between its tags.
fn literal_parts(template: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(from) = ["{{", "{%", "{#"]
        .iter()
        .filter_map(|tag| rest.find(tag))
        .min()
    {
        parts.push(&rest[..from]);
        let close = match &rest[from..from + 2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => "#}",
        };
        rest = match rest[from..].find(close) {
            Some(at) => &rest[from + at + close.len()..],
            None => "",
        };
    }
    parts.push(rest);
    parts
}

/// Whether `part` holds `text` as a whole: not as a piece of a longer word.
fn holds(part: &str, text: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    !text.is_empty()
        && part.match_indices(text).any(|(at, _)| {
            let before = part[..at].chars().next_back();
            let after = part[at + text.len()..].chars().next();
            let inner = |edge: Option<char>, own: Option<char>| {
                edge.is_some_and(is_word) && own.is_some_and(is_word)
            };
            !inner(before, text.chars().next()) && !inner(after, text.chars().next_back())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::text::SourceText;

    fn shown(text: &str, template: Option<&str>) -> String {
        let tree = Format::Json.parse(text).expect("the test's text is JSON");
        let sources = Sources::new(SourceText::new("f", text));
        let shown = std::iter::once(0..text.len()).collect();
        let masks = Masks::of_tree(&Node::root(&tree), &sources, template, shown);
        sources.excerpt(&(0..1), &masks).line
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
    fn what_holds_no_password_is_shown() {
        for plain in [r#"{"x": "http://h/d"}"#, r#"{"x": "ada@example.com"}"#] {
            assert_eq!(shown(plain, None), plain);
        }
    }

    #[test]
    fn a_secret_without_quotes_is_hidden_whole() {
        let text = "DB_PASSWORD: hunter2";
        let tree = Format::Yaml.parse(text).expect("the test's text is YAML");
        let sources = Sources::new(SourceText::new("f", text));
        let shown = std::iter::once(0..text.len()).collect();
        let masks = Masks::of_tree(&Node::root(&tree), &sources, None, shown);
        assert_eq!(sources.excerpt(&(0..1), &masks).line, "DB_PASSWORD: ***");
    }

    #[test]
    fn a_piece_of_a_longer_word_is_not_the_same_text() {
        assert!(holds("{\"a\": \"own\"}", "own"));
        assert!(!holds("database", "data"));
        assert!(!holds("x", ""));
        assert_eq!(
            literal_parts("a{{ b }}c{% d %}{# e #}f{{ g"),
            ["a", "c", "", "f", ""]
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

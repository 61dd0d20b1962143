//! Arguments without a name: `is starting_with("x")`, as files for Tera 1 have it, is `is starting_with(pat="x")`.
//!
//! Owns putting the names in, and where a byte of the result stood before.

use std::borrow::Cow;

use super::lexer;
use crate::text::Span;

/// Tests with one argument, and its name.
const TESTS: [(&str, &str); 6] = [
    ("starting_with", "pat="),
    ("ending_with", "pat="),
    ("containing", "pat="),
    ("matching", "pat="),
    ("divisibleby", "divisor="),
    ("divisible_by", "divisor="),
];

/// A template whose arguments all have names.
pub(super) struct Named<'t> {
    pub(super) text: Cow<'t, str>,
    /// Where in `text` a name was put in, and its length, in the order of the text.
    inserted: Vec<(usize, usize)>,
}

impl<'t> Named<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let found = nameless(text);
        if found.is_empty() {
            return Self {
                text: Cow::Borrowed(text),
                inserted: Vec::new(),
            };
        }
        let mut named = String::with_capacity(text.len() + found.len() * "divisor=".len());
        let mut inserted = Vec::with_capacity(found.len());
        let mut taken = 0;
        for (at, name) in found {
            named.push_str(&text[taken..at]);
            inserted.push((named.len(), name.len()));
            named.push_str(name);
            taken = at;
        }
        named.push_str(&text[taken..]);
        Self {
            text: Cow::Owned(named),
            inserted,
        }
    }

    /// Where a span of `text` is in the template as written.
    pub(super) fn original(&self, span: &Span) -> Span {
        let back = |offset: usize| {
            let before: usize = self
                .inserted
                .iter()
                .take_while(|(at, _)| *at < offset)
                .map(|(at, length)| (*length).min(offset - at))
                .sum();
            offset - before
        };
        back(span.start)..back(span.end)
    }
}

/// Where arguments without a name begin, each with the name that it has.
fn nameless(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for tag in lexer::tags(text) {
        let words: Vec<(usize, &str)> = tag.placed.clone();
        for (index, (_, word)) in words.iter().enumerate() {
            let after_is = *word == "is";
            let test = match words.get(index + 1) {
                Some((_, "not")) => words.get(index + 2),
                other => other,
            };
            let Some((at, test)) = test.filter(|_| after_is) else {
                continue;
            };
            let Some((_, name)) = TESTS.iter().find(|(known, _)| known == test) else {
                continue;
            };
            if let Some(argument) = argument_behind(text, at + test.len()) {
                found.push((argument, *name));
            }
        }
    }
    found
}

/// Where the argument in the parentheses that begin at `at` is; none where there are none, or it has a name.
fn argument_behind(text: &str, at: usize) -> Option<usize> {
    let inner = text[at..].trim_start().strip_prefix('(')?.trim_start();
    let rest = inner.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let has_name = rest.len() < inner.len() && rest.trim_start().starts_with('=');
    (!has_name && !inner.starts_with(')')).then(|| text.len() - inner.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_in_where_they_are_missing_alone() {
        for (text, expected) in [
            (
                "{{ a is starting_with('b') }}",
                "{{ a is starting_with(pat='b') }}",
            ),
            (
                "{% if a is not containing( b ) %}",
                "{% if a is not containing( pat=b ) %}",
            ),
            (
                "{{ a is not containing(b) }}",
                "{{ a is not containing(pat=b) }}",
            ),
            (
                "{{ a is starting_with(pat='b') }}",
                "{{ a is starting_with(pat='b') }}",
            ),
            (
                "{{ a is starting_with(pat = 'b') }}",
                "{{ a is starting_with(pat = 'b') }}",
            ),
            ("{{ a is defined }}", "{{ a is defined }}"),
            ("{{ a is matching() }}", "{{ a is matching() }}"),
            ("a is starting_with('b')", "a is starting_with('b')"),
            (
                "{{ 'a is starting_with(b)' }}",
                "{{ 'a is starting_with(b)' }}",
            ),
            (
                "{% raw %}{{ a is matching('b') }}{% endraw %}{{ 4 is divisibleby(2) }}",
                "{% raw %}{{ a is matching('b') }}{% endraw %}{{ 4 is divisibleby(divisor=2) }}",
            ),
        ] {
            assert_eq!(Named::of(text).text, expected);
        }
    }

    #[test]
    fn places_are_those_of_the_text_as_written() {
        let text = "{{ a is matching('b') or a is containing('c') or d }}";
        let named = Named::of(text);
        let at = named.text.find("d }}").expect("it is there");
        assert_eq!(&text[named.original(&(at..at + 1))], "d");
        let at = named.text.find("'c'").expect("it is there");
        assert_eq!(&text[named.original(&(at..at + 3))], "'c'");
        // A name that was put in is where it was.
        let at = named.text.find("pat=").expect("it is there");
        assert_eq!(named.original(&(at..at + 2)), 17..17);
    }
}

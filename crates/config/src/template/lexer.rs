//! The tags of a template and the words in them, as the renderer's own lexer finds them.
//!
//! Knows nothing of what they mean. Comments, strings and what is raw are passed over.

use crate::text::Span;

/// The tags of `text`, in its order; those behind one that is not closed are not found.
pub(super) fn tags(text: &str) -> impl Iterator<Item = Tag<'_>> {
    Rest { text, at: 0 }
}

/// A tag: `{{ ... }}` or `{% ... %}`.
pub(super) struct Tag<'t> {
    pub(super) span: Span,
    is_statement: bool,
    /// Its words, each with where it begins in the text: names and keywords, not what is in quotes.
    pub(super) placed: Vec<(usize, &'t str)>,
    /// `~` and `...` in it.
    pub(super) doublings: usize,
}

impl<'t> Tag<'t> {
    /// The word that says what a statement does.
    pub(super) fn first(&self) -> Option<&'t str> {
        self.words().next().filter(|_| self.is_statement)
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &'t str> {
        self.placed.iter().map(|(_, word)| *word)
    }
}

/// Where the first tag begins that is not closed.
pub(super) fn unclosed(text: &str) -> Option<usize> {
    let mut rest = Rest { text, at: 0 };
    let mut end = 0;
    while rest.next().is_some() {
        end = rest.at;
    }
    find_start(text.get(end..)?).map(|at| end + at)
}

/// What is still to be read.
struct Rest<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Iterator for Rest<'t> {
    type Item = Tag<'t>;

    fn next(&mut self) -> Option<Tag<'t>> {
        let tag = self.next_tag()?;
        if tag.first() == Some("raw") {
            self.skip_raw();
        }
        Some(tag)
    }
}

impl<'t> Rest<'t> {
    /// The next tag that is no comment; none where there is no more, or where it is not closed: that the renderer says.
    fn next_tag(&mut self) -> Option<Tag<'t>> {
        loop {
            let from = self.at + find_start(&self.text[self.at..])?;
            self.at = from + 2;
            match &self.text[from..from + 2] {
                "{#" => self.at += self.text[self.at..].find("#}")? + 2,
                "{%" => return self.read_tag(from, true),
                _ => return self.read_tag(from, false),
            }
        }
    }

    fn read_tag(&mut self, from: usize, is_statement: bool) -> Option<Tag<'t>> {
        let close: &[u8] = if is_statement { b"%}" } else { b"}}" };
        let bytes = self.text.as_bytes();
        let mut tag = Tag {
            span: from..from,
            is_statement,
            placed: Vec::new(),
            doublings: 0,
        };
        while let Some(&byte) = bytes.get(self.at) {
            let here = &bytes[self.at..];
            if here.starts_with(close) {
                self.at += 2;
                tag.span.end = self.at;
                return Some(tag);
            }
            self.at += match byte {
                b'"' | b'\'' | b'`' => string_length(here)?,
                b'~' => {
                    tag.doublings += 1;
                    1
                }
                b'.' if here.starts_with(b"...") => {
                    tag.doublings += 1;
                    3
                }
                _ if byte.is_ascii_alphabetic() || byte == b'_' => {
                    let length = here
                        .iter()
                        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
                        .count();
                    tag.placed
                        .push((self.at, &self.text[self.at..self.at + length]));
                    length
                }
                _ => 1,
            };
        }
        None
    }

    /// Goes on behind the word of `{% endraw %}`: what stands before it is a text.
    fn skip_raw(&mut self) {
        while let Some(from) = self.text[self.at..].find("{%") {
            self.at += from + 2;
            let tag = self.text[self.at..].trim_start_matches(['-', ' ', '\t', '\r', '\n']);
            if let Some(rest) = tag.strip_prefix("endraw") {
                self.at = self.text.len() - rest.len();
                return;
            }
        }
        self.at = self.text.len();
    }
}

/// Where the next tag begins.
fn find_start(text: &str) -> Option<usize> {
    ["{{", "{%", "{#"]
        .iter()
        .filter_map(|start| text.find(start))
        .min()
}

/// Bytes of a string in quotes, with its quotes; none where it is not closed.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let quote = bytes.first()?;
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            _ if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_behind_what_is_passed_over() {
        for (text, expected) in [
            ("{# it's {{ a }} #}{{ b }}", &["{{ b }}"][..]),
            ("{# {{#}{{ b }}", &["{{ b }}"]),
            ("{{ \"\\\"\" }}{{ b }}", &["{{ \"\\\"\" }}", "{{ b }}"]),
            (
                "{% raw %}{{ a }}{% endraw   %}{{ b }}",
                &["{% raw %}", "{{ b }}"],
            ),
        ] {
            let found: Vec<&str> = tags(text).map(|tag| &text[tag.span]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_dot_parts_words_and_three_spread_a_list() {
        let told = |text| {
            let tag = tags(text).next().expect("a tag");
            (tag.words().collect::<Vec<_>>(), tag.doublings)
        };
        assert_eq!(told("{{ a.b.c }}"), (vec!["a", "b", "c"], 0));
        assert_eq!(told("{{ [...a, b ~ c] }}"), (vec!["a", "b", "c"], 2));
    }
}

//! Texts that values come from, the file first: where a byte stands, and the line to show beside an error.
//!
//! Owns lines, columns and excerpts, and (`mask`) what of a line may be shown. Values of variables and flags are texts
//! of their own behind the file's: one number says where a value stands, whichever it came from. Leaves words to
//! `diagnostic`.

pub(crate) mod mask;

use std::fmt;
use std::ops::Range;

use mask::Masks;

/// Bytes of the text, from and up to.
pub(crate) type Span = Range<usize>;

/// Characters of a line that an excerpt shows at most: a minified file is one line.
const EXCERPT_CHARS_MAX: usize = 120;

/// Bytes on either side of the fault that are looked at: more than [`EXCERPT_CHARS_MAX`] characters can have.
const EXCERPT_REACH_BYTES: usize = 1024;

/// Characters shown before the caret where a line is cut.
const EXCERPT_LEAD_CHARS: usize = 40;

/// What stands for a text that may not be shown.
const MASK: &str = "***";

/// Where something stands in a file. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

/// The line that a message is about, and which part of it. Passwords in it are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, or the part of it around the fault, without control characters.
    pub line: String,
    /// Characters of `line` before the fault.
    pub start: usize,
    /// Characters of the fault: at least 1.
    pub width: usize,
}

impl fmt::Display for Excerpt {
    /// Two lines: the text, and carets under the fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line)?;
        write!(
            f,
            "{:start$}{:^<width$}",
            "",
            "",
            start = self.start,
            width = self.width
        )
    }
}

/// All texts of a configuration, one behind the other.
pub(crate) struct Sources {
    /// Each with where it starts; the file first.
    texts: Vec<(usize, SourceText)>,
}

impl Sources {
    pub(crate) fn new(file: SourceText) -> Self {
        Self {
            texts: vec![(0, file)],
        }
    }

    /// Puts a text behind the others; answers where it starts.
    pub(crate) fn add(&mut self, text: SourceText) -> usize {
        // One byte between them: the end of one is not the start of the next.
        let start = self
            .texts
            .last()
            .map_or(0, |(start, last)| start + last.text.len() + 1);
        self.texts.push((start, text));
        start
    }

    fn holding(&self, offset: usize) -> (usize, &SourceText) {
        let after = self.texts.partition_point(|(start, _)| *start <= offset);
        let (start, text) = &self.texts[after.saturating_sub(1)];
        (*start, text)
    }

    /// Whether the file has the byte: otherwise a variable or a flag does.
    pub(crate) fn is_in_file(&self, offset: usize) -> bool {
        self.holding(offset).0 == 0
    }

    /// The file, or the variable or flag.
    pub(crate) fn name(&self, offset: usize) -> &str {
        &self.holding(offset).1.name
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        let (start, text) = self.holding(offset);
        text.place(offset - start)
    }

    /// The bytes that an excerpt for `span` can come from.
    pub(crate) fn near(&self, span: &Span) -> Span {
        let (start, text) = self.holding(span.start);
        let line = text.line_span(span.start - start);
        let near = text.near(&line, span.start - start);
        start + near.start..start + near.end
    }

    /// The bytes of a span.
    pub(crate) fn get(&self, span: &Span) -> &str {
        let (start, text) = self.holding(span.start);
        text.text
            .get(span.start - start..span.end.saturating_sub(start))
            .unwrap_or_default()
    }

    /// The line of `span`'s start with carets for the part of `span` on it.
    pub(crate) fn excerpt(&self, span: &Span, masks: &Masks) -> Excerpt {
        let (start, text) = self.holding(span.start);
        text.excerpt(
            &(span.start - start..span.end.saturating_sub(start)),
            &masks.shifted(start),
        )
    }
}

/// A text with its lines.
#[derive(Clone)]
pub(crate) struct SourceText {
    pub(crate) name: String,
    pub(crate) text: String,
    line_starts: Vec<usize>,
}

impl SourceText {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        Self {
            name: name.into(),
            text,
            line_starts,
        }
    }

    /// The nearest character boundary at or before `offset`.
    fn boundary(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        (0..=offset)
            .rev()
            .find(|at| self.text.is_char_boundary(*at))
            .unwrap_or(0)
    }

    fn line_index(&self, offset: usize) -> usize {
        self.line_starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        let offset = self.boundary(offset);
        let line = self.line_index(offset);
        let column = self.text[self.line_starts[line]..offset].chars().count();
        Place {
            line: line + 1,
            column: column + 1,
        }
    }

    /// The bytes of the line that holds `offset`, its end-of-line left out.
    pub(crate) fn line_span(&self, offset: usize) -> Span {
        let line = self.line_index(self.boundary(offset));
        let start = self.line_starts[line];
        let end = self
            .line_starts
            .get(line + 1)
            .map_or(self.text.len(), |next| next - 1);
        start..start + self.text[start..end].trim_end_matches('\r').len()
    }

    /// The part of a very long line that an excerpt can come from.
    fn near(&self, line: &Span, offset: usize) -> Span {
        let start = self.boundary(offset.saturating_sub(EXCERPT_REACH_BYTES));
        let end = self.boundary(offset.saturating_add(EXCERPT_REACH_BYTES));
        line.start.max(start)..line.end.min(end).max(line.start)
    }

    /// The line of `span`'s start with carets for the part of `span` on it.
    pub(crate) fn excerpt(&self, span: &Span, masks: &Masks) -> Excerpt {
        let line = self.near(&self.line_span(span.start), span.start);
        let from = self.boundary(span.start).clamp(line.start, line.end);
        let to = self.boundary(span.end).clamp(from, line.end);
        let mut shown = Shown::default();
        let mut at = line.start;
        while at < line.end {
            if let Some(mask) = masks.covering(at) {
                let end = mask.end.clamp(at + 1, line.end);
                shown.push_masked(MASK, at..end, &(from..to));
                at = end;
            } else if let Some(c) = self.text[at..line.end].chars().next() {
                let end = at + c.len_utf8();
                shown.push(if c.is_control() { ' ' } else { c }, at..end, &(from..to));
                at = end;
            } else {
                break;
            }
        }
        shown.finish()
    }
}

/// An excerpt in the making.
#[derive(Default)]
struct Shown {
    chars: Vec<char>,
    before: usize,
    within: usize,
}

impl Shown {
    fn push(&mut self, c: char, at: Span, fault: &Span) {
        self.chars.push(c);
        if at.end <= fault.start {
            self.before += 1;
        } else if at.start < fault.end {
            self.within += 1;
        }
    }

    fn push_masked(&mut self, mask: &str, at: Span, fault: &Span) {
        for c in mask.chars() {
            self.push(c, at.clone(), fault);
        }
    }

    fn finish(self) -> Excerpt {
        let cut = if self.chars.len() > EXCERPT_CHARS_MAX {
            self.before.saturating_sub(EXCERPT_LEAD_CHARS)
        } else {
            let indent = self.chars.iter().take_while(|c| c.is_whitespace()).count();
            indent.min(self.before)
        };
        let line: String = self
            .chars
            .iter()
            .skip(cut)
            .take(EXCERPT_CHARS_MAX)
            .collect();
        let start = self.before - cut;
        let room = line.chars().count().saturating_sub(start);
        Excerpt {
            line: line.trim_end().to_owned(),
            start,
            width: self.within.clamp(1, room.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_masks() -> Masks {
        Masks::default()
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = SourceText::new("f", "a\nüb\r\n\nc");
        let place = |offset| {
            let Place { line, column } = text.place(offset);
            (line, column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(2), (2, 1));
        assert_eq!(place(4), (2, 2), "ü is one character and two bytes");
        assert_eq!(place(3), (2, 1), "within a character is its start");
        assert_eq!(place(8), (4, 1));
        assert_eq!(place(999), (4, 2));
    }

    #[test]
    fn a_byte_belongs_to_the_file_or_to_the_variable_that_gave_it() {
        let mut sources = Sources::new(SourceText::new("f", "ab\ncd"));
        let first = sources.add(SourceText::new("FIRST", "one\nmore"));
        let second = sources.add(SourceText::new("SECOND", "two"));
        for (offset, name, line, column) in [
            (0, "f", 1, 1),
            (4, "f", 2, 2),
            (5, "f", 2, 3),
            (first, "FIRST", 1, 1),
            (first + 5, "FIRST", 2, 2),
            (first + 8, "FIRST", 2, 5),
            (second, "SECOND", 1, 1),
            (second + 2, "SECOND", 1, 3),
        ] {
            assert_eq!(sources.name(offset), name, "{offset}");
            assert_eq!(sources.place(offset), Place { line, column }, "{offset}");
            assert_eq!(sources.is_in_file(offset), name == "f", "{offset}");
        }
        assert_eq!(sources.get(&(first + 4..first + 6)), "mo");
        assert_eq!(sources.get(&(second..second + 3)), "two");
        assert_eq!(sources.near(&(first + 5..first + 6)), first + 4..first + 8);
    }

    #[test]
    fn an_excerpt_points_at_the_fault_and_drops_the_indent() {
        let text = SourceText::new("f", "{\n    \"a\": 1,\n}");
        let excerpt = text.excerpt(&(6..9), &no_masks());
        assert_eq!(excerpt.to_string(), "\"a\": 1,\n^^^");
    }

    #[test]
    fn a_fault_over_many_lines_is_marked_on_its_first() {
        let text = SourceText::new("f", "x {\n1\n}");
        let excerpt = text.excerpt(&(2..7), &no_masks());
        assert_eq!(excerpt.to_string(), "x {\n  ^");
    }

    #[test]
    fn long_lines_are_cut_around_the_fault() {
        let text = SourceText::new("f", format!("{}!{}", "a".repeat(500), "b".repeat(500)));
        let excerpt = text.excerpt(&(500..501), &no_masks());
        assert_eq!(excerpt.line.chars().count(), EXCERPT_CHARS_MAX);
        assert_eq!(excerpt.line.chars().nth(excerpt.start), Some('!'));
    }

    #[test]
    fn masked_text_is_never_shown_and_the_caret_still_fits() {
        let text = SourceText::new("f", "\"v\": \"hunter2\", \"x\": 1");
        let masks = Masks::from_span(6..13);
        let excerpt = text.excerpt(&(16..19), &masks);
        assert_eq!(
            excerpt.to_string(),
            "\"v\": \"***\", \"x\": 1\n            ^^^"
        );
    }
}

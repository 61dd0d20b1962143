//! YAML with places, by `saphyr-parser`: its events become a tree.
//!
//! Owns what YAML has and the tree has not: plain scalars (the core schema of YAML 1.2, chapter 10.3), anchors and
//! aliases, merge keys (`<<`), tags. A plain `yes`, `no`, `on` or `off` stays a text that is known to be plain, and is a
//! truth value where the key wants one, as it was in YAML 1.1.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::{NESTING_MAX, SyntaxError};
use crate::text::Span;
use crate::tree::{Member, Tree, Value};

/// Values that all aliases of a file stand for at most: ten lines of aliases of aliases would fill the memory.
const ALIASED_VALUES_MAX: usize = 10_000;

/// Reads `text`.
pub(super) fn parse(text: &str) -> Result<Tree, SyntaxError> {
    let places = Places::of(text);
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| places.syntax_error(&error))?;
        let span = places.at(span.start)..places.at(span.end);
        builder.take(event, span)?;
    }
    Ok(match builder.root {
        // An empty document is every default, as an empty TOML file is.
        Some(Tree {
            span,
            value: Value::Null,
            ..
        }) => Tree::new(span, Value::Object(Vec::new())),
        Some(tree) => tree,
        None => Tree::new(0..0, Value::Object(Vec::new())),
    })
}

/// From the parser's places, which count characters, to bytes.
struct Places {
    /// Where each character starts; none where all are one byte.
    starts: Option<Vec<usize>>,
    length: usize,
}

impl Places {
    fn of(text: &str) -> Self {
        let starts = || text.char_indices().map(|(at, _)| at).collect();
        Self {
            starts: (!text.is_ascii()).then(starts),
            length: text.len(),
        }
    }

    fn at(&self, marker: Marker) -> usize {
        let index = marker.index();
        let byte = match &self.starts {
            Some(starts) => starts.get(index).copied().unwrap_or(self.length),
            None => index,
        };
        byte.min(self.length)
    }

    fn syntax_error(&self, error: &ScanError) -> SyntaxError {
        let at = self.at(*error.marker());
        let (text, hint) = describe(error.info());
        SyntaxError {
            span: at..at,
            text,
            hint: hint.map(str::to_owned),
        }
    }
}

/// Our words for what people get wrong most, the parser's for the rest.
fn describe(said: &str) -> (String, Option<&'static str>) {
    let ours = |text: &str, hint| (text.to_owned(), Some(hint));
    if said.contains("tab") {
        ours(
            "a tab stands where the line is indented",
            "YAML is indented with spaces",
        )
    } else if said == "mapping values are not allowed in this context" {
        ours(
            "a key is not expected here",
            "begin the line where the keys beside it begin, and put a text with \": \" in it in quotes",
        )
    } else {
        (format!("not YAML: {said}"), None)
    }
}

/// A list or an object that is not closed yet.
struct Open {
    start: usize,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Tree>),
    Object {
        members: Vec<Member>,
        /// A key whose value comes next.
        key: Option<(String, Span)>,
        /// What `<<` brings in, in the order of the file.
        merged: Vec<Tree>,
    },
}

/// The tree in the making.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// What each anchor stands for.
    anchored: HashMap<usize, Tree>,
    /// Values that aliases have brought so far.
    aliased: usize,
    documents: usize,
    root: Option<Tree>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return fault(span, "the file goes on with a second document");
                }
                Ok(())
            }
            Event::Alias(anchor) => {
                let Some(tree) = self.anchored.get(&anchor) else {
                    return fault(span, "this alias stands within what it stands for");
                };
                self.aliased += tree.count();
                if self.aliased > ALIASED_VALUES_MAX {
                    return fault(
                        span,
                        format!("aliases stand for more than {ALIASED_VALUES_MAX} values"),
                    );
                }
                let tree = tree.clone();
                self.place(tree)
            }
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(key) = self.awaited_key() {
                    *key = Some((text.into_owned(), span));
                    return Ok(());
                }
                let tree = scalar(text, style, tag.as_deref(), span)?;
                self.remember(anchor, &tree);
                self.place(tree)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(anchor, tag.as_deref(), span, OpenKind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let kind = OpenKind::Object {
                    members: Vec::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.begin(anchor, tag.as_deref(), span, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(&span),
        }
    }

    /// The place for a key, where one comes next.
    fn awaited_key(&mut self) -> Option<&mut Option<(String, Span)>> {
        match &mut self.open.last_mut()?.kind {
            OpenKind::Object { key, .. } if key.is_none() => Some(key),
            OpenKind::Object { .. } | OpenKind::List(_) => None,
        }
    }

    fn begin(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
        kind: OpenKind,
    ) -> Result<(), SyntaxError> {
        if let Some(tag) = tag
            && !matches!(core_tag(tag), Some("map" | "seq"))
        {
            return fault(span, format!("the tag {tag} means nothing here"));
        }
        if self.awaited_key().is_some() {
            return fault(span, "a key is a word, not a list or an object");
        }
        if self.open.len() >= NESTING_MAX {
            return Err(SyntaxError::too_deep(span));
        }
        self.open.push(Open {
            start: span.start,
            anchor,
            kind,
        });
        Ok(())
    }

    fn close(&mut self, end: &Span) -> Result<(), SyntaxError> {
        let Open {
            start,
            anchor,
            kind,
        } = self.open.pop().expect("the parser closes what it opened");
        let (value, last) = match kind {
            OpenKind::List(items) => {
                let last = items.last().map(|item| item.span.end);
                (Value::List(items), last)
            }
            OpenKind::Object {
                mut members,
                merged,
                ..
            } => {
                let last = members.iter().map(|member| member.value.span.end).max();
                merge(&mut members, merged);
                (Value::Object(members), last)
            }
        };
        // Without brackets a collection ends where its last value does, not where the next line's indent shows it.
        let end = if end.is_empty() {
            last.unwrap_or(end.end)
        } else {
            end.end
        };
        let tree = Tree::new(start..end.max(start), value);
        self.remember(anchor, &tree);
        self.place(tree)
    }

    fn remember(&mut self, anchor: usize, tree: &Tree) {
        // The parser counts anchors from 1: 0 is none.
        if anchor > 0 {
            self.anchored.insert(anchor, tree.clone());
        }
    }

    /// Puts a value where it belongs: into what is open, or at the root.
    fn place(&mut self, tree: Tree) -> Result<(), SyntaxError> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(tree);
            return Ok(());
        };
        match &mut open.kind {
            OpenKind::List(items) => items.push(tree),
            OpenKind::Object {
                members,
                key,
                merged,
            } => match key.take() {
                Some((key, _)) if key == "<<" => merged.extend(merge_sources(tree)?),
                Some((key, key_span)) => members.push(Member {
                    key,
                    key_span,
                    value: tree,
                }),
                None => return fault(tree.span, "a key is a word, not an alias"),
            },
        }
        Ok(())
    }
}

fn fault<T>(span: Span, text: impl Into<String>) -> Result<T, SyntaxError> {
    Err(SyntaxError {
        span,
        text: text.into(),
        hint: None,
    })
}

/// One object, or several.
fn merge_sources(tree: Tree) -> Result<Vec<Tree>, SyntaxError> {
    let sources = if let Value::List(items) = tree.value {
        items
    } else {
        vec![tree]
    };
    match sources
        .iter()
        .find(|source| !matches!(source.value, Value::Object(_)))
    {
        Some(other) => fault(other.span.clone(), "\"<<\" brings in objects alone"),
        None => Ok(sources),
    }
}

/// Own members win over merged ones, earlier sources over later ones.
fn merge(members: &mut Vec<Member>, merged: Vec<Tree>) {
    let mut known: HashSet<String> = members.iter().map(|own| own.key.clone()).collect();
    for source in merged {
        let Value::Object(brought) = source.value else {
            continue;
        };
        for member in brought {
            if known.insert(member.key.clone()) {
                members.push(member);
            }
        }
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    span: Span,
) -> Result<Tree, SyntaxError> {
    let is_plain = style == ScalarStyle::Plain;
    let value = match tag {
        None if is_plain => plain(&text),
        None => Value::Text(text.into_owned()),
        Some(tag) => match core_tag(tag) {
            Some(name) => tagged(name, &text, &span)?,
            // The non-specific tag: a text, whatever it looks like.
            None if tag.handle.is_empty() && tag.suffix == "!" => Value::Text(text.into_owned()),
            None => return fault(span, format!("the tag {tag} means nothing here")),
        },
    };
    let mut tree = Tree::new(span, value);
    tree.is_plain = is_plain && tag.is_none();
    Ok(tree)
}

/// The name of a tag of YAML's own: `!!str` gives `str`.
fn core_tag(tag: &Tag) -> Option<&str> {
    const PREFIX: &str = "tag:yaml.org,2002:";
    if tag.handle.is_empty() {
        tag.suffix.strip_prefix(PREFIX)
    } else {
        (tag.handle == PREFIX).then_some(&tag.suffix)
    }
}

/// A scalar whose tag says what it is: the tag and the text must agree.
fn tagged(name: &str, text: &str, span: &Span) -> Result<Value, SyntaxError> {
    let value = plain(text);
    match (name, &value) {
        ("str", _) => Ok(Value::Text(text.to_owned())),
        ("int" | "float", Value::Number(_)) | ("bool", Value::Bool(_)) | ("null", Value::Null) => {
            Ok(value)
        }
        _ => fault(
            span.clone(),
            format!("the tag !!{name} does not fit this value"),
        ),
    }
}

/// The core schema: YAML 1.2.2, section 10.3.2.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match number(text) {
            Some(digits) => Value::Number(digits),
            None => Value::Text(text.to_owned()),
        },
    }
}

/// The digits of a number, in decimal where they are whole.
fn number(text: &str) -> Option<String> {
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok();
    if let Some(whole) = text.strip_prefix("0x").and_then(|digits| radix(digits, 16)) {
        return Some(whole.to_string());
    }
    if let Some(whole) = text.strip_prefix("0o").and_then(|digits| radix(digits, 8)) {
        return Some(whole.to_string());
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(text.to_owned());
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_mantissa =
        !(whole.is_empty() && fraction.is_empty()) && is_digits(whole) && is_digits(fraction);
    let is_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && is_digits(digits)
    });
    (is_mantissa && is_exponent).then(|| text.strip_prefix('+').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests;

//! Forms that many keys share: a word of a few, one or many, on or off or an object.

use super::{Decode, Report, nearest, quoted, report_kind};
use crate::tree::{Node, Tree, Value};

/// An enum that is written as one of a few words.
pub(crate) trait Word: Copy + Sized + 'static {
    const ALL: &'static [Self];

    fn word(self) -> &'static str;

    fn decode_word(node: &Node<'_>, expected: &str, report: &mut Report) -> Option<Self> {
        let Some(text) = node.text() else {
            return report_kind(node, expected, report);
        };
        let found = Self::ALL.iter().copied().find(|one| one.word() == text);
        if found.is_none() {
            let words: Vec<&str> = Self::ALL.iter().map(|one| one.word()).collect();
            let finding = report.problem(node, format!("{text:?} is none of {}", quoted(&words)));
            if let Some(near) = nearest(text, words.iter().copied()) {
                finding.hint(format!("did you mean {near:?}?"));
            }
        }
        found
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: Decode> Decode for OneOrMany<T> {
    const EXPECTED: &'static str = "one value or a list of them";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if matches!(node.tree.value, Value::List(_)) {
            Vec::decode(node, report).map(Self)
        } else {
            T::decode(node, report).map(|one| Self(vec![one]))
        }
    }
}

/// A type with defaults and an off state: `true`, `false`, or an object with the particulars.
pub(crate) trait Switch: Decode {
    fn off() -> Self;
}

/// Reads `true`, `false` or an object.
pub(crate) fn switch<T: Switch>(node: &Node<'_>, report: &mut Report) -> Option<T> {
    match node.tree.value {
        Value::Bool(true) => Some(defaults()),
        Value::Bool(false) => Some(T::off()),
        Value::Object(_) => T::decode(node, report),
        Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) => {
            report_kind(node, "true, false or an object", report)
        }
    }
}

/// A type as an empty object gives it. Every key of it has a default.
pub(crate) fn defaults<T: Decode>() -> T {
    let empty = Tree {
        span: 0..0,
        value: Value::Object(Vec::new()),
    };
    T::decode(&Node::root(&empty), &mut Report::default()).expect("every key has a default")
}

/// A value whose key may be left out but may not be `null`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NotNull<T>(pub(crate) Option<T>);

impl<T: Decode> Decode for NotNull<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const NULL_IS_ABSENT: bool = false;

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        T::decode(node, report).map(|value| Self(Some(value)))
    }

    fn absent() -> Option<Self> {
        Some(Self(None))
    }
}

/// Any value at all: a key that is known by name only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Anything;

impl Decode for Anything {
    const EXPECTED: &'static str = "any value";

    fn decode(_node: &Node<'_>, _report: &mut Report) -> Option<Self> {
        Some(Self)
    }
}

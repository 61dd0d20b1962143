//! From the tree to types: every type of the format says how it is read, and every error is kept.
//!
//! Owns the `Decode` trait, scalars, lists and maps. `fields` reads objects and finds unknown keys, `record` declares a
//! type with its keys and their documentation in one place, `shapes` has the forms that many keys share, `report`
//! collects what was found. Leaves what the keys mean to the folder of each concern.
//!
//! One rule for all keys but those of `NotNull`: `null` is the same as leaving the key out.

mod fields;
mod record;
mod report;
mod shapes;

pub(crate) use fields::{Fields, Record, nearest, quoted, report_unknown};
pub(crate) use record::{record, words};
pub(crate) use report::{Finding, Report};
pub use shapes::OneOrMany;
pub(crate) use shapes::{Anything, NotNull, Switch, Word, defaults, switch};

use std::collections::BTreeMap;

use crate::tree::{Node, Value};

/// A type that can be read from a value.
pub(crate) trait Decode: Sized {
    /// What its author may write, for "expected ...".
    const EXPECTED: &'static str;

    /// Reads the value. None: what is wrong was reported.
    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self>;

    /// The value of a key that is left out. None: the key is required.
    fn absent() -> Option<Self> {
        None
    }

    /// Whether `null` is the same as leaving the key out.
    const NULL_IS_ABSENT: bool = true;
}

/// Reports that a value is of the wrong kind.
pub(crate) fn report_kind<T>(node: &Node<'_>, expected: &str, report: &mut Report) -> Option<T> {
    report.problem(node, format!("expected {expected}, found {}", node.kind()));
    None
}

impl Decode for bool {
    const EXPECTED: &'static str = "true or false";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.tree.value {
            Value::Bool(value) => Some(value),
            Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
                report_kind(node, Self::EXPECTED, report)
            }
        }
    }
}

impl Decode for String {
    const EXPECTED: &'static str = "a string";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.text() {
            Some(text) => Some(text.to_owned()),
            None => report_kind(node, Self::EXPECTED, report),
        }
    }
}

impl Decode for model::Secret {
    const EXPECTED: &'static str = "a string";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        String::decode(node, report).map(Self::new)
    }
}

/// Reads a whole number that fits `T`.
fn decode_whole<T: std::str::FromStr>(
    node: &Node<'_>,
    expected: &str,
    report: &mut Report,
) -> Option<T> {
    match &node.tree.value {
        Value::Number(digits) => match digits.parse() {
            Ok(number) => Some(number),
            Err(_) => {
                report.problem(node, format!("expected {expected}, found {digits}"));
                None
            }
        },
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
            report_kind(node, expected, report)
        }
    }
}

impl Decode for u16 {
    const EXPECTED: &'static str = "a whole number from 0 to 65535";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        decode_whole(node, Self::EXPECTED, report)
    }
}

impl Decode for u64 {
    const EXPECTED: &'static str = "a whole number, not negative";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        decode_whole(node, Self::EXPECTED, report)
    }
}

impl<T: Decode> Decode for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if node.is_null() {
            Some(None)
        } else {
            T::decode(node, report).map(Some)
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Decode> Decode for Vec<T> {
    const EXPECTED: &'static str = "a list";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::List(_)) {
            return report_kind(node, Self::EXPECTED, report);
        }
        // Every entry is read, so that every error is found.
        let read: Vec<_> = node
            .items()
            .iter()
            .map(|item| T::decode(item, report))
            .collect();
        read.into_iter().collect()
    }
}

/// A pair, written as a list of two.
impl<T: Decode> Decode for (T, T) {
    const EXPECTED: &'static str = "a list of two";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.items().as_slice() {
            [first, second] => T::decode(first, report).zip(T::decode(second, report)),
            _ => report_kind(node, Self::EXPECTED, report),
        }
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    const EXPECTED: &'static str = "an object";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            return report_kind(node, Self::EXPECTED, report);
        }
        let read: Vec<_> = node
            .members()
            .iter()
            .map(|member| {
                let child = Node {
                    path: node.path_to(&member.key),
                    tree: &member.value,
                };
                T::decode(&child, report).map(|value| (member.key.clone(), value))
            })
            .collect();
        read.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;

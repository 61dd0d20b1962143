//! From the tree to types: every type of the format says how it is read, and every error is kept.
//!
//! Owns the `Decode` trait, scalars, lists and maps. `fields` reads objects and finds unknown keys, `record` declares a
//! type with its keys and their documentation in one place, `shape` is what such a declaration says, `shapes` has the
//! forms that many keys share, `report` collects what was found. Leaves what the keys mean to the folder of each concern.
//!
//! One rule for all keys but those of `NotNull`: `null` is the same as leaving the key out.

mod fields;
mod record;
mod report;
mod shape;
mod shapes;

pub(crate) use fields::{Fields, Record, nearest, quoted, report_unknown};
pub(crate) use record::{record, words};
pub(crate) use report::{Finding, Lacking, Report};
pub(crate) use shape::{Doc, Field, RecordShape, Shape};
pub use shapes::OneOrMany;
pub(crate) use shapes::{Anything, NotNull, Switch, Word, defaults, switch, switches};

use std::collections::BTreeMap;

use crate::json::Json;
use crate::tree::{Node, Value, truth_of};

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

    /// What may be written: whatever `decode` takes fits it.
    fn shape() -> Shape;
}

/// A type that can be written so that reading it gives the same again.
pub(crate) trait Render {
    fn render(&self) -> Json;
}

/// Reports that a value is of the wrong kind.
pub(crate) fn report_kind<T>(node: &Node<'_>, expected: &str, report: &mut Report) -> Option<T> {
    report.problem(node, format!("expected {expected}, found {}", node.kind()));
    None
}

impl Decode for bool {
    const EXPECTED: &'static str = "true or false";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let truth = node.truth();
        if truth.is_none() {
            let found = node.kind();
            let finding =
                report.problem(node, format!("expected {}, found {found}", Self::EXPECTED));
            let meant = node.text().and_then(|text| truth_of(&text.to_lowercase()));
            if let Some(meant) = meant {
                finding.hint(format!("write {meant}, without quotes"));
            }
        }
        truth
    }

    fn shape() -> Shape {
        Shape::Bool
    }
}

impl Render for bool {
    fn render(&self) -> Json {
        Json::Bool(*self)
    }
}

impl Decode for String {
    const EXPECTED: &'static str = "a string";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.text() {
            Some(text) => Some(text.to_owned()),
            None => {
                let finding = report.problem(
                    node,
                    format!("expected {}, found {}", Self::EXPECTED, node.kind()),
                );
                if matches!(node.tree.value, Value::Number(_) | Value::Bool(_)) {
                    // Without the value, which may be a secret.
                    finding.hint("put it in quotes");
                }
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::Text(shape::Text::default())
    }
}

impl Render for String {
    fn render(&self) -> Json {
        Json::text(self)
    }
}

impl Decode for model::Secret {
    const EXPECTED: &'static str = "a string";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        String::decode(node, report).map(Self::new)
    }

    fn shape() -> Shape {
        String::shape()
    }
}

impl Render for model::Secret {
    fn render(&self) -> Json {
        Json::Secret(self.clone())
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
        Value::Text(text) if text.parse::<T>().is_ok() => {
            report
                .problem(node, format!("expected {expected}, found a string"))
                .hint(format!("write {text}, without quotes"));
            None
        }
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
            report_kind(node, expected, report)
        }
    }
}

/// Whole numbers of one width.
macro_rules! whole {
    ($ty:ty, $expected:literal) => {
        impl Decode for $ty {
            const EXPECTED: &'static str = $expected;

            fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
                decode_whole(node, Self::EXPECTED, report)
            }

            fn shape() -> Shape {
                Shape::Whole(u64::from(<$ty>::MAX))
            }
        }

        impl Render for $ty {
            fn render(&self) -> Json {
                Json::from(u64::from(*self))
            }
        }
    };
}

whole!(u16, "a whole number from 0 to 65535");
whole!(u32, "a whole number from 0 to 4294967295");
whole!(u64, "a whole number, not negative");

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

    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Render> Render for Option<T> {
    fn render(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::render)
    }
}

impl<T: Decode> Decode for Vec<T> {
    const EXPECTED: &'static str = "a list";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::List(_)) {
            report_kind::<()>(node, Self::EXPECTED, report);
            let is_entry = match node.tree.value {
                Value::Object(_) => T::EXPECTED.starts_with("an object"),
                Value::Text(_) | Value::Number(_) => !T::EXPECTED.starts_with("a list"),
                Value::Null | Value::Bool(_) | Value::List(_) => false,
            };
            if is_entry {
                report.hint_at(&node.path, "put it in brackets: [...]");
            }
            return None;
        }
        // Every entry is read, so that every error is found.
        let read: Vec<_> = node
            .items()
            .iter()
            .map(|item| T::decode(item, report))
            .collect();
        read.into_iter().collect()
    }

    fn shape() -> Shape {
        T::shape().list()
    }
}

impl<T: Render> Render for Vec<T> {
    fn render(&self) -> Json {
        Json::list(self.iter().map(T::render))
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

    fn shape() -> Shape {
        Shape::Pair(Box::new(T::shape()))
    }
}

impl<T: Render> Render for (T, T) {
    fn render(&self) -> Json {
        Json::list([self.0.render(), self.1.render()])
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

    fn shape() -> Shape {
        T::shape().map()
    }
}

impl<T: Render> Render for BTreeMap<String, T> {
    fn render(&self) -> Json {
        Json::object(self.iter().map(|(key, value)| (key, value.render())))
    }
}

#[cfg(test)]
mod tests;

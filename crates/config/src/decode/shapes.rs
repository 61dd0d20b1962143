//! Forms that many keys share: a word of a few, one or many, on or off or an object.

use super::{Decode, Record, Render, Report, Shape, nearest, quoted, report_kind};
use crate::json::Json;
use crate::tree::{Node, Tree, Value, truth_of};

/// An enum that is written as one of a few words.
pub(crate) trait Word: Copy + Sized + 'static {
    const ALL: &'static [Self];

    fn word(self) -> &'static str;

    fn words_shape() -> Shape;

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

    fn shape() -> Shape {
        Shape::one_of([T::shape(), T::shape().list()])
    }
}

impl<T: Render> Render for OneOrMany<T> {
    fn render(&self) -> Json {
        self.0.render()
    }
}

/// A type with defaults and an off state: `true`, `false`, or an object with the particulars.
pub(crate) trait Switch: Record {
    fn off() -> Self;
}

/// Reads `true`, `false` or an object.
pub(crate) fn switch<T: Switch>(node: &Node<'_>, report: &mut Report) -> Option<T> {
    match (node.truth(), &node.tree.value) {
        (Some(true), _) => Some(defaults()),
        (Some(false), _) => Some(T::off()),
        (None, Value::Object(_)) => T::decode_record(node, report),
        (None, _) => {
            report_kind::<()>(node, "true, false or an object", report);
            if let Some(meant) = node.text().and_then(|text| truth_of(&text.to_lowercase())) {
                report.hint_at(&node.path, format!("write {meant}, without quotes"));
            }
            None
        }
    }
}

/// Declares that a type reads itself as a [`Switch`] does, with checks of its own after that.
macro_rules! switches {
    ($name:ty $(, $check:path)?) => {
        impl $crate::decode::Decode for $name {
            const EXPECTED: &'static str = "true, false or an object";

            fn decode(
                node: &$crate::tree::Node<'_>,
                report: &mut $crate::decode::Report,
            ) -> Option<Self> {
                let read: Self = $crate::decode::switch(node, report)?;
                $( $check(&read, node, report); )?
                Some(read)
            }

            fn shape() -> $crate::decode::Shape {
                $crate::decode::Shape::one_of([
                    $crate::decode::Shape::Bool,
                    <Self as $crate::decode::Record>::object_shape(),
                ])
            }
        }
    };
}

pub(crate) use switches;

/// A type as an empty object gives it. Every key of it has a default.
pub(crate) fn defaults<T: Record>() -> T {
    let empty = Tree::new(0..0, Value::Object(Vec::new()));
    T::decode_record(&Node::root(&empty), &mut Report::default()).expect("every key has a default")
}

/// A value whose key may be left out but may not be `null`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NotNull<T>(pub(crate) T);

impl<T: Decode> Decode for NotNull<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const NULL_IS_ABSENT: bool = false;

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        T::decode(node, report).map(Self)
    }

    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Render> Render for NotNull<T> {
    fn render(&self) -> Json {
        self.0.render()
    }
}

/// Any value at all, kept as it is: a key that is known by name only.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Anything(Json);

impl Decode for Anything {
    const EXPECTED: &'static str = "any value";

    fn decode(node: &Node<'_>, _report: &mut Report) -> Option<Self> {
        Some(Self(node.tree.to_json()))
    }

    fn shape() -> Shape {
        Shape::Any
    }
}

impl Render for Anything {
    fn render(&self) -> Json {
        self.0.clone()
    }
}

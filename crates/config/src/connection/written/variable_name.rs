//! What may be the name of a variable, and the words for values and references in its place.

use crate::decode::{Decode, Render, Report, Shape, report_kind};
use crate::json::Json;
use crate::tree::Node;

/// The name of a variable. Whoever writes the connection string itself is told so, and it is not repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VariableName(pub(super) String);

impl Decode for VariableName {
    const EXPECTED: &'static str = "the name of a variable";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let Some(name) = node.text() else {
            return report_kind(node, Self::EXPECTED, report);
        };
        if looks_like_value(name) {
            report
                .problem(
                    node,
                    "this is a value, and the name of a variable is expected",
                )
                .hint("name the variable that holds it, such as \"DATABASE_URL\"");
            return None;
        }
        if name.contains(['$', '{', '}', '%']) {
            report
                .warning(
                    node,
                    "a variable is named, not referred to: no sign belongs to its name",
                )
                .hint("write \"DATABASE_URL\", not \"$DATABASE_URL\"");
        }
        if name.is_empty() || name.contains(|c: char| c.is_control() || c.is_whitespace()) {
            report.problem(
                node,
                "this is no name of a variable: it is empty or holds a blank",
            );
            return None;
        }
        Some(Self(name.to_owned()))
    }

    fn shape() -> Shape {
        Shape::not_empty("name of a variable")
    }
}

impl Render for VariableName {
    fn render(&self) -> Json {
        Json::text(&self.0)
    }
}

/// Whether a text is a value of a variable rather than its name: a connection string.
pub(super) fn looks_like_value(text: &str) -> bool {
    text.contains("://") || text.contains(['=', '@'])
}

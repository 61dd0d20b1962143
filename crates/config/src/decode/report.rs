//! What was found while a file was read: in the order it was found, each with its place.
//!
//! Leaves lines and columns to `reader`, which has the text.

use crate::diagnostic::Weight;
use crate::text::Span;
use crate::tree::Node;

/// Something to say about a place.
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) span: Span,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
    /// Another place that it is about: where the same was said first.
    pub(crate) also: Option<Span>,
}

impl Finding {
    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn also_at(&mut self, span: &Span) -> &mut Self {
        self.also = Some(span.clone());
        self
    }
}

/// Something that reads well and cannot be done.
pub(crate) struct Lacking {
    pub(crate) path: String,
    /// None where only a default chose it.
    pub(crate) span: Option<Span>,
    pub(crate) effect: String,
    pub(crate) weight: Weight,
}

/// How far back an error is looked for that gets a hint: it has just been found.
const HINTED_MAX: usize = 16;

/// Everything found so far.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Finding>,
    pub(crate) warnings: Vec<Finding>,
    pub(crate) lacking: Vec<Lacking>,
    /// Objects that everybody knows, in words, with their keys: for keys that stand in another object.
    homes: Vec<(&'static str, &'static [&'static str])>,
}

impl Report {
    pub(crate) fn with_homes(homes: Vec<(&'static str, &'static [&'static str])>) -> Self {
        Self {
            homes,
            ..Self::default()
        }
    }

    /// Where a key stands that somebody looked for elsewhere.
    pub(crate) fn home_of(&self, key: &str) -> Option<&'static str> {
        let home = self.homes.iter().find(|(_, keys)| keys.contains(&key));
        home.map(|(home, _)| *home)
    }

    pub(crate) fn problem(&mut self, node: &Node<'_>, text: impl Into<String>) -> &mut Finding {
        self.problem_at(node.path.clone(), &node.tree.span, text)
    }

    pub(crate) fn problem_at(
        &mut self,
        path: String,
        span: &Span,
        text: impl Into<String>,
    ) -> &mut Finding {
        push(&mut self.problems, path, span, text.into())
    }

    /// Two keys of which one may be given.
    pub(crate) fn exclusive(&mut self, place: &Node<'_>, first: &str, second: &str) {
        self.problem(
            place,
            format!("{first:?} and {second:?} exclude each other"),
        )
        .hint("keep one of them");
    }

    pub(crate) fn warning(&mut self, node: &Node<'_>, text: impl Into<String>) -> &mut Finding {
        push(
            &mut self.warnings,
            node.path.clone(),
            &node.tree.span,
            text.into(),
        )
    }

    /// Adds what its author can do to an error of `path` that says nothing of it.
    pub(crate) fn hint_at(&mut self, path: &str, hint: impl Into<String>) {
        let found = self.problems.iter_mut().rev();
        if let Some(problem) = found.take(HINTED_MAX).find(|problem| problem.path == path) {
            problem.hint = Some(hint.into());
        }
    }

    /// The file chose something that this version cannot do.
    pub(crate) fn lacks(&mut self, node: &Node<'_>, weight: Weight, effect: impl Into<String>) {
        self.lacking.push(Lacking {
            path: node.path.clone(),
            span: Some(node.tree.span.clone()),
            effect: effect.into(),
            weight,
        });
    }

    /// A default chose something that this version cannot do: a run goes on.
    pub(crate) fn default_lacks(&mut self, path: &str, effect: &str) {
        self.lacking.push(Lacking {
            path: path.to_owned(),
            span: None,
            effect: effect.to_owned(),
            weight: Weight::Told,
        });
    }
}

fn push<'r>(
    list: &'r mut Vec<Finding>,
    path: String,
    span: &Span,
    text: String,
) -> &'r mut Finding {
    list.push(Finding {
        path,
        span: span.clone(),
        text,
        hint: None,
        also: None,
    });
    list.last_mut().expect("just pushed")
}

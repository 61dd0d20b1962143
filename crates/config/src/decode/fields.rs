//! Objects: their keys are read by name, and the names nobody asked for are errors.

use super::{Decode, RecordShape, Report, Shape, report_kind};
use crate::diagnostic::ERRORS_MAX;
use crate::tree::{Member, Node, Value, shorten};

/// A type whose keys are known.
pub(crate) trait Record: Sized {
    /// The type's name.
    const NAME: &'static str;

    const KEYS: &'static [&'static str];

    fn record_shape() -> RecordShape;

    /// Reads an object. None: what is wrong was reported.
    fn decode_record(node: &Node<'_>, report: &mut Report) -> Option<Self>;

    fn object_shape() -> Shape {
        Shape::Record(Box::new(Self::record_shape()))
    }
}

/// Bytes of a name for which the nearest is looked for at most: the effort grows with its length.
const MISSPELT_BYTES_MAX: usize = 64;

/// Keys that a hint lists at most: more would hide the hint.
const LISTED_KEYS_MAX: usize = 12;

/// An object that is being read.
pub(crate) struct Fields<'n, 't> {
    node: &'n Node<'t>,
    known: &'static [&'static str],
}

impl<'n, 't> Fields<'n, 't> {
    /// Opens an object whose keys `R` declares, and reports every other key.
    pub(crate) fn open<R: Record>(node: &'n Node<'t>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            return report_kind(node, "an object", report);
        }
        for member in node.members() {
            if !R::KEYS.contains(&member.key.as_str()) {
                report_unknown(node, member, R::KEYS, report);
            }
        }
        Some(Self {
            node,
            known: R::KEYS,
        })
    }

    /// Reads a key. None: it is wrong, or missing though required; both were reported.
    pub(crate) fn take<T: Decode>(&self, key: &str, report: &mut Report) -> Option<T> {
        let value = self.node.get(key);
        match value.filter(|value| !(T::NULL_IS_ABSENT && value.is_null())) {
            Some(value) => T::decode(&value, report),
            None => T::absent().or_else(|| {
                self.report_missing(key, T::EXPECTED, report);
                None
            }),
        }
    }

    /// Says nothing where the key is there under a misspelt name: that was said.
    fn report_missing(&self, key: &str, expected: &str, report: &mut Report) {
        let is_misspelt = self.node.members().iter().any(|member| {
            !self.known.contains(&member.key.as_str())
                && nearest(&member.key, self.known.iter().copied()) == Some(key)
        });
        if !is_misspelt {
            let start = self.node.tree.span.start;
            report
                .problem_at(
                    self.node.path.clone(),
                    &(start..start + 1),
                    format!("the key {key:?} is missing"),
                )
                .hint(format!("add {key:?}: {expected}"));
        }
    }

    /// Reads a key that has a default.
    pub(crate) fn take_or_default<T: Decode>(
        &self,
        key: &str,
        default: impl FnOnce() -> T,
        report: &mut Report,
    ) -> Option<T> {
        let value = self.node.get(key);
        match value.filter(|value| !(T::NULL_IS_ABSENT && value.is_null())) {
            Some(value) => T::decode(&value, report),
            None => Some(default()),
        }
    }

    /// Reads a key that has a default, by `read`.
    pub(crate) fn take_or<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Node<'_>, &mut Report) -> Option<T>,
        default: impl FnOnce() -> T,
        report: &mut Report,
    ) -> Option<T> {
        match self.node.given(key) {
            Some(value) => read(&value, report),
            None => Some(default()),
        }
    }
}

/// Reports a key that the object does not have, with the nearest that it has.
pub(crate) fn report_unknown(
    node: &Node<'_>,
    member: &Member,
    known: &[&str],
    report: &mut Report,
) {
    let key = &member.key;
    let object = if node.path.is_empty() {
        "the file".to_owned()
    } else {
        format!("\"{}\"", node.path)
    };
    // Of a file with thousands of unknown keys only the first are shown: the rest need no hint.
    let hint = (report.problems.len() < ERRORS_MAX)
        .then(|| hint_for(key, known, report))
        .flatten();
    let text = format!("{object} has no key {:?}", shorten(key));
    report
        .problem_at(node.path_to(key), &member.key_span, text)
        .hint = hint;
}

fn hint_for(key: &str, known: &[&str], report: &Report) -> Option<String> {
    if let Some(near) = nearest(key, known.iter().copied()) {
        return Some(format!("did you mean {near:?}?"));
    }
    if let Some(home) = report.home_of(key) {
        return Some(format!("{key:?} stands {home}"));
    }
    (known.len() <= LISTED_KEYS_MAX).then(|| format!("its keys are {}", quoted(known)))
}

/// The names, each in quotes, with commas.
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}

/// The candidate that `name` was probably meant to be: at most a third of it has to be changed.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    if name.len() > MISSPELT_BYTES_MAX {
        return None;
    }
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::osa_distance(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(name.len()).max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

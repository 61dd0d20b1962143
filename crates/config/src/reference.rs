//! Every key of the format with what is known of it, and the pages that are made of that.
//!
//! Owns the walk over the shapes and the text of docs/configuration.md. A test keeps the published page in step.

mod page;

use std::collections::BTreeMap;

use crate::decode::{Field, RecordShape, Shape};
use crate::json::Json;
use crate::support::{self, Standing};
use crate::{overrides, root};

pub use page::configuration_page;

/// A key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    /// Such as `feature.db_branches[].copy.mode`; `{}` stands for any key of an object.
    pub(crate) path: String,
    /// Which object it belongs to, where its path leads to several.
    pub(crate) within: Option<String>,
    /// Which branch it is a key of, near or far.
    pub(crate) branch: Option<String>,
    pub(crate) text: String,
    pub(crate) kind: String,
    pub(crate) is_required: bool,
    pub(crate) default: Option<Json>,
    /// As JSON.
    pub(crate) example: Option<String>,
    /// Words with their meanings, where it is a choice of words.
    pub(crate) words: Vec<(&'static str, String)>,
    pub(crate) standing: Standing,
    /// What happens instead.
    pub(crate) effect: &'static str,
    /// Variables of the environment that set it.
    pub(crate) variables: Vec<&'static str>,
    /// Where its own keys are, if they stand elsewhere as well.
    pub(crate) same_as: Option<String>,
}

/// Every key, parents before their own. An object that stands in several places has its keys at the first.
pub(crate) fn keys() -> Vec<Key> {
    let mut walk = Walk::default();
    walk.shape(&root::shape(), "", None);
    walk.keys
}

#[derive(Default)]
struct Walk {
    keys: Vec<Key>,
    /// Where each object was met first, by its name.
    places: BTreeMap<String, String>,
    /// The branch that is walked through.
    branch: Option<String>,
}

impl Walk {
    fn shape(&mut self, shape: &Shape, path: &str, within: Option<&str>) {
        match shape {
            Shape::Any
            | Shape::Bool
            | Shape::Whole(_)
            | Shape::Text(_)
            | Shape::Words(_)
            | Shape::Pair(_) => {}
            Shape::List(inner) => self.shape(inner, &format!("{path}[]"), within),
            Shape::Map(inner) => self.shape(inner, &format!("{path}.{{}}"), within),
            Shape::Record(record) => self.record(record, path, within),
            Shape::OneOf(shapes) => self.alternatives(shapes, path, within),
        }
    }

    fn alternatives(&mut self, shapes: &[Shape], path: &str, within: Option<&str>) {
        let is_record = |shape: &&Shape| matches!(shape, Shape::Record(_));
        let records = shapes.iter().filter(is_record).count();
        for one in shapes {
            if let Shape::Record(record) = one
                && records > 1
            {
                self.record(record, path, Some(&title(record)));
            } else {
                self.shape(one, path, within);
            }
        }
    }

    fn record(&mut self, record: &RecordShape, path: &str, within: Option<&str>) {
        if let Some(first) = self.places.get(&record.name) {
            let first = first.clone();
            if let Some(key) = self.keys.iter_mut().rev().find(|key| key.path == path) {
                key.same_as.get_or_insert(first);
            }
            return;
        }
        self.places.insert(record.name.clone(), path.to_owned());
        let is_branch = path.ends_with("db_branches[]");
        if is_branch {
            self.branch = within.map(str::to_owned);
        }
        for field in &record.fields {
            let own = if path.is_empty() {
                field.key.to_owned()
            } else {
                format!("{path}.{}", field.key)
            };
            self.keys.push(Key {
                branch: self.branch.clone(),
                ..key_of(field, &own, within)
            });
            self.shape(&field.shape, &own, None);
        }
        if is_branch {
            self.branch = None;
        }
    }
}

/// What tells an object from others in its place: the one word of its `type`, or its own words.
fn title(record: &RecordShape) -> String {
    let told = record.fields.iter().find_map(|field| {
        let is_one = matches!(field.key, "type" | "flavor") && field.shape.words().len() == 1;
        let (word, _) = field.shape.words().first().filter(|_| is_one)?;
        Some(format!("`{}: {word:?}`", field.key))
    });
    told.unwrap_or_else(|| {
        let first = record.doc.text.split(['.', ':']).next().unwrap_or_default();
        let mut chars = first.chars();
        let initial = chars.next().map(|c| c.to_lowercase().to_string());
        format!("{}{}", initial.unwrap_or_default(), chars.as_str())
    })
}

fn key_of(field: &Field, path: &str, within: Option<&str>) -> Key {
    let support = support::of(path);
    Key {
        path: path.to_owned(),
        within: within.map(str::to_owned),
        branch: None,
        text: field.doc.text.clone(),
        kind: field.shape.describe(),
        is_required: field.is_required,
        default: field.default.clone(),
        example: field
            .doc
            .examples
            .first()
            .cloned()
            .or_else(|| example_of(&field.shape, field.default.as_ref())),
        words: words_of(&field.shape),
        standing: support.map_or(Standing::Used, |support| support.standing),
        effect: support.map_or("", |support| support.effect),
        variables: overrides::variables_of(path),
        same_as: None,
    }
}

fn words_of(shape: &Shape) -> Vec<(&'static str, String)> {
    if let Shape::OneOf(shapes) = shape {
        return shapes.iter().flat_map(words_of).collect();
    }
    let words = shape.words();
    if words.len() > 1 {
        words.to_vec()
    } else {
        Vec::new()
    }
}

/// A value that says something: other than the default.
fn example_of(shape: &Shape, default: Option<&Json>) -> Option<String> {
    if *shape == Shape::Bool {
        let is_on = default == Some(&Json::Bool(true));
        return Some((!is_on).to_string());
    }
    let mut words = shape.words().iter().map(|(word, _)| *word);
    let other = words.find(|word| default != Some(&Json::from(*word)))?;
    Some(format!("{other:?}"))
}

#[cfg(test)]
mod tests;

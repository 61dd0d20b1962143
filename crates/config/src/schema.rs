//! The JSON Schema (draft 2020-12) of a configuration file, for editors: whatever the reader takes fits it.
//!
//! Made of the same declarations as the reader. Objects are named once under `$defs`; a key's words are its hover text.

use std::collections::BTreeMap;

use crate::decode::{Doc, Field, RecordShape, Shape};
use crate::json::Json;
use crate::root;
use crate::support::{self, Standing};

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of a configuration file.
pub fn schema() -> Json {
    let mut definitions = Definitions::default();
    let Shape::Record(root) = root::shape() else {
        return Json::Null;
    };
    let root = definitions.object(&root, "");
    let Json::Object(members) = root else {
        return Json::Null;
    };
    let head = [
        ("$schema".to_owned(), Json::from(DIALECT)),
        ("title".to_owned(), Json::from("Bough configuration")),
    ];
    let definitions = Json::object(definitions.0);
    let tail = [("$defs".to_owned(), definitions)];
    Json::Object(head.into_iter().chain(members).chain(tail).collect())
}

/// Objects by name.
#[derive(Default)]
struct Definitions(BTreeMap<String, Json>);

impl Definitions {
    /// The schema of `shape`, which stands at `path`.
    fn of(&mut self, shape: &Shape, path: &str) -> Json {
        match shape {
            Shape::Any => Json::Object(Vec::new()),
            Shape::Bool => Json::object([("type", Json::from("boolean"))]),
            Shape::Whole(most) => {
                let mut members = vec![("type", Json::from("integer")), ("minimum", Json::from(0))];
                if *most < u64::MAX {
                    members.push(("maximum", Json::from(*most)));
                }
                Json::object(members)
            }
            Shape::Text(text) => {
                let mut members = vec![("type", Json::from("string"))];
                members.extend(text.pattern.map(|pattern| ("pattern", Json::from(pattern))));
                Json::object(members)
            }
            Shape::Words(words) => words_of(words),
            Shape::List(inner) => Json::object([
                ("type", Json::from("array")),
                ("items", self.of(inner, &format!("{path}[]"))),
            ]),
            Shape::Pair(inner) => Json::object([
                ("type", Json::from("array")),
                ("items", self.of(inner, path)),
                ("minItems", Json::from(2)),
                ("maxItems", Json::from(2)),
            ]),
            Shape::Map(inner) => Json::object([
                ("type", Json::from("object")),
                ("additionalProperties", self.of(inner, path)),
            ]),
            Shape::Record(record) => {
                if !self.0.contains_key(&record.name) {
                    // The name first: the object may hold itself one day.
                    self.0.insert(record.name.clone(), Json::Null);
                    let object = self.object(record, path);
                    self.0.insert(record.name.clone(), object);
                }
                let pointer = format!("#/$defs/{}", record.name);
                Json::object([("$ref", Json::text(pointer))])
            }
            Shape::OneOf(shapes) => {
                let shapes: Vec<Json> = shapes.iter().map(|one| self.of(one, path)).collect();
                Json::object([("anyOf", Json::list(shapes))])
            }
        }
    }

    fn object(&mut self, record: &RecordShape, path: &str) -> Json {
        let mut properties = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let path = if path.is_empty() {
                field.key.to_owned()
            } else {
                format!("{path}.{}", field.key)
            };
            properties.push((field.key, self.property(field, &path)));
        }
        let required: Vec<Json> = record
            .fields
            .iter()
            .filter(|field| field.is_required)
            .map(|field| Json::from(field.key))
            .collect();
        let mut members = described(&record.doc, None);
        members.push(("type", Json::from("object")));
        members.push(("properties", Json::object(properties)));
        if !required.is_empty() {
            members.push(("required", Json::list(required)));
        }
        members.push(("additionalProperties", Json::from(false)));
        Json::object(members)
    }

    fn property(&mut self, field: &Field, path: &str) -> Json {
        let mut members = described(&field.doc, Some(path));
        let value = self.of(&field.shape, path);
        let value = if field.is_nullable && !field.is_required && field.shape != Shape::Any {
            or_null(value)
        } else {
            value
        };
        if let Json::Object(own) = value {
            for (key, value) in own {
                members.push((keyword(&key), value));
            }
        }
        // An object's defaults are those of its keys.
        if let Some(default) = field
            .default
            .as_ref()
            .filter(|default| !matches!(default, Json::Null | Json::Object(_)))
        {
            members.push(("default", default.clone()));
        }
        if !field.doc.examples.is_empty() {
            let examples = field.doc.examples.iter().filter_map(|text| parse(text));
            members.push(("examples", Json::list(examples)));
        }
        Json::object(members)
    }
}

/// The keywords that schemas are made of here.
fn keyword(key: &str) -> &'static str {
    const KEYWORDS: [&str; 13] = [
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "oneOf",
        "pattern",
        "type",
        "description",
    ];
    KEYWORDS
        .into_iter()
        .find(|known| *known == key)
        .expect("the keyword is one of those made here")
}

/// The hover text: what the key says, and what becomes of it where that is not all.
fn described(doc: &Doc, path: Option<&str>) -> Vec<(&'static str, Json)> {
    let mut text = doc.text.clone();
    if let Some(support) = path.and_then(support::of) {
        let standing = match support.standing {
            Standing::Used => "",
            Standing::NotInForce | Standing::NoEffect => "In Bough: ",
            Standing::Refused => "Refused by `bough exec`: ",
        };
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&format!("{standing}{}.", support.effect));
    }
    if text.is_empty() {
        Vec::new()
    } else {
        vec![("description", Json::text(text))]
    }
}

fn or_null(schema: Json) -> Json {
    let null = || Json::object([("type", Json::from("null"))]);
    let alternatives = match schema.get("anyOf") {
        Some(Json::List(list)) => list.clone(),
        Some(_) | None => vec![schema],
    };
    let alternatives = alternatives.into_iter().chain([null()]);
    Json::object([("anyOf", Json::list(alternatives))])
}

/// Words with a meaning are named one by one, so that editors show it.
fn words_of(words: &[(&'static str, String)]) -> Json {
    let word = |(word, meaning): &(&'static str, String)| {
        let mut members = vec![("const", Json::from(*word))];
        if !meaning.is_empty() {
            members.push(("description", Json::text(meaning)));
        }
        Json::object(members)
    };
    match words {
        [one] => Json::object([("const", Json::from(one.0))]),
        several => Json::object([("oneOf", Json::list(several.iter().map(word)))]),
    }
}

/// A JSON text as a value.
fn parse(example: &str) -> Option<Json> {
    let tree = crate::format::Format::Json.parse(example).ok()?;
    Some(tree.to_json())
}

#[cfg(test)]
mod tests;

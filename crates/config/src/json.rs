//! JSON that is written, not read: objects keep the order they were made in, and secrets are masked.
//!
//! What the resolved configuration, the schema and the defaults of the reference are made of.

use model::Secret;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// What stands for a secret.
const MASK: &str = "***";

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, by its digits.
    Number(String),
    /// A string.
    Text(String),
    /// A string that is written as `***`, unless all is revealed.
    Secret(Secret),
    /// A list.
    List(Vec<Json>),
    /// An object, in the order of its making.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// An object of `members`.
    pub(crate) fn object<K: Into<String>>(members: impl IntoIterator<Item = (K, Json)>) -> Self {
        Self::Object(
            members
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn list(items: impl IntoIterator<Item = Json>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// The value of a key of an object.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members
                .iter()
                .find_map(|(name, value)| (name == key).then_some(value)),
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::Secret(_)
            | Self::List(_) => None,
        }
    }

    /// The same with its secrets as plain texts: for whoever reads it back, never for a screen or a log.
    pub fn reveal(&self) -> Self {
        match self {
            Self::Secret(secret) => Self::text(secret.reveal()),
            Self::List(items) => Self::list(items.iter().map(Self::reveal)),
            Self::Object(members) => Self::object(
                members
                    .iter()
                    .map(|(key, value)| (key.clone(), value.reveal())),
            ),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => self.clone(),
        }
    }
}

impl From<bool> for Json {
    fn from(on: bool) -> Self {
        Self::Bool(on)
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string())
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(on) => serializer.serialize_bool(*on),
            Self::Number(digits) => serialize_number(digits, serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Secret(_) => serializer.serialize_str(MASK),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(members) => {
                let mut object = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    object.serialize_entry(key, value)?;
                }
                object.end()
            }
        }
    }
}

fn serialize_number<S: Serializer>(digits: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if let Ok(whole) = digits.parse::<u64>() {
        serializer.serialize_u64(whole)
    } else if let Ok(negative) = digits.parse::<i64>() {
        serializer.serialize_i64(negative)
    } else {
        match digits.parse::<f64>() {
            Ok(float) => serializer.serialize_f64(float),
            Err(_) => serializer.serialize_str(digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_order_and_secrets_stay_hidden() {
        let json = Json::object([
            ("b", Json::from(1)),
            ("a", Json::Secret(Secret::new("hunter2"))),
            (
                "c",
                Json::list([
                    Json::Null,
                    Json::from(true),
                    Json::Number("1.50".to_owned()),
                ]),
            ),
        ]);
        let shown = serde_json::to_string(&json).expect("JSON can be written");
        assert_eq!(shown, r#"{"b":1,"a":"***","c":[null,true,1.5]}"#);
        assert!(!format!("{json:?}").contains("hunter2"));
        let revealed = serde_json::to_string(&json.reveal()).expect("JSON can be written");
        assert!(revealed.contains("hunter2"));
    }
}

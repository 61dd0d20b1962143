//! What may be written under a key, as data: the one description that the schema and the reference are made of.
//!
//! A type says its shape beside the function that reads it. Leaves drawing it to `schema` and `reference`.

use crate::json::Json;

/// What may be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Anything: the value is not used.
    Any,
    /// `true` or `false`.
    Bool,
    /// A whole number from 0 to this.
    Whole(u64),
    /// A string.
    Text(Text),
    /// One of these words, each with what it means.
    Words(Vec<(&'static str, String)>),
    /// A list of these.
    List(Box<Shape>),
    /// A list of two.
    Pair(Box<Shape>),
    /// An object with any keys and these values.
    Map(Box<Shape>),
    /// An object with known keys.
    Record(Box<RecordShape>),
    /// Any of these.
    OneOf(Vec<Shape>),
}

/// A string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// What it is, where it is more than a string.
    pub(crate) what: Option<&'static str>,
    /// A pattern (ECMA 262) that every accepted string matches.
    pub(crate) pattern: Option<&'static str>,
}

/// An object with known keys.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RecordShape {
    /// The type's name: equal names are equal shapes.
    pub(crate) name: String,
    pub(crate) doc: Doc,
    pub(crate) fields: Vec<Field>,
}

/// A key of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) doc: Doc,
    pub(crate) shape: Shape,
    pub(crate) is_required: bool,
    /// Whether `null` is the same as leaving it out.
    pub(crate) is_nullable: bool,
    /// What holds where it is left out.
    pub(crate) default: Option<Json>,
}

/// The words of a declaration, without its examples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Doc {
    pub(crate) text: String,
    /// Values as JSON, from lines such as ``Example: `"16"` ``.
    pub(crate) examples: Vec<String>,
}

impl Doc {
    /// Takes the lines of a doc comment.
    pub(crate) fn of(lines: &[&str]) -> Self {
        let mut doc = Self::default();
        let mut paragraphs = vec![String::new()];
        for line in lines {
            let line = line.trim();
            if let Some(example) = line.strip_prefix("Example: ") {
                doc.examples.push(example.trim_matches('`').to_owned());
            } else if line.is_empty() {
                paragraphs.push(String::new());
            } else {
                let paragraph = paragraphs.last_mut().expect("there is always one");
                if !paragraph.is_empty() {
                    paragraph.push(' ');
                }
                paragraph.push_str(line);
            }
        }
        paragraphs.retain(|paragraph| !paragraph.is_empty());
        doc.text = paragraphs.join("\n\n");
        doc
    }
}

impl Shape {
    pub(crate) fn text(what: &'static str) -> Self {
        Self::Text(Text {
            what: Some(what),
            pattern: None,
        })
    }

    /// A string that is not empty.
    pub(crate) fn not_empty(what: &'static str) -> Self {
        Self::Text(Text {
            what: Some(what),
            pattern: Some("^[\\s\\S]"),
        })
    }

    /// Any of these; of shapes within each other none is named twice.
    pub(crate) fn one_of(shapes: impl IntoIterator<Item = Shape>) -> Self {
        let mut flat: Vec<Shape> = Vec::new();
        for shape in shapes {
            let inner = if let Self::OneOf(inner) = shape {
                inner
            } else {
                vec![shape]
            };
            for one in inner {
                if !flat.contains(&one) {
                    flat.push(one);
                }
            }
        }
        Self::OneOf(flat)
    }

    /// The words of a choice; none of any other shape.
    pub(crate) fn words(&self) -> &[(&'static str, String)] {
        if let Self::Words(words) = self {
            words
        } else {
            &[]
        }
    }

    /// The same with one word alone under `key`: of several objects it says which one this is.
    pub(crate) fn with_word(mut self, key: &str, word: &'static str) -> Self {
        if let Self::Record(record) = &mut self {
            for field in record.fields.iter_mut().filter(|field| field.key == key) {
                let words = field.shape.words();
                let own = words.iter().find(|(own, _)| *own == word).cloned();
                field.shape = Self::Words(vec![own.unwrap_or((word, String::new()))]);
                field.is_nullable = false;
                field.doc.examples = vec![format!("{word:?}")];
            }
        }
        self
    }

    pub(crate) fn list(self) -> Self {
        Self::List(Box::new(self))
    }

    pub(crate) fn map(self) -> Self {
        Self::Map(Box::new(self))
    }

    /// What to call it in a table: `true or false`, `string`, `object`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Any => "anything".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Whole(u64::MAX) => "whole number".to_owned(),
            Self::Whole(most) => format!("whole number up to {most}"),
            Self::Text(text) => text.what.unwrap_or("string").to_owned(),
            Self::Words(words) => {
                let words: Vec<String> = words
                    .iter()
                    .map(|(word, _)| format!("`{word:?}`"))
                    .collect();
                words.join(", ")
            }
            Self::List(inner) => {
                format!("list of {}", inner.describe_many())
            }
            Self::Pair(inner) => format!("[{0}, {0}]", inner.describe()),
            Self::Map(inner) => format!("object of {}", inner.describe_many()),
            Self::Record(_) => "object".to_owned(),
            Self::OneOf(shapes) => {
                let mut described: Vec<String> = Vec::new();
                for one in shapes.iter().map(Self::describe) {
                    if !described.contains(&one) {
                        described.push(one);
                    }
                }
                described.join("; or ")
            }
        }
    }

    fn describe_many(&self) -> String {
        match self {
            Self::Record(_) => "objects".to_owned(),
            Self::Text(Text { what: None, .. }) => "strings".to_owned(),
            Self::Whole(_) => "whole numbers".to_owned(),
            Self::OneOf(_) => match self.describe().as_str() {
                "object" => "objects".to_owned(),
                several => format!("({several})"),
            },
            Self::Any
            | Self::Bool
            | Self::Text(_)
            | Self::Words(_)
            | Self::List(_)
            | Self::Pair(_)
            | Self::Map(_) => self.describe(),
        }
    }
}

//! Which format a file has, and reading it into a tree.
//!
//! Owns the choice by extension. `json` reads JSON; YAML and TOML are named and refused until they are read.

mod json;

use std::path::Path;

use crate::text::Span;
use crate::tree::Tree;

/// A format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// RFC 8259, with comments and trailing commas allowed.
    Json,
}

/// A file whose format is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// A format that is planned.
    #[error("{name} files are not read yet: see docs/roadmap.md")]
    Planned {
        /// The format's name.
        name: &'static str,
    },
    /// An extension that means nothing here.
    #[error("the extension {0:?} is not that of a configuration file")]
    Unknown(String),
}

/// A text that is not what its format asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) span: Span,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

impl Format {
    /// The format of a file by its extension; none means JSON.
    pub(crate) fn of(path: &Path) -> Result<Self, FormatError> {
        let Some(extension) = path.extension() else {
            return Ok(Self::Json);
        };
        match extension.to_string_lossy().as_ref() {
            "json" => Ok(Self::Json),
            "yaml" | "yml" => Err(FormatError::Planned { name: "YAML" }),
            "toml" => Err(FormatError::Planned { name: "TOML" }),
            other => Err(FormatError::Unknown(other.to_owned())),
        }
    }

    /// Reads `text`.
    pub(crate) fn parse(self, text: &str) -> Result<Tree, SyntaxError> {
        match self {
            Self::Json => json::parse(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        assert_eq!(Format::of(Path::new("a/b.json")), Ok(Format::Json));
        assert_eq!(Format::of(Path::new("a.b/mirrord")), Ok(Format::Json));
        for planned in ["a.yaml", "a.yml", "a.toml"] {
            assert!(
                matches!(
                    Format::of(Path::new(planned)),
                    Err(FormatError::Planned { .. })
                ),
                "{planned}"
            );
        }
        for unknown in ["a.json5", "a.jsonc", "a.JSON", "a.txt"] {
            assert!(
                matches!(Format::of(Path::new(unknown)), Err(FormatError::Unknown(_))),
                "{unknown}"
            );
        }
    }
}

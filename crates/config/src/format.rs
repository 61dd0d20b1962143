//! Which format a file has, and reading it into a tree.
//!
//! Owns the choice by extension, and what all formats have in common: no byte order mark is needed, and nothing is
//! nested deeper than [`NESTING_MAX`]. `json`, `yaml` and `toml` read theirs.

mod json;
mod toml;
mod yaml;

use std::path::Path;

use crate::text::Span;
use crate::tree::Tree;

/// Lists and objects within each other at most: no configuration comes near, and each costs stack.
const NESTING_MAX: usize = 128;

/// A format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// RFC 8259, with comments and trailing commas allowed.
    Json,
    /// YAML 1.2, with merge keys and with the truth values of 1.1.
    Yaml,
    /// TOML 1.1.
    Toml,
}

/// An extension that means nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the extension {0:?} is not that of a configuration file")]
pub(crate) struct FormatError(String);

impl FormatError {
    pub(crate) const HINT: &'static str = "expected .json (comments and trailing commas are allowed), .yaml, .yml, .toml, or none for JSON";
}

/// A text that is not what its format asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) span: Span,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

impl SyntaxError {
    fn too_deep(span: Span) -> Self {
        Self {
            span,
            text: "the file is nested too deeply".to_owned(),
            hint: None,
        }
    }
}

impl Format {
    /// The format of a file by its extension; none means JSON.
    pub(crate) fn of(path: &Path) -> Result<Self, FormatError> {
        let Some(extension) = path.extension() else {
            return Ok(Self::Json);
        };
        match extension.to_string_lossy().as_ref() {
            "json" => Ok(Self::Json),
            "yaml" | "yml" => Ok(Self::Yaml),
            "toml" => Ok(Self::Toml),
            other => Err(FormatError(other.to_owned())),
        }
    }

    /// Reads `text`.
    pub(crate) fn parse(self, text: &str) -> Result<Tree, SyntaxError> {
        match self {
            Self::Json => json::parse(text),
            Self::Yaml => yaml::parse(text),
            Self::Toml => toml::parse(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        for (path, format) in [
            ("a/b.json", Format::Json),
            ("a.b/mirrord", Format::Json),
            ("-", Format::Json),
            ("a.yaml", Format::Yaml),
            ("a.yml", Format::Yaml),
            ("a.toml", Format::Toml),
        ] {
            assert_eq!(Format::of(Path::new(path)), Ok(format), "{path}");
        }
        for unknown in ["a.json5", "a.jsonc", "a.JSON", "a.txt"] {
            assert!(Format::of(Path::new(unknown)).is_err(), "{unknown}");
        }
    }
}

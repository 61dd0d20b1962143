//! Named sources: databases that branches are made from without a target.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{PgMajor, Secret};

/// Bytes that a source's name may have at most.
pub const SOURCE_NAME_BYTES_MAX: usize = 63;

/// The name of a source: 1 to [`SOURCE_NAME_BYTES_MAX`] of letters, digits, `-`, `_` and `.`, a letter or digit first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9][-_.A-Za-z0-9]{0,62}$")]
pub struct SourceName(String);

/// A text that cannot name a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a source: 1 to {SOURCE_NAME_BYTES_MAX} letters, digits, '-', '_' and '.', a letter or digit first"
)]
pub struct SourceNameError(pub String);

impl SourceName {
    /// Checks and takes `text`.
    ///
    /// # Errors
    /// [`SourceNameError`] when it breaks the rule above.
    pub fn new(text: impl Into<String>) -> Result<Self, SourceNameError> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let well_formed = (1..=SOURCE_NAME_BYTES_MAX).contains(&text.len())
            && text.chars().all(allowed)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if well_formed {
            Ok(Self(text))
        } else {
            Err(SourceNameError(text))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SourceName {
    type Error = SourceNameError;

    fn try_from(text: String) -> Result<Self, SourceNameError> {
        Self::new(text)
    }
}

impl std::str::FromStr for SourceName {
    type Err = SourceNameError;

    fn from_str(text: &str) -> Result<Self, SourceNameError> {
        Self::new(text)
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> Self {
        name.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddSource {
    /// Its connection string, with the password.
    pub url: Secret,
}

/// Everything told of a source; no secret in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    /// Its name.
    pub name: SourceName,
    /// Its connection string, password hidden.
    pub url: String,
    /// The database that its URL leads to, as the server names it.
    pub database: String,
    /// The user that its URL leads to, as the server names it.
    pub user: String,
    /// Its major version when it was added.
    pub version: PgMajor,
    /// Its cluster's system identifier.
    pub system_identifier: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Timestamp,
}

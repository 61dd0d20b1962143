//! Major versions of PostgreSQL.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The oldest major version that Bough serves.
pub const PG_MAJOR_MIN: u16 = 15;

/// A major version of PostgreSQL, such as 16.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = u16, minimum = 15)]
pub struct PgMajor(pub u16);

/// A text that names no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not begin with a PostgreSQL major version, such as 16, 16.4 or 16-bookworm")]
pub struct VersionError(pub String);

impl PgMajor {
    /// The major version that an image tag or version text begins with: `16`, `16.4`, `16-bookworm`.
    ///
    /// # Errors
    /// [`VersionError`] when the text does not begin with a number, or goes on with anything but `.` or `-`.
    pub fn from_tag(tag: &str) -> Result<Self, VersionError> {
        let digits = tag.len() - tag.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = tag.split_at(digits);
        let ends_well = rest.is_empty() || rest.starts_with(['.', '-']);
        match number.parse() {
            Ok(major) if ends_well => Ok(Self(major)),
            Ok(_) | Err(_) => Err(VersionError(tag.to_owned())),
        }
    }

    /// The major version of a `server_version_num`, such as 160014.
    pub fn from_server_version_num(number: u32) -> Self {
        Self(u16::try_from(number / 10_000).unwrap_or(u16::MAX))
    }
}

impl fmt::Display for PgMajor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for PgMajor {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::from_tag(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_begin_with_a_major_version() {
        for (tag, major) in [
            ("16", 16),
            ("16.4", 16),
            ("17-bookworm", 17),
            ("18.1-alpine3.20", 18),
        ] {
            assert_eq!(PgMajor::from_tag(tag), Ok(PgMajor(major)), "{tag}");
        }
        for bad in ["", "latest", "v16", "16beta1", "99999999"] {
            assert!(PgMajor::from_tag(bad).is_err(), "{bad}");
        }
        assert_eq!(PgMajor::from_server_version_num(160_014), PgMajor(16));
    }
}

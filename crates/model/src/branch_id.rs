//! What a branch is called: the id its owner chose, the namespace it lives in, and the resource name made of both.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checked_text::checked_text;

/// Bytes that an id may have at most.
pub const BRANCH_ID_BYTES_MAX: usize = 253;

/// Bytes that a namespace may have at most: a DNS label (RFC 1123 section 2.1).
pub const NAMESPACE_BYTES_MAX: usize = 63;

/// The namespace of whoever names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Why a text cannot be an id or a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The id is empty.
    #[error("a branch id may not be empty")]
    EmptyId,
    /// The id is longer than [`BRANCH_ID_BYTES_MAX`].
    #[error("a branch id has at most {BRANCH_ID_BYTES_MAX} bytes, this one has {0}")]
    LongId(usize),
    /// The id holds a control character, which would garble every table it is shown in.
    #[error("a branch id may not hold control characters: {0:?}")]
    ControlInId(String),
    /// The namespace is not a DNS label.
    #[error(
        "namespace {0:?} is not a DNS label: 1 to {NAMESPACE_BYTES_MAX} of a-z, 0-9 and '-', not '-' first or last"
    )]
    Namespace(String),
    /// The resource name is not `pg-` and sixteen hexadecimal digits.
    #[error("{0:?} is not the name of a branch")]
    BranchName(String),
}

/// The id that a branch is found again by. Any text of 1 to [`BRANCH_ID_BYTES_MAX`] bytes without control characters.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 253)]
pub struct BranchId(String);

impl BranchId {
    /// Checks and takes `text`.
    ///
    /// # Errors
    /// [`NameError`] names the rule that the text breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(NameError::EmptyId);
        }
        if text.len() > BRANCH_ID_BYTES_MAX {
            return Err(NameError::LongId(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::ControlInId(text));
        }
        Ok(Self(text))
    }
}

/// A namespace: a DNS label, as Kubernetes has them.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
pub struct Namespace(String);

impl Namespace {
    /// Checks and takes `text`.
    ///
    /// # Errors
    /// [`NameError::Namespace`] when it is not a DNS label.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let well_formed = (1..=NAMESPACE_BYTES_MAX).contains(&text.len())
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if well_formed {
            Ok(Self(text))
        } else {
            Err(NameError::Namespace(text))
        }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(DEFAULT_NAMESPACE.to_owned())
    }
}

/// The resource name of a branch: `pg-` and the first 16 hexadecimal digits of SHA-256 over namespace, NUL, id.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^pg-[0-9a-f]{16}$")]
pub struct BranchName(String);

impl BranchName {
    /// Checks and takes `text`.
    ///
    /// # Errors
    /// [`NameError::BranchName`] when it is not `pg-` and sixteen hexadecimal digits.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let is_name = text.strip_prefix("pg-").is_some_and(|digits| {
            digits.len() == 16
                && digits
                    .chars()
                    .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
        });
        if is_name {
            Ok(Self(text))
        } else {
            Err(NameError::BranchName(text))
        }
    }

    /// The one name that `id` has in `namespace`.
    pub fn of(namespace: &Namespace, id: &BranchId) -> Self {
        let mut hash = Sha256::new();
        hash.update(namespace.as_str());
        hash.update([0]);
        hash.update(id.as_str());
        let digits: String = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self(format!("pg-{digits}"))
    }
}

checked_text!(BranchId, NameError);
checked_text!(Namespace, NameError);
checked_text!(BranchName, NameError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_any_printable_text() {
        assert!(BranchId::new("feature/x y — ü").is_ok());
        assert_eq!(BranchId::new(""), Err(NameError::EmptyId));
        assert_eq!(BranchId::new("x".repeat(254)), Err(NameError::LongId(254)));
        assert!(matches!(
            BranchId::new("a\nb"),
            Err(NameError::ControlInId(_))
        ));
    }

    #[test]
    fn namespaces_are_dns_labels() {
        for good in ["a", "metalmart", "a-1", &"x".repeat(63)] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", &"x".repeat(64)] {
            assert!(Namespace::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_differ_by_namespace_and_id_and_are_stable() {
        let name = |ns: &str, id: &str| {
            BranchName::of(&Namespace::new(ns).unwrap(), &BranchId::new(id).unwrap())
        };
        assert_ne!(name("a", "x"), name("b", "x"));
        assert_ne!(name("a", "x"), name("a", "y"));
        assert_eq!(
            name("metalmart", "my-debug-session"),
            name("metalmart", "my-debug-session")
        );
        let text = name("a", "x").to_string();
        assert_eq!(
            BranchName::try_from(text.clone()).map(String::from),
            Ok(text)
        );
        assert!(BranchName::try_from("pg-XYZ".to_owned()).is_err());
    }
}

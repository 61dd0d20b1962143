//! `version` and `image`: which PostgreSQL a branch runs.

use model::PgMajor;

use super::NotEmpty;
use crate::decode::{Decode, Render, Report, Shape, report_kind};
use crate::json::Json;
use crate::tree::{Node, Value};

/// The repository of the images whose tags are versions of PostgreSQL.
const STOCK_IMAGE: &str = "postgres";

/// An image tag, such as `16`, `16.4` or `16-bookworm`. A whole number is the same as its digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version(String);

impl Version {
    pub(super) fn major(&self) -> Option<PgMajor> {
        PgMajor::from_tag(&self.0).ok()
    }
}

impl Decode for Version {
    const EXPECTED: &'static str = "a version in quotes, such as \"16\"";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match &node.tree.value {
            Value::Text(_) => NotEmpty::decode(node, report).map(|NotEmpty(tag)| Self(tag)),
            Value::Number(digits) if digits.chars().all(|c| c.is_ascii_digit()) => {
                Some(Self(digits.clone()))
            }
            Value::Number(number) => {
                report
                    .problem(
                        node,
                        format!("{number} is a number, and a version is none: 15.10 would be 15.1"),
                    )
                    .hint(format!("quote it: \"{number}\""));
                None
            }
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Object(_) => {
                report_kind(node, Self::EXPECTED, report)
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([
            Shape::not_empty("version in quotes"),
            Shape::Whole(u64::MAX),
        ])
    }
}

impl Render for Version {
    fn render(&self) -> Json {
        Json::text(&self.0)
    }
}

/// A reference to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image(String);

impl Image {
    /// The version of a stock image, by its tag; none for any other image.
    pub(super) fn major(&self) -> Option<PgMajor> {
        let (reference, _digest) = self.0.split_once('@').unwrap_or((&self.0, ""));
        let (path, tag) = reference.rsplit_once(':')?;
        let name = path.rsplit('/').next()?;
        (name == STOCK_IMAGE)
            .then(|| PgMajor::from_tag(tag).ok())
            .flatten()
    }
}

impl Decode for Image {
    const EXPECTED: &'static str = "an image such as \"postgres:16\"";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        NotEmpty::decode(node, report).map(|NotEmpty(reference)| Self(reference))
    }

    fn shape() -> Shape {
        Shape::not_empty("image")
    }
}

impl Render for Image {
    fn render(&self) -> Json {
        Json::text(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::read_value;

    #[test]
    fn whole_numbers_are_versions_and_fractions_are_not() {
        let major = |json| {
            read_value(json, Version::decode)
                .map(|version| version.major())
                .ok()
        };
        assert_eq!(major("\"16\""), Some(Some(PgMajor(16))));
        assert_eq!(major("\"16.4-alpine\""), Some(Some(PgMajor(16))));
        assert_eq!(major("16"), Some(Some(PgMajor(16))));
        assert_eq!(major("\"latest\""), Some(None));
        for bad in ["16.0", "-16", "1e1", "\"\"", "true", "[]"] {
            assert_eq!(major(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_tag_of_a_stock_image_is_its_version() {
        for (image, major) in [
            ("postgres:16", Some(16)),
            ("docker.io/library/postgres:17.2-bookworm", Some(17)),
            ("registry:5000/postgres:15@sha256:abc", Some(15)),
            ("postgres", None),
            ("postgres:latest", None),
            ("registry:5000/partman:16", None),
        ] {
            assert_eq!(
                Image(image.to_owned()).major(),
                major.map(PgMajor),
                "{image}"
            );
        }
    }
}

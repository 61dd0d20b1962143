//! `migrations`: what is run on a branch before the session. Its shape is checked; running it is not supported.

use std::collections::BTreeMap;

use super::NotEmpty;
use crate::decode::{Decode, Report, Word, record, report_kind, words};
use crate::tree::{Node, Value};

words! {
    /// What runs them.
    enum Flavor : "\"flyway\" or \"container\"" {
        /// Flyway.
        Flyway = "flyway",
        /// Any container.
        Container = "container",
    }
}

record! {
    /// Flyway, with files from here or from an image.
    struct Flyway {
        /// Says what runs them.
        flavor: Flavor,
        /// A directory here.
        path: Option<NotEmpty>,
        /// An image with the files.
        image: Option<NotEmpty>,
        /// Where in the image they are.
        locations: Option<Vec<NotEmpty>>,
    }
}

record! {
    /// A container that does it.
    struct Container {
        /// Says what runs them.
        flavor: Flavor,
        /// The image.
        image: NotEmpty,
        /// Its program.
        command: Option<Vec<String>>,
        /// Its arguments.
        args: Option<Vec<String>>,
        /// Its environment.
        env: Option<BTreeMap<String, String>>,
    }
}

/// Well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Migrations;

impl Decode for Migrations {
    const EXPECTED: &'static str =
        "an object such as {\"flavor\": \"flyway\", \"path\": \"./migrations\"}";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            return report_kind(node, Self::EXPECTED, report);
        }
        let Some(flavor) = node.get("flavor") else {
            report
                .problem(node, "the key \"flavor\" is missing")
                .hint(format!("expected {}", Flavor::EXPECTED));
            return None;
        };
        match Flavor::decode_word(&flavor, Flavor::EXPECTED, report)? {
            Flavor::Container => Container::decode(node, report).map(|_| Self),
            Flavor::Flyway => {
                let flyway = Flyway::decode(node, report)?;
                let is_one_source = matches!(
                    (&flyway.path, &flyway.image, &flyway.locations),
                    (Some(_), None, None) | (None, Some(_), Some(_))
                );
                if !is_one_source {
                    report
                        .problem(
                            node,
                            "Flyway's files are at a \"path\", or in an \"image\" at \"locations\"",
                        )
                        .hint("write \"path\", or \"image\" and \"locations\"");
                    return None;
                }
                Some(Self)
            }
        }
    }
}

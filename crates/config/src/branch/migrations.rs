//! `migrations`: what is run on a branch before the session. It is read and not run yet.

use std::collections::BTreeMap;

use super::NotEmpty;
use crate::decode::{Decode, Render, Report, Shape, Word, record, report_kind, words};
use crate::json::Json;
use crate::tree::{Node, Value};

words! {
    /// What runs them.
    pub(super) enum Flavor : "\"flyway\" or \"container\"" {
        /// Flyway.
        Flyway = "flyway",
        /// Any container.
        Container = "container",
    }
}

record! {
    /// Flyway, with files of this machine or of an image.
    pub(super) struct Flyway {
        /// `"flyway"`.
        flavor: Flavor,
        /// A folder of this machine with the files.
        /// Example: `"./migrations"`
        path: Option<NotEmpty>,
        /// An image with the files, beside `locations`.
        /// Example: `"registry.internal/inventory-migrations:3"`
        image: Option<NotEmpty>,
        /// Where in the image they are.
        /// Example: `["filesystem:/flyway/sql"]`
        locations: Option<Vec<NotEmpty>>,
    }
}

record! {
    /// A container that runs them.
    pub(super) struct MigrationContainer {
        /// `"container"`.
        flavor: Flavor,
        /// Its image.
        /// Example: `"registry.internal/inventory-migrations:3"`
        image: NotEmpty,
        /// Its program.
        /// Example: `["./migrate"]`
        command: Option<Vec<String>>,
        /// Its arguments.
        /// Example: `["up"]`
        args: Option<Vec<String>>,
        /// Its environment.
        /// Example: `{"STEP": "all"}`
        env: Option<BTreeMap<String, String>>,
    }
}

/// What is run on a branch before the session.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Migrations {
    Flyway(Box<Flyway>),
    Container(Box<MigrationContainer>),
}

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
            Flavor::Container => {
                MigrationContainer::decode(node, report).map(|it| Self::Container(Box::new(it)))
            }
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
                Some(Self::Flyway(Box::new(flyway)))
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([
            Flyway::shape().with_word("flavor", "flyway"),
            MigrationContainer::shape().with_word("flavor", "container"),
        ])
    }
}

/// Whether a branch with migrations names the database that they are for; `node` is the branch.
pub(super) fn check_name(node: &Node<'_>, report: &mut Report) -> bool {
    match (node.given("migrations"), node.given("name")) {
        (Some(migrations), None) => {
            report
                .problem(&migrations, "migrations need the database's \"name\"")
                .hint("add \"name\" to the branch");
            false
        }
        (Some(_) | None, _) => true,
    }
}

impl Render for Migrations {
    fn render(&self) -> Json {
        match self {
            Self::Flyway(flyway) => flyway.render(),
            Self::Container(container) => container.render(),
        }
    }
}

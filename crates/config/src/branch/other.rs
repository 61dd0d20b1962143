//! Branches of databases other than PostgreSQL: known by name, checked in what all share, and refused at `exec`.

use model::BranchId;

use super::NotEmpty;
use crate::connection::Connection;
use crate::decode::{Decode, Report, quoted};
use crate::diagnostic::Weight;
use crate::tree::Node;

/// A type of database and the copy modes that the format has for it; none where it says nothing of them.
pub(super) struct Database {
    word: &'static str,
    modes: &'static [&'static str],
}

const DATABASES: [Database; 10] = [
    Database {
        word: "mysql",
        modes: &["empty", "schema", "all"],
    },
    Database {
        word: "mariadb",
        modes: &["empty", "schema", "all"],
    },
    Database {
        word: "mssql",
        modes: &["empty", "schema", "all"],
    },
    Database {
        word: "mongodb",
        modes: &["empty", "all"],
    },
    Database {
        word: "redis",
        modes: &["empty", "all"],
    },
    Database {
        word: "dynamodb",
        modes: &[],
    },
    Database {
        word: "clickhouse",
        modes: &[],
    },
    Database {
        word: "cockroachdb",
        modes: &[],
    },
    Database {
        word: "spanner",
        modes: &[],
    },
    Database {
        word: "generic",
        modes: &["empty"],
    },
];

/// The types, for errors.
pub(super) fn types() -> impl Iterator<Item = &'static str> {
    DATABASES.iter().map(|database| database.word)
}

/// The database of a type.
pub(super) fn database_of(word: &str) -> Option<&'static Database> {
    DATABASES.iter().find(|database| database.word == word)
}

/// What is kept of such a branch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OtherBranch {
    word: &'static str,
}

/// Checks what all databases share: id, name, the connection's shape, the copy mode.
pub(super) fn decode(
    database: &'static Database,
    node: &Node<'_>,
    report: &mut Report,
) -> Option<OtherBranch> {
    let before = report.problems.len();
    let present = |key: &str| node.get(key).filter(|value| !value.is_null());
    if let Some(id) = present("id") {
        BranchId::decode(&id, report);
    }
    if let Some(name) = present("name") {
        NotEmpty::decode(&name, report);
    }
    if let Some(connection) = present("connection") {
        Connection::decode(&connection, report);
    } else {
        report
            .problem(node, "the key \"connection\" is missing")
            .hint(format!("add \"connection\": {}", Connection::EXPECTED));
    }
    if let Some(mode) = node.find(&["copy", "mode"])
        && !database.modes.is_empty()
        && !mode
            .text()
            .is_some_and(|word| database.modes.contains(&word))
    {
        report
            .problem(&mode, format!("this is no copy mode of {}", database.word))
            .hint(format!("expected one of {}", quoted(database.modes)));
    }
    (report.problems.len() == before).then_some(OtherBranch {
        word: database.word,
    })
}

impl OtherBranch {
    pub(super) fn tell_lacking(&self, node: &Node<'_>, report: &mut Report) {
        report.lacks(
            node,
            Weight::Refused,
            format!("branches of {} are not supported yet", self.word),
        );
    }
}

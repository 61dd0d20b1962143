//! `db_branches`: which databases the session has a branch of.
//!
//! Owns the resolved branch, and which home of the list counts (`feature.db_branches`, or the root's). `pg` reads
//! PostgreSQL's, `other_databases` (with `generic`) the databases that are not branched yet, `copy`, `version`, `ttl`,
//! `migrations` and `iam_auth` their parts. Leaves making branches to the engine.

mod copy;
mod generic;
mod iam_auth;
mod migrations;
mod other_databases;
mod pg;
mod ttl;
mod version;

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BranchId, CopySpec, PgMajor, Ttl};

use crate::config::SessionKey;
use crate::connection::Connection;
use crate::decode::{Decode, Render, Report, Shape, nearest, quoted, report_kind};
use crate::json::Json;
use crate::tree::{Node, Value};

pub(crate) use other_databases::OtherBranch;
pub(crate) use pg::PgBranch;

/// A branch of a PostgreSQL database that the session needs.
#[derive(Debug, Clone, PartialEq)]
pub struct DbBranch {
    /// Where the file asks for it, such as `feature.db_branches[0]`.
    pub path: String,
    /// Finds it again. The session's key where the file names none; with a number for the second of those and further.
    pub id: BranchId,
    /// Whether the file names the id.
    pub is_id_chosen: bool,
    /// The database within the source; none: the one that the connection names.
    pub database: Option<String>,
    /// How long it outlives its last session.
    pub ttl: Ttl,
    /// How long the session waits for it.
    pub creation_timeout: Duration,
    /// Its major version; none: the source's.
    pub version: Option<PgMajor>,
    /// Where the source is found, and which variables lead to the branch.
    pub connection: Connection,
    /// What it holds at its start.
    pub copy: CopySpec,
    /// Whether the file names the copy mode: otherwise it is `empty`.
    pub is_copy_chosen: bool,
    /// The age up to which data will do without a question to the source; none: nothing may be missing.
    pub max_age: Option<Duration>,
    /// Settings for every connection to the source.
    pub connection_settings: BTreeMap<String, String>,
    /// Parameters for the URLs that the process gets.
    pub query_params: BTreeMap<String, String>,
}

/// An entry of the list, as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WrittenBranch {
    Pg(Box<PgBranch>),
    Other(Box<OtherBranch>),
}

/// Seconds that a session waits for a branch unless its file says otherwise.
const CREATION_TIMEOUT_SECS: u64 = 60;

/// The type of the databases that Bough branches.
const PG: &str = "pg";

/// Words that people write for `pg`.
const PG_ALIASES: [&str; 4] = ["postgres", "postgresql", "psql", "pgsql"];

impl Decode for WrittenBranch {
    const EXPECTED: &'static str = "an object with a \"type\"";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            return report_kind(node, Self::EXPECTED, report);
        }
        let Some(kind) = node.get("type") else {
            report
                .problem(node, "the key \"type\" is missing")
                .hint("write \"type\": \"pg\" for PostgreSQL");
            return None;
        };
        match String::decode(&kind, report)?.as_str() {
            word if word == PG || other_databases::database_of(word).is_some() => {
                Self::decode_as(word, node, report)
            }
            word => {
                // What else is wrong is told as well, as far as it can be guessed what was meant.
                if let Some(near) = report_type(word, &kind, report) {
                    Self::decode_as(near, node, report);
                }
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of(
            [PgBranch::shape()]
                .into_iter()
                .chain(other_databases::shapes()),
        )
    }
}

impl WrittenBranch {
    /// Reads the keys that a branch of this type has.
    fn decode_as(word: &str, node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match other_databases::database_of(word) {
            Some(database) => other_databases::decode(database, node, report)
                .map(|branch| Self::Other(Box::new(branch))),
            None => PgBranch::decode(node, report).map(|branch| Self::Pg(Box::new(branch))),
        }
    }
}

impl Render for WrittenBranch {
    fn render(&self) -> Json {
        match self {
            Self::Pg(branch) => branch.render(),
            Self::Other(branch) => branch.render(),
        }
    }
}

/// Pairs of keys of which one may be given.
fn check_exclusive(node: &Node<'_>, report: &mut Report) -> bool {
    let mut good = true;
    for (first, second) in [("ttl_secs", "ttl_mins"), ("version", "image")] {
        if let (Some(_), Some(value)) = (node.given(first), node.given(second)) {
            report.exclusive(&value, first, second);
            good = false;
        }
    }
    good
}

/// Answers the type that was probably meant.
fn report_type(word: &str, kind: &Node<'_>, report: &mut Report) -> Option<&'static str> {
    let known: Vec<&'static str> = other_databases::types().chain([PG]).collect();
    let lower = word.to_lowercase();
    let near = if PG_ALIASES.contains(&lower.as_str()) {
        Some(PG)
    } else {
        nearest(word, known.iter().copied())
    };
    let finding = report.problem(kind, format!("{word:?} is no type of database"));
    match near {
        Some(near) => finding.hint(format!("did you mean {near:?}?")),
        None => finding.hint(format!("the types are {}", quoted(&known))),
    };
    near
}

impl Decode for BranchId {
    const EXPECTED: &'static str = "a string";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let text = String::decode(node, report)?;
        match Self::new(text) {
            Ok(id) => Some(id),
            Err(error) => {
                report
                    .problem(node, error.to_string())
                    .hint("leave \"id\" out to have the session's key for it");
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::not_empty("id")
    }
}

impl Render for BranchId {
    fn render(&self) -> Json {
        Json::text(self.as_str())
    }
}

/// A string that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotEmpty(pub(crate) String);

impl Decode for NotEmpty {
    const EXPECTED: &'static str = "a string";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let text = String::decode(node, report)?;
        if text.is_empty() {
            report.problem(node, "this may not be empty");
            return None;
        }
        Some(Self(text))
    }

    fn shape() -> Shape {
        Shape::not_empty("string")
    }
}

impl Render for NotEmpty {
    fn render(&self) -> Json {
        Json::text(&self.0)
    }
}

/// Gives every branch its id, and resolves those of PostgreSQL. `nodes` are the entries of the list, in its order.
pub(crate) fn resolve(
    written: Vec<WrittenBranch>,
    nodes: &[Node<'_>],
    key: &SessionKey,
    report: &mut Report,
) -> Vec<DbBranch> {
    let mut resolved = Vec::new();
    let mut nameless = 0;
    for (branch, node) in written.into_iter().zip(nodes) {
        match branch {
            WrittenBranch::Other(other) => other.tell_lacking(node, report),
            WrittenBranch::Pg(branch) => {
                if branch.id().is_none() {
                    nameless += 1;
                }
                let id = match branch.id().cloned() {
                    Some(id) => Some(id),
                    None => id_from_key(key, nameless, node, report),
                };
                branch.tell_lacking(node, report);
                if let Some(id) = id {
                    resolved.push(branch.resolve(id, node));
                }
            }
        }
    }
    resolved
}

/// The first branch without an id has the key for one, the second `KEY-2`, and so on.
fn id_from_key(
    key: &SessionKey,
    number: usize,
    node: &Node<'_>,
    report: &mut Report,
) -> Option<BranchId> {
    let text = if number == 1 {
        key.text.clone()
    } else {
        format!("{}-{number}", key.text)
    };
    if number == 2 {
        report
            .warning(
                node,
                format!(
                    "several branches have no id: this one is {text:?}, after its place in the list"
                ),
            )
            .hint("give each an \"id\"");
    }
    match BranchId::new(text) {
        Ok(id) => Some(id),
        Err(error) => {
            report.problem(node, format!("the session's key is no id: {error}"));
            None
        }
    }
}

/// The keys of a branch of PostgreSQL.
pub(crate) fn pg_keys() -> &'static [&'static str] {
    pg::keys()
}

/// The keys of this concern, for the words that an excerpt may show.
pub(crate) fn vocabulary() -> Vec<&'static str> {
    [
        pg::keys().to_vec(),
        copy::vocabulary(),
        vec![PG, "all", "schema", "empty"],
    ]
    .concat()
}

#[cfg(test)]
mod tests;

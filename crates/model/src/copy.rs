//! What of a source a branch holds: the copy mode, row filters, and arguments for the dump.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How much of the source's database is copied.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CopyMode {
    /// No table, no row. With `tables`: those tables alone, with the rows that their filters let through.
    #[default]
    Empty,
    /// Every structure, no row. With `tables`: rows of those tables as well.
    Schema,
    /// Everything.
    All,
}

impl CopyMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Empty, Self::Schema, Self::All];

    /// The mode's word in files and flags.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Schema => "schema",
            Self::All => "all",
        }
    }
}

impl fmt::Display for CopyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which rows of one table come along.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TableFilter {
    /// An SQL condition, as after WHERE. None: every row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// What a branch holds at its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CopySpec {
    /// How much is copied.
    pub mode: CopyMode,
    /// Tables by name (`table` or `schema.table`) whose rows come along. Empty under [`CopyMode::All`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, TableFilter>,
    /// Further arguments of `pg_dump`, such as `--exclude-table-data=audit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dump_args: Vec<String>,
}

impl CopySpec {
    /// Everything, nothing filtered.
    pub fn all() -> Self {
        Self {
            mode: CopyMode::All,
            ..Self::default()
        }
    }

    /// What the branch holds, in words for the session's opening line.
    pub fn describe(&self) -> String {
        let what = match (self.mode, self.tables.len()) {
            (CopyMode::All, _) => "all: structure and every row".to_owned(),
            (CopyMode::Schema, 0) => "schema: structure, no rows".to_owned(),
            (CopyMode::Schema, n) => format!("schema: structure, and rows of {n} table(s)"),
            (CopyMode::Empty, 0) => "empty: no tables, no rows".to_owned(),
            (CopyMode::Empty, n) => format!("empty: {n} table(s) with their rows, nothing else"),
        };
        if self.dump_args.is_empty() {
            what
        } else {
            format!("{what}, dumped with {}", self.dump_args.join(" "))
        }
    }
}

//! `copy`: what a branch holds at its start.

use std::collections::BTreeMap;

use model::{CopyMode, CopySpec, TableFilter};

use super::NotEmpty;
use crate::decode::{Decode, Record, Report, record, words};
use crate::tree::Node;

words! {
    /// How much is copied.
    enum WrittenMode : "\"all\", \"schema\" or \"empty\"" {
        /// No table, no row.
        Empty = "empty",
        /// Structure.
        Schema = "schema",
        /// Everything.
        All = "all",
    }
}

record! {
    /// Which rows of a table come along.
    struct WrittenFilter {
        /// An SQL condition; all rows without.
        filter: Option<NotEmpty>,
    }
}

record! {
    /// What is copied.
    struct WrittenKeys {
        /// How much.
        mode: WrittenMode,
        /// Tables whose rows come along.
        tables: Option<BTreeMap<String, WrittenFilter>>,
        /// Further arguments of pg_dump.
        dump_args: Option<Vec<NotEmpty>>,
    }
}

/// A copy, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WrittenCopy(CopySpec);

impl WrittenCopy {
    pub(super) fn into_spec(self) -> CopySpec {
        self.0
    }
}

impl Decode for WrittenCopy {
    const EXPECTED: &'static str = "an object such as {\"mode\": \"all\"}";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if let Some(word) = node.text() {
            report
                .problem(node, format!("expected {}, found a string", Self::EXPECTED))
                .hint(format!("write {{\"mode\": {word:?}}}"));
            return None;
        }
        let keys = WrittenKeys::decode(node, report)?;
        let mode = match keys.mode {
            WrittenMode::Empty => CopyMode::Empty,
            WrittenMode::Schema => CopyMode::Schema,
            WrittenMode::All => CopyMode::All,
        };
        if mode == CopyMode::All
            && let Some(tables) = node.get("tables").filter(|tables| !tables.is_null())
        {
            report
                .problem(
                    &tables,
                    "\"tables\" and the mode \"all\" exclude each other",
                )
                .hint("write \"mode\": \"schema\" to have rows of these tables alone");
            return None;
        }
        let tables = keys.tables.unwrap_or_default().into_iter();
        Some(Self(CopySpec {
            mode,
            tables: tables
                .map(|(table, WrittenFilter { filter })| {
                    let filter = filter.map(|NotEmpty(filter)| filter);
                    (table, TableFilter { filter })
                })
                .collect(),
            dump_args: keys
                .dump_args
                .unwrap_or_default()
                .into_iter()
                .map(|NotEmpty(argument)| argument)
                .collect(),
        }))
    }
}

/// The keys of this shape, for the words that an excerpt may show.
pub(super) fn vocabulary() -> Vec<&'static str> {
    [WrittenKeys::KEYS, WrittenFilter::KEYS].concat()
}

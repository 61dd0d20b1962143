//! `copy`: what a branch holds at its start.

use std::collections::BTreeMap;

use model::{CopyMode, CopySpec, TableFilter};

use super::NotEmpty;
use crate::decode::{Decode, Record, Render, Report, Shape, record, words};
use crate::json::Json;
use crate::tree::{Node, Value};

words! {
    of CopyMode: "\"all\", \"schema\" or \"empty\"" {
        /// An empty database; with `tables`, those tables alone.
        Empty,
        /// Every structure and no row; with `tables`, rows of those tables as well.
        Schema,
        /// Everything.
        All,
    }
}

record! {
    /// Which rows of a table come along.
    pub(super) struct WrittenFilter {
        /// An SQL condition, as after WHERE; without it every row comes along.
        /// Example: `"created_at > now() - interval '7 days'"`
        filter: Option<NotEmpty>,
    }
}

record! {
    /// What a branch holds at its start.
    struct WrittenKeys {
        /// How much is copied.
        /// Example: `"all"`
        mode: CopyMode,
        /// Tables whose rows come along. Not with the mode `"all"`.
        /// Example: `{"users": {"filter": "id < 1000"}}`
        tables: Option<BTreeMap<String, WrittenFilter>>,
        /// Further arguments of pg_dump, in place of `--no-owner --no-acl`.
        /// Example: `["--exclude-table-data=audit"]`
        dump_args: Option<Vec<NotEmpty>>,
    }
}

/// A copy, checked.
#[derive(Debug, Clone, Default, PartialEq)]
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
        let Some(keys) = WrittenKeys::decode(node, report) else {
            if let Some(tables) = node
                .get("tables")
                .filter(|it| matches!(it.tree.value, Value::List(_)))
            {
                report.hint_at(&tables.path, "write {\"users\": {}} to have all of a table");
            }
            return None;
        };
        if !check_tables(node, report) {
            return None;
        }
        let tables = keys.tables.unwrap_or_default().into_iter();
        Some(Self(CopySpec {
            mode: keys.mode,
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

    fn shape() -> Shape {
        WrittenKeys::shape()
    }
}

/// Whether tables are named where some are left out; `node` is the copy.
pub(super) fn check_tables(node: &Node<'_>, report: &mut Report) -> bool {
    let is_all = node.get("mode").and_then(|mode| mode.text()) == Some(CopyMode::All.as_str());
    match node.given("tables").filter(|_| is_all) {
        Some(tables) => {
            report
                .problem(
                    &tables,
                    "\"tables\" and the mode \"all\" exclude each other",
                )
                .hint("write \"mode\": \"schema\" to have rows of these tables alone");
            false
        }
        None => true,
    }
}

impl Render for WrittenCopy {
    fn render(&self) -> Json {
        let Self(spec) = self;
        let mut members = vec![("mode", Json::from(spec.mode.as_str()))];
        if !spec.tables.is_empty() {
            let tables = spec.tables.iter().map(|(table, filter)| {
                let filter = filter.filter.render();
                (table, Json::object([("filter", filter)]))
            });
            members.push(("tables", Json::object(tables)));
        }
        if !spec.dump_args.is_empty() {
            members.push(("dump_args", spec.dump_args.render()));
        }
        Json::object(members)
    }
}

/// The keys of this shape, for the words that an excerpt may show.
pub(super) fn vocabulary() -> Vec<&'static str> {
    [WrittenKeys::KEYS, WrittenFilter::KEYS].concat()
}

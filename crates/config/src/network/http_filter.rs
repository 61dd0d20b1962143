//! `http_filter`: which HTTP requests are mirrored or stolen.
//!
//! Owns the shapes and that exactly one kind of filter is given. Patterns are read as text: matching them is the
//! agent's.

use crate::decode::{OneOrMany, Report, Switch, defaults, record, switch, words};
use crate::tree::{Node, Value};

words! {
    /// What a body is read as.
    pub enum BodyFormat: "\"json\"" {
        /// A JSON document.
        Json = "json",
    }
}

record! {
    /// A filter over a request's body.
    pub struct BodyFilter {
        /// What it is read as.
        body: BodyFormat,
        /// Where in it to look: a JSONPath.
        query: String,
        /// What must stand there: a regular expression.
        matches: String,
    }
}

record! {
    /// One filter of several.
    pub struct InnerFilter {
        /// Over `Name: value` of each header.
        header: Option<String>,
        /// Over the path.
        path: Option<String>,
        /// Over the method.
        method: Option<String>,
        /// Over the body.
        body: Option<BodyFormat>,
        /// Where in the body to look; without `body`, a jq program over the headers.
        query: Option<String>,
        /// What must stand there.
        matches: Option<String>,
    }
}

record! {
    /// Which requests are meant.
    pub struct HttpFilter {
        /// Over `Name: value` of each header.
        header_filter: Option<String>,
        /// Over the path, with and without its query.
        path_filter: Option<String>,
        /// Over the method.
        method_filter: Option<String>,
        /// Over the body.
        body_filter: Option<BodyFilter>,
        /// A jq program over the headers.
        header_filter_jq: Option<String>,
        /// All of these must match.
        all_of: Option<Vec<InnerFilter>>,
        /// One of these must match.
        any_of: Option<Vec<InnerFilter>>,
        /// The ports that it counts on.
        ports: Option<OneOrMany<u16>>,
    }
}

impl Default for HttpFilter {
    fn default() -> Self {
        defaults()
    }
}

impl Switch for HttpFilter {
    fn off() -> Self {
        Self::default()
    }
}

/// The keys of which one may be given.
const KINDS: [&str; 7] = [
    "header_filter",
    "path_filter",
    "method_filter",
    "body_filter",
    "header_filter_jq",
    "all_of",
    "any_of",
];

/// Reads `true`, `false` (both: no filter) or an object.
pub(super) fn http_filter(node: &Node<'_>, report: &mut Report) -> Option<HttpFilter> {
    let filter: HttpFilter = switch(node, report)?;
    let mut given = KINDS
        .iter()
        .filter_map(|kind| node.get(kind))
        .filter(|filter| !filter.is_null());
    if let (Some(_), Some(second)) = (given.next(), given.next()) {
        report
            .problem(&second, "an http_filter is of one kind")
            .hint("combine several with \"all_of\" or \"any_of\"");
    }
    for kind in KINDS {
        let Some(value) = node.get(kind) else {
            continue;
        };
        if value.text() == Some("") {
            report.problem(&value, "an empty filter matches every request");
        }
        if matches!(&value.tree.value, Value::List(items) if items.is_empty()) {
            report.problem(&value, "the list of filters is empty");
        }
        for inner in value.items() {
            check_inner(&inner, report);
        }
    }
    Some(filter)
}

/// `{header}`, `{path}`, `{method}`, `{body, query, matches}` or `{query}`.
fn check_inner(inner: &Node<'_>, report: &mut Report) {
    let mut keys: Vec<&str> = inner
        .members()
        .iter()
        .filter(|member| !matches!(member.value.value, Value::Null))
        .map(|member| member.key.as_str())
        .collect();
    keys.sort_unstable();
    let is_one_kind = matches!(
        keys.as_slice(),
        ["header"] | ["path"] | ["method"] | ["query"] | ["body", "matches", "query"]
    );
    if !is_one_kind {
        report
            .problem(inner, "this is no one filter")
            .hint("write {\"header\": ...}, {\"path\": ...}, {\"method\": ...}, {\"query\": ...}, or {\"body\": \"json\", \"query\": ..., \"matches\": ...}");
    }
}

impl HttpFilter {
    /// Whether any request is left out.
    pub fn is_set(&self) -> bool {
        let Self {
            header_filter,
            path_filter,
            method_filter,
            body_filter,
            header_filter_jq,
            all_of,
            any_of,
            ports: _,
        } = self;
        header_filter.is_some()
            || path_filter.is_some()
            || method_filter.is_some()
            || body_filter.is_some()
            || header_filter_jq.is_some()
            || all_of.is_some()
            || any_of.is_some()
    }
}

//! `http_filter`: which HTTP requests are mirrored or stolen.
//!
//! Owns the shapes and that exactly one kind of filter is given. Patterns are read as text: matching them is the
//! agent's.

use crate::decode::{OneOrMany, Report, Switch, defaults, record, switches, words};
use crate::pattern;
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
        /// What the body is read as.
        body: BodyFormat,
        /// Where in it to look: a JSONPath (RFC 9535).
        /// Example: `"$.order.customer"`
        query: String,
        /// What must stand there: a regular expression.
        /// Example: `"^42$"`
        matches: String,
    }
}

record! {
    /// One filter of several: `header`, `path`, `method`, `query` alone, or `body`, `query` and `matches` together.
    pub struct InnerFilter {
        /// A regular expression over `Name: value` of each header.
        /// Example: `"^x-session: ada$"`
        header: Option<String>,
        /// A regular expression over the path.
        /// Example: `"^/api/"`
        path: Option<String>,
        /// The method, in whatever case.
        /// Example: `"POST"`
        method: Option<String>,
        /// What the body is read as.
        body: Option<BodyFormat>,
        /// Where in the body to look (a JSONPath); without `body`, a jq program over the headers.
        /// Example: `"$.customer"`
        query: Option<String>,
        /// What must stand there: a regular expression.
        /// Example: `"^42$"`
        matches: Option<String>,
    }
}

record! {
    /// Which HTTP requests are meant: one kind of filter, or several under `all_of` or `any_of`. `true` and `false` are
    /// no filter. Regular expressions know look-around and mind no case.
    pub struct HttpFilter in more forms {
        /// A regular expression over `Name: value` of each header.
        /// Example: `"^baggage: .*session={{ key }}"`
        header_filter: Option<String>,
        /// A regular expression over the path, with and without its query.
        /// Example: `"^/api/"`
        path_filter: Option<String>,
        /// The method, in whatever case.
        /// Example: `"POST"`
        method_filter: Option<String>,
        /// A filter over the body.
        /// Example: `{"body": "json", "query": "$.customer", "matches": "^42$"}`
        body_filter: Option<BodyFilter>,
        /// A jq program over `Name: value` of each header; what gives `true` is meant.
        /// Example: `"test(\"^x-session: ada$\")"`
        header_filter_jq: Option<String>,
        /// All of these must match.
        /// Example: `[{"path": "^/api/"}, {"method": "POST"}]`
        all_of: Option<Vec<InnerFilter>>,
        /// One of these must match.
        /// Example: `[{"path": "^/api/"}, {"header": "^x-session: ada$"}]`
        any_of: Option<Vec<InnerFilter>>,
        /// The ports of the target that the filter counts on; on all others all traffic is meant.
        /// Example: `[80, 8080]`
        ports: Option<OneOrMany<u16>>,
    }
}

switches!(HttpFilter, check);

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

const EMPTY: &str = "an empty filter matches every request";

/// One kind of filter; nothing empty; broken expressions are warned of, since the format has always let them through.
fn check(_: &HttpFilter, node: &Node<'_>, report: &mut Report) {
    let mut given = KINDS.iter().filter_map(|kind| node.given(kind));
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
            report.problem(&value, EMPTY);
        }
        if matches!(&value.tree.value, Value::List(items) if items.is_empty()) {
            report.problem(&value, "the list of filters is empty");
        }
        for inner in value.items() {
            check_inner(&inner, report);
            for member in inner.members() {
                if matches!(&member.value.value, Value::Text(text) if text.is_empty()) {
                    let path = inner.path_to(&member.key);
                    report.problem_at(path, &member.value.span, EMPTY);
                }
            }
            for key in ["header", "path", "matches"] {
                pattern::warn_if_broken(inner.get(key).as_ref(), report);
            }
        }
    }
    for key in ["header_filter", "path_filter"] {
        pattern::warn_if_broken(node.get(key).as_ref(), report);
    }
    if let Some(body) = node.get("body_filter") {
        pattern::warn_if_broken(body.get("matches").as_ref(), report);
        check_query(&body, report);
    }
}

/// Where in a body to look. Not parsed here: what can be no path of RFC 9535 is refused.
fn check_query(filter: &Node<'_>, report: &mut Report) {
    if let Some(query) = filter.get("query")
        && let Some(text) = query.text()
        && !text.is_empty()
        && !may_be_path(text)
    {
        report
            .problem(&query, "this is no JSONPath")
            .hint("write one such as \"$.order.customer\"");
    }
}

/// A path begins with `$`, and its brackets are closed in their order; what is in quotes does not count.
fn may_be_path(text: &str) -> bool {
    let mut open = Vec::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(chars.next()),
            (Some(end), _) if end == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => open.push(']'),
            (None, '(') => open.push(')'),
            (None, ']' | ')') if open.pop() != Some(c) => return false,
            (None, _) => {}
        }
    }
    text.starts_with('$') && open.is_empty() && quote.is_none()
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
    if inner.get("body").is_some() {
        check_query(inner, report);
    }
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

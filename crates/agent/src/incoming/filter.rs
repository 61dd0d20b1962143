//! Which HTTP requests a session wants: its patterns, compiled, against a request's head.

use fancy_regex::{Regex, RegexBuilder};
use hyper::http::request::Parts;
use wire::HttpFilter;

/// Steps of one pattern on one text before it counts as not matching: look-around can make a pattern try for ever.
const BACKTRACK_MAX: usize = 100_000;

/// A filter that is ready to be asked.
#[derive(Debug)]
pub(super) enum Filter {
    Header(Regex),
    Path(Regex),
    Method(String),
    AllOf(Vec<Filter>),
    AnyOf(Vec<Filter>),
}

/// A pattern that is no regular expression.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is no regular expression")]
pub(super) struct BadPattern {
    pub(super) pattern: String,
    pub(super) source: Box<fancy_regex::Error>,
}

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// [`BadPattern`], the first one.
    pub(super) fn compile(filter: &HttpFilter) -> Result<Self, BadPattern> {
        Ok(match filter {
            HttpFilter::Header(pattern) => Self::Header(compile(pattern)?),
            HttpFilter::Path(pattern) => Self::Path(compile(pattern)?),
            HttpFilter::Method(method) => Self::Method(method.clone()),
            HttpFilter::AllOf(parts) => Self::AllOf(compile_all(parts)?),
            HttpFilter::AnyOf(parts) => Self::AnyOf(compile_all(parts)?),
        })
    }

    /// Whether the request is one of those.
    pub(super) fn matches(&self, head: &Parts) -> bool {
        match self {
            Self::Header(pattern) => head.headers.iter().any(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                matches(pattern, &format!("{name}: {value}"))
            }),
            Self::Path(pattern) => {
                let path_and_query = head.uri.path_and_query().map_or("", |whole| whole.as_str());
                matches(pattern, head.uri.path()) || matches(pattern, path_and_query)
            }
            Self::Method(method) => head.method.as_str().eq_ignore_ascii_case(method),
            Self::AllOf(parts) => parts.iter().all(|part| part.matches(head)),
            Self::AnyOf(parts) => parts.iter().any(|part| part.matches(head)),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, BadPattern> {
    RegexBuilder::new(pattern)
        .case_insensitive(true)
        .backtrack_limit(BACKTRACK_MAX)
        .build()
        .map_err(|error| BadPattern {
            pattern: pattern.to_owned(),
            source: Box::new(error),
        })
}

fn compile_all(parts: &[HttpFilter]) -> Result<Vec<Filter>, BadPattern> {
    parts.iter().map(Filter::compile).collect()
}

fn matches(pattern: &Regex, text: &str) -> bool {
    // A pattern that does not come to an end matches nothing: the target answers.
    pattern.is_match(text).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = hyper::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn wanted(filter: &HttpFilter, head: &Parts) -> bool {
        Filter::compile(filter).unwrap().matches(head)
    }

    #[test]
    fn headers_are_matched_as_lines_without_regard_to_case() {
        let request = head("GET", "/", &[("X-User", "Alice"), ("x-user", "bob")]);
        for (pattern, matches) in [
            ("^x-user: alice$", true),
            ("X-USER: BOB", true),
            ("^alice", false),
            ("^x-user: (?!alice|bob)", false),
            ("^x-user: (?!alice)", true),
        ] {
            let filter = HttpFilter::Header(pattern.into());
            assert_eq!(wanted(&filter, &request), matches, "{pattern}");
        }
    }

    #[test]
    fn a_path_matches_with_its_query_or_without() {
        let request = head("GET", "http://shop/api/v1?debug=1", &[]);
        for (pattern, matches) in [
            ("^/api/v1$", true),
            (r"debug=1$", true),
            (r"^/api/v1\?debug", true),
            ("^/API", true),
            ("shop", false),
        ] {
            let filter = HttpFilter::Path(pattern.into());
            assert_eq!(wanted(&filter, &request), matches, "{pattern}");
        }
    }

    #[test]
    fn filters_are_put_together() {
        let path = |pattern: &str| HttpFilter::Path(pattern.into());
        let post = || HttpFilter::Method("post".into());
        let request = head("POST", "/a", &[]);
        assert!(wanted(
            &HttpFilter::AllOf(vec![post(), path("a")]),
            &request
        ));
        assert!(!wanted(
            &HttpFilter::AllOf(vec![post(), path("b")]),
            &request
        ));
        assert!(wanted(
            &HttpFilter::AnyOf(vec![post(), path("b")]),
            &request
        ));
        assert!(!wanted(&HttpFilter::AnyOf(vec![path("b")]), &request));
    }

    #[test]
    fn what_is_no_pattern_is_told_and_one_without_end_matches_nothing() {
        let error = Filter::compile(&HttpFilter::Path("(".into())).unwrap_err();
        assert_eq!(error.pattern, "(");
        let endless = HttpFilter::Path(r"^(?=(a+)+$)b|(a+)+\1$".into());
        let request = head("GET", &format!("/{}!", "a".repeat(2000)), &[]);
        assert!(!wanted(&endless, &request));
    }
}

//! Regular expressions of configuration files, in the dialect that the format has always had: with look-around and
//! back-references.
//!
//! Owns compiling them with an end to their effort, and the words for broken ones.

use fancy_regex::{Error, Regex, RegexBuilder};

use crate::decode::Report;
use crate::text::Span;
use crate::tree::Node;

/// Steps back that one match may take: a pattern must not hold a session up.
const BACKTRACK_MAX: usize = 100_000;

/// Compiles `text`.
pub(crate) fn compile(text: &str) -> Result<Regex, Box<Error>> {
    RegexBuilder::new(text)
        .backtrack_limit(BACKTRACK_MAX)
        .build()
        .map_err(Box::new)
}

/// Whether `pattern` is found in `text`; one that takes too long is not.
pub(crate) fn is_match(pattern: &Regex, text: &str) -> bool {
    pattern.is_match(text).unwrap_or(false)
}

/// Reports a broken expression in one line.
pub(crate) fn report_broken(path: &str, span: Span, error: &Error, report: &mut Report) {
    report
        .problem_at(
            path.to_owned(),
            &span,
            format!("not a regular expression: {}", why(error)),
        )
        .hint("see https://docs.rs/fancy-regex/#syntax");
}

/// Warns of a broken expression.
pub(crate) fn warn_if_broken(node: Option<&Node<'_>>, report: &mut Report) {
    let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) else {
        return;
    };
    if let Err(error) = compile(text) {
        report.warning(
            node,
            format!(
                "not a regular expression ({}): it matches nothing",
                why(&error)
            ),
        );
    }
}

/// What is wrong, without the place: the caret marks the whole expression.
fn why(error: &Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    let said = match last.strip_prefix("Parsing error at position ") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, said)| said),
        None => last.strip_prefix("error: ").unwrap_or(last),
    };
    let mut chars = said.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string());
    format!("{}{}", first.unwrap_or_default(), chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_a_few_words() {
        for (text, expected) in [
            ("(", "opening parenthesis without closing parenthesis"),
            ("*", "target of repeat operator is invalid"),
        ] {
            let error = compile(text).expect_err(text);
            assert_eq!(why(&error), expected, "{text}");
        }
    }

    #[test]
    fn look_around_is_known_and_no_match_takes_for_ever() {
        let pattern = compile("^User-Agent: (?!kube-probe)").expect("look-ahead");
        assert!(is_match(&pattern, "User-Agent: curl"));
        assert!(!is_match(&pattern, "User-Agent: kube-probe/1"));
        let endless = compile("^(a|a|aa)+(?!b)$\\1").expect("a slow one");
        assert!(!is_match(&endless, &"a".repeat(200)));
    }
}

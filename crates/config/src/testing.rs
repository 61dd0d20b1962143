//! For the tests of this crate: reading one value as if it stood in a file.

use crate::decode::Report;
use crate::format::Format;
use crate::tree::Node;

/// Reads the JSON text of one value; its errors as `path: text` lines.
pub(crate) fn read_value<T>(
    json: &str,
    read: impl FnOnce(&Node<'_>, &mut Report) -> Option<T>,
) -> Result<T, Vec<String>> {
    let tree = match Format::Json.parse(json) {
        Ok(tree) => tree,
        Err(error) => return Err(vec![error.text]),
    };
    let mut report = Report::default();
    let value = read(&Node::root(&tree), &mut report);
    match value {
        Some(value) if report.problems.is_empty() => Ok(value),
        Some(_) | None => {
            assert!(!report.problems.is_empty(), "failed without a word: {json}");
            Err(report
                .problems
                .into_iter()
                .map(|problem| format!("{}: {}", problem.path, problem.text))
                .collect())
        }
    }
}

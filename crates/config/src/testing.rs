//! For the tests of this crate: reading one value as if it stood in a file, and files made of the format's own words.

use proptest::prelude::*;

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

/// Values of every kind under keys that the format knows.
pub(crate) fn tree_of_words() -> impl Strategy<Value = serde_json::Value> {
    let words = crate::root::vocabulary();
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        prop::sample::select(words.clone()).prop_map(Into::into),
        prop::sample::select(vec![
            "",
            "pg",
            "mysql",
            "(",
            "deployment/a",
            "A;B",
            "env",
            "10.0.0.0/8"
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 5, move |inner| {
        let members = (prop::sample::select(words.clone()), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(Into::into),
            prop::collection::vec(members, 0..5).prop_map(|members| {
                let members = members
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                serde_json::Value::Object(members.collect())
            }),
        ]
    })
}

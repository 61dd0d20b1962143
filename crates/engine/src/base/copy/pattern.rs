//! `pg_dump`'s patterns for names, as SQL conditions.
//!
//! Owns their reading, so that what cannot be read is known before anything is made. Source: PostgreSQL documentation,
//! psql, "Patterns", and `patternToSQLRegex` in `src/fe_utils/string_utils.c`.

use super::dotted::{self, Letter};
use crate::postgres::sql;

/// A pattern: `table`, `schema.table`, `"Quoted".*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The expression for the schema, where the pattern names one.
    schema: Option<String>,
    /// The expression for the name.
    name: String,
}

impl Pattern {
    /// Takes a pattern apart; none when it has more parts than a schema and a name, or an open quote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match dotted::parts(text)?.as_slice() {
            [name] => Some(Self {
                schema: None,
                name: expression(name),
            }),
            [schema, name] => Some(Self {
                schema: Some(expression(schema)),
                name: expression(name),
            }),
            _ => None,
        }
    }

    /// The condition on a schema `n` that a pattern of `--schema` stands for.
    pub(super) fn schema_condition(&self) -> String {
        format!("n.nspname ~ {}", whole(&self.name))
    }

    /// The condition on a relation `c` in `n`. Without a schema it means what the search path finds.
    pub(super) fn relation_condition(&self) -> String {
        let name = format!("c.relname ~ {}", whole(&self.name));
        match &self.schema {
            Some(schema) => format!("({name} AND n.nspname ~ {})", whole(schema)),
            None => format!("({name} AND pg_catalog.pg_table_is_visible(c.oid))"),
        }
    }
}

/// The expression for a part: without quotes `*` and `?` are wildcards, and letters small.
fn expression(part: &[Letter]) -> String {
    let mut expression = String::new();
    for Letter { is, is_quoted } in part {
        match is {
            '*' if !is_quoted => expression.push_str(".*"),
            '?' if !is_quoted => expression.push('.'),
            '$' => expression.push_str("\\$"),
            _ if *is_quoted => {
                if "|*+?()[]{}.^\\".contains(*is) {
                    expression.push('\\');
                }
                expression.push(*is);
            }
            _ => expression.extend(is.to_lowercase()),
        }
    }
    expression
}

/// Expressions match whole names, in the order of bytes whatever the database's locale.
fn whole(expression: &str) -> String {
    let expression = sql::literal(&format!("^({expression})$"));
    format!("{expression} COLLATE pg_catalog.default")
}

/// A pattern that stands for one relation and nothing else.
pub(super) fn exact(schema: &str, name: &str) -> String {
    sql::qualified(schema, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<String>, String) {
        let pattern = Pattern::parse(text).unwrap();
        (pattern.schema, pattern.name)
    }

    #[test]
    fn patterns_become_expressions() {
        let plain = |name: &str| (None, name.to_owned());
        assert_eq!(parsed("Orders"), plain("orders"));
        assert_eq!(parsed("\"Orders\""), plain("Orders"));
        assert_eq!(parsed("audit_*"), plain("audit_.*"));
        assert_eq!(parsed("log?"), plain("log."));
        assert_eq!(parsed("(a|b)"), plain("(a|b)"));
        assert_eq!(parsed("a$b"), plain("a\\$b"));
        assert_eq!(parsed("\"a.b*\"\"c\""), plain("a\\.b\\*\"c"));
        assert_eq!(parsed("s.t"), (Some("s".to_owned()), "t".to_owned()));
        assert_eq!(parsed("\"S\".*"), (Some("S".to_owned()), ".*".to_owned()));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["a.b.c", "\"open", "a\"b.c"] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_exact_pattern_matches_its_relation_alone() {
        let pattern = Pattern::parse(&exact("We.ird", "a\"*b")).unwrap();
        assert_eq!(pattern.schema.as_deref(), Some("We\\.ird"));
        assert_eq!(pattern.name, "a\"\\*b");
    }
}

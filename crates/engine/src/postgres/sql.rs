//! Writing names and texts into SQL, for statements that take no parameters.
//!
//! Owns the quoting alone. The rules are those of PostgreSQL's lexer with `standard_conforming_strings` on, and of
//! `quote_ident` and `quote_literal`.

use std::fmt::Write as _;

/// A name in double quotes: always quoted, so that no list of reserved words has to be known.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name within its schema.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A text as a literal. One with backslashes is written as `E'...'`, which reads the same whatever
/// `standard_conforming_strings` is.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// Names in quotes, with commas between.
pub fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut list = String::new();
    for name in names {
        let comma = if list.is_empty() { "" } else { ", " };
        write!(list, "{comma}{}", ident(name)).expect("a String takes any text");
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_leave_their_quotes() {
        assert_eq!(ident("plain"), "\"plain\"");
        assert_eq!(
            ident("a\"; DROP TABLE t; --"),
            "\"a\"\"; DROP TABLE t; --\""
        );
        assert_eq!(qualified("Straße", "a.b"), "\"Straße\".\"a.b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'; DROP"), "E'\\\\''; DROP'");
        assert_eq!(idents(["a", "B"]), "\"a\", \"B\"");
        assert_eq!(idents([]), "");
    }
}

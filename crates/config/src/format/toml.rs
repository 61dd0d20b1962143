//! TOML with places, by `toml`: every value keeps the bytes that it was read from.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{NESTING_MAX, SyntaxError};
use crate::text::Span;
use crate::tree::{Member, Tree, Value};

/// Reads `text`.
pub(super) fn parse(text: &str) -> Result<Tree, SyntaxError> {
    check_nesting(text)?;
    let document = DeTable::parse(text).map_err(|error| {
        let said = error.message().trim().replace('\n', ", ");
        let (text, hint) = match said.as_str() {
            "duplicate key" => (
                "the key is given twice",
                Some("put what both say under one"),
            ),
            other if other.starts_with("string values must be quoted") => {
                ("a text stands in quotes", None)
            }
            other => (other, None),
        };
        SyntaxError {
            span: error.span().unwrap_or(0..0),
            text: text.to_owned(),
            hint: hint.map(str::to_owned),
        }
    })?;
    let span = document.span();
    Ok(Tree::new(span, convert_table(document.into_inner())?))
}

/// The parser builds a table for each part of a dotted key and takes them down by recursion, so a key with very many
/// parts is refused before it reads them.
fn check_nesting(text: &str) -> Result<(), SyntaxError> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.matches('.').count() > NESTING_MAX && line.len() > 2 * NESTING_MAX {
            let key = line.split(['=', '"', '\'', '#']).next().unwrap_or_default();
            if key.matches('.').count() > NESTING_MAX {
                return Err(SyntaxError::too_deep(start..start + 1));
            }
        }
        start += line.len();
    }
    Ok(())
}

fn convert_table(table: DeTable<'_>) -> Result<Value, SyntaxError> {
    let mut members = Vec::with_capacity(table.len());
    for (key, value) in table {
        members.push(convert_member(key, value)?);
    }
    // The parser sorts by name; the file's own order is what people see.
    members.sort_by_key(|member| member.key_span.start);
    Ok(Value::Object(members))
}

fn convert_member(
    key: Spanned<DeString<'_>>,
    value: Spanned<DeValue<'_>>,
) -> Result<Member, SyntaxError> {
    Ok(Member {
        key_span: key.span(),
        key: key.into_inner().into_owned(),
        value: convert(value)?,
    })
}

fn convert(value: Spanned<DeValue<'_>>) -> Result<Tree, SyntaxError> {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(whole) => Value::Number(decimal(whole.as_str(), whole.radix(), &span)?),
        DeValue::Float(float) => Value::Number(float.as_str().to_owned()),
        DeValue::Boolean(on) => Value::Bool(on),
        DeValue::Datetime(_) => {
            return Err(SyntaxError {
                span,
                text: "no key of this format takes a date".to_owned(),
                hint: Some("put it in quotes if it is a text".to_owned()),
            });
        }
        DeValue::Array(items) => {
            let items: Result<_, _> = items.into_iter().map(convert).collect();
            Value::List(items?)
        }
        DeValue::Table(table) => convert_table(table)?,
    };
    Ok(Tree::new(span, value))
}

fn decimal(digits: &str, radix: u32, span: &Span) -> Result<String, SyntaxError> {
    if radix == 10 {
        return Ok(digits.to_owned());
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) => Ok(number.to_string()),
        Err(_) => Err(SyntaxError {
            span: span.clone(),
            text: "this number is too large".to_owned(),
            hint: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Vec<Member> {
        let tree = parse(text).unwrap_or_else(|error| panic!("{}", error.text));
        let Value::Object(members) = tree.value else {
            panic!("not a table")
        };
        members
    }

    #[test]
    fn values_and_keys_keep_their_places_and_the_files_order() {
        let text = "target = \"pod/a\"\n[feature.network]\nincoming = \"steal\"\nipv6 = false\n";
        let root = members(text);
        assert_eq!(&text[root[0].key_span.clone()], "target");
        assert_eq!(&text[root[0].value.span.clone()], "\"pod/a\"");
        assert_eq!(root[1].key, "feature");
        let text = "b = 1\na = 0x10\nc = 1.50\n";
        let root = members(text);
        let keys: Vec<&str> = root.iter().map(|member| member.key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "c"]);
        assert!(matches!(&root[1].value.value, Value::Number(digits) if digits == "16"));
        assert!(matches!(&root[2].value.value, Value::Number(digits) if digits == "1.50"));
    }

    #[test]
    fn what_is_no_toml_is_an_error_with_its_place() {
        for (text, place) in [
            ("target = pod/a\n", 9..14),
            ("a = 1\na = 2\n", 6..7),
            ("a = 1979-05-27\n", 4..14),
            ("[a\n", 2..2),
        ] {
            let Err(error) = parse(text) else {
                panic!("{text:?} was read")
            };
            assert_eq!(error.span, place, "{text}: {}", error.text);
            let is_of_quotes = error.text == "a text stands in quotes";
            assert_eq!(is_of_quotes, text.contains("pod/a"), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let key = vec!["a"; 200_000].join(".");
        for text in [
            format!("[{key}]\n"),
            format!("{key} = 1\n"),
            format!("a = {{{key} = 1}}\n"),
            format!("a = {}", "[".repeat(200_000)),
            format!("a = {}", "{a=".repeat(200_000)),
        ] {
            assert!(parse(&text).is_err());
        }
    }
}

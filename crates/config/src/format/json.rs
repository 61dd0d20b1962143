//! JSON with places, by `jsonc-parser`: strict but for comments and trailing commas.

use jsonc_parser::ast::{ObjectPropName, Value as Json};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::SyntaxError;
use crate::text::Span;
use crate::tree::{Member, Tree, Value};

const STRICT_BUT_COMMENTS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Reads `text`; nesting is limited to 512 by the parser.
pub(super) fn parse(text: &str) -> Result<Tree, SyntaxError> {
    if text.starts_with('\u{feff}') {
        return Err(SyntaxError {
            span: 0..'\u{feff}'.len_utf8(),
            text: "the file begins with a byte order mark".to_owned(),
            hint: Some("save it as UTF-8 without a byte order mark".to_owned()),
        });
    }
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT_BUT_COMMENTS)
        .map_err(|error| syntax_error(text, &error))?;
    let json = parsed.value.ok_or_else(|| SyntaxError {
        span: 0..0,
        text: "the file is empty".to_owned(),
        hint: Some("the smallest configuration is {}".to_owned()),
    })?;
    convert(text, json)
}

fn convert(text: &str, json: Json<'_>) -> Result<Tree, SyntaxError> {
    let span = span_of(json.range());
    let value = match json {
        Json::NullKeyword(_) => Value::Null,
        Json::BooleanLit(literal) => Value::Bool(literal.value),
        Json::NumberLit(literal) => Value::Number(literal.value.to_owned()),
        Json::StringLit(literal) => {
            check_string(text, &span)?;
            Value::Text(literal.value.into_owned())
        }
        Json::Array(array) => {
            let items = array.elements.into_iter().map(|item| convert(text, item));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        Json::Object(object) => {
            let mut members = Vec::with_capacity(object.properties.len());
            for property in object.properties {
                let key_span = span_of(property.name.range());
                check_string(text, &key_span)?;
                let key = match property.name {
                    ObjectPropName::String(literal) => literal.value.into_owned(),
                    ObjectPropName::Word(word) => word.value.to_owned(),
                };
                members.push(Member {
                    key,
                    key_span,
                    value: convert(text, property.value)?,
                });
            }
            Value::Object(members)
        }
    };
    Ok(Tree::new(span, value))
}

fn span_of(range: Range) -> Span {
    range.start..range.end
}

/// RFC 8259 section 7: control characters in strings are escaped. The parser lets them through.
fn check_string(text: &str, span: &Span) -> Result<(), SyntaxError> {
    match text[span.clone()].find(|c: char| c < ' ') {
        None => Ok(()),
        Some(at) => Err(SyntaxError {
            span: span.start + at..span.start + at + 1,
            text: "a string holds a raw control character, such as a line break or a tab"
                .to_owned(),
            hint: Some("close the string on its line, or write \\n or \\t".to_owned()),
        }),
    }
}

fn syntax_error(text: &str, error: &ParseError) -> SyntaxError {
    let range = error.range();
    // Of what is not closed the parser marks the whole rest of the file: the opening character says more.
    let is_unclosed = matches!(
        error.kind(),
        ParseErrorKind::UnterminatedArray | ParseErrorKind::UnterminatedObject
    );
    let span = if is_unclosed {
        range.start..range.start + 1
    } else {
        span_of(range)
    };
    let (what, hint) = describe(error.kind());
    let found = text[span.start..].chars().next();
    let what = match (what, found) {
        ("", None) => "the file ends too early".to_owned(),
        ("", Some(c)) => format!("{c:?} is not expected here"),
        (what, _) => what.to_owned(),
    };
    let behind_text = text[..span.start].trim_end().ends_with('"');
    let is_letter = found.is_some_and(char::is_alphanumeric);
    let hint = hint.or((behind_text && is_letter).then_some(
        "a quotation mark may be missing before this, or one within a text may need a backslash",
    ));
    SyntaxError {
        span,
        text: what,
        hint: hint.map(str::to_owned),
    }
}

/// Our words for the parser's kinds; empty where the character itself says it best.
fn describe(kind: &ParseErrorKind) -> (&'static str, Option<&'static str>) {
    match kind {
        ParseErrorKind::ExpectedComma => ("a comma is missing here", None),
        ParseErrorKind::ExpectedColonAfterObjectKey => ("a colon is missing after the key", None),
        ParseErrorKind::ExpectedObjectValue => ("a value is missing after the colon", None),
        ParseErrorKind::ExpectedStringObjectProperty => {
            ("a key is a string in double quotes", None)
        }
        ParseErrorKind::SingleQuotedStringsNotAllowed => ("strings stand in double quotes", None),
        ParseErrorKind::MultipleRootJsonValues => (
            "the file goes on after its end",
            Some("one file is one object"),
        ),
        ParseErrorKind::UnterminatedArray => ("the list is not closed", Some("add \"]\"")),
        ParseErrorKind::UnterminatedObject => ("the object is not closed", Some("add \"}\"")),
        ParseErrorKind::UnterminatedCommentBlock => {
            ("the comment is not closed", Some("add \"*/\""))
        }
        ParseErrorKind::NestingDepthExceeded => ("the file is nested too deeply", None),
        ParseErrorKind::String(_) => (
            "the string is not closed, or an escape in it is none of JSON's",
            None,
        ),
        ParseErrorKind::UnexpectedWord => (
            "this word is neither true, false nor null",
            Some("strings stand in double quotes"),
        ),
        ParseErrorKind::BareDecimalPointNumbersNotAllowed
        | ParseErrorKind::ExpectedDigit
        | ParseErrorKind::ExpectedDigitFollowingNegativeSign
        | ParseErrorKind::ExpectedPlusMinusOrDigitInNumberLiteral
        | ParseErrorKind::HexadecimalNumbersNotAllowed
        | ParseErrorKind::NonFiniteNumbersNotAllowed
        | ParseErrorKind::UnaryPlusNumbersNotAllowed => ("this is no number of JSON", None),
        ParseErrorKind::CommentsNotAllowed
        | ParseErrorKind::TrailingCommasNotAllowed
        | ParseErrorKind::UnexpectedCloseBrace
        | ParseErrorKind::UnexpectedCloseBracket
        | ParseErrorKind::UnexpectedColon
        | ParseErrorKind::UnexpectedComma
        | ParseErrorKind::UnexpectedToken
        | ParseErrorKind::UnexpectedTokenInObject => ("", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (Span, String) {
        match parse(text) {
            Ok(_) => panic!("{text:?} was read"),
            Err(error) => (error.span, error.text),
        }
    }

    #[test]
    fn comments_and_trailing_commas_are_allowed() {
        let text = "// a\n{ /* b */ \"a\": [1, 2,], }";
        let tree = parse(text).unwrap_or_else(|error| panic!("{}", error.text));
        let Value::Object(members) = tree.value else {
            panic!("not an object")
        };
        assert_eq!(members[0].key, "a");
        assert_eq!(&text[members[0].key_span.clone()], "\"a\"");
        assert_eq!(&text[members[0].value.span.clone()], "[1, 2,]");
    }

    #[test]
    fn everything_else_is_strict() {
        for bad in [
            "",
            " ",
            "// only",
            "\u{feff}{}",
            "{a: 1}",
            "{'a': 1}",
            "{\"a\": 'x'}",
            "{\"a\" 1}",
            "{\"a\": 1 \"b\": 2}",
            "{\"a\": +1}",
            "{\"a\": 0x1}",
            "{\"a\": .5}",
            "{\"a\": NaN}",
            "{\"a\": 01}",
            "{\"a\": tru}",
            "{\"a\": 1}}",
            "{\"a\": 1",
            "[1",
            "{,}",
            "{\"a\": \"x\ny\"}",
            "{\"a\": \"\\x\"}",
            "{\"a\": \"\\ud800\"}",
            "{\"a\":}",
            "{\"a\": \"x",
            "/* x",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_say_what_and_where() {
        assert_eq!(
            error("{\"a\": 1 \"b\": 2}"),
            (7..7, "a comma is missing here".to_owned())
        );
        assert_eq!(
            error("{\"a\": 1"),
            (0..1, "the object is not closed".to_owned())
        );
        assert_eq!(error("{,}"), (1..2, "',' is not expected here".to_owned()));
        assert_eq!(error(""), (0..0, "the file is empty".to_owned()));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).is_err());
    }
}

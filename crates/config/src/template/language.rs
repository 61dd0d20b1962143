//! Functions, filters and tests that files use: the environment, names, what Tera 1 has and Tera 2 calls otherwise, and
//! bounds for those that could fill the memory.
//!
//! What a template could give differently each time (`now`, `get_random`) is not there: a file says one thing.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tera::{Kwargs, State, Tera, TeraResult, Value};

use crate::environment::Environment;
use crate::pattern;

/// Numbers that all calls of `range` in a file give together at most, and entries that `concat` puts together.
const NUMBERS_MAX: u64 = 1000;

/// Bytes that one value may have: a loop may take it through filters for every number of a range.
const VALUE_BYTES_MAX: usize = 16 << 10;

/// Texts that all tests `matching` in a file look at: each compiles an expression.
const MATCHES_MAX: u64 = 100;

/// What Tera 1 leaves as it is in a path; its strict form does not leave `/`.
const PATH: &AsciiSet = &STRICT.remove(b'/');
const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The filters that files may use.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "as_str",
    "capitalize",
    "concat",
    "default",
    "escape",
    "escape_html",
    "escape_xml",
    "first",
    "float",
    "get",
    "group_by",
    "int",
    "join",
    "json_encode",
    "keys",
    "last",
    "length",
    "lower",
    "newlines_to_br",
    "nth",
    "pairs",
    "pluralize",
    "replace",
    "reverse",
    "round",
    "safe",
    "slugify",
    "sort",
    "split",
    "str",
    "title",
    "trim",
    "trim_end",
    "trim_end_matches",
    "trim_start",
    "trim_start_matches",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlencode_strict",
    "values",
    "wordcount",
];

/// The functions that files may use.
pub(super) const FUNCTIONS: &[&str] = &["get_env", "range", "throw"];

/// The tests that files may use.
pub(super) const TESTS: &[&str] = &[
    "array",
    "bool",
    "containing",
    "defined",
    "divisible_by",
    "divisibleby",
    "ending_with",
    "even",
    "float",
    "integer",
    "iterable",
    "map",
    "matching",
    "none",
    "number",
    "object",
    "odd",
    "starting_with",
    "string",
    "undefined",
];

/// What Tera 1 has and files here have not, and what to do.
pub(super) const WITHOUT: &[(&str, &str)] = &[
    (
        "now",
        "a file says the same at any time: set a variable and read it with get_env",
    ),
    (
        "get_random",
        "a file says the same each time: set a variable and read it with get_env",
    ),
    (
        "date",
        "a file says the same at any time: set a variable and read it with get_env",
    ),
];

/// Words of the language beside those: none of them is a secret.
const KEYWORDS: &[&str] = &[
    "and",
    "elif",
    "else",
    "endfor",
    "endif",
    "endraw",
    "endset",
    "filter",
    "for",
    "git_branch",
    "if",
    "in",
    "is",
    "key",
    "name",
    "not",
    "or",
    "pat",
    "raw",
    "set",
    "set_global",
    "value",
];

/// Every word of the language, for what may be shown of a template that cannot be rendered.
pub(super) fn vocabulary() -> Vec<&'static str> {
    [FILTERS, FUNCTIONS, TESTS, KEYWORDS].concat()
}

/// Teaches `tera` the language of configuration files.
pub(super) fn teach(tera: &mut Tera, environment: &Arc<Environment>) {
    let environment = Arc::clone(environment);
    tera.register_function("get_env", move |args: Kwargs, _: &State<'_>| {
        get_env(&args, &environment)
    });
    let numbers_given = AtomicU64::new(0);
    tera.register_function("range", move |args: Kwargs, _: &State<'_>| {
        range(&args, &numbers_given)
    });
    tera.register_filter("replace", replace);
    tera.register_filter("join", join);
    tera.register_filter("concat", concat);
    tera.register_filter("slugify", |text: &str, _: Kwargs, _: &State<'_>| {
        slugify(text)
    });
    tera.register_filter("trim_start_matches", trim_start_matches);
    tera.register_filter("trim_end_matches", trim_end_matches);
    tera.register_filter("as_str", |value: Value, _: Kwargs, _: &State<'_>| {
        value.to_string()
    });
    tera.register_filter("urlencode", |text: &str, _: Kwargs, _: &State<'_>| {
        utf8_percent_encode(text, PATH).to_string()
    });
    tera.register_filter(
        "urlencode_strict",
        |text: &str, _: Kwargs, _: &State<'_>| utf8_percent_encode(text, STRICT).to_string(),
    );
    tera.register_filter("json_encode", json_encode);
    tera.register_filter(
        "indent",
        |_: &str, _: Kwargs, _: &State<'_>| -> TeraResult<String> {
            Err(tera::Error::message(
                "the filter indent is not supported in a configuration file",
            ))
        },
    );
    let matched = AtomicU64::new(0);
    tera.register_test(
        "matching",
        move |text: &str, args: Kwargs, _: &State<'_>| {
            if matched.fetch_add(1, Ordering::Relaxed) >= MATCHES_MAX {
                return Err(tera::Error::message(format!(
                    "a file looks for at most {MATCHES_MAX} expressions"
                )));
            }
            matching(text, &args)
        },
    );
    tera.register_test("object", |value: &Value, _: Kwargs, _: &State<'_>| {
        value.as_map().is_some()
    });
    tera.register_test("divisibleby", divisible_by);
}

/// A variable of the environment, or the default.
fn get_env(args: &Kwargs, environment: &Environment) -> TeraResult<String> {
    let name: &str = args.must_get("name")?;
    match environment.get(OsStr::new(name)) {
        Some(value) => value.to_str().map(str::to_owned).ok_or_else(|| {
            tera::Error::message(format!("the environment variable {name:?} is not UTF-8"))
        }),
        None => match args.get::<Value>("default")? {
            Some(default) => Ok(default.to_string()),
            None => Err(tera::Error::message(format!(
                "the environment variable {name:?} is not set, and get_env has no default"
            ))),
        },
    }
}

/// Tera's `range`, with an end: `given` counts what all calls gave.
fn range(args: &Kwargs, given: &AtomicU64) -> TeraResult<Vec<u64>> {
    let start: u64 = args.get("start")?.unwrap_or(0);
    let end: u64 = args.must_get("end")?;
    let step: u64 = args.get("step_by")?.unwrap_or(1);
    let length = end.saturating_sub(start).checked_div(step);
    let before = given.fetch_add(length.unwrap_or(0), Ordering::Relaxed);
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    match length {
        Some(length) if before.saturating_add(length) <= NUMBERS_MAX => {
            Ok((start..end).step_by(step).collect())
        }
        Some(_) | None => Err(tera::Error::message(format!(
            "range gives at most {NUMBERS_MAX} numbers in one file, by steps of at least 1"
        ))),
    }
}

fn too_long() -> tera::Error {
    tera::Error::message(format!("a value has more than {VALUE_BYTES_MAX} bytes"))
}

/// Tera's `replace`, with an end to what it gives.
fn replace(text: &str, args: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let from: &str = args.must_get("from")?;
    let to: &str = args.must_get("to")?;
    // An empty pattern is found before each character and at the end.
    let found = text.matches(from).count();
    let length = found.saturating_mul(to.len()).saturating_add(text.len());
    if length > VALUE_BYTES_MAX {
        return Err(too_long());
    }
    Ok(text.replace(from, to))
}

/// Tera's `join`, with an end to what it gives.
fn join(items: Vec<Value>, args: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let separator: &str = args.get("sep")?.unwrap_or_default();
    if items.len().saturating_mul(separator.len()) > VALUE_BYTES_MAX {
        return Err(too_long());
    }
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    let joined = items.join(separator);
    if joined.len() > VALUE_BYTES_MAX {
        return Err(too_long());
    }
    Ok(joined)
}

/// A list with one more entry, or with all of another.
fn concat(mut items: Vec<Value>, args: Kwargs, _: &State<'_>) -> TeraResult<Vec<Value>> {
    let with: Value = args.must_get("with")?;
    match with.as_array() {
        Some(others) => items.extend(others.iter().cloned()),
        None => items.push(with),
    }
    if items.len() as u64 > NUMBERS_MAX {
        return Err(tera::Error::message(format!(
            "a list has at most {NUMBERS_MAX} entries"
        )));
    }
    Ok(items)
}

fn trim_start_matches(text: &str, args: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let pattern: &str = args.must_get("pat")?;
    Ok(text.trim_start_matches(pattern).to_owned())
}

fn trim_end_matches(text: &str, args: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let pattern: &str = args.must_get("pat")?;
    Ok(text.trim_end_matches(pattern).to_owned())
}

fn json_encode(value: Value, _: Kwargs, _: &State<'_>) -> TeraResult<String> {
    serde_json::to_string(&value).map_err(|error| tera::Error::message(error.to_string()))
}

/// Whether a regular expression is found in a text.
fn matching(text: &str, args: &Kwargs) -> TeraResult<bool> {
    let written: &str = args.must_get("pat")?;
    let compiled = pattern::compile(written)
        .map_err(|_| tera::Error::message(format!("{written:?} is not a regular expression")))?;
    Ok(pattern::is_match(&compiled, text))
}

fn divisible_by(number: i64, args: Kwargs, _: &State<'_>) -> TeraResult<bool> {
    let divisor: i64 = args.must_get("divisor")?;
    Ok(number.checked_rem(divisor) == Some(0))
}

/// Lowercase letters and digits with single dashes between them: what a name of a Kubernetes object may be made of.
fn slugify(text: &str) -> String {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use tera::Context;

    use super::*;

    /// What a template of this name and call is refused for, if it is because the name is not known.
    fn unknown(template: &str) -> bool {
        let mut tera = Tera::default();
        teach(&mut tera, &Arc::default());
        let rendered = tera.render_str(template, &Context::new(), false);
        rendered.is_err_and(|error| error.to_string().contains("Unknown "))
    }

    #[test]
    fn the_names_that_hints_tell_are_known() {
        for filter in FILTERS {
            assert!(!unknown(&format!("{{{{ 'a' | {filter} }}}}")), "{filter}");
        }
        for test in TESTS {
            assert!(!unknown(&format!("{{{{ 'a' is {test} }}}}")), "{test}");
        }
        for function in FUNCTIONS {
            assert!(!unknown(&format!("{{{{ {function}() }}}}")), "{function}");
        }
        for (name, _) in WITHOUT {
            assert!(unknown(&format!("{{{{ {name}() }}}}")), "{name}");
        }
    }
}

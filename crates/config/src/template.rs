//! Templates: the file is rendered as a whole before it is read, in Tera's language.
//!
//! Owns the variables and functions that a file may use (`key`, `git_branch`, `get_env(name=, default=)`, the filter
//! `slugify`) and the limits of rendering (`limits` refuses what could take for ever). Reads nothing: the environment is an argument. Tera 2 renders it; mirrord has
//! Tera 1, which differs in macros and in some filters, not in variables, conditions, `default` and `get_env`.

mod limits;

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tera::{Context, ErrorKind, Kwargs, State, Tera, TeraResult};

use crate::environment::Environment;
use crate::text::Span;

/// Bytes that a file may have once rendered: a loop must not fill the memory.
const RENDERED_BYTES_MAX: usize = 4 << 20;

/// Bytes that a file with templates may have: real ones have a few thousand, and rendering costs more than reading.
const TEMPLATE_BYTES_MAX: usize = 256 << 10;

/// Numbers that all calls of `range` in a file give together at most.
const RANGE_NUMBERS_MAX: u64 = 10_000;

/// What a file may refer to.
pub(crate) struct Variables<'a> {
    pub(crate) key: &'a str,
    /// None leaves `git_branch` undefined.
    pub(crate) git_branch: Option<&'a str>,
    pub(crate) environment: &'a Arc<Environment>,
}

/// Why a file could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// Where in the file as written.
    pub(crate) span: Span,
    pub(crate) text: String,
}

/// Whether `text` has anything to render.
pub(crate) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// Renders `text`.
pub(crate) fn render(text: &str, variables: &Variables<'_>) -> Result<String, TemplateError> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(TemplateError {
            span: 0..0,
            text: format!("a file with templates has at most {TEMPLATE_BYTES_MAX} bytes"),
        });
    }
    limits::check(text)?;
    let mut tera = Tera::default();
    let environment = Arc::clone(variables.environment);
    tera.register_function("get_env", move |args: Kwargs, _: &State<'_>| {
        get_env(&args, &environment)
    });
    let numbers_given = AtomicU64::new(0);
    tera.register_function("range", move |args: Kwargs, _: &State<'_>| {
        range(&args, &numbers_given)
    });
    tera.register_filter("slugify", |text: &str, _: Kwargs, _: &State<'_>| {
        slugify(text)
    });
    tera.register_filter("replace", replace);
    tera.register_filter("join", join);
    tera.register_filter(
        "indent",
        |_: &str, _: Kwargs, _: &State<'_>| -> TeraResult<String> {
            Err(tera::Error::message(
                "the filter indent is not supported in a configuration file",
            ))
        },
    );
    let mut context = Context::new();
    context.insert("key", variables.key);
    if let Some(git_branch) = variables.git_branch {
        context.insert("git_branch", git_branch);
    }
    let mut rendered = Bounded(Vec::new());
    tera.render_str_to(text, &context, false, &mut rendered)
        .map_err(|error| describe(&error))?;
    String::from_utf8(rendered.0).map_err(|_| TemplateError {
        span: 0..0,
        text: "the template gives bytes that are not UTF-8".to_owned(),
    })
}

fn describe(error: &tera::Error) -> TemplateError {
    let kind = error.kind();
    let (span, text) = if let ErrorKind::SyntaxError(at) | ErrorKind::RenderingError(at) = kind {
        (at.span().range.clone(), at.message().to_owned())
    } else if let ErrorKind::Io(_) = kind {
        let most = RENDERED_BYTES_MAX;
        (0..0, format!("the template gives more than {most} bytes"))
    } else {
        (0..0, kind.to_string())
    };
    TemplateError {
        span,
        text: format!("template: {text}"),
    }
}

/// A variable of the environment, or the default.
fn get_env(args: &Kwargs, environment: &Environment) -> TeraResult<String> {
    let name: &str = args.must_get("name")?;
    match environment.get(OsStr::new(name)) {
        Some(value) => value.to_str().map(str::to_owned).ok_or_else(|| {
            tera::Error::message(format!("the environment variable {name:?} is not UTF-8"))
        }),
        None => match args.get::<tera::Value>("default")? {
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
        Some(length) if before.saturating_add(length) <= RANGE_NUMBERS_MAX => {
            Ok((start..end).step_by(step).collect())
        }
        Some(_) | None => Err(tera::Error::message(format!(
            "range gives at most {RANGE_NUMBERS_MAX} numbers in one file, by steps of at least 1"
        ))),
    }
}

fn too_long() -> tera::Error {
    tera::Error::message(format!("a value has more than {RENDERED_BYTES_MAX} bytes"))
}

/// Tera's `replace`, with an end to what it gives.
fn replace(text: &str, args: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let from: &str = args.must_get("from")?;
    let to: &str = args.must_get("to")?;
    // An empty pattern is found before each character and at the end.
    let found = text.matches(from).count();
    let length = found.saturating_mul(to.len()).saturating_add(text.len());
    if length > RENDERED_BYTES_MAX {
        return Err(too_long());
    }
    Ok(text.replace(from, to))
}

/// Tera's `join`, with an end to what it gives.
fn join(items: Vec<tera::Value>, args: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let separator: &str = args.get("sep")?.unwrap_or_default();
    if items.len().saturating_mul(separator.len()) > RENDERED_BYTES_MAX {
        return Err(too_long());
    }
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    let joined = items.join(separator);
    if joined.len() > RENDERED_BYTES_MAX {
        return Err(too_long());
    }
    Ok(joined)
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

/// A buffer that refuses to grow past [`RENDERED_BYTES_MAX`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RENDERED_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, TemplateError> {
        let environment = Arc::new(Environment::from([("SET".into(), "a\"<b".into())]));
        render(
            text,
            &Variables {
                key: "abc",
                git_branch: Some("Feature/X_1"),
                environment: &environment,
            },
        )
    }

    #[test]
    fn variables_functions_and_filters() {
        for (template, expected) in [
            ("{{ key }}-db", "abc-db"),
            ("{{ git_branch }}", "Feature/X_1"),
            ("{{ git_branch | slugify }}", "feature-x-1"),
            ("{{ other | default(value=\"x\") }}", "x"),
            ("{{ get_env(name=\"SET\") }}", "a\"<b"),
            ("{{ get_env(name=\"UNSET\", default=\"60\") }}", "60"),
            ("{{ get_env(name=\"UNSET\", default=60) }}", "60"),
            ("{% if key == \"abc\" %}yes{% else %}no{% endif %}", "yes"),
            ("{% for n in range(end=3) %}{{ n }}{% endfor %}", "012"),
            ("a{{2}}{# gone #}", "a2"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_undefined_is_an_error_with_its_place() {
        let error = rendered("{\"a\": \"{{ foo }}\"}").expect_err("foo is undefined");
        assert_eq!(&"{\"a\": \"{{ foo }}\"}"[error.span.clone()], "foo");
        assert!(
            error.text.contains("`foo` is not defined"),
            "{}",
            error.text
        );
        let error = rendered("{{ get_env(name=\"UNSET\") }}").expect_err("UNSET is not set");
        assert!(
            error.text.contains("\"UNSET\" is not set"),
            "{}",
            error.text
        );
        assert!(rendered("{{ key").is_err());
    }

    #[test]
    fn output_and_effort_are_bounded() {
        for (endless, expected) in [
            (
                "{% for n in range(end=10001) %}x{% endfor %}".to_owned(),
                "range gives at most",
            ),
            (
                "{{ range(end=5, step_by=0) }}".to_owned(),
                "range gives at most",
            ),
            (
                format!(
                    "{{% for a in range(end=9999) %}}{}{{% endfor %}}",
                    "x".repeat(1000)
                ),
                "bytes",
            ),
            (
                format!(
                    "{{{{ '{0}' | replace(from='a', to='{0}') }}}}",
                    "a".repeat(50_000)
                ),
                "bytes",
            ),
            (
                format!(
                    "{{{{ range(end=9000) | join(sep='{}') }}}}",
                    "a".repeat(50_000)
                ),
                "bytes",
            ),
            ("{{ 'a' | indent(width=99999999999) }}".to_owned(), "indent"),
            ("x{{ key }}".repeat(100_000), "bytes"),
            ("{{".to_owned() + &"(".repeat(100_000), "too complex"),
        ] {
            let error = rendered(&endless).expect_err("bounded");
            assert!(error.text.contains(expected), "{expected}: {}", error.text);
        }
        assert_eq!(
            rendered("{{ 'aXa' | replace(from='a', to='b') }}").as_deref(),
            Ok("bXb")
        );
        assert_eq!(
            rendered("{{ [1, 'b'] | join(sep='-') }}").as_deref(),
            Ok("1-b")
        );
    }
}

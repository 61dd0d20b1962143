//! Templates: the file is rendered as a whole before it is read, in Tera's language.
//!
//! Owns the variables that a file may use (`key`, `git_branch`) and the limits of rendering: `limits` refuses what could
//! take for ever, `language` has functions, filters and tests, `positional` names their arguments, `fault` has the words
//! for what is wrong, `lexer` serves them. Reads nothing: the environment is an argument. Tera 2 renders it; mirrord has Tera 1, which differs in macros, in `now` and `get_random`,
//! and in filters for HTML, sizes and dates.

mod fault;
mod language;
mod lexer;
mod limits;
mod positional;

use std::io;
use std::sync::Arc;

use tera::{Context, Tera};

use crate::environment::Environment;
use crate::text::Span;
use positional::Named;

/// Bytes that a file may have once rendered: a loop must not fill the memory.
const RENDERED_BYTES_MAX: usize = 4 << 20;

/// Bytes that a file with templates may have: real ones have a few thousand, and rendering costs more than reading.
const TEMPLATE_BYTES_MAX: usize = 256 << 10;

/// The variable that is the session's key.
const KEY: &str = "key";

/// The variable that is the branch that git has checked out.
const GIT_BRANCH: &str = "git_branch";

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
    pub(crate) hint: Option<String>,
}

impl TemplateError {
    fn new(span: Span, text: impl Into<String>) -> Self {
        Self {
            span,
            text: text.into(),
            hint: None,
        }
    }
}

/// Whether `text` has anything to render.
pub(crate) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// The words of templates, for those that an excerpt may show.
pub(crate) fn vocabulary() -> Vec<&'static str> {
    language::vocabulary()
}

/// Renders `text`.
pub(crate) fn render(text: &str, variables: &Variables<'_>) -> Result<String, TemplateError> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(TemplateError::new(
            0..0,
            format!("a file with templates has at most {TEMPLATE_BYTES_MAX} bytes"),
        ));
    }
    limits::check(text)?;
    let named = Named::of(text);
    let mut tera = Tera::default();
    language::teach(&mut tera, variables.environment);
    let mut context = Context::new();
    context.insert(KEY, variables.key);
    if let Some(git_branch) = variables.git_branch {
        context.insert(GIT_BRANCH, git_branch);
    }
    let mut rendered = Bounded(Vec::new());
    tera.render_str_to(&named.text, &context, false, &mut rendered)
        .map_err(|error| fault::describe(&error, &named))?;
    String::from_utf8(rendered.0)
        .map_err(|_| TemplateError::new(0..0, "the template gives bytes that are not UTF-8"))
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
        assert!(error.text.contains("no variable \"foo\""), "{}", error.text);
        let error = rendered("{{ get_env(name=\"UNSET\") }}").expect_err("UNSET is not set");
        assert!(
            error.text.contains("\"UNSET\" is not set"),
            "{}",
            error.text
        );
        assert!(rendered("{{ key").is_err());
    }

    #[test]
    fn what_is_as_long_as_its_limit_is_taken_and_nothing_longer() {
        let key = "{{ key }}";
        let text = |length: usize| format!("{key}{}", "x".repeat(length - key.len()));
        assert!(rendered(&text(TEMPLATE_BYTES_MAX)).is_ok());
        assert!(rendered(&text(TEMPLATE_BYTES_MAX + 1)).is_err());
        let mut bounded = Bounded(vec![b'x'; RENDERED_BYTES_MAX - 2]);
        assert!(matches!(io::Write::write(&mut bounded, b"ab"), Ok(2)));
        assert!(io::Write::write(&mut bounded, b"c").is_err());
        let x = |count: usize| "x".repeat(count);
        let replaced = |to: usize| format!("{{{{ 'aa' | replace(from='a', to='{}') }}}}", x(to));
        // Counted before anything is taken away.
        assert_eq!(rendered(&replaced(8_191)), Ok(x(16_382)));
        assert!(rendered(&replaced(8_192)).is_err());
        let joined = |length: usize| {
            format!(
                "{{% set a = '{}' %}}{{{{ [a, a] | join(sep='-') }}}}",
                x(length)
            )
        };
        assert!(rendered(&joined(8_191)).is_ok());
        assert!(rendered(&joined(8_192)).is_err());
        let separated = |length: usize| format!("{{{{ [1, 2] | join(sep='{}') }}}}", x(length));
        assert!(rendered(&separated(8_192)).is_ok());
        assert!(rendered(&separated(8_193)).is_err());
        let list = "{{ [1] | concat(with=range(end=999)) | length }}";
        assert_eq!(rendered(list).as_deref(), Ok("1000"));
    }

    #[test]
    fn output_and_effort_are_bounded() {
        for (endless, expected) in [
            (
                "{% for n in range(end=1001) %}x{% endfor %}".to_owned(),
                "range gives at most",
            ),
            (
                "{{ range(end=5, step_by=0) }}".to_owned(),
                "range gives at most",
            ),
            (
                format!(
                    "{{% for a in range(end=999) %}}{}{{% endfor %}}",
                    "x".repeat(5000)
                ),
                "bytes",
            ),
            (
                format!(
                    "{{{{ '{0}' | replace(from='a', to='{0}') }}}}",
                    "a".repeat(5000)
                ),
                "a value has more than 16384 bytes",
            ),
            (
                format!(
                    "{{{{ range(end=900) | join(sep='{}') }}}}",
                    "a".repeat(5000)
                ),
                "a value has more than 16384 bytes",
            ),
            ("{{ 'a' | indent(width=99999999999) }}".to_owned(), "indent"),
            ("x{{ key }}".repeat(100_000), "bytes"),
            ("{{".to_owned() + &"(".repeat(10_000) + "}}", "too complex"),
            (
                "{{ [1] | concat(with=range(end=1000)) }}".to_owned(),
                "a list has at most 1000 entries",
            ),
            (
                "{% for n in range(end=101) %}{% if key is matching('b') %}{% endif %}{% endfor %}"
                    .to_owned(),
                "at most 100 expressions",
            ),
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

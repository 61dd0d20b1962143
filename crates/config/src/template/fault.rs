//! What is wrong with a template, in words and with its place.

use tera::ErrorKind;

use super::language::{FILTERS, FUNCTIONS, TESTS, WITHOUT};
use super::positional::Named;
use super::{GIT_BRANCH, KEY, RENDERED_BYTES_MAX, TemplateError, lexer};
use crate::decode::nearest;
use crate::text::Span;

/// The words for what the renderer refused.
pub(super) fn describe(error: &tera::Error, named: &Named<'_>) -> TemplateError {
    let kind = error.kind();
    let found = if let ErrorKind::SyntaxError(at) | ErrorKind::RenderingError(at) = kind {
        let open = matches!(kind, ErrorKind::SyntaxError(_)).then(|| find_open(&named.text));
        open.flatten().unwrap_or_else(|| {
            let (text, hint) = describe_undefined(at.message());
            Fault {
                span: at.span().range.clone(),
                text,
                hint,
            }
        })
    } else if let ErrorKind::Io(_) = kind {
        Fault::of_text(format!(
            "the template gives more than {RENDERED_BYTES_MAX} bytes"
        ))
    } else {
        let said = kind.to_string();
        read_report(&said, &named.text).unwrap_or_else(|| Fault::of_text(said))
    };
    TemplateError {
        span: named.original(&found.span),
        text: format!("template: {}", found.text),
        hint: found.hint,
    }
}

/// A place in the text that was rendered, and what is wrong there.
struct Fault {
    span: Span,
    text: String,
    hint: Option<String>,
}

impl Fault {
    fn of_text(text: String) -> Self {
        Self {
            span: 0..0,
            text,
            hint: None,
        }
    }
}

/// What the renderer finds before it runs comes as a report of several lines alone: the first is `error: TEXT`, the
/// second ` --> NAME:LINE:COLUMN`, and one further has carets under the fault.
fn read_report(said: &str, template: &str) -> Option<Fault> {
    let mut lines = said.lines();
    let text = lines.next()?.strip_prefix("error: ")?;
    let mut place = lines
        .next()?
        .trim_start()
        .strip_prefix("--> ")?
        .rsplitn(3, ':');
    let column: usize = place.next()?.parse().ok()?;
    let line: usize = place.next()?.parse().ok()?;
    let width = lines
        .map(|line| line.matches('^').count())
        .find(|width| *width > 0)?;
    let before: usize = template
        .split_inclusive('\n')
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let line = template.get(before..)?;
    let at = |column: usize| {
        let found = line.char_indices().nth(column);
        found.map_or(line.len(), |(at, _)| at)
    };
    let start = column.checked_sub(1)?;
    let (text, hint) = describe_unknown(text);
    Some(Fault {
        span: before + at(start)..before + at(start + width),
        text,
        hint,
    })
}

/// ``Unknown KIND `NAME` ``, and what its author may have meant.
fn describe_unknown(text: &str) -> (String, Option<String>) {
    let parsed = text
        .strip_prefix("Unknown ")
        .and_then(|rest| rest.split_once(" `"))
        .map(|(kind, name)| (kind, name.trim_end_matches('`')));
    let known = match parsed {
        Some(("filter", _)) => FILTERS,
        Some(("function", _)) => FUNCTIONS,
        Some(("test", _)) => TESTS,
        Some(_) | None => return (text.to_owned(), None),
    };
    let (kind, name) = parsed.unwrap_or_default();
    let hint = match WITHOUT.iter().find(|(without, _)| *without == name) {
        Some((_, why)) => (*why).to_owned(),
        None => match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("there are {}", known.join(", ")),
        },
    };
    (format!("there is no {kind} {name:?}"), Some(hint))
}

/// ``Variable `NAME` is not defined...``, and what there is.
fn describe_undefined(said: &str) -> (String, Option<String>) {
    let name = said
        .strip_prefix("Variable `")
        .and_then(|rest| rest.split_once("` is not defined"))
        .map(|(name, _)| name);
    let Some(name) = name else {
        return (said.to_owned(), None);
    };
    let hint = if name == GIT_BRANCH {
        "git has no branch checked out here: set MIRRORD_BRANCH_NAME, or write {{ git_branch | default(value=\"x\") }}"
            .to_owned()
    } else {
        match nearest(name, [KEY, GIT_BRANCH]) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!(
                "there are {KEY} and {GIT_BRANCH}; get_env(name={name:?}) reads a variable of the environment"
            ),
        }
    };
    (format!("there is no variable {name:?}"), Some(hint))
}

/// A tag without an end, or a block without its closing tag: what the renderer says of either is about the end of the
/// file.
fn find_open(text: &str) -> Option<Fault> {
    if let Some(at) = lexer::unclosed(text) {
        let mark = &text[at..at + 2];
        let close = match mark {
            "{{" => "}}",
            "{#" => "#}",
            _ => "%}",
        };
        return Some(Fault {
            span: at..at + 2,
            text: format!("{mark:?} is not closed"),
            hint: Some(format!("add {close:?}")),
        });
    }
    let mut open: Vec<(Span, &str)> = Vec::new();
    for tag in lexer::tags(text) {
        match tag.first() {
            Some(word @ ("if" | "for" | "filter")) => open.push((tag.span, word)),
            Some("endif" | "endfor" | "endfilter") => drop(open.pop()),
            Some(_) | None => {}
        }
    }
    let (span, word) = open.pop()?;
    Some(Fault {
        span,
        text: format!("{word:?} has no end"),
        hint: Some(format!("add {{% end{word} %}}")),
    })
}

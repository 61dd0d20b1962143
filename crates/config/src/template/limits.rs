//! What a template may not do: take for ever, or fill the memory.
//!
//! The renderer bounds the depth of expressions and blocks. What it leaves open is refused here, before it runs: loops
//! within loops, definitions that call themselves, texts that are doubled again and again.

use super::TemplateError;
use super::lexer::{self, Tag};

/// Tags that a file may have: an endless chain of `elif` would cost the renderer's stack.
const TAGS_MAX: usize = 1000;

/// Bytes of all tags together: a text within one is taken through filters as often as a loop likes.
const TAG_BYTES_MAX: usize = 16 << 10;

/// Loops that a file may have.
const LOOPS_MAX: usize = 16;

/// Names, filters and keywords within loops: each is met once for every number of a range.
const LOOP_WORDS_MAX: usize = 100;

/// Concatenations and spreads in assignments: each may double what a variable holds.
const DOUBLINGS_MAX: usize = 8;

/// Tags that put templates together. A configuration is one file.
const FOREIGN: [&str; 8] = [
    "block",
    "component",
    "endset",
    "extends",
    "import",
    "include",
    "macro",
    "endmacro",
];

/// Refuses a template that could take for ever.
pub(super) fn check(text: &str) -> Result<(), TemplateError> {
    let mut counts = Counts::default();
    lexer::tags(text).try_for_each(|tag| counts.take(&tag))
}

/// What was met so far.
#[derive(Default)]
struct Counts {
    tags: usize,
    bytes: usize,
    loops: usize,
    /// Loops that are open.
    depth: usize,
    loop_words: usize,
    doublings: usize,
}

impl Counts {
    fn take(&mut self, tag: &Tag<'_>) -> Result<(), TemplateError> {
        let refuse = |text: String| {
            Err(TemplateError::new(
                tag.span.clone(),
                format!("template: {text}"),
            ))
        };
        self.tags += 1;
        if self.tags > TAGS_MAX {
            return refuse(format!("there are more than {TAGS_MAX} tags"));
        }
        self.bytes += tag.span.len();
        if self.bytes > TAG_BYTES_MAX {
            return refuse(format!(
                "all tags together have more than {TAG_BYTES_MAX} bytes"
            ));
        }
        let first = tag.first().unwrap_or_default();
        if FOREIGN.contains(&first) {
            return refuse(format!(
                "{first:?} is not supported in a configuration file"
            ));
        }
        let is_set = matches!(first, "set" | "set_global");
        if first == "endfor" {
            self.depth = self.depth.saturating_sub(1);
        }
        // A comprehension is a loop within an expression.
        let loops = tag.words().filter(|word| *word == "for").count();
        self.loops += loops;
        if self.depth + loops > 1 {
            return refuse("a loop within a loop is not supported".to_owned());
        }
        if self.loops > LOOPS_MAX {
            return refuse(format!("there are more than {LOOPS_MAX} loops"));
        }
        if self.depth + loops > 0 {
            self.loop_words += tag.words().count();
        }
        if self.loop_words > LOOP_WORDS_MAX {
            return refuse(format!(
                "there are more than {LOOP_WORDS_MAX} names and filters within loops"
            ));
        }
        if first == "for" {
            self.depth += 1;
        }
        if is_set && tag.doublings > 0 {
            self.doublings += tag.doublings;
            if self.depth > 0 || self.doublings > DOUBLINGS_MAX {
                return refuse(format!(
                    "texts are put together in more than {DOUBLINGS_MAX} assignments, or in a loop"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<String> {
        check(text).err().map(|error| error.text)
    }

    #[test]
    fn what_files_have_is_let_through() {
        for text in [
            "{{ key }}",
            "{% if git_branch == \"main\" %}a{% elif x %}b{% else %}c{% endif %}",
            "{% for n in range(end=3) %}{{ n }},{% endfor %}{% for m in [1] %}x{% endfor %}",
            "{% set a = \"x\" ~ key %}{{ a ~ a ~ a }}",
            "{# {% for %}{% for %} #}",
            "{% raw %}{% for a in b %}{% for c in d %}{{ '{% endraw %}{{ key }}",
            "{{ \"{% for a in b %}{% for c in d %}\" }}",
            "for for for, ~ ~ ~, {\"a\": 1}",
            "{{ 'it\\'s }} {% include \"x\" %}' }}",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_at_a_limit_is_let_through_and_no_more() {
        let word_tags =
            |words: usize| format!("{{% for a in b %}}{{{{ a{} }}}}", " a".repeat(words));
        let long = |bytes: usize| format!("{{{{ '{}' }}}}", "x".repeat(bytes - 8));
        let limits: [(&dyn Fn(usize) -> String, usize); 5] = [
            (&|count| "{{ a }}".repeat(count), 1000),
            (&long, 16 << 10),
            (&|count| "{% for a in b %}{% endfor %}".repeat(count), 16),
            // The four of the loop's own beginning and the one that stands there already count.
            (&|count| word_tags(count - 5), 100),
            (&|count| "{% set a = a ~ a %}".repeat(count), 8),
        ];
        for (text, most) in limits {
            assert_eq!(refused(&text(most)), None, "{most}");
            assert!(refused(&text(most + 1)).is_some(), "{most} and one");
        }
        let spread = "{% for a in b %}{% set c = a %}{% endfor %}{% set d = a ~ a %}";
        assert_eq!(refused(spread), None);
        assert!(refused("{% for a in b %}{% set c = a ~ a %}").is_some());
    }

    #[test]
    fn what_could_take_for_ever_is_refused_by_name() {
        let doubling = "{% set a = a ~ a %}".repeat(9);
        let elif = format!("{{% if a %}}{}", "{% elif a %}".repeat(1000));
        let loops = "{% for a in b %}{% endfor %}".repeat(17);
        let filters = format!("{{% for a in b %}}{{{{ a{} }}}}", " | upper".repeat(100));
        let long = format!("{{{{ '{}' }}}}", "x".repeat(1 << 14));
        for (text, expected) in [
            ("{% for a in b %}{% for c in d %}", "a loop within a loop"),
            (
                "{% for a in b %}{{ [x for x in y] }}",
                "a loop within a loop",
            ),
            ("{{ [[x for x in y] for z in y] }}", "a loop within a loop"),
            ("{%- include \"x\" %}", "\"include\" is not supported"),
            ("{% component a() %}", "\"component\" is not supported"),
            ("{% macro a() %}", "\"macro\" is not supported"),
            (
                "{% set a %}{{ a }}{{ a }}{% endset %}",
                "\"endset\" is not supported",
            ),
            ("{% for a in b %}{% set_global c = c ~ c %}", "or in a loop"),
            (&doubling, "more than 8 assignments"),
            (
                "{% set a = [...a, ...a, ...a, ...a, ...a, ...a, ...a, ...a, ...a] %}",
                "more than 8",
            ),
            (&elif, "more than 1000 tags"),
            (&loops, "more than 16 loops"),
            (&filters, "more than 100 names"),
            (&long, "all tags together"),
            (
                "{{ '}}' }}{% raw %}x{% endraw %}{% extends \"x\" %}",
                "\"extends\"",
            ),
        ] {
            let said = refused(text).unwrap_or_default();
            assert!(said.contains(expected), "{text}: {said:?}");
        }
    }
}

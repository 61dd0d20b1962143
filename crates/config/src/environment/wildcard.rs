//! Patterns of names: `*` is any text, `?` is any one character, all else is itself.

use std::fmt::{self, Write as _};

/// A pattern such as `DB_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard(Vec<char>);

impl Wildcard {
    /// Takes any text: there is no wrong pattern.
    pub(crate) fn new(pattern: &str) -> Self {
        Self(pattern.chars().collect())
    }

    /// Whether the whole of `name` matches. Time is bounded by the product of both lengths.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let pattern = &self.0;
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut read) = (0, 0);
        // The last star met, and how much of the name it has swallowed so far.
        let mut star: Option<(usize, usize)> = None;
        while read < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, read));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == name[read] => {
                    at += 1;
                    read += 1;
                }
                Some(_) | None => match star {
                    Some((star_at, swallowed)) => {
                        star = Some((star_at, swallowed + 1));
                        at = star_at + 1;
                        read = swallowed + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|c| *c == '*')
    }
}

impl fmt::Display for Wildcard {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|c| f.write_char(*c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("DB_*", "DB_URL", true),
            ("DB_*", "DB_", true),
            ("DB_*", "XDB_URL", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("?", "a", true),
            ("?", "", false),
            ("A?C", "ABC", true),
            ("a", "A", false),
            ("*URL*", "DATABASE_URL_2", true),
            ("*a*b", "xaxxbxb", true),
            ("*a*b", "xaxxbxc", false),
            ("ü?", "üx", true),
        ] {
            assert_eq!(
                Wildcard::new(pattern).matches(name),
                expected,
                "{pattern} {name}"
            );
        }
        assert!(!Wildcard::new(&"*a".repeat(50)).matches(&"a".repeat(49)));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_same_pattern_as_a_regular_expression(
            pattern in "[ab*?]{0,8}", name in "[ab]{0,10}",
        ) {
            let expression = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
            let expected = regex::Regex::new(&expression).expect("a regular expression").is_match(&name);
            proptest::prop_assert_eq!(Wildcard::new(&pattern).matches(&name), expected);
        }
    }
}

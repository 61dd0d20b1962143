//! Files of variables (`.env`): `NAME=value` lines as shells and their tools read them.
//!
//! Owns the grammar: comments, `export`, quotes, escapes, `$NAME` and `${NAME}`, values over several lines in quotes. The
//! environment that references look into is an argument, and no error holds a value: that is why no ready-made parser
//! serves. Leaves opening the file to its caller.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::str::Chars;

use super::Environment;

/// Why a text is no file of variables. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DotenvError {
    /// A line that does not begin with a name.
    #[error("line {line}: expected NAME=value")]
    Name {
        /// The line.
        line: usize,
    },
    /// A name with neither `=` nor `export` before it.
    #[error("line {line}: {name} has no \"=\" after it")]
    Equals {
        /// The line.
        line: usize,
        /// The name.
        name: String,
    },
    /// A quote that nothing closes.
    #[error("line {line}: the quote of {name} is not closed")]
    Quote {
        /// The line where it opens.
        line: usize,
        /// The variable.
        name: String,
    },
    /// An escape that is none.
    #[error("line {line}: the backslash in {name} escapes nothing that can be escaped")]
    Escape {
        /// The line.
        line: usize,
        /// The variable.
        name: String,
    },
    /// Words after the end of a value.
    #[error("line {line}: {name} goes on after a blank")]
    Blank {
        /// The line.
        line: usize,
        /// The variable.
        name: String,
    },
    /// A `${` without its `}`.
    #[error("line {line}: a ${{...}} in {name} is not closed")]
    Brace {
        /// The line.
        line: usize,
        /// The variable.
        name: String,
    },
}

/// Reads `text`; the last value of a name counts. References look into `caller` first, then into the lines before.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str, caller: &Environment) -> Result<Environment, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser {
        chars: text.chars().peekable(),
        line: 1,
        caller,
        found: Environment::new(),
    };
    while parser.skip_to_name() {
        parser.read_assignment()?;
    }
    Ok(parser.found)
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
    caller: &'a Environment,
    found: Environment,
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next();
        if c == Some('\n') {
            self.line += 1;
        }
        c
    }

    fn skip_blanks(&mut self) {
        while self
            .chars
            .next_if(|c| *c != '\n' && c.is_whitespace())
            .is_some()
        {}
    }

    fn skip_line(&mut self) {
        while self.chars.next_if(|c| *c != '\n').is_some() {}
    }

    /// Skips empty lines and comments; false at the end.
    fn skip_to_name(&mut self) -> bool {
        loop {
            match self.chars.peek() {
                None => return false,
                Some('#') => self.skip_line(),
                Some(c) if c.is_whitespace() => {
                    self.next();
                }
                Some(_) => return true,
            }
        }
    }

    fn read_name(&mut self) -> Result<String, DotenvError> {
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|c| is_name_char(*c)) {
            name.push(c);
        }
        if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            Ok(name)
        } else {
            Err(DotenvError::Name { line: self.line })
        }
    }

    fn read_assignment(&mut self) -> Result<(), DotenvError> {
        let mut name = self.read_name()?;
        self.skip_blanks();
        // `export` may stand before a name or be one.
        if name == "export" && self.chars.peek() != Some(&'=') {
            name = self.read_name()?;
            self.skip_blanks();
        }
        if self.chars.next_if_eq(&'=').is_none() {
            let line = self.line;
            return Err(DotenvError::Equals { line, name });
        }
        self.skip_blanks();
        let value = self.read_value(&name)?;
        self.found
            .insert(OsString::from(name), OsString::from(value));
        Ok(())
    }

    /// Reads quoted and bare parts up to a blank, a line's end or the file's.
    fn read_value(&mut self, name: &str) -> Result<String, DotenvError> {
        let mut value = String::new();
        loop {
            match self.chars.peek().copied() {
                None | Some('\n') => return Ok(value),
                Some('#') if value.is_empty() => {
                    self.skip_line();
                    return Ok(value);
                }
                Some(c) if c.is_whitespace() => {
                    self.skip_blanks();
                    return match self.chars.peek() {
                        None | Some('\n') => Ok(value),
                        Some('#') => {
                            self.skip_line();
                            Ok(value)
                        }
                        Some(_) => Err(DotenvError::Blank {
                            line: self.line,
                            name: name.to_owned(),
                        }),
                    };
                }
                Some('\'') => self.read_single_quoted(name, &mut value)?,
                Some('"') => self.read_double_quoted(name, &mut value)?,
                Some('\\') => value.push(self.read_escape(name)?),
                Some('$') => self.read_reference(name, &mut value)?,
                Some(c) => {
                    self.next();
                    value.push(c);
                }
            }
        }
    }

    fn read_single_quoted(&mut self, name: &str, value: &mut String) -> Result<(), DotenvError> {
        let line = self.line;
        self.next();
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => value.push(c),
                None => {
                    let name = name.to_owned();
                    return Err(DotenvError::Quote { line, name });
                }
            }
        }
    }

    fn read_double_quoted(&mut self, name: &str, value: &mut String) -> Result<(), DotenvError> {
        let line = self.line;
        self.next();
        loop {
            match self.chars.peek().copied() {
                Some('"') => {
                    self.next();
                    return Ok(());
                }
                Some('\\') => value.push(self.read_escape(name)?),
                Some('$') => self.read_reference(name, value)?,
                Some(c) => {
                    self.next();
                    value.push(c);
                }
                None => {
                    let name = name.to_owned();
                    return Err(DotenvError::Quote { line, name });
                }
            }
        }
    }

    fn read_escape(&mut self, name: &str) -> Result<char, DotenvError> {
        self.next();
        match self.next() {
            Some(c @ ('\\' | '\'' | '"' | '$' | ' ')) => Ok(c),
            Some('n') => Ok('\n'),
            Some(_) | None => Err(DotenvError::Escape {
                line: self.line,
                name: name.to_owned(),
            }),
        }
    }

    /// `$NAME` and `${NAME}`; a name that nobody set is empty, a `$` before anything else is itself.
    fn read_reference(&mut self, name: &str, value: &mut String) -> Result<(), DotenvError> {
        self.next();
        let in_braces = self.chars.next_if_eq(&'{').is_some();
        let mut referred = String::new();
        while let Some(c) = self
            .chars
            .next_if(|c| c.is_ascii_alphanumeric() || *c == '_')
        {
            referred.push(c);
        }
        if in_braces && self.chars.next_if_eq(&'}').is_none() {
            return Err(DotenvError::Brace {
                line: self.line,
                name: name.to_owned(),
            });
        }
        if referred.is_empty() && !in_braces {
            value.push('$');
        }
        let key = OsStr::new(&referred);
        let found = self.caller.get(key).or_else(|| self.found.get(key));
        if let Some(found) = found {
            value.push_str(&found.to_string_lossy());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, DotenvError> {
        let caller = Environment::from([("HOST".into(), "here".into())]);
        let variables = parse(text, &caller)?;
        let text = |part: OsString| part.into_string().expect("UTF-8");
        Ok(variables
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect())
    }

    fn value(line: &str) -> Result<String, DotenvError> {
        let found = parsed(line)?;
        assert_eq!(found.len(), 1, "{line}");
        Ok(found[0].1.clone())
    }

    #[test]
    fn values_in_every_form() {
        for (line, expected) in [
            ("A=1", "1"),
            ("export A=1", "1"),
            ("export=x", "x"),
            ("  A  =  two  ", "two"),
            ("A=", ""),
            ("A=   # nothing", ""),
            ("A=v # a comment", "v"),
            ("A=v#no-comment", "v#no-comment"),
            ("A='fo ur'", "fo ur"),
            ("A=\"fi ve\"", "fi ve"),
            ("A=s\\ ix", "s ix"),
            ("A=\"a\\nb\\\"c\\$d\"", "a\nb\"c$d"),
            ("A='a\\nb$HOST'", "a\\nb$HOST"),
            ("A=\"over\nlines\"", "over\nlines"),
            ("A=$HOST/x", "here/x"),
            ("A=\"${HOST}x\"", "herex"),
            ("A=$UNSET-", "-"),
            ("A=5$", "5$"),
            (
                "A=postgres://u:p@h:5432/d?x=y&z=1",
                "postgres://u:p@h:5432/d?x=y&z=1",
            ),
            ("A=one'two'\"three\"", "onetwothree"),
            ("A=x\r\n", "x"),
            ("\u{feff}A=bom", "bom"),
        ] {
            assert_eq!(value(line).as_deref(), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn the_last_value_counts_and_earlier_ones_can_be_referred_to() {
        let found = parsed("# c\n\nA=1\nB=${A}2\nA=3\nHOST=ignored\nC=$HOST\n");
        let pairs = [("A", "3"), ("B", "12"), ("C", "here"), ("HOST", "ignored")];
        let expected: Vec<_> = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn errors_name_the_line_and_never_the_value() {
        for (text, expected) in [
            ("A=1\n=2", "line 2: expected NAME=value"),
            ("1A=2", "line 1: expected NAME=value"),
            ("A\n", "line 1: A has no \"=\" after it"),
            ("\nA='x", "line 2: the quote of A is not closed"),
            ("A=\"x\ny", "line 1: the quote of A is not closed"),
            (
                "A=\\x",
                "line 1: the backslash in A escapes nothing that can be escaped",
            ),
            ("A=hunter2 and more", "line 1: A goes on after a blank"),
            ("A=${HOST", "line 1: a ${...} in A is not closed"),
        ] {
            assert_eq!(
                parsed(text).map_err(|error| error.to_string()),
                Err(expected.to_owned()),
                "{text:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn quoting_brings_any_value_back(value in "[^\u{0}]*") {
            let quoted: String = value
                .chars()
                .map(|c| match c {
                    '\\' | '"' | '$' => format!("\\{c}"),
                    other => other.to_string(),
                })
                .collect();
            let found = parse(&format!("A=\"{quoted}\""), &Environment::new()).expect("quoted");
            proptest::prop_assert_eq!(found.get(OsStr::new("A")), Some(&OsString::from(value)));
        }
    }
}

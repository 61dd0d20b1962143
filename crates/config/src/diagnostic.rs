//! What the reader has to say of a file: errors, warnings, and what this version cannot do.
//!
//! Owns these as data with places and plain texts. Leaves colours and layout to whoever shows them.

use std::fmt;

use crate::text::{Excerpt, Place};

/// One thing to say about one place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name as it was given; a variable or a flag where that gave the value.
    pub file: String,
    /// Where in the file; in the text that its template gave, where it is a template.
    pub place: Place,
    /// The value's path, such as `feature.db_branches[0].copy.mode`; empty for the whole file.
    pub path: String,
    /// What is the matter: lowercase, no full stop, no secret.
    pub text: String,
    /// What its author can do.
    pub hint: Option<String>,
    /// The line with the place marked.
    pub excerpt: Excerpt,
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: path: text`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        write!(f, "{}:{line}:{column}: ", self.file)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// Errors that are told at most: nobody reads more, and each costs the length of its line.
pub const ERRORS_MAX: usize = 100;

/// A file that cannot be used, with every error that was found in it, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// At least one, at most [`ERRORS_MAX`].
    pub errors: Vec<Diagnostic>,
    /// How many more there are.
    pub errors_left_out: usize,
    /// What else its author should know.
    pub warnings: Vec<Diagnostic>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        if self.errors_left_out > 0 {
            write!(f, "\nand {} more errors", self.errors_left_out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejected {}

/// What becomes of a run for which something is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The run goes on without it and says so: it has no effect, or only a default chose it.
    Told,
    /// `exec` refuses: the file asks for something that would silently not happen.
    Refused,
}

/// Something that reads well and that this version cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The value's path.
    pub path: String,
    /// Who chose it: the file, a variable or a flag, by name; none where only a default did.
    pub file: Option<String>,
    /// Where in it; none where only a default chose it.
    pub place: Option<Place>,
    /// What happens instead: a fragment that reads after the path.
    pub effect: String,
    /// Whether a run may go on.
    pub weight: Weight,
}

impl Unsupported {
    /// Whether the file itself chose the value.
    pub fn is_chosen(&self) -> bool {
        self.place.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::reader::{Surroundings, read_text};

    #[test]
    fn a_rejected_file_tells_its_first_errors_and_how_many_more_there_are() {
        let told = |errors: usize| {
            let members: Vec<String> = (0..errors).map(|at| format!("\"x{at}\": 1")).collect();
            let file = format!("{{{}}}", members.join(","));
            let surroundings = Surroundings::new("/nowhere", "k3y");
            let rejected = read_text(Path::new("f.json"), &file, &surroundings);
            rejected.expect_err("no such keys").to_string()
        };
        assert_eq!(told(2).lines().count(), 2);
        assert_eq!(told(ERRORS_MAX).lines().count(), ERRORS_MAX);
        let more = told(ERRORS_MAX + 2);
        assert_eq!(more.lines().count(), ERRORS_MAX + 1);
        assert!(more.ends_with("\nand 2 more errors"), "{more}");
    }
}

//! How many tests passed and failed, summed over the test binaries of one `cargo test`.

use std::fmt;
use std::ops::Add;

/// Counts of tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Those of them whose names were told.
    pub(crate) failed_names: Vec<String>,
    /// Tests that failed, and passed when they were run again alone.
    pub(crate) passed_again: Vec<String>,
}

impl Tally {
    /// Adds what a line of output counts. Lines that end a test binary look like this:
    /// `test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`, that of a test like
    /// `test walk_through::a_branch_is_isolated ... FAILED`.
    pub(crate) fn count(&mut self, line: &str) {
        let name = line
            .strip_prefix("test ")
            .and_then(|rest| rest.trim_end().strip_suffix(" ... FAILED"));
        self.failed_names.extend(name.map(str::to_owned));
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let Some(count) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some(_) | None => {}
            }
        }
    }
}

impl Tally {
    /// Takes in that a test which failed has passed when it was run again alone.
    pub(crate) fn pass_again(&mut self, name: &str) {
        self.failed_names.retain(|failed| failed != name);
        self.failed = self.failed.saturating_sub(1);
        self.passed_again.push(name.to_owned());
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failed_names.extend(other.failed_names);
        self.passed_again.extend(other.passed_again);
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tests: {} passed, {} failed", self.passed, self.failed)?;
        if !self.passed_again.is_empty() {
            let (count, names) = (self.passed_again.len(), self.passed_again.join(", "));
            write!(f, ", {count} passed only when run again alone ({names})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_nothing_else_is() {
        let mut tally = Tally::default();
        for line in [
            "running 2 tests",
            "test a ... ok",
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.00s\n",
            "it said: test result: ok. 9 passed; 9 failed",
            "test result: nonsense",
        ] {
            tally.count(line);
        }
        assert_eq!((tally.passed, tally.failed), (5, 2));
        assert_eq!(tally.to_string(), "tests: 5 passed, 2 failed");
        let twice = (tally.clone() + tally).to_string();
        assert_eq!(twice, "tests: 10 passed, 4 failed");
    }

    #[test]
    fn a_test_that_passes_only_when_run_again_is_named() {
        let mut tally = Tally::default();
        for line in [
            "test a::b ... ok\n",
            "test a::c ... FAILED\n",
            "it said: test a::d ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored",
        ] {
            tally.count(line);
        }
        assert_eq!(tally.failed_names, ["a::c"]);
        tally.pass_again("a::c");
        assert!(tally.failed_names.is_empty());
        let told = "tests: 1 passed, 0 failed, 1 passed only when run again alone (a::c)";
        assert_eq!(tally.to_string(), told);
    }
}

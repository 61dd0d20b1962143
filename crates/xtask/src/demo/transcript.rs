//! What the demo shows: requests, answers, verdicts; and their count.

use std::fmt::{Debug, Display};

use anyhow::Result;

use crate::console;

/// Prints as it goes, and counts verdicts.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    passed: u32,
    failed: u32,
}

impl Transcript {
    /// The start of a part.
    pub(super) fn title(&self, text: &str) -> Result<()> {
        self.line("")?;
        self.line(text)
    }

    /// A command as a person would type it.
    pub(super) fn command(&self, text: &str) -> Result<()> {
        self.line(&format!("  $ {text}"))
    }

    /// What a command or a service said, line by line.
    pub(super) fn said(&self, text: &str) -> Result<()> {
        for line in text.lines() {
            self.line(&format!("    {line}"))?;
        }
        Ok(())
    }

    /// A verdict: whether what is there is what must be.
    pub(super) fn equal<T: PartialEq + Display>(
        &mut self,
        what: &str,
        found: &T,
        expected: &T,
    ) -> Result<()> {
        if found == expected {
            self.verdict(true, &format!("{what}: {found}"))
        } else {
            self.verdict(
                false,
                &format!("{what}: {found}, and should be: {expected}"),
            )
        }
    }

    /// A verdict.
    pub(super) fn verdict(&mut self, good: bool, text: &str) -> Result<()> {
        let (count, word) = if good {
            (&mut self.passed, "OK  ")
        } else {
            (&mut self.failed, "FAIL")
        };
        *count += 1;
        self.line(&format!("  {word} {text}"))
    }

    /// Whether no verdict was bad.
    pub(super) fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The last line.
    pub(super) fn summary(&self) -> String {
        format!(
            "demo: {} checks passed, {} failed",
            self.passed, self.failed
        )
    }

    /// Any other line.
    pub(super) fn line(&self, text: &str) -> Result<()> {
        Ok(console::result(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted() {
        let mut transcript = Transcript::default();
        assert!(!transcript.is_good(), "nothing was checked");
        transcript.equal("one", &1, &1).expect("printed");
        assert!(transcript.is_good());
        transcript.equal("two", &1, &2).expect("printed");
        assert!(!transcript.is_good());
        assert_eq!(transcript.summary(), "demo: 1 checks passed, 1 failed");
    }
}

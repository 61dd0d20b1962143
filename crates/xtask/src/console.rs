//! The one place of xtask that prints words of its own.

use std::io::{self, Write};

/// A line on standard error about what is being done.
#[expect(clippy::print_stderr, reason = "this is the place that prints")]
pub(crate) fn note(text: &str) {
    eprintln!("xtask: {text}");
}

/// A line of result on standard output.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn result(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

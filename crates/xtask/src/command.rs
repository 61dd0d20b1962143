//! Other programs, run to their end with standard input closed.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output an error shows, from its end.
const SHOWN_BYTES: usize = 4_000;

/// Runs a program whose output matters only if it fails; gives its standard output.
///
/// # Errors
/// When it does not start or does not succeed: with the end of what it printed.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {shown}"))?;
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        bail!(
            "{shown} ended with {}:\n{}",
            output.status,
            tail(text.trim(), SHOWN_BYTES)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {shown}"))
}

/// Runs a program that prints for itself.
///
/// # Errors
/// When it does not start or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("run {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Whether a program starts and succeeds; it prints nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Program and arguments as one line, without the environment.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn tail(text: &str, bytes: usize) -> &str {
    let start =
        (text.len().saturating_sub(bytes)..=text.len()).find(|start| text.is_char_boundary(*start));
    &text[start.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_command_and_output() {
        let error = capture(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]))
            .expect_err("it fails");
        let text = error.to_string();
        assert!(
            text.contains("sh -c")
                && text.contains("out")
                && text.contains("err")
                && text.contains('3'),
            "{text}"
        );
        let error = run(&mut Command::new("/nonexistent/program")).expect_err("no such program");
        assert!(error.to_string().contains("/nonexistent/program"));
        assert!(!succeeds(&mut Command::new("false")));
    }

    #[test]
    fn tails_end_on_character_boundaries() {
        assert_eq!(tail("abc", 9), "abc");
        assert_eq!(tail("abc", 2), "bc");
        assert_eq!(tail("aéb", 2), "b");
    }
}

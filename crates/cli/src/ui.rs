//! The only printer: results to standard output, everything else to standard error.
//!
//! Owns the two streams, labels and colours, what `-q` silences, and that no text from elsewhere garbles a terminal.
//! Leaves what is said to the commands' reports and to `error`.

mod progress;
mod table;
pub(crate) mod words;

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::error::CommandError;
use crate::settings::{Look, Settings};

pub(crate) use progress::{Progress, ProgressLine};
pub(crate) use table::{Fields, Table};

/// The form of a command's result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences for people.
    #[default]
    Text,
    /// One JSON document for programs.
    Json,
}

/// What a command found or did: serialised for programs, rendered for people.
pub(crate) trait Report: Serialize {
    /// The text for people, lines ended by `\n`; nothing where there is nothing to say.
    fn text(&self, page: Page) -> String;
}

/// What a text has to fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// Columns that a table may take; none: as many as it needs.
    pub(crate) width: Option<u16>,
    /// The time that ages and remaining times are told from.
    pub(crate) now: jiff::Timestamp,
}

/// Why a result was not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UiError {
    /// Standard output took no more.
    #[error("cannot write the result")]
    Write(#[source] io::Error),
    /// A report has no JSON form.
    #[error("cannot write the result as JSON")]
    Json(#[source] serde_json::Error),
}

/// A line's first word, with its colour (ECMA-48 SGR).
#[derive(Clone, Copy)]
enum Label {
    Error,
    Warning,
    Hint,
}

impl Label {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error:",
            Self::Warning => "warning:",
            Self::Hint => "hint:",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Error => "\x1b[1;31m",
            Self::Warning => "\x1b[1;33m",
            Self::Hint => "\x1b[1;36m",
        }
    }
}

const COLOUR_END: &str = "\x1b[0m";

type Stream = Mutex<Box<dyn Write + Send>>;

/// The two output streams of this run.
pub(crate) struct Ui {
    look: Look,
    out: Stream,
    err: Stream,
}

impl Ui {
    /// Prints to the process's own streams.
    pub(crate) fn new(look: Look) -> Self {
        Self::onto(look, io::stdout(), io::stderr())
    }

    /// Prints to other streams.
    pub(crate) fn onto(
        look: Look,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> Self {
        Self {
            look,
            out: Mutex::new(Box::new(out)),
            err: Mutex::new(Box::new(err)),
        }
    }

    /// Shows a command's result.
    ///
    /// # Errors
    /// [`UiError`] when it cannot be written; a reader that went away is no error.
    pub(crate) fn report(&self, report: &impl Report, format: Format) -> Result<(), UiError> {
        match format {
            Format::Text => {
                let page = Page {
                    width: self.look.width,
                    now: crate::clock::now(),
                };
                self.raw(printable(&report.text(page)).as_bytes())
            }
            Format::Json => {
                let mut text = serde_json::to_string_pretty(report).map_err(UiError::Json)?;
                text.push('\n');
                self.raw(text.as_bytes())
            }
        }
    }

    /// Writes bytes to standard output as they are.
    ///
    /// # Errors
    /// As [`Ui::report`].
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), UiError> {
        self.raw_while_read(bytes).map(drop)
    }

    /// The same; whether the reader is still there.
    ///
    /// # Errors
    /// As [`Ui::report`].
    pub(crate) fn raw_while_read(&self, bytes: &[u8]) -> Result<bool, UiError> {
        let mut out = lock(&self.out);
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(UiError::Write(error)),
        }
    }

    /// Shows the text that the argument parser made: help and versions as results, the rest as errors.
    pub(crate) fn usage(&self, message: &clap::Error) {
        let rendered = message.render();
        let stream = if message.use_stderr() {
            &self.err
        } else {
            &self.out
        };
        let text = if self.look.colours && message.use_stderr() {
            rendered.ansi().to_string()
        } else {
            rendered.to_string()
        };
        write_all(stream, &text);
    }

    /// A line about what goes on; `-q` silences it.
    pub(crate) fn note(&self, line: &str) {
        if !self.look.quiet {
            write_all(&self.err, &format!("{}\n", printable(line)));
        }
    }

    /// A line about what the caller should know; nothing silences it.
    pub(crate) fn warn(&self, line: &str) {
        self.labelled(Label::Warning, line);
    }

    /// A line about what the caller can do.
    pub(crate) fn hint(&self, line: &str) {
        self.labelled(Label::Hint, line);
    }

    /// Why the command failed, and what can be done about it.
    pub(crate) fn error(&self, error: &CommandError) {
        self.labelled(Label::Error, &error.message());
        for line in error.details() {
            write_all(&self.err, &format!("{}\n", printable(line)));
        }
        for hint in error.hints() {
            self.labelled(Label::Hint, hint);
        }
    }

    /// The progress of something that takes long.
    pub(crate) fn progress(&self) -> Progress<'_> {
        Progress::new(self, self.look)
    }

    fn labelled(&self, label: Label, line: &str) {
        let word = label.word();
        let line = printable(line);
        let text = if self.look.colours {
            format!("{}{word}{COLOUR_END} {line}\n", label.colour())
        } else {
            format!("{word} {line}\n")
        };
        write_all(&self.err, &text);
    }
}

/// Sends this program's own records to standard error, as far as `-v` or RUST_LOG ask for them.
pub(crate) fn start_log(settings: &Settings) {
    let by_count = match settings.verbose {
        // The cluster's client tells its failures to its caller as well.
        0 => "warn,kube_client=off",
        1 => "warn,bough=debug,config=debug,supervisor=debug",
        2.. => "warn,bough=trace,config=trace,supervisor=trace,tokio_postgres=debug",
    };
    start_log_of(
        settings.rust_log.as_deref().unwrap_or(by_count),
        LogForm::Text,
    );
}

/// The same for a program that serves in the background, whose records are in a file.
pub(crate) fn start_log_of(wanted: &str, form: LogForm) {
    let filter = tracing_subscriber::EnvFilter::new(wanted);
    let records = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false);
    // Only a second call fails, and the first one's records are the same.
    let _ = match form {
        LogForm::Text => tracing::subscriber::set_global_default(records.finish()),
        LogForm::Json => {
            let records = records.json().flatten_event(true).finish();
            tracing::subscriber::set_global_default(records)
        }
    };
}

/// How the records of a log are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogForm {
    /// A line each, for people
    #[default]
    Text,
    /// A JSON object each, a line, for programs
    Json,
}

fn lock(stream: &Stream) -> MutexGuard<'_, Box<dyn Write + Send>> {
    // A panic between two writes leaves no state that a later write could break.
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes all of `text`. What cannot be told on standard error cannot be told at all.
fn write_all(stream: &Stream, text: &str) {
    let mut stream = lock(stream);
    let _ = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
}

/// The text with control characters replaced: names and messages of a source must not drive the terminal.
fn printable(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars()
        .map(|c| if harmless(c) { c } else { '\u{fffd}' })
        .collect()
}

#[cfg(test)]
mod tests;

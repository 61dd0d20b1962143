//! What the reader of configuration files has to say, as errors and lines.

use std::path::{Path, PathBuf};

use config::{Config, Diagnostic, ReadError, Unsupported};
use model::ExitCode;

use crate::error::CommandError;
use crate::ui::words;

/// A file with errors.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the configuration file {}: {}", .file.display(), words::things(*.count, "error"))]
struct FileError {
    file: PathBuf,
    count: usize,
}

/// The failure of a file that cannot be read or that says something wrong, with every error of it.
pub(crate) fn rejection(file: &Path, error: ReadError) -> CommandError {
    let rejected = match error {
        ReadError::Rejected(rejected) => rejected,
        ReadError::Open { .. } | ReadError::TooLarge { .. } | ReadError::NotText { .. } => {
            return CommandError::new(ExitCode::Usage, error);
        }
    };
    let failure = FileError {
        file: file.to_path_buf(),
        count: rejected.errors.len(),
    };
    let lines = rejected.errors.iter().flat_map(describe);
    CommandError::new(ExitCode::Usage, failure).with_details(lines)
}

/// The failure of a file that asks for what this version cannot do; none where a run may go on.
pub(crate) fn refusal(file: &Path, config: &Config) -> Option<CommandError> {
    let lines: Vec<String> = config
        .refused()
        .map(|refused| describe_unsupported(file, refused))
        .collect();
    if lines.is_empty() {
        return None;
    }
    let failure = FileError {
        file: file.to_path_buf(),
        count: lines.len(),
    };
    let failure = CommandError::new(ExitCode::Usage, failure).with_details(lines);
    let name = file.display().to_string();
    let is_of_file = |lack: &Unsupported| lack.file.as_deref() == Some(name.as_str());
    Some(failure.with_hint(if config.refused().any(is_of_file) {
        "this version of bough cannot do that: take it out of the file"
    } else {
        "this version of bough cannot do that: leave out the flag, or unset the variable"
    }))
}

/// Place and text, the line with the place marked, and what to do.
pub(crate) fn describe(diagnostic: &Diagnostic) -> Vec<String> {
    let mut lines = vec![diagnostic.to_string()];
    let excerpt = diagnostic.excerpt.to_string();
    lines.extend(excerpt.lines().map(|line| format!("    {line}")));
    if let Some(hint) = &diagnostic.hint {
        lines.push(format!("    hint: {hint}"));
    }
    lines
}

/// Place, path and effect.
pub(crate) fn describe_unsupported(file: &Path, unsupported: &Unsupported) -> String {
    let Unsupported {
        path,
        file: source,
        place,
        effect,
        ..
    } = unsupported;
    let file = source.clone().unwrap_or_else(|| file.display().to_string());
    match place {
        Some(place) => format!("{file}:{}:{}: {path}: {effect}", place.line, place.column),
        None => format!("{path} (by default): {effect}"),
    }
}

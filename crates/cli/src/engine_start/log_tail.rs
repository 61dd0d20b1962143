//! The end of the engine's log, for an error that must say why the engine is not there.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of the log that are looked at.
const TAIL_BYTES: u64 = 8 << 10;

/// Lines that an error shows.
const TAIL_LINES: usize = 8;

/// The last lines of a log; none where it could not be read.
#[derive(Debug)]
pub(crate) struct LogTail {
    path: PathBuf,
    lines: Vec<String>,
}

impl LogTail {
    /// The lines, oldest first.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

/// Reads the end of the log at `path`; a log that is not there has no lines.
pub(super) fn read_tail(path: &Path) -> LogTail {
    let lines = read_lines(path).unwrap_or_default();
    LogTail {
        path: path.to_path_buf(),
        lines,
    }
}

fn read_lines(path: &Path) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = match text.split_once('\n') {
        Some((_, rest)) if start > 0 => rest,
        Some(_) | None => &text,
    };
    let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    let first = lines.len().saturating_sub(TAIL_LINES);
    Ok(lines[first..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_lines_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.log");
        assert!(read_tail(&path).lines().is_empty());
        let log: String = (0..2_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, log).unwrap();
        let tail = read_tail(&path);
        assert_eq!(tail.lines().len(), TAIL_LINES);
        assert_eq!(tail.lines().last().map(String::as_str), Some("line 1999"));
    }
}

//! A server's log, and what of it an error shows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::open_log;

/// Bytes from the log's end that are looked at.
const TAIL_BYTES_MAX: u64 = 16 * 1024;

/// Lines that an error shows where none gives a reason.
const LINES_MAX: usize = 5;

/// Lines around the reason that are shown with it: what is wrong in a configuration comes before it, hints after it.
const LINES_BEFORE: usize = 2;
const LINES_AFTER: usize = 2;

/// What a line has that says why a server ended.
const REASONS: [&str; 2] = ["FATAL:", "PANIC:"];

/// The log of one start: what was in the file before is not shown.
#[derive(Debug)]
pub(super) struct LogTail {
    file: File,
    from: u64,
}

impl LogTail {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open_log(path)?;
        let from = file.metadata()?.len();
        Ok(Self { file, from })
    }

    /// A descriptor for the server to write to.
    pub(super) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Why the server ended, as far as it says.
    pub(super) fn read(&self) -> String {
        let text = self.tail();
        choose(&String::from_utf8_lossy(&text.unwrap_or_default()))
    }

    fn tail(&self) -> io::Result<Vec<u8>> {
        let mut file = self.file.try_clone()?;
        let end = file.metadata()?.len();
        let from = self.from.max(end.saturating_sub(TAIL_BYTES_MAX));
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut text)?;
        Ok(text)
    }
}

/// The first line that gives a reason with those around it, else the last lines. Statements are not in a log of ours
/// (`log_statement`, `log_min_error_statement`), and with them no secrets.
fn choose(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let is_reason = |line: &&str| REASONS.iter().any(|reason| line.contains(reason));
    let (from, to) = match lines.iter().position(is_reason) {
        Some(at) => (at.saturating_sub(LINES_BEFORE), at + LINES_AFTER + 1),
        None => (lines.len().saturating_sub(LINES_MAX), lines.len()),
    };
    let shown = &lines[from..to.min(lines.len())];
    if shown.is_empty() {
        return "its log says nothing".to_owned();
    }
    shown.join("; ")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_reason_is_shown_and_nothing_of_an_earlier_start() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("server.log");
        std::fs::write(&path, "FATAL:  an older reason\n").unwrap();
        let tail = LogTail::open(&path).unwrap();
        assert_eq!(tail.read(), "its log says nothing");
        let mut writer = tail.writer().unwrap();
        let lines = "LOG:  one\nLOG:  two\nLOG:  three\nFATAL:  no memory\nHINT:  more\nLOG:  over";
        writeln!(writer, "{lines}\nLOG:  gone").unwrap();
        let shown = "LOG:  two; LOG:  three; FATAL:  no memory; HINT:  more; LOG:  over";
        assert_eq!(tail.read(), shown);
    }

    #[test]
    fn a_log_without_a_reason_shows_its_end() {
        assert_eq!(choose("one\n\ntwo\n"), "one; two");
        let many = (0..10).map(|n| format!("line {n}\n")).collect::<String>();
        assert_eq!(choose(&many), "line 5; line 6; line 7; line 8; line 9");
    }
}

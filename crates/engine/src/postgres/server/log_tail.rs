//! A server's log, and what of it an error shows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::open_log;

/// Bytes from the log's end that are looked at.
const TAIL_BYTES_MAX: u64 = 16 * 1024;

/// Lines that an error shows.
const LINES_MAX: usize = 5;

/// What begins a line that says why a server ended, after the time and the process id.
const REASONS: [&str; 4] = ["FATAL:", "PANIC:", "HINT:", "DETAIL:"];

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

/// The last lines that give a reason, else the last lines. Statements are not in a log of ours (`log_statement`,
/// `log_min_error_statement`), and with them no secrets.
fn choose(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let is_reason = |line: &&str| REASONS.iter().any(|reason| line.contains(reason));
    let reasons: Vec<_> = lines.iter().copied().filter(is_reason).collect();
    let shown = if reasons.is_empty() { lines } else { reasons };
    if shown.is_empty() {
        return "its log says nothing".to_owned();
    }
    let from = shown.len().saturating_sub(LINES_MAX);
    shown[from..].join("; ")
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
        writeln!(
            writer,
            "LOG:  starting\nFATAL:  could not map memory\nLOG:  over"
        )
        .unwrap();
        assert_eq!(tail.read(), "FATAL:  could not map memory");
    }

    #[test]
    fn a_log_without_a_reason_shows_its_end() {
        assert_eq!(choose("one\n\ntwo\n"), "one; two");
        let many = (0..10).map(|n| format!("line {n}\n")).collect::<String>();
        assert_eq!(choose(&many), "line 5; line 6; line 7; line 8; line 9");
    }
}

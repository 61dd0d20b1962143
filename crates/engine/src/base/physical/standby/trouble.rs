//! What a standby's log complains of, as far as it means something to do.
//!
//! Only the log says why WAL does not come: the walreceiver ends and is started again. Owns reading on from the last
//! look and knowing the lines. A part of them is the source's own text, which may be in another language; whatever is
//! not known reads as `Refused`, and patience decides (`tending`). The lines' wording: `src/backend/replication` and
//! `src/backend/access/transam` of PostgreSQL 15 to 18.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use crate::postgres::said::is_of_full_disk;

/// Bytes of the log that one look reads, its end: a standby says what ails it twice a second.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of the log from which on it is emptied: a source that is away for weeks must not fill the disk.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a line that are kept for people.
const LINE_BYTES_MAX: usize = 300;

/// What ails a standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The source has removed WAL that was not sent yet.
    WalRemoved,
    /// The source's history left ours before the point where we are.
    Diverged,
    /// The source is another cluster.
    OtherCluster,
    /// A tablespace was made on the source, and replaying that was prevented.
    Tablespace,
    /// The limits do not suffice any more.
    Limits,
    /// The disk here is full.
    NoRoom,
    /// The files here are broken, or WAL cannot be read.
    Broken {
        /// What was said.
        said: String,
    },
    /// The source does not send; why, in its own words.
    Refused {
        /// What was said.
        said: String,
    },
}

/// Texts by which a line is known, those that mean more first.
fn classify(line: &str) -> Option<Trouble> {
    let has = |text: &str| line.contains(text);
    let said = || {
        let (_, said) = line
            .split_once("FATAL:")
            .or_else(|| line.split_once("PANIC:"))
            .unwrap_or(("", line));
        let mut said = said.trim().to_owned();
        said.truncate(
            (0..=LINE_BYTES_MAX)
                .rev()
                .find(|at| said.is_char_boundary(*at))
                .unwrap_or(0),
        );
        said
    };
    if has("for Tablespace/CREATE") || has("could not create symbolic link \"pg_tblspc/") {
        return Some(Trouble::Tablespace);
    }
    if has("insufficient parameter settings") {
        return Some(Trouble::Limits);
    }
    if has("database system identifier differs") {
        return Some(Trouble::OtherCluster);
    }
    if has("requested WAL segment") && has("has already been removed") {
        return Some(Trouble::WalRemoved);
    }
    let forks = has("forked off current database system timeline");
    if forks || has("is behind recovery timeline") || has("is not in this server's history") {
        return Some(Trouble::Diverged);
    }
    if has("is ahead of the WAL flush position of this server") {
        return Some(Trouble::Diverged);
    }
    // Said once at the end of what was received before, and again and again where what comes does not continue it.
    if has("record with incorrect prev-link") || has("incorrect resource manager data checksum") {
        return Some(Trouble::Diverged);
    }
    let receives = has("could not connect to the primary server")
        || has("could not receive data from WAL stream")
        || has("could not start WAL streaming")
        || has("could not create replication slot")
        || has("terminating walreceiver");
    // Most such lines are a PANIC. What is received is the source's own trouble.
    if !receives && is_of_full_disk(line) {
        return Some(Trouble::NoRoom);
    }
    if has("PANIC:") || has("WAL contains references to invalid pages") {
        return Some(Trouble::Broken { said: said() });
    }
    receives.then(|| Trouble::Refused { said: said() })
}

/// Which of two troubles decides.
fn rank(trouble: &Trouble) -> u8 {
    match trouble {
        Trouble::Tablespace => 7,
        Trouble::OtherCluster => 6,
        Trouble::WalRemoved => 5,
        Trouble::Diverged => 4,
        // What is broken all the same is found again by the next start.
        Trouble::NoRoom => 3,
        Trouble::Broken { .. } => 2,
        Trouble::Limits => 1,
        Trouble::Refused { .. } => 0,
    }
}

/// What decides in a piece of a log; of equals the last one.
fn find(text: &str) -> Option<Trouble> {
    text.lines().filter_map(classify).max_by_key(rank)
}

/// A log that is read on from look to look.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    read_to: u64,
}

impl Log {
    /// What is in the log already is not read.
    pub(super) fn at_end_of(path: PathBuf) -> Self {
        let read_to = std::fs::metadata(&path).map_or(0, |found| found.len());
        Self { path, read_to }
    }

    /// What it says beyond the last look. A log that cannot be read says nothing.
    pub(super) fn read_on(&mut self) -> Option<Trouble> {
        let text = self.read().unwrap_or_default();
        find(&String::from_utf8_lossy(&text))
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let end = file.metadata()?.len();
        // Shorter than before: somebody emptied it.
        let from = if end < self.read_to { 0 } else { self.read_to };
        let from = from.max(end.saturating_sub(READ_BYTES_MAX));
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.take(READ_BYTES_MAX).read_to_end(&mut text)?;
        self.read_to = from + u64::try_from(text.len()).unwrap_or(0);
        if end > LOG_BYTES_MAX {
            // The server appends, so that it goes on at the new end.
            OpenOptions::new()
                .write(true)
                .open(&self.path)?
                .set_len(0)?;
            self.read_to = 0;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_says_is_understood() {
        let cases = [
            (
                "FATAL:  could not receive data from WAL stream: ERROR:  requested WAL segment 000000010000000000000005 has already been removed",
                Trouble::WalRemoved,
            ),
            (
                "FATAL:  database system identifier differs between the primary and standby",
                Trouble::OtherCluster,
            ),
            (
                "LOG:  new timeline 2 forked off current database system timeline 1 before current recovery point 0/5000148",
                Trouble::Diverged,
            ),
            (
                "FATAL:  highest timeline 1 of the primary is behind recovery timeline 2",
                Trouble::Diverged,
            ),
            (
                "CONTEXT:  WAL redo at 0/5000148 for Tablespace/CREATE: 16390 \"/srv/fast\"",
                Trouble::Tablespace,
            ),
            (
                "LOG:  record with incorrect prev-link 0/3000060 at 0/30003F0",
                Trouble::Diverged,
            ),
            (
                "FATAL:  recovery aborted because of insufficient parameter settings",
                Trouble::Limits,
            ),
            (
                "PANIC:  could not locate a valid checkpoint record",
                Trouble::Broken {
                    said: "could not locate a valid checkpoint record".to_owned(),
                },
            ),
            (
                "PANIC:  could not write to file \"pg_wal/xlogtemp.42\": No space left on device",
                Trouble::NoRoom,
            ),
            (
                "FATAL:  could not extend file \"base/5/1259\": No space left on device",
                Trouble::NoRoom,
            ),
            (
                "FATAL:  could not receive data from WAL stream: ERROR:  No space left on device",
                Trouble::Refused {
                    said: "could not receive data from WAL stream: ERROR:  No space left on device"
                        .to_owned(),
                },
            ),
            (
                "FATAL:  could not connect to the primary server: Verbindung abgelehnt",
                Trouble::Refused {
                    said: "could not connect to the primary server: Verbindung abgelehnt"
                        .to_owned(),
                },
            ),
        ];
        for (line, trouble) in cases {
            let line = format!("2026-11-23 10:00:00.000 UTC [42] {line}");
            assert_eq!(find(&line), Some(trouble), "{line}");
        }
        assert_eq!(
            find("LOG:  started streaming WAL from primary at 0/5000000"),
            None
        );
    }

    #[test]
    fn what_means_more_counts_and_each_line_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        std::fs::write(&path, "FATAL:  terminating walreceiver due to timeout\n").unwrap();
        let mut log = Log::at_end_of(path.clone());
        assert_eq!(log.read_on(), None);
        let more = "FATAL:  database system identifier differs between a and b\nFATAL:  terminating walreceiver\n";
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        io::Write::write_all(&mut file, more.as_bytes()).unwrap();
        assert_eq!(log.read_on(), Some(Trouble::OtherCluster));
        assert_eq!(log.read_on(), None);
    }

    #[test]
    fn a_log_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        let file = File::create(&path).unwrap();
        file.set_len(LOG_BYTES_MAX + 1).unwrap();
        let mut log = Log {
            path: path.clone(),
            read_to: 0,
        };
        assert_eq!(log.read_on(), None);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}

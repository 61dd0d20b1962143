//! `local logs`: what a target's process wrote.
//!
//! The process writes into the file by itself, so that it neither waits for its keeper nor loses anything with it. Its
//! size is the process's own affair; a new start begins it anew.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use model::{Namespace, TargetRef};

use super::LocalTargets;
use crate::contexts::FindError;

/// Bytes that are looked through at once for the ends of lines.
const PIECE_BYTES: u64 = 64 << 10;

/// Bytes of a log's end that an error shows lines of.
const TAIL_BYTES_MAX: u64 = 16 << 10;

/// The file that the target writes or wrote.
///
/// # Errors
/// [`FindError`] when there is no such target.
pub(crate) fn log_path(
    data_dir: &Path,
    namespace: &Namespace,
    target: &TargetRef,
) -> Result<PathBuf, FindError> {
    let targets = LocalTargets::new(data_dir);
    targets.look_up(namespace, target)?;
    Ok(targets.registry.log_path(namespace, target))
}

/// The file at `path`, to be read from its last lines on, at most `count`.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn open_at_last_lines(path: &Path, count: usize) -> io::Result<File> {
    let mut file = File::open(path)?;
    let start = find_last_lines(&mut file, count)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}

/// Where the last `count` lines begin, sought from the end.
fn find_last_lines(file: &mut File, count: usize) -> io::Result<u64> {
    let size = file.metadata()?.len();
    if count == 0 {
        return Ok(size);
    }
    let (mut end, mut left) = (size, count);
    while end > 0 {
        let start = end.saturating_sub(PIECE_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut piece = Vec::new();
        file.take(end - start).read_to_end(&mut piece)?;
        let mut behind = start + piece.len() as u64;
        for byte in piece.iter().rev() {
            // One at the very end ends the last line, and begins none.
            left -= usize::from(*byte == b'\n' && behind < size);
            if left == 0 {
                return Ok(behind);
            }
            behind -= 1;
        }
        end = start;
    }
    Ok(0)
}

/// The last lines of the file at `path` that are whole within its last [`TAIL_BYTES_MAX`], at most `count`; what is not UTF-8
/// in them is replaced.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let start = size.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is a torn one, unless the file begins with it.
    let torn = usize::from(start > 0);
    let lines: Vec<&str> = text.lines().skip(torn).collect();
    let from = lines.len().saturating_sub(count);
    Ok(lines[from..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_lines_are_found_however_long_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let last = |count| {
            let mut text = String::new();
            let mut file = open_at_last_lines(&path, count).unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        };
        fs::write(&path, "one\ntwo\nthree").unwrap();
        assert_eq!(last(0), "");
        assert_eq!(last(1), "three");
        assert_eq!(last(2), "two\nthree");
        assert_eq!(last(3), "one\ntwo\nthree");
        assert_eq!(last(9), "one\ntwo\nthree");
        let long = format!("{}\n", "x".repeat(200_000));
        fs::write(&path, format!("{long}{long}last\n")).unwrap();
        assert_eq!(last(1), "last\n");
        assert_eq!(last(2), format!("{long}last\n"));
        assert_eq!(last(9).len(), 2 * long.len() + 5);
        fs::write(&path, "").unwrap();
        assert_eq!(last(1), "");
    }

    #[test]
    fn the_last_lines_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "one\ntwo\nthree").unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["two", "three"]);
        assert_eq!(last_lines(&path, 9).unwrap().len(), 3);
        fs::write(&path, format!("{}\nlast\n", "x".repeat(20_000))).unwrap();
        assert_eq!(last_lines(&path, 9).unwrap(), ["last"]);
        assert!(last_lines(&dir.path().join("none"), 1).is_err());
    }
}

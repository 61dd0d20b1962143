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

/// Bytes of a log's end that are looked through for its last lines.
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

/// The last lines of the file at `path`, at most `count`; what is not UTF-8 in them is replaced.
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

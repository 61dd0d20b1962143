//! The logs of clones' servers, kept small.
//!
//! A program that fails in a loop has its branch's server complain of each try. The server appends to its log
//! (`O_APPEND`, open(2)), so that emptying the file takes nothing but what was said before. Owns how large a log may be
//! and how often that is looked at; a standby's log is read and bounded where it is followed.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a log from which on it is emptied.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// How often logs are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Begins to bound the logs of all clones in `clones`. Ends with the engine.
pub fn start_bounding(clones: PathBuf) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let clones = clones.clone();
            let bounded =
                tokio::task::spawn_blocking(move || bound_all(&clones, LOG_BYTES_MAX)).await;
            if let Ok(Err(error)) = bounded {
                tracing::warn!(%error, "cannot look after the branches' logs");
            }
        }
    });
}

/// Empties every clone's log that is larger; answers how many. One that goes meanwhile is nobody's any more.
fn bound_all(clones: &Path, bytes_max: u64) -> io::Result<usize> {
    let mut emptied = 0;
    for clone in std::fs::read_dir(clones)? {
        let log = clone?.path().join("server.log");
        let is_large = log.metadata().is_ok_and(|found| found.len() > bytes_max);
        if is_large && empty(&log).is_ok() {
            tracing::warn!(log = %log.display(), bytes_max, "a branch's server said too much: its log was emptied");
            emptied += 1;
        }
    }
    Ok(emptied)
}

fn empty(log: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_that_grew_too_large_is_emptied_and_written_on() {
        let clones = tempfile::tempdir().unwrap();
        let log_of = |name: &str| {
            let directory = clones.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            directory.join("server.log")
        };
        let (large, small) = (log_of("large"), log_of("small"));
        let mut writer = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&large)
            .unwrap();
        writer.write_all(&[b'x'; 100]).unwrap();
        std::fs::write(&small, "short").unwrap();
        std::fs::create_dir(clones.path().join("without")).unwrap();

        assert_eq!(bound_all(clones.path(), 10).unwrap(), 1);
        writer.write_all(b"later").unwrap();
        assert_eq!(std::fs::read_to_string(&large).unwrap(), "later");
        assert_eq!(std::fs::read_to_string(&small).unwrap(), "short");
        assert_eq!(bound_all(clones.path(), 10).unwrap(), 0);
    }
}

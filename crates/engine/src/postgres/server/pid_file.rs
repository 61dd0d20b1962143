//! `postmaster.pid`: what a server says of itself while it lives.
//!
//! Source: `src/include/utils/pidfile.h`: line 1 is the process id (negative in single-user mode), line 8 the status,
//! padded to eight characters: `starting`, `stopping`, `ready   `, `standby `.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Pid;

/// Its name in the data directory.
pub(super) const NAME: &str = "postmaster.pid";

/// More than any server writes.
const BYTES_MAX: u64 = 4096;

/// What the file says; all of it may be wrong, for it may be left over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PidFile {
    /// The server that wrote it.
    pub(super) pid: Option<Pid>,
    /// Whether that one takes connections.
    pub(super) is_ready: bool,
}

/// Reads the file. One that is not there, or not written to its end, says nothing; nor does what a branch's superuser may
/// have put in its place.
pub(super) fn read(data: &Path) -> PidFile {
    parse(&read_regular(&data.join(NAME)).unwrap_or_default())
}

/// Never waits, as an open of a FIFO would (fifo(7)), and follows no link.
fn read_regular(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let mut text = String::new();
    if file.metadata()?.is_file() {
        file.take(BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn parse(text: &str) -> PidFile {
    let mut lines = text.lines();
    let pid = lines
        .next()
        .and_then(|line| line.trim().parse::<i32>().ok());
    let status = lines.nth(6).unwrap_or_default().trim();
    PidFile {
        pid: pid.filter(|pid| *pid > 1).and_then(Pid::from_raw),
        is_ready: status == "ready" || status == "standby",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_eighth_line_says_ready() {
        let head = "4711\n/data\n1763856000\n5432\n/run\n\n  1234  5678\n";
        let of = |text: &str| parse(text);
        assert_eq!(of(head).pid, Pid::from_raw(4711));
        assert!(!of(head).is_ready);
        assert!(!of(&format!("{head}starting\n")).is_ready);
        assert!(!of(&format!("{head}stopping\n")).is_ready);
        assert!(of(&format!("{head}ready   \n")).is_ready);
        assert!(of(&format!("{head}standby \n")).is_ready);
        assert!(!of("4711\nready\n").is_ready);
    }

    #[test]
    fn what_somebody_put_in_its_place_is_not_waited_for() {
        let directory = fixtures::TempDir::new().unwrap();
        let path = directory.path().join(NAME);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(read(directory.path()), PidFile::default());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(directory.path().join("other"), "4711\n").unwrap();
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert_eq!(read(directory.path()), PidFile::default());
    }

    #[test]
    fn a_strange_file_names_no_process() {
        for text in ["", "\n", "-5\n", "0\n", "1\n", "x\n", "99999999999\n"] {
            assert_eq!(parse(text).pid, None, "{text:?}");
        }
    }
}

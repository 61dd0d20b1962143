//! A log read as it grows: by whole pieces, through truncation and replacement by a new file of its name.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of change events that are taken at once; one with the longest name fits several times.
const EVENTS_BYTES: usize = 4 << 10;

/// A file of which the end is not final.
pub(crate) struct GrowingFile {
    path: PathBuf,
    file: File,
    /// Tells of every change in the file's directory.
    changes: OwnedFd,
}

impl GrowingFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// The system's, where the file or its directory cannot be read or watched.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        let flags = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO;
        let folder = path.parent().unwrap_or(Path::new("/"));
        // Watched before it is read, so that no change falls between.
        inotify::add_watch(&watch, folder, flags)?;
        Ok(Self {
            path: path.to_path_buf(),
            file: File::open(path)?,
            changes: watch,
        })
    }

    /// The next piece; none at the end that the file has at this moment.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let count = self.file.read(&mut piece)?;
            if count > 0 {
                piece.truncate(count);
                return Ok(Some(piece));
            }
            if !self.is_restarted()? {
                return Ok(None);
            }
        }
    }

    /// Goes to the start of a file that was cut short, or of the one that took its name.
    fn is_restarted(&mut self) -> io::Result<bool> {
        let read = self.file.stream_position()?;
        let known = self.file.metadata()?;
        if known.len() < read {
            self.file.rewind()?;
            return Ok(true);
        }
        let newer = match File::open(&self.path) {
            Ok(file) => file,
            // Between the old file's move and the new one's making there is none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let found = newer.metadata()?;
        if (found.dev(), found.ino()) == (known.dev(), known.ino()) {
            return Ok(false);
        }
        self.file = newer;
        Ok(true)
    }

    /// Waits until something changed near the file, or `reader` is a pipe that nobody reads any more; whether somebody
    /// does. Blocks the thread. Not bounded: a log may be silent.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn wait_for_change(&mut self, reader: impl AsFd) -> io::Result<bool> {
        let mut both = [
            PollFd::new(&self.changes, PollFlags::IN),
            // That it is broken is told unasked.
            PollFd::new(&reader, PollFlags::empty()),
        ];
        loop {
            match poll(&mut both, None) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_)
                    if both[1]
                        .revents()
                        .intersects(PollFlags::ERR | PollFlags::HUP) =>
                {
                    return Ok(false);
                }
                Ok(_) => break,
            }
        }
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
        // One event or many: what follows is to read the file.
        inotify::Reader::new(&self.changes, &mut buffer).next()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn drain(log: &mut GrowingFile) -> String {
        let mut text = String::new();
        while let Some(piece) = log.read().unwrap() {
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        text
    }

    #[test]
    fn what_is_added_is_read_through_truncation_and_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "one\n").unwrap();
        let mut log = GrowingFile::open(&path).unwrap();
        assert_eq!(drain(&mut log), "one\n");
        let (kept, reader) = std::io::pipe().unwrap();

        let mut writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
        writer.write_all(b"two\n").unwrap();
        assert!(log.wait_for_change(&reader).unwrap());
        assert_eq!(drain(&mut log), "two\n");

        fs::write(&path, "3\n").unwrap();
        assert!(log.wait_for_change(&reader).unwrap());
        assert_eq!(drain(&mut log), "3\n");

        fs::rename(&path, dir.path().join("log.1")).unwrap();
        fs::write(&path, "four\n").unwrap();
        assert!(log.wait_for_change(&reader).unwrap());
        assert_eq!(drain(&mut log), "four\n");

        // Nothing changes any more, and nobody would read it.
        drop(kept);
        while log.wait_for_change(&reader).unwrap() {}
    }
}

//! Waiting until a server is ready: told by inotify, never asked at intervals.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::{START_TIME_MAX, Server, ServerError, pid_file, watched};

/// Bytes for a batch of notices: some dozens of them, of 16 bytes and a name each.
const NOTICES_BYTES: usize = 2048;

/// How the wait ended.
pub(super) enum Outcome {
    /// The server takes connections.
    Ready,
    /// It ended.
    Ended,
    /// It lives, but was not ready in time.
    TimedOut,
}

/// Watches a data directory from before its server starts, so that no notice is missed.
pub(super) struct Watch {
    notices: AsyncFd<OwnedFd>,
    data: PathBuf,
}

impl Watch {
    pub(super) fn new(data: &Path) -> Result<Self, ServerError> {
        let opened = open(data).map_err(|source| ServerError::Look {
            data: data.to_owned(),
            source,
        })?;
        Ok(Self {
            notices: opened,
            data: data.to_owned(),
        })
    }

    /// Waits until the pid file of this very server says that it is ready.
    pub(super) async fn wait(&self, server: &Server) -> Result<Outcome, ServerError> {
        let ready = async {
            loop {
                let found = pid_file::read(&self.data);
                if found.is_ready && found.pid == Some(server.pid) {
                    return Ok(());
                }
                self.changed().await?;
            }
        };
        tokio::select! {
            // An end that came with its last notice is an end.
            biased;
            () = server.exited() => Ok(Outcome::Ended),
            seen = ready => match seen {
                Ok(()) => Ok(Outcome::Ready),
                Err(source) => Err(ServerError::Look { data: self.data.clone(), source }),
            },
            () = tokio::time::sleep(START_TIME_MAX) => Ok(Outcome::TimedOut),
        }
    }

    /// Waits for the next change in the directory, and takes all notices that are there.
    async fn changed(&self) -> io::Result<()> {
        let mut guard = self.notices.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); NOTICES_BYTES];
        let mut reader = inotify::Reader::new(self.notices.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(Errno::WOULDBLOCK) => {
                    guard.clear_ready();
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn open(data: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let notices = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let changes = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&notices, data, changes)?;
    watched(notices)
}

//! Waiting until a server is ready: told by inotify, never asked at intervals.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::{Server, ServerError, pid_file, watched};

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

/// Waits until the pid file of this very server says that it is ready, for `time_max` at most.
pub(super) async fn wait(server: &Server, time_max: Duration) -> Result<Outcome, ServerError> {
    let data = server.data.seen_through(server.pid());
    let is_ready = || {
        let found = pid_file::read(&data);
        found.is_ready && found.pid == Some(server.pid)
    };
    let ready = async {
        // One that has been ready for long, which an engine adopts by hundreds, needs no watch.
        if is_ready() {
            return Ok(());
        }
        let watch = match Watch::new(&data) {
            Ok(watch) => watch,
            // A process that ends lets nobody look any more, just before it is told to have ended.
            Err(_) if data != server.data.path() => std::future::pending().await,
            Err(error) => return Err(error),
        };
        while !is_ready() {
            watch.changed().await?;
        }
        Ok(())
    };
    tokio::select! {
        // An end that came with its last notice is an end.
        biased;
        () = server.exited() => Ok(Outcome::Ended),
        seen = ready => match seen {
            Ok(()) => Ok(Outcome::Ready),
            Err(source) => Err(ServerError::Look { data: data.clone(), source }),
        },
        () = tokio::time::sleep(time_max) => Ok(Outcome::TimedOut),
    }
}

/// The notices of a data directory. It is watched before its pid file is read, so that no notice is missed.
struct Watch {
    /// None once it is dropped.
    notices: Option<AsyncFd<OwnedFd>>,
}

impl Watch {
    fn new(data: &Path) -> io::Result<Self> {
        let notices = Some(open(data)?);
        Ok(Self { notices })
    }

    /// Waits for the next change in the directory, and takes all notices that are there.
    async fn changed(&self) -> io::Result<()> {
        let notices = self.notices.as_ref().expect("it is not dropped");
        let mut guard = notices.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); NOTICES_BYTES];
        let mut reader = inotify::Reader::new(notices.get_ref(), &mut buffer);
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

impl Drop for Watch {
    /// Closes it elsewhere: the kernel waits some milliseconds for those who still read the list of watches (SRCU), and
    /// whoever asked for a branch would wait with it.
    fn drop(&mut self) {
        let Some(notices) = self.notices.take().map(AsyncFd::into_inner) else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(notices)));
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

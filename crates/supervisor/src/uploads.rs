//! What the session's programs have sent and nobody else has yet: the end of a session waits for it.
//!
//! ```text
//!   a program's connection ── open until its end is read ──▶ carried ──▶ a far socket ── open until it was shut down
//!                                                                   └──▶ an agent's stream, which counts by itself
//! ```
//!
//! A kernel goes on sending what a process that ended has written; here that is the session's to do. Owns what is still
//! open, and how long that is waited for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::session::Session;

/// How long the end of a session waits for what its programs sent: whoever reads more slowly is cut.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long of that nothing may move, which a slow reader lets it do once a megabyte: a stream's half window.
const STALL_MAX: Duration = Duration::from_secs(10);

/// How long connections that were just made are waited for.
const ARRIVAL_MAX: Duration = Duration::from_millis(200);

/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What is under way. Cheap to copy; all copies are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uploads {
    open: TaskTracker,
    /// Bytes that were read from programs and written to far ends, to see whether anything moves.
    moved: Arc<AtomicU64>,
}

/// When an upload is no longer open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The program's end was read.
    End,
    /// It was shut down.
    Shutdown,
}

/// A stream of which it is known whether something is under way.
pub(crate) struct Upload<S> {
    stream: S,
    until: Until,
    open: Option<TaskTrackerToken>,
    moved: Arc<AtomicU64>,
}

impl Uploads {
    /// A program's connection, which is open until its end is read.
    pub(crate) fn of_program<S>(&self, stream: S) -> Upload<S> {
        self.upload(stream, Until::End)
    }

    /// A far end, which is open until it was shut down.
    pub(crate) fn to_far<S>(&self, stream: S) -> Upload<S> {
        self.upload(stream, Until::Shutdown)
    }

    fn upload<S>(&self, stream: S, until: Until) -> Upload<S> {
        Upload {
            stream,
            until,
            open: Some(self.open.token()),
            moved: Arc::clone(&self.moved),
        }
    }

    /// Waits until what the programs of `session`, which have all ended, sent is out, as long as it moves. On the
    /// network's thread, so that nothing is looked at in the middle of a step.
    pub(crate) async fn wait(session: Arc<Session>) {
        let mut progress = Progress::default();
        loop {
            let agents = session.network.iter().flat_map(|network| network.agents());
            let unsent: usize = agents.map(|agent| agent.session().unsent()).sum();
            let arrives = !session.arrivals.is_empty() && progress.elapsed < ARRIVAL_MAX;
            let uploads = &session.uploads;
            if uploads.open.is_empty() && unsent == 0 && !arrives {
                return;
            }
            let mark = (uploads.moved.load(Ordering::Relaxed), unsent);
            if !progress.goes_on(mark) {
                tracing::warn!(unsent, "what programs sent last is cut: it is not read");
                return;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Whether waiting is worth it, look by look.
#[derive(Debug, Default)]
struct Progress {
    elapsed: Duration,
    stalled: Duration,
    mark: (u64, usize),
}

impl Progress {
    /// One more look, which finds `mark`; it changes with everything that moves.
    fn goes_on(&mut self, mark: (u64, usize)) -> bool {
        if mark != self.mark {
            self.mark = mark;
            self.stalled = Duration::ZERO;
        }
        self.elapsed += LOOK_INTERVAL;
        self.stalled += LOOK_INTERVAL;
        self.elapsed < WAIT_MAX && self.stalled < STALL_MAX
    }
}

impl<S> Upload<S> {
    fn count(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn count_written(&self, written: &Poll<io::Result<usize>>) {
        if let (Until::Shutdown, Poll::Ready(Ok(bytes))) = (self.until, written) {
            self.count(*bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Upload<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.remaining();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if let (Until::End, Poll::Ready(outcome)) = (self.until, &read) {
            let bytes = before - into.remaining();
            self.count(bytes);
            if outcome.is_err() || (bytes == 0 && before > 0) {
                self.open = None;
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Upload<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count_written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.stream).poll_shutdown(context);
        if self.until == Until::Shutdown && shut_down.is_ready() {
            self.open = None;
        }
        shut_down
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count_written(&written);
        written
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn an_upload_is_open_until_its_programs_end_is_read_and_its_far_end_is_shut_down() {
        let uploads = Uploads::default();
        let (mut program, here) = duplex(64);
        let (there, _far) = duplex(64);
        let (mut here, mut there) = (uploads.of_program(here), uploads.to_far(there));
        program.write_all(b"all of it").await.unwrap();
        drop(program);
        let mut all = Vec::new();
        here.read_buf(&mut all).await.unwrap();
        assert_eq!(uploads.open.len(), 2, "its end was not read");
        here.read_to_end(&mut all).await.unwrap();
        assert_eq!(uploads.open.len(), 1);
        there.write_all(&all).await.unwrap();
        assert_eq!(uploads.open.len(), 1, "more may come");
        there.shutdown().await.unwrap();
        assert!(uploads.open.is_empty());
        assert_eq!(uploads.moved.load(Ordering::Relaxed), 2 * 9);
        drop(uploads.to_far(there));
        assert!(uploads.open.is_empty(), "what is dropped is not waited for");
    }

    #[test]
    fn it_is_waited_for_while_something_moves_and_not_for_ever() {
        let waited = |moves: fn(u32) -> u32| {
            let mut progress = Progress::default();
            let mut looks = 1..;
            let last = looks.find(|look| !progress.goes_on((moves(*look).into(), 1)));
            LOOK_INTERVAL * last.expect("it ends")
        };
        assert_eq!(waited(|_| 1), STALL_MAX);
        assert_eq!(waited(|look| look / 500), WAIT_MAX);
    }
}

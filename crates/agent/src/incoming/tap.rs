//! Copies of what clients send: taken at memory speed, delivered by tasks of their own, given up rather than waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};
use wire::pump::Stream;
use wire::{Errno, OpenRequest};

use super::ports::Subscriber;

/// Bytes of one connection that wait to be copied before its copy is given up.
const COPY_MAX: usize = 4 * 1024 * 1024;

/// What one piece in the queue takes beside its own bytes, counted as bytes too: a client may send them one by one.
const PIECE_BYTES: usize = 128;

/// Bytes of all connections that wait to be copied: the agent lives in the target's memory limits.
const COPIES_MAX: usize = 32 * 1024 * 1024;

/// ENOBUFS: what the session reads where its copy was given up.
const GIVEN_UP: Errno = Errno(105);

/// Bytes that wait to be copied, of all connections.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: AtomicUsize,
}

/// The copies of one connection.
#[derive(Debug, Default)]
pub(super) struct Taps {
    taps: Vec<Tap>,
}

#[derive(Debug)]
struct Tap {
    /// Bounded by the backlog, which is asked before anything is put in: a queue of pieces knows nothing of their sizes.
    queue_tx: mpsc::UnboundedSender<Bytes>,
    backlog: Arc<Backlog>,
    subscriber: Arc<Subscriber>,
}

/// What waits of one copy.
#[derive(Debug)]
struct Backlog {
    bytes: AtomicUsize,
    given_up: Notify,
    held: Arc<Held>,
}

impl Backlog {
    fn add(&self, bytes: usize) -> bool {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.held.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        own <= COPY_MAX && all <= COPIES_MAX
    }

    fn subtract(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.held.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        let left = *self.bytes.get_mut();
        self.held.bytes.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Taps {
    /// Copies a connection from `peer` to `local` for each of them.
    pub(super) fn open(
        subscribers: Vec<Arc<Subscriber>>,
        peer: SocketAddr,
        local: SocketAddr,
        held: &Arc<Held>,
    ) -> Self {
        let taps = subscribers.into_iter().filter_map(|subscriber| {
            let request = OpenRequest::Incoming {
                subscription: subscriber.subscription,
                peer,
                local,
                copy: true,
            };
            let Ok(stream) = subscriber.session.offer(request) else {
                subscriber.count_dropped();
                return None;
            };
            let (queue_tx, queue_rx) = mpsc::unbounded_channel();
            let backlog = Arc::new(Backlog {
                bytes: AtomicUsize::new(0),
                given_up: Notify::new(),
                held: Arc::clone(held),
            });
            tokio::spawn(deliver(stream, queue_rx, Arc::clone(&backlog)));
            Some(Tap {
                queue_tx,
                backlog,
                subscriber,
            })
        });
        Self {
            taps: taps.collect(),
        }
    }

    /// Copies bytes that the client sent, for whoever keeps up.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        if self.taps.is_empty() || bytes.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        self.taps.retain(|tap| {
            if !tap.backlog.add(bytes.len() + PIECE_BYTES) {
                tap.subscriber.count_dropped();
                tap.backlog.given_up.notify_one();
                return false;
            }
            // The session wants no more of it.
            tap.queue_tx.send(bytes.clone()).is_ok()
        });
    }
}

/// Carries what was copied to the session until the connection ends or the copy is given up.
async fn deliver(
    mut stream: Stream,
    mut queue_rx: mpsc::UnboundedReceiver<Bytes>,
    backlog: Arc<Backlog>,
) {
    let writing = async {
        while let Some(bytes) = queue_rx.recv().await {
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
            backlog.subtract(bytes.len() + PIECE_BYTES);
        }
        // A session that has gone misses nothing.
        stream.shutdown().await.ok();
    };
    let given_up = tokio::select! {
        biased;
        () = backlog.given_up.notified() => true,
        () = writing => false,
    };
    if given_up {
        stream.reset(GIVEN_UP);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::pump::Session;
    use wire::{Role, SessionId};

    use super::*;

    /// A copy for a session without a link, by which nothing is ever read.
    fn open(session: &Session, held: &Arc<Held>) -> Taps {
        let subscriber = Arc::new(Subscriber::new(SessionId([1; 16]), 1, session.clone()));
        let address = ([127, 0, 0, 1], 80).into();
        Taps::open(vec![subscriber], address, address, held)
    }

    #[tokio::test]
    async fn a_copy_of_single_bytes_is_given_up_before_their_queue_is_large() {
        let (session, _inbox) = Session::new(Role::Agent, Duration::from_secs(60));
        let mut taps = open(&session, &Arc::new(Held::default()));
        for _ in 0..=COPY_MAX / PIECE_BYTES {
            taps.copy(&[0]);
        }
        assert!(taps.taps.is_empty());
    }

    #[tokio::test]
    async fn a_copy_that_nobody_reads_is_given_up_and_holds_nothing() {
        let (session, _inbox) = Session::new(Role::Agent, Duration::from_secs(60));
        let held = Arc::new(Held::default());
        let mut taps = open(&session, &held);
        for _ in 0..100 {
            taps.copy(&[0; 100_000]);
            assert!(held.bytes.load(Ordering::Relaxed) <= COPY_MAX + 100_000 + PIECE_BYTES);
            tokio::task::yield_now().await;
        }
        assert!(taps.taps.is_empty());
        while held.bytes.load(Ordering::Relaxed) > 0 || session.streams() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

//! Where the ids of the listener's questions are, for a process that outlives this one: it ends those that were taken up
//! here and not answered.
//!
//! Ids count up by one from a random number (`seccomp_next_notify_id` in Linux's `kernel/seccomp.c`), so that the first and
//! one of the last are enough. Owns how often one is told. Leaves the end to `guard::watcher`.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// The word of a line that tells an id; the id follows.
pub(crate) const ASKED: &str = "asked";

/// One of so many ids is told.
const TOLD_EVERY: u64 = 256;

/// Beyond the last id that was told there may be as many again, and those that receivers have in hand.
pub(crate) const UNTOLD_MAX: u64 = 2 * TOLD_EVERY;

/// Tells of the ids of questions.
#[derive(Debug)]
pub(crate) struct Asked {
    pipe: File,
    /// The last one that was told; 0 before.
    told: AtomicU64,
}

impl Asked {
    /// Tells by `pipe`, a line each time.
    pub(crate) fn told_to(pipe: OwnedFd) -> Self {
        Self {
            pipe: pipe.into(),
            told: AtomicU64::new(0),
        }
    }

    /// A question was received.
    pub(crate) fn note(&self, id: u64) {
        let told = self.told.load(Ordering::Relaxed);
        if told == 0 || id.wrapping_sub(told) >= TOLD_EVERY {
            self.told.store(id, Ordering::Relaxed);
            // A short line is written whole (pipe(7)). Somebody may have killed who reads it.
            let _deaf = (&self.pipe).write_all(format!("{ASKED} {id}\n").as_bytes());
        }
    }
}

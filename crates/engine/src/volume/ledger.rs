//! Bytes of a volume that were promised and are not all written yet: so that many who are each let in do not fill it together.
//!
//! ```text
//!   wanted -> fits beside everything that is promised -> promised, until the promise is dropped
//!          -> fits once clones and snapshots that are being made are done -> waits for them
//!          -> does not fit beside what the copies under way take -> refused with the numbers
//! ```
//!
//! A promise counts in full until it is dropped, though a part of it may be on the disk already: clones are made within
//! seconds, and who might fit waits rather than being refused. What copies of sources will take yet is known of their
//! progress. Owns the sums; leaves what something takes to whoever makes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::ByteSize;
use model::engine_api::CopyProgress;
use tokio::sync::{Notify, watch};

use super::{NoRoom, Room, VolumeError, room};

/// How long somebody waits for others' promises: far above what a clone of tens of gigabytes takes to be copied.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Why nothing was promised.
#[derive(Debug, thiserror::Error)]
pub enum PromiseError {
    /// There is less room than it takes and must stay.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The volume cannot be asked.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// Of what a promise is.
#[derive(Debug)]
enum Share {
    /// Of so many bytes.
    Bytes(u64),
    /// Of what a copy of a source takes yet.
    Copy(watch::Receiver<Option<CopyProgress>>),
}

#[derive(Debug, Default)]
struct Shares {
    next: u64,
    shares: BTreeMap<u64, Share>,
}

/// What is promised of one volume.
#[derive(Debug, Default)]
pub struct Ledger {
    shares: Mutex<Shares>,
    returned: Notify,
}

/// Bytes that are somebody's to write. Dropping it gives them back.
#[derive(Debug)]
#[must_use = "what is dropped at once is promised to nobody"]
pub struct Promise {
    ledger: Arc<Ledger>,
    id: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.ledger.shares().shares.remove(&self.id);
        self.ledger.returned.notify_waiters();
    }
}

impl Ledger {
    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(self: &Arc<Self>, shares: &mut Shares, share: Share) -> Promise {
        let id = shares.next;
        shares.next += 1;
        shares.shares.insert(id, share);
        let ledger = Arc::clone(self);
        Promise { ledger, id }
    }

    /// Promises `wanted` bytes of the volume at `path` where `floor` stays free all the same; waits for others' promises
    /// where it would fit without them.
    ///
    /// # Errors
    /// [`PromiseError`], with what is neither taken nor promised as what is free.
    pub async fn promise(
        self: &Arc<Self>,
        path: &Path,
        wanted: ByteSize,
        floor: ByteSize,
    ) -> Result<Promise, PromiseError> {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let mut returned = std::pin::pin!(self.returned.notified());
            returned.as_mut().enable();
            let room = room(path)?;
            let lacking = {
                let mut shares = self.shares();
                match judge(&room, wanted, floor, shares.sums())? {
                    Verdict::Given => return Ok(self.note(&mut shares, Share::Bytes(wanted.0))),
                    Verdict::Later(lacking) => lacking,
                }
            };
            if tokio::time::timeout_at(deadline, returned).await.is_err() {
                return Err(lacking.into());
            }
        }
    }

    /// Promises what a copy takes, as its progress has it.
    pub fn promise_copy(
        self: &Arc<Self>,
        progress: watch::Receiver<Option<CopyProgress>>,
    ) -> Promise {
        self.note(&mut self.shares(), Share::Copy(progress))
    }

    /// All that is promised.
    pub fn promised(&self) -> ByteSize {
        let Sums { making, copying } = self.shares().sums();
        ByteSize(making.saturating_add(copying))
    }
}

/// What is promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    /// To what is done in a moment.
    making: u64,
    /// To copies of sources.
    copying: u64,
}

impl Shares {
    fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for share in self.shares.values() {
            let (sum, bytes) = match share {
                Share::Bytes(bytes) => (&mut sums.making, *bytes),
                Share::Copy(progress) => (&mut sums.copying, to_come(progress.borrow().as_ref())),
            };
            *sum = sum.saturating_add(bytes);
        }
        sums
    }
}

/// What a copy takes yet; nothing as long as that is not known.
fn to_come(progress: Option<&CopyProgress>) -> u64 {
    progress.map_or(0, |progress| {
        let needed = progress.disk_needed_bytes.unwrap_or(ByteSize(0));
        needed.0.saturating_sub(progress.copied_bytes.0)
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Given,
    Later(NoRoom),
}

/// Whether there is room now, or once others are done.
fn judge(room: &Room, wanted: ByteSize, floor: ByteSize, sums: Sums) -> Result<Verdict, NoRoom> {
    let beside = |promised: u64| {
        let taken = ByteSize(wanted.0.saturating_add(promised));
        let checked = room.check(taken, floor);
        checked.map_err(|lack| NoRoom {
            wanted,
            free: ByteSize(lack.free.0.saturating_sub(promised)),
            ..lack
        })
    };
    // What takes nothing is not kept out by others: only the floor counts.
    if wanted.0 == 0 {
        return beside(0).map(|()| Verdict::Given);
    }
    beside(sums.copying)?;
    Ok(match beside(sums.copying.saturating_add(sums.making)) {
        Ok(()) => Verdict::Given,
        Err(lacking) => Verdict::Later(lacking),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use model::engine_api::CopyPhase;

    use super::*;
    use crate::volume::Place;

    fn free(bytes: u64) -> Room {
        let (path, free) = ("/volume".into(), ByteSize(bytes));
        Room {
            places: vec![Place { path, free }],
        }
    }

    fn progress(needed: u64, copied: u64) -> CopyProgress {
        CopyProgress {
            phase: CopyPhase::Copying,
            source_size_bytes: None,
            disk_needed_bytes: Some(ByteSize(needed)),
            disk_free_bytes: None,
            estimate_seconds: None,
            copied_bytes: ByteSize(copied),
            copied_rows: 0,
            table: None,
            advice: None,
            started_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn who_fits_beside_all_others_is_let_in_and_who_fits_after_them_waits() {
        let (wanted, floor) = (ByteSize(8), ByteSize(2));
        let sums = |making, copying| Sums { making, copying };
        let judged = |sums| judge(&free(20), wanted, floor, sums);
        assert_eq!(judged(sums(0, 0)), Ok(Verdict::Given));
        assert_eq!(judged(sums(10, 0)), Ok(Verdict::Given));
        let Ok(Verdict::Later(lacking)) = judged(sums(11, 0)) else {
            panic!("five of them would pass the floor together");
        };
        assert_eq!((lacking.wanted, lacking.free), (ByteSize(8), ByteSize(9)));
        // A copy of a source may take hours.
        let refused = judged(sums(0, 11)).unwrap_err();
        assert_eq!((refused.wanted, refused.free), (ByteSize(8), ByteSize(9)));
        let nothing = judge(&free(20), ByteSize(0), floor, sums(100, 100));
        assert_eq!(nothing, Ok(Verdict::Given));
        judge(&free(1), ByteSize(0), floor, sums(0, 0)).unwrap_err();
    }

    #[test]
    fn a_copy_is_promised_what_it_has_not_written_yet() {
        let ledger = Arc::new(Ledger::default());
        let progress_tx = watch::Sender::new(None);
        let promise = ledger.promise_copy(progress_tx.subscribe());
        assert_eq!(ledger.promised(), ByteSize(0));
        progress_tx.send_replace(Some(progress(100, 30)));
        assert_eq!(ledger.promised(), ByteSize(70));
        progress_tx.send_replace(Some(progress(100, 130)));
        assert_eq!(ledger.promised(), ByteSize(0));
        drop(promise);
    }

    #[tokio::test]
    async fn many_at_once_never_promise_more_than_there_is() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::default());
        let free = super::super::writable_space(home.path()).unwrap();
        // Each more than a third of what is there, whatever others write meanwhile.
        let wanted = ByteSize(free.0 / 5 * 2);
        let most = Arc::new(Mutex::new(0));
        let one = |_| async {
            let promise = ledger.promise(home.path(), wanted, ByteSize(0)).await;
            let promise = promise.unwrap();
            let now = ledger.promised().0;
            {
                let mut most = most.lock().unwrap();
                *most = now.max(*most);
            }
            tokio::task::yield_now().await;
            drop(promise);
        };
        futures_util::future::join_all((0..20).map(one)).await;
        assert_eq!(*most.lock().unwrap(), 2 * wanted.0);
        assert_eq!(ledger.promised(), ByteSize(0));
        let refused = ledger.promise(home.path(), ByteSize(u64::MAX), ByteSize(0));
        assert!(matches!(refused.await, Err(PromiseError::NoRoom(_))));
    }
}

//! What every part of the engine works with on this machine: where things lie, how files are cloned, who runs servers.
//!
//! Owns nothing but the gathering, and what follows from two of them at once. Leaves making each of them to `app`.

use std::sync::Arc;

use model::ByteSize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::clone::CloneName;
use crate::door::{DoorKey, Encryption};
use crate::layout::Layout;
use crate::postgres::account::ServerAccount;
use crate::postgres::binaries::Installations;
use crate::settings::Limits;
use crate::turns::Turns;
use crate::volume::{Ledger, Promise, PromiseError, Usages, Volume};

/// The machine as an engine sees it.
#[derive(Debug)]
pub struct Machine {
    /// Where things lie.
    pub layout: Layout,
    /// The limits.
    pub limits: Limits,
    /// What survives a crash.
    pub catalogue: Arc<Catalogue>,
    /// The time.
    pub clock: Clock,
    /// Who servers run as.
    pub account: ServerAccount,
    /// The servers found.
    pub installations: Arc<Installations>,
    /// How directories are cloned.
    pub volume: Arc<dyn Volume>,
    /// What of the volume is promised to what is just being made.
    pub ledger: Arc<Ledger>,
    /// Who works on a clone's files.
    pub clone_turns: Arc<Turns<CloneName>>,
    /// What passes to doors are sealed with; none where doors are open.
    pub door_key: Option<DoorKey>,
    /// With what doors speak TLS.
    pub door_encryption: Encryption,
    /// This boot of the machine (`/proc/sys/kernel/random/boot_id`, random(4)).
    pub boot_id: String,
    /// The mount of the volume by now; none where the kernel does not tell one from the next.
    pub volume_mount: Option<u64>,
    /// What clones take of the volume, as far as anybody asked.
    pub usages: Usages,
    /// What is being made, and what is being cleared of things that came to nothing: the engine's end waits for it.
    pub clearing: TaskTracker,
    /// Cancelled when the engine is to end.
    pub ending: CancellationToken,
}

impl Machine {
    /// What `work` comes to; none where the engine begins to end before.
    pub async fn before_the_end<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.ending.run_until_cancelled(work).await
    }

    /// The room that a clone of so many bytes takes from the start: none where it shares them with its original.
    pub fn clone_room(&self, size: ByteSize) -> ByteSize {
        if self.volume.clone_takes_room() {
            size
        } else {
            ByteSize(0)
        }
    }

    /// The room that a copy of a base of so many bytes takes from the start, alike.
    pub fn copy_room(&self, size: ByteSize) -> ByteSize {
        if self.volume.copy_takes_room() {
            size
        } else {
            ByteSize(0)
        }
    }

    /// Promises room on the volume, above the floor that must stay free.
    ///
    /// # Errors
    /// [`PromiseError`] with the numbers.
    pub async fn promise_room(&self, wanted: ByteSize) -> Result<Promise, PromiseError> {
        let floor = self.limits.free_floor_bytes;
        self.ledger
            .promise(&self.layout.volume(), wanted, floor)
            .await
    }
}

//! What every part of the engine works with on this machine: where things lie, how files are cloned, who runs servers.
//!
//! Owns nothing but the gathering. Leaves making each of them to `app`.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::clone::CloneName;
use crate::layout::Layout;
use crate::postgres::account::ServerAccount;
use crate::postgres::binaries::Installations;
use crate::settings::Limits;
use crate::turns::Turns;
use crate::volume::{Usages, Volume};

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
    /// Who works on a clone's files.
    pub clone_turns: Arc<Turns<CloneName>>,
    /// This boot of the machine (`/proc/sys/kernel/random/boot_id`, random(4)).
    pub boot_id: String,
    /// The mount of the volume by now; none where the kernel does not tell one from the next.
    pub volume_mount: Option<u64>,
    /// What clones take of the volume, as far as anybody asked.
    pub usages: Usages,
    /// What is being cleared of things that came to nothing; the engine's end waits for it.
    pub clearing: TaskTracker,
}

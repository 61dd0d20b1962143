//! A base that follows its source: the verbs that all ways of following have in common.
//!
//! ```text
//!   choose ─▶ seed ─▶ BASE ◀── tend, every second: follows, waits, or is of no more use
//!               resume ▲ │
//!    (after an engine's  ├─ wait_replayed ─▶ it holds everything that the source had at a moment
//!     end or a reboot)   ├─ snapshot      ─▶ stopped cleanly, for any number of clones
//!                        ├─ make_follower ─▶ a clone that goes on following until it becomes a branch
//!                        └─ stop          ─▶ its directory is the caller's to remove
//! ```
//!
//! The seam between `living`, `store` and `upkeep`, which know these verbs alone, and how each way does them: a new way
//! is a module beside `physical` and one variant in each of [`Way`], [`SeededBase`] and [`FollowedBase`]. A moment of a
//! source and what a copy holds of it are the same for all ways (`physical::moment`): they follow the same WAL.

use std::time::Duration;

use jiff::Timestamp;
use model::engine_api::{BaseMode, CopyProgress};
use model::{ByteSize, PgMajor, Secret};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use super::copy::DiskBudget;
use super::physical::fitness::{Fit, Fitness, FitnessError, fitness};
use super::physical::follow::{self, Keeper};
use super::physical::follower::{Follower, FollowerError, FollowerRequest, make_follower};
use super::physical::lsn::{Lsn, WalShape};
use super::physical::moment::Moment;
use super::physical::seed::{self, SeedError, SeedRequest, Seeded, seed};
use super::physical::snapshot::{Snapshot, SnapshotError, SnapshotRequest, snapshot};
use super::physical::standby::{Progress, Standby, StandbyError, WaitError};
use super::physical::{Host, Place, Upstream};
use crate::postgres::server::StopMode;

/// The cluster may be this much larger than the database that was named, and [`CLUSTER_EXTRA`], before nobody who did
/// not ask for it gets a copy of all of it.
const CLUSTER_FACTOR_MAX: u64 = 4;

/// What any cluster may have beside the database.
const CLUSTER_EXTRA: ByteSize = ByteSize(1 << 30);

/// How a source's base is going to be kept.
#[derive(Debug, Clone)]
pub enum Way {
    /// By a standby.
    Physical(Box<Fit>),
    /// Not at all: it is dumped when a branch needs it.
    Dump,
}

/// A way, and why it is not a better one.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The way.
    pub way: Way,
    /// What speaks against following the source, a sentence each.
    pub reasons: Vec<String>,
}

/// What is journaled of a base, so that the next engine has it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeededBase {
    /// A standby.
    Physical(Box<Seeded>),
}

/// A base to seed.
#[derive(Debug, Clone, Copy)]
pub struct SeedOrder<'a> {
    /// What this machine has.
    pub host: &'a Host,
    /// Where it comes to lie: an existing empty directory, with the volume's own `data` in it.
    pub place: &'a Place,
    /// Bytes a second at most.
    pub rate_max: Option<ByteSize>,
    /// What the volume has.
    pub disk: DiskBudget,
    /// How long it may take.
    pub duration_max: Duration,
}

/// How a base is after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tended {
    /// Changes arrive, up to this position.
    Following(Lsn),
    /// Nothing arrives; what is here stays as good as it was.
    Waiting {
        /// Since when.
        since: Option<Timestamp>,
        /// What was said last about it.
        said: Option<String>,
    },
    /// It is of no more use, and was stopped.
    SeedAgain {
        /// Why.
        why: String,
    },
}

/// A base that follows its source. Dropping it leaves its server running.
#[derive(Debug)]
pub enum FollowedBase {
    /// A standby.
    Physical {
        /// The standby.
        standby: Box<Standby>,
        /// What was seen of it so far.
        keeper: Mutex<Keeper>,
    },
}

/// Chooses how the base of a source is kept, where `wish` is not to dump it.
///
/// # Errors
/// [`FitnessError`] when it cannot be found out.
pub async fn choose(
    wish: BaseMode,
    upstream: &Upstream,
    host: &Host,
    disk: DiskBudget,
) -> Result<Choice, FitnessError> {
    if wish == BaseMode::Logical {
        return Ok(Choice {
            way: Way::Dump,
            reasons: Vec::new(),
        });
    }
    let reasons = match fitness(upstream, host, None).await? {
        Fitness::Fit(fit) => match not_unasked(&fit, disk).filter(|_| wish == BaseMode::Auto) {
            Some(reason) => vec![reason],
            None => {
                return Ok(Choice {
                    way: Way::Physical(fit),
                    reasons: Vec::new(),
                });
            }
        },
        Fitness::Unfit { reasons } => reasons.iter().map(ToString::to_string).collect(),
    };
    Ok(Choice {
        way: Way::Dump,
        reasons,
    })
}

/// Why a source that could be followed is not, as long as nobody asked for it.
fn not_unasked(fit: &Fit, disk: DiskBudget) -> Option<String> {
    let (cluster, database) = (fit.size(), fit.facts.size_bytes);
    let most = database
        .0
        .saturating_mul(CLUSTER_FACTOR_MAX)
        .saturating_add(CLUSTER_EXTRA.0);
    if cluster.0 > most {
        return Some(format!(
            "a physical base holds the whole cluster, {cluster}, of which the database is {database}: --mode physical \
             takes it all the same"
        ));
    }
    let needed = seed::needed(cluster);
    let room = ByteSize(disk.free.0.saturating_sub(disk.floor.0));
    (needed.0 > room.0).then(|| {
        format!("a physical base needs {needed}, and {room} are free above the floor of the volume")
    })
}

impl SeededBase {
    /// How the base is kept.
    pub fn mode(&self) -> BaseMode {
        match self {
            Self::Physical(_) => BaseMode::Physical,
        }
    }

    /// When it was seeded.
    pub fn seeded_at(&self) -> Timestamp {
        match self {
            Self::Physical(seeded) => seeded.seeded_at,
        }
    }

    /// What is otherwise than on the source, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Physical(seeded) => {
                let notes = seeded.notes.iter().chain(&seeded.sorts_otherwise);
                notes.cloned().collect()
            }
        }
    }
}

impl FollowedBase {
    /// Copies a source the way that was chosen and follows it from then on; `None` where it is not to be followed. As
    /// [`seed`] as to progress and a dropped future.
    ///
    /// [`seed`]: super::physical::seed::seed
    ///
    /// # Errors
    /// [`SeedError`]. What was made is the caller's to remove.
    pub async fn seed(
        way: &Way,
        order: &SeedOrder<'_>,
        progress: &watch::Sender<Option<CopyProgress>>,
    ) -> Result<Option<Self>, SeedError> {
        let SeedOrder {
            host,
            place,
            rate_max,
            disk,
            duration_max,
        } = *order;
        match way {
            Way::Physical(fit) => {
                let request = SeedRequest {
                    fit,
                    host,
                    place,
                    rate_max,
                    disk,
                    duration_max,
                };
                let standby = seed(&request, progress).await?;
                Ok(Some(Self::of(standby)))
            }
            Way::Dump => Ok(None),
        }
    }

    /// The base of a directory again: its living server adopted, or started.
    ///
    /// # Errors
    /// [`StandbyError`]; nothing of it is left running then.
    pub async fn resume(
        seeded: SeededBase,
        host: &Host,
        place: &Place,
        upstream: &Upstream,
    ) -> Result<Self, StandbyError> {
        match seeded {
            SeededBase::Physical(seeded) => {
                let resumed = Standby::resume(host.clone(), place.clone(), *seeded, upstream);
                Ok(Self::of(resumed.await?))
            }
        }
    }

    fn of(standby: Standby) -> Self {
        Self::Physical {
            standby: Box::new(standby),
            keeper: Mutex::default(),
        }
    }

    /// What is to be journaled.
    pub fn seeded(&self) -> SeededBase {
        match self {
            Self::Physical { standby, .. } => {
                SeededBase::Physical(Box::new(standby.seeded().clone()))
            }
        }
    }

    /// The version of its servers, and of its branches.
    pub fn major(&self) -> PgMajor {
        match self {
            Self::Physical { standby, .. } => standby.seeded().major,
        }
    }

    /// How the source's WAL is cut.
    pub fn shape(&self) -> WalShape {
        match self {
            Self::Physical { standby, .. } => standby.seeded().shape,
        }
    }

    /// The base on its disk, as far as its source said.
    pub fn size(&self) -> ByteSize {
        match self {
            Self::Physical { standby, .. } => standby.seeded().size_bytes,
        }
    }

    /// One look, and what it asks for. One task calls it, every second or so.
    ///
    /// # Errors
    /// [`StandbyError`] when what had to be done failed; the next look finds what is left.
    pub async fn tend(&self, upstream: &Upstream) -> Result<Tended, StandbyError> {
        match self {
            Self::Physical { standby, keeper } => {
                let tended = keeper.lock().await.tend(standby, upstream).await?;
                Ok(match tended {
                    follow::Tended::Following(progress) => Tended::Following(progress.replayed),
                    follow::Tended::Waiting { since, said } => Tended::Waiting { since, said },
                    follow::Tended::SeedAgain(cause) => Tended::SeedAgain {
                        why: cause.to_string(),
                    },
                })
            }
        }
    }

    /// Has the source asked at the next look whether it is what it was.
    pub async fn doubt(&self) {
        match self {
            Self::Physical { keeper, .. } => keeper.lock().await.doubt(),
        }
    }

    /// Waits until it holds everything that was committed on the source before `moment`.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait_replayed(
        &self,
        moment: &Moment,
        time_max: Duration,
    ) -> Result<Progress, WaitError> {
        match self {
            Self::Physical { standby, .. } => standby.wait_replayed(moment, time_max).await,
        }
    }

    /// Makes a snapshot in `place`, an existing empty directory, once the base is where the source is now.
    ///
    /// # Errors
    /// [`SnapshotError`]. Nothing is left running; the directory is the caller's to remove.
    pub async fn snapshot(
        &self,
        upstream: &Upstream,
        place: &Place,
        prepare: Option<&Secret>,
        wait_max: Duration,
    ) -> Result<Snapshot, SnapshotError> {
        match self {
            Self::Physical { standby, .. } => {
                let request = SnapshotRequest {
                    standby,
                    upstream,
                    place,
                    prepare,
                    wait_max,
                };
                snapshot(&request).await
            }
        }
    }

    /// Makes a follower in `place`, an existing empty directory.
    ///
    /// # Errors
    /// [`FollowerError`]. Nothing is left running; the directory is the caller's to remove.
    pub async fn make_follower(
        &self,
        upstream: &Upstream,
        place: &Place,
        identity: &str,
    ) -> Result<Follower, FollowerError> {
        match self {
            Self::Physical { standby, .. } => {
                let request = FollowerRequest {
                    standby,
                    upstream,
                    place,
                    identity,
                };
                make_follower(&request).await
            }
        }
    }

    /// Ends its server.
    ///
    /// # Errors
    /// [`StandbyError::Server`] when processes are left.
    pub async fn stop(&self, mode: StopMode) -> Result<(), StandbyError> {
        match self {
            Self::Physical { standby, .. } => standby.stop(mode).await,
        }
    }
}

//! A base that follows its source: the verbs that all ways of following have in common.
//!
//! ```text
//!   choose ─▶ seed ─▶ BASE ◀── tend, every second: follows, waits, or is of no more use
//!               resume ▲ │
//!    (after an engine's  │
//!     end or a reboot)   ├─ snapshot      ─▶ stopped cleanly, for any number of clones
//!                        ├─ make_follower ─▶ a clone that goes on following until it becomes a branch (physical alone)
//!                        └─ stop, let_go  ─▶ its directory is the caller's to remove
//! ```
//!
//! The seam between `living`, `store` and `upkeep`, which know these verbs alone, and how each way does them: a new way
//! is a module beside `physical` and one variant in each of [`Way`], [`SeededBase`] and [`FollowedBase`]. A moment of a
//! source and what a copy holds of it are the same for all ways (`moment`): they follow the same WAL.

pub mod cause;
pub mod patience;

use std::time::Duration;

use jiff::Timestamp;
use model::engine_api::{BaseMode, CopyProgress, SourceCare};
use model::{ByteSize, PgMajor, Secret};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use super::copy::{Burden, DiskBudget};
use super::logical;
use super::logical::subscriber::{Subscriber, SubscriberError};
use super::lsn::{Lsn, WalShape};
use super::moment::Moment;
use super::physical;
use super::physical::fitness::{Fit, Fitness, FitnessError, NamedSlot, fitness};
use super::physical::follower::{Follower, FollowerError, FollowerRequest, make_follower};
use super::physical::seed::{self, SeedRequest, Seeded, seed};
use super::physical::snapshot::{Snapshot, SnapshotRequest, snapshot};
use super::physical::standby::{Standby, StandbyError, WaitError};
use super::physical::tending::Keeper;
use super::physical::{Host, Place, Upstream};
use crate::postgres::server::StopMode;
use crate::source::SourceError;

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
    /// By a subscription.
    Logical(Box<logical::fitness::Fit>),
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
    /// A subscriber.
    Logical(Box<logical::seed::Seeded>),
}

/// Why it is not known how a source can be followed.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// As files.
    #[error(transparent)]
    Physical(#[from] FitnessError),
    /// By a subscription.
    #[error(transparent)]
    Logical(#[from] SourceError),
}

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// No standby.
    #[error(transparent)]
    Physical(#[from] physical::seed::SeedError),
    /// No subscriber.
    #[error(transparent)]
    Logical(#[from] Box<logical::seed::SeedError>),
}

/// Why a base's server does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ServerTrouble {
    /// A standby's.
    #[error(transparent)]
    Physical(#[from] StandbyError),
    /// A subscriber's.
    #[error(transparent)]
    Logical(#[from] SubscriberError),
}

impl ServerTrouble {
    /// Whether the base's files seem to be at fault, and not this machine as it is just now.
    pub fn is_of_files(&self) -> bool {
        match self {
            Self::Physical(error) => error.is_of_files(),
            Self::Logical(error) => error.is_of_files(),
        }
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Of a standby.
    #[error(transparent)]
    Physical(#[from] physical::snapshot::SnapshotError),
    /// Of a subscriber.
    #[error(transparent)]
    Logical(#[from] logical::snapshot::SnapshotError),
}

impl SnapshotError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Physical(error) => error.is_full(),
            Self::Logical(error) => error.is_full(),
        }
    }

    /// Whether the base is of no more use for whoever asks now, as where the source's definitions have changed.
    pub fn is_of_no_use(&self) -> bool {
        use logical::snapshot::SnapshotError::{Changed, Over, Subscriber};
        let Self::Logical(error) = self else {
            return false;
        };
        matches!(
            error,
            Changed | Over | Subscriber(SubscriberError::Replaced { .. })
        )
    }
}

/// A base to seed.
#[derive(Debug, Clone, Copy)]
pub struct SeedOrder<'a> {
    /// What this machine has.
    pub host: &'a Host,
    /// Where it comes to lie: an existing empty directory, with the volume's own `data` in it.
    pub place: &'a Place,
    /// Its source.
    pub upstream: &'a Upstream,
    /// The name of the slot that a subscriber gets, journaled and not there yet.
    pub slot: &'a str,
    /// Connections to the source that read rows at once, where that is done by rows.
    pub readers_max: u32,
    /// Bytes a second at most.
    pub rate_max: Option<ByteSize>,
    /// What the volume has.
    pub disk: DiskBudget,
    /// How long it may burden the source.
    pub burden: Burden,
}

/// How a base is after a look: up to which position changes have arrived, or why it is of no more use.
pub type Tended = patience::Tended<Lsn, String>;

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
    /// A subscriber.
    Logical {
        /// The subscriber.
        subscriber: Box<Subscriber>,
        /// What was seen of it so far.
        keeper: Mutex<logical::tending::Keeper>,
    },
}

/// Chooses how the base of a source is kept that is wanted so.
///
/// # Errors
/// [`ChooseError`] when it cannot be found out.
pub async fn choose(
    care: &SourceCare,
    upstream: &Upstream,
    host: &Host,
    disk: DiskBudget,
) -> Result<Choice, ChooseError> {
    let (wish, unbounded) = (care.mode, care.unbounded_slot);
    let named = care.slot.as_deref();
    let named = named.map(|name| NamedSlot { name, unbounded });
    let mut reasons = Vec::new();
    if wish != BaseMode::Logical {
        match fitness(upstream, host, named).await? {
            Fitness::Fit(fit) => {
                let reason = not_unasked(fit.size(), fit.facts.size_bytes, disk);
                match reason.filter(|_| wish == BaseMode::Auto) {
                    Some(reason) => reasons.push(reason),
                    None => {
                        let way = Way::Physical(fit);
                        return Ok(Choice { way, reasons });
                    }
                }
            }
            Fitness::Unfit { reasons: unfit } => {
                reasons.extend(unfit.iter().map(ToString::to_string));
            }
        }
    }
    if wish != BaseMode::Physical {
        match logical::fitness::fitness(upstream, host, unbounded).await? {
            logical::fitness::Fitness::Fit(fit) => {
                let way = Way::Logical(fit);
                return Ok(Choice { way, reasons });
            }
            logical::fitness::Fitness::Unfit { reasons: unfit } => {
                reasons.extend(unfit.iter().map(ToString::to_string));
            }
        }
    }
    let way = Way::Dump;
    Ok(Choice { way, reasons })
}

/// Why a source that could be followed is not, as long as nobody asked for it: of a `cluster` of so many bytes, a
/// `database` of so many is wanted.
fn not_unasked(cluster: ByteSize, database: ByteSize, disk: DiskBudget) -> Option<String> {
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
            Self::Logical(_) => BaseMode::Logical,
        }
    }

    /// Has its source keep WAL for it as the way that was chosen says; answers whether that is otherwise than before.
    pub fn keep_wal_by(&mut self, way: &Way) -> bool {
        match (self, way) {
            (Self::Physical(seeded), Way::Physical(fit)) if seeded.slot != fit.slot => {
                seeded.slot = fit.slot.clone();
                true
            }
            (Self::Physical(_) | Self::Logical(_), _) => false,
        }
    }

    /// When it was seeded.
    pub fn seeded_at(&self) -> Timestamp {
        match self {
            Self::Physical(seeded) => seeded.seeded_at,
            Self::Logical(seeded) => seeded.seeded_at,
        }
    }

    /// What is otherwise than on the source, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Physical(seeded) => {
                let notes = seeded.notes.iter().chain(&seeded.sorts_otherwise);
                notes.cloned().collect()
            }
            Self::Logical(seeded) => seeded.copied.notes.clone(),
        }
    }

    /// The slot on the source that was made for the base, and goes with it: an administrator's does not.
    pub fn slot(&self) -> Option<&str> {
        match self {
            Self::Physical(_) => None,
            Self::Logical(seeded) => Some(&seeded.slot),
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
            upstream,
            slot,
            readers_max,
            rate_max,
            disk,
            burden,
        } = *order;
        match way {
            Way::Physical(fit) => {
                let request = SeedRequest {
                    fit,
                    host,
                    place,
                    rate_max,
                    disk,
                    duration_max: burden.held_max,
                };
                let standby = seed(&request, progress).await?;
                Ok(Some(Self::of(standby)))
            }
            Way::Logical(fit) => {
                let request = logical::seed::SeedRequest {
                    fit,
                    upstream,
                    host,
                    place,
                    slot,
                    rate_max,
                    readers_max,
                    disk,
                    burden,
                };
                let seeded = logical::seed::seed(&request, progress).await;
                Ok(Some(Self::of_subscriber(seeded.map_err(Box::new)?)))
            }
            Way::Dump => Ok(None),
        }
    }

    /// The base of a directory again: its living server adopted, or started.
    ///
    /// # Errors
    /// [`ServerTrouble`]; nothing of it is left running then.
    pub async fn resume(
        seeded: SeededBase,
        host: &Host,
        place: &Place,
        upstream: &Upstream,
    ) -> Result<Self, ServerTrouble> {
        match seeded {
            SeededBase::Physical(seeded) => {
                let resumed = Standby::resume(host.clone(), place.clone(), *seeded, upstream);
                Ok(Self::of(resumed.await?))
            }
            SeededBase::Logical(seeded) => {
                let resumed = Subscriber::resume(host.clone(), place.clone(), *seeded, upstream);
                Ok(Self::of_subscriber(resumed.await?))
            }
        }
    }

    /// Ends what others may still be doing with the server of a base that goes, by whichever handle: nobody starts it any more.
    pub async fn let_go(host: &Host, place: &Place) {
        drop(host.stillnesses.of(place).end().await);
    }

    fn of_subscriber(subscriber: Subscriber) -> Self {
        Self::Logical {
            subscriber: Box::new(subscriber),
            keeper: Mutex::default(),
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
            Self::Logical { subscriber, .. } => {
                SeededBase::Logical(Box::new(subscriber.seeded().clone()))
            }
        }
    }

    /// The version of its servers, and of its branches.
    pub fn major(&self) -> PgMajor {
        match self {
            Self::Physical { standby, .. } => standby.seeded().major,
            Self::Logical { subscriber, .. } => subscriber.seeded().copied.major,
        }
    }

    /// How the source's WAL is cut.
    pub fn shape(&self) -> WalShape {
        match self {
            Self::Physical { standby, .. } => standby.seeded().shape,
            Self::Logical { subscriber, .. } => subscriber.seeded().shape,
        }
    }

    /// The base on its disk, as far as its source said.
    pub fn size(&self) -> ByteSize {
        match self {
            Self::Physical { standby, .. } => standby.seeded().size_bytes,
            Self::Logical { subscriber, .. } => subscriber.seeded().copied.size_bytes,
        }
    }

    /// Whether clones of it can go on following until they become branches.
    pub fn makes_followers(&self) -> bool {
        match self {
            Self::Physical { .. } => true,
            Self::Logical { .. } => false,
        }
    }

    /// One look, and what it asks for. One task calls it, every second or so.
    ///
    /// # Errors
    /// [`ServerTrouble`] when what had to be done failed; the next look finds what is left.
    pub async fn tend(&self, upstream: &Upstream) -> Result<Tended, ServerTrouble> {
        match self {
            Self::Physical { standby, keeper } => {
                let tended = keeper.lock().await.tend(standby, upstream).await?;
                Ok(tended.told(|progress| progress.replayed, |cause| cause.to_string()))
            }
            Self::Logical { subscriber, keeper } => {
                let tended = keeper.lock().await.tend(subscriber, upstream).await?;
                Ok(tended.told(|progress| progress.applied, |cause| cause.to_string()))
            }
        }
    }

    /// Has the source asked at the next look whether it is what it was.
    pub async fn doubt(&self) {
        match self {
            Self::Physical { keeper, .. } => keeper.lock().await.doubt(),
            Self::Logical { keeper, .. } => keeper.lock().await.doubt(),
        }
    }

    /// Waits until a base that makes followers holds everything that was committed on the source before `moment`.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait_replayed(
        &self,
        moment: &Moment,
        time_max: Duration,
    ) -> Result<(), WaitError> {
        match self {
            Self::Physical { standby, .. } => {
                standby.wait_replayed(moment, time_max).await.map(drop)
            }
            // Its snapshots wait by themselves.
            Self::Logical { .. } => Ok(()),
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
                Ok(snapshot(&request).await?)
            }
            Self::Logical { subscriber, .. } => {
                let request = logical::snapshot::SnapshotRequest {
                    subscriber,
                    upstream,
                    place,
                    prepare,
                    wait_max,
                };
                Ok(logical::snapshot::snapshot(&request).await?)
            }
        }
    }

    /// Makes a follower in `place`, an existing empty directory; none of a base that [makes none].
    ///
    /// [makes none]: Self::makes_followers
    ///
    /// # Errors
    /// [`FollowerError`]. Nothing is left running; the directory is the caller's to remove.
    pub async fn make_follower(
        &self,
        upstream: &Upstream,
        place: &Place,
        identity: &str,
    ) -> Result<Option<Follower>, FollowerError> {
        match self {
            Self::Physical { standby, .. } => {
                let request = FollowerRequest {
                    standby,
                    upstream,
                    place,
                    identity,
                };
                make_follower(&request).await.map(Some)
            }
            Self::Logical { .. } => Ok(None),
        }
    }

    /// Ends its server, for good: nothing more is made of the base.
    ///
    /// # Errors
    /// [`ServerTrouble`] when processes are left.
    pub async fn stop(&self, mode: StopMode) -> Result<(), ServerTrouble> {
        match self {
            Self::Physical { standby, .. } => Ok(standby.stop(mode).await?),
            Self::Logical { subscriber, .. } => Ok(subscriber.end(mode).await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn reason(cluster: u64, database: u64, free: u64) -> Option<String> {
        let disk = DiskBudget {
            free: ByteSize(free),
            floor: ByteSize(GB),
        };
        not_unasked(ByteSize(cluster), ByteSize(database), disk)
    }

    #[test]
    fn nobody_gets_a_cluster_unasked_of_which_the_database_is_a_small_part() {
        let (database, plenty) = (10 * GB, 1000 * GB);
        assert_eq!(reason(4 * database + GB, database, plenty), None);
        let told = reason(4 * database + GB + 1, database, plenty).unwrap();
        assert!(
            told.contains("--mode physical takes it all the same"),
            "{told}"
        );
        // A small database beside the cluster's own files is no small part of anything.
        assert_eq!(reason(GB, 0, plenty), None);
    }

    #[test]
    fn nobody_gets_unasked_what_there_is_no_room_for_above_the_floor() {
        let needed = seed::needed(ByteSize(10 * GB)).0;
        assert_eq!(reason(10 * GB, 10 * GB, GB + needed), None);
        let told = reason(10 * GB, 10 * GB, GB + needed - 1).unwrap();
        assert!(told.contains("above the floor of the volume"), "{told}");
        assert!(reason(10 * GB, 10 * GB, 0).is_some());
    }
}

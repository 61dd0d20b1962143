//! What is made of a base that follows its source: which snapshot will do for a request, and new ones.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::engine_api::{Freshness, SourceCare};
use model::{ByteSize, CopySpec, Secret};

use super::making::Making;
use super::snapshots::{FreshSnapshot, SnapshotRecord};
use super::{BaseError, Bases};
use crate::base::living::{BaseName, LivingBase};
use crate::base::lsn::Lsn;
use crate::base::moment::{Line, Moment};
use crate::base::physical::Place;
use crate::branch::record::Spec;
use crate::named_sources::Meant;
use crate::volume::{Promise, PromiseError};

/// Of a base that follows, what a request gets.
#[derive(Debug)]
pub enum Fresh {
    /// A snapshot: any clone of it will do.
    Snapshot(FreshSnapshot),
    /// The source has moved since the newest snapshot: a follower of its base.
    Moved(Moved),
}

/// A source that has moved.
#[derive(Debug, Clone)]
pub struct Moved {
    /// Its base.
    pub living: Arc<LivingBase>,
    /// Where it stood at the request.
    pub moment: Moment,
    /// When it was asked for that.
    pub asked_at: Timestamp,
    /// SQL that runs before anybody has the branch.
    pub prepare: Option<Secret>,
    /// Followers that are kept whether or not anybody has asked lately.
    pub always: u32,
}

/// The newest snapshot of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// From when its data is.
    pub taken_at: Timestamp,
    /// Up to where another one would hold no more, as far as is known.
    pub lsn: Lsn,
}

/// Whether a branch of `spec` can be one of a base that follows: it holds everything there is.
pub(super) fn is_of_everything(spec: &Spec) -> bool {
    // Settings decide what a copy reads; a standby has all of it.
    spec.copy == CopySpec::all() && spec.connection_settings.is_empty()
}

impl Bases {
    /// What a base that follows gives a request.
    pub(super) async fn of_living(
        &self,
        living: &Arc<LivingBase>,
        spec: &Spec,
        meant: &Meant,
    ) -> Result<Fresh, BaseError> {
        let care = &meant.care;
        let key = living.snapshot_key(care);
        if let Some(fresh) = self.young_enough(&key, spec).await? {
            return Ok(Fresh::Snapshot(fresh));
        }
        let asked_at = self.machine().clock.now();
        let before = living.seen().position;
        let moment = living.moment(&self.access(spec)?).await;
        let moment = moment.map_err(BaseError::Ask)?;
        if let (Line::On(_), Some(before)) = (moment.line, before)
            && moment.lsn < before
        {
            living.base.doubt().await;
            let now = moment.lsn;
            return Err(BaseError::WentBack { now, before });
        }
        if let Some(found) = self.covering(&key, &moment) {
            let fresh = self.reuse(found, Freshness::Unmoved).await?;
            return Ok(Fresh::Snapshot(fresh));
        }
        if !living.base.makes_followers() {
            return match self.snapshot_of(living, care).await {
                // It goes or is being copied anew, which may take longer than a dump for this request.
                Err(BaseError::Snapshot(error)) if error.is_of_no_use() => {
                    Ok(Fresh::Snapshot(self.dumped(spec, meant).await?))
                }
                taken => Ok(Fresh::Snapshot(taken?)),
            };
        }
        Ok(Fresh::Moved(Moved {
            living: Arc::clone(living),
            moment,
            asked_at,
            prepare: care.prepare.clone(),
            always: care.warm,
        }))
    }

    /// The newest snapshot of a base.
    pub fn newest_snapshot(&self, living: &LivingBase, care: &SourceCare) -> Option<Newest> {
        let (record, _) = self.newest_of(&living.snapshot_key(care), |_| true)?;
        let held = record.held?;
        Some(Newest {
            taken_at: record.copied.taken_at,
            lsn: held.lsn.max(held.quiet_to),
        })
    }

    /// A snapshot that holds everything that was committed before this call: the newest one, or a new one. Calls for the
    /// same base take turns; dropping the future leaves nothing.
    ///
    /// # Errors
    /// [`BaseError`] when the source cannot be asked, or nothing arrives from it.
    pub async fn snapshot_of(
        &self,
        living: &LivingBase,
        care: &SourceCare,
    ) -> Result<FreshSnapshot, BaseError> {
        let key = living.snapshot_key(care);
        let family = self.family(&key);
        let _turn = family.turn.lock().await;
        let access = &living.upstream.access;
        let moment = living.moment_unasked(access).await;
        let moment = moment.map_err(BaseError::Ask)?;
        if let Some(found) = self.covering(&key, &moment) {
            return self.reuse(found, Freshness::Unmoved).await;
        }
        let fresh = match self.take_snapshot(living, &key, care).await {
            Err(error) if error.wants_room() && self.make_room().await => {
                tracing::warn!(%error, "dropped the bases that nobody uses, and taking a snapshot again");
                self.take_snapshot(living, &key, care).await
            }
            result => result,
        }?;
        let kept = u64::from(self.machine().limits.snapshots_per_source_max.max(1));
        self.drop_older(&fresh, kept);
        Ok(fresh)
    }

    async fn take_snapshot(
        &self,
        living: &LivingBase,
        key: &str,
        care: &SourceCare,
    ) -> Result<FreshSnapshot, BaseError> {
        let machine = self.machine();
        let _promise = self.promise_room(living.base.size()).await?;
        let name = self.next_name(key);
        let last = machine.layout.snapshot(&name);
        crate::volume::remove_tree(&last)?;
        // A name of its own: what one before this left may still be being cleared.
        let making = Making::begin(machine, BaseName::random().as_str()).await?;
        let place = Place {
            directory: making.directory.clone(),
            socket_dir: making.socket_dir.clone(),
        };
        let (upstream, prepare) = (&living.upstream, care.prepare.as_ref());
        let wait_max = Duration::from_secs(machine.limits.replay_wait_seconds_max);
        let begun = machine.clock.now();
        let made = living.base.snapshot(upstream, &place, prepare, wait_max);
        let made = match machine.before_the_end(made).await {
            None => return making.give_up().await,
            Some(Ok(made)) => made,
            Some(Err(error)) => {
                // Whoever is told of the failure finds nothing of it.
                making.abandon().await?;
                return Err(BaseError::Snapshot(Box::new(error)));
            }
        };
        super::finish(&name, &making, last).await?;
        let took_ms = machine.clock.now().duration_since(begun).as_millis();
        tracing::info!(snapshot = %name, base = %living.name, took_ms, "took a snapshot");
        let record = SnapshotRecord {
            name,
            copied: made.copied,
            url: Secret::new(living.upstream.access.url.reveal()),
            last_used: machine.clock.now(),
            held: Some(made.held),
        };
        let fresh = self.publish(record, Freshness::Replayed).await?;
        if living.is_retired() {
            // Taken for a request, while its base went: of use for that one alone.
            self.end_of(|record| record.name == fresh.name);
        }
        Ok(fresh)
    }

    /// Room for a copy of a base of this size.
    ///
    /// # Errors
    /// [`BaseError::NoRoom`] with the numbers.
    async fn promise_room(&self, size: ByteSize) -> Result<Promise, BaseError> {
        let machine = self.machine();
        let wanted = machine.copy_room(size);
        machine
            .promise_room(wanted)
            .await
            .map_err(|error| match error {
                PromiseError::NoRoom(lack) => BaseError::NoRoom {
                    wanted,
                    floor: lack.floor,
                    free: lack.free,
                    volume: lack.path.display().to_string(),
                },
                PromiseError::Volume(source) => BaseError::Volume(source),
            })
    }

    /// Drops the snapshots of a base that is of no more use, or that are prepared otherwise from here on; those that
    /// branches stand on as soon as none does.
    pub async fn drop_snapshots_of(&self, base: &BaseName, care: &SourceCare) {
        let key = base.snapshot_key(care);
        self.end_of(|record| record.name.key() == key);
        self.drop_over().await;
    }

    /// Drops the snapshots that are over and that nobody holds any more.
    pub async fn drop_over(&self) {
        self.drop_unpinned(|_| false).await;
    }
}

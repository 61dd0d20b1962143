//! What becomes of a subscriber that is looked at again and again: a pure machine, and the hands that do what it says.
//!
//! ```text
//!                       a worker is connected
//!            ┌────────────────────────────────────────┐
//!            ▼                                        │
//!        FOLLOWING ──no worker──────────────────▶ WAITING ──source answers──▶ reconnect (and again, at intervals)
//!            │                                        │
//!            │ server ended                           │ slot gone or lost, errors again and again, disabled
//!            ▼                                        ▼
//!         restart ──ends again and again──────▶ SEED AGAIN ◀── definitions changed, another cluster or version, went back
//! ```
//!
//! On a full volume everything waits: whatever a server and its worker say and do there comes of that.
//!
//! `SEED AGAIN` means: stop the subscriber, drop its slot, find out anew whether the source is fit, and copy again or do
//! without. A source that is silent is waited for: what is here stays as good as it was. Owns the decisions; leaves their
//! patience to `followed::patience`, and copying again, and telling of it, to `upkeep`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use model::{PgMajor, chain};

use super::Upstream;
use super::fingerprint::Fingerprint;
use super::seed::fingerprint_of;
use super::slot::SlotState;
use super::snapshot::ways;
use super::subscriber::{Progress, Sight, Subscriber, SubscriberError};
use crate::base::followed::cause::{self, Identity};
use crate::base::followed::patience::{self, Answering, Patience, has_passed};
use crate::base::lsn::Lsn;
use crate::base::physical::fitness::takes_us_for_synchronous;
use crate::postgres::said::is_of_full_disk;
use crate::postgres::server::StopMode;
use crate::source::{SourceError, in_time, row};

/// How often a source whose changes arrive is asked whether it goes on being what was copied. Each time is a login.
const ASK_INTERVAL: Duration = Duration::from_secs(15);

/// Errors of a worker without progress in between: a change that cannot be applied fails each time.
const ERRORS_MAX: u64 = 3;

/// What was learnt of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSight {
    /// It was not asked this time.
    NotAsked,
    /// It does not answer.
    Silent {
        /// Why.
        why: String,
    },
    /// It answers.
    Answers {
        /// Tells clusters apart; none where it may not be asked.
        system_identifier: Option<u64>,
        /// Its version.
        major: PgMajor,
        /// Its definitions.
        fingerprint: Fingerprint,
        /// The slot.
        slot: SlotState,
        /// Whether its commits would wait for us.
        waits_for_us: bool,
        /// Whether it bounds what the slot keeps.
        bounds_slots: bool,
        /// Up to where its WAL is on its disk; none in recovery.
        flushed: Option<Lsn>,
    },
}

/// What the subscriber is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The cluster.
    pub identity: Identity,
    /// Its definitions.
    pub fingerprint: Fingerprint,
    /// Whether the administrator answers for a slot that it does not bound.
    pub unbounded_slot: bool,
}

/// Why a subscriber alone is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnCause {
    /// Something was defined otherwise.
    Definitions,
    /// The slot is not there any more.
    SlotGone,
    /// The source has removed WAL that was not sent yet.
    SlotLost,
    /// Its commits would wait for us.
    WaitsForUs,
    /// It does not bound what the slot keeps any more.
    Unbounded,
    /// Somebody disabled the subscription, or it has none.
    Disabled,
    /// The source's history left ours: it failed over to a server that was behind us, or was restored.
    Diverged,
    /// A change could not be applied.
    Conflict {
        /// What was said.
        said: String,
    },
}

impl fmt::Display for OwnCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Definitions => f.write_str("the source's definitions have changed"),
            Self::SlotGone => f.write_str("somebody dropped the base's replication slot"),
            Self::SlotLost => f.write_str(
                "the source has removed WAL that the base did not have yet (max_slot_wal_keep_size)",
            ),
            Self::WaitsForUs => f.write_str(
                "the source's synchronous_standby_names would let its commits wait for us",
            ),
            Self::Unbounded => f.write_str(
                "the source does not bound any more what the base's replication slot keeps \
                 (max_slot_wal_keep_size = -1)",
            ),
            Self::Diverged => f.write_str(
                "the source failed over to a server that was behind the base, or was restored",
            ),
            Self::Disabled => f.write_str("the base's subscription was disabled"),
            Self::Conflict { said } => write!(f, "a change could not be applied: {said}"),
        }
    }
}

/// Why a subscriber is of no more use.
pub type Cause = cause::Cause<OwnCause>;

/// What to do.
pub type Action = patience::Action<Cause>;

/// What is remembered between two looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// How long no worker is connected, and what was done about it.
    pub patience: Patience,
    /// Progress and errors of the worker when it last got on.
    got_on: Option<Progress>,
}

/// One look.
pub fn step(
    mut state: State,
    origin: &Origin,
    sight: &Sight,
    source: &SourceSight,
    now: Timestamp,
) -> (State, Action) {
    if let Some(cause) = judge_source(origin, sight, source) {
        return (state, Action::SeedAgain(cause));
    }
    if let Some(said) = &sight.said {
        state.patience.said = Some(said.clone());
    }
    let lacks_room = !sight.has_room || sight.said.as_deref().is_some_and(is_of_room);
    if lacks_room {
        // What fails on a full disk need not be what fails after.
        state.got_on = None;
        if sight
            .progress
            .is_none_or(|progress| progress.is_enabled && !progress.follows)
        {
            let may_start = !sight.is_running && sight.has_room;
            let action = state.patience.lacks_room(now, may_start);
            return (state, action);
        }
    }
    if !sight.is_running {
        let action = state.patience.ended();
        return (state, action);
    }
    let Some(progress) = sight.progress else {
        let action = state.patience.mute(now);
        return (state, action);
    };
    state.patience.answered();
    if !progress.is_enabled {
        return (state, Action::SeedAgain(Cause::Own(OwnCause::Disabled)));
    }
    let got_on = *state.got_on.get_or_insert(progress);
    let has_got_on = progress.applied > got_on.applied || progress.errors < got_on.errors;
    if has_got_on {
        state.got_on = Some(progress);
    } else if progress.errors >= got_on.errors + ERRORS_MAX && !is_silent(source) {
        // Errors of a connection count as well: only a source that answers makes them a change's.
        if matches!(source, SourceSight::Answers { .. }) {
            let said = state.patience.said.clone().unwrap_or_default();
            return (
                state,
                Action::SeedAgain(Cause::Own(OwnCause::Conflict { said })),
            );
        }
    }
    if progress.follows {
        state.patience.arrives();
        return (state, Action::Nothing);
    }
    let answering = match source {
        SourceSight::NotAsked => Answering::NotAsked,
        SourceSight::Silent { why } => {
            // What failed before it was away need not be what fails after.
            state.got_on = None;
            Answering::Silent(why)
        }
        SourceSight::Answers { .. } => Answering::Answers,
    };
    let action = state.patience.wait(answering, now);
    (state, action)
}

/// Whether what a server said comes of a full disk here. What it received is the source's own trouble.
fn is_of_room(said: &str) -> bool {
    is_of_full_disk(said) && !said.starts_with("could not receive data from WAL stream")
}

fn is_silent(source: &SourceSight) -> bool {
    matches!(source, SourceSight::Silent { .. })
}

/// What the source says of itself that ends everything.
fn judge_source(origin: &Origin, sight: &Sight, source: &SourceSight) -> Option<Cause> {
    let SourceSight::Answers {
        system_identifier,
        major,
        fingerprint,
        slot,
        waits_for_us,
        bounds_slots,
        flushed,
    } = source
    else {
        return None;
    };
    if let Some(other) = origin.identity.judge(*system_identifier, *major) {
        return Some(other);
    }
    match slot {
        SlotState::Gone => return Some(Cause::Own(OwnCause::SlotGone)),
        SlotState::Lost => return Some(Cause::Own(OwnCause::SlotLost)),
        SlotState::There { .. } => {}
    }
    if *waits_for_us {
        return Some(Cause::Own(OwnCause::WaitsForUs));
    }
    if !bounds_slots && !origin.unbounded_slot {
        return Some(Cause::Own(OwnCause::Unbounded));
    }
    // A source sends nothing that it could lose.
    let went_back = sight
        .progress
        .zip(*flushed)
        .is_some_and(|(progress, flushed)| flushed < progress.applied);
    if went_back {
        return Some(Cause::Own(OwnCause::Diverged));
    }
    (*fingerprint != origin.fingerprint).then_some(Cause::Own(OwnCause::Definitions))
}

/// How a subscriber is after a look.
pub type Tended = patience::Tended<Progress, Cause>;

/// Looks after one subscriber.
#[derive(Debug, Default)]
pub struct Keeper {
    state: State,
    asked_at: Option<Timestamp>,
    last: Option<Tended>,
}

impl Keeper {
    /// One look, and what it asks for. Call it every second or so; it is cheap while changes arrive.
    ///
    /// # Errors
    /// [`SubscriberError`] when what had to be done failed; the next look finds what is left.
    pub async fn tend(
        &mut self,
        subscriber: &Subscriber,
        upstream: &Upstream,
    ) -> Result<Tended, SubscriberError> {
        // It is stopped for a snapshot, and will be as it was.
        let Ok(_still) = subscriber.stillness.still.try_lock() else {
            let waits = Tended::Waiting {
                since: None,
                said: None,
            };
            return Ok(self.last.clone().unwrap_or(waits));
        };
        let tended = self.look(subscriber, upstream).await?;
        self.last = Some(tended.clone());
        Ok(tended)
    }

    async fn look(
        &mut self,
        subscriber: &Subscriber,
        upstream: &Upstream,
    ) -> Result<Tended, SubscriberError> {
        let now = subscriber.host().clock.now();
        let sight = subscriber.look().await;
        let source = if self.is_due(&sight, now) {
            self.asked_at = Some(now);
            ask(upstream, &subscriber.seeded().slot).await
        } else {
            SourceSight::NotAsked
        };
        let seeded = subscriber.seeded();
        let origin = Origin {
            identity: Identity {
                system_identifier: seeded.system_identifier,
                major: seeded.copied.source_major,
            },
            fingerprint: seeded.fingerprint.clone(),
            unbounded_slot: seeded.unbounded_slot,
        };
        let state = std::mem::take(&mut self.state);
        let (state, action) = step(state, &origin, &sight, &source, now);
        self.state = state;
        match action {
            Action::Nothing => {}
            Action::Reconnect => match ways(upstream, seeded).await {
                Ok(ways) => {
                    if let Some(reach) = ways.first() {
                        subscriber.point_at(reach).await?;
                    }
                }
                Err(error) => self.state.patience.said = Some(error.to_string()),
            },
            Action::Restart => subscriber.restart().await?,
            Action::SeedAgain(cause) => {
                subscriber.stop(StopMode::Fast).await?;
                return Ok(Tended::SeedAgain(cause));
            }
        }
        let progress = sight.progress.filter(|progress| progress.follows);
        subscriber.show_password(progress.is_none()).await?;
        Ok(match progress {
            Some(progress) => Tended::Following(progress),
            None => self.state.patience.waits(),
        })
    }

    /// Has the source asked at the next look whether it is what it was.
    pub fn doubt(&mut self) {
        self.asked_at = None;
    }

    fn is_due(&self, sight: &Sight, now: Timestamp) -> bool {
        let follows = sight.progress.is_some_and(|progress| progress.follows);
        let is_old = self
            .asked_at
            .is_none_or(|last| has_passed(last, now, ASK_INTERVAL));
        !follows || is_old || sight.said.is_some()
    }
}

async fn ask(upstream: &Upstream, slot: &str) -> SourceSight {
    match in_time("how it is", read(upstream, slot)).await {
        Ok(sight) => sight,
        Err(error) => SourceSight::Silent { why: chain(&error) },
    }
}

const QUESTIONS: &str = "SELECT pg_catalog.current_setting('server_version_num'), \
     CASE WHEN pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') \
       THEN (SELECT system_identifier FROM pg_catalog.pg_control_system()) END, \
     CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_flush_lsn() END, \
     pg_catalog.current_setting('synchronous_standby_names'), \
     pg_catalog.current_setting('max_slot_wal_keep_size') <> '-1'";

async fn read(upstream: &Upstream, slot: &str) -> Result<SourceSight, SourceError> {
    let session = upstream.access.connect().await?;
    let found = row(&session, "state", QUESTIONS).await?;
    let slot = SlotState::read(&session, slot).await?;
    Ok(SourceSight::Answers {
        system_identifier: found.get(1).and_then(|text| text.parse().ok()),
        major: PgMajor::from_server_version_num(found.number(0)?),
        fingerprint: fingerprint_of(&session).await?,
        slot,
        waits_for_us: takes_us_for_synchronous(&found.text(3)?),
        bounds_slots: found.is(4),
        flushed: found.get(2).and_then(|text| text.parse().ok()),
    })
}

#[cfg(test)]
mod tests;

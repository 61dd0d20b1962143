//! What becomes of a standby that is looked at again and again: a pure machine, and the hands that do what it says.
//!
//! ```text
//!                       streams again
//!            ┌────────────────────────────────────────┐
//!            ▼                                        │
//!        FOLLOWING ──nothing arrives──▶ WAITING ──source answers──▶ reconnect (and again, at intervals)
//!            │                              │
//!            │ replay paused, server ended  │ answers for long, and still nothing arrives
//!            ▼                              ▼
//!         restart, with larger limits    SEED AGAIN ◀── WAL removed, history left ours, another cluster or version,
//!            │ ends again and again         ▲           a tablespace, commits that would wait for us, broken files
//!            └──────────────────────────────┘
//! ```
//!
//! On a full volume everything waits: whatever a server says and does there comes of that.
//!
//! `SEED AGAIN` means: stop the standby at once, find out anew whether the source is fit, and seed or do without. A
//! source that is silent is waited for: what is here stays as good as it was. Owns the decisions; leaves their patience to
//! `followed::patience`, and seeding again, and telling of it, to `upkeep`.

mod keeper;

use std::fmt;

use jiff::Timestamp;
use model::PgMajor;

pub use keeper::{Keeper, Tended};

use super::standby::{Sight, Trouble};
use crate::base::followed::cause::{self, Identity};
use crate::base::followed::patience::{self, Answering, Patience};
use crate::base::lsn::Lsn;

/// Looks in a row that find the source's history apart from ours: a source that starts may say so for a moment, and
/// so may a standby at the end of what it has.
const DIVERGED_LOOKS: u32 = 3;

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
        /// Whether it has tablespaces.
        has_tablespaces: bool,
        /// Whether its commits could come to wait for us.
        waits_for_us: bool,
        /// How far its WAL is on its disk; none of a read replica. Asked for after the standby was looked at.
        flushed: Option<Lsn>,
    },
}

/// Why a standby alone is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnCause {
    /// A tablespace was made.
    Tablespace,
    /// The source's commits would wait for us.
    WaitsForUs,
    /// WAL that was not sent yet is gone.
    WalRemoved,
    /// The source's history left ours: it failed over to a server that was behind us, or was restored.
    Diverged,
}

impl fmt::Display for OwnCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tablespace => "the source has a tablespace by now",
            Self::WaitsForUs => {
                "the source's synchronous_standby_names would let its commits wait for us"
            }
            Self::WalRemoved => "the source has removed WAL that the base did not have yet",
            Self::Diverged => {
                "the source failed over to a server that was behind the base, or was restored"
            }
        })
    }
}

/// Why a standby is of no more use.
pub type Cause = cause::Cause<OwnCause>;

/// What to do.
pub type Action = patience::Action<Cause>;

/// What is remembered between two looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// How long nothing arrives, and what was done about it.
    pub patience: Patience,
    diverged_looks: u32,
}

/// One look.
pub fn step(
    mut state: State,
    origin: Identity,
    sight: &Sight,
    source: &SourceSight,
    now: Timestamp,
) -> (State, Action) {
    if let Some(cause) = judge_source(origin, sight, source) {
        return (state, Action::SeedAgain(cause));
    }
    let lacks_room = !sight.has_room || sight.trouble == Some(Trouble::NoRoom);
    let cause = judge_trouble(&mut state, sight.trouble.as_ref());
    if let Some(cause) = cause.filter(|cause| !(lacks_room && is_broken(cause))) {
        return (state, Action::SeedAgain(cause));
    }
    let streams = sight
        .progress
        .is_some_and(|progress| progress.streams_on.is_some());
    if lacks_room && !streams {
        let may_start = !sight.is_running && sight.has_room;
        let action = state.patience.lacks_room(now, may_start);
        return (state, action);
    }
    let is_paused = sight.progress.is_some_and(|progress| progress.is_paused);
    if !sight.is_running || is_paused || !sight.suffices {
        let action = state.patience.ended();
        return (state, action);
    }
    if sight.progress.is_none() {
        let action = state.patience.mute(now);
        return (state, action);
    }
    if streams {
        // What streams may continue another history: a source that was restored from a copy of its files has the same
        // timeline, and its WAL cannot be replayed here.
        if sight.trouble == Some(Trouble::Diverged) {
            state.patience.arrives_in_doubt();
            return (state, Action::Nothing);
        }
        return (State::default(), Action::Nothing);
    }
    state.patience.answered();
    let answering = match source {
        SourceSight::NotAsked => Answering::NotAsked,
        SourceSight::Silent { why } => Answering::Silent(why),
        SourceSight::Answers { .. } => Answering::Answers,
    };
    let action = state.patience.wait(answering, now);
    (state, action)
}

fn is_broken(cause: &Cause) -> bool {
    matches!(cause, Cause::Broken { .. })
}

/// What the source says of itself that ends everything.
fn judge_source(origin: Identity, sight: &Sight, source: &SourceSight) -> Option<Cause> {
    let SourceSight::Answers {
        system_identifier,
        major,
        has_tablespaces,
        waits_for_us,
        flushed,
    } = source
    else {
        return None;
    };
    if let Some(other) = origin.judge(*system_identifier, *major) {
        return Some(other);
    }
    if *has_tablespaces {
        return Some(Cause::Own(OwnCause::Tablespace));
    }
    if *waits_for_us {
        return Some(Cause::Own(OwnCause::WaitsForUs));
    }
    // A source sends nothing that it could lose: it was restored, or another server took its place.
    let went_back = sight
        .progress
        .zip(*flushed)
        .is_some_and(|(progress, flushed)| flushed < progress.replayed);
    went_back.then_some(Cause::Own(OwnCause::Diverged))
}

/// What the standby says that ends everything.
fn judge_trouble(state: &mut State, trouble: Option<&Trouble>) -> Option<Cause> {
    match trouble? {
        Trouble::Tablespace => Some(Cause::Own(OwnCause::Tablespace)),
        Trouble::OtherCluster => Some(Cause::OtherCluster),
        Trouble::WalRemoved => Some(Cause::Own(OwnCause::WalRemoved)),
        Trouble::Broken { said } => Some(Cause::Broken { said: said.clone() }),
        Trouble::Diverged => {
            state.diverged_looks += 1;
            (state.diverged_looks >= DIVERGED_LOOKS).then_some(Cause::Own(OwnCause::Diverged))
        }
        Trouble::Refused { said } => {
            state.patience.said = Some(said.clone());
            None
        }
        // Replay has paused, or the server has ended: that is seen.
        Trouble::Limits | Trouble::NoRoom => None,
    }
}

#[cfg(test)]
mod tests;

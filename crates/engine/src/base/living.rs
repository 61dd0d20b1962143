//! The bases that follow their sources: one a named source, and what a request that means such a source waits for.
//!
//! ```text
//!            ┌──────────────────────────── of no more use ───────────────┐
//!            ▼                                                           │
//!   LOOKING ─┬─ journaled: resume ──────────────────────────────────▶ LIVES
//!            └─ choose ─┬─ a way to follow ──▶ SEEDING ──────────────────▲
//!                       └─ none ▶ DUMPED ◀──────┘ failed
//!                                    │  again after a while, or when the source is added again
//!                                    └──────▶ LOOKING
//!   any of them ── the source is wanted otherwise, or removed ──▶ OVER: whoever waits looks for the next entry
//! ```
//!
//! Owns the phases, what is told of them, and the record of a base. Leaves going from one to the next to `upkeep`, and
//! snapshots to `store`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use model::engine_api::{BaseActivity, BaseMode, CopyProgress, SourceBase, SourceCare, SourceName};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::followed::{Choice, FollowedBase, SeededBase, Tended, Way};
use super::lsn::Lsn;
use super::moment::{Moment, MomentOf};
use super::physical::{Place, Upstream};
use crate::catalogue::Record;
use crate::clock::Clock;
use crate::layout::Layout;
use crate::named_sources::sha256;
use crate::source::contact::Contact;
use crate::source::{SourceAccess, SourceError};

/// Digits of a snapshot's key: 64 bits tell a machine's few hundred bases apart.
const KEY_DIGITS: usize = 16;

/// The name of a base: 16 random hexadecimal digits, new with each seed. Its directories bear it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BaseName(String);

impl BaseName {
    /// A name that no other base has.
    pub fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What snapshots are of that were prepared so: 16 hexadecimal digits. A base that is seeded again has other ones,
    /// for what an earlier one had need not be its source's past.
    pub fn snapshot_key(&self, care: &SourceCare) -> String {
        let prepare = care.prepare.as_ref().map(|sql| sha256(sql.reveal()));
        let mut digest = sha256(&format!("{self}{}", prepare.unwrap_or_default()));
        digest.truncate(KEY_DIGITS);
        digest
    }

    /// Where the base lies.
    pub fn place(&self, layout: &Layout) -> Place {
        Place {
            directory: layout.base(self),
            socket_dir: layout.socket_dir(&self.0),
        }
    }
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is journaled of a base, once it follows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BaseRecord {
    /// Its name.
    pub name: BaseName,
    /// Whose base it is.
    pub source: SourceName,
    /// What it takes to have it again.
    pub seeded: SeededBase,
}

impl Record for BaseRecord {
    const TABLE: &'static str = "followed_bases";

    fn key(&self) -> String {
        self.name.to_string()
    }
}

/// What was seen of a living base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How far it has replayed.
    pub position: Option<Lsn>,
    /// Since when that is so.
    pub still_since: Timestamp,
    /// Since when nothing arrives; none while something does.
    pub waiting_since: Option<Timestamp>,
    /// Whether changes arrive.
    pub follows: bool,
    /// Since when they do without a break; none while they do not.
    pub follows_since: Option<Timestamp>,
    /// What was said last about nothing arriving.
    pub said: Option<String>,
    /// When a branch of it was asked for last.
    pub asked_at: Option<Timestamp>,
}

impl Seen {
    /// Takes what a look at this time has found.
    fn take(&mut self, tended: &Tended, now: Timestamp) {
        match tended {
            Tended::Following(position) => {
                if self.position != Some(*position) {
                    self.still_since = now;
                }
                self.position = Some(*position);
                self.follows = true;
                self.follows_since.get_or_insert(now);
                self.waiting_since = None;
                self.said = None;
            }
            Tended::Waiting { since, said } => {
                self.follows = false;
                self.follows_since = None;
                self.waiting_since = *since;
                self.said.clone_from(said);
            }
            Tended::SeedAgain(_) => {
                self.follows = false;
                self.follows_since = None;
            }
        }
    }

    /// Whether it has begun to follow since `then`, so that what failed until then is over.
    fn mended_since(&self, then: Timestamp) -> bool {
        self.follows_since.is_some_and(|since| since >= then)
    }
}

/// A base that follows.
#[derive(Debug)]
pub struct LivingBase {
    /// Its name.
    pub name: BaseName,
    /// Its server, and how it follows.
    pub base: FollowedBase,
    /// How its source is reached.
    pub upstream: Upstream,
    contact: Contact,
    clock: Clock,
    seen: Mutex<Seen>,
    seen_tx: watch::Sender<()>,
    retired_tx: watch::Sender<bool>,
}

impl LivingBase {
    /// A base that has just been seeded or brought back.
    pub fn new(name: BaseName, base: FollowedBase, upstream: Upstream, clock: Clock) -> Self {
        Self {
            name,
            base,
            upstream,
            contact: Contact::default(),
            clock,
            seen: Mutex::new(Seen {
                position: None,
                still_since: clock.now(),
                waiting_since: None,
                follows: false,
                follows_since: None,
                said: None,
                asked_at: None,
            }),
            seen_tx: watch::Sender::new(()),
            retired_tx: watch::Sender::new(false),
        }
    }

    /// What its snapshots are of that were prepared so.
    pub fn snapshot_key(&self, care: &SourceCare) -> String {
        self.name.snapshot_key(care)
    }

    /// Where the source stands, asked by whoever wants a branch: he proves with it that he may log in there.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn moment(&self, access: &SourceAccess) -> Result<Moment, SourceError> {
        let now = self.clock.now();
        self.seen().asked_at = Some(now);
        self.seen_tx.send_replace(());
        self.moment_unasked(access).await
    }

    /// The same without anybody who waits for it.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn moment_unasked(&self, access: &SourceAccess) -> Result<Moment, SourceError> {
        let question = MomentOf {
            shape: self.base.shape(),
            clock: self.clock,
        };
        self.contact.ask(access, self.clock, &question).await
    }

    /// What was seen of it.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a look has found.
    pub fn note(&self, tended: &Tended) {
        self.seen().take(tended, self.clock.now());
        self.seen_tx.send_replace(());
    }

    /// Tells of every look and every request.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.seen_tx.subscribe()
    }

    /// Says that nothing is to be made of it any more.
    pub fn retire(&self) {
        self.retired_tx.send_replace(true);
    }

    /// Whether nothing is to be made of it any more.
    pub fn is_retired(&self) -> bool {
        *self.retired_tx.borrow()
    }
}

/// Where a source's base stands.
#[derive(Debug, Clone)]
pub enum Phase {
    /// It is being found out how the source is followed, or its base is brought back.
    Looking,
    /// It is being copied.
    Seeding {
        /// How it will be kept.
        mode: BaseMode,
    },
    /// It follows.
    Lives(Arc<LivingBase>),
    /// There is none: a branch is made of a dump, where the source's owner takes one.
    Dumped {
        /// Why, a sentence each.
        reasons: Vec<String>,
        /// Whether a copy has failed, or was of use for too short: the next one has its time, and whoever adds the source
        /// again does not bring it forward.
        holds_off: bool,
    },
    /// Another entry has taken its place, or the source was removed. Nothing follows.
    Over,
}

impl Phase {
    /// Whether whoever adds the source again has it looked at.
    pub fn may_be_looked_at(&self) -> bool {
        match self {
            Self::Dumped { holds_off, .. } => !holds_off,
            Self::Looking | Self::Seeding { .. } | Self::Lives(_) | Self::Over => false,
        }
    }
}

/// One named source's.
#[derive(Debug)]
pub struct Entry {
    /// Whose.
    pub source: SourceName,
    phase_tx: watch::Sender<Phase>,
    /// How far the seed is.
    pub progress_tx: watch::Sender<Option<CopyProgress>>,
    told: Mutex<Option<(Timestamp, String)>>,
    /// Asks for another look at once.
    pub look: Notify,
}

impl Entry {
    fn new(source: SourceName) -> Self {
        Self {
            source,
            phase_tx: watch::Sender::new(Phase::Looking),
            progress_tx: watch::Sender::new(None),
            told: Mutex::default(),
            look: Notify::new(),
        }
    }

    /// The phase as of now.
    pub fn phase(&self) -> Phase {
        self.phase_tx.borrow().clone()
    }

    /// Enters a phase. One that is over stays so.
    pub fn enter(&self, phase: Phase) {
        self.phase_tx.send_if_modified(|now| {
            let goes_on = !matches!(now, Phase::Over);
            if goes_on {
                *now = phase;
            }
            goes_on
        });
        // Who follows the progress may have another copy to follow now.
        self.progress_tx.send_modify(|_| ());
    }

    /// Enters what follows from a choice.
    pub fn enter_choice(&self, choice: &Choice) {
        self.enter(match &choice.way {
            Way::Physical(_) => Phase::Seeding {
                mode: BaseMode::Physical,
            },
            Way::Logical(_) => Phase::Seeding {
                mode: BaseMode::Logical,
            },
            Way::Dump => Phase::Dumped {
                reasons: choice.reasons.clone(),
                holds_off: false,
            },
        });
    }

    /// Has a source that could not be followed looked at again at once: somebody found that it can be by now.
    pub fn look_again(&self) {
        let is_asleep = self.phase_tx.send_if_modified(|now| {
            let is_asleep = now.may_be_looked_at();
            if is_asleep {
                *now = Phase::Looking;
            }
            is_asleep
        });
        if is_asleep {
            self.look.notify_one();
        }
    }

    /// Tells of other reasons why a source is dumped that goes on being so.
    pub fn dumped_for(&self, reasons: Vec<String>) {
        self.phase_tx.send_if_modified(|now| {
            let is_asleep = now.may_be_looked_at();
            if is_asleep {
                *now = Phase::Dumped {
                    reasons,
                    holds_off: false,
                };
            }
            is_asleep
        });
    }

    /// Keeps what has become of the base, for whoever looks at it, and says so in the log.
    pub fn tell(&self, told: String, now: Timestamp) {
        tracing::warn!(source = %self.source, "{told}");
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, told));
    }

    /// Waits until there is a base, or is to be none, or the entry is over.
    pub async fn settled(&self) -> Phase {
        let mut phases = self.phase_tx.subscribe();
        let is_settled = |phase: &Phase| match phase {
            Phase::Lives(_) | Phase::Dumped { .. } | Phase::Over => true,
            Phase::Looking | Phase::Seeding { .. } => false,
        };
        match phases.wait_for(is_settled).await {
            Ok(phase) => phase.clone(),
            // The sender lives as long as `self`.
            Err(_) => self.phase(),
        }
    }

    /// How many wait for a phase.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.phase_tx.receiver_count()
    }

    /// Whether its base has begun to follow since `then`, so that what failed until then is over.
    pub fn mended_since(&self, then: Timestamp) -> bool {
        match self.phase() {
            Phase::Lives(living) => living.seen().mended_since(then),
            Phase::Looking | Phase::Seeding { .. } | Phase::Dumped { .. } | Phase::Over => false,
        }
    }

    /// What is told of it.
    pub fn view(&self, care: &SourceCare) -> SourceBase {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (told_at, told) = told.clone().unzip();
        let mut view = SourceBase {
            asked: care.mode,
            mode: None,
            activity: BaseActivity::Looking,
            reasons: Vec::new(),
            notes: Vec::new(),
            position: None,
            waiting_since: None,
            said: None,
            seeded_at: None,
            told,
            told_at,
        };
        match self.phase() {
            Phase::Looking | Phase::Over => {}
            Phase::Seeding { mode } => {
                view.mode = Some(mode);
                view.activity = BaseActivity::Seeding;
            }
            Phase::Lives(living) => {
                let seeded = living.base.seeded();
                let seen = living.seen().clone();
                view.mode = Some(seeded.mode());
                view.activity = if seen.follows {
                    BaseActivity::Following
                } else {
                    BaseActivity::Waiting
                };
                view.notes = seeded.notes();
                view.seeded_at = Some(seeded.seeded_at());
                view.position = seen.position.map(|position| position.to_string());
                view.waiting_since = seen.waiting_since;
                view.said = seen.said;
            }
            Phase::Dumped { reasons, .. } => {
                view.mode = Some(BaseMode::Logical);
                view.activity = BaseActivity::Dumping;
                view.reasons = reasons;
            }
        }
        view
    }
}

/// Every source whose base is to follow it.
#[derive(Debug, Default)]
pub struct LivingBases(Mutex<BTreeMap<SourceName, Arc<Entry>>>);

impl LivingBases {
    fn known(&self) -> MutexGuard<'_, BTreeMap<SourceName, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of a source.
    pub fn get(&self, source: &SourceName) -> Option<Arc<Entry>> {
        self.known().get(source).cloned()
    }

    /// A new entry for a source, in place of one that it may have.
    pub fn begin(&self, source: &SourceName) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(source.clone()));
        let before = self.known().insert(source.clone(), Arc::clone(&entry));
        if let Some(before) = before {
            before.enter(Phase::Over);
        }
        entry
    }

    /// Forgets a source.
    pub fn forget(&self, source: &SourceName) {
        let before = self.known().remove(source);
        if let Some(before) = before {
            before.enter(Phase::Over);
        }
    }

    /// Those that live.
    pub fn all(&self) -> Vec<Arc<LivingBase>> {
        let known = self.known();
        let living = known.values().filter_map(|entry| match entry.phase() {
            Phase::Lives(living) => Some(living),
            Phase::Looking | Phase::Seeding { .. } | Phase::Dumped { .. } | Phase::Over => None,
        });
        living.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_over_once_the_base_follows_after_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut seen = Seen {
            position: None,
            still_since: at(0),
            waiting_since: None,
            follows: false,
            follows_since: None,
            said: None,
            asked_at: None,
        };
        assert!(!seen.mended_since(at(10)));
        seen.take(&Tended::Following(Lsn(1)), at(14));
        seen.take(&Tended::Following(Lsn(2)), at(15));
        assert!(seen.mended_since(at(10)));
        assert!(!seen.mended_since(at(20)), "it failed while it followed");
        let waiting = Tended::Waiting {
            since: None,
            said: None,
        };
        seen.take(&waiting, at(30));
        assert!(!seen.mended_since(at(10)));
        seen.take(&Tended::Following(Lsn(2)), at(40));
        assert!(seen.mended_since(at(20)));
    }

    fn shop() -> SourceName {
        "shop".to_owned().try_into().unwrap()
    }

    /// What whoever waits for an entry finds at the end.
    async fn waited(entry: Arc<Entry>, then: impl FnOnce()) -> Phase {
        let waits = tokio::spawn(async move { entry.settled().await });
        tokio::task::yield_now().await;
        then();
        let found = tokio::time::timeout(std::time::Duration::from_secs(60), waits).await;
        found.expect("nobody waits for ever").unwrap()
    }

    #[tokio::test]
    async fn whoever_waits_for_a_source_that_is_wanted_otherwise_is_told() {
        let bases = LivingBases::default();
        let entry = bases.begin(&shop());
        let found = waited(entry, || drop(bases.begin(&shop())));
        assert!(matches!(found.await, Phase::Over));
        assert!(matches!(
            bases.get(&shop()).unwrap().phase(),
            Phase::Looking
        ));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_source_that_is_removed_is_told() {
        let bases = LivingBases::default();
        let entry = bases.begin(&shop());
        assert!(matches!(
            waited(entry, || bases.forget(&shop())).await,
            Phase::Over
        ));
        assert!(bases.get(&shop()).is_none());
    }

    #[test]
    fn whoever_adds_a_source_again_disturbs_no_copy_and_brings_none_forward() {
        let entry = Entry::new(shop());
        let dumped = |holds_off| Phase::Dumped {
            reasons: Vec::new(),
            holds_off,
        };
        let mode = BaseMode::Logical;
        for undisturbed in [Phase::Looking, Phase::Seeding { mode }, dumped(true)] {
            entry.enter(undisturbed);
            let before = format!("{:?}", entry.phase());
            entry.look_again();
            assert_eq!(format!("{:?}", entry.phase()), before);
            let is_woken = futures_util::FutureExt::now_or_never(entry.look.notified());
            assert!(is_woken.is_none(), "{before}");
        }
        entry.enter(dumped(false));
        entry.look_again();
        assert!(matches!(entry.phase(), Phase::Looking));
        assert!(futures_util::FutureExt::now_or_never(entry.look.notified()).is_some());
    }

    #[test]
    fn an_entry_that_is_over_stays_so_whatever_its_task_still_does() {
        let bases = LivingBases::default();
        let entry = bases.begin(&shop());
        bases.forget(&shop());
        entry.enter(Phase::Looking);
        assert!(matches!(entry.phase(), Phase::Over));
    }
}

//! Looks after named sources that are dumped, without a request: copies them again where they have moved, and keeps clones of them.
//!
//! Owns when a source's turn comes and what became of its last one. Leaves copying to `base::store`, which bounds how
//! much is copied at once, and clones to `pool`. A source has one turn at a time, and none waits for another source's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::chain;
use model::engine_api::SourceName;
use model::{CopySpec, Secret};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::app::Shared;
use crate::base::store::Fresh;
use crate::branch::record::Spec;
use crate::pool::Order;

/// How often the list of sources is looked over when no turn is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// How often a source is looked at whose clones are to be kept, where its owner said nothing: what is kept should hold
/// today's structure, not this second's rows.
const REFRESH_DEFAULT: SignedDuration = SignedDuration::from_mins(15);

/// What became of a source's last turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it failed.
    pub failure: Option<String>,
}

/// Whose turn was, is and will be. Pure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Turns {
    last: BTreeMap<SourceName, Turn>,
    /// In the order of the questions.
    asked: VecDeque<SourceName>,
    under_way: BTreeMap<SourceName, Bearing>,
}

/// Whether what becomes of a turn says something of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bearing {
    Counts,
    /// The source means something else since, or was asked for again.
    Outdated,
}

impl Turns {
    /// What is known of `name` is of another time: what its turn under way finds as well.
    fn forget(&mut self, name: &SourceName) {
        self.last.remove(name);
        if let Some(bearing) = self.under_way.get_mut(name) {
            *bearing = Bearing::Outdated;
        }
    }

    fn ask(&mut self, name: &SourceName) {
        self.forget(name);
        if !self.asked.contains(name) {
            self.asked.push_back(name.clone());
        }
    }

    /// Begins the next turn: of who asked first, else of whose time came and whose last turn is the longest ago. `sources`
    /// are those that are looked after, each with how often.
    fn begin_next(
        &mut self,
        sources: &[(SourceName, SignedDuration)],
        now: Timestamp,
    ) -> Option<SourceName> {
        let is_free = |name: &SourceName| !self.under_way.contains_key(name);
        let asked = self.asked.iter().position(is_free);
        let next = match asked {
            Some(index) => self.asked.remove(index),
            None => {
                let ended_at = |name: &SourceName| self.last.get(name).map(|turn| turn.ended_at);
                let due = sources.iter().filter(|(name, interval)| {
                    let is_due = |at| now.duration_since(at) >= *interval;
                    is_free(name) && ended_at(name).is_none_or(is_due)
                });
                let longest_ago = due.min_by_key(|(name, _)| ended_at(name));
                longest_ago.map(|(name, _)| name.clone())
            }
        };
        let name = next?;
        self.under_way.insert(name.clone(), Bearing::Counts);
        Some(name)
    }

    fn counts(&self, name: &SourceName) -> bool {
        self.under_way.get(name) == Some(&Bearing::Counts)
    }

    /// Ends the turn of `name`; none where there was nothing to be found out.
    fn end(&mut self, name: &SourceName, turn: Option<Turn>) {
        let bearing = self.under_way.remove(name);
        if let (Some(Bearing::Counts), Some(turn)) = (bearing, turn) {
            self.last.insert(name.clone(), turn);
        }
    }
}

/// The turns of named sources.
#[derive(Debug, Default)]
pub struct Refresher {
    turns: Mutex<Turns>,
    changed: Arc<Notify>,
}

impl Refresher {
    fn turns(&self) -> std::sync::MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of the last turn of `name`; none while one that was asked for has not begun and ended.
    pub fn last_turn(&self, name: &SourceName) -> Option<Turn> {
        self.turns().last.get(name).cloned()
    }

    /// Gives `name` the next turn, whatever its options say.
    pub fn ask(&self, name: &SourceName) {
        self.turns().ask(name);
        self.changed.notify_one();
    }

    /// Forgets what became of `name`, which means something else from here on, or nothing.
    pub fn forget(&self, name: &SourceName) {
        self.turns().forget(name);
    }

    /// Looks at the list of sources again: one was added.
    pub fn look(&self) {
        self.changed.notify_one();
    }
}

/// Begins to look after the named sources. Ends with the engine.
pub fn start(shared: &Arc<Shared>) {
    let changed = Arc::clone(&shared.refresher.changed);
    tokio::spawn(look_after(Arc::downgrade(shared), changed));
}

async fn look_after(shared: Weak<Shared>, changed: Arc<Notify>) {
    // One a source at most.
    let mut under_way = JoinSet::new();
    while let Some(shared_now) = shared.upgrade() {
        while let Some((name, url)) = begin_next(&shared_now) {
            let shared = Arc::clone(&shared_now);
            under_way.spawn(async move { take_turn(&shared, &name, url).await });
        }
        drop(shared_now);
        // Whichever it is, it is time to look again.
        tokio::select! {
            () = changed.notified() => {}
            Some(_) = under_way.join_next() => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
}

/// Begins the next turn, where one is due.
fn begin_next(shared: &Shared) -> Option<(SourceName, Secret)> {
    let looked_after = shared.sources.looked_after().into_iter();
    let sources = looked_after.map(|(name, _, care)| {
        let interval = care.refresh_seconds.map_or(REFRESH_DEFAULT, |seconds| {
            SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
        });
        (name, interval)
    });
    let sources: Vec<_> = sources.collect();
    let now = shared.machine.clock.now();
    loop {
        let name = shared.refresher.turns().begin_next(&sources, now)?;
        match shared.sources.url(&name) {
            Ok(url) => return Some((name, url)),
            // One that was removed meanwhile has no turn.
            Err(_) => shared.refresher.turns().end(&name, None),
        }
    }
}

async fn take_turn(shared: &Arc<Shared>, name: &SourceName, url: Secret) {
    let task = {
        let (shared, name) = (Arc::clone(shared), name.clone());
        // A task of its own, so that a panic ends this turn alone.
        tokio::spawn(async move { refresh(&shared, &name, url).await })
    };
    let failure = match task.await {
        Ok(refreshed) => refreshed.err(),
        Err(error) => Some(error.to_string()),
    };
    if let Some(failure) = &failure {
        tracing::warn!(source = %name, failure, "cannot copy a source again");
    }
    let ended_at = shared.machine.clock.now();
    let turn = Turn { ended_at, failure };
    shared.refresher.turns().end(name, Some(turn));
}

/// What a request without any wishes asks for.
pub fn plain_spec(url: Secret) -> Spec {
    Spec {
        url,
        proxy: None,
        database: None,
        copy: CopySpec::all(),
        version: None,
        connection_settings: BTreeMap::new(),
        max_age_seconds: None,
    }
}

async fn refresh(shared: &Shared, name: &SourceName, url: Secret) -> Result<(), String> {
    let spec = plain_spec(url);
    let meant = shared.sources.meant(&spec);
    let fresh = shared.bases.fresh(&spec, &meant).await;
    let fresh = match fresh.map_err(|error| chain(&error))? {
        Fresh::Snapshot(fresh) => fresh,
        Fresh::Moved(moved) => {
            let taken = shared.bases.snapshot_of(&moved.living, &meant.care).await;
            taken.map_err(|error| chain(&error))?
        }
    };
    let turns = shared.refresher.turns();
    // Of a source that is gone no clones are kept, nor as it was wanted before.
    if turns.counts(name) {
        let order = Order::of(&fresh, &spec);
        shared.pool.stock(&order, meant.care.warm);
    }
    drop(turns);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SourceName {
        text.to_owned().try_into().unwrap()
    }

    fn turn(ended_at: i64, failure: &str) -> Option<Turn> {
        Some(Turn {
            ended_at: at(ended_at),
            failure: Some(failure.to_owned()),
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Begins the turn of one that is asked for.
    fn begin(turns: &mut Turns, asked: &SourceName) {
        turns.ask(asked);
        assert_eq!(turns.begin_next(&[], at(0)).as_ref(), Some(asked));
    }

    #[test]
    fn whoever_asks_during_a_turn_is_not_told_of_that_one() {
        let (mut turns, shop) = (Turns::default(), name("shop"));
        begin(&mut turns, &shop);
        turns.ask(&shop);
        assert_eq!(turns.begin_next(&[], at(0)), None, "one at a time");
        turns.end(&shop, turn(0, "of before the question"));
        assert_eq!(turns.last.get(&shop), None);
        assert_eq!(turns.begin_next(&[], at(0)), Some(shop.clone()));
        turns.end(&shop, turn(1, "of after it"));
        assert_eq!(turns.last.get(&shop), turn(1, "of after it").as_ref());
    }

    #[test]
    fn another_sources_turn_goes_on_counting_and_is_waited_for_by_nobody_else() {
        let (mut turns, shop, other) = (Turns::default(), name("shop"), name("other"));
        begin(&mut turns, &shop);
        begin(&mut turns, &other);
        turns.end(&shop, turn(0, "its own"));
        assert_eq!(turns.last.get(&shop), turn(0, "its own").as_ref());
    }

    #[test]
    fn a_source_that_is_added_anew_or_removed_has_no_turn_of_before() {
        let (mut turns, shop) = (Turns::default(), name("shop"));
        begin(&mut turns, &shop);
        turns.end(&shop, turn(0, "of before"));
        begin(&mut turns, &shop);
        turns.forget(&shop);
        turns.end(&shop, turn(0, "of before"));
        assert_eq!(turns, Turns::default());
    }

    #[test]
    fn who_asked_first_is_first_and_of_the_others_who_waits_for_the_longest() {
        let (a, b, c) = (name("a"), name("b"), name("c"));
        let minute = SignedDuration::from_mins(1);
        let sources = [a.clone(), b.clone(), c.clone()].map(|name| (name, minute));
        let mut turns = Turns::default();
        for (name, ended_at) in [(&a, 30), (&b, 20), (&c, 10)] {
            begin(&mut turns, name);
            turns.end(name, turn(ended_at, ""));
        }
        turns.ask(&b);
        turns.ask(&a);
        let next = |turns: &mut Turns, now| turns.begin_next(&sources, at(now));
        assert_eq!(next(&mut turns, 70), Some(b.clone()));
        assert_eq!(next(&mut turns, 70), Some(a.clone()));
        assert_eq!(next(&mut turns, 69), None, "c is not due yet");
        assert_eq!(next(&mut turns, 70), Some(c));
        turns.end(&a, turn(100, ""));
        turns.end(&b, turn(90, ""));
        assert_eq!(next(&mut turns, 1000), Some(b));
    }
}

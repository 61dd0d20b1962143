//! Looks after named sources that are dumped, without a request: copies them again where they have moved, and keeps clones of them.
//!
//! Owns when a source's turn comes and what became of its last one. Leaves copying to `base::store` and clones to
//! `pool`. One task, one source at a time: nobody waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::chain;
use model::engine_api::SourceName;
use model::{CopySpec, PgUrl, Secret};
use tokio::sync::Notify;

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
    asked: Vec<SourceName>,
    /// The turn under way, as long as what becomes of it says something of its source.
    under_way: Option<SourceName>,
}

impl Turns {
    /// What is known of `name` is of another time: what its turn under way finds as well.
    fn forget(&mut self, name: &SourceName) {
        self.last.remove(name);
        self.under_way.take_if(|under_way| under_way == name);
    }

    fn ask(&mut self, name: &SourceName) {
        self.forget(name);
        if !self.asked.contains(name) {
            self.asked.push(name.clone());
        }
    }

    fn begin(&mut self, name: &SourceName) {
        self.under_way = Some(name.clone());
    }

    fn counts(&self, name: &SourceName) -> bool {
        self.under_way.as_ref() == Some(name)
    }

    fn end(&mut self, name: &SourceName, turn: Turn) {
        if self.counts(name) {
            self.last.insert(name.clone(), turn);
        }
        self.under_way = None;
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

    fn next_asked(&self) -> Option<SourceName> {
        self.turns().asked.pop()
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
    while let Some(shared_now) = shared.upgrade() {
        if let Some((name, url)) = next_turn(&shared_now) {
            take_turn(&shared_now, &name, url).await;
            continue;
        }
        drop(shared_now);
        // Either way it is time to look again.
        let _ = tokio::time::timeout(LOOK_INTERVAL, changed.notified()).await;
    }
}

/// The source that was asked for, else the first whose time has come.
fn next_turn(shared: &Shared) -> Option<(SourceName, Secret)> {
    while let Some(name) = shared.refresher.next_asked() {
        // One that was removed meanwhile has no turn.
        if let Ok(url) = shared.sources.url(&name) {
            return Some((name, url));
        }
    }
    let now = shared.machine.clock.now();
    let due = shared
        .sources
        .looked_after()
        .into_iter()
        .find(|(name, _, care)| {
            let interval = care.refresh_seconds.map_or(REFRESH_DEFAULT, |seconds| {
                SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
            });
            let last = shared.refresher.last_turn(name);
            last.is_none_or(|turn| now.duration_since(turn.ended_at) >= interval)
        });
    due.map(|(name, url, _)| (name, url))
}

async fn take_turn(shared: &Shared, name: &SourceName, url: Secret) {
    shared.refresher.turns().begin(name);
    let failure = refresh(shared, name, url).await.err();
    if let Some(failure) = &failure {
        tracing::warn!(source = %name, failure, "cannot copy a source again");
    }
    let ended_at = shared.machine.clock.now();
    let turn = Turn { ended_at, failure };
    shared.refresher.turns().end(name, turn);
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
    PgUrl::parse(url.reveal()).map_err(|error| chain(&error))?;
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
        shared.pool.stock(&Order::of(&fresh, &spec, &meant.care));
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

    fn turn(failure: &str) -> Turn {
        Turn {
            ended_at: Timestamp::UNIX_EPOCH,
            failure: Some(failure.to_owned()),
        }
    }

    #[test]
    fn whoever_asks_during_a_turn_is_not_told_of_that_one() {
        let (mut turns, shop) = (Turns::default(), name("shop"));
        turns.begin(&shop);
        turns.ask(&shop);
        turns.end(&shop, turn("of before the question"));
        assert_eq!(turns.last.get(&shop), None);
        assert_eq!(turns.asked.pop(), Some(shop.clone()), "its turn comes");
        turns.begin(&shop);
        turns.end(&shop, turn("of after it"));
        assert_eq!(turns.last.get(&shop), Some(&turn("of after it")));
    }

    #[test]
    fn another_sources_turn_goes_on_counting() {
        let (mut turns, shop) = (Turns::default(), name("shop"));
        turns.begin(&shop);
        turns.ask(&name("other"));
        turns.end(&shop, turn("its own"));
        assert_eq!(turns.last.get(&shop), Some(&turn("its own")));
    }

    #[test]
    fn a_source_that_is_added_anew_or_removed_has_no_turn_of_before() {
        let (mut turns, shop) = (Turns::default(), name("shop"));
        turns.begin(&shop);
        turns.end(&shop, turn("of before"));
        turns.begin(&shop);
        turns.forget(&shop);
        turns.end(&shop, turn("of before"));
        assert_eq!(turns, Turns::default());
    }
}

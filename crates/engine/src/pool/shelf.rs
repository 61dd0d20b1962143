//! Shelves: what is kept warm of each model, how much of it is wanted, and of what one more is to be made.
//!
//! ```text
//! stock, note --> a shelf --look--> surplus: too much, ended, of a model that is over
//!                            `-----> lacking: a model of which one more is to be made, unless it failed lately
//! ```
//!
//! Owns the sizes alone, and is pure: the time and what the machine can spare are arguments. Leaves making and removing to
//! `pool`, for clones of a snapshot, and to `followers`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::demand::{Demand, Sizing};
use super::shortage::Spare;

/// How long a model of which nothing could be made is left alone.
const PAUSE_AFTER_FAILURE: SignedDuration = SignedDuration::from_mins(5);

/// What the things on a shelf are made of.
pub(super) trait Model: Clone + std::fmt::Debug {
    /// One of them.
    type Thing: std::fmt::Debug;

    /// Whether nothing is to be made of it any more.
    fn is_over(&self) -> bool;

    /// Whether what was made of `older` is of no use beside it.
    fn outdates(&self, older: &Self) -> bool;

    /// How many are kept although nobody has asked lately, where `always` are wished for.
    fn unasked(&self, always: usize, now: Timestamp) -> usize;

    /// Whether a thing that waits can still be of use.
    fn is_fit(thing: &Self::Thing, now: Timestamp) -> bool;

    /// Whether one may be made before anybody asks for it.
    fn may_be_made(&self, spare: &Spare) -> bool;
}

/// The things of one model.
#[derive(Debug)]
struct Shelf<M: Model> {
    model: M,
    always: usize,
    demand: Demand,
    ready: Vec<M::Thing>,
    paused_until: Option<Timestamp>,
}

impl<M: Model> Shelf<M> {
    fn wanted(&self, now: Timestamp, sizing: Sizing) -> usize {
        if self.model.is_over() {
            return 0;
        }
        let unasked = self.model.unasked(self.always, now);
        self.demand.wanted(now, sizing).max(unasked)
    }

    /// Whether it is there for something: without things and demand it would hold its model for nothing.
    fn is_of_use(&self, now: Timestamp, sizing: Sizing) -> bool {
        !self.model.is_over() && (self.always > 0 || self.wanted(now, sizing) > 0)
    }

    fn lacks(&self, now: Timestamp, sizing: Sizing, spare: &Spare) -> bool {
        self.ready.len() < self.wanted(now, sizing)
            && self.paused_until.is_none_or(|until| until <= now)
            && self.model.may_be_made(spare)
    }
}

/// What a look at the shelves comes to.
#[derive(Debug)]
pub(super) struct Look<M: Model> {
    /// To be removed.
    pub(super) surplus: Vec<M::Thing>,
    /// One more of it is to be made.
    pub(super) lacking: Option<M>,
}

/// The shelves, by what tells one source from another.
#[derive(Debug)]
pub(super) struct Shelves<K, M: Model>(BTreeMap<K, Shelf<M>>);

impl<K, M: Model> Default for Shelves<K, M> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, M: Model> Shelves<K, M> {
    /// Whether there is a shelf for `key`.
    pub(super) fn has(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Has a shelf with things of `model` from here on; answers with those of an older one, to be removed.
    #[must_use]
    pub(super) fn shelve(&mut self, key: K, model: M) -> Vec<M::Thing> {
        let shelf = self.0.entry(key).or_insert_with(|| Shelf {
            model: model.clone(),
            always: 0,
            demand: Demand::default(),
            ready: Vec::new(),
            paused_until: None,
        });
        let mut outdated = Vec::new();
        if model.outdates(&shelf.model) {
            shelf.paused_until = None;
            outdated = std::mem::take(&mut shelf.ready);
        }
        shelf.model = model;
        outdated
    }

    /// Keeps so many whether or not anybody asks.
    pub(super) fn stock(&mut self, key: &K, always: usize) {
        if let Some(shelf) = self.0.get_mut(key) {
            shelf.always = always;
        }
    }

    /// Somebody asked.
    pub(super) fn note(&mut self, key: &K, now: Timestamp) {
        if let Some(shelf) = self.0.get_mut(key) {
            shelf.demand.note(now);
        }
    }

    /// What lies ready, for whoever takes one.
    pub(super) fn ready(&mut self, key: &K) -> Option<&mut Vec<M::Thing>> {
        self.0.get_mut(key).map(|shelf| &mut shelf.ready)
    }

    /// Puts what was made of `model` on its shelf; gives it back where it is of no use any more.
    #[must_use]
    pub(super) fn put(&mut self, key: &K, model: &M, thing: M::Thing) -> Option<M::Thing> {
        match self.0.get_mut(key) {
            Some(shelf) if !model.is_over() && !shelf.model.outdates(model) => {
                shelf.ready.push(thing);
                None
            }
            Some(_) | None => Some(thing),
        }
    }

    /// Leaves a model alone of which nothing could be made.
    pub(super) fn pause(&mut self, key: &K, now: Timestamp) {
        if let Some(shelf) = self.0.get_mut(key) {
            shelf.paused_until = now.checked_add(PAUSE_AFTER_FAILURE).ok();
        }
    }

    /// Keeps nothing any more of what `key` stands for; answers with what lay there.
    #[must_use]
    pub(super) fn forget(&mut self, key: &K) -> Vec<M::Thing> {
        let shelf = self.0.remove(key);
        shelf.map(|shelf| shelf.ready).unwrap_or_default()
    }

    /// Clears every shelf away; answers with what lay there.
    #[must_use]
    pub(super) fn clear(&mut self) -> Vec<M::Thing> {
        let shelves = std::mem::take(&mut self.0).into_values();
        shelves.flat_map(|shelf| shelf.ready).collect()
    }

    /// How many things wait.
    pub(super) fn count(&self) -> usize {
        self.0.values().map(|shelf| shelf.ready.len()).sum()
    }

    /// Brings every shelf to its size.
    #[must_use]
    pub(super) fn look(&mut self, now: Timestamp, sizing: Sizing, spare: &Spare) -> Look<M> {
        let may_keep = spare.may_keep();
        let mut surplus = Vec::new();
        for shelf in self.0.values_mut() {
            let wanted = if may_keep {
                shelf.wanted(now, sizing)
            } else {
                0
            };
            surplus.extend(shelf.ready.extract_if(.., |thing| !M::is_fit(thing, now)));
            let kept = shelf.ready.len().min(wanted);
            surplus.extend(shelf.ready.drain(kept..));
        }
        self.0.retain(|_, shelf| shelf.is_of_use(now, sizing));
        let lacking = self
            .0
            .values()
            .find(|shelf| may_keep && shelf.lacks(now, sizing, spare));
        Look {
            surplus,
            lacking: lacking.map(|shelf| shelf.model.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot by its number, which is over where it says so.
    #[derive(Debug, Clone, PartialEq)]
    struct Snapshot {
        number: u32,
        is_over: bool,
    }

    /// A thing by its name, which has ended where it says so.
    #[derive(Debug, PartialEq)]
    struct Warm {
        name: &'static str,
        has_ended: bool,
    }

    impl Model for Snapshot {
        type Thing = Warm;

        fn is_over(&self) -> bool {
            self.is_over
        }

        fn outdates(&self, older: &Self) -> bool {
            self.number != older.number
        }

        fn unasked(&self, always: usize, _now: Timestamp) -> usize {
            always
        }

        fn is_fit(thing: &Warm, _now: Timestamp) -> bool {
            !thing.has_ended
        }

        fn may_be_made(&self, spare: &Spare) -> bool {
            spare.may_keep()
        }
    }

    const SIZING: Sizing = Sizing {
        clones_max: 3,
        idle_max: SignedDuration::from_mins(30),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn snapshot(number: u32) -> Snapshot {
        Snapshot {
            number,
            is_over: false,
        }
    }

    fn running(name: &'static str) -> Warm {
        Warm {
            name,
            has_ended: false,
        }
    }

    /// Shelves with one for `shop`, of its first snapshot, that was asked for at second 0.
    fn asked() -> Shelves<&'static str, Snapshot> {
        let mut shelves = Shelves::default();
        assert_eq!(shelves.shelve("shop", snapshot(1)), []);
        shelves.note(&"shop", at(0));
        shelves
    }

    fn look(shelves: &mut Shelves<&'static str, Snapshot>, seconds: i64) -> Look<Snapshot> {
        shelves.look(at(seconds), SIZING, &Spare::plenty())
    }

    #[test]
    fn what_was_asked_for_is_made_until_there_is_enough_and_goes_once_nobody_asks() {
        let mut shelves = asked();
        assert_eq!(look(&mut shelves, 1).lacking, Some(snapshot(1)));
        let unwanted = shelves.put(&"shop", &snapshot(1), running("a"));
        assert_eq!(unwanted, None);
        let enough = look(&mut shelves, 2);
        assert_eq!((enough.surplus, enough.lacking), (vec![], None));
        let idle = look(&mut shelves, 31 * 60);
        assert_eq!((idle.surplus, idle.lacking), (vec![running("a")], None));
        assert!(!shelves.has(&"shop"), "it would hold its snapshot");
    }

    #[test]
    fn what_is_always_kept_waits_for_nobody_to_ask() {
        let mut shelves = Shelves::default();
        assert_eq!(shelves.shelve("shop", snapshot(1)), []);
        shelves.stock(&"shop", 2);
        for name in ["a", "b"] {
            assert!(look(&mut shelves, 9000).lacking.is_some());
            assert_eq!(shelves.put(&"shop", &snapshot(1), running(name)), None);
        }
        assert_eq!(look(&mut shelves, 9999).lacking, None);
        assert_eq!(shelves.count(), 2);
    }

    #[test]
    fn one_that_has_ended_is_replaced() {
        let mut shelves = asked();
        let has_ended = true;
        let ended = Warm {
            name: "a",
            has_ended,
        };
        assert_eq!(shelves.put(&"shop", &snapshot(1), ended), None);
        let look = look(&mut shelves, 1);
        assert_eq!(look.surplus.len(), 1);
        assert_eq!(look.lacking, Some(snapshot(1)));
    }

    #[test]
    fn things_of_an_older_model_go_and_none_of_it_comes_back() {
        let mut shelves = asked();
        assert_eq!(shelves.put(&"shop", &snapshot(1), running("a")), None);
        assert_eq!(shelves.shelve("shop", snapshot(2)), [running("a")]);
        let late = shelves.put(&"shop", &snapshot(1), running("late"));
        assert_eq!(late, Some(running("late")));
        assert_eq!(shelves.put(&"shop", &snapshot(2), running("b")), None);
        let over = Snapshot {
            number: 2,
            is_over: true,
        };
        assert_eq!(shelves.shelve("shop", over.clone()), []);
        let late = shelves.put(&"shop", &over, running("late"));
        assert_eq!(late, Some(running("late")));
        let look = look(&mut shelves, 1);
        assert_eq!((look.surplus, look.lacking), (vec![running("b")], None));
        assert!(!shelves.has(&"shop"));
    }

    #[test]
    fn one_that_could_not_be_made_is_left_alone_for_a_while_and_a_newer_one_is_not() {
        let mut shelves = asked();
        shelves.pause(&"shop", at(1));
        assert_eq!(look(&mut shelves, 2).lacking, None);
        assert_eq!(look(&mut shelves, 302).lacking, Some(snapshot(1)));
        shelves.pause(&"shop", at(303));
        assert_eq!(shelves.shelve("shop", snapshot(2)), []);
        assert_eq!(look(&mut shelves, 304).lacking, Some(snapshot(2)));
    }

    #[test]
    fn a_machine_that_is_short_keeps_nothing_and_forgets_nobody() {
        let mut shelves = asked();
        assert_eq!(shelves.put(&"shop", &snapshot(1), running("a")), None);
        let short = shelves.look(at(1), SIZING, &Spare::nothing());
        assert_eq!((short.surplus, short.lacking), (vec![running("a")], None));
        assert_eq!(look(&mut shelves, 2).lacking, Some(snapshot(1)));
    }
}

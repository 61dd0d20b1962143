//! Changes that come at the same time, committed together: one flush of the disk for all of them.
//!
//! ```text
//!   IDLE ──a change──▶ WRITING: takes what waits, commits it, answers each ──nothing waits──▶ IDLE
//! ```
//!
//! Two hundred branches that an engine brings back would else wait for two hundred flushes, one after another. Owns the
//! changes that wait and who writes them; leaves how a batch is committed to `catalogue`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Changes of one commit: a bound on its size, above the branches that one engine usually has.
pub(super) const BATCH_MAX: usize = 256;

/// How a commit ended.
pub(super) type Committed = Result<(), Arc<redb::Error>>;

/// One record written or removed.
#[derive(Debug)]
pub(super) struct Change {
    /// Its table.
    pub(super) table: &'static str,
    /// Its name.
    pub(super) key: String,
    /// What it says from now on; none: it is removed.
    pub(super) text: Option<String>,
}

#[derive(Debug)]
struct Pending {
    change: Change,
    committed_tx: oneshot::Sender<Committed>,
}

/// The changes that wait. Whoever makes one waits for its answer, so there are no more of them than branches, bases and
/// sources.
#[derive(Debug, Default)]
pub(super) struct Commits(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    pending: VecDeque<Pending>,
    is_written: bool,
}

/// What a change is added with: the way to its answer, and whether the caller has to begin writing.
#[derive(Debug)]
pub(super) struct Added {
    /// Dropped without an answer when the writer ended early.
    pub(super) committed_rx: oneshot::Receiver<Committed>,
    /// Nobody writes: [`Commits::write_batch`] is to be called until nothing waits.
    pub(super) begins: bool,
}

impl Commits {
    /// Adds a change to those that wait.
    pub(super) fn add(&self, change: Change) -> Added {
        let (committed_tx, committed_rx) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.pending.push_back(Pending {
            change,
            committed_tx,
        });
        let begins = !std::mem::replace(&mut waiting.is_written, true);
        Added {
            committed_rx,
            begins,
        }
    }

    /// Commits a batch of what waits with `commit`; none, and the turn of whoever writes is over, where nothing waits. A
    /// batch that cannot be committed is tried change by change: what frees room on a full disk goes through, and each has
    /// its own answer.
    pub(super) fn write_batch(
        &self,
        commit: impl Fn(&[&Change]) -> Result<(), redb::Error>,
    ) -> Option<Answers> {
        let turn = Turn(self);
        let batch = turn.next_batch()?;
        let changes: Vec<&Change> = batch.iter().map(|pending| &pending.change).collect();
        let together = commit(&changes).map_err(Arc::new);
        let is_alone = batch.len() == 1;
        let answer = |pending: Pending| {
            let committed = match &together {
                Err(_) if !is_alone => commit(&[&pending.change]).map_err(Arc::new),
                together => together.clone(),
            };
            (pending.committed_tx, committed)
        };
        Some(Answers(batch.into_iter().map(answer).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What those who waited for a batch are to be told.
#[must_use]
pub(super) struct Answers(Vec<(oneshot::Sender<Committed>, Committed)>);

impl Answers {
    /// Tells them. Whoever is told may close the store at once, so the caller holds it no more.
    pub(super) fn send(self) {
        for (committed_tx, committed) in self.0 {
            // A caller that has gone away wants no answer.
            let _ = committed_tx.send(committed);
        }
    }
}

/// Whoever writes; one at a time.
struct Turn<'a>(&'a Commits);

impl Turn<'_> {
    /// What is to be committed next; none, and the turn is over, where nothing waits.
    fn next_batch(&self) -> Option<Vec<Pending>> {
        let mut waiting = self.0.lock();
        let many = waiting.pending.len().min(BATCH_MAX);
        let batch: Vec<Pending> = waiting.pending.drain(..many).collect();
        waiting.is_written = !batch.is_empty();
        waiting.is_written.then_some(batch)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The store asserts against some damage: those who wait are told, and the next change finds nobody writing.
        if std::thread::panicking() {
            *self.0.lock() = Waiting::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn write_all(commits: &Commits, commit: impl Fn(&[&Change]) -> Result<(), redb::Error>) {
        while let Some(answers) = commits.write_batch(&commit) {
            answers.send();
        }
    }

    fn change(key: &str) -> Change {
        Change {
            table: "things",
            key: key.to_owned(),
            text: None,
        }
    }

    fn keys(changes: &[&Change]) -> Vec<String> {
        changes.iter().map(|change| change.key.clone()).collect()
    }

    #[test]
    fn what_waits_is_committed_together_in_its_order() {
        let commits = Commits::default();
        let first = commits.add(change("a"));
        let second = commits.add(change("b"));
        assert!(first.begins && !second.begins);
        let seen = RefCell::new(Vec::new());
        let late = RefCell::new(None);
        write_all(&commits, |changes| {
            seen.borrow_mut().push(keys(changes));
            // One that comes while the first two are written is written by the same turn.
            if late.borrow().is_none() {
                *late.borrow_mut() = Some(commits.add(change("c")));
            }
            Ok(())
        });
        assert_eq!(seen.into_inner(), [vec!["a", "b"], vec!["c"]]);
        let late = late.into_inner().unwrap();
        assert!(!late.begins);
        for added in [first, second, late] {
            assert!(added.committed_rx.blocking_recv().unwrap().is_ok());
        }
        assert!(commits.add(change("d")).begins);
    }

    #[test]
    fn a_batch_is_bounded() {
        let commits = Commits::default();
        for number in 0..=BATCH_MAX {
            commits.add(change(&number.to_string()));
        }
        let sizes = RefCell::new(Vec::new());
        write_all(&commits, |changes| {
            sizes.borrow_mut().push(changes.len());
            Ok(())
        });
        assert_eq!(sizes.into_inner(), [BATCH_MAX, 1]);
    }

    #[test]
    fn one_that_cannot_be_written_takes_no_other_with_it() {
        let commits = Commits::default();
        let good = commits.add(change("good"));
        let bad = commits.add(change("bad"));
        write_all(&commits, |changes| {
            if keys(changes).contains(&"bad".to_owned()) {
                return Err(redb::Error::PreviousIo);
            }
            Ok(())
        });
        assert!(good.committed_rx.blocking_recv().unwrap().is_ok());
        assert!(bad.committed_rx.blocking_recv().unwrap().is_err());
    }

    #[test]
    fn a_writer_that_panics_leaves_nobody_waiting() {
        let commits = Commits::default();
        let added = commits.add(change("a"));
        let ended = catch_unwind(AssertUnwindSafe(|| {
            write_all(&commits, |_| panic!("the store is damaged"));
        }));
        assert!(ended.is_err());
        assert!(added.committed_rx.blocking_recv().is_err());
        assert!(commits.add(change("b")).begins);
    }
}

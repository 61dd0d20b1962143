//! What must be true: every answer that was given, remembered, and held against every later one. Pure.
//!
//! What is known of a branch is no more than what its clients were told. Where an answer was lost, or several clients
//! acted on one branch at the same time, both outcomes are possible from there on until an answer says which it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::engine_api::{EnsuredBranch, Problem, ProblemKind};

use crate::actions::{Holding, Outcome, Told};
use crate::schedule::{Action, Age, Copy, Fault, LONG_TTL, SLOTS, Slot, Wish};

/// How long a session that joined surely holds its branch without another word: some seconds less than its grace.
const HELD_SURELY: Duration = Duration::from_secs(10);

/// Ends of one branch's server after which it may be given up.
const KILLS_MAX: u32 = 3;

/// Whether there is a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Absent,
    Present,
    /// Nobody can say.
    Unsure,
}

/// What is known of one branch.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    life: Life,
    /// What it was made of, where that is known.
    copy: Option<Copy>,
    /// How old data it may hold.
    age: Age,
    /// The shortest that it may have, in seconds.
    ttl: u64,
    /// Until when it cannot have expired; none: far longer than a schedule lasts.
    safe_until: Option<Duration>,
    /// Whether its TTL is what was answered last, and not what somebody may have set since.
    is_ttl_sure: bool,
    /// A session is in it that never says a word again.
    silent: bool,
    /// Rows whose commit was answered, with since when, and rows that may or may not be there.
    known: BTreeMap<u64, Duration>,
    maybe: BTreeSet<u64>,
    /// It has been used since it was made.
    was_ready: bool,
    port: Option<u16>,
    /// The source's transactions that it holds, once that was seen; and how many it holds at least.
    ledger: Option<u64>,
    floor: u64,
    /// What happened that may have cost it its life.
    excuse: Option<&'static str>,
    kills: u32,
}

impl Branch {
    fn absent() -> Self {
        Self {
            life: Life::Absent,
            copy: None,
            age: Age::Any,
            ttl: LONG_TTL,
            safe_until: None,
            is_ttl_sure: true,
            silent: false,
            known: BTreeMap::new(),
            maybe: BTreeSet::new(),
            was_ready: false,
            port: None,
            ledger: None,
            floor: 0,
            excuse: None,
            kills: 0,
        }
    }

    /// One that was asked for just now.
    fn new(wish: Wish, outcome: &Outcome) -> Self {
        Self {
            life: Life::Present,
            copy: Some(wish.copy),
            age: wish.age,
            floor: floor(wish.age, outcome),
            ..Self::absent()
        }
    }

    /// Whether it must be there at `now`.
    pub(crate) fn must_be_there(&self, now: Duration) -> bool {
        self.life == Life::Present && self.safe_until.is_none_or(|until| now < until)
    }

    /// Whether a session may hold it at `now`.
    fn may_be_held(&self, now: Duration) -> bool {
        self.safe_until.is_none_or(|until| now < until)
    }

    /// Whether it must be gone.
    pub(crate) fn must_be_gone(&self) -> bool {
        self.life == Life::Absent
    }

    /// Whether it is about to go by itself.
    pub(crate) fn must_expire(&self) -> bool {
        self.life == Life::Present && self.safe_until.is_some() && self.is_ttl_sure
    }

    /// What it is made of, where that is known.
    pub(crate) fn copy(&self) -> Option<Copy> {
        self.copy
    }

    /// It has another TTL from `at` on, unless a session holds it longer.
    fn live_until(&mut self, ttl: u64, at: Duration) {
        self.ttl = ttl;
        self.is_ttl_sure = true;
        self.safe_until = (ttl < LONG_TTL).then(|| at + Duration::from_secs(ttl));
    }

    /// It may have another TTL from `at` on.
    fn may_live_until(&mut self, ttl: u64, at: Duration) {
        if ttl < LONG_TTL {
            self.live_until(ttl, at);
        }
        self.is_ttl_sure = false;
    }

    /// These rows are there, since `at` at the latest.
    fn learn<'a>(&mut self, rows: impl IntoIterator<Item = &'a u64>, at: Duration) {
        for row in rows {
            self.known.entry(*row).or_insert(at);
        }
    }

    /// Its data may have been made anew.
    fn doubt(&mut self) {
        let known = std::mem::take(&mut self.known);
        self.maybe.extend(known.into_keys());
        self.ledger = None;
        self.floor = 0;
        self.was_ready = false;
    }

    /// Everything may be otherwise by now.
    fn doubt_all(&mut self) {
        self.doubt();
        self.life = Life::Unsure;
        self.copy = None;
        self.age = Age::Any;
        self.ttl = 0;
        self.is_ttl_sure = false;
        self.safe_until = Some(Duration::ZERO);
        self.excuse = Some("several clients at the same time");
    }
}

/// Everything known.
#[derive(Debug)]
pub(crate) struct Model {
    branches: BTreeMap<Slot, Branch>,
    /// Why a promise was not kept.
    violations: Vec<String>,
}

/// What a round means for its answers.
#[derive(Debug, Clone, Copy)]
struct Circumstances<'a> {
    faults: &'a [Fault],
    /// Transactions of the source that have begun by now.
    source_ceiling: u64,
}

impl Circumstances<'_> {
    /// Whether the engine may have gone away under a request.
    fn engine_struck(self) -> bool {
        self.faults.iter().any(|fault| match fault {
            Fault::KillEngine
            | Fault::KillEngineTwice
            | Fault::StopEngine { .. }
            | Fault::FailVolume { .. } => true,
            Fault::KillBranch { .. }
            | Fault::KillWarm
            | Fault::KillMaking
            | Fault::KillBase { .. }
            | Fault::KillSource { .. }
            | Fault::FreezeSource { .. }
            | Fault::FillToFloor { .. }
            | Fault::Fill { .. }
            | Fault::JumpClock { .. } => false,
        })
    }

    /// Whether nothing is excused: a jump of the clock is nothing to anybody.
    fn is_calm(self) -> bool {
        let mut faults = self.faults.iter();
        faults.all(|fault| matches!(fault, Fault::JumpClock { .. }))
    }
}

impl Model {
    /// Nothing is there.
    pub(crate) fn new() -> Self {
        let branches = (0..SLOTS).map(|slot| (Slot(slot), Branch::absent()));
        Self {
            branches: branches.collect(),
            violations: Vec::new(),
        }
    }

    /// What is known of a branch.
    pub(crate) fn branch(&self, slot: Slot) -> &Branch {
        &self.branches[&slot]
    }

    /// A promise was not kept.
    pub(crate) fn note(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The promises that were not kept.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Takes in what one round told. `faults` struck during it.
    pub(crate) fn take(&mut self, outcomes: &[Outcome], faults: &[Fault], source_ceiling: u64) {
        let circumstances = Circumstances {
            faults,
            source_ceiling,
        };
        for fault in faults {
            if let Fault::KillBranch { slot, .. } = fault
                && let Some(branch) = self.branches.get_mut(slot)
            {
                branch.kills += 1;
            }
            self.excuse(outcomes, *fault);
        }
        for slot in (0..SLOTS).map(Slot) {
            let mut of_slot: Vec<&Outcome> = outcomes
                .iter()
                .filter(|outcome| outcome.action.slot() == Some(slot))
                .collect();
            let is_contended = of_slot.len() > 1 && of_slot.iter().any(|one| disturbs(one));
            if is_contended {
                let rows = of_slot.iter().filter_map(|outcome| rows_of(outcome));
                let rows: BTreeSet<u64> = rows.flatten().collect();
                let branch = self.branches.get_mut(&slot).expect("every slot is known");
                branch.doubt_all();
                branch.maybe.extend(rows);
                for outcome in of_slot {
                    self.check_form(outcome, circumstances);
                }
                continue;
            }
            of_slot.sort_by_key(|outcome| order(outcome));
            self.allow_concurrent_rows(slot, &of_slot);
            for outcome in of_slot {
                self.check_form(outcome, circumstances);
                self.take_one(slot, outcome, circumstances);
            }
        }
        for outcome in outcomes
            .iter()
            .filter(|outcome| outcome.action.slot().is_none())
        {
            self.check_form(outcome, circumstances);
            if let Told::Refused(problem) = &outcome.told {
                self.violate(outcome, &format!("refused: {}", problem.detail));
            }
        }
        // Those that were asked for in this round were struck as well.
        for fault in faults {
            self.excuse(outcomes, *fault);
        }
    }

    /// Rows that are being written while others read may be seen already.
    fn allow_concurrent_rows(&mut self, slot: Slot, outcomes: &[&Outcome]) {
        let is_read = |outcome: &&Outcome| matches!(outcome.action, Action::Read { .. });
        if outcomes.len() < 2 || !outcomes.iter().any(is_read) {
            return;
        }
        let rows = outcomes.iter().filter_map(|outcome| rows_of(outcome));
        let rows: BTreeSet<u64> = rows.flatten().collect();
        if let Some(branch) = self.branches.get_mut(&slot) {
            branch.maybe.extend(rows);
        }
    }

    fn violate(&mut self, outcome: &Outcome, what: &str) {
        let branch = outcome
            .action
            .slot()
            .map(|slot| self.branches[&slot].clone());
        self.violations.push(format!(
            "{what}\n  after {:?}\n  told {:?}\n  known {branch:?}",
            outcome.action, outcome.told
        ));
    }

    /// What a fault excuses, whatever was told.
    fn excuse(&mut self, outcomes: &[Outcome], fault: Fault) {
        for (slot, branch) in &mut self.branches {
            let is_being_made = !branch.was_ready
                || outcomes
                    .iter()
                    .any(|outcome| outcome.action.slot() == Some(*slot) && makes(outcome));
            match fault {
                Fault::KillEngine
                | Fault::KillEngineTwice
                | Fault::StopEngine { .. }
                | Fault::KillWarm
                | Fault::JumpClock { .. } => {}
                Fault::KillBranch { slot: struck, .. } if struck == *slot => {
                    if branch.kills > KILLS_MAX {
                        branch.excuse = Some("its server was killed again and again");
                    }
                }
                Fault::KillBranch { .. } => {}
                Fault::KillMaking => {
                    if is_being_made {
                        branch.excuse = Some("its copy's server was killed");
                    }
                }
                Fault::KillBase { .. } => {
                    if is_being_made {
                        branch.excuse = Some("its base's server was killed");
                    }
                }
                Fault::KillSource { .. } | Fault::FreezeSource { .. } => {
                    if is_being_made {
                        branch.excuse = Some("the source was away while it was made");
                    }
                }
                Fault::FillToFloor { .. } | Fault::Fill { .. } => {
                    if is_being_made {
                        branch.excuse = Some("the volume was full while it was made");
                    }
                }
                Fault::FailVolume { .. } => branch.excuse = Some("the volume failed"),
            }
        }
    }

    /// What no circumstances excuse.
    fn check_form(&mut self, outcome: &Outcome, circumstances: Circumstances<'_>) {
        match &outcome.told {
            Told::Wrong(what) => self.violate(outcome, &format!("no answer of its API: {what}")),
            Told::Lost(why)
                if !circumstances.engine_struck() && outcome.action != Action::WriteSource =>
            {
                let what = format!("an answer was lost though nothing struck the engine: {why}");
                self.violate(outcome, &what);
            }
            Told::Refused(problem) if problem.kind == ProblemKind::Internal => {
                self.violate(outcome, "the engine failed");
            }
            Told::Refused(problem) if problem.detail.is_empty() => {
                self.violate(outcome, "a refusal without a reason");
            }
            Told::Failed(why) if why.is_empty() => {
                self.violate(outcome, "a failure without a reason")
            }
            Told::Ensured(_)
            | Told::Done
            | Told::Refused(_)
            | Told::Lost(_)
            | Told::Failed(_)
            | Told::Wrote { .. }
            | Told::Held(_)
            | Told::Unreadable(_) => {}
        }
    }

    fn take_one(&mut self, slot: Slot, outcome: &Outcome, circumstances: Circumstances<'_>) {
        match (&outcome.action, &outcome.told) {
            (_, Told::Wrong(_)) => {}
            (_, Told::Refused(problem)) if problem.kind == ProblemKind::NotFound => {
                self.take_absence(slot, outcome);
            }
            (Action::Create { wish, .. }, told) => self.take_create(slot, *wish, outcome, told),
            (_, Told::Failed(_)) => self.take_failure(slot, outcome),
            (Action::Write { .. } | Action::Read { .. }, told) => {
                self.take_use(slot, outcome, told, circumstances);
            }
            (_, Told::Refused(problem)) => self.take_refusal(outcome, problem),
            (action, told) => self.take_change(slot, action, outcome, told),
        }
    }

    /// A branch is not there.
    fn take_absence(&mut self, slot: Slot, outcome: &Outcome) {
        if self.branch(slot).must_be_there(outcome.ended) {
            self.violate(outcome, "a branch that was promised is not there");
        }
        self.branches.insert(slot, Branch::absent());
    }

    /// A branch is there, but failed.
    fn take_failure(&mut self, slot: Slot, outcome: &Outcome) {
        let branch = self.branch(slot);
        if branch.life == Life::Absent {
            self.violate(outcome, "a branch that was gone is there");
        } else if branch.excuse.is_none() {
            self.violate(outcome, "a branch failed for nothing");
        }
        let branch = self.branches.get_mut(&slot).expect("every slot is known");
        branch.life = Life::Present;
        branch.doubt();
    }

    fn take_refusal(&mut self, outcome: &Outcome, problem: &Problem) {
        let is_allowed = match outcome.action {
            // While it is made, it cannot be reset.
            Action::Reset { .. } => problem.kind == ProblemKind::Conflict,
            Action::Create { .. }
            | Action::Write { .. }
            | Action::Read { .. }
            | Action::Join { .. }
            | Action::Leave { .. }
            | Action::FallSilent { .. }
            | Action::Extend { .. }
            | Action::Destroy { .. }
            | Action::WriteSource
            | Action::Refresh
            | Action::List => false,
        };
        if !is_allowed {
            self.violate(outcome, "refused for nothing");
        }
    }

    fn take_create(&mut self, slot: Slot, wish: Wish, outcome: &Outcome, told: &Told) {
        match told {
            Told::Ensured(ensured) => self.take_ensured(slot, wish, outcome, ensured),
            Told::Refused(problem) if problem.kind == ProblemKind::SpecDiffers => {
                let branch = self.branch(slot);
                if branch.life == Life::Absent {
                    self.violate(outcome, "a branch that was gone has a spec");
                } else if branch.copy == Some(wish.copy) && branch.must_be_there(outcome.ended) {
                    self.violate(outcome, "the same spec was called another");
                }
                if problem.asked.is_none() || problem.existing.is_none() {
                    self.violate(outcome, "a refusal without the two specs");
                }
                let branch = self.branches.get_mut(&slot).expect("every slot is known");
                branch.life = Life::Present;
            }
            Told::Refused(_) => self.violate(outcome, "refused for nothing"),
            Told::Lost(_) => {
                let branch = self.branches.get_mut(&slot).expect("every slot is known");
                let old = branch.clone();
                branch.age = Age::Any;
                if !old.must_be_there(outcome.ended) || old.excuse.is_some() {
                    branch.doubt();
                    branch.copy = (old.life == Life::Absent).then_some(wish.copy);
                    branch.life = match old.life {
                        Life::Present if old.safe_until.is_none() => Life::Present,
                        Life::Present | Life::Absent | Life::Unsure => Life::Unsure,
                    };
                }
                branch.may_live_until(wish.ttl, outcome.began);
            }
            Told::Done
            | Told::Wrong(_)
            | Told::Failed(_)
            | Told::Wrote { .. }
            | Told::Held(_)
            | Told::Unreadable(_) => self.violate(outcome, "no answer to a request for a branch"),
        }
    }

    fn take_ensured(&mut self, slot: Slot, wish: Wish, outcome: &Outcome, ensured: &EnsuredBranch) {
        let old = self.branch(slot).clone();
        let mut branch = old.clone();
        if ensured.reused {
            if old.life == Life::Absent {
                self.violate(outcome, "a branch that was gone is said to live");
            }
            if old.life == Life::Present && old.copy.is_some_and(|copy| copy != wish.copy) {
                self.violate(outcome, "another spec was taken for the same");
            }
            branch.life = Life::Present;
            branch.copy = Some(wish.copy);
            branch.age = wish.age;
        } else {
            if old.must_be_there(outcome.ended) && old.excuse.is_none() {
                self.violate(outcome, "a branch that lives was made anew");
            }
            branch = Branch::new(wish, outcome);
        }
        if ensured.branch.id.as_str() != crate::actions::id_of(slot) {
            self.violate(outcome, "another branch was given");
        }
        branch.live_until(wish.ttl, outcome.began);
        self.branches.insert(slot, branch);
    }

    fn take_use(
        &mut self,
        slot: Slot,
        outcome: &Outcome,
        told: &Told,
        circumstances: Circumstances<'_>,
    ) {
        let is_calm = circumstances.is_calm();
        let is_safe = self.branch(slot).must_be_there(outcome.ended);
        match told {
            Told::Wrote {
                port,
                committed,
                unsure,
                why,
            } => {
                if !unsure.is_empty() && is_calm && is_safe {
                    self.violate(outcome, &format!("a branch took no row: {why}"));
                }
                self.take_port(slot, *port, outcome, is_calm);
                let branch = self.branches.get_mut(&slot).expect("every slot is known");
                branch.learn(committed, outcome.ended);
                branch.maybe.extend(unsure);
            }
            Told::Held(holding) => {
                self.take_port(slot, holding.port, outcome, is_calm);
                self.take_holding(slot, holding, outcome, circumstances.source_ceiling);
            }
            Told::Unreadable(why) => {
                // One that failed between the look and the reading was excused.
                if is_calm && is_safe {
                    self.violate(outcome, &format!("a branch cannot be read: {why}"));
                }
            }
            Told::Refused(_)
            | Told::Lost(_)
            | Told::Done
            | Told::Wrong(_)
            | Told::Failed(_)
            | Told::Ensured(_) => self.violate(outcome, "no answer to a use of a branch"),
        }
    }

    fn take_port(&mut self, slot: Slot, port: u16, outcome: &Outcome, is_calm: bool) {
        let old = self.branch(slot).clone();
        if old.life == Life::Absent {
            self.violate(outcome, "a branch that was gone was used");
        }
        if old.life == Life::Present && old.port.is_some_and(|old| old != port) {
            self.violate(outcome, "the address of a branch changed");
        }
        let branch = self.branches.get_mut(&slot).expect("every slot is known");
        branch.life = Life::Present;
        branch.port = Some(port);
        branch.was_ready = true;
        // What struck it while it was made has not hurt it.
        if is_calm && branch.kills <= KILLS_MAX {
            branch.excuse = None;
        }
    }

    /// Holds what a branch holds against what is known.
    fn take_holding(
        &mut self,
        slot: Slot,
        holding: &Holding,
        outcome: &Outcome,
        source_ceiling: u64,
    ) {
        let old = self.branch(slot).clone();
        // A reader need not see what was committed while it read.
        let before = old
            .known
            .iter()
            .filter(|(_, since)| **since <= outcome.began);
        let lacking: Vec<&u64> = before
            .map(|(row, _)| row)
            .filter(|row| !holding.kept.contains(row))
            .collect();
        if !lacking.is_empty() {
            self.violate(outcome, &format!("committed rows are lost: {lacking:?}"));
        }
        let all: BTreeSet<u64> = old.known.keys().chain(&old.maybe).copied().collect();
        let strange: Vec<&u64> = holding.kept.difference(&all).collect();
        if !strange.is_empty() {
            self.violate(outcome, &format!("rows of nobody: {strange:?}"));
        }
        let is_right = match old.copy {
            Some(Copy::All) => holding
                .ledger
                .is_some_and(|count| (old.floor..=source_ceiling).contains(&count)),
            Some(Copy::Schema) => holding.ledger == Some(0),
            Some(Copy::Empty) => holding.ledger.is_none(),
            None => true,
        };
        if !is_right {
            let what = format!(
                "it holds {:?} transactions of the source, of which {} were committed before and {source_ceiling} begun",
                holding.ledger, old.floor
            );
            self.violate(outcome, &what);
        }
        if old.ledger.is_some() && old.ledger != holding.ledger {
            self.violate(outcome, "what it holds of the source changed");
        }
        let branch = self.branches.get_mut(&slot).expect("every slot is known");
        branch.ledger = holding.ledger;
        branch.learn(&holding.kept, outcome.ended);
    }

    fn take_change(&mut self, slot: Slot, action: &Action, outcome: &Outcome, told: &Told) {
        let was_absent = self.branch(slot).life == Life::Absent;
        let is_done = matches!(told, Told::Done);
        let leaves = matches!(action, Action::Leave { .. });
        if is_done && was_absent && !leaves {
            self.violate(outcome, "a branch that was gone was changed");
        }
        let branch = self.branches.get_mut(&slot).expect("every slot is known");
        let (began, ttl) = (outcome.began, branch.ttl);
        match action {
            Action::Join { .. } if is_done => {
                branch.life = Life::Present;
                let may_end = ttl < LONG_TTL || !branch.is_ttl_sure;
                branch.safe_until = may_end.then(|| began + HELD_SURELY);
            }
            // Who leaves what may be gone by now brings nothing back.
            Action::Leave { .. } if !branch.may_be_held(began) => {}
            Action::Leave { .. } if branch.is_ttl_sure => branch.live_until(ttl, began),
            Action::Leave { .. } => branch.may_live_until(ttl, began),
            Action::FallSilent { .. } => {
                branch.silent = true;
                branch.may_live_until(0, began);
                if is_done {
                    branch.is_ttl_sure = true;
                    branch.life = Life::Present;
                    branch.safe_until = Some(began + HELD_SURELY);
                }
            }
            Action::Reset { .. } => {
                branch.doubt();
                if is_done {
                    branch.excuse = None;
                    branch.life = Life::Present;
                    branch.maybe.clear();
                    branch.floor = floor(branch.age, outcome);
                    if branch.is_ttl_sure {
                        branch.live_until(ttl, began);
                    }
                }
            }
            Action::Extend { ttl, .. } => {
                if is_done {
                    branch.life = Life::Present;
                }
                if is_done {
                    branch.live_until(*ttl, began);
                } else {
                    branch.may_live_until(*ttl, began);
                }
            }
            Action::Destroy { .. } if is_done => *branch = Branch::absent(),
            Action::Destroy { .. } => {
                if branch.life == Life::Present {
                    branch.life = Life::Unsure;
                }
            }
            Action::Join { .. }
            | Action::Create { .. }
            | Action::Write { .. }
            | Action::Read { .. }
            | Action::WriteSource
            | Action::Refresh
            | Action::List => {}
        }
    }
}

/// Transactions of the source that a branch holds at least which was asked for now.
fn floor(age: Age, outcome: &Outcome) -> u64 {
    match age {
        Age::Fresh => outcome.source_floor,
        Age::Young => outcome.young_floor,
        Age::Any => 0,
    }
}

/// Whether an action beside others on the same branch leaves it open what came of them.
fn disturbs(outcome: &Outcome) -> bool {
    match outcome.action {
        Action::Destroy { .. } | Action::Reset { .. } | Action::FallSilent { .. } => true,
        Action::Create { wish, .. } => {
            wish.ttl < LONG_TTL
                || !matches!(&outcome.told, Told::Ensured(ensured) if ensured.reused)
        }
        Action::Extend { ttl, .. } => ttl < LONG_TTL,
        Action::Leave { .. } => true,
        Action::Write { .. }
        | Action::Read { .. }
        | Action::Join { .. }
        | Action::WriteSource
        | Action::Refresh
        | Action::List => false,
    }
}

/// Whether an action has a branch made.
fn makes(outcome: &Outcome) -> bool {
    matches!(outcome.action, Action::Create { .. } | Action::Reset { .. })
}

fn rows_of(outcome: &Outcome) -> Option<BTreeSet<u64>> {
    match &outcome.told {
        Told::Wrote {
            committed, unsure, ..
        } => Some(committed.union(unsure).copied().collect()),
        Told::Ensured(_)
        | Told::Done
        | Told::Refused(_)
        | Told::Lost(_)
        | Told::Wrong(_)
        | Told::Failed(_)
        | Told::Held(_)
        | Told::Unreadable(_) => None,
    }
}

/// In which order actions that do not disturb each other are taken in.
fn order(outcome: &Outcome) -> (bool, u8) {
    // A branch that expires meanwhile is found by some, and by nobody after that.
    let is_absence =
        matches!(&outcome.told, Told::Refused(problem) if problem.kind == ProblemKind::NotFound);
    let kind = match outcome.action {
        Action::Create { .. } => 0,
        Action::Read { .. } => 1,
        Action::Write { .. } => 2,
        Action::Join { .. }
        | Action::Leave { .. }
        | Action::FallSilent { .. }
        | Action::Reset { .. }
        | Action::Extend { .. }
        | Action::Destroy { .. }
        | Action::WriteSource
        | Action::Refresh
        | Action::List => 3,
    };
    (is_absence, kind)
}

#[cfg(test)]
mod tests;

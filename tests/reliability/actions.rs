//! What clients do, done: each action ends with what the client was told, and nothing is judged here.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use fixtures::{let_pass, sql};
use model::engine_api::{BranchConnection, BranchPhase, BranchView, EnsuredBranch, Problem};
use model::{BranchId, BranchName, Namespace};
use serde_json::{Value, json};

use crate::clock;
use crate::engine::Answer;
use crate::schedule::{Action, Age, Copy, SHORT_TTL, Slot, Wish, YOUNG};
use crate::world::{SOURCE_NAME, World};

/// From a request to a branch that can be used: a copy may have to begin anew, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(120);

/// Nothing that is accepted as young is older: a jump of the clock below two seconds passes for none.
const YOUNG_SURELY: Duration = Duration::from_secs(YOUNG + 2);

/// Between two looks at a branch that is being made.
const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// What became of an action.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) action: Action,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    /// Transactions of the source whose commit was answered before the action began.
    pub(crate) source_floor: u64,
    /// The same, before what data that is accepted as young need hold.
    pub(crate) young_floor: u64,
    pub(crate) told: Told,
}

/// What a client was told.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// The branch, and whether it lived already.
    Ensured(Box<EnsuredBranch>),
    /// It was done.
    Done,
    /// It was refused.
    Refused(Problem),
    /// Nobody can say whether it was done.
    Lost(String),
    /// What must never be answered.
    Wrong(String),
    /// The branch failed, for this reason.
    Failed(String),
    /// These rows were committed, and of these nobody can say.
    Wrote {
        port: u16,
        committed: BTreeSet<u64>,
        unsure: BTreeSet<u64>,
        why: String,
    },
    /// What the branch holds.
    Held(Holding),
    /// The branch was ready, and could not be read.
    Unreadable(String),
}

/// What a branch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) port: u16,
    /// Rows of its own.
    pub(crate) kept: BTreeSet<u64>,
    /// Transactions of the source; none where it has not the table.
    pub(crate) ledger: Option<u64>,
}

/// What is known of the source's transactions, which are numbered from 1.
#[derive(Debug, Default)]
pub(crate) struct SourceCount {
    /// Those whose commit was answered.
    pub(crate) committed: AtomicU64,
    /// Those that were begun.
    pub(crate) begun: AtomicU64,
    /// How many had been committed when.
    history: Mutex<Vec<(Duration, u64)>>,
}

impl SourceCount {
    /// Asks the source itself, once nothing is under way there.
    pub(crate) fn settle(&self, world: &World) -> Result<()> {
        let count = sql::query_value(world.superuser_url(), "SELECT count(*) FROM ledger")?;
        let count = count.parse().context("a count")?;
        self.commit(count);
        self.begun.store(count, Ordering::SeqCst);
        Ok(())
    }

    /// So many are committed by now.
    fn commit(&self, count: u64) {
        self.committed.store(count, Ordering::SeqCst);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push((clock::now(), count));
    }

    /// Those that were committed at `then`.
    fn committed_at(&self, then: Duration) -> u64 {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let before = history.iter().rev().find(|(at, _)| *at <= then);
        before.map_or(0, |(_, count)| *count)
    }
}

/// The id of a slot.
pub(crate) fn id_of(slot: Slot) -> String {
    format!("slot {}", slot.0)
}

/// The resource name of a slot's branch.
pub(crate) fn name_of(world: &World, slot: Slot) -> String {
    let namespace = Namespace::new(world.namespace()).expect("a label");
    let id = BranchId::new(id_of(slot)).expect("an id");
    BranchName::of(&namespace, &id).to_string()
}

/// Does `action` and waits for what is told of it.
pub(crate) fn perform(world: &World, count: &SourceCount, action: &Action) -> Outcome {
    let began = clock::now();
    let source_floor = count.committed.load(Ordering::SeqCst);
    let young_floor = count.committed_at(began.saturating_sub(YOUNG_SURELY));
    let told = tell(world, count, action);
    Outcome {
        action: action.clone(),
        began,
        ended: clock::now(),
        source_floor,
        young_floor,
        told,
    }
}

fn tell(world: &World, count: &SourceCount, action: &Action) -> Told {
    match action {
        Action::Create { slot, wish } => ensure(world, *slot, *wish),
        Action::Write { slot, first, rows } => write(world, *slot, *first..*first + *rows),
        Action::Read { slot } => read(world, *slot),
        Action::Join { slot } => join(world, *slot),
        Action::Leave { slot } => {
            let path = format!("/v1/sessions/session-{}", slot.0);
            send(world, "DELETE", &path, &Value::Null)
        }
        Action::FallSilent { slot } => {
            let extended = extend(world, *slot, SHORT_TTL);
            if matches!(extended, Told::Done) {
                join(world, *slot)
            } else {
                extended
            }
        }
        Action::Reset { slot } => {
            let path = format!("/v1/branches/{}/reset", name_of(world, *slot));
            send(world, "POST", &path, &Value::Null)
        }
        Action::Extend { slot, ttl } => extend(world, *slot, *ttl),
        Action::Destroy { slot } => {
            let path = format!("/v1/branches/{}", name_of(world, *slot));
            send(world, "DELETE", &path, &Value::Null)
        }
        Action::WriteSource => write_source(world, count),
        Action::Refresh => {
            let path = format!("/v1/sources/{SOURCE_NAME}/refresh");
            send(world, "POST", &path, &Value::Null)
        }
        Action::List => ["/v1/branches", "/v1/sessions", "/v1/sources", "/v1/engine"]
            .iter()
            .map(|path| send(world, "GET", path, &Value::Null))
            .find(|told| !matches!(told, Told::Done))
            .unwrap_or(Told::Done),
    }
}

fn told<T>(answer: Answer<T>, given: impl FnOnce(T) -> Told) -> Told {
    match answer {
        Answer::Given(value) => given(value),
        Answer::Refused(problem) => Told::Refused(problem),
        Answer::Lost(why) => Told::Lost(why),
        Answer::Wrong(what) => Told::Wrong(what),
    }
}

fn send(world: &World, method: &str, path: &str, body: &Value) -> Told {
    told(world.engine().request(method, path, body), |_: Value| {
        Told::Done
    })
}

/// Asks for the branch of a slot.
pub(crate) fn ensure(world: &World, slot: Slot, wish: Wish) -> Told {
    let mode = match wish.copy {
        Copy::All => "all",
        Copy::Schema => "schema",
        Copy::Empty => "empty",
    };
    let mut wanted = json!({
        "id": id_of(slot), "namespace": world.namespace(), "source": {"url": world.source_url()},
        "copy": {"mode": mode}, "ttl": wish.ttl,
    });
    match wish.age {
        Age::Fresh => {}
        Age::Young => wanted["max_age_seconds"] = json!(YOUNG),
        Age::Any => wanted["max_age_seconds"] = json!(1_000_000),
    }
    told(world.engine().ensure(&wanted), |ensured| {
        Told::Ensured(Box::new(ensured))
    })
}

fn join(world: &World, slot: Slot) -> Told {
    let wanted = json!({
        "branches": [name_of(world, slot)], "owner": "tester@here", "pid": 1, "program": "test",
    });
    let path = format!("/v1/sessions/session-{}", slot.0);
    send(world, "PUT", &path, &wanted)
}

fn extend(world: &World, slot: Slot, ttl: u64) -> Told {
    let path = format!("/v1/branches/{}/extend", name_of(world, slot));
    send(world, "POST", &path, &json!({ "ttl": ttl }))
}

/// Waits until a branch can be connected to. An engine that is not there is waited for as well.
fn reach(world: &World, slot: Slot) -> Result<BranchConnection, Told> {
    let name = name_of(world, slot);
    let deadline = clock::now() + READY_MAX;
    let mut last = String::new();
    while clock::now() < deadline {
        match world.engine().branch(&name) {
            Answer::Given(view) => match settled(&view) {
                Some(Ok(())) => match world.engine().connection(&name) {
                    Answer::Given(connection) => return Ok(connection),
                    Answer::Refused(problem) => last = problem.detail,
                    Answer::Lost(why) => last = why,
                    Answer::Wrong(what) => return Err(Told::Wrong(what)),
                },
                Some(Err(why)) => return Err(Told::Failed(why)),
                None => last = view.phase.as_str().to_owned(),
            },
            Answer::Refused(problem) => return Err(Told::Refused(problem)),
            Answer::Lost(why) => last = why,
            Answer::Wrong(what) => return Err(Told::Wrong(what)),
        }
        let_pass(LOOK_PAUSE);
    }
    let what = format!("{name} was not to be used within {READY_MAX:?}: {last}");
    Err(Told::Wrong(what))
}

/// Whether a branch is ready, failed for a reason, or neither yet.
pub(crate) fn settled(view: &BranchView) -> Option<Result<(), String>> {
    match view.phase {
        BranchPhase::Ready => Some(Ok(())),
        BranchPhase::Failed => Some(Err(view.message.clone().unwrap_or_default())),
        BranchPhase::Copying
        | BranchPhase::Cloning
        | BranchPhase::Starting
        | BranchPhase::Deleting => None,
    }
}

fn write(world: &World, slot: Slot, rows: std::ops::Range<u64>) -> Told {
    let connection = match reach(world, slot) {
        Ok(connection) => connection,
        Err(told) => return told,
    };
    let (mut committed, mut unsure, mut why) = (BTreeSet::new(), BTreeSet::new(), String::new());
    for row in rows {
        // Of two that make the table at the same time, PostgreSQL lets one fail.
        let statements = format!(
            "SELECT pg_advisory_xact_lock(1);
             CREATE TABLE IF NOT EXISTS kept (n bigint PRIMARY KEY);
             INSERT INTO kept VALUES ({row})"
        );
        match execute_once_up(connection.url.reveal(), &statements) {
            Ok(()) => committed.insert(row),
            Err(error) => {
                why = format!("{error:#}");
                unsure.insert(row)
            }
        };
    }
    Told::Wrote {
        port: connection.port,
        committed,
        unsure,
        why,
    }
}

/// A server of which one process was killed ends the others and recovers: nothing was done of what it refuses meanwhile.
fn execute_once_up(url: &str, statements: &str) -> Result<()> {
    let deadline = clock::now() + READY_MAX;
    loop {
        match sql::execute(url, statements) {
            Err(error) if sql::is_of_start_up(&error) && clock::now() < deadline => {
                let_pass(LOOK_PAUSE);
            }
            done => return done,
        }
    }
}

/// Waits for a branch and reads what it holds.
pub(crate) fn read(world: &World, slot: Slot) -> Told {
    let connection = match reach(world, slot) {
        Ok(connection) => connection,
        Err(told) => return told,
    };
    let deadline = clock::now() + READY_MAX;
    loop {
        match hold(&connection) {
            Ok(holding) => return Told::Held(holding),
            // A server of which one process was killed ends the others and recovers.
            Err(error) if sql::is_of_start_up(&error) && clock::now() < deadline => {
                let_pass(LOOK_PAUSE);
            }
            Err(error) => return Told::Unreadable(format!("{error:#}")),
        }
    }
}

fn hold(connection: &BranchConnection) -> Result<Holding> {
    let url = connection.url.reveal();
    let tables = sql::query(
        url,
        "SELECT current_setting('cluster_name'), to_regclass('kept'), to_regclass('ledger')",
    )?;
    let row = tables.first().context("one row")?;
    anyhow::ensure!(
        row[0].as_deref() == Some(&*connection.identity),
        "the server is {:?}, not {}",
        row[0],
        connection.identity
    );
    let kept = if row[1].is_some() {
        numbers(url, "SELECT n FROM kept")?
    } else {
        BTreeSet::new()
    };
    let ledger = if row[2].is_some() {
        let ledger = numbers(url, "SELECT n FROM ledger")?;
        let mirror = numbers(url, "SELECT n FROM mirror")?;
        anyhow::ensure!(
            ledger == mirror,
            "half a transaction: {ledger:?} and {mirror:?}"
        );
        let count = u64::try_from(ledger.len())?;
        anyhow::ensure!(
            ledger.last().copied().unwrap_or(0) == count,
            "a transaction is missing: {ledger:?}"
        );
        Some(count)
    } else {
        None
    };
    Ok(Holding {
        port: connection.port,
        kept,
        ledger,
    })
}

fn numbers(url: &str, statement: &str) -> Result<BTreeSet<u64>> {
    let rows = sql::query(url, statement)?;
    rows.into_iter()
        .flatten()
        .flatten()
        .map(|text| text.parse().context("a number"))
        .collect()
}

fn write_source(world: &World, count: &SourceCount) -> Told {
    let number = count.committed.load(Ordering::SeqCst) + 1;
    count.begun.store(number, Ordering::SeqCst);
    let statements =
        format!("INSERT INTO ledger VALUES ({number}); INSERT INTO mirror VALUES ({number})");
    match sql::execute(world.source_url(), &statements) {
        Ok(()) => {
            count.commit(number);
            Told::Done
        }
        Err(error) => Told::Lost(format!("{error:#}")),
    }
}

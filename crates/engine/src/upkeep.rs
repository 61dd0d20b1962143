//! Looks after the bases that follow their sources, one task a named source: seeds them, or brings them back after an
//! engine's end, looks at them every second, takes snapshots of them, and begins anew where one is of no more use.
//!
//! Owns when, as `due` and `again` say. Leaves to `base::followed` how, to `base::store` the snapshots, to `pool` what is kept
//! running of them, and to `removal` that a base which goes leaves nothing. Nobody waits for it but requests for a first copy.

mod again;
mod due;
mod removal;
pub mod slots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::SignedDuration;
use model::chain;
use model::engine_api::{BaseMode, SourceCare, SourceName};
use model::{PgUrl, Secret};
use tokio::task::JoinHandle;

use crate::app::Shared;
use crate::base::followed::patience::passed;
use crate::base::followed::{Choice, FollowedBase, SeedOrder, ServerTrouble, Tended, Way, choose};
use crate::base::living::{BaseName, BaseRecord, Entry, LivingBase, Phase};
use crate::base::physical::Upstream;
use crate::base::store::{Making, make_data};
use crate::catalogue::CatalogueError;
use crate::pool::Order;
use crate::postgres::server::{StopMode, sweep};
use crate::refresh::plain_spec;
use crate::source::SourceAccess;
use crate::volume::remove_tree;
use again::{Again, NotResumed};
use due::{Due, Need};
pub use removal::forget;
use removal::{outdate, records_of, retire, told_as_none, try_to_remove};
use slots::Slots;

/// How often a base is looked at.
const TEND_INTERVAL: Duration = Duration::from_secs(1);

/// A pause that a request waits for.
const SHORT_PAUSE: Duration = Duration::from_secs(10);

/// A named source, as its owner wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: SourceName,
    /// Its connection string.
    pub url: Secret,
    /// How it is kept.
    pub care: SourceCare,
}

impl Wanted {
    /// How the source is reached.
    ///
    /// # Errors
    /// Why a URL is none.
    pub fn upstream(&self) -> Result<Upstream, model::pg_url::PgUrlError> {
        let replication_url = self.care.replication_url.as_ref();
        Ok(Upstream {
            access: SourceAccess {
                url: PgUrl::parse(self.url.reveal())?,
                database: None,
                settings: BTreeMap::new(),
                gateway: None,
            },
            replication_url: replication_url
                .map(|url| PgUrl::parse(url.reveal()))
                .transpose()?,
        })
    }
}

/// The tasks, and the slots that their bases have on sources.
#[derive(Debug, Default)]
pub struct Upkeep {
    tasks: Mutex<BTreeMap<SourceName, JoinHandle<()>>>,
    /// The slots.
    pub slots: Slots,
}

impl Upkeep {
    fn tasks(&self) -> std::sync::MutexGuard<'_, BTreeMap<SourceName, JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to look after every named source.
pub fn start(shared: &Arc<Shared>) {
    for wanted in shared.sources.all_wanted() {
        follow(shared, wanted, None, None);
    }
    slots::start(shared);
}

/// Begins to look after a source, in place of how it was looked after before: at once with what was chosen for it,
/// where somebody has just asked. `before` is how it was wanted.
pub fn follow(
    shared: &Arc<Shared>,
    wanted: Wanted,
    choice: Option<Choice>,
    before: Option<Wanted>,
) -> Arc<Entry> {
    let entry = shared.bases.living().begin(&wanted.name);
    // What became of it before says nothing of what is wanted now.
    shared.refresher.forget(&wanted.name);
    if let Some(choice) = &choice {
        entry.enter_choice(choice);
    }
    let last = shared.upkeep.tasks().remove(&wanted.name);
    let name = wanted.name.clone();
    let task = Task {
        shared: Arc::downgrade(shared),
        entry: Arc::clone(&entry),
        wanted,
    };
    let task = tokio::spawn(async move {
        end(last).await;
        if let (Some(before), Some(shared)) = (before, task.shared.upgrade()) {
            outdate(&shared, &before, &task.wanted).await;
        }
        task.run(choice).await;
    });
    shared.upkeep.tasks().insert(name, task);
    entry
}

/// Looks after nothing more: what is being made comes to nothing, the bases' servers go on.
pub async fn rest(shared: &Shared) {
    let tasks = std::mem::take(&mut *shared.upkeep.tasks());
    for task in tasks.into_values() {
        end(Some(task)).await;
    }
}

/// Ends the servers of all bases cleanly, with the engine.
pub async fn stop_servers(shared: &Shared) {
    rest(shared).await;
    for living in shared.bases.living().all() {
        if let Err(error) = living.base.stop(StopMode::Fast).await {
            tracing::error!(base = %living.name, error = chain(&error), "cannot stop a base's server");
        }
    }
    // One that was just being taken up is nobody's yet.
    let records = shared.machine.catalogue.all::<BaseRecord>();
    for record in records.unwrap_or_else(told_as_none) {
        let place = record.name.place(&shared.machine.layout);
        if let Err(error) = sweep(&place.data()).await {
            tracing::error!(base = %record.name, error = chain(&error), "cannot end what works in a base");
        }
        // The next start makes it again.
        if let Err(error) = remove_tree(&place.socket_dir) {
            tracing::error!(base = %record.name, error = chain(&error), "cannot remove a base's socket");
        }
    }
}

async fn end(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        task.abort();
        // It ends because it was told to.
        let _ = task.await;
    }
}

/// Why a base that is here does not follow.
#[derive(Debug, thiserror::Error)]
enum NotTakenUp {
    /// Its slot could not be journaled anew.
    #[error("cannot journal its slot")]
    Slot(#[from] CatalogueError),
    /// Its server.
    #[error(transparent)]
    Server(#[from] ServerTrouble),
}

impl NotTakenUp {
    /// Whether its files seem to be at fault, and not this machine as it is just now.
    fn is_of_files(&self) -> bool {
        match self {
            Self::Slot(_) => false,
            Self::Server(trouble) => trouble.is_of_files(),
        }
    }
}

/// Looks after one source.
struct Task {
    shared: Weak<Shared>,
    entry: Arc<Entry>,
    wanted: Wanted,
}

/// Why a source has no base that follows just now, and how long nothing is done about it.
struct Setback {
    reasons: Vec<String>,
    pause: Duration,
    /// Whether a copy failed, or was of use for too short.
    holds_off: bool,
}

/// A base that follows, and how long it took to copy: nothing where it was here.
struct Brought {
    living: Arc<LivingBase>,
    seeding: Duration,
}

impl Task {
    async fn run(self, mut choice: Option<Choice>) {
        let mut again = Again::default();
        while let Some(shared) = self.shared.upgrade() {
            let brought = self.bring(&shared, choice.take(), &mut again).await;
            let setback = match brought {
                Ok(brought) => {
                    again.follows();
                    self.live(&shared, &brought, &mut again).await
                }
                Err(setback) => setback,
            };
            drop(shared);
            if setback.pause.is_zero() {
                continue;
            }
            self.entry.enter(if setback.pause < SHORT_PAUSE {
                // Whoever asks meanwhile waits: a base that is here is better than a dump.
                Phase::Looking
            } else {
                Phase::Dumped {
                    reasons: setback.reasons,
                    holds_off: setback.holds_off,
                }
            });
            // Either way it is time to look again.
            let _ = tokio::time::timeout(setback.pause, self.entry.look.notified()).await;
        }
    }

    /// Keeps a base until it is of no more use.
    async fn live(&self, shared: &Arc<Shared>, brought: &Brought, again: &mut Again) -> Setback {
        let clock = shared.machine.clock;
        let begun = clock.now();
        self.keep(shared, &brought.living).await;
        let lived = passed(begun, clock.now());
        let pause = again.lost(brought.seeding, lived);
        let reason = format!(
            "its base was of use for {} s and took {} s to copy: it is copied again after {} s",
            lived.as_secs(),
            brought.seeding.as_secs(),
            pause.as_secs()
        );
        Setback {
            reasons: vec![reason],
            pause,
            holds_off: true,
        }
    }

    fn tell(&self, shared: &Shared, told: String) {
        self.entry.tell(told, shared.machine.clock.now());
    }

    /// A base that follows: the one that is here, or a new one; else why there is none.
    async fn bring(
        &self,
        shared: &Shared,
        choice: Option<Choice>,
        again: &mut Again,
    ) -> Result<Brought, Setback> {
        let upstream = self.wanted.upstream();
        let upstream = upstream.map_err(|error| not_seeded(again, vec![chain(&error)]))?;
        let records = records_of(shared, &self.wanted.name).await;
        // Bases that cannot be read are there: nothing is seeded beside them.
        let records = records.map_err(|error| not_seeded(again, vec![chain(&error)]))?;
        for mut record in records {
            let wish = self.wanted.care.mode;
            if let Some(choice) = &choice
                && record.seeded.keep_wal_by(&choice.way)
            {
                let kept = shared.machine.catalogue.put(&record).await;
                kept.map_err(|error| not_seeded(again, vec![chain(&error)]))?;
            }
            if (wish == BaseMode::Auto || wish == record.seeded.mode())
                && let Some(living) = self.take_up(shared, &record, &upstream, again).await?
            {
                let seeding = Duration::ZERO;
                return Ok(Brought { living, seeding });
            }
            try_to_remove(shared, &record.name).await;
        }
        let choice = match choice {
            Some(choice) => choice,
            None => {
                let chosen = self.choose(shared, &upstream).await;
                chosen.map_err(|reasons| not_seeded(again, reasons))?
            }
        };
        let mode = match &choice.way {
            Way::Physical(_) => BaseMode::Physical,
            Way::Logical(_) => BaseMode::Logical,
            Way::Dump => return Err(not_seeded(again, choice.reasons)),
        };
        self.entry.enter(Phase::Seeding { mode });
        let clock = shared.machine.clock;
        let begun = clock.now();
        let seeded = self.seed(shared, &choice.way, upstream).await;
        self.entry.progress_tx.send_replace(None);
        let living = seeded.map_err(|why| {
            let told = format!("the copy failed: {why}");
            self.tell(shared, told.clone());
            Setback {
                holds_off: true,
                ..not_seeded(again, vec![told])
            }
        })?;
        let seeding = passed(begun, clock.now());
        Ok(Brought { living, seeding })
    }

    /// A base that is here; none where its files are at fault, so that it is copied again.
    async fn take_up(
        &self,
        shared: &Shared,
        record: &BaseRecord,
        upstream: &Upstream,
        again: &mut Again,
    ) -> Result<Option<Arc<LivingBase>>, Setback> {
        let error = match self.resume(shared, record, upstream).await {
            Ok(living) => return Ok(Some(living)),
            Err(error) => error,
        };
        let why = chain(&error);
        if record.name.place(&shared.machine.layout).is_empty() {
            self.tell(shared, format!("copied again: {why}"));
            return Ok(None);
        }
        let has_room = shared
            .bases
            .disk()
            .is_ok_and(|disk| disk.free >= disk.floor);
        match again.not_resumed(error.is_of_files() && has_room) {
            NotResumed::Seed => {
                self.tell(shared, format!("copied again: {why}"));
                Ok(None)
            }
            NotResumed::Wait(pause) => {
                let told = format!("its base cannot be taken up again just now: {why}");
                self.tell(shared, told.clone());
                Err(Setback {
                    reasons: vec![told],
                    pause,
                    holds_off: false,
                })
            }
        }
    }

    async fn choose(&self, shared: &Shared, upstream: &Upstream) -> Result<Choice, Vec<String>> {
        let disk = shared.bases.disk().map_err(|error| vec![chain(&error)])?;
        let care = &self.wanted.care;
        let host = shared.bases.host();
        let chosen = choose(care, upstream, host, disk).await;
        chosen.map_err(|error| vec![chain(&error)])
    }

    async fn resume(
        &self,
        shared: &Shared,
        record: &BaseRecord,
        upstream: &Upstream,
    ) -> Result<Arc<LivingBase>, NotTakenUp> {
        if let Some(slot) = record.seeded.slot() {
            shared.upkeep.slots.renew(shared, upstream, slot).await?;
        }
        let place = record.name.place(&shared.machine.layout);
        let host = shared.bases.host();
        let base = FollowedBase::resume(record.seeded.clone(), host, &place, upstream).await?;
        tracing::info!(source = %self.wanted.name, base = %record.name, "a base follows again");
        Ok(self.lives(shared, record.name.clone(), base, upstream.clone()))
    }

    fn lives(
        &self,
        shared: &Shared,
        name: BaseName,
        base: FollowedBase,
        upstream: Upstream,
    ) -> Arc<LivingBase> {
        let living = LivingBase::new(name, base, upstream, shared.machine.clock);
        let living = Arc::new(living);
        self.entry.enter(Phase::Lives(Arc::clone(&living)));
        living
    }

    async fn seed(
        &self,
        shared: &Shared,
        way: &Way,
        upstream: Upstream,
    ) -> Result<Arc<LivingBase>, String> {
        let machine = &shared.machine;
        let _copy_place = shared.bases.copy_place(&self.entry.progress_tx).await;
        let name = BaseName::random();
        let place = name.place(&machine.layout);
        tracing::info!(source = %self.wanted.name, base = %name, "copying a source that is to be followed");
        let making = Making::at(machine, place.directory.clone(), place.socket_dir.clone()).await;
        let making = making.map_err(|error| chain(&error))?;
        let made = make_data(machine, place.data()).await;
        made.map_err(|error| chain(&error))?;
        // Journaled until the base is: given up with everything else where this fails.
        let slot = match way {
            Way::Logical(fit) => {
                let announced =
                    shared
                        .upkeep
                        .slots
                        .announce(shared, &upstream, &fit.facts.database);
                Some(announced.await.map_err(|error| chain(&error))?)
            }
            Way::Physical(_) | Way::Dump => None,
        };
        let order = SeedOrder {
            host: shared.bases.host(),
            place: &place,
            upstream: &upstream,
            slot: slot.as_ref().map_or("", |slot| slot.name.as_str()),
            readers_max: machine.limits.copy_readers_max,
            rate_max: self.wanted.care.rate_bytes_max,
            disk: shared.bases.disk().map_err(|error| chain(&error))?,
            burden: machine.limits.copy_burden(),
        };
        let _promise = machine
            .ledger
            .promise_copy(self.entry.progress_tx.subscribe());
        let seeded = FollowedBase::seed(way, &order, &self.entry.progress_tx).await;
        let base = seeded
            .map_err(|error| chain(&error))?
            .ok_or("it is not to be followed")?;
        let record = BaseRecord {
            name: name.clone(),
            source: self.wanted.name.clone(),
            seeded: base.seeded(),
        };
        let catalogue = Arc::clone(&machine.catalogue);
        // Beside this task, which may be ended at any await: a base that is journaled is there, and one that is not goes.
        let journaled = machine.clearing.spawn(async move {
            catalogue.put(&record).await?;
            making.keep();
            Ok::<_, CatalogueError>(())
        });
        let journaled = journaled.await.expect("writing a record does not panic");
        journaled.map_err(|error| chain(&error))?;
        drop(slot);
        tracing::info!(source = %self.wanted.name, base = %name, "a base follows its source");
        Ok(self.lives(shared, name, base, upstream))
    }

    /// Looks after a base until it is of no more use.
    async fn keep(&self, shared: &Arc<Shared>, living: &Arc<LivingBase>) {
        let why = tokio::select! {
            why = tend(living) => why,
            never = self.keep_snapshots(shared, living) => match never {},
        };
        self.tell(shared, format!("copied again: {why}"));
        self.entry.enter(Phase::Looking);
        retire(shared, living, &self.wanted.care).await;
        shared
            .bases
            .drop_snapshots_of(&living.name, &self.wanted.care)
            .await;
        try_to_remove(shared, &living.name).await;
    }

    /// Takes snapshots when they are due.
    async fn keep_snapshots(
        &self,
        shared: &Arc<Shared>,
        living: &Arc<LivingBase>,
    ) -> std::convert::Infallible {
        let care = &self.wanted.care;
        let limits = &shared.machine.limits;
        let mut due = Due::new(
            care.warm > 0 || care.refresh_seconds.is_some(),
            care.refresh_seconds.map(seconds),
            seconds(limits.warm_idle_seconds),
        );
        let mut looks = living.watch();
        loop {
            // The sender is the base's own.
            let _ = looks.changed().await;
            let now = shared.machine.clock.now();
            let need = Need {
                newest: shared.bases.newest_snapshot(living, care),
                seen: living.seen().clone(),
            };
            if care.warm > 0 && living.base.makes_followers() {
                shared.pool.followers().stock(living, care.warm);
            }
            if !due.is_due(&need, now) {
                continue;
            }
            let taken = shared.bases.snapshot_of(living, care).await;
            let ended_at = shared.machine.clock.now();
            match taken {
                Ok(fresh) => {
                    due.took(ended_at.duration_since(now), ended_at);
                    let spec = plain_spec(self.wanted.url.clone());
                    shared.pool.renew(&Order::of(&fresh, &spec), care.warm);
                }
                Err(error) => {
                    due.failed(ended_at);
                    let why = chain(&error);
                    self.tell(shared, format!("no snapshot could be taken: {why}"));
                }
            }
        }
    }
}

/// The source cannot be followed, or could not be copied.
fn not_seeded(again: &mut Again, reasons: Vec<String>) -> Setback {
    let pause = again.not_seeded();
    Setback {
        reasons,
        pause,
        holds_off: false,
    }
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// Looks at a base every second; answers why it is of no more use.
async fn tend(living: &LivingBase) -> String {
    loop {
        let tended = living.base.tend(&living.upstream).await;
        let tended = tended.unwrap_or_else(|error| Tended::Waiting {
            since: None,
            said: Some(chain(&error)),
        });
        if let Tended::SeedAgain(why) = tended {
            return why;
        }
        living.note(&tended);
        tokio::time::sleep(TEND_INTERVAL).await;
    }
}

//! Sources that are added again and removed while their bases are copied and while they live: a real server, which is asked
//! for what is left there.

use std::path::Path;
use std::time::Duration;

use fixtures::{Binaries, Options, TempDir, TestPostgres};
use model::ByteSize;

use super::*;
use crate::app::App;
use crate::base::living::{BaseRecord, Phase};
use crate::base::store::BaseError;
use crate::settings::{Limits, Settings};

/// How long anything may take on a busy machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(240);

/// So slow that a copy is under way for as long as a test takes.
const SLOWLY: ByteSize = ByteSize(50_000);

/// A database that its owner publishes, larger than what comes of it slowly in a minute.
fn published() -> TestPostgres {
    let options = Options::new(16)
        .setting("wal_level", "logical")
        .setting("max_slot_wal_keep_size", "1GB");
    let source = options.start().unwrap();
    let made = "CREATE TABLE t (id int PRIMARY KEY, text text); \
        INSERT INTO t SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 10000) n; \
        CREATE PUBLICATION everything FOR ALL TABLES";
    source.execute("postgres", made).unwrap();
    source
}

fn slots(source: &TestPostgres) -> String {
    let counted = "SELECT count(*) FROM pg_replication_slots";
    source.query_value("postgres", counted).unwrap()
}

async fn start_engine(data_dir: &Path) -> App {
    let started = eventually("the engine before has let go", async || {
        let roots = [16, 17].map(|major| Binaries::find(major).unwrap().bin().to_owned());
        let settings = Settings {
            data_dir: data_dir.to_owned(),
            postgres_path: roots.to_vec(),
            path: None,
            server_account: None,
            doors: crate::settings::Doors::Open,
            limits: Limits {
                free_floor_bytes: ByteSize(0),
                memory_floor_bytes: ByteSize(0),
                ..Limits::default()
            },
        };
        match App::start(settings).await {
            Ok(app) => Some(app),
            Err(crate::EngineError::Running { .. } | crate::EngineError::Catalogue(_)) => None,
            Err(error) => panic!("{}", chain(&error)),
        }
    });
    started.await
}

async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn shop() -> SourceName {
    "shop".to_owned().try_into().unwrap()
}

/// How a source is wanted here.
fn care() -> SourceCare {
    SourceCare {
        mode: BaseMode::Logical,
        ..SourceCare::default()
    }
}

async fn add(app: &App, source: &TestPostgres, care: SourceCare) -> Arc<Entry> {
    let url = Secret::new(source.superuser_url("postgres"));
    let added = app
        .shared
        .sources
        .add(shop(), AddSource { url, care }, &app.shared);
    added.await.unwrap();
    app.shared.bases.living().get(&shop()).unwrap()
}

/// One clone of its newest snapshot is kept, which is there alone: the snapshot's name.
async fn is_kept_warm(app: &App) -> String {
    let only_one = async || {
        let mut snapshots = names_in(app, "volume/snapshots");
        let is_warm = app.shared.pool.count() == 1 && names_in(app, "volume/clones").len() == 1;
        snapshots.pop().filter(|_| is_warm && snapshots.is_empty())
    };
    eventually("a clone is kept of its only snapshot", only_one).await
}

/// Asks for a removal as a client does that goes away before the answer.
fn ask_to_remove(app: &App) {
    let (name, shared) = (shop(), &app.shared);
    let asked = shared.sources.remove(&name, shared);
    assert!(futures_util::FutureExt::now_or_never(asked).is_none());
}

fn names_in(app: &App, directory: &str) -> Vec<String> {
    let directory = app.shared.machine.layout.root().join(directory);
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// Waits until nothing is left of a source, here and there.
async fn nothing_is_left(app: &App, source: &TestPostgres) {
    let catalogue = &app.shared.machine.catalogue;
    let left = async || {
        let is_named = !journaled_names(catalogue).unwrap().is_empty();
        let bases = catalogue.all::<BaseRecord>().unwrap().len();
        let mut files = Vec::new();
        for directory in ["bases", "snapshots", "clones", "making"] {
            files.extend(names_in(app, &format!("volume/{directory}")));
        }
        let is_clean = !is_named && bases == 0 && files.is_empty() && slots(source) == "0";
        is_clean.then_some(())
    };
    eventually("nothing is left", left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_under_way_is_not_begun_anew_and_nobody_waits_for_one_that_ends() {
    let source = tokio::task::spawn_blocking(published).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let slow = SourceCare {
        rate_bytes_max: Some(SLOWLY),
        ..care()
    };
    let entry = add(&app, &source, slow.clone()).await;
    let bases = eventually("a copy is under way", async || {
        let is_copied = matches!(entry.phase(), Phase::Seeding { .. }) && slots(&source) == "1";
        is_copied.then(|| names_in(&app, "volume/bases"))
    });
    let bases = bases.await;

    let again = add(&app, &source, slow).await;
    assert!(Arc::ptr_eq(&entry, &again), "it was begun anew");
    assert_eq!(names_in(&app, "volume/bases"), bases);

    let shared = Arc::clone(&app.shared);
    let spec = plain_spec(Secret::new(source.superuser_url("postgres")));
    let waits = tokio::spawn(async move {
        let meant = shared.sources.meant(&spec);
        shared.bases.fresh(&spec, &meant).await.map(drop)
    });
    let is_waited_for = async || (entry.waiting() > 0).then_some(());
    eventually("somebody waits for the copy", is_waited_for).await;
    ask_to_remove(&app);
    nothing_is_left(&app, &source).await;
    let told = tokio::time::timeout(PATIENCE, waits).await;
    let told = told.expect("nobody waits for ever").unwrap();
    assert!(matches!(told, Err(BaseError::Over)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_nobody_waits_for_leaves_nothing() {
    let source = tokio::task::spawn_blocking(published).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let warm = SourceCare { warm: 1, ..care() };
    add(&app, &source, warm).await;
    is_kept_warm(&app).await;
    ask_to_remove(&app);
    nothing_is_left(&app, &source).await;
    assert_eq!(app.shared.pool.count(), 0);
    let again = app.shared.sources.remove(&shop(), &app.shared).await;
    assert_eq!(again.unwrap_err().kind, ProblemKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_otherwise_or_copied_before_makes_room_for_what_is_wanted_now() {
    let source = tokio::task::spawn_blocking(published).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let warm = SourceCare { warm: 1, ..care() };
    add(&app, &source, warm.clone()).await;
    let plain = is_kept_warm(&app).await;

    let masked = SourceCare {
        prepare: Some(Secret::new("UPDATE t SET text = ''")),
        ..warm
    };
    add(&app, &source, masked).await;
    let is_another = async |before: &str| {
        let now = is_kept_warm(&app).await;
        (now != *before).then_some(now)
    };
    let other = eventually("one of the masked rows alone", async || {
        is_another(&plain).await
    });
    let other = other.await;

    // Its base is copied again.
    source
        .execute("postgres", "ALTER TABLE t ADD COLUMN colour text")
        .unwrap();
    let newest = eventually("one of the new base alone", async || {
        is_another(&other).await
    });
    newest.await;
    ask_to_remove(&app);
    nothing_is_left(&app, &source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_whose_source_has_lost_its_name_goes_at_the_next_start() {
    let source = tokio::task::spawn_blocking(published).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let entry = add(&app, &source, care()).await;
    let lives = async || matches!(entry.phase(), Phase::Lives(_)).then_some(());
    eventually("its base follows", lives).await;
    let catalogue = &app.shared.machine.catalogue;
    catalogue.remove::<NamedSource>("shop").await.unwrap();
    crate::upkeep::rest(&app.shared).await;
    drop((entry, app));

    let app = start_engine(root.path()).await;
    assert_eq!(names_in(&app, "volume/bases"), Vec::<String>::new());
    eventually("its slot is dropped", async || {
        (slots(&source) == "0").then_some(())
    })
    .await;
}

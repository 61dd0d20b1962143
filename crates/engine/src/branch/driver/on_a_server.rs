//! The crash test: for every step of creation and deletion, do that many, drop the engine before or after its journal
//! took the last one, start another, and look at the machine. Real PostgreSQL on both sides.

mod guarded;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fixtures::{Binaries, TempDir, TestPostgres, sql};
use model::engine_api::{BranchPhase, EnsureBranch, SourceRef};
use model::{BranchId, BranchName, CopySpec, Namespace, PgUrl, Secret, Ttl};

use super::super::{after_restart, state, work};
use super::*;
use crate::app::App;
use crate::branch::doorway::open_door;
use crate::branch::hold::Hold;
use crate::branch::newborn::Newborn;
use crate::settings::{Doors, Limits, Settings};

/// How long anything may take on a busy machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// The states from the request to the branch that answers, and from the deletion to nothing.
const STEPS_TO_READY: usize = 3;

fn source() -> TestPostgres {
    let source = TestPostgres::start(16).unwrap();
    let setup = "CREATE ROLE app LOGIN PASSWORD 'app secret'; CREATE DATABASE shop OWNER app";
    for statement in setup.split(';') {
        source.execute("postgres", statement).unwrap();
    }
    source
        .execute(
            "shop",
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)",
        )
        .unwrap();
    source
        .execute("shop", "ALTER TABLE t OWNER TO app")
        .unwrap();
    source
}

fn settings(data_dir: &Path) -> Settings {
    // The fixtures know where servers and clients are; the engine is told the same folders.
    let roots = [16, 17].map(|major| Binaries::find(major).unwrap().bin().to_owned());
    Settings {
        data_dir: data_dir.to_owned(),
        postgres_path: roots.to_vec(),
        path: None,
        server_account: None,
        doors: Doors::Open,
        limits: Limits {
            free_floor_bytes: model::ByteSize(0),
            // What nobody asked for would be found among what is left.
            warm_per_source_max: 0,
            ..Limits::default()
        },
    }
}

/// An engine over `data_dir`, once the one before it has let go.
async fn start_engine(data_dir: &Path) -> App {
    start_engine_within(data_dir, settings(data_dir).limits).await
}

async fn start_engine_within(data_dir: &Path, limits: Limits) -> App {
    let started = tokio::time::timeout(PATIENCE, async {
        loop {
            let settings = Settings {
                limits: limits.clone(),
                ..settings(data_dir)
            };
            match App::start(settings).await {
                Ok(app) => return app,
                Err(crate::EngineError::Running { .. } | crate::EngineError::Catalogue(_)) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{}", model::chain(&error)),
            }
        }
    });
    started.await.expect("the engine before has let go")
}

/// Each test has an id of its own: a branch's port is sought from its name on, and must be free when it comes back.
fn request(source: &TestPostgres, id: &str) -> EnsureBranch {
    request_at(source.url("app", "app secret", "shop"), id)
}

fn request_at(url: String, id: &str) -> EnsureBranch {
    EnsureBranch {
        id: BranchId::new(id).unwrap(),
        namespace: Namespace::default(),
        source: SourceRef::Url(Secret::new(url)),
        proxy: None,
        database: None,
        copy: CopySpec::all(),
        version: None,
        connection_settings: std::collections::BTreeMap::new(),
        ttl: Ttl(300),
        max_age_seconds: None,
        holder: None,
    }
}

/// A driver whose record is journaled, as the registry makes it, and nobody to run it.
async fn idle_driver(app: &App, request: &EnsureBranch) -> (Driver, Handle) {
    let SourceRef::Url(url) = &request.source else {
        panic!("the test asks by URL")
    };
    let name = BranchName::of(&request.namespace, &request.id);
    let created_at = app.shared.machine.clock.now();
    let source = PgUrl::parse(url.reveal()).unwrap();
    let door = open_door(&app.shared.machine, &name, created_at, &source)
        .await
        .unwrap();
    let record = BranchRecord {
        name,
        id: request.id.clone(),
        namespace: request.namespace.clone(),
        spec: Spec::of(request, url).unwrap(),
        state: State::AwaitingSnapshot,
        hold: Hold::new(request.ttl),
        clone: None,
        port: door.port(),
        created_at,
        ready_at: None,
        application_access: ApplicationAccess::Unsure,
        origin: None,
        boot_id: Some(app.shared.machine.boot_id.clone()),
        unsynced_on: app.shared.machine.volume_mount,
    };
    app.shared.machine.catalogue.put(&record).await.unwrap();
    Driver::new(Arc::clone(&app.shared), record, Newborn::grown(), door)
}

/// Does the work of the state, and loses its outcome: a crash between the doing and the journal.
async fn do_and_forget(driver: &Driver) {
    let brief = work::Brief {
        waits_tx: watch::Sender::new(None),
        record: driver.record.clone(),
        server: driver.server.clone(),
        pin: driver.pin.clone(),
    };
    let working = work::perform(
        driver.record.state.work(),
        brief,
        Arc::clone(&driver.shared),
    );
    tokio::time::timeout(PATIENCE, working)
        .await
        .expect("the work ends");
}

async fn wait_for(app: &App, name: &BranchName, phase: BranchPhase) {
    let mut view_rx = app.branches.watch(name).unwrap();
    let reached = view_rx.wait_for(|view| {
        assert_ne!(
            (view.phase, phase),
            (BranchPhase::Failed, BranchPhase::Ready),
            "{:?}",
            view.message
        );
        view.phase == phase
    });
    tokio::time::timeout(PATIENCE, reached)
        .await
        .expect("in time")
        .unwrap();
}

fn processes_below(data_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let cwds = entries.filter_map(|entry| std::fs::read_link(entry.path().join("cwd")).ok());
    cwds.filter(|cwd| cwd.starts_with(data_dir)).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// What must be left of a branch that is gone: nothing. Its base may stay.
fn assert_nothing_left(data_dir: &Path) {
    assert_eq!(processes_below(data_dir), Vec::<PathBuf>::new());
    for directory in ["volume/clones", "volume/making", "run"] {
        assert_eq!(
            names_in(&data_dir.join(directory)),
            Vec::<String>::new(),
            "{directory}"
        );
    }
}

async fn assert_answers(app: &App, name: &BranchName) {
    let url = app.branches.connection(name, None).await.unwrap().url;
    let url = url.reveal().to_owned();
    let count =
        tokio::task::spawn_blocking(move || sql::query_value(&url, "SELECT count(*) FROM t"))
            .await
            .unwrap();
    assert_eq!(count.unwrap(), "1000");
    let view = app.branches.get(name).unwrap();
    let clones = app.shared.machine.layout.clones();
    let clone = view
        .identity
        .as_deref()
        .unwrap()
        .strip_prefix("bough-")
        .unwrap();
    assert_eq!(names_in(&clones), [clone]);
    assert!(!processes_below(&clones.join(clone)).is_empty(), "{view:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn creation_survives_a_crash_at_every_step() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    for journaled in 0..=STEPS_TO_READY {
        for forgets in [false, true] {
            if forgets && journaled == STEPS_TO_READY {
                continue;
            }
            let root = TempDir::new().unwrap();
            let app = start_engine(root.path()).await;
            let (mut driver, handle) = idle_driver(&app, &request(&source, "creation")).await;
            let name = driver.record.name.clone();
            for _ in 0..journaled {
                driver.drive_one_state().await;
            }
            if forgets {
                do_and_forget(&driver).await;
            }
            let (identity, port) = (driver.record.identity(), driver.record.port);
            drop((driver, handle, app));

            let app = start_engine(root.path()).await;
            wait_for(&app, &name, BranchPhase::Ready).await;
            let view = app.branches.get(&name).unwrap();
            assert_eq!(view.endpoint, Some(format!("127.0.0.1:{port}")));
            if journaled > 0 {
                assert_eq!(view.identity, identity, "the same clone");
            }
            assert_answers(&app, &name).await;
            app.branches.delete(&name).await.unwrap();
            assert_nothing_left(root.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_and_reset_survive_a_crash_at_every_step() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    for event in [Event::DeleteAsked, Event::ResetAsked] {
        for forgets in [false, true] {
            let root = TempDir::new().unwrap();
            let app = start_engine(root.path()).await;
            let (mut driver, handle) = idle_driver(&app, &request(&source, "deletion")).await;
            let name = driver.record.name.clone();
            for _ in 0..STEPS_TO_READY {
                driver.drive_one_state().await;
            }
            driver.step(event.clone()).await.unwrap();
            if forgets {
                do_and_forget(&driver).await;
            }
            drop((driver, handle, app));

            let app = start_engine(root.path()).await;
            if event == Event::ResetAsked {
                wait_for(&app, &name, BranchPhase::Ready).await;
                assert_answers(&app, &name).await;
                app.branches.delete(&name).await.unwrap();
            } else if let Ok(mut view_rx) = app.branches.watch(&name) {
                while view_rx.changed().await.is_ok() {}
            }
            assert!(app.branches.get(&name).is_err());
            assert_nothing_left(root.path());
        }
    }
}

/// Its TTL has passed and somebody deletes it as well: neither has the removal begun again.
#[tokio::test(flavor = "multi_thread")]
async fn the_removal_of_a_branch_that_has_expired_goes_on_to_its_end() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let (mut driver, handle) = idle_driver(&app, &request(&source, "expired")).await;
    for _ in 0..STEPS_TO_READY {
        driver.drive_one_state().await;
    }
    let long_ago = Timestamp::UNIX_EPOCH;
    driver.record.hold = Hold::new(Ttl(1));
    driver.record.hold.settle(long_ago);
    driver.step(Event::Expired).await.unwrap();
    let (reply, _answer) = tokio::sync::oneshot::channel();
    handle
        .requests_tx
        .send(Request::Delete { reply })
        .await
        .unwrap();
    driver.drive_one_state().await;
    assert_eq!(driver.record.state, State::Gone);
}

/// A branch that answers, of a driver that nobody runs.
async fn ready_driver(app: &App, source: &TestPostgres, id: &str) -> (Driver, Handle) {
    let (mut driver, handle) = idle_driver(app, &request(source, id)).await;
    for _ in 0..STEPS_TO_READY {
        driver.drive_one_state().await;
    }
    assert_eq!(driver.record.state.work(), state::Work::Serve);
    (driver, handle)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_could_not_be_set_is_set_when_it_is_asked_for_again() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let (mut driver, _handle) = ready_driver(&app, &source, "password").await;
    let newer = EnsureBranch {
        source: SourceRef::Url(Secret::new(source.url("app", "a newer secret", "shop"))),
        ..request(&source, "password")
    };
    let SourceRef::Url(url) = &newer.source else {
        panic!("the test asks by URL")
    };
    let spec = Spec::of(&newer, url).unwrap();
    let clone = driver.record.clone.clone().unwrap();
    let sockets = app.shared.machine.layout.socket_dir(clone.as_str());
    let aside = sockets.with_extension("aside");
    std::fs::rename(&sockets, &aside).unwrap();
    let (_, refused) = driver.ensure(spec.clone(), newer.ttl, None).await;
    refused.expect_err("nobody answers");
    std::fs::rename(&aside, &sockets).unwrap();
    let (_, answer) = driver.ensure(spec, newer.ttl, None).await;
    assert!(answer.unwrap().reused);
    let url = driver.connection(None).unwrap().url.reveal().to_owned();
    assert!(url.contains("a%20newer%20secret"), "{url}");
    let asked =
        tokio::task::spawn_blocking(move || sql::query_value(&url, "SELECT count(*) FROM t"));
    assert_eq!(asked.await.unwrap().unwrap(), "1000");
    driver.step(Event::DeleteAsked).await.unwrap();
    driver.drive_one_state().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_mends_what_a_failed_branch_was_asked_for_has_it_unless_a_session_is_in_it() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let (mut driver, _handle) = idle_driver(&app, &request(&source, "mended")).await;
    let failure = Failure {
        message: "no such version".to_owned(),
        hint: None,
    };
    driver.record.state = State::Failed(failure);
    let url = Secret::new(source.url("app", "app secret", "shop"));
    let mended = EnsureBranch {
        copy: CopySpec::default(),
        ..request(&source, "mended")
    };
    let spec = Spec::of(&mended, &url).unwrap();
    let holder = holder("another");
    let now = app.shared.machine.clock.now();
    driver.record.hold.join(&holder, now).unwrap();
    let (_, refused) = driver.ensure(spec.clone(), mended.ttl, None).await;
    assert_eq!(refused.unwrap_err().kind, ProblemKind::SpecDiffers);
    assert!(driver.record.hold.leave(&holder.id, now));
    let (changed, answer) = driver.ensure(spec.clone(), mended.ttl, None).await;
    assert!(changed && !answer.unwrap().reused);
    assert_eq!(driver.record.state, State::AwaitingSnapshot);
    assert_eq!(driver.record.spec.view(), spec.view());
}

fn holder(id: &str) -> Holder {
    Holder {
        id: id.to_owned().try_into().expect("an id"),
        owner: "somebody".to_owned(),
        pid: 1,
        program: "inventory".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_refuses_is_neither_remembered_nor_seen() {
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let nobody = "postgres://app@127.0.0.1:1/shop";
    let asked = request_at(nobody.to_owned(), "refused");
    let (mut driver, _handle) = idle_driver(&app, &asked).await;
    let session = holder("inside");
    driver.join(&session).await.unwrap();
    let (before, seen) = (driver.record.clone(), driver.view());

    let catalogue = &app.shared.machine.catalogue;
    catalogue.refuse::<BranchRecord>(true);
    let extend = async |driver: &mut Driver| {
        let (reply, answer_rx) = oneshot::channel();
        let ttl = Ttl(299);
        driver.answer(Request::Extend { ttl, reply }).await;
        answer_rx.await.unwrap()
    };
    extend(&mut driver).await.expect_err("it is not kept");
    let spec = Spec {
        max_age_seconds: Some(5),
        url: Secret::new("postgres://app:newer@127.0.0.1:1/shop"),
        ..before.spec.clone()
    };
    let late = Some(holder("late"));
    let (changed, ensured) = driver.ensure(spec.clone(), Ttl(298), late).await;
    ensured.expect_err("it is not kept");
    let stopped = driver.stop(&session.id, "eve@box").await;
    stopped.expect_err("it is not kept");
    assert!(!changed);
    assert_eq!(driver.record, before);
    assert_eq!(driver.view(), seen);

    let failure = Failure {
        message: "no such version".to_owned(),
        hint: None,
    };
    driver.record.state = State::Failed(failure);
    let before = driver.record.clone();
    let (changed, rebuilt) = driver.ensure(spec, Ttl(297), None).await;
    rebuilt.expect_err("it is not kept");
    assert!(!changed);
    assert_eq!(driver.record, before);

    catalogue.refuse::<BranchRecord>(false);
    let view = extend(&mut driver).await.unwrap();
    assert_eq!(view.ttl_seconds, Ttl(299));
    let kept = catalogue.all::<BranchRecord>().unwrap();
    assert_eq!(kept, [driver.record.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_just_being_taken_up_again_stop_with_the_engine() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let ready = ready_driver(&app, &source, "stopping").await;
    let name = ready.0.record.name.clone();
    drop((ready, app));
    assert_ne!(processes_below(root.path()), Vec::<PathBuf>::new());

    let app = start_engine(root.path()).await;
    app.branches.stop_servers().await;
    assert_eq!(processes_below(root.path()), Vec::<PathBuf>::new());
    drop(app);

    let app = start_engine(root.path()).await;
    wait_for(&app, &name, BranchPhase::Ready).await;
    assert_answers(&app, &name).await;
    app.branches.delete(&name).await.unwrap();
    assert_nothing_left(root.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_was_stopped_with_its_engine_is_not_lost_with_the_machines_boot() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let ready = ready_driver(&app, &source, "rebooted").await;
    let name = ready.0.record.name.clone();
    drop((ready, app));
    let app = start_engine(root.path()).await;
    wait_for(&app, &name, BranchPhase::Ready).await;
    let found = |app: &App| {
        app.shared
            .machine
            .catalogue
            .all::<BranchRecord>()
            .unwrap()
            .remove(0)
    };
    let after_a_boot = |record| {
        let now = after_restart::Now {
            time: app.shared.machine.clock.now(),
            boot_id: "another".to_owned(),
            volume_mount: Some(u64::MAX),
        };
        after_restart::recover(record, &now).state
    };
    let running = after_a_boot(found(&app));
    assert!(matches!(running, State::Failing(_)), "{running:?}");
    app.branches.stop_servers().await;
    let stopped = after_a_boot(found(&app));
    assert!(matches!(stopped, State::Starting { .. }), "{stopped:?}");
    drop(app);

    let app = start_engine(root.path()).await;
    wait_for(&app, &name, BranchPhase::Ready).await;
    let running = found(&app).boot_id;
    assert_eq!(
        running.as_deref(),
        Some(app.shared.machine.boot_id.as_str())
    );
    app.branches.delete(&name).await.unwrap();
    assert_nothing_left(root.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_branches_and_connections_than_the_limits_say() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let limits = Limits {
        branches_max: 1,
        connections_per_branch_max: 17,
        ..settings(root.path()).limits
    };
    let app = start_engine_within(root.path(), limits).await;
    let first = app.branches.ensure(&request(&source, "first")).await;
    let name = first.unwrap().branch.name;
    let refused = app.branches.ensure(&request(&source, "second")).await;
    assert_eq!(refused.unwrap_err().kind, ProblemKind::LimitPassed);
    wait_for(&app, &name, BranchPhase::Ready).await;
    let url = app.branches.connection(&name, None).await.unwrap().url;
    let url = url.reveal().to_owned();
    let asked = tokio::task::spawn_blocking(move || sql::query_value(&url, "SHOW max_connections"));
    assert_eq!(asked.await.unwrap().unwrap(), "17");
    app.branches.delete(&name).await.unwrap();
    assert_nothing_left(root.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_finds_no_room_has_the_copies_dropped_that_nobody_uses() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let whole = request(&source, "room");
    let schema = EnsureBranch {
        copy: CopySpec {
            mode: model::CopyMode::Schema,
            ..CopySpec::all()
        },
        ..request(&source, "structure")
    };
    let app = start_engine(root.path()).await;
    for asked in [&whole, &schema] {
        let name = app.branches.ensure(asked).await.unwrap().branch.name;
        wait_for(&app, &name, BranchPhase::Ready).await;
        app.branches.delete(&name).await.unwrap();
    }
    drop(app);
    let snapshots = root.path().join("volume/snapshots");
    assert_eq!(names_in(&snapshots).len(), 2);

    let limits = Limits {
        free_floor_bytes: model::ByteSize(u64::MAX / 2),
        ..settings(root.path()).limits
    };
    let app = start_engine_within(root.path(), limits).await;
    let name = app.branches.ensure(&whole).await.unwrap().branch.name;
    wait_for(&app, &name, BranchPhase::Failed).await;
    let told = app.branches.get(&name).unwrap().message.unwrap();
    assert!(told.contains("no room"), "{told}");
    assert_eq!(
        names_in(&snapshots).len(),
        1,
        "its own is in use, the other in nobody's"
    );
    app.branches.delete(&name).await.unwrap();
    assert_nothing_left(root.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_branch_that_loses_its_port_takes_no_others() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_engine(root.path()).await;
    let first = idle_driver(&app, &request(&source, "port a")).await;
    let second = idle_driver(&app, &request(&source, "port b")).await;
    // They come back in the order of their names: the first one would seek from its own port on, and find the second's.
    let (mut lost, mut kept) = (first.0.record.clone(), second.0.record.clone());
    drop((first, second));
    if lost.name > kept.name {
        std::mem::swap(&mut lost, &mut kept);
    }
    let (name, source) = (&lost.name, lost.spec.url());
    let seed_port = open_door(&app.shared.machine, name, lost.created_at, &source)
        .await
        .unwrap()
        .port();
    kept.port = seed_port;
    let foreign = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    lost.port = foreign.local_addr().unwrap().port();
    for record in [&lost, &kept] {
        app.shared.machine.catalogue.put(record).await.unwrap();
    }
    drop(app);

    let app = start_engine(root.path()).await;
    for name in [&lost.name, &kept.name] {
        wait_for(&app, name, BranchPhase::Ready).await;
    }
    let port = |name| app.branches.get(name).unwrap().endpoint.unwrap();
    assert_eq!(port(&kept.name), format!("127.0.0.1:{seed_port}"));
    assert_ne!(port(&lost.name), format!("127.0.0.1:{}", lost.port));
    for name in [&lost.name, &kept.name] {
        app.branches.delete(name).await.unwrap();
    }
    assert_nothing_left(root.path());
}

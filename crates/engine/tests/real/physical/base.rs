//! Seeding, following, snapshots.

use std::time::Duration;

use engine::base::lsn::Lsn;
use engine::base::physical::fitness::{Fitness, NamedSlot, Reason, fitness};
use engine::base::physical::seed::SeedError;
use engine::base::physical::standby::{Standby, WaitError};
use engine::postgres::control_data;
use engine::postgres::server::{StopMode, sweep};
use fixtures::{Options, eventually};
use model::engine_api::{CopyPhase, CopyProgress};

use super::ground::{Ground, REPLICATOR, source, source_with, url_of, value};
use crate::stage::{WAIT_MAX, chain, working_in};

#[tokio::test]
async fn a_source_of_15_is_seeded_followed_and_branched() {
    seeded_followed_and_branched(15).await;
}

#[tokio::test]
async fn a_source_of_16_is_seeded_followed_and_branched() {
    seeded_followed_and_branched(16).await;
}

#[tokio::test]
async fn a_source_of_17_is_seeded_followed_and_branched() {
    seeded_followed_and_branched(17).await;
}

#[tokio::test]
async fn a_source_of_18_is_seeded_followed_and_branched() {
    seeded_followed_and_branched(18).await;
}

async fn seeded_followed_and_branched(major: u16) {
    let source = source(major);
    source.execute("postgres", REPLICATOR).unwrap();
    let replication_url = source.url("rep", "rep's: secret\\", "postgres");
    let ground = Ground::with(&source.superuser_url("shop"), Some(&replication_url)).await;
    let standby = ground.seed().await;
    let progress = ground.progress.borrow().clone().unwrap();
    assert_eq!(progress.phase, CopyPhase::Sealing);
    assert!(progress.copied_bytes.0 > 20 << 20, "{progress:?}");
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('after the seed')")
        .unwrap();
    ground.catch_up(&standby).await;
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('before it')")
        .unwrap();
    let (place, mut snapshot) = ground.snapshot(&standby, "snap").await;
    assert!(control_data::read(&place.data()).unwrap().is_shut_down);
    assert_eq!(working_in(&place.directory), [] as [u32; 0]);
    let now = ground.moment(&standby).await;
    assert!(snapshot.held.covers(&now), "nothing was written since");
    let branch = ground.serve(&place, &snapshot.copied).await;
    assert_eq!(branch.value("SELECT count(*) FROM item").await, "1002");
    assert_eq!(branch.value("SHOW cluster_name").await, "bough-test");
    assert!(branch.lets_in("shop", "postgres", "postgres").await);
    assert!(!branch.lets_in("shop", "postgres", "wrong").await);
    let insert = "INSERT INTO item (name) VALUES ('on the branch') RETURNING 1";
    branch.value(insert).await;
    branch.stop().await;
    let count = source.query_value("shop", "SELECT count(*) FROM item");
    assert_eq!(count.unwrap(), "1002");
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('later')")
        .unwrap();
    let now = ground.moment(&standby).await;
    assert!(!snapshot.held.covers(&now), "a row was written since");
    standby.stop(StopMode::Fast).await.unwrap();
    assert_eq!(working_in(ground.home.path()), [] as [u32; 0]);
}

#[tokio::test]
async fn nothing_of_the_sources_configuration_and_no_secret_beside_its_data_comes_with_it() {
    let source = source(16);
    source
        .execute("postgres", "ALTER SYSTEM SET work_mem = '77MB'")
        .unwrap();
    let key = source.data_directory().join("server.key");
    std::fs::write(&key, "the source's private key").unwrap();
    readable_by_all(&key);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let data = standby.place().data();
    assert!(!data.join("server.key").exists());
    assert!(!data.join("postgresql.auto.conf").exists());
    let conf = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
    assert!(!conf.contains("password="), "{conf}");
    let (place, snapshot) = ground.snapshot(&standby, "snap").await;
    assert!(!place.data().join("replication.pass").exists());
    let branch = ground.serve(&place, &snapshot.copied).await;
    assert_ne!(branch.value("SHOW work_mem").await, "77MB");
    assert_eq!(branch.value("SHOW primary_conninfo").await, "");
    branch.stop().await;
    standby.stop(StopMode::Immediate).await.unwrap();
}

fn readable_by_all(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

#[tokio::test]
async fn the_sources_password_is_only_where_the_servers_account_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let passfile = standby.place().passfile();
    let mode = std::fs::metadata(&passfile).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for pid in working_in(ground.home.path()) {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains("postgres:postgres"), "{file}: {text}");
            assert!(!text.to_lowercase().contains("password"), "{file}: {text}");
        }
    }
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_position_behind_a_page_header_is_reached() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    // Right after a switch the next record's place is behind the header of a page that does not exist yet.
    for _ in 0..3 {
        source
            .execute("shop", "INSERT INTO item (name) VALUES ('x')")
            .unwrap();
        source.execute("shop", "SELECT pg_switch_wal()").unwrap();
        let moment = ground.moment(&standby).await;
        let reached = standby
            .wait_replayed(&moment, Duration::from_secs(20))
            .await;
        assert!(reached.is_ok(), "{moment:?}: {reached:?}");
    }
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn an_asynchronous_commit_is_waited_for() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    for round in 1..=5 {
        let write = "SET synchronous_commit = off; INSERT INTO item (name) VALUES ('asynchronous')";
        source.execute("shop", write).unwrap();
        ground.catch_up(&standby).await;
        let there = standby_value(&standby, "SELECT count(*) FROM item").await;
        assert_eq!(there, (1000 + round).to_string());
    }
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_sequence_that_moved_and_nothing_else_is_seen() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    source.execute("shop", "CREATE SEQUENCE counter").unwrap();
    source.execute("shop", "SELECT nextval('counter')").unwrap();
    let (place, mut snapshot) = ground.snapshot(&standby, "snap").await;
    let now = ground.moment(&standby).await;
    assert!(snapshot.held.covers(&now));
    let last = source
        .query_value("shop", "SELECT nextval('counter')")
        .unwrap();
    let now = ground.moment(&standby).await;
    // Its WAL ran ahead of it, so that the copy may hold it all the same: but never less than the source gave.
    let covers = snapshot.held.covers(&now);
    let branch = ground.serve(&place, &snapshot.copied).await;
    let next: i64 = branch
        .value("SELECT nextval('counter')")
        .await
        .parse()
        .unwrap();
    if covers {
        assert!(next > last.parse().unwrap(), "{next} was given already");
    }
    branch.stop().await;
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_is_open_since_before_is_not_there_until_it_commits() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let open = ground.upstream.access.connect().await.unwrap();
    let begin = "BEGIN; INSERT INTO item (name) VALUES ('open')";
    open.batch_execute(begin).await.unwrap();
    let (place, mut snapshot) = ground.snapshot(&standby, "snap").await;
    open.batch_execute("COMMIT").await.unwrap();
    let now = ground.moment(&standby).await;
    assert!(!snapshot.held.covers(&now), "it committed since");
    let branch = ground.serve(&place, &snapshot.copied).await;
    assert_eq!(branch.value("SELECT count(*) FROM item").await, "1000");
    branch.stop().await;
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_has_its_record_and_does_not_show_yet_is_not_taken_for_held() {
    let mut source = source(16);
    let ground = Ground::of(&source).await;
    source
        .configure("synchronous_standby_names", "nobody")
        .unwrap();
    source.restart().unwrap();
    let standby = ground.seed().await;
    let (_, mut snapshot) = ground.snapshot(&standby, "snap").await;
    let url = source.superuser_url("shop");
    let write = std::thread::spawn(move || {
        fixtures::sql::execute(&url, "UPDATE item SET name = 'late' WHERE id = 1")
    });
    let waiting = "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let pid = eventually("a commit that waits", Duration::from_secs(20), || {
        let pid = source.query_value("postgres", waiting)?;
        Ok((pid != "0").then_some(pid))
    })
    .unwrap();
    let now = ground.moment(&standby).await;
    assert!(snapshot.held.covers(&now), "nobody sees it yet");
    let cancel = format!("SELECT pg_cancel_backend({pid})");
    source.query_value("postgres", &cancel).unwrap();
    write.join().unwrap().unwrap();
    let later = ground.moment(&standby).await;
    assert!(!snapshot.held.covers(&later), "it was committed since");
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_or_a_vacuum_on_the_source_is_no_change() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let (_, mut snapshot) = ground.snapshot(&standby, "snap").await;
    let now = ground.moment(&standby).await;
    assert!(snapshot.held.covers(&now));
    source.execute("shop", "CHECKPOINT").unwrap();
    let later = ground.moment(&standby).await;
    assert!(later.lsn > now.lsn, "a checkpoint is in the WAL");
    assert!(snapshot.held.covers(&later), "and is no row");
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_wait_behind_a_dead_connection_ends() {
    let mut source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let moment = ground.moment(&standby).await;
    source.stop().unwrap();
    let waited = tokio::time::timeout(WAIT_MAX, async {
        while standby.progress().await.unwrap().streams_on.is_some() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
    let refused = standby
        .wait_replayed(&moment, Duration::from_millis(300))
        .await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, WaitError::TimedOut { streams: false, .. }),
        "{refused}"
    );
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_standby_outlives_its_engine_and_is_adopted() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let fit = ground.fit().await;
    let (place, seeded) = (standby.place().clone(), standby.seeded().clone());
    drop(standby);
    source
        .execute(
            "shop",
            "INSERT INTO item (name) VALUES ('without an engine')",
        )
        .unwrap();
    let adopted = Standby::adopt(ground.host.clone(), place, seeded, fit.reach).await;
    let adopted = adopted.unwrap().expect("it lives");
    ground.catch_up(&adopted).await;
    assert_eq!(
        standby_value(&adopted, "SELECT count(*) FROM item").await,
        "1001"
    );
    assert!(adopted.look().await.suffices);
    adopted.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_seed_that_is_given_up_leaves_nothing_running() {
    let source = source_with(Options::new(16));
    let fill = "CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    source.execute("shop", fill).unwrap();
    let ground = Ground::of(&source).await;
    let fit = ground.fit().await;
    let place = ground.place("base");
    let seeding = ground.try_seed(&fit, &place);
    tokio::select! {
        biased;
        _ = seeding => panic!("it ended before it was given up"),
        () = begun(&place.directory) => {}
    }
    let gone = tokio::time::timeout(WAIT_MAX, async {
        while !working_in(&place.directory).is_empty() {
            tokio::task::yield_now().await;
        }
    });
    gone.await.expect("everything ends");
    let left = source.query_value(
        "postgres",
        "SELECT count(*) FROM pg_replication_slots WHERE NOT temporary",
    );
    assert_eq!(left.unwrap(), "0");
}

#[tokio::test]
async fn a_seed_that_a_killed_engine_left_is_found_and_ended() {
    let source = source(16);
    let fill = "CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    source.execute("shop", fill).unwrap();
    let ground = Ground::of(&source).await;
    let fit = ground.fit().await;
    let place = ground.place("base");
    let data = place.data();
    let sweeping = async {
        begun(&place.directory).await;
        sweep(&data).await
    };
    let (seeded, swept) = tokio::join!(ground.try_seed(&fit, &place), sweeping);
    swept.unwrap();
    assert!(matches!(seeded, Err(SeedError::Run(_))), "{seeded:?}");
    assert_eq!(working_in(&place.directory), [] as [u32; 0]);
}

fn named(name: &str) -> NamedSlot<'_> {
    NamedSlot {
        name,
        unbounded: false,
    }
}

#[tokio::test]
async fn a_slot_that_somebody_made_is_used_where_the_source_bounds_it() {
    let source = source_with(Options::new(16).setting("max_slot_wal_keep_size", "64MB"));
    let make = "SELECT pg_create_physical_replication_slot('for_bough')";
    source.execute("postgres", make).unwrap();
    let ground = Ground::of(&source).await;
    let found = fitness(&ground.upstream, &ground.host, Some(named("for_bough"))).await;
    let Ok(Fitness::Fit(fit)) = found else {
        panic!("{found:?}");
    };
    let standby = ground.try_seed(&fit, &ground.place("base")).await.unwrap();
    ground.catch_up(&standby).await;
    let slots = "SELECT string_agg(slot_name || ' ' || active, ',') FROM pg_replication_slots";
    let found = source.query_value("postgres", slots);
    assert_eq!(found.unwrap(), "for_bough true");
    let missing = fitness(&ground.upstream, &ground.host, Some(named("nobodys"))).await;
    let Ok(Fitness::Unfit { reasons }) = missing else {
        panic!("{missing:?}");
    };
    assert!(
        matches!(reasons[..], [Reason::NoSlot { .. }]),
        "{reasons:?}"
    );
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_read_replica_is_a_source_as_well() {
    let primary = source(16);
    let first = Ground::of(&primary).await;
    let replica = first.seed().await;
    let ground = Ground::with(&url_of(&replica), None).await;
    let standby = ground.seed().await;
    primary
        .execute("shop", "INSERT INTO item (name) VALUES ('on the primary')")
        .unwrap();
    first.catch_up(&replica).await;
    let follower = ground.follower(&standby, "f").await;
    let (place, mut snapshot) = ground.snapshot(&standby, "snap").await;
    let now = ground.moment(&standby).await;
    assert!(snapshot.held.covers(&now), "{now:?}");
    let branch = ground.serve(&place, &snapshot.copied).await;
    assert_eq!(branch.value("SELECT count(*) FROM item").await, "1001");
    branch.stop().await;
    primary
        .execute("shop", "INSERT INTO item (name) VALUES ('and another')")
        .unwrap();
    first.catch_up(&replica).await;
    let now = ground.moment(&standby).await;
    assert!(!snapshot.held.covers(&now), "a row was replayed since");
    let branch = ground.promote(&standby, follower).await;
    assert_eq!(branch.value("SELECT count(*) FROM item").await, "1002");
    branch.stop().await;
    standby.stop(StopMode::Immediate).await.unwrap();
    replica.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_shows_on_a_replica_is_in_its_moment() {
    let primary = source(16);
    let first = Ground::of(&primary).await;
    let replica = first.seed().await;
    let ground = Ground::with(&url_of(&replica), None).await;
    let standby = ground.seed().await;
    // Its files are dropped between the moment at which the commit shows and that at which it counts as replayed.
    let make = "DO $$ BEGIN FOR n IN 1..2000 LOOP EXECUTE 'CREATE TABLE t' || n || ' ()'; END LOOP; END $$";
    primary.execute("shop", make).unwrap();
    first.catch_up(&replica).await;
    let writer = first.upstream.access.connect().await.unwrap();
    let drop = "BEGIN; INSERT INTO item (name) VALUES ('shows'); \
         DO $$ BEGIN FOR n IN 1..2000 LOOP EXECUTE 'DROP TABLE t' || n; END LOOP; END $$";
    writer.batch_execute(drop).await.unwrap();
    let position = "SELECT pg_current_wal_insert_lsn()";
    let before: Lsn = value(&writer, position).await.parse().unwrap();
    let look = "SELECT count(*) FROM item WHERE name = 'shows'";
    let reader = ground.upstream.access.connect().await.unwrap();
    assert_eq!(value(&reader, look).await, "0");
    writer.batch_execute("COMMIT").await.unwrap();
    while value(&reader, look).await == "0" {
        tokio::task::yield_now().await;
    }
    let now = ground.moment(&standby).await;
    assert!(now.lsn > before, "{} and {before}", now.lsn);
    standby.stop(StopMode::Immediate).await.unwrap();
    replica.stop(StopMode::Immediate).await.unwrap();
}

/// Waits until something works in a directory.
async fn begun(directory: &std::path::Path) {
    while working_in(directory).is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn standby_value(standby: &Standby, statement: &str) -> String {
    let seeded = standby.seeded();
    let socket_dir = &standby.place().socket_dir;
    let session = super::ground::enter(socket_dir, &seeded.database, &seeded.superuser).await;
    super::ground::value(&session, statement).await
}

#[tokio::test]
async fn a_wait_for_the_sources_checkpoint_is_told_with_what_ends_it() {
    // A checkpoint that nobody hurries is spread over a tenth of this.
    let options = Options::new(16)
        .setting("checkpoint_timeout", "30s")
        .setting("checkpoint_completion_target", "0.1");
    let source = source_with(options);
    let made = "CREATE ROLE patient LOGIN REPLICATION PASSWORD 'patient'; \
         CREATE TABLE written AS SELECT generate_series(1, 200000)";
    source.execute("postgres", made).unwrap();
    let replication_url = source.url("patient", "patient", "postgres");
    let ground = Ground::with(&source.superuser_url("shop"), Some(&replication_url)).await;
    let (fit, place) = (ground.fit().await, ground.place("base"));
    let mut told = ground.progress.subscribe();
    let told = async {
        let phase = |told: &Option<CopyProgress>| told.as_ref().map(|told| told.phase);
        let waits = |told: &Option<CopyProgress>| phase(told) == Some(CopyPhase::Checkpoint);
        let waiting = told.wait_for(waits).await.unwrap().clone().unwrap();
        let copying = told.wait_for(|told| !waits(told)).await.unwrap().clone();
        (waiting, copying.unwrap())
    };
    let (seeded, told) = tokio::join!(
        ground.try_seed(&fit, &place),
        tokio::time::timeout(WAIT_MAX, told)
    );
    let standby = seeded.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let (waiting, copying) = told.expect("it waits for the checkpoint");
    assert_eq!(
        waiting.advice.as_deref(),
        Some(
            "its checkpoint_timeout at most; GRANT pg_checkpoint TO \"patient\" makes it begin at once"
        )
    );
    assert_eq!(copying.phase, CopyPhase::Copying);
    assert_eq!(copying.advice, None);
    assert!(
        copying.estimate_seconds > waiting.estimate_seconds,
        "the estimate is without the wait: {copying:?}"
    );
    standby.stop(StopMode::Immediate).await.unwrap();
}

//! Copies that end early: whatever the reason, nothing is left running and the error says what happened.

use std::time::Duration;

use engine::base::copy::CopyError;
use fixtures::TestPostgres;
use model::engine_api::{CopyPhase, CopyProgress, ProblemKind};
use model::{CopyMode, CopySpec, TableFilter};
use tokio_postgres::NoTls;

use crate::stage::{Stage, WAIT_MAX, access, chain, source};

/// A source whose copy cannot end: somebody holds a lock on a table after a large one.
async fn locked() -> (TestPostgres, tokio_postgres::Client) {
    let source = source(16);
    let made = "CREATE TABLE bulk AS SELECT n, repeat(md5(n::text), 10) AS text FROM generate_series(1, 1000) n; \
         CREATE TABLE guarded (id integer); INSERT INTO guarded VALUES (1)";
    source.execute("postgres", made).unwrap();
    let url = source.superuser_url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("BEGIN; LOCK TABLE guarded")
        .await
        .unwrap();
    (source, client)
}

/// Waits until `pg_dump` stands before the lock.
async fn waits_for_lock(client: &tokio_postgres::Client) {
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'guarded'::regclass";
    let waited = tokio::time::timeout(WAIT_MAX, async {
        while client
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {}
    });
    waited.await.expect("the copy comes to the lock");
}

#[tokio::test]
async fn a_source_that_dies_in_mid_copy_is_told_and_leaves_nothing() {
    let (mut source, client) = locked().await;
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    let spec = CopySpec::all();
    let copying = stage.copy(&access, &spec);
    let mut copying = std::pin::pin!(copying);
    tokio::select! {
        ended = &mut copying => panic!("it ended before the source died: {ended:?}"),
        () = waits_for_lock(&client) => {}
    }
    source.kill().unwrap();
    let refused = copying.await.unwrap_err();
    assert_eq!(refused.kind(), ProblemKind::Source);
    assert!(
        refused.hint().unwrap().contains("check that"),
        "{:?}",
        refused.hint()
    );
    let told = chain(&refused);
    assert!(
        told.contains("pg_dump failed") && told.contains("closed the connection"),
        "{told}"
    );
    stage.nothing_runs().await;
}

#[tokio::test]
async fn a_copy_that_is_given_up_leaves_nothing_here_and_there() {
    let (source, client) = locked().await;
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    {
        let spec = CopySpec::all();
        let copying = stage.copy(&access, &spec);
        let mut copying = std::pin::pin!(copying);
        tokio::select! {
            ended = &mut copying => panic!("it ended before it was given up: {ended:?}"),
            () = waits_for_lock(&client) => {}
        }
    }
    stage.nothing_runs().await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bough'";
    client.batch_execute("COMMIT").await.unwrap();
    let waited = tokio::time::timeout(WAIT_MAX, async {
        while client
            .query_one(sessions, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
        {}
    });
    waited
        .await
        .expect("the source has no session of ours left");
}

#[tokio::test]
async fn a_copy_that_takes_too_long_ends() {
    let (source, client) = locked().await;
    let mut stage = Stage::new().await;
    stage.burden.held_max = Duration::from_secs(8);
    let access = access(&source.superuser_url("postgres"));
    let refused = stage.copy(&access, &CopySpec::all()).await.unwrap_err();
    assert_eq!(refused.to_string(), "the copy did not end within 8 s");
    assert!(refused.hint().unwrap().contains("copy_seconds_max"));
    let progress = stage.progress.borrow().clone().unwrap();
    assert_eq!(progress.phase, CopyPhase::Copying);
    stage.nothing_runs().await;
    drop(client);
}

/// A migration waits behind the copy, and the application behind the migration.
#[tokio::test]
async fn a_copy_gives_way_to_who_waits_for_a_table_that_it_reads() {
    let (source, client) = locked().await;
    let mut stage = Stage::new().await;
    stage.burden.waited_max = Duration::from_secs(2);
    let access = access(&source.superuser_url("postgres"));
    let url = source.superuser_url("postgres");
    let spec = CopySpec::all();
    let migrated = async {
        waits_for_lock(&client).await;
        let migration = "ALTER TABLE bulk ADD COLUMN later integer";
        let migrating =
            tokio::task::spawn_blocking(move || fixtures::sql::execute(&url, migration));
        migrating.await.unwrap().unwrap();
    };
    let (refused, ()) = tokio::join!(stage.copy(&access, &spec), migrated);
    let refused = refused.unwrap_err();
    assert!(
        matches!(&refused, CopyError::InTheWay { table, seconds: 2 } if table == "bulk"),
        "{}",
        chain(&refused)
    );
    assert!(refused.hint().unwrap().contains("copy_waited_seconds_max"));
    stage.nothing_runs().await;
    drop(client);
}

/// A snapshot does not see what a table held before a TRUNCATE that came after it: the table would be empty.
#[tokio::test]
async fn a_table_that_is_emptied_while_the_copy_begins_is_noticed() {
    let filtered = CopySpec {
        mode: CopyMode::Schema,
        tables: [("guarded".to_owned(), TableFilter::default())]
            .into_iter()
            .collect(),
        dump_args: Vec::new(),
    };
    for spec in [CopySpec::all(), filtered] {
        let (source, client) = locked().await;
        client.batch_execute("COMMIT").await.unwrap();
        let stage = Stage::new().await;
        let access = access(&source.superuser_url("postgres"));
        let emptied = async {
            // Everything has been asked by then, and the snapshot is not taken yet.
            let mut progress = stage.progress.subscribe();
            let is_preparing = |progress: &Option<CopyProgress>| {
                progress
                    .as_ref()
                    .is_some_and(|progress| progress.phase == CopyPhase::Preparing)
            };
            progress.wait_for(is_preparing).await.unwrap();
            client
                .batch_execute("BEGIN; LOCK TABLE guarded")
                .await
                .unwrap();
            waits_for_lock(&client).await;
            client
                .batch_execute("TRUNCATE guarded; COMMIT")
                .await
                .unwrap();
        };
        let (copied, ()) = tokio::join!(stage.copy(&access, &spec), emptied);
        let refused = copied.unwrap_err();
        let CopyError::Changed { tables } = &refused else {
            panic!("{}", chain(&refused));
        };
        assert_eq!(tables, &["public.guarded"]);
        assert_eq!(refused.hint().unwrap(), "ask again");
        stage.nothing_runs().await;
        let copied = stage.copy(&access, &spec).await;
        copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
}

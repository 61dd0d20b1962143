//! What a subscription does not carry, or cannot apply, is noticed, and the base is copied again.

use engine::base::logical::snapshot::SnapshotError;
use engine::base::logical::tending::{Cause, OwnCause};

use super::ground::{Ground, follows, source};

#[tokio::test]
async fn every_changed_definition_is_noticed_before_a_snapshot_and_by_a_look() {
    let source = source(16);
    let changes = [
        "CREATE TABLE another (id int PRIMARY KEY)",
        "ALTER TABLE item ADD COLUMN price numeric DEFAULT 1",
        "ALTER TABLE item DROP COLUMN price",
        "ALTER TABLE item ALTER COLUMN name TYPE varchar(40)",
        // Rows are written anew by each, and the definition is the same in the end.
        "ALTER TABLE item ALTER COLUMN name TYPE text USING 'x'; \
         ALTER TABLE item ALTER COLUMN name TYPE varchar(40)",
        "CREATE INDEX ON item (name)",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "ALTER TABLE item ADD CONSTRAINT named CHECK (name <> '')",
        "CREATE VIEW names AS SELECT name FROM item",
        "CREATE TYPE mood AS ENUM ('fine')",
        "ALTER TYPE mood ADD VALUE 'finer'",
        "GRANT SELECT ON item TO PUBLIC",
        "ALTER TABLE item RENAME TO article",
        "DROP TABLE another",
        "CREATE SCHEMA apart",
        "SELECT lo_create(0)",
        "ALTER PUBLICATION everything SET (publish = 'insert')",
    ];
    let session = Ground::of(&source).await;
    let session = session.upstream.access.connect().await.unwrap();
    let mut last = engine::base::logical::fingerprint::Fingerprint::read(&session)
        .await
        .unwrap();
    for change in changes {
        source.execute("shop", change).unwrap();
        let now = engine::base::logical::fingerprint::Fingerprint::read(&session)
            .await
            .unwrap();
        assert_ne!(now, last, "{change}");
        last = now;
    }
    // What defines nothing changes nothing.
    let other = [
        "INSERT INTO article (name) VALUES ('a row')",
        "TRUNCATE article",
        "VACUUM (FREEZE, ANALYZE)",
        "VACUUM FULL article",
        "SELECT nextval('item_id_seq')",
        "CHECKPOINT",
    ];
    for statement in other {
        source.execute("shop", statement).unwrap();
        let now = engine::base::logical::fingerprint::Fingerprint::read(&session)
            .await
            .unwrap();
        assert_eq!(now, last, "{statement}");
    }
    // What another session has for itself, while it has it.
    let url = source.superuser_url("shop");
    let (passing, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    passing
        .batch_execute(
            "CREATE TEMP TABLE passing (id serial PRIMARY KEY, x text CHECK (x <> '')); \
             CREATE TEMP TABLE parts (n int) PARTITION BY RANGE (n); \
             CREATE TEMP TABLE part PARTITION OF parts FOR VALUES FROM (1) TO (2); \
             CREATE TEMP TABLE child () INHERITS (passing); \
             CREATE STATISTICS pg_temp.both ON id, x FROM passing; \
             CREATE TEMP VIEW v AS SELECT 1",
        )
        .await
        .unwrap();
    let now = engine::base::logical::fingerprint::Fingerprint::read(&session)
        .await
        .unwrap();
    assert_eq!(now, last, "temporary objects");
}

#[tokio::test]
async fn a_new_column_ends_a_base_before_anything_is_made_of_it() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    source
        .execute("shop", "ALTER TABLE item ADD COLUMN price numeric")
        .unwrap();
    let refused = ground
        .try_snapshot(&subscriber, &ground.place("none"))
        .await;
    assert!(
        matches!(refused, Err(SnapshotError::Changed)),
        "{refused:?}"
    );
    assert_eq!(
        ground.cause(&subscriber).await,
        Cause::Own(OwnCause::Definitions)
    );
}

#[tokio::test]
async fn a_slot_that_somebody_dropped_is_told() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    ground.tend_until(&subscriber, follows).await;
    let session = ground.upstream.access.connect().await.unwrap();
    engine::base::logical::slot::drop_slot(&session, &subscriber.seeded().slot)
        .await
        .unwrap();
    assert_eq!(
        ground.cause(&subscriber).await,
        Cause::Own(OwnCause::SlotGone)
    );
}

/// Settles a setting of a running source's anew.
fn set(source: &fixtures::TestPostgres, name: &str, value: &str) {
    let statement = format!("ALTER SYSTEM SET {name} = '{value}'");
    source.execute("shop", &statement).unwrap();
    source.execute("shop", "SELECT pg_reload_conf()").unwrap();
}

#[tokio::test]
async fn a_source_whose_commits_would_wait_for_us_from_now_on_is_left() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    ground.tend_until(&subscriber, follows).await;
    set(&source, "synchronous_standby_names", "ANY 1 (*)");
    assert_eq!(
        ground.cause(&subscriber).await,
        Cause::Own(OwnCause::WaitsForUs)
    );
}

#[tokio::test]
async fn a_source_that_unbinds_our_slot_is_left() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    ground.tend_until(&subscriber, follows).await;
    set(&source, "max_slot_wal_keep_size", "-1");
    assert_eq!(
        ground.cause(&subscriber).await,
        Cause::Own(OwnCause::Unbounded)
    );
}

#[tokio::test]
async fn a_change_that_cannot_be_applied_is_told_with_its_reason() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    ground.tend_until(&subscriber, follows).await;
    // Somebody who should not was here.
    let copied = &subscriber.seeded().copied;
    let intruder = engine::postgres::connect::connect_local(
        &subscriber.place().socket_dir,
        &copied.database,
        engine::postgres::initdb::ADMIN_ROLE,
        &copied.admin_password,
    )
    .await
    .unwrap();
    intruder
        .batch_execute("INSERT INTO item (id, name) VALUES (1001, 'in the way')")
        .await
        .unwrap();
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('the source''s')")
        .unwrap();
    let cause = ground.cause(&subscriber).await;
    let Cause::Own(OwnCause::Conflict { said }) = cause else {
        panic!("{cause:?}");
    };
    assert!(said.contains("item_pkey"), "{said}");
}

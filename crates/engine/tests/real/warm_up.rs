//! Warm clones: what the first client would wait for has been looked at, and nothing has changed.

use engine::clone::warm_up::warm_up;
use model::CopySpec;

use crate::stage::{Stage, access, chain, source};

const TABLES: &str = "CREATE TABLE \"Keyed 'x'\" (\"A b\" int, c text, PRIMARY KEY (\"A b\", c)); \
     INSERT INTO \"Keyed 'x'\" SELECT n, 'c' FROM generate_series(1, 5000) n; \
     CREATE TABLE plain AS SELECT n FROM generate_series(1, 5000) n; \
     CREATE TABLE empty (n int PRIMARY KEY); ANALYZE";

/// How often a table was read by its index, and from its beginning, as its server counts.
const READS: &str = "SELECT string_agg(format('%s %s %s', relname, coalesce(idx_scan, 0), seq_scan), ', ' ORDER BY relname) \
     FROM pg_stat_user_tables";

async fn the_ends_of_tables_are_read(major: u16) {
    let source = source(major);
    source.execute("postgres", "CREATE DATABASE shop").unwrap();
    source.execute("shop", TABLES).unwrap();
    let stage = Stage::new().await;
    let url = source.superuser_url("shop");
    let copied = stage.copy(&access(&url), &CopySpec::all()).await;
    let branch = stage
        .serve(&copied.unwrap_or_else(|error| panic!("{}", chain(&error))))
        .await;
    let admin = branch.admin("shop").await;
    admin
        .batch_execute("ANALYZE; SELECT pg_stat_reset()")
        .await
        .unwrap();
    let session = branch.admin("shop").await;
    warm_up(&session).await;
    // Counts are shared a second after the last at the latest, or when somebody insists (pg_stat_force_next_flush).
    session
        .batch_execute("SELECT pg_stat_force_next_flush()")
        .await
        .unwrap();
    let reads: String = admin.query_one(READS, &[]).await.unwrap().get(0);
    assert_eq!(reads, "Keyed 'x' 1 0, empty 0 0, plain 0 1", "{major}");
    let held: i64 = admin
        .query_one("SELECT count(*) FROM plain", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(held, 5000);
    branch.stop().await;
}

#[tokio::test]
async fn the_ends_of_tables_are_read_on_15() {
    the_ends_of_tables_are_read(15).await;
}

#[tokio::test]
async fn the_ends_of_tables_are_read_on_18() {
    the_ends_of_tables_are_read(18).await;
}

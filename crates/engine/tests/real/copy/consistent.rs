//! A copy is one moment of a source that is being written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::CopySpec;
use tokio_postgres::NoTls;

use crate::stage::{Stage, access, chain, position, source};

/// Two tables whose sums belong together, a counter that grows with each transfer, and bulk, so that the copy takes a while.
const ACCOUNTS: &str = "CREATE TABLE here (id integer PRIMARY KEY, amount bigint NOT NULL); \
     CREATE TABLE there (id integer PRIMARY KEY, amount bigint NOT NULL); \
     CREATE TABLE transfers (id bigserial PRIMARY KEY, amount bigint NOT NULL); \
     CREATE TABLE bulk AS SELECT n, repeat(md5(n::text), 10) AS text FROM generate_series(1, 60000) n; \
     INSERT INTO here SELECT n, 1000 FROM generate_series(1, 100) n; \
     INSERT INTO there SELECT n, 1000 FROM generate_series(1, 100) n;";

/// One transfer: both sums and the counter change in one transaction.
const TRANSFER: &str = "BEGIN; \
     UPDATE here SET amount = amount - 3 WHERE id = (SELECT 1 + (random() * 99)::integer); \
     UPDATE there SET amount = amount + 3 WHERE id = (SELECT 1 + (random() * 99)::integer); \
     INSERT INTO transfers (amount) VALUES (3); COMMIT";

async fn write(url: String, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let (client, connection) = tokio_postgres::connect(&url, NoTls)
        .await
        .expect("the writer gets in");
    let connection = tokio::spawn(connection);
    while !stop.load(Ordering::Relaxed) {
        client
            .batch_execute(TRANSFER)
            .await
            .expect("the transfer works");
        written.fetch_add(1, Ordering::Relaxed);
    }
    drop(client);
    connection
        .await
        .expect("the connection ends")
        .expect("and ends well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_never_leave_half_a_transfer_in_a_copy() {
    let source = source(16);
    source.execute("postgres", ACCOUNTS).unwrap();
    let url = source.superuser_url("postgres");
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(write(url.clone(), stop.clone(), written.clone())))
        .collect();
    while written.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let stage = Stage::new().await;
    let before = written.load(Ordering::Relaxed);
    let copied = stage.copy(&access(&url), &CopySpec::all()).await;
    let after = written.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(
        after > before + 10,
        "the writers were at work all the while: {before} to {after}"
    );
    let branch = stage.serve(&copied).await;
    let sums = "SELECT (SELECT sum(amount) FROM here) || ' ' || (SELECT sum(amount) FROM there) || ' ' || \
         (SELECT coalesce(sum(amount), 0) FROM transfers)";
    let sums = branch.value(sums).await;
    let [here, there, moved] = sums
        .split(' ')
        .map(|sum| sum.parse::<i64>().unwrap())
        .collect::<Vec<_>>()[..]
    else {
        panic!("{sums}");
    };
    assert_eq!((here + moved, there - moved), (100_000, 100_000), "{sums}");
    assert!(
        moved >= 3 * i64::try_from(before).unwrap(),
        "the moment is after the copy was asked for"
    );
    // Sequences move outside of transactions: never behind the rows, at most by what was in flight ahead.
    let next: i64 = branch
        .value("SELECT nextval('transfers_id_seq')")
        .await
        .parse()
        .unwrap();
    let last: i64 = branch
        .value("SELECT max(id) FROM transfers")
        .await
        .parse()
        .unwrap();
    assert!(next > last, "{next} was given before, up to {last}");
    let moved_since = position(&access(&url)).await;
    assert!(!moved_since.unmoved_since(&copied.position));
    branch.stop().await;
}

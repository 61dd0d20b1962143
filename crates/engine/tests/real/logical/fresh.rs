//! What was committed before a snapshot was asked for is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::base::logical::subscriber::Subscriber;
use engine::postgres::server::StopMode;
use fixtures::TestPostgres;
use model::Secret;

use super::ground::{Ground, follows, retire, slots, source};
use crate::stage::chain;

const COUNT: &str = "SELECT count(*) FROM item";

async fn follows_row_by_row(major: u16) {
    let source = source(major);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    source
        .execute(
            "shop",
            "INSERT INTO item (name) VALUES ('late'); UPDATE item SET name = 'other' WHERE id = 1; \
             DELETE FROM item WHERE id = 2",
        )
        .unwrap();
    let branch = ground.branch(&subscriber, "one").await;
    assert_eq!(branch.value(COUNT).await, "1000");
    let late = branch.value("SELECT max(name) FILTER (WHERE id = 1001) FROM item");
    assert_eq!(late.await, "late");
    let changed = branch.value("SELECT name FROM item WHERE id = 1");
    assert_eq!(changed.await, "other");
    // Its numbers go on where the source's stand, and nothing in it knows of the source.
    let next = branch.value("INSERT INTO item (name) VALUES ('mine') RETURNING id");
    assert_eq!(next.await, "1002");
    let known = branch.value("SELECT count(*) FROM pg_subscription");
    assert_eq!(known.await, "0");
    branch.stop().await;
    // The base goes on.
    source.execute("shop", "TRUNCATE item").unwrap();
    let branch = ground.branch(&subscriber, "two").await;
    assert_eq!(branch.value(COUNT).await, "0");
    branch.stop().await;
    assert_eq!(slots(&source), "1");
    retire(&ground, subscriber).await;
    assert_eq!(slots(&source), "0");
}

#[tokio::test]
async fn a_source_of_15_is_followed_row_by_row() {
    follows_row_by_row(15).await;
}

#[tokio::test]
async fn a_source_of_16_is_followed_row_by_row() {
    follows_row_by_row(16).await;
}

#[tokio::test]
async fn a_source_of_17_is_followed_row_by_row() {
    follows_row_by_row(17).await;
}

#[tokio::test]
async fn a_source_of_18_is_followed_row_by_row() {
    follows_row_by_row(18).await;
}

/// Writes without a pause, a commit each, until told to stop.
fn write_on(source: &TestPostgres, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (url, stop) = (source.superuser_url("shop"), Arc::clone(stop));
    std::thread::spawn(move || {
        let statement = "INSERT INTO item (name) VALUES ('busy')";
        while !stop.load(Ordering::Relaxed) {
            fixtures::sql::execute(&url, statement).unwrap();
        }
    })
}

#[tokio::test]
async fn a_row_that_was_committed_right_before_is_there_while_others_write() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write_on(&source, &stop);
    for round in 0..3 {
        // Asynchronously: seen by others before it is in the flushed WAL.
        let mark = format!(
            "SET synchronous_commit = off; INSERT INTO item (name) VALUES ('mark {round}')"
        );
        source.execute("shop", &mark).unwrap();
        let branch = ground.branch(&subscriber, &format!("b{round}")).await;
        let found = format!("SELECT count(*) FROM item WHERE name = 'mark {round}'");
        assert_eq!(branch.value(&found).await, "1", "round {round}");
        branch.stop().await;
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    retire(&ground, subscriber).await;
}

#[tokio::test]
async fn a_branchs_numbers_go_on_behind_its_rows_while_others_write() {
    let source = source(16);
    // So many that reading them takes a while, the busy one among the first.
    let many = "DO $$ BEGIN FOR n IN 1..2000 LOOP EXECUTE format('CREATE SEQUENCE many_%s', n); END LOOP; END $$";
    source.execute("shop", many).unwrap();
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write_on(&source, &stop);
    for round in 0..3 {
        let branch = ground.branch(&subscriber, &format!("b{round}")).await;
        let mine = "WITH made AS (INSERT INTO item (name) SELECT 'mine' FROM generate_series(1, 100) RETURNING id) \
             SELECT count(*) FROM made";
        assert_eq!(branch.value(mine).await, "100", "round {round}");
        branch.stop().await;
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    retire(&ground, subscriber).await;
}

#[tokio::test]
async fn roles_that_came_changed_and_went_since_are_so_on_the_next_branch() {
    let source = source(16);
    source
        .execute(
            "shop",
            "CREATE ROLE old LOGIN PASSWORD 'a'; CREATE ROLE gone LOGIN PASSWORD 'b'; \
             CREATE ROLE team; CREATE ROLE others; GRANT team TO old; CREATE ROLE maker CREATEROLE",
        )
        .unwrap();
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    source
        .execute(
            "shop",
            "CREATE ROLE new LOGIN PASSWORD 'c' VALID UNTIL '2040-01-01 00:00:00+00'; \
             ALTER ROLE old PASSWORD 'd' CREATEDB; DROP ROLE gone; REVOKE team FROM old; GRANT others TO new; \
             ALTER ROLE old IN DATABASE postgres SET work_mem = '1MB'",
        )
        .unwrap();
    // As on managed servers: from 16 on PostgreSQL itself makes whoever makes a role a member of it.
    source
        .execute("shop", "SET ROLE maker; CREATE ROLE made LOGIN")
        .unwrap();
    let branch = ground.branch(&subscriber, "one").await;
    let described = "SELECT string_agg(concat_ws(' ', rolname, rolcanlogin, rolcreatedb, coalesce(rolvaliduntil, 'infinity'), rolpassword), \
         E'\\n' ORDER BY rolname) FROM pg_authid WHERE rolname IN ('old', 'new')";
    let there = source.query_value("shop", described).unwrap();
    assert_eq!(branch.value(described).await, there);
    let members = "SELECT string_agg(concat_ws(' ', roleid::regrole, member::regrole, grantor::regrole, admin_option, \
         inherit_option, set_option), E'\\n' ORDER BY roleid::regrole::text, member::regrole::text) \
         FROM pg_auth_members WHERE member::regrole::text !~ '^pg_'";
    let there = source.query_value("shop", members).unwrap();
    assert!(
        there.contains("made maker") && there.contains("others new"),
        "{there}"
    );
    assert_eq!(branch.value(members).await, there);
    let gone = branch.value("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'gone'");
    assert_eq!(gone.await, "f");
    branch.stop().await;
    retire(&ground, subscriber).await;
}

#[tokio::test]
async fn an_asynchronous_commit_is_waited_for_as_long_as_the_source_may_take_to_write_it() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    let delay = "ALTER SYSTEM SET wal_writer_delay = '2s'";
    source.execute("postgres", delay).unwrap();
    let reload = "SELECT pg_reload_conf()";
    source.query_value("postgres", reload).unwrap();
    let late = "SET synchronous_commit = off; INSERT INTO item (name) VALUES ('late')";
    for round in 1..=3 {
        source.execute("shop", late).unwrap();
        let count = branch_count(&ground, &subscriber, &format!("b{round}")).await;
        assert_eq!(count, (1000 + round).to_string());
    }
    retire(&ground, subscriber).await;
}

#[tokio::test]
async fn a_source_that_bounds_its_transactions_does_not_bound_what_is_made_of_it() {
    let mut source = source(17);
    source.configure("transaction_timeout", "1s").unwrap();
    source.restart().unwrap();
    // Whoever reads the source is not bound.
    let bound = "ALTER DATABASE shop SET transaction_timeout = '1s'; ALTER ROLE postgres SET transaction_timeout = 0";
    source.execute("shop", bound).unwrap();
    let mut ground = Ground::of(&source).await;
    ground.prepare = Some(Secret::new(
        "SELECT pg_sleep(1.5); DELETE FROM item WHERE id > 2",
    ));
    let subscriber = ground.seed().await;
    assert_eq!(branch_count(&ground, &subscriber, "long").await, "2");
    retire(&ground, subscriber).await;
}

#[tokio::test]
async fn an_open_transaction_holds_nobody_up_and_comes_once_it_is_committed() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    let writer = ground.upstream.access.connect().await.unwrap();
    writer
        .batch_execute("BEGIN; INSERT INTO item (name) VALUES ('open')")
        .await
        .unwrap();
    let before = branch_count(&ground, &subscriber, "before").await;
    assert_eq!(before, "1000");
    writer.batch_execute("COMMIT").await.unwrap();
    let after = branch_count(&ground, &subscriber, "after").await;
    assert_eq!(after, "1001");
    retire(&ground, subscriber).await;
}

async fn branch_count(ground: &Ground, subscriber: &Subscriber, name: &str) -> String {
    let branch = ground.branch(subscriber, name).await;
    let count = branch.value(COUNT).await;
    branch.stop().await;
    count
}

#[tokio::test]
async fn a_sequence_that_moved_and_nothing_else_is_where_it_moved_to() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    let first = ground.branch(&subscriber, "first").await;
    let moved = "SELECT setval('item_id_seq', 5000)";
    source.query_value("shop", moved).unwrap();
    let second = ground.branch(&subscriber, "second").await;
    // Whoever asks whether the first will do is told that the source has moved.
    let mut held = first.held.clone();
    assert!(!held.covers(&second.held.anchor));
    let next = second.value("SELECT nextval('item_id_seq')");
    assert_eq!(next.await, "5001");
    // The first number of some dozens moves the WAL as well, the others do not.
    let give = "SELECT nextval('item_id_seq')";
    source.query_value("shop", give).unwrap();
    let third = ground.branch(&subscriber, "third").await;
    let mut held = third.held.clone();
    assert!(held.covers(&third.held.anchor), "nothing has moved");
    source.query_value("shop", give).unwrap();
    let fourth = ground.branch(&subscriber, "fourth").await;
    assert!(
        !held.covers(&fourth.held.anchor),
        "it would give 5002 again"
    );
    for branch in [first, second, third, fourth] {
        branch.stop().await;
    }
    retire(&ground, subscriber).await;
}

#[tokio::test]
async fn a_restarted_source_and_a_killed_engine_are_followed_on() {
    let mut source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    ground.tend_until(&subscriber, follows).await;
    source.kill().unwrap();
    source.restart().unwrap();
    ground.tend_until(&subscriber, follows).await;
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('after it')")
        .unwrap();
    assert_eq!(branch_count(&ground, &subscriber, "one").await, "1001");
    // Whoever comes after a killed engine knows the directory and what was seeded.
    let (place, seeded) = (subscriber.place().clone(), subscriber.seeded().clone());
    drop(subscriber);
    let adopted = Subscriber::adopt(ground.host.clone(), place, seeded).await;
    let adopted = adopted.unwrap().expect("it runs");
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('later')")
        .unwrap();
    assert_eq!(branch_count(&ground, &adopted, "two").await, "1002");
    retire(&ground, adopted).await;
}

#[tokio::test]
async fn a_base_whose_server_was_killed_comes_back_and_follows_on() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    subscriber.stop(StopMode::Immediate).await.unwrap();
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('meanwhile')")
        .unwrap();
    ground.tend_until(&subscriber, follows).await;
    assert_eq!(branch_count(&ground, &subscriber, "one").await, "1001");
    retire(&ground, subscriber).await;
}

#[tokio::test]
async fn a_base_that_the_source_cannot_feed_is_behind_and_says_so() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let subscriber = ground.seed().await;
    subscriber.stop(StopMode::Fast).await.unwrap();
    let refused = ground
        .try_snapshot(&subscriber, &ground.place("none"))
        .await;
    let told = chain(&refused.unwrap_err());
    assert!(told.contains("cannot ask how far"), "{told}");
    retire(&ground, subscriber).await;
}

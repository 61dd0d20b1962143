//! Followers: a row that was committed right before is always there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::base::physical::follower::{Follower, FollowerRequest, Promoted, make_follower};
use engine::base::physical::standby::{Standby, WaitError};
use engine::postgres::server::StopMode;
use fixtures::TestPostgres;

use super::ground::{Branch, Ground, WAIT_MAX, source};
use crate::stage::{chain, working_in};

impl Ground {
    pub(super) async fn follower(&self, standby: &Standby, name: &str) -> Follower {
        let place = self.place(name);
        let made = make_follower(&FollowerRequest {
            standby,
            upstream: &self.upstream,
            place: &place,
            identity: &format!("bough-{name}"),
        })
        .await;
        made.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// A branch of this very moment.
    pub(super) async fn promote(&self, standby: &Standby, follower: Follower) -> Branch {
        let moment = self.moment(standby).await;
        let reached = follower.wait_replayed(&moment, WAIT_MAX).await;
        let reached = reached.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let place = follower.place().clone();
        let promoted = follower.promote(&moment, reached, None).await;
        let promoted = promoted.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let Promoted { server, copied, .. } = promoted;
        Branch {
            server,
            place,
            copied,
        }
    }
}

#[tokio::test]
async fn a_row_committed_right_before_is_there_on_15() {
    a_row_is_there(15).await;
}

#[tokio::test]
async fn a_row_committed_right_before_is_there_on_16() {
    a_row_is_there(16).await;
}

#[tokio::test]
async fn a_row_committed_right_before_is_there_on_17() {
    a_row_is_there(17).await;
}

#[tokio::test]
async fn a_row_committed_right_before_is_there_on_18() {
    a_row_is_there(18).await;
}

async fn a_row_is_there(major: u16) {
    let source = source(major);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let follower = ground.follower(&standby, "f").await;
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('just now')")
        .unwrap();
    let branch = ground.promote(&standby, follower).await;
    let just_now = "SELECT count(*) FROM item WHERE name = 'just now'";
    assert_eq!(branch.value(just_now).await, "1");
    assert_eq!(branch.value("SHOW cluster_name").await, "bough-f");
    // On the disk when it is committed, for what follows is a crash.
    let write = "WITH safe AS (SELECT set_config('synchronous_commit', 'on', true)) \
                 UPDATE item SET name = 'mine' FROM safe RETURNING 1";
    assert_eq!(branch.value(write).await, "1");
    assert!(branch.lets_in("shop", "postgres", "postgres").await);
    let opens = branch.lets_in("shop", "postgres", "wrong").await;
    assert!(!opens, "the door is closed");
    assert!(!branch.lets_in("postgres", "postgres", "postgres").await);
    // It starts again as any branch, even after a crash and with a branch's smaller limits.
    let (place, copied) = (branch.place.clone(), branch.copied.clone());
    branch.stop().await;
    let branch = ground.serve(&place, &copied).await;
    let mine = "SELECT count(*) FROM item WHERE name = 'mine'";
    assert_eq!(branch.value(mine).await, "1001");
    branch.stop().await;
    standby.stop(StopMode::Fast).await.unwrap();
}

/// Writes as fast as one session may, until dropped; counts what was committed.
struct Load {
    stop: Arc<AtomicBool>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(source: &TestPostgres) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, until) = (source.superuser_url("shop"), Arc::clone(&stop));
        let writer = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let some = "INSERT INTO item (name) SELECT 'load' FROM generate_series(1, 20); \
                            UPDATE item SET name = name || '.' WHERE id % 97 = 0 AND name LIKE 'load%'";
                fixtures::sql::execute(&url, some).expect("the source takes writes");
                // Its traces in the WAL stand in the way of questions to a standby.
                fixtures::sql::execute(&url, "VACUUM item").expect("the source can be vacuumed");
            }
        });
        Self {
            stop,
            writer: Some(writer),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

#[tokio::test]
async fn a_row_committed_right_before_is_there_while_others_write() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let load = Load::on(&source);
    for round in 1..=3 {
        let follower = ground.follower(&standby, &format!("f{round}")).await;
        let write = format!("INSERT INTO item (name) VALUES ('mark {round}')");
        source.execute("shop", &write).unwrap();
        let branch = ground.promote(&standby, follower).await;
        let mark = format!("SELECT count(*) FROM item WHERE name = 'mark {round}'");
        assert_eq!(branch.value(&mark).await, "1");
        branch.execute("CREATE EXTENSION amcheck").await;
        let checked = branch
            .value("SELECT count(*) FROM pg_index i CROSS JOIN LATERAL bt_index_check(i.indexrelid) \
                    JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relam = 403 AND c.relpersistence = 'p'")
            .await;
        assert_ne!(checked, "0", "every index was checked");
        branch.stop().await;
    }
    drop(load);
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn snapshots_of_a_source_that_is_written_are_whole() {
    let source = source(17);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let load = Load::on(&source);
    for round in 1..=3 {
        let write = format!("INSERT INTO item (name) VALUES ('mark {round}')");
        source.execute("shop", &write).unwrap();
        let (place, snapshot) = ground.snapshot(&standby, &format!("s{round}")).await;
        let branch = ground.serve(&place, &snapshot.copied).await;
        let mark = format!("SELECT count(*) FROM item WHERE name = 'mark {round}'");
        assert_eq!(branch.value(&mark).await, "1");
        let again = "SELECT count(*) = count(DISTINCT id) AND count(*) % 20 = (1000 + count(*) \
                     FILTER (WHERE name LIKE 'mark%')) % 20 FROM item";
        assert_eq!(
            branch.value(again).await,
            "t",
            "half a transaction is there"
        );
        branch.stop().await;
    }
    drop(load);
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_follower_that_is_given_up_is_what_it_was_and_leaves_nothing_when_dropped() {
    let mut source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let follower = ground.follower(&standby, "f").await;
    let mut beyond = ground.moment(&standby).await;
    beyond.lsn.0 += 1 << 30;
    let waited = follower
        .wait_replayed(&beyond, Duration::from_millis(200))
        .await;
    assert!(matches!(
        waited,
        Err(WaitError::TimedOut { streams: true, .. })
    ));
    source.restart().unwrap();
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('after a restart')")
        .unwrap();
    let moment = ground.moment(&standby).await;
    let reached = follower.wait_replayed(&moment, WAIT_MAX).await;
    assert!(reached.is_ok(), "{reached:?}");
    let directory = follower.place().directory.clone();
    drop(follower);
    let gone = tokio::time::timeout(WAIT_MAX, async {
        while !working_in(&directory).is_empty() {
            tokio::task::yield_now().await;
        }
    });
    gone.await.expect("its server ends");
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn the_source_knows_nothing_of_followers() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let followers = [
        ground.follower(&standby, "f1").await,
        ground.follower(&standby, "f2").await,
    ];
    let moment = ground.moment(&standby).await;
    for follower in &followers {
        follower.wait_replayed(&moment, WAIT_MAX).await.unwrap();
    }
    let senders = source.query_value("postgres", "SELECT count(*) FROM pg_stat_replication");
    assert_eq!(senders.unwrap(), "1");
    let kept = "SELECT string_agg(slot_type || ' ' || temporary, ',') FROM pg_replication_slots";
    assert_eq!(
        source.query_value("postgres", kept).unwrap(),
        "physical true"
    );
    for follower in followers {
        follower.stop().await.unwrap();
    }
    standby.stop(StopMode::Fast).await.unwrap();
    let gone = fixtures::eventually("the slot's end", WAIT_MAX, || {
        let left = source.query_value("postgres", "SELECT count(*) FROM pg_replication_slots")?;
        Ok((left == "0").then_some(()))
    });
    gone.unwrap();
}

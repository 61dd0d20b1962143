//! What happens to a source over time, and what becomes of its standby.

use engine::base::physical::Upstream;
use engine::base::physical::replication::Reach;
use engine::base::physical::standby::Standby;
use engine::base::physical::tending::{Cause, Keeper, OwnCause, Tended};
use engine::postgres::server::StopMode;
use fixtures::Options;
use rustix::process::{Pid, Signal, kill_process};

use super::ground::{Ground, WAIT_MAX, enter, source, source_with, url_of, value};
use super::unfit::make_tablespace;
use crate::stage::{access, chain, working_in};

impl Ground {
    /// Looks after a standby until `wanted` is seen.
    async fn tend_until(
        &self,
        standby: &Standby,
        upstream: &Upstream,
        wanted: impl Fn(&Tended) -> bool,
    ) -> Tended {
        let mut keeper = Keeper::default();
        let mut last = None;
        let seen = tokio::time::timeout(WAIT_MAX, async {
            loop {
                let tended = keeper.tend(standby, upstream).await;
                let tended = tended.unwrap_or_else(|error| panic!("{}", chain(&error)));
                if wanted(&tended) {
                    return tended;
                }
                last = Some(tended);
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        });
        seen.await.unwrap_or_else(|_| panic!("it stays {last:?}"))
    }

    async fn cause(&self, standby: &Standby) -> Cause {
        let ends = |tended: &Tended| matches!(tended, Tended::SeedAgain(_));
        match self.tend_until(standby, &self.upstream, ends).await {
            Tended::SeedAgain(cause) => cause,
            Tended::Following(_) | Tended::Waiting { .. } => unreachable!(),
        }
    }
}

fn follows(tended: &Tended) -> bool {
    matches!(tended, Tended::Following(_))
}

fn waits(tended: &Tended) -> bool {
    matches!(tended, Tended::Waiting { .. })
}

#[tokio::test]
async fn limits_that_the_source_raises_are_followed() {
    let mut source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    source.configure("max_connections", "150").unwrap();
    source.configure("max_worker_processes", "20").unwrap();
    source.configure("max_locks_per_transaction", "96").unwrap();
    source.restart().unwrap();
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('after it')")
        .unwrap();
    let moment = ground.moment(&standby).await;
    let reached = async {
        let mut keeper = Keeper::default();
        loop {
            let tended = keeper.tend(&standby, &ground.upstream).await;
            tended.unwrap_or_else(|error| panic!("{}", chain(&error)));
            let short = std::time::Duration::from_millis(200);
            if standby.wait_replayed(&moment, short).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(WAIT_MAX, reached)
        .await
        .expect("it goes on");
    let place = standby.place();
    let session = enter(&place.socket_dir, "shop", "postgres").await;
    assert_eq!(value(&session, "SHOW max_connections").await, "150");
    assert_eq!(
        value(&session, "SHOW max_locks_per_transaction").await,
        "96"
    );
    // A follower and a snapshot know of it as well.
    let follower = ground.follower(&standby, "f").await;
    let branch = ground.promote(&standby, follower).await;
    assert_eq!(branch.value("SELECT count(*) FROM item").await, "1001");
    branch.stop().await;
    let (place, snapshot) = ground.snapshot(&standby, "snap").await;
    let branch = ground.serve(&place, &snapshot.copied).await;
    assert_eq!(branch.value("SELECT count(*) FROM item").await, "1001");
    branch.stop().await;
    standby.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn a_source_that_restarts_or_is_away_for_a_while_is_followed_again() {
    let mut source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    ground.tend_until(&standby, &ground.upstream, follows).await;
    let passfile = standby.place().passfile();
    assert!(!passfile.exists(), "nobody needs the password");
    source.stop().unwrap();
    let waiting = ground.tend_until(&standby, &ground.upstream, |tended| {
        matches!(
            tended,
            Tended::Waiting {
                since: Some(_),
                said: Some(_)
            }
        )
    });
    waiting.await;
    assert!(passfile.exists(), "the next connection needs the password");
    source.restart().unwrap();
    source
        .execute(
            "shop",
            "INSERT INTO item (name) VALUES ('after the outage')",
        )
        .unwrap();
    ground.tend_until(&standby, &ground.upstream, follows).await;
    assert!(!passfile.exists(), "nobody needs it any more");
    ground.catch_up(&standby).await;
    source.kill().unwrap();
    ground.tend_until(&standby, &ground.upstream, waits).await;
    source.restart().unwrap();
    ground.tend_until(&standby, &ground.upstream, follows).await;
    ground.catch_up(&standby).await;
    standby.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn a_standby_that_was_killed_is_waited_for_until_it_is_back() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    source
        .execute("shop", "CREATE TABLE late AS SELECT 1")
        .unwrap();
    let moment = ground.moment(&standby).await;
    for pid in working_in(&standby.place().directory) {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        // One that has ended with the others needs no killing.
        let _ = kill_process(pid, Signal::KILL);
    }
    assert!(standby.progress().await.is_err(), "it is away");
    let (waited, _) = tokio::join!(
        standby.wait_replayed(&moment, WAIT_MAX),
        ground.tend_until(&standby, &ground.upstream, follows),
    );
    waited.unwrap();
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_tablespace_that_appears_ends_the_base_before_a_file_of_it_is_touched() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let directory = make_tablespace(&source);
    source
        .execute(
            "shop",
            "CREATE TABLE t TABLESPACE fast AS SELECT n FROM generate_series(1, 1000) n",
        )
        .unwrap();
    assert_eq!(
        ground.cause(&standby).await,
        Cause::Own(OwnCause::Tablespace)
    );
    assert_eq!(working_in(&standby.place().directory), [] as [u32; 0]);
    let links = std::fs::read_dir(standby.place().data().join("pg_tblspc")).unwrap();
    assert_eq!(links.count(), 0, "nothing leads to the source's files");
    source
        .execute("shop", "CHECKPOINT; UPDATE t SET n = n + 1")
        .unwrap();
    assert_eq!(
        source.query_value("shop", "SELECT sum(n) FROM t").unwrap(),
        "501500"
    );
    assert!(directory.exists());
}

#[tokio::test]
async fn wal_that_the_source_has_removed_is_not_waited_for() {
    let options = Options::new(16)
        .setting("wal_keep_size", "0")
        .setting("max_wal_size", "64MB")
        .setting("min_wal_size", "32MB");
    let source = source_with(options);
    let ground = Ground::of(&source).await;
    let fit = ground.fit().await;
    let standby = ground.seed().await;
    let (place, seeded) = (standby.place().clone(), standby.seeded().clone());
    standby.stop(StopMode::Fast).await.unwrap();
    for _ in 0..5 {
        let write = "INSERT INTO item (name) VALUES ('x'); SELECT pg_switch_wal(); CHECKPOINT";
        for statement in write.split("; ") {
            source.execute("shop", statement).unwrap();
        }
    }
    let standby = Standby::start(ground.host.clone(), place, seeded, fit.reach).await;
    let standby = standby.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(
        ground.cause(&standby).await,
        Cause::Own(OwnCause::WalRemoved)
    );
}

#[tokio::test]
async fn commits_that_would_wait_for_us_end_the_base() {
    let mut source = source(16);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    source.configure("synchronous_standby_names", "*").unwrap();
    source.reload().unwrap();
    let set = fixtures::eventually("the setting", WAIT_MAX, || {
        let now = source.query_value("postgres", "SHOW synchronous_standby_names")?;
        Ok((now == "*").then_some(()))
    });
    set.unwrap();
    assert_eq!(
        ground.cause(&standby).await,
        Cause::Own(OwnCause::WaitsForUs)
    );
}

#[tokio::test]
async fn another_cluster_at_the_sources_address_is_not_followed() {
    let [one, other] = [source(16), source(16)];
    let ground = Ground::of(&one).await;
    let standby = ground.seed().await;
    let elsewhere = Ground::of(&other).await;
    let ends = |tended: &Tended| matches!(tended, Tended::SeedAgain(_));
    let ended = ground.tend_until(&standby, &elsewhere.upstream, ends).await;
    assert_eq!(ended, Tended::SeedAgain(Cause::OtherCluster));
}

/// A server that follows the source, as its owner's own standby does: ours, for want of another.
async fn second_server(ground: &Ground, name: &str) -> Standby {
    let fit = ground.fit().await;
    let seeded = ground.try_seed(&fit, &ground.place(name)).await;
    seeded.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// How that server is reached.
fn upstream_of(server: &Standby) -> Upstream {
    Upstream {
        access: access(&url_of(server)),
        replication_url: None,
    }
}

async fn reach_of(upstream: &Upstream) -> Reach {
    let session = upstream.access.connect().await.unwrap();
    Reach::ways(upstream, &session).unwrap().remove(0)
}

#[tokio::test]
async fn a_source_that_fails_over_is_followed_on_its_new_timeline() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let second = second_server(&ground, "second").await;
    let standby = ground.seed().await;
    source
        .execute("shop", "INSERT INTO item (name) VALUES ('on the first')")
        .unwrap();
    ground.catch_up(&second).await;
    let before = ground.moment(&standby).await;
    let failed_over = upstream_of(&second);
    promote(&second).await;
    standby
        .point_at(reach_of(&failed_over).await)
        .await
        .unwrap();
    let session = failed_over.access.connect().await.unwrap();
    session
        .batch_execute("INSERT INTO item (name) VALUES ('on the second')")
        .await
        .unwrap();
    let shape = standby.seeded().shape;
    let clock = ground.host.clock;
    let moment = engine::base::moment::Moment::read(&session, shape, clock).await;
    let moment = moment.unwrap();
    assert_ne!(moment.line, before.line);
    let reached = standby.wait_replayed(&moment, WAIT_MAX).await;
    let reached = reached.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(reached.streams_on, Some(2));
    let session = enter(&standby.place().socket_dir, "shop", "postgres").await;
    assert_eq!(value(&session, "SELECT count(*) FROM item").await, "1002");
    // What the old server still says is no proof of anything any more.
    let short = std::time::Duration::from_millis(200);
    assert!(standby.wait_replayed(&before, short).await.is_err());
    standby.stop(StopMode::Immediate).await.unwrap();
    second.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_failover_to_a_server_that_was_behind_us_seeds_again() {
    let mut source = source(16);
    let ground = Ground::of(&source).await;
    let second = second_server(&ground, "second").await;
    let standby = ground.seed().await;
    // The second server hears of nothing any more.
    let stays = enter(&second.place().socket_dir, "shop", "postgres").await;
    value(&stays, "SELECT pg_wal_replay_pause()").await;
    promote(&second).await;
    source
        .execute(
            "shop",
            "INSERT INTO item (name) SELECT 'lost' FROM generate_series(1, 1000)",
        )
        .unwrap();
    ground.catch_up(&standby).await;
    source.kill().unwrap();
    let failed_over = upstream_of(&second);
    let session = failed_over.access.connect().await.unwrap();
    let write = "INSERT INTO item (name) SELECT 'kept' FROM generate_series(1, 5000)";
    session.batch_execute(write).await.unwrap();
    standby
        .point_at(reach_of(&failed_over).await)
        .await
        .unwrap();
    let ends = |tended: &Tended| matches!(tended, Tended::SeedAgain(_));
    let ended = ground.tend_until(&standby, &failed_over, ends).await;
    assert_eq!(ended, Tended::SeedAgain(Cause::Own(OwnCause::Diverged)));
    second.stop(StopMode::Immediate).await.unwrap();
}

async fn promote(server: &Standby) {
    let session = enter(&server.place().socket_dir, "shop", "postgres").await;
    assert_eq!(value(&session, "SELECT pg_promote()").await, "t");
}

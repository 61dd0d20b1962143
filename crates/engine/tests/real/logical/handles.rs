//! A base that is taken up again has two handles for a while: that of a request that takes a snapshot, and the new one. No
//! snapshot is torn by it, and the new handle's server is left alone.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use engine::base::logical::snapshot::SnapshotError;
use engine::base::logical::subscriber::{Subscriber, SubscriberError};
use engine::postgres::server::StopMode;
use engine::volume::VolumeError;

use super::ground::{Ground, WAIT_MAX, follows, retire, source};
use crate::stage::chain;

/// Far above what a server takes to start.
const STARTED_BY_THEN: Duration = Duration::from_secs(5);

/// Where a copy of files waits until it is let on.
struct Halfway {
    reached: tokio::sync::mpsc::UnboundedReceiver<()>,
    go_on: mpsc::Sender<()>,
}

/// Has every copy of a ground's bases wait before its first file.
fn halfway(ground: &mut Ground) -> Halfway {
    let (reached_tx, reached) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, let_on) = mpsc::channel::<()>();
    let let_on = std::sync::Mutex::new(let_on);
    let copy = Arc::clone(&ground.host.clone_live);
    ground.host.clone_live = Arc::new(move |from, to, cancel| {
        let _ = reached_tx.send(());
        // Whoever does not wait for the copy any more has no use for it either.
        match let_on.lock().unwrap().recv_timeout(WAIT_MAX) {
            Ok(()) => copy(from, to, cancel),
            Err(_) => Err(VolumeError::Cancelled),
        }
    });
    Halfway { reached, go_on }
}

async fn taken_up(ground: &Ground, subscriber: &Subscriber) -> Subscriber {
    let (host, place) = (ground.host.clone(), subscriber.place().clone());
    let seeded = subscriber.seeded().clone();
    let resumed = Subscriber::resume(host, place, seeded, &ground.upstream).await;
    resumed.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

#[tokio::test]
async fn a_base_whose_files_are_being_copied_is_taken_up_once_they_are() {
    let source = source(16);
    let mut ground = Ground::of(&source).await;
    let mut halfway = halfway(&mut ground);
    let subscriber = ground.seed().await;
    let place = ground.place("one");
    let snapshot = ground.try_snapshot(&subscriber, &place);
    let again = async {
        halfway.reached.recv().await.unwrap();
        let mut again = Box::pin(taken_up(&ground, &subscriber));
        let early = tokio::time::timeout(STARTED_BY_THEN, &mut again).await;
        assert!(early.is_err(), "a server was started under the copy");
        halfway.go_on.send(()).unwrap();
        again.await
    };
    let (snapshot, again) = tokio::join!(snapshot, again);
    snapshot.unwrap_or_else(|error| panic!("{}", chain(&error)));
    ground.tend_until(&again, follows).await;
    retire(&ground, again).await;
}

#[tokio::test]
async fn a_handle_whose_server_another_has_started_anew_copies_nothing_and_ends_nothing() {
    let source = source(16);
    let ground = Ground::of(&source).await;
    let before = ground.seed().await;
    let again = taken_up(&ground, &before).await;
    again.restart().await.unwrap();
    ground.tend_until(&again, follows).await;
    let refused = ground.try_snapshot(&before, &ground.place("one")).await;
    assert!(
        matches!(
            refused,
            Err(SnapshotError::Subscriber(SubscriberError::Replaced { .. }))
        ),
        "{refused:?}"
    );
    again.progress().await.expect("it goes on");
    assert!(again.look().await.is_running);
    retire(&ground, again).await;
}

#[tokio::test]
async fn a_base_that_goes_while_its_files_are_copied_is_started_no_more() {
    let source = source(16);
    let mut ground = Ground::of(&source).await;
    let mut halfway = halfway(&mut ground);
    let subscriber = ground.seed().await;
    let place = ground.place("one");
    let snapshot = ground.try_snapshot(&subscriber, &place);
    let end = async {
        halfway.reached.recv().await.unwrap();
        subscriber.end(StopMode::Fast).await.unwrap();
    };
    let (refused, ()) = tokio::join!(snapshot, end);
    assert!(matches!(refused, Err(SnapshotError::Over)), "{refused:?}");
    assert!(!subscriber.look().await.is_running);
    drop(halfway);
    retire(&ground, subscriber).await;
}

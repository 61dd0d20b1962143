//! A guarded door, tried by guests and by others.

use jiff::Timestamp;
use model::door_pass::{self, Guest, PASS_BYTES};
use model::engine_api::SessionId;
use model::{BranchName, Namespace};

use super::*;
use crate::clock::Clock;
use crate::door::guard::{KNOCK_TIME_MAX as KNOCK, WAITING_MAX};
use crate::settings::Doors;

/// The door's time where a test waits for its end.
const SHORT: Duration = Duration::from_millis(300);

struct Guarded {
    lock: Lock,
    directory: tempfile::TempDir,
    server: UnixListener,
    door: Door,
}

fn key(directory: &tempfile::TempDir) -> DoorKey {
    let path = directory.path().join("door.key");
    DoorKey::of(&path, Doors::Guarded).unwrap().unwrap()
}

fn lock_of(key: &DoorKey, id: &str, created_at: i64) -> Lock {
    let id = model::BranchId::new(id).unwrap();
    let name = BranchName::of(&Namespace::default(), &id);
    let created_at = Timestamp::from_second(created_at).unwrap();
    key.lock(&name, created_at, Clock::start())
}

async fn guarded(time_max: Duration) -> Guarded {
    let directory = tempfile::tempdir().unwrap();
    let mut lock = lock_of(&key(&directory), "a", 1);
    lock.time_max = time_max;
    let socket = directory.path().join("socket");
    let server = UnixListener::bind(&socket).unwrap();
    let admission = Admission {
        refused_user: "bough_admin",
        lock: Some(lock.clone()),
        encryption: None,
    };
    let door = Door::open(11, admission).await.unwrap();
    door.lead_to(Behind::Open(socket));
    Guarded {
        lock,
        directory,
        server,
        door,
    }
}

fn session(name: &str) -> SessionId {
    name.to_owned().try_into().expect("an id")
}

impl Guarded {
    fn hold(&self, names: &[&str]) {
        let marks = names.iter().map(|name| Guest::mark(&session(name)));
        self.door.hold(marks.collect());
    }

    async fn dial(&self, said: &[u8]) -> TcpStream {
        let mut client = TcpStream::connect(self.door.address()).await.unwrap();
        client.write_all(said).await.unwrap();
        client
    }

    /// What a client hears that says this, asks for encryption and begins a session.
    async fn answer(&self, said: &[u8]) -> String {
        let mut client = self.dial(said).await;
        client
            .write_all(&pg_startup::SSL_REQUEST_PACKET)
            .await
            .unwrap();
        client.write_all(&startup_of("u")).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Whether who says this reaches the server.
    async fn lets_in(&self, said: &[u8]) -> bool {
        let mut client = self.dial(said).await;
        client.write_all(&startup_of("u")).await.unwrap();
        tokio::select! {
            accepted = self.server.accept() => accepted.is_ok(),
            refused = client.read_u8() => { refused.unwrap(); false }
        }
    }
}

fn said(pass: &Secret) -> Vec<u8> {
    door_pass::preamble(pass).unwrap()
}

#[tokio::test]
async fn who_brings_no_pass_reads_why_he_is_refused_and_meets_no_server() {
    let guarded = guarded(KNOCK).await;
    let answer = guarded.answer(b"").await;
    assert!(answer.starts_with("NE"), "{answer:?}");
    assert!(answer.contains("28000"), "{answer:?}");
    assert!(answer.contains("nobody without a credential"), "{answer:?}");
    assert_eq!(guarded.door.counts().total(), 0);
    let met = tokio::time::timeout(Duration::ZERO, guarded.server.accept()).await;
    assert!(met.is_err());
}

#[tokio::test]
async fn a_pass_of_another_branch_life_key_or_session_lets_nobody_in() {
    let guarded = guarded(KNOCK).await;
    guarded.hold(&["s"]);
    let other = tempfile::tempdir().unwrap();
    let key_here = key(&guarded.directory);
    for lock in [
        lock_of(&key_here, "b", 1),
        lock_of(&key_here, "a", 2),
        lock_of(&key(&other), "a", 1),
    ] {
        for pass in [lock.pass(Some(&session("s"))), lock.pass(None)] {
            let answer = guarded.answer(&said(&pass)).await;
            assert!(answer.contains("did not give out"), "{answer:?}");
        }
    }
    let mut forged = said(&guarded.lock.pass(Some(&session("t"))));
    // The one of a session that holds the branch, under another's seal.
    forged[6..22].copy_from_slice(&Guest::mark(&session("s")));
    let answer = guarded.answer(&forged).await;
    assert!(answer.contains("did not give out"), "{answer:?}");
    assert!(
        guarded
            .lets_in(&said(&guarded.lock.pass(Some(&session("s")))))
            .await
    );
    assert!(guarded.lets_in(&said(&guarded.lock.pass(None))).await);
}

#[tokio::test]
async fn a_session_s_pass_is_good_while_it_holds_the_branch_and_waits_until_it_is_heard() {
    let mut guarded = guarded(SHORT).await;
    let pass = said(&guarded.lock.pass(Some(&session("s"))));
    let answer = guarded.answer(&pass).await;
    assert!(answer.contains("is over"), "{answer:?}");
    guarded.hold(&["s"]);
    assert!(guarded.lets_in(&pass).await);
    guarded.hold(&["t"]);
    let answer = guarded.answer(&pass).await;
    assert!(answer.contains("is over"), "{answer:?}");

    // Its machine slept: it dials first and is heard then.
    guarded = self::guarded(KNOCK).await;
    let pass = said(&guarded.lock.pass(Some(&session("s"))));
    let (is_in, ()) = tokio::join!(guarded.lets_in(&pass), async {
        while guarded.door.counts().waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        guarded.hold(&["s"]);
    });
    assert!(is_in);
}

#[tokio::test]
async fn half_a_pass_is_not_waited_for() {
    let guarded = guarded(SHORT).await;
    let pass = said(&guarded.lock.pass(None));
    for length in [0, 3, 4, PASS_BYTES - 1] {
        let mut client = guarded.dial(&pass[..length]).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("in time"), "{length}: {answer:?}");
    }
}

#[tokio::test]
async fn no_more_than_some_wait_at_a_door_and_they_keep_out_nobody_once_they_are_gone() {
    let guarded = guarded(KNOCK).await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING_MAX {
        waiting.push(guarded.dial(b"B").await);
    }
    while guarded.door.counts().waiting.load(Ordering::SeqCst) < WAITING_MAX {
        tokio::task::yield_now().await;
    }
    let mut crowded = guarded.dial(b"").await;
    let mut answer = String::new();
    crowded.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("53300"), "{answer:?}");
    drop(waiting);
    while guarded.door.counts().waiting.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(guarded.lets_in(&said(&guarded.lock.pass(None))).await);
}

#[tokio::test]
async fn a_command_s_pass_ends_by_itself() {
    let guarded = guarded(KNOCK).await;
    let spent = Guest::Command {
        nonce: 1,
        until_seconds: 1,
    };
    let spent = guarded.lock.seal(spent).text();
    let answer = guarded.answer(&said(&spent)).await;
    assert!(answer.contains("is over"), "{answer:?}");
}

#[test]
fn a_key_is_drawn_once_for_its_owner_alone_and_doors_stay_guarded() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("door.key");
    assert_eq!(DoorKey::of(&path, Doors::Open).unwrap(), None);
    let drawn = DoorKey::of(&path, Doors::Guarded).unwrap();
    assert!(drawn.is_some());
    assert_eq!(DoorKey::of(&path, Doors::Open).unwrap(), drawn);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_ne!(drawn, Some(key(&tempfile::tempdir().unwrap())));
    std::fs::write(&path, "short").unwrap();
    DoorKey::of(&path, Doors::Open).unwrap_err();
}

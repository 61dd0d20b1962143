//! Branches on every kind of volume with real servers in them, as root and without: whole, their own, found again by
//! another engine, never served twice, and gone when removed. What this machine cannot do is printed.

#![expect(
    clippy::print_stdout,
    reason = "a test that cannot run on this machine says so"
)]

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use engine::clock::Clock;
use engine::postgres::account::ServerAccount;
use engine::postgres::binaries::{Installation, Installations};
use engine::postgres::connect::{Session, connect_local};
use engine::postgres::initdb::create_cluster;
use engine::postgres::server::{Launch, Server, StartError, StopMode, adopt, start, sweep};
use engine::postgres::settings::{Purpose, SemanticSettings, ServerSettings};
use engine::volume::{Cancel, DataDir, Kind, Volume, remove_tree, seal, try_kind};
use fixtures::{LoopVolume, TempDir};
use model::{PgMajor, Secret};

use crate::stage::{chain, installations, working_in};

/// Names the directories of the run without root: `NAME=PATH`, by colons.
const PLACES_VARIABLE: &str = "BOUGH_TEST_VOLUME_PLACES";

/// A filesystem to test on.
struct Place {
    name: String,
    root: PathBuf,
    _kept: Box<dyn std::any::Any>,
}

fn places() -> Vec<Place> {
    let given = std::env::var(PLACES_VARIABLE).unwrap_or_default();
    if !given.is_empty() {
        let given = given.split(':').filter_map(|place| place.split_once('='));
        let place = |(name, root): (&str, &str)| Place {
            name: name.to_owned(),
            root: PathBuf::from(root),
            _kept: Box::new(()),
        };
        return given.map(place).collect();
    }
    let own = TempDir::new().expect("a directory");
    let mut places = vec![Place {
        name: "the temporary directory".to_owned(),
        root: own.path().to_owned(),
        _kept: Box::new(own),
    }];
    for (name, made) in [("XFS", LoopVolume::xfs()), ("btrfs", LoopVolume::btrfs())] {
        match made {
            Ok(volume) => places.push(Place {
                name: name.to_owned(),
                root: volume.path(),
                _kept: Box::new(volume),
            }),
            Err(error) => println!("NOT TESTED on {name}: {error:#}"),
        }
    }
    places
}

/// The kinds worth a server on a filesystem: what is never chosen there was tested without one.
fn kinds(place: &Place) -> Vec<Kind> {
    let all = Kind::ALL.into_iter();
    match place.name.as_str() {
        "XFS" | "btrfs" => all.take_while(|kind| *kind <= Kind::Reflink).collect(),
        _ => all.collect(),
    }
}

/// A snapshot of one cluster on one kind of volume, and branches of it.
struct Bed {
    root: PathBuf,
    sockets: TempDir,
    installations: Installations,
    account: ServerAccount,
    password: Secret,
}

impl Bed {
    async fn new(volume: &dyn Volume, root: PathBuf) -> Self {
        let installations = installations().await;
        let account = ServerAccount::choose(None).expect("an account");
        for name in ["snapshots/one", "making", "clones"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let data = root.join("snapshots/one/data");
        volume.make_data(&data).unwrap();
        let installation = installations
            .server(PgMajor(16))
            .expect("xtask installed it");
        let made = create_cluster(installation, &account, &data, "first").await;
        let bed = Self {
            sockets: socket_home(&account),
            password: made.unwrap_or_else(|error| panic!("{}", chain(&error))),
            root,
            installations,
            account,
        };
        let server = bed.start(&data, "base").await.unwrap();
        let session = bed.connect("base").await;
        let rows = "CREATE TABLE numbers AS SELECT i FROM generate_series(1, 20000) i";
        session.batch_execute(rows).await.unwrap();
        drop(session);
        server.stop(StopMode::Fast).await.unwrap();
        seal(&data).unwrap();
        bed
    }

    fn installation(&self) -> &Installation {
        self.installations
            .server(PgMajor(16))
            .expect("it was there before")
    }

    fn snapshot(&self) -> PathBuf {
        self.root.join("snapshots/one/data")
    }

    /// A branch, made as the engine does it: under another name first.
    fn branch(&self, volume: &dyn Volume, name: &str) -> PathBuf {
        let (making, last) = (
            self.root.join("making").join(name),
            self.root.join("clones").join(name),
        );
        std::fs::create_dir(&making).unwrap();
        let cancel = Cancel::default();
        volume
            .clone_tree(&self.snapshot(), &making.join("data"), &cancel)
            .unwrap();
        std::fs::rename(&making, &last).unwrap();
        last.join("data")
    }

    async fn start(&self, data: &Path, name: &str) -> Result<Server, StartError> {
        let settings = ServerSettings {
            purpose: Purpose::Branch,
            socket_dir: self.sockets.path().join(name),
            identity: format!("bough-{name}"),
            semantic: SemanticSettings::new(),
        };
        let launch = Launch {
            installation: self.installation(),
            account: &self.account,
            data,
            log: &data.parent().unwrap().join("server.log"),
            settings: &settings,
        };
        start(&launch).await
    }

    async fn connect(&self, name: &str) -> Session {
        let socket_dir = self.sockets.path().join(name);
        let session = connect_local(&socket_dir, "postgres", "first", &self.password).await;
        session.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    async fn count(&self, name: &str) -> i64 {
        let session = self.connect(name).await;
        let row = session.query_one("SELECT count(*) FROM numbers", &[]).await;
        row.unwrap().get(0)
    }
}

fn socket_home(account: &ServerAccount) -> TempDir {
    let home = TempDir::new().expect("a directory");
    account.own(home.path()).unwrap();
    home
}

impl Drop for Bed {
    /// What a failed test leaves is ended and unmounted.
    fn drop(&mut self) {
        for name in ["clones", "snapshots"] {
            let trees = std::fs::read_dir(self.root.join(name))
                .into_iter()
                .flatten();
            for tree in trees.flatten() {
                for pid in inhabitants(&tree.path().join("data")) {
                    let pid = i32::try_from(pid)
                        .ok()
                        .and_then(rustix::process::Pid::from_raw);
                    let pid = pid.expect("/proc lists positive process ids");
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                let _ = remove_tree(&tree.path());
            }
        }
    }
}

/// Whoever could still be at home in a data directory.
fn inhabitants(data: &Path) -> Vec<u32> {
    let home = DataDir::at(data);
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| home.is_home_of(*pid).is_ok_and(|is_home| is_home))
        .collect()
}

async fn check(volume: &dyn Volume, root: PathBuf) {
    let bed = Bed::new(volume, root).await;
    let clock = Clock::start();
    let began = clock.now();
    let one = bed.branch(volume, "one");
    let cloned = clock.now();
    let server = bed
        .start(&one, "one")
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    println!(
        "    cloned in {:?}, ready in {:?}",
        cloned.duration_since(began),
        clock.now().duration_since(cloned)
    );
    assert_eq!(bed.count("one").await, 20_000);
    let session = bed.connect("one").await;
    session
        .batch_execute("DELETE FROM numbers WHERE i > 10")
        .await
        .unwrap();
    session
        .batch_execute("CREATE DATABASE other")
        .await
        .unwrap();
    drop(session);

    // Another branch knows nothing of it, and there is no second server on the first.
    let two = bed.branch(volume, "two");
    let other = bed
        .start(&two, "two")
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(bed.count("two").await, 20_000);
    let second = bed.start(&one, "again").await;
    assert!(
        matches!(&second, Err(StartError::Running { pid, .. }) if *pid == server.pid()),
        "{second:?}"
    );

    // An engine that was killed leaves the server; the next one adopts this very process.
    let pid = server.pid();
    drop(server);
    let adopted = adopt(&one).await.unwrap().expect("the server lives");
    assert_eq!(adopted.pid(), pid);
    assert_eq!(bed.count("one").await, 10);

    crash_and_recover(&bed, &one, adopted).await;

    // What is stopped comes again as it was, and goes for good.
    other.stop(StopMode::Fast).await.unwrap();
    let other = bed.start(&two, "two").await.unwrap();
    assert_eq!(bed.count("two").await, 20_000);
    other.stop(StopMode::Immediate).await.unwrap();
    for data in [&one, &two] {
        sweep(data).await.unwrap();
        assert_eq!(inhabitants(data), [0; 0]);
        remove_tree(data.parent().unwrap()).unwrap();
    }
    let three = bed.branch(volume, "three");
    let server = bed.start(&three, "three").await.unwrap();
    assert_eq!(
        bed.count("three").await,
        20_000,
        "the snapshot is what it was"
    );
    server.stop(StopMode::Immediate).await.unwrap();
    remove_tree(three.parent().unwrap()).unwrap();
    remove_tree(&bed.root.join("snapshots/one")).unwrap();
    assert_eq!(working_in(&bed.root), [0; 0]);
}

/// kill -9 of the postmaster leaves backends that live on; whoever starts the branch again ends them and has all that
/// was committed.
async fn crash_and_recover(bed: &Bed, data: &Path, server: Server) {
    let session = bed.connect("one").await;
    let insert = "SET synchronous_commit = on; INSERT INTO numbers VALUES (11)";
    session.batch_execute(insert).await.unwrap();
    let busy = tokio::spawn(async move { session.batch_execute("SELECT pg_sleep(600)").await });
    let postmaster = i32::try_from(server.pid()).unwrap();
    let pid = rustix::process::Pid::from_raw(postmaster).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    server.exited().await;
    assert!(adopt(data).await.unwrap().is_none());
    sweep(data).await.unwrap();
    assert_eq!(inhabitants(data), [0; 0]);
    let server = bed
        .start(data, "one")
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(bed.count("one").await, 11);
    drop(busy.await);
    server.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn branches_on_every_kind_of_volume_run_servers() {
    let mut done = Vec::new();
    for place in places() {
        for kind in kinds(&place) {
            match try_kind(kind, &place.root) {
                Ok(volume) => {
                    println!("{kind} on {}", place.name);
                    let root = place.root.join(kind.as_str().replace(' ', "-"));
                    check(volume.as_ref(), root).await;
                    done.push(kind);
                }
                Err(error) => {
                    println!("NOT TESTED: {kind} on {}: {}", place.name, chain(&error));
                }
            }
        }
    }
    assert!(done.contains(&Kind::PlainCopy), "{done:?}");
}

/// The test above as an account without privileges, on the filesystems that root has mounted.
#[test]
fn servers_run_on_every_kind_of_volume_without_root_as_well() {
    let account = ServerAccount::choose(None).expect("an account");
    if !account.is_switched() {
        println!("this is not root: the rest runs without it");
        return;
    }
    let kept = places();
    let mut given = Vec::new();
    for place in &kept {
        let root = place.root.join("without-root");
        std::fs::create_dir(&root).unwrap();
        account.own(&root).unwrap();
        given.push(format!("{}={}", place.name, root.display()));
    }
    let home = socket_home(&account);
    // Through a descriptor: the account may be unable to enter the directory that the program is in.
    let program = std::fs::File::open("/proc/self/exe").unwrap();
    rustix::io::fcntl_setfd(&program, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&program);
    let postgres = engine_roots();
    let output = std::process::Command::new(format!("/proc/self/fd/{number}"))
        .args(["branches_on_every_kind_of_volume", "--nocapture"])
        .env(PLACES_VARIABLE, given.join(":"))
        .env("BOUGH_POSTGRES_PATH", postgres)
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .current_dir("/")
        .uid(account.uid)
        .gid(account.gid)
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
}

/// Where root's servers are: an ordinary account looks elsewhere by itself.
fn engine_roots() -> std::ffi::OsString {
    match std::env::var_os("BOUGH_POSTGRES_PATH") {
        Some(set) if !set.is_empty() => set,
        Some(_) | None => "/var/lib/bough/postgres".into(),
    }
}

//! Servers of ours: made, started, found again, ended, and closed to everybody but those with a password.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::postgres::account::ServerAccount;
use engine::postgres::binaries::{Installation, Installations};
use engine::postgres::connect::{ConnectError, Session, connect_local};
use engine::postgres::control_data;
use engine::postgres::initdb::create_cluster;
use engine::postgres::password::{generate, set_password};
use engine::postgres::server::{Launch, Server, StartError, StopMode, adopt, start, sweep};
use engine::postgres::settings::{Purpose, SemanticSettings, ServerSettings};
use fixtures::TempDir;
use model::{PgMajor, Secret};

use crate::stage::{chain, installations, working_in};

/// The bound of every wait here: conditions come in milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A cluster of ours with its settings.
struct Cluster {
    home: TempDir,
    installations: Installations,
    major: PgMajor,
    account: ServerAccount,
    settings: ServerSettings,
    password: Secret,
}

impl Cluster {
    async fn new(major: u16) -> Self {
        let home = TempDir::new().expect("a directory");
        let account = ServerAccount::choose(None).expect("an account");
        let installations = installations().await;
        let major = PgMajor(major);
        let installation = installations.server(major).expect("xtask installed it");
        let data = home.path().join("data");
        let password = create_cluster(installation, &account, &data, "first").await;
        let settings = ServerSettings {
            purpose: Purpose::Branch,
            socket_dir: home.path().join("socket"),
            identity: "bough-0123".to_owned(),
            semantic: SemanticSettings::new(),
        };
        Self {
            password: password.unwrap_or_else(|error| panic!("{}", chain(&error))),
            home,
            installations,
            major,
            account,
            settings,
        }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    fn installation(&self) -> &Installation {
        self.installations
            .server(self.major)
            .expect("it was there before")
    }

    async fn try_start(&self) -> Result<Server, StartError> {
        let launch = Launch {
            installation: self.installation(),
            account: &self.account,
            data: &self.data(),
            log: &self.log(),
            settings: &self.settings,
        };
        start(&launch).await
    }

    async fn start(&self) -> Server {
        self.try_start()
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    async fn connect_as(&self, user: &str, password: &Secret) -> Result<Session, ConnectError> {
        connect_local(&self.settings.socket_dir, "postgres", user, password).await
    }

    async fn connect(&self) -> Session {
        self.connect_as("first", &self.password)
            .await
            .expect("the first user gets in")
    }
}

async fn value(session: &Session, statement: &str) -> String {
    let row = session
        .query_one(statement, &[])
        .await
        .expect("the statement works");
    row.get(0)
}

/// Waits until nothing works in a directory any more.
async fn all_gone(data: &Path) {
    let waited = tokio::time::timeout(WAIT_MAX, async {
        while !working_in(data).is_empty() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("everything ends");
}

#[tokio::test]
async fn a_server_of_every_version_starts_answers_and_stops_cleanly() {
    for major in [15, 16, 17, 18] {
        let cluster = Cluster::new(major).await;
        let server = cluster.start().await;
        let session = cluster.connect().await;
        assert_eq!(value(&session, "SHOW cluster_name").await, "bough-0123");
        assert_eq!(value(&session, "SHOW listen_addresses").await, "");
        assert_eq!(value(&session, "SHOW data_checksums").await, "off");
        assert_eq!(value(&session, "SHOW wal_segment_size").await, "1MB");
        assert_eq!(value(&session, "SHOW server_encoding").await, "UTF8");
        assert!(
            value(&session, "SHOW server_version")
                .await
                .starts_with(&major.to_string())
        );
        assert!(!control_data::read(&cluster.data()).unwrap().is_shut_down);
        server.stop(StopMode::Fast).await.unwrap();
        assert!(control_data::read(&cluster.data()).unwrap().is_shut_down);
        assert_eq!(working_in(&cluster.data()), [] as [u32; 0]);
        assert!(!cluster.home.path().join("data.password").exists());
    }
}

#[tokio::test]
async fn only_a_password_opens_a_server_and_nobody_else_reads_its_files() {
    use std::os::unix::fs::MetadataExt as _;
    let cluster = Cluster::new(16).await;
    let server = cluster.start().await;
    let wrong = cluster
        .connect_as("first", &Secret::new("wrong"))
        .await
        .unwrap_err();
    assert!(
        matches!(wrong, ConnectError::Password { .. }),
        "{}",
        chain(&wrong)
    );
    let session = cluster.connect().await;
    session
        .batch_execute("CREATE ROLE app LOGIN")
        .await
        .unwrap();
    let password = generate();
    set_password(&session, "app", &password).await.unwrap();
    let app = cluster.connect_as("app", &password).await.unwrap();
    assert_eq!(value(&app, "SELECT session_user::text").await, "app");
    let refused = set_password(&session, "nobody there", &password)
        .await
        .unwrap_err();
    assert!(chain(&refused).contains("nobody there"));
    assert!(!chain(&refused).contains(password.reveal()));
    // A role that keeps its old kind of password gets in too.
    session
        .batch_execute("SET password_encryption = md5; ALTER ROLE app PASSWORD 'old'")
        .await
        .unwrap();
    cluster
        .connect_as("app", &Secret::new("old"))
        .await
        .unwrap();
    for path in [
        cluster.data(),
        cluster.settings.socket_dir.clone(),
        cluster.log(),
    ] {
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o077, 0, "{}", path.display());
    }
    let log = std::fs::read_to_string(cluster.log()).unwrap();
    assert!(
        !log.contains(password.reveal()) && !log.contains("SCRAM-SHA-256$"),
        "{log}"
    );
    server.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn what_keeps_a_branch_apart_outlives_alter_system() {
    let cluster = Cluster::new(17).await;
    let server = cluster.start().await;
    let session = cluster.connect().await;
    for setting in [
        "listen_addresses = '*'",
        "cluster_name = 'another'",
        "archive_mode = on",
        "archive_command = 'true'",
        "max_logical_replication_workers = 4",
    ] {
        session
            .batch_execute(&format!("ALTER SYSTEM SET {setting}"))
            .await
            .unwrap();
    }
    drop(session);
    server.stop(StopMode::Fast).await.unwrap();
    let server = cluster.start().await;
    let session = cluster.connect().await;
    assert_eq!(value(&session, "SHOW listen_addresses").await, "");
    assert_eq!(value(&session, "SHOW cluster_name").await, "bough-0123");
    assert_eq!(value(&session, "SHOW archive_mode").await, "off");
    assert_eq!(
        value(&session, "SHOW max_logical_replication_workers").await,
        "0"
    );
    server.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn a_server_outlives_its_handle_and_is_found_again() {
    let cluster = Cluster::new(16).await;
    assert!(adopt(&cluster.data()).await.unwrap().is_none());
    let server = cluster.start().await;
    let pid = server.pid();
    drop(server);
    let session = cluster.connect().await;
    assert_eq!(value(&session, "SHOW cluster_name").await, "bough-0123");
    let again = cluster.try_start().await.unwrap_err();
    assert!(
        matches!(again, StartError::Running { pid: found, .. } if found == pid),
        "{again}"
    );
    let adopted = adopt(&cluster.data()).await.unwrap().expect("it lives");
    assert_eq!(adopted.pid(), pid);
    drop(session);
    let (stopped, ()) = tokio::join!(adopted.stop(StopMode::Fast), adopted.exited());
    stopped.unwrap();
    assert!(control_data::read(&cluster.data()).unwrap().is_shut_down);
    assert!(adopt(&cluster.data()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_pid_file_that_names_somebody_else_is_not_believed() {
    let cluster = Cluster::new(16).await;
    let stranger = start_stranger();
    let pid_file = cluster.data().join("postmaster.pid");
    let text = format!(
        "{}\n{}\n0\n5432\n\n\n\nready   \n",
        stranger.id(),
        cluster.data().display()
    );
    std::fs::write(&pid_file, text).unwrap();
    assert!(adopt(&cluster.data()).await.unwrap().is_none());
    sweep(&cluster.data()).await.unwrap();
    assert!(Path::new(&format!("/proc/{}", stranger.id())).exists());
    let server = cluster.start().await;
    server.stop(StopMode::Immediate).await.unwrap();
    drop(stranger);
}

/// A process of ours that is no server; it ends with its owner.
fn start_stranger() -> Stranger {
    let mut command = std::process::Command::new("sleep");
    Stranger(command.arg("600").spawn().expect("sleep is everywhere"))
}

struct Stranger(std::process::Child);

impl Stranger {
    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_and_leaves_nothing() {
    let mut cluster = Cluster::new(16).await;
    let semantic = [("TimeZone".to_owned(), "Nowhere/At All".to_owned())];
    cluster.settings.semantic = semantic.into_iter().collect();
    let refused = cluster.try_start().await.unwrap_err();
    assert!(matches!(refused, StartError::Ended { .. }));
    assert!(refused.to_string().contains("Nowhere/At All"), "{refused}");
    assert_eq!(working_in(&cluster.data()), [] as [u32; 0]);
    cluster.settings.semantic = SemanticSettings::new();
    let server = cluster.start().await;
    server.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let cluster = Cluster::new(16).await;
    let starting = cluster.try_start();
    let data = cluster.data();
    tokio::select! {
        biased;
        started = starting => panic!("it started before it was given up: {started:?}"),
        () = begun(&data) => {}
    }
    all_gone(&cluster.data()).await;
    let server = cluster.start().await;
    server.stop(StopMode::Fast).await.unwrap();
}

/// Waits until a server's process is there.
async fn begun(data: &Path) {
    while working_in(data).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_killed_server_leaves_behind_is_swept_away() {
    let cluster = Cluster::new(16).await;
    let server = cluster.start().await;
    let session = cluster.connect().await;
    // A backend that does not notice, and a program that it started.
    let busy = "SELECT pg_catalog.count(*) FROM generate_series(1, 100000000000) n";
    let program = "COPY (SELECT 1) TO PROGRAM 'sleep 600'";
    let other = cluster.connect().await;
    let running = tokio::spawn(async move {
        drop(tokio::join!(
            session.batch_execute(busy),
            other.batch_execute(program)
        ));
    });
    let children = || {
        working_in(&cluster.data())
            .into_iter()
            .filter(|pid| name(*pid) == "sleep")
            .count()
    };
    let both = tokio::time::timeout(WAIT_MAX, async {
        while children() == 0 {
            tokio::task::yield_now().await;
        }
    });
    both.await.expect("the program runs");
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    server.exited().await;
    assert!(
        !working_in(&cluster.data()).is_empty(),
        "backends outlive a killed postmaster"
    );
    sweep(&cluster.data()).await.unwrap();
    assert_eq!(working_in(&cluster.data()), [] as [u32; 0]);
    running.await.unwrap();
    let server = cluster.start().await;
    server.stop(StopMode::Fast).await.unwrap();
}

fn name(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

//! A PostgreSQL server for one test: found, initialised, started on a Unix socket, ended and removed.
//!
//! A socket in the test's own folder needs no free port, so tests never race for one.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio_postgres::{Client, NoTls};

/// Colon-separated folders with `<major>/bin/` below each.
const PATH_VARIABLE: &str = "BOUGH_POSTGRES_PATH";

/// Where Debian's packages put the same layout.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// The walk-through's version first, then those closest to it.
const MAJORS: [&str; 4] = ["16", "17", "15", "18"];

/// For a start of the server or a condition in it; both take well under a second, the rest is for a loaded machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// PostgreSQL tells nobody of a lock that is waited for; it has to be asked.
const POLL_PAUSE: Duration = Duration::from_millis(5);

/// Has everything that must be percent-encoded in a URL, and no part that occurs elsewhere in a log.
pub(crate) const PASSWORD: &str = "Zy:7/k@Qx?9 w%#";
pub(crate) const PASSWORD_ENCODED: &str = "Zy%3A7%2Fk%40Qx%3F9%20w%25%23";

/// A running server with the empty database `inventory`, owned by the role `inventory`.
pub(crate) struct TestPostgres {
    server: Child,
    directory: TempDir,
}

impl TestPostgres {
    pub(crate) async fn start() -> Self {
        let binaries = find_binaries();
        let directory = tempfile::Builder::new()
            .prefix("metalmart-")
            .tempdir()
            .unwrap();
        let account = unprivileged_account();
        if let Some((uid, gid)) = account {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        initialise(&binaries, directory.path(), account);
        let server = launch(&binaries, directory.path(), account);
        let postgres = Self { server, directory };
        let admin = postgres.connect("postgres", "postgres").await;
        let quoted = PASSWORD.replace('\'', "''");
        admin
            .batch_execute(&format!("CREATE ROLE inventory LOGIN PASSWORD '{quoted}'"))
            .await
            .unwrap();
        admin
            .batch_execute("CREATE DATABASE inventory OWNER inventory")
            .await
            .unwrap();
        postgres
    }

    /// The URL for the service.
    pub(crate) fn url(&self) -> String {
        self.url_with(PASSWORD_ENCODED, "inventory")
    }

    pub(crate) fn url_with(&self, password_encoded: &str, database: &str) -> String {
        let socket = self.directory.path().to_str().unwrap().replace('/', "%2F");
        format!("postgresql://inventory:{password_encoded}@{socket}/{database}")
    }

    /// The URL over TCP, through a relay that lives as long as the test's runtime: the server itself has only the socket.
    pub(crate) async fn tcp_url(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = self.directory.path().join(".s.PGSQL.5432");
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        format!("postgresql://inventory:{PASSWORD_ENCODED}@127.0.0.1:{port}/inventory")
    }

    /// A connection of the test's own to the service's database.
    pub(crate) async fn connect_admin(&self) -> Client {
        self.connect("postgres", "inventory").await
    }

    async fn connect(&self, user: &str, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.directory.path())
            .user(user)
            .password(PASSWORD)
            .dbname(database);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Stock and reserved units of a product, read past the service.
    pub(crate) async fn quantities(&self, product_id: &str) -> (i64, i64) {
        let query = "SELECT stock_quantity, reserved_quantity FROM products WHERE product_id = $1";
        let row = self
            .connect_admin()
            .await
            .query_one(query, &[&product_id])
            .await
            .unwrap();
        (row.get(0), row.get(1))
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        // SIGQUIT: PostgreSQL's immediate shutdown; it ends its own children and bounds that itself.
        let _ = kill_process(Pid::from_child(&self.server), Signal::QUIT);
        let _ = self.server.wait();
    }
}

/// Waits until `query`, a count, gives `wanted`.
pub(crate) async fn wait_for_count(client: &Client, query: &str, wanted: i64) {
    let reached = async {
        while client.query_one(query, &[]).await.unwrap().get::<_, i64>(0) != wanted {
            tokio::time::sleep(POLL_PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(WAIT_MAX, reached).await;
    assert!(waited.is_ok(), "never {wanted}: {query}");
}

fn find_binaries() -> PathBuf {
    let given = std::env::var_os(PATH_VARIABLE).unwrap_or_default();
    let roots: Vec<PathBuf> = std::env::split_paths(&given)
        .filter(|root| !root.as_os_str().is_empty())
        .chain([PathBuf::from(DEBIAN_ROOT)])
        .collect();
    // A folder that was given comes before Debian's, whichever versions each holds.
    let mut candidates = roots
        .iter()
        .flat_map(|root| MAJORS.iter().map(move |major| root.join(major).join("bin")));
    candidates.find(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file()).unwrap_or_else(|| {
        panic!(
            "no PostgreSQL server of version {} in <major>/bin below any of {roots:?}; `cargo xtask test` gets one and runs \
             these tests with it, or set {PATH_VARIABLE} to colon-separated folders",
            MAJORS.join(", ")
        )
    })
}

/// The account to run the server as: a server refuses to run as root.
fn unprivileged_account() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let find = |wanted: &str| {
        let mut fields = accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields.find(|fields| fields[0] == wanted)?;
        Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
    };
    Some(
        find("postgres")
            .or_else(|| find("nobody"))
            .expect("root has an account postgres or nobody to run the server as"),
    )
}

fn command(program: PathBuf, directory: &Path, account: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir(directory)
        .stdin(Stdio::null());
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid);
    }
    command
}

fn initialise(binaries: &Path, directory: &Path, account: Option<(u32, u32)>) {
    let password_file = directory.join("password");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&password_file)
        .unwrap();
    writeln!(file, "{PASSWORD}").unwrap();
    if let Some((uid, gid)) = account {
        chown(&password_file, Some(uid), Some(gid)).unwrap();
    }
    let output = command(binaries.join("initdb"), directory, account)
        .args([
            "--pgdata",
            "data",
            "--username",
            "postgres",
            "--pwfile",
            "password",
            "--auth",
            "scram-sha-256",
        ])
        .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "initdb failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn launch(binaries: &Path, directory: &Path, account: Option<(u32, u32)>) -> Child {
    let mut socket_setting = OsString::from("unix_socket_directories=");
    socket_setting.push(directory);
    let mut server = command(binaries.join("postgres"), directory, account)
        .args([
            "-D",
            "data",
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
        ])
        .arg(socket_setting)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (ready_tx, ready_rx) = mpsc::channel();
    let stderr = server.stderr.take().unwrap();
    thread::spawn(move || watch_start(stderr, &ready_tx));
    match ready_rx.recv_timeout(WAIT_MAX) {
        Ok(Ok(())) => server,
        Ok(Err(log)) => panic!(
            "PostgreSQL ended at start ({}):\n{log}",
            server.wait().unwrap()
        ),
        Err(_) => {
            let _ = server.kill();
            let _ = server.wait();
            panic!("PostgreSQL did not start within {WAIT_MAX:?}");
        }
    }
}

/// Says when the server is ready, or what it logged if it ended before; reads on so that the pipe never fills.
fn watch_start(stderr: ChildStderr, ready_tx: &mpsc::Sender<Result<(), String>>) {
    let mut log = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.contains("database system is ready to accept connections") {
            let _ = ready_tx.send(Ok(()));
        }
        log.push_str(&line);
        log.push('\n');
    }
    let _ = ready_tx.send(Err(log));
}

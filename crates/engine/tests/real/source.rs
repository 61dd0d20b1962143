//! What a source is asked: whether it moved, who it is, and through which connections.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use engine::clock::Clock;
use engine::postgres::account::ServerAccount;
use engine::postgres::connect::ConnectError;
use engine::postgres::server::{Launch, Server, StopMode, start};
use engine::postgres::settings::{Purpose, ServerSettings};
use engine::source::SourceAccess;
use engine::source::contact::Contact;
use engine::source::facts::CollationProvider;
use engine::source::movement::Position;
use fixtures::{Options, TempDir, TestPostgres};
use model::{CopySpec, PgMajor, PgUrl};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::stage::{Stage, WAIT_MAX, access, chain, installations, position, source};

/// Through a kept connection, what a new one says stays right: a commit, a restart, another password.
#[tokio::test]
async fn a_kept_connection_tells_what_a_new_one_would() {
    let server = source(16);
    server
        .execute(
            "postgres",
            "CREATE ROLE app LOGIN PASSWORD 'right'; GRANT pg_read_all_data TO app",
        )
        .unwrap();
    let access = access(&server.url("app", "right", "postgres"));
    let (contact, clock) = (Contact::default(), Clock::start());
    let first = contact.position(&access, clock).await.unwrap();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'bough%'";
    assert_eq!(server.query_value("postgres", sessions).unwrap(), "1");
    let again = contact.position(&access, clock).await.unwrap();
    assert!(again.unmoved_since(&first));
    assert_eq!(server.query_value("postgres", sessions).unwrap(), "1");
    server.execute("postgres", "CREATE TABLE moved ()").unwrap();
    let moved = contact.position(&access, clock).await.unwrap();
    assert!(!moved.unmoved_since(&first));
    server
        .execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'bough%'",
        )
        .unwrap();
    let after_loss = contact.position(&access, clock).await.unwrap();
    assert!(after_loss.unmoved_since(&moved));
    let stranger = SourceAccess {
        url: PgUrl::parse(&server.url("app", "wrong", "postgres")).unwrap(),
        ..access.clone()
    };
    let refused = contact.position(&stranger, clock).await;
    assert!(
        matches!(refused, Err(engine::source::SourceError::Connect(_))),
        "{refused:?}"
    );
}

/// A catalogue is read again only where a transaction may have changed it: what a kept connection then says is what a
/// new one does, after every kind of change to what it remembers.
#[tokio::test]
async fn a_kept_connection_learns_what_changes_in_the_catalog() {
    let server = source(16);
    server
        .execute("postgres", "CREATE ROLE app LOGIN PASSWORD 'app'; GRANT pg_read_all_data TO app; \
             GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO app; CREATE SEQUENCE first")
        .unwrap();
    let access = access(&server.url("app", "app", "postgres"));
    let (contact, clock) = (Contact::default(), Clock::start());
    let mut last = contact.position(&access, clock).await.unwrap();
    for writes in [
        "CREATE SEQUENCE second",
        "SELECT nextval('second')",
        "ALTER SEQUENCE second RENAME TO third",
        "DROP SEQUENCE third",
        "CREATE SEQUENCE third; SELECT nextval('third')",
        "CREATE UNLOGGED TABLE u (a integer)",
        "CHECKPOINT",
        "ALTER TABLE u SET LOGGED",
        "CREATE SCHEMA aside; ALTER SEQUENCE third SET SCHEMA aside",
    ] {
        server.execute("postgres", writes).unwrap();
        let kept = contact.position(&access, clock).await.unwrap();
        assert!(!kept.unmoved_since(&last), "{writes}");
        let new = Contact::default().position(&access, clock).await.unwrap();
        assert!(
            kept.unmoved_since(&new) && new.unmoved_since(&kept),
            "{writes}"
        );
        let again = contact.position(&access, clock).await.unwrap();
        assert!(again.unmoved_since(&new), "{writes}");
        last = again;
    }
    let revoked = "REVOKE pg_read_all_data FROM app";
    server.execute("postgres", revoked).unwrap();
    let unreadable = contact.position(&access, clock).await.unwrap();
    assert!(!unreadable.is_comparable());
}

#[tokio::test]
async fn nothing_moves_a_source_but_what_writes_to_it() {
    for major in [15, 18] {
        let mut source = source(major);
        let made = "CREATE TABLE t (a integer); CREATE SEQUENCE s; CREATE ROLE plain LOGIN PASSWORD 'plain'; \
             CREATE UNLOGGED TABLE u (a integer)";
        source.execute("postgres", made).unwrap();
        let access = access(&source.superuser_url("postgres"));
        let mut last = position(&access).await;
        assert!(last.is_comparable());
        for reads in [
            "SELECT * FROM t",
            "SELECT 1",
            "BEGIN; SELECT count(*) FROM t; ROLLBACK",
            "SET work_mem = '4MB'",
        ] {
            source.execute("postgres", reads).unwrap();
            assert!(
                position(&access).await.unmoved_since(&last),
                "{major}: {reads}"
            );
        }
        for writes in [
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 2",
            "TRUNCATE t",
            "SELECT nextval('s')",
            "SELECT nextval('s')",
            "SELECT setval('s', 99)",
            "SELECT setval('s', 99, false)",
            "CREATE TABLE more (a integer)",
            "GRANT SELECT ON t TO plain",
            "ALTER ROLE plain SET work_mem = '4MB'",
            "CREATE SEQUENCE s2",
            "SELECT lo_create(0)",
        ] {
            source.execute("postgres", writes).unwrap();
            let now = position(&access).await;
            assert!(!now.unmoved_since(&last), "{major}: {writes}");
            assert!(
                position(&access).await.unmoved_since(&now),
                "{major}: after {writes}"
            );
            last = now;
        }
        // A crash empties unlogged tables and may move nothing else.
        source.kill().unwrap();
        source.restart().unwrap();
        assert!(!position(&access).await.unmoved_since(&last));
    }
}

#[tokio::test]
async fn a_transaction_that_runs_may_commit_at_any_moment() {
    let source = source(16);
    source
        .execute("postgres", "CREATE TABLE t (a integer)")
        .unwrap();
    let access = access(&source.superuser_url("postgres"));
    let before = position(&access).await;
    let [one, other] = [
        access.connect().await.unwrap(),
        access.connect().await.unwrap(),
    ];
    one.batch_execute("BEGIN; INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    // Whatever comes after it: the upper bound is beyond both.
    other
        .batch_execute("INSERT INTO t VALUES (2)")
        .await
        .unwrap();
    let during = position(&access).await;
    assert!(!during.unmoved_since(&before));
    assert!(!position(&access).await.unmoved_since(&during), "one runs");
    one.batch_execute("COMMIT").await.unwrap();
    let after = position(&access).await;
    assert!(
        !after.unmoved_since(&during),
        "the commit moved no upper bound"
    );
    assert!(position(&access).await.unmoved_since(&after));
}

#[tokio::test]
async fn what_a_user_may_not_see_counts_as_moved() {
    let source = source(16);
    let made = "CREATE ROLE plain LOGIN PASSWORD 'plain'; CREATE SEQUENCE s";
    source.execute("postgres", made).unwrap();
    let plain = access(&source.url("plain", "plain", "postgres"));
    let first = position(&plain).await;
    assert!(!first.is_comparable());
    assert!(!position(&plain).await.unmoved_since(&first));
    source
        .execute("postgres", "GRANT SELECT ON s TO plain")
        .unwrap();
    let first = position(&plain).await;
    assert!(position(&plain).await.unmoved_since(&first));
    source
        .execute(
            "postgres",
            "REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC",
        )
        .unwrap();
    assert!(!position(&plain).await.is_comparable());
}

#[tokio::test]
async fn two_clusters_are_never_the_same_place() {
    let [one, other] = [source(16), source(16)];
    let of_one = position(&access(&one.superuser_url("postgres"))).await;
    let of_other = position(&access(&other.superuser_url("postgres"))).await;
    assert!(!of_one.unmoved_since(&of_other));
    let another_database = position(&access(&one.superuser_url("template1"))).await;
    assert!(!another_database.unmoved_since(&of_one));
}

/// A standby of a source, run by our own server code.
struct Standby {
    home: TempDir,
    server: Server,
}

impl Standby {
    async fn of(source: &TestPostgres) -> Self {
        let home = TempDir::new().unwrap();
        let data = home.path().join("data");
        let target = format!("--pgdata={}", data.display());
        let arguments = [&target, "--write-recovery-conf", "--checkpoint=fast"];
        let made = source.client("pg_basebackup", "postgres", &arguments);
        made.and_then(fixtures::Outcome::success).unwrap();
        let account = ServerAccount::choose(None).unwrap();
        account.own(&data).unwrap();
        let installations = installations().await;
        let settings = ServerSettings {
            // A branch's server would not reach its source.
            purpose: Purpose::Standby,
            socket_dir: home.path().join("socket"),
            identity: "standby".to_owned(),
            // Its WAL segments are the source's, of 16 MB.
            semantic: BTreeMap::from([
                ("hot_standby".to_owned(), "on".to_owned()),
                ("min_wal_size".to_owned(), "80MB".to_owned()),
                // A standby has no fewer than its source.
                ("max_wal_senders".to_owned(), "10".to_owned()),
            ]),
        };
        let launch = Launch {
            installation: installations.server(PgMajor(source.major())).unwrap(),
            account: &account,
            data: &data,
            log: &home.path().join("log"),
            settings: &settings,
        };
        let server = start(&launch)
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        Self { home, server }
    }

    fn url(&self) -> String {
        let socket = self.home.path().join("socket").display().to_string();
        format!(
            "postgres://postgres:postgres@/postgres?host={}",
            socket.replace('/', "%2F")
        )
    }
}

#[tokio::test]
async fn a_read_replica_moves_with_what_it_replays_and_can_be_copied() {
    let source = source(17);
    source
        .execute(
            "postgres",
            "CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n; CREATE SEQUENCE s",
        )
        .unwrap();
    let standby = Standby::of(&source).await;
    let access = access(&standby.url());
    caught_up(&source, &access).await;
    let facts = access.facts().await.unwrap();
    assert!(facts.in_recovery);
    let stage = Stage::new().await;
    let copied = stage.copy(&access, &CopySpec::all()).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    // An idle primary writes a record of its own now and then, so one pair may meet it; not every pair can.
    let mut stood_still = false;
    for _ in 0..5 {
        let before = position(&access).await;
        stood_still |= position(&access).await.unmoved_since(&before);
    }
    assert!(stood_still, "a replica that replays nothing has not moved");
    for writes in ["INSERT INTO t VALUES (101)", "SELECT nextval('s')"] {
        let before = position(&access).await;
        source.execute("postgres", writes).unwrap();
        caught_up(&source, &access).await;
        assert!(!position(&access).await.unmoved_since(&before), "{writes}");
    }
    let branch = stage.serve(&copied).await;
    assert_eq!(branch.value("SELECT count(*) FROM t").await, "100");
    branch.stop().await;
    // The primary is the same cluster, and not the same place.
    let primary = position(&crate::stage::access(&source.superuser_url("postgres"))).await;
    assert!(!primary.unmoved_since(&position(&access).await));
    standby.server.stop(StopMode::Immediate).await.unwrap();
}

async fn caught_up(source: &TestPostgres, standby: &SourceAccess) {
    let target = source
        .query_value("postgres", "SELECT pg_current_wal_lsn()")
        .unwrap();
    let session = standby.connect().await.unwrap();
    let asked = format!("SELECT pg_last_wal_replay_lsn() >= '{target}'::pg_lsn");
    let waited = tokio::time::timeout(WAIT_MAX, async {
        while !session
            .query_one(&asked, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
        {}
    });
    waited.await.expect("the standby catches up");
}

#[tokio::test]
async fn a_source_says_who_and_where_it_really_is() {
    let source = Options::new(17)
        .setting("timezone", "Asia/Kathmandu")
        .start()
        .unwrap();
    let made = "CREATE ROLE app LOGIN PASSWORD 'app'; ALTER ROLE app SET statement_timeout = '5s'";
    source.execute("postgres", made).unwrap();
    let database =
        "CREATE DATABASE shop TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'";
    source.execute("postgres", database).unwrap();
    source.execute("shop", "CREATE EXTENSION hstore").unwrap();
    let facts = access(&source.url("app", "app", "shop"))
        .facts()
        .await
        .unwrap();
    assert_eq!(
        (facts.session_user.as_str(), facts.database.as_str()),
        ("app", "shop")
    );
    assert_eq!(facts.major, PgMajor(17));
    assert!(!facts.is_superuser && !facts.in_recovery);
    assert!(facts.system_identifier.is_some() && facts.size_bytes.0 > 1 << 20);
    assert_eq!(facts.collation.provider, CollationProvider::Icu);
    assert_eq!(facts.collation.locale.as_deref(), Some("de"));
    let names: Vec<_> = facts
        .extensions
        .iter()
        .map(|extension| extension.name.as_str())
        .collect();
    assert_eq!(names, ["hstore", "plpgsql"]);
    assert_eq!(facts.settings["TimeZone"], "Asia/Kathmandu");
    // The role's own default is not the server's, and our time-outs are nobody's.
    assert_eq!(facts.settings.get("statement_timeout"), None);
    assert_eq!(facts.settings["lock_timeout"], "0ms");
    let facts = access(&source.superuser_url("shop")).facts().await.unwrap();
    assert!(facts.is_superuser);
    assert_eq!(facts.settings["statement_timeout"], "0ms");
}

#[tokio::test]
async fn settings_for_the_connection_reach_the_source() {
    let source = source(16);
    let mut access = access(&format!(
        "{}?options=-c%20geqo%3Doff",
        source.superuser_url("postgres")
    ));
    access
        .settings
        .insert("app.tenant".to_owned(), "it's \\ 7".to_owned());
    let session = access.connect().await.unwrap();
    let row = session
        .query_one(
            "SELECT current_setting('app.tenant'), current_setting('geqo')",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), ("it's \\ 7", "off"));
}

#[tokio::test]
async fn nothing_stays_behind_in_a_session() {
    let source = source(16);
    let session = access(&source.superuser_url("postgres"))
        .connect()
        .await
        .unwrap();
    let settings = "SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings";
    let before: String = session.query_one(settings, &[]).await.unwrap().get(0);
    Position::begin(&session).await.unwrap();
    let refused = session
        .batch_execute("CREATE TABLE t ()")
        .await
        .unwrap_err();
    assert!(chain(&refused).contains("read-only transaction"));
    session.batch_execute("ROLLBACK").await.unwrap();
    let after: String = session.query_one(settings, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}

/// Certificates of an authority, of a server, and of an authority that signed nothing.
pub(crate) struct Certificates {
    home: TempDir,
}

impl Certificates {
    fn make() -> Self {
        Self::make_for("localhost")
    }

    /// Those of a server that is called `host`.
    pub(crate) fn make_for(host: &str) -> Self {
        let home = TempDir::new().unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            fs::write(home.path().join(format!("{name}.crt")), certificate.pem()).unwrap();
            Issuer::new(params, key)
        };
        let root = authority("root");
        drop(authority("other"));
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = server.signed_by(&key, &root).unwrap();
        fs::write(home.path().join("server.crt"), certificate.pem()).unwrap();
        let path = home.path().join("server.key");
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        ServerAccount::choose(None).unwrap().own(&path).unwrap();
        Self { home }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

/// A source that takes TLS alone.
pub(crate) fn with_tls(certificates: &Certificates) -> TestPostgres {
    let path = |name| certificates.path(name).display().to_string();
    let mut source = Options::new(16)
        .setting("ssl_cert_file", &path("server.crt"))
        .setting("ssl_key_file", &path("server.key"))
        .hba("hostnossl shop all 127.0.0.1/32 reject")
        .hba("hostnossl shop all ::1/128 reject")
        .start()
        .unwrap();
    source
        .execute(
            "postgres",
            "CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n",
        )
        .unwrap();
    source
        .execute("postgres", "CREATE DATABASE shop TEMPLATE template0")
        .unwrap();
    source.configure("ssl", "on").unwrap();
    source.restart().unwrap();
    source
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
#[tokio::test]
async fn tls_is_as_libpq_has_it() {
    let certificates = Certificates::make();
    let source = with_tls(&certificates);
    let of = |name: &str| certificates.path(name).display().to_string();
    let (root, other) = (of("root.crt"), of("other.crt"));
    let url = |host: &str, query: &str| {
        let address = format!("{host}:{}", source.port());
        format!("postgres://postgres:postgres@{address}/shop?{query}")
    };
    for query in [
        "",
        "sslmode=prefer",
        "sslmode=allow",
        "sslmode=require",
        "sslmode=require&channel_binding=require",
        &format!("sslmode=verify-ca&sslrootcert={root}"),
        &format!("sslmode=verify-full&sslrootcert={root}&channel_binding=require"),
    ] {
        let session = access(&url("localhost", query)).connect().await;
        let session = session.unwrap_or_else(|error| panic!("{query}: {}", chain(&error)));
        assert!(session.peer().unwrap().is_tls, "{query}");
    }
    access(&url(
        "127.0.0.1",
        &format!("sslmode=verify-ca&sslrootcert={root}"),
    ))
    .connect()
    .await
    .unwrap();
    for (host, query) in [
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={root}"),
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={other}"),
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={other}"),
        ),
        ("localhost", format!("sslmode=require&sslrootcert={other}")),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=system".to_owned(),
        ),
    ] {
        let refused = access(&url(host, &query)).connect().await.unwrap_err();
        assert!(
            matches!(refused, ConnectError::Tls { .. }),
            "{host} {query}: {}",
            chain(&refused)
        );
    }
    let refused = access(&url("localhost", "sslmode=disable"))
        .connect()
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ConnectError::NotAllowed { .. }),
        "{}",
        chain(&refused)
    );
    let refused = access(&url("localhost", "sslmode=verify-full"))
        .connect()
        .await
        .unwrap_err();
    assert!(
        chain(&refused).contains("add sslrootcert=system"),
        "{}",
        chain(&refused)
    );
    let nowhere = access(&url(
        "localhost",
        "sslmode=verify-ca&sslrootcert=/nowhere.crt",
    ));
    let refused = nowhere.connect().await.unwrap_err();
    assert!(
        chain(&refused).contains("cannot use /nowhere.crt for TLS"),
        "{}",
        chain(&refused)
    );
    // pg_dump goes the same way.
    let stage = Stage::new().await;
    let verified = access(&url(
        "localhost",
        &format!("sslmode=verify-full&sslrootcert={root}"),
    ));
    let copied = stage.copy(&verified, &CopySpec::all()).await;
    copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
}

#[tokio::test]
async fn the_first_server_that_fits_is_taken() {
    let source = source(16);
    let port = source.port();
    let closed = {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        taken.local_addr().unwrap().port()
    };
    let url = |query: &str| {
        format!("postgres://postgres:postgres@127.0.0.1:{closed},127.0.0.1:{port}/postgres?{query}")
    };
    let session = access(&url("")).connect().await.unwrap();
    assert_eq!(session.peer().unwrap().address.port, port);
    for fits in ["read-write", "primary", "any", "prefer-standby"] {
        access(&url(&format!("target_session_attrs={fits}")))
            .connect()
            .await
            .unwrap();
    }
    for fits in ["standby", "read-only"] {
        let refused = access(&url(&format!("target_session_attrs={fits}")))
            .connect()
            .await
            .unwrap_err();
        assert!(refused.hint().is_some(), "{}", chain(&refused));
    }
    let socket = source.socket_directory().display().to_string();
    let by_socket =
        format!("host={socket} port={port} user=postgres password=postgres dbname=postgres");
    let by_socket = SourceAccess {
        url: PgUrl::parse(&by_socket).unwrap(),
        database: None,
        settings: BTreeMap::new(),
        gateway: None,
    };
    assert_eq!(by_socket.facts().await.unwrap().database, "postgres");
    assert!(Path::new(&socket).exists());
}

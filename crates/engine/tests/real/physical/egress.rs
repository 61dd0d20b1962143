//! A branch's server reaches nothing but its clients: not by SQL, not by a program, however the branch was made.
//!
//! Each way out is shown to work on the source, so that a refusal in the branch means something.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::postgres::connect::Session;
use engine::postgres::server::StopMode;
use fixtures::{Options, TestPostgres};
use model::CopySpec;

use super::ground::{Ground, source_with};
use crate::stage::{Stage, access, chain};

/// A web server that a trigger may call.
struct Web {
    port: u16,
    calls: Arc<AtomicUsize>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, calls) = (listener.local_addr().unwrap().port(), Arc::default());
        let counted: Arc<AtomicUsize> = Arc::clone(&calls);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            }
        });
        Self { port, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// A source with everything that calls out.
fn source(major: u16, web: &Web) -> TestPostgres {
    let source = source_with(Options::new(major));
    let port = source.port();
    let statements = format!(
        "CREATE EXTENSION dblink; \
         CREATE EXTENSION postgres_fdw; \
         CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw \
           OPTIONS (host '127.0.0.1', port '{port}', dbname 'shop'); \
         CREATE FOREIGN TABLE far (id bigint, name text) SERVER remote OPTIONS (table_name 'item'); \
         CREATE TABLE hooked (n int); \
         CREATE FUNCTION call_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; curl --silent --fail --max-time 20 http://127.0.0.1:{web}/'; \
           RETURN NEW; END $$; \
         CREATE TRIGGER hook AFTER INSERT ON hooked FOR EACH ROW EXECUTE FUNCTION call_out()",
        web = web.port
    );
    source.execute("shop", &statements).unwrap();
    source
}

/// Ways out to the source, each with its name.
fn ways_out(source: &TestPostgres, web: &Web) -> Vec<(&'static str, String)> {
    let (port, sockets) = (source.port(), source.socket_directory());
    // It takes the row first: COPY fails at a program that ends before.
    let program = |command: &str| {
        format!("COPY (SELECT 1) TO PROGRAM 'bash -c \"cat > /dev/null; {command}\"'")
    };
    let link = |host: &str| {
        format!(
            "SELECT * FROM dblink('host={host} port={port} user=postgres password=postgres dbname=shop', \
             'SELECT 1') AS t (n int)"
        )
    };
    vec![
        ("a link by TCP", link("127.0.0.1")),
        (
            "a link through a Unix socket",
            link(&sockets.display().to_string()),
        ),
        (
            "a foreign table",
            "CREATE USER MAPPING IF NOT EXISTS FOR PUBLIC SERVER remote \
               OPTIONS (user 'postgres', password 'postgres'); \
             SELECT * FROM far LIMIT 1"
                .to_owned(),
        ),
        (
            "a trigger that calls a web server",
            "INSERT INTO hooked VALUES (1)".to_owned(),
        ),
        (
            "a program that connects",
            program(&format!("exec 3<>/dev/tcp/127.0.0.1/{}", web.port)),
        ),
        (
            "a program that sends a datagram",
            program(&format!("echo > /dev/udp/127.0.0.1/{}", web.port)),
        ),
    ]
}

/// Nothing gets out of a branch, and it goes on serving.
async fn assert_closed(kind: &str, session: &Session, source: &TestPostgres, web: &Web) {
    let calls = web.calls();
    for (name, way) in ways_out(source, web) {
        let tried = session.batch_execute(&way).await;
        let error = tried.expect_err(&format!("{name} gets out of a {kind}"));
        let text = chain(&error);
        // What libpq and a shell make of EACCES, ENOSYS, or of a socket that there is none of.
        let is_refusal = [
            "could not establish connection",
            "could not connect to server",
            "child process exited",
        ];
        let is_refusal = is_refusal.iter().any(|refusal| text.contains(refusal));
        assert!(is_refusal, "{kind}, {name}: {text}");
    }
    assert_eq!(web.calls(), calls, "a {kind} called the web server");
    let served = session.query_one("SELECT count(*) FROM item", &[]).await;
    assert_eq!(served.unwrap().get::<_, i64>(0), 1000);
}

async fn nothing_reaches_out(major: u16) {
    let web = Web::start();
    let source = source(major, &web);
    for (name, way) in ways_out(&source, &web) {
        let done = source.execute("shop", &way);
        assert!(done.is_ok(), "{name} works on the source: {done:?}");
    }
    assert_eq!(web.calls(), 2, "the trigger and the program");

    let stage = Stage::new().await;
    let (access, spec) = (access(&source.superuser_url("shop")), CopySpec::all());
    let copied = stage.copy(&access, &spec).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let branch = stage.serve(&copied).await;
    assert_closed("copied branch", &branch.admin("shop").await, &source, &web).await;
    branch.stop().await;

    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let (place, snapshot) = ground.snapshot(&standby, "snap").await;
    let branch = ground.serve(&place, &snapshot.copied).await;
    assert_closed("clone of a snapshot", &branch.admin().await, &source, &web).await;
    branch.stop().await;

    let follower = ground.follower(&standby, "f").await;
    let branch = ground.promote(&standby, follower).await;
    assert_closed("promoted follower", &branch.admin().await, &source, &web).await;
    // Not even to the base, whose socket it came from.
    let base = format!(
        "SELECT * FROM dblink('host={} port=5432 user=postgres dbname=shop', 'SELECT 1') AS t (n int)",
        standby.place().socket_dir.display()
    );
    source.execute("shop", &base).unwrap();
    let tried = branch.admin().await.batch_execute(&base).await;
    tried.expect_err("a promoted follower reaches its base");
    branch.stop().await;
    standby.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn nothing_reaches_out_of_a_branch_of_15() {
    nothing_reaches_out(15).await;
}

#[tokio::test]
async fn nothing_reaches_out_of_a_branch_of_16() {
    nothing_reaches_out(16).await;
}

#[tokio::test]
async fn nothing_reaches_out_of_a_branch_of_17() {
    nothing_reaches_out(17).await;
}

#[tokio::test]
async fn nothing_reaches_out_of_a_branch_of_18() {
    nothing_reaches_out(18).await;
}

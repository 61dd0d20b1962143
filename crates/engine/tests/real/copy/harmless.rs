//! A source is only ever read, and no secret leaves the connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fixtures::{Options, TestPostgres};
use model::engine_api::{CopyPhase, CopyProgress};
use model::{CopyMode, CopySpec, TableFilter};

use super::exact::{assert_same, fill};
use crate::stage::{Stage, access, chain, position};

/// How every statement of ours and of `pg_dump` begins. Each is a read, or about the session's own transaction.
const ALLOWED: [&str; 23] = [
    "BEGIN",
    "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "CLOSE",
    "COMMIT",
    "COPY (SELECT",
    "COPY",
    "DECLARE bloboid CURSOR FOR SELECT",
    "DECLARE blob CURSOR FOR SELECT",
    "EXECUTE dump",
    "EXECUTE get",
    "FETCH",
    "LOCK TABLE",
    "PREPARE dump",
    "PREPARE get",
    "RESET search_path",
    "ROLLBACK",
    "SELECT",
    "SET",
    "WITH RECURSIVE",
    "select proname, oid from pg_catalog.pg_proc where proname in ('lo_open'",
    "\"lo_close\"",
    "\"lo_open\"",
    "\"loread\"",
];

/// What of those would write. A copy into the source, a lock that keeps others out, a function that changes something.
fn writes(statement: &str) -> bool {
    let upper = statement.to_uppercase();
    let is_copy_in = upper.starts_with("COPY") && !upper.contains(" TO STDOUT");
    let is_strong_lock = upper.starts_with("LOCK") && !upper.contains("IN ACCESS SHARE MODE");
    let is_other_plan = upper.starts_with("PREPARE")
        && !upper.contains(" AS SELECT")
        && !upper.contains(" AS WITH");
    let functions = [
        "NEXTVAL(",
        "SETVAL(",
        "LO_CREATE(",
        "LO_UNLINK(",
        "LOWRITE(",
        "PG_TERMINATE",
        "PG_CANCEL",
        "PG_SWITCH_WAL",
    ];
    is_copy_in
        || is_strong_lock
        || is_other_plan
        || functions.iter().any(|function| upper.contains(function))
}

/// Statements in a log. Lines after a statement's first begin with a tab.
fn statements(log: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let log = log.replace("\n\t", " ");
    for line in log.lines().filter(|line| line.contains("LOG:  ")) {
        for mark in [
            "statement: ",
            "execute <unnamed>: ",
            "fastpath function call: ",
        ] {
            if let Some((_, statement)) = line.split_once(mark) {
                found.insert(statement.trim().to_owned());
            }
        }
        if let Some((_, executed)) = line.split_once("LOG:  execute ") {
            let statement = executed
                .split_once(": ")
                .map_or(executed, |(_, statement)| statement);
            found.insert(statement.trim().to_owned());
        }
    }
    found
}

/// Everything of a source that a careless copy could change.
fn state(source: &TestPostgres) -> String {
    let dump = source.pg_dump("shop", &["--create"]).unwrap();
    let roles = source.client("pg_dumpall", "shop", &["--globals-only"]);
    let roles = roles.and_then(fixtures::Outcome::success).unwrap();
    let asked = "SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings \
         WHERE source = 'configuration file'";
    let settings = source.query_value("shop", asked).unwrap();
    let slots = source
        .query_value("shop", "SELECT count(*) FROM pg_replication_slots")
        .unwrap();
    format!("{dump}\n{roles}\n{settings}\n{slots}")
}

fn snapshot(source: &TestPostgres) -> String {
    source
        .query_value("shop", "SELECT pg_current_snapshot()")
        .unwrap()
}

#[tokio::test]
async fn a_copy_only_reads() {
    let source = Options::new(16)
        .setting("log_statement", "all")
        .setting("log_replication_commands", "on")
        // It takes transaction numbers of its own.
        .setting("autovacuum", "off")
        .start();
    let source = source.unwrap();
    fill(&source);
    let before = state(&source);
    let at = snapshot(&source);
    let logged = source.log_text().unwrap().len();
    let stage = Stage::new().await;
    let access = access(&source.url("copier", "copier secret", "shop"));
    let tables = [("sales.customers", Some("id > 0")), ("sales.events", None)];
    let tables = tables.map(|(name, filter)| {
        let filter = filter.map(str::to_owned);
        (name.to_owned(), TableFilter { filter })
    });
    let specs = [
        CopySpec::all(),
        CopySpec {
            mode: CopyMode::Schema,
            tables: tables.clone().into_iter().collect(),
            dump_args: Vec::new(),
        },
        CopySpec {
            mode: CopyMode::Empty,
            ..CopySpec::default()
        },
    ];
    for spec in specs {
        let copied = stage.copy(&access, &spec).await;
        let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let now = position(&access).await;
        assert!(
            now.unmoved_since(&copied.position),
            "{now:?} after {:?}",
            copied.position
        );
    }
    let log = source.log_text().unwrap().split_off(logged);
    // Not one transaction number was taken: nothing can have been written.
    assert_eq!(snapshot(&source), at);
    let found = statements(&log);
    assert!(found.len() > 100, "the log has our statements: {found:?}");
    for statement in found {
        let is_allowed = ALLOWED.iter().any(|allowed| statement.starts_with(allowed));
        assert!(
            is_allowed && !writes(&statement),
            "not on the list: {statement}"
        );
    }
    assert!(
        !log.contains("copier secret") && !log.contains("received replication command"),
        "{log}"
    );
    assert_same(&before, &state(&source), "the source");
}

#[tokio::test]
async fn no_password_is_in_a_process_list_or_a_log() {
    let source = Options::new(17)
        .superuser("postgres", "Tr0ub4dor-and-3")
        .start()
        .unwrap();
    fill(&source);
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("shop"));
    let stop = Arc::new(AtomicBool::new(false));
    let watching = {
        let stop = stop.clone();
        let port = format!("port='{}'", source.port());
        std::thread::spawn(move || watch("Tr0ub4dor", &port, &stop))
    };
    let copied = stage.copy(&access, &CopySpec::all()).await;
    stop.store(true, Ordering::Relaxed);
    let seen = watching.join().unwrap();
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(seen.dumps > 0, "pg_dump was seen at work");
    assert_eq!(seen.leaks, [] as [String; 0]);
    let log = std::fs::read_to_string(stage.base().join("server.log")).unwrap();
    for secret in [
        "Tr0ub4dor",
        copied.admin_password.reveal(),
        "SCRAM-SHA-256$",
    ] {
        assert!(!log.contains(secret), "{log}");
        assert!(!format!("{copied:?}").contains(secret));
    }
}

#[derive(Debug, Default)]
struct Seen {
    dumps: usize,
    leaks: Vec<String>,
}

/// Reads every process's command line until it is told to stop.
fn watch(secret: &str, dump: &str, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir("/proc").unwrap() {
            let line = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            if line.contains("pg_dump") && line.contains(dump) {
                seen.dumps += 1;
            }
            if line.contains(secret) {
                seen.leaks.push(line.into_owned());
            }
        }
    }
    seen
}

#[tokio::test]
async fn nothing_of_the_source_is_locked_while_indexes_are_built_here() {
    let source = crate::stage::source(16);
    // Its index takes two seconds here; there it was made of an empty table.
    source
        .execute(
            "postgres",
            "CREATE TABLE slow (id int); \
             CREATE FUNCTION slowly(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT pg_sleep(1); SELECT $1'; \
             CREATE INDEX ON slow (slowly(id)); INSERT INTO slow VALUES (1), (2)",
        )
        .unwrap();
    let stage = Stage::new().await;
    let mut phases = stage.progress.subscribe();
    let url = source.superuser_url("postgres");
    let access = access(&url);
    let spec = CopySpec::all();
    let mut copied = std::pin::pin!(stage.copy(&access, &spec));
    let truncated = async {
        let is_indexing = |seen: &Option<CopyProgress>| {
            seen.as_ref()
                .is_some_and(|seen| seen.phase == CopyPhase::Indexing)
        };
        let seen = phases.wait_for(is_indexing).await;
        drop(seen.expect("a copy says where it is"));
        let truncate = "SET lock_timeout = '500ms'; TRUNCATE slow";
        tokio::task::spawn_blocking(move || fixtures::sql::execute(&url, truncate)).await
    };
    let truncated = tokio::select! {
        truncated = truncated => truncated,
        copied = &mut copied => panic!("the index was there already: {copied:?}"),
    };
    truncated.unwrap().expect("no lock of ours is left");
    copied.await.unwrap();
}

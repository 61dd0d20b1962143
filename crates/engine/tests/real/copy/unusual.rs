//! Sources that are not as most are: names, encodings, locales, defaults, and what must not come alive in a branch.

use fixtures::{Options, TestPostgres};
use model::{CopySpec, Secret};

use super::exact::assert_same;
use crate::stage::{Branch, Stage, access, chain, source};

async fn copy(stage: &Stage, url: &str) -> (Branch, Vec<String>) {
    let copied = stage.copy(&access(url), &CopySpec::all()).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    (stage.serve(&copied).await, copied.notes)
}

fn compare(source: &TestPostgres, branch: &Branch, database: &str) {
    let of_source = source.pg_dump(database, &["--create"]).unwrap();
    let of_branch = branch.client("pg_dump", database, &["--create"]).unwrap();
    assert_same(&of_source, &of_branch, "the dump");
}

#[tokio::test]
async fn names_may_hold_anything() {
    let database = "Straße \"x\" 'y' \\ $1; --";
    let user = "O'Brien \"the user\" = \\ ü";
    let password = "p' \\ \"@:/?#[]%&= ü";
    let source = source(16);
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (database_sql, user_sql) = (quoted(database), quoted(user));
    let password_sql = password.replace('\'', "''");
    source
        .execute(
            "postgres",
            &format!("CREATE ROLE {user_sql} LOGIN PASSWORD '{password_sql}'"),
        )
        .unwrap();
    source
        .execute(
            "postgres",
            &format!("CREATE DATABASE {database_sql} OWNER {user_sql}"),
        )
        .unwrap();
    let table = format!(
        "CREATE TABLE \"a;b\nc\" (\"d\\.\" text); INSERT INTO \"a;b\nc\" VALUES (E'\\\\.'); \
         ALTER TABLE \"a;b\nc\" OWNER TO {user_sql}"
    );
    source.execute(database, &table).unwrap();
    let stage = Stage::new().await;
    let (branch, notes) = copy(&stage, &source.url(user, password, database)).await;
    assert_eq!(notes, [] as [&str; 0]);
    compare(&source, &branch, database);
    branch.stop().await;
}

#[tokio::test]
async fn encodings_and_locales_are_kept() {
    let source = source(17);
    for (name, options) in [
        ("latin", "ENCODING 'LATIN1' LOCALE 'C'"),
        ("ascii", "ENCODING 'SQL_ASCII' LOCALE 'C'"),
        (
            "german",
            "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' LOCALE 'C'",
        ),
        (
            "builtin",
            "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
        ),
        ("utf", "ENCODING 'UTF8' LOCALE 'C.utf8'"),
    ] {
        source
            .execute(
                "postgres",
                &format!("CREATE DATABASE {name} TEMPLATE template0 {options}"),
            )
            .unwrap();
        let filled = "CREATE TABLE t (a text COLLATE \"C\", b text); CREATE INDEX ON t (b); \
             INSERT INTO t VALUES ('Grüße', 'Ärger'), ('x', 'Zorn'), ('y', 'aber')";
        source.execute(name, filled).unwrap();
        if name == "ascii" {
            // Bytes that are no UTF-8.
            source
                .execute(name, "INSERT INTO t VALUES (E'\\xff\\xfe', 'z')")
                .unwrap();
        }
        let stage = Stage::new().await;
        let (branch, notes) = copy(&stage, &source.superuser_url(name)).await;
        assert_eq!(notes, [] as [&str; 0], "{name}");
        let encoded = branch.client("pg_dump", name, &["--create", "--encoding=UTF8"]);
        let dumped = source.pg_dump(name, &["--create", "--encoding=UTF8"]);
        if name == "ascii" {
            let bytes = "SELECT encode(convert_to(a, 'SQL_ASCII'), 'hex') FROM t WHERE b = 'z'";
            assert_eq!(branch.value(bytes).await, "fffe");
            drop((encoded, dumped));
        } else {
            assert_same(&dumped.unwrap(), &encoded.unwrap(), name);
        }
        branch.stop().await;
    }
}

#[tokio::test]
async fn a_user_who_gets_few_connections_is_served_by_those() {
    let source = Options::new(16).start().unwrap();
    let made = "CREATE ROLE narrow LOGIN CONNECTION LIMIT 2 IN ROLE pg_read_all_data PASSWORD 'narrow'; \
         CREATE TABLE large AS SELECT n, repeat('x', 100) AS x FROM generate_series(1, 20000) n; \
         CREATE TABLE small (id serial PRIMARY KEY, at timestamptz DEFAULT now()); \
         INSERT INTO small DEFAULT VALUES; CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES";
    source.execute("postgres", made).unwrap();
    let stage = Stage::new().await;
    let (branch, notes) = copy(&stage, &source.url("narrow", "narrow", "postgres")).await;
    assert_eq!(notes, [] as [&str; 0]);
    compare(&source, &branch, "postgres");
    branch.stop().await;
}

#[tokio::test]
async fn defaults_of_the_database_do_not_hinder_its_copy() {
    let source = Options::new(17)
        .setting("wal_level", "minimal")
        .setting("max_wal_senders", "0")
        .setting("transaction_timeout", "1s")
        .setting("idle_session_timeout", "300ms")
        .start()
        .unwrap();
    let made = "CREATE ROLE app LOGIN PASSWORD 'app'; \
         CREATE TABLE t (a integer); INSERT INTO t VALUES (1); \
         ALTER DATABASE postgres SET default_transaction_read_only = on; \
         CREATE ROLE hurried SUPERUSER LOGIN PASSWORD 'hurried'; \
         ALTER ROLE hurried SET statement_timeout = '100ms'; \
         ALTER DATABASE postgres SET search_path = nowhere; \
         ALTER ROLE ALL SET lock_timeout = '1ms'; \
         DROP SCHEMA public CASCADE; CREATE SCHEMA own; CREATE TABLE own.t AS SELECT n FROM generate_series(1, 1000) n; \
         DROP EXTENSION plpgsql";
    source.execute("postgres", made).unwrap();
    let stage = Stage::new().await;
    let url = source.url("hurried", "hurried", "postgres");
    let (branch, notes) = copy(&stage, &url).await;
    assert_eq!(notes, [] as [&str; 0]);
    compare(&source, &branch, "postgres");
    // The administrator is not bound by it.
    let admin = branch.admin("postgres").await;
    admin
        .batch_execute("CREATE TABLE own.more ()")
        .await
        .unwrap();
    assert_eq!(
        branch
            .value("SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = 'public'")
            .await,
        "0"
    );
    assert_eq!(
        branch
            .value("SELECT count(*) FROM pg_catalog.pg_extension")
            .await,
        "0"
    );
    branch.stop().await;
}

async fn views_that_can_be_made_are_made(major: u16) {
    let source = Options::new(major).start().unwrap();
    let made = "CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 1 AS n; \
         ALTER DATABASE postgres SET search_path = app, public; SET search_path = app; \
         CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql SET search_path = app AS 'BEGIN RETURN (SELECT count(*) FROM t); END'; \
         CREATE MATERIALIZED VIEW share AS SELECT 1 / n AS share FROM t; \
         CREATE MATERIALIZED VIEW shares AS SELECT share FROM share; \
         CREATE MATERIALIZED VIEW totals AS SELECT total() AS total; \
         ALTER FUNCTION total() RESET search_path; UPDATE t SET n = 0";
    source.execute("postgres", made).unwrap();
    let stage = Stage::new().await;
    let (branch, notes) = copy(&stage, &source.superuser_url("postgres")).await;
    if major < 17 {
        // Its function finds its table by the database's search path.
        assert_eq!(branch.value("SELECT total FROM app.totals").await, "1");
    }
    let told = notes.join("; ");
    for said in [
        "materialized view \"app\".\"share\" has no rows here: division by zero",
        "materialized view \"app\".\"shares\" has no rows here: materialized view \"share\" has not been populated",
    ] {
        assert!(told.contains(said), "{said} is not in {told}");
    }
    assert_eq!(branch.value("SELECT n FROM app.t").await, "0");
    branch.stop().await;
}

#[tokio::test]
async fn a_view_that_cannot_be_made_here_hinders_no_copy_of_16() {
    views_that_can_be_made_are_made(16).await;
}

#[tokio::test]
async fn a_view_that_cannot_be_made_here_hinders_no_copy_of_17() {
    views_that_can_be_made_are_made(17).await;
}

#[tokio::test]
async fn what_prepares_a_copy_finds_the_tables_that_the_application_finds() {
    let source = Options::new(16).start().unwrap();
    let made = "CREATE TABLE users AS SELECT 'old' AS email; CREATE SCHEMA app; \
         CREATE TABLE app.users AS SELECT 'ann@example.org' AS email; \
         ALTER DATABASE postgres SET search_path = app, public; ALTER ROLE ALL SET search_path = public";
    source.execute("postgres", made).unwrap();
    let mut stage = Stage::new().await;
    stage.prepare = Some(Secret::new("UPDATE users SET email = 'masked'"));
    let (branch, notes) = copy(&stage, &source.superuser_url("postgres")).await;
    assert_eq!(notes, [] as [&str; 0]);
    let emails = "SELECT a.email || ' ' || b.email FROM app.users a, public.users b";
    assert_eq!(branch.value(emails).await, "masked old");
    branch.stop().await;
}

#[tokio::test]
async fn settings_that_applications_notice_come_along() {
    let source = Options::new(16)
        .setting("timezone", "Asia/Kathmandu")
        .setting("datestyle", "German, DMY")
        .setting("intervalstyle", "iso_8601")
        .setting("max_prepared_transactions", "7")
        .setting("wal_level", "logical")
        .setting("default_transaction_isolation", "serializable")
        .setting("shared_preload_libraries", "pg_stat_statements")
        .start()
        .unwrap();
    source
        .execute("postgres", "CREATE EXTENSION pg_stat_statements")
        .unwrap();
    let stage = Stage::new().await;
    let (branch, notes) = copy(&stage, &source.superuser_url("postgres")).await;
    assert_eq!(notes, [] as [&str; 0]);
    for (name, value) in [
        ("TimeZone", "Asia/Kathmandu"),
        ("DateStyle", "German, DMY"),
        ("IntervalStyle", "iso_8601"),
        ("max_prepared_transactions", "7"),
        ("wal_level", "logical"),
        ("default_transaction_isolation", "serializable"),
        // Ours, whatever the source's.
        ("fsync", "off"),
        ("listen_addresses", ""),
    ] {
        assert_eq!(branch.value(&format!("SHOW {name}")).await, value, "{name}");
    }
    let counted = "SELECT count(*) > 0 FROM pg_stat_statements";
    assert_eq!(branch.value(counted).await, "t");
    branch.stop().await;
}

#[tokio::test]
async fn a_branch_holds_no_live_credentials_and_follows_nobody() {
    let source = Options::new(16)
        .setting("wal_level", "logical")
        .start()
        .unwrap();
    let made = "CREATE EXTENSION postgres_fdw; \
         CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1'); \
         CREATE USER MAPPING FOR postgres SERVER other OPTIONS (user 'live', password 'live secret'); \
         CREATE FOREIGN TABLE far (a integer) SERVER other; \
         CREATE SUBSCRIPTION follows CONNECTION 'host=127.0.0.1 port=1 password=live' PUBLICATION p \
           WITH (connect = false)";
    source.execute("postgres", made).unwrap();
    let stage = Stage::new().await;
    let (branch, notes) = copy(&stage, &source.superuser_url("postgres")).await;
    assert!(
        notes
            .iter()
            .any(|note| note == "the subscriptions follows were left out"),
        "{notes:?}"
    );
    let mapping = notes.iter().find(|note| note.contains("live credentials"));
    assert!(
        mapping.is_some_and(|note| note.contains("user mapping")),
        "{notes:?}"
    );
    assert_eq!(
        branch.value("SELECT count(*) FROM pg_user_mappings").await,
        "0"
    );
    assert_eq!(
        branch.value("SELECT count(*) FROM pg_subscription").await,
        "0"
    );
    assert_eq!(
        branch.value("SELECT count(*) FROM pg_foreign_table").await,
        "1"
    );
    branch.stop().await;
}

#[tokio::test]
async fn a_branch_is_a_source_like_any_other() {
    let source = source(16);
    source
        .execute(
            "postgres",
            "CREATE TABLE t AS SELECT n FROM generate_series(1, 10) n",
        )
        .unwrap();
    let stage = Stage::new().await;
    let (branch, _) = copy(&stage, &source.superuser_url("postgres")).await;
    let socket = branch.socket_dir().display().to_string();
    let password: &Secret = branch.admin_password();
    let url = format!(
        "postgres://bough_admin:{}@/postgres?host={}",
        password.reveal(),
        socket.replace('/', "%2F")
    );
    let second = Stage::new().await;
    let (again, notes) = copy(&second, &url).await;
    assert_eq!(notes, [] as [&str; 0]);
    compare(&source, &again, "postgres");
    again.stop().await;
    branch.stop().await;
}

/// Rows of types that travel in binary, at the edges of what they hold; and one type that must not: its OIDs differ.
const EDGES: &str = r#"
    CREATE TABLE edges (
        a bool, b bytea, c int2, d int4, e int8, f float4, g float8, h numeric, i numeric(9, 3), j text, k varchar(9),
        l char(9), m name, n uuid, o json, p jsonb, q date, r time, s timetz, t timestamp, u timestamptz, v interval,
        w inet, x cidr, y macaddr, texts text[], numbers int4[], times timestamptz[],
        twice int8 GENERATED ALWAYS AS (e * 2) STORED);
    INSERT INTO edges VALUES
        (true, '\x00ff0a5c', -32768, -2147483648, 4611686018427387903, 'NaN', '-Infinity', 'NaN', 123456.789,
         E'tab\tnewline\n\\. "quoted" ü 😀', '', 'x', 'n', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a" : 1,  "a": 2}',
         '{"b": [1.50, null]}', '-infinity', '24:00', '04:05:06.789-08', 'infinity', '4713-01-01 00:00 BC',
         '-1 year -2 mons 3 days 04:05:06.7', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03',
         '{"a,b",NULL,"","{}"}'::text[], '[2:3]={1,2}', '{infinity,2026-01-01 00:00+00}'),
        (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (false, '', 0, 0, 0, -0.0, 1e-323, 1e100, -0.001, 'plain', 'varying', '', '', gen_random_uuid(), '1', '"s"',
         '4713-01-01 BC', '00:00', '00:00+15', '294276-12-31 23:59:59.999999', '2026-03-29 02:30+01', '0', '1.2.3.4',
         'fe80::/10', 'ff:ff:ff:ff:ff:ff', '{}', '{{1,2},{3,4}}', '{}');
    CREATE TABLE large AS SELECT n, n::numeric / 7 AS r, 'row ' || n AS t, now() AS at FROM generate_series(1, 20000) n;
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE DOMAIN positive AS int CHECK (value > 0);
    CREATE TABLE ours (id int, mood mood, moods mood[], positive positive);
    INSERT INTO ours VALUES (1, 'glad', '{sad,glad}', 7);
    CREATE TABLE meant (id int, table_of regclass, kind regtype);
    DO $$ BEGIN FOR n IN 1..50 LOOP EXECUTE format('CREATE TABLE spacer_%s ()', n); EXECUTE format('DROP TABLE spacer_%s', n); END LOOP; END $$;
    CREATE TABLE named_later (n int);
    INSERT INTO meant VALUES (1, 'named_later', 'mood');
"#;

#[tokio::test]
async fn every_value_is_the_same_whether_it_travels_in_binary_or_as_text() {
    let source = source(17);
    source.execute("postgres", EDGES).unwrap();
    let stage = Stage::new().await;
    let (branch, notes) = copy(&stage, &source.superuser_url("postgres")).await;
    assert_eq!(notes, [] as [&str; 0]);
    compare(&source, &branch, "postgres");
    assert_eq!(
        branch
            .value("SELECT table_of || ', ' || kind FROM meant")
            .await,
        "named_later, mood"
    );
    branch.stop().await;
}

#[tokio::test]
async fn rows_come_frozen_so_that_reading_writes_nothing() {
    let source = source(16);
    let made = "CREATE TABLE t AS SELECT n, repeat('x', 100) AS x FROM generate_series(1, 5000) n; CREATE INDEX ON t (n)";
    source.execute("postgres", made).unwrap();
    let stage = Stage::new().await;
    let (branch, _) = copy(&stage, &source.superuser_url("postgres")).await;
    // Each of the 87 pages that have rows; the file may have grown by more.
    let visible = "SELECT relallvisible || ', ' || reltuples FROM pg_class WHERE relname = 't'";
    assert_eq!(branch.value(visible).await, "87, 5000");
    branch.stop().await;
}

#[tokio::test]
async fn text_that_sorts_otherwise_here_is_told() {
    let source = source(16);
    source
        .execute(
            "postgres",
            "CREATE DATABASE words TEMPLATE template0 LOCALE 'C'",
        )
        .unwrap();
    let statements = "CREATE COLLATION german (provider = icu, locale = 'de'); \
         CREATE COLLATION unused (provider = icu, locale = 'fr'); \
         CREATE TABLE word (w text COLLATE german PRIMARY KEY); INSERT INTO word VALUES ('Zorn'); \
         UPDATE pg_collation SET collversion = '1.2.3' WHERE collname IN ('german', 'unused')";
    source.execute("words", statements).unwrap();
    let stage = Stage::new().await;
    let (branch, notes) = copy(&stage, &source.superuser_url("words")).await;
    let told = notes.iter().filter(|note| note.contains("sort otherwise"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{notes:?}");
    assert!(told[0].contains("(ICU 1.2.3 there, "), "{told:?}");
    branch.stop().await;
}

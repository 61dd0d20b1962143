//! Everything on a source that would act by itself, or open a door, in a copy of it: none does in a branch, be it of a
//! snapshot or a follower that was promoted.

use engine::postgres::server::StopMode;
use fixtures::{Options, TempDir, TestPostgres};
use model::CopySpec;

use super::ground::{Branch, Ground, source_with};
use crate::stage::{Stage, access, chain, working_in};

/// A source with every hazard. Its archive is a directory that a branch's archiver would write to as well.
fn hazardous(major: u16) -> (TestPostgres, TempDir) {
    let archive = TempDir::new().unwrap();
    fixtures::ServerAccount::detect()
        .unwrap()
        .own(archive.path())
        .unwrap();
    let options = Options::new(major)
        .setting("wal_level", "logical")
        .setting("max_prepared_transactions", "5")
        .setting("archive_mode", "on")
        .setting(
            "archive_command",
            &format!("touch {}/%f", archive.path().display()),
        )
        .setting(
            "shared_preload_libraries",
            "pg_stat_statements,pg_prewarm,auth_delay",
        );
    let source = source_with(options);
    source.execute("postgres", "CREATE DATABASE other").unwrap();
    source.execute("shop", EVERYTHING).unwrap();
    source
        .execute(
            "shop",
            "CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 password=secret1' \
        PUBLICATION p WITH (connect = false, slot_name = 'kept')",
        )
        .unwrap();
    source
        .execute("shop", "ALTER SUBSCRIPTION sub ENABLE")
        .unwrap();
    source
        .execute(
            "other",
            "CREATE SUBSCRIPTION elsewhere CONNECTION 'host=127.0.0.1 port=1 password=secret2' \
        PUBLICATION p WITH (connect = false, slot_name = 'kept')",
        )
        .unwrap();
    source.execute("other", "CREATE TABLE t (n int)").unwrap();
    source
        .execute(
            "shop",
            "SELECT pg_create_physical_replication_slot('kept_physical', true)",
        )
        .unwrap();
    source
        .execute(
            "shop",
            "SELECT pg_create_logical_replication_slot('kept_logical', 'pgoutput')",
        )
        .unwrap();
    for (database, gid) in [("shop", "here's one"), ("other", "there")] {
        let prepare = format!(
            "BEGIN; CREATE TABLE prepared (n int); LOCK TABLE pg_catalog.pg_database IN SHARE MODE; \
             PREPARE TRANSACTION {}",
            quoted(gid)
        );
        source.execute(database, &prepare).unwrap();
    }
    source.execute("shop", DEFAULTS).unwrap();
    (source, archive)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

const EVERYTHING: &str = "
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1');
    CREATE USER MAPPING FOR postgres SERVER remote OPTIONS (user 'u', password 'secret3');
    CREATE USER MAPPING FOR PUBLIC SERVER remote OPTIONS (user 'u', password 'secret3');
    CREATE FOREIGN TABLE far (n int) SERVER remote;
    CREATE SCHEMA cron;
    CREATE TABLE cron.job (jobid int, command text, active boolean);
    INSERT INTO cron.job VALUES (1, 'SELECT 1', true), (2, 'SELECT 2', false);
    CREATE TABLE fired (what text);
    CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN INSERT INTO fired VALUES ('row ' || TG_TABLE_NAME); RETURN NEW; END $$;
    CREATE TRIGGER note AFTER UPDATE ON cron.job FOR EACH ROW EXECUTE FUNCTION note_row();
    CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n;
    CREATE MATERIALIZED VIEW shown AS SELECT 1 AS n;
    CREATE FUNCTION note_event() RETURNS event_trigger LANGUAGE plpgsql AS
      $$ BEGIN INSERT INTO fired VALUES ('event ' || tg_tag); END $$;
    CREATE EVENT TRIGGER note_end ON ddl_command_end EXECUTE FUNCTION note_event();
    CREATE EVENT TRIGGER note_drop ON sql_drop EXECUTE FUNCTION note_event();
    ALTER EVENT TRIGGER note_drop ENABLE ALWAYS;
    CREATE ROLE idle LOGIN;
    CREATE ROLE md5user LOGIN;
    CREATE ROLE grp;";

/// Defaults that would bind our own sessions. Last, for they bind the fixtures' as well.
const DEFAULTS: &str = "
    DELETE FROM fired;
    ALTER ROLE postgres SET statement_timeout = '1min';
    ALTER ROLE postgres SET search_path = 'cron';
    ALTER DATABASE shop SET default_transaction_read_only = on;";

/// Processes of a server that no server of ours has by itself.
const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', \
    'checkpointer', 'background writer', 'walwriter', 'autovacuum launcher', 'autovacuum worker')";

async fn check(branch: &Branch, archive: &std::path::Path) {
    assert_eq!(
        branch.value("SELECT count(*) FROM fired").await,
        "0",
        "nothing was set off"
    );
    let states = "SELECT string_agg(evtname || evtenabled::text, ',' ORDER BY evtname) FROM pg_event_trigger";
    assert_eq!(branch.value(states).await, "note_dropA,note_endO");
    let subscriptions = "SELECT count(*) FROM pg_subscription \
         WHERE subenabled OR subslotname IS NOT NULL OR subconninfo LIKE '%secret%'";
    assert_eq!(branch.value(subscriptions).await, "0");
    assert_eq!(
        branch.value("SELECT count(*) FROM pg_subscription").await,
        "2"
    );
    assert_eq!(
        branch.value("SHOW max_logical_replication_workers").await,
        "0"
    );
    assert_eq!(
        branch
            .value("SELECT count(*) FROM pg_replication_slots")
            .await,
        "0"
    );
    assert_eq!(branch.value("SHOW archive_mode").await, "off");
    assert_eq!(
        branch.value("SELECT count(*) FROM pg_user_mapping").await,
        "0"
    );
    let dangling = "SELECT (SELECT count(*) FROM pg_depend WHERE classid = 'pg_user_mapping'::regclass) \
        + (SELECT count(*) FROM pg_shdepend WHERE classid = 'pg_user_mapping'::regclass)";
    assert_eq!(branch.value(dangling).await, "0");
    check_state(branch).await;
    check_acts(branch, archive).await;
    tell(branch);
}

/// What is left of it.
async fn check_state(branch: &Branch) {
    assert_eq!(
        branch
            .value("SELECT count(*) FROM cron.job WHERE active")
            .await,
        "0"
    );
    assert_eq!(
        branch.value("SELECT count(*) FROM pg_prepared_xacts").await,
        "0"
    );
    assert_eq!(
        branch
            .value("SELECT to_regclass('public.prepared') IS NULL")
            .await,
        "t"
    );
    assert_eq!(branch.value("SELECT count(*) FROM fleeting").await, "0");
    let open = "SELECT string_agg(datname, ',') FROM pg_database WHERE datallowconn";
    assert_eq!(branch.value(open).await, "shop");
    for database in ["postgres", "template1", "other"] {
        assert!(
            !branch.lets_in(database, "postgres", "postgres").await,
            "{database}"
        );
    }
    // What would keep its workers still is known of the first two.
    assert_eq!(
        branch.value("SHOW shared_preload_libraries").await,
        "pg_stat_statements,pg_prewarm"
    );
    assert_eq!(branch.value("SHOW pg_prewarm.autoprewarm").await, "off");
    assert_eq!(branch.value(WORKERS).await, "0");
}

/// What it does.
async fn check_acts(branch: &Branch, archive: &std::path::Path) {
    let before = std::fs::read_dir(archive).unwrap().count();
    branch.execute("SELECT pg_switch_wal()").await;
    branch
        .execute("CREATE TABLE more AS SELECT 1 AS n; SELECT pg_switch_wal()")
        .await;
    assert_eq!(
        std::fs::read_dir(archive).unwrap().count(),
        before,
        "a branch archives nothing"
    );
    // A branch's own work is the application's: its triggers are set off.
    assert_ne!(branch.value("SELECT count(*) FROM fired").await, "0");
    branch
        .execute("DROP SERVER remote CASCADE; DROP SUBSCRIPTION sub")
        .await;
}

/// What the branch lacks is told.
fn tell(branch: &Branch) {
    let copied = &branch.copied;
    let notes = copied.notes.join("\n");
    for told in [
        "subscriptions sub were disabled",
        "user mappings of the foreign servers remote were dropped",
        "unlogged tables public.fleeting are empty",
        "jobs of pg_cron",
        "2 prepared transactions were rolled back",
        "auth_delay",
    ] {
        assert!(notes.contains(told), "{told:?} is not in {notes}");
    }
    assert_eq!(copied.owner, "postgres");
    assert_eq!(copied.roles_with_verifier, ["postgres"]);
    assert_eq!(copied.roles_without_password, ["idle", "md5user"]);
    assert!(!format!("{copied:?}").contains("secret"));
}

#[tokio::test]
async fn nothing_of_a_source_acts_by_itself_in_a_branch_of_15() {
    nothing_acts_by_itself(15).await;
}

#[tokio::test]
async fn nothing_of_a_source_acts_by_itself_in_a_branch_of_16() {
    nothing_acts_by_itself(16).await;
}

#[tokio::test]
async fn nothing_of_a_source_acts_by_itself_in_a_branch_of_17() {
    nothing_acts_by_itself(17).await;
}

#[tokio::test]
async fn nothing_of_a_source_acts_by_itself_in_a_branch_of_18() {
    nothing_acts_by_itself(18).await;
}

async fn nothing_acts_by_itself(major: u16) {
    let (source, archive) = hazardous(major);
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let (place, snapshot) = ground.snapshot(&standby, "snap").await;
    let branch = ground.serve(&place, &snapshot.copied).await;
    check(&branch, archive.path()).await;
    branch.stop().await;
    let follower = ground.follower(&standby, "f").await;
    let branch = ground.promote(&standby, follower).await;
    check(&branch, archive.path()).await;
    branch.stop().await;
    standby.stop(StopMode::Fast).await.unwrap();
    assert_eq!(working_in(ground.home.path()), [] as [u32; 0]);
    check_copied(&source, archive.path()).await;
    // The source has everything yet.
    let kept = source.query_value("postgres", "SELECT count(*) FROM pg_prepared_xacts");
    assert_eq!(kept.unwrap(), "2");
}

/// The same of a branch whose rows were copied. What the dump does not carry is not there; unlogged rows are.
async fn check_copied(source: &TestPostgres, archive: &std::path::Path) {
    let stage = Stage::new().await;
    let (access, spec) = (access(&source.superuser_url("shop")), CopySpec::all());
    let copied = stage.copy(&access, &spec).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let branch = stage.serve(&copied).await;
    let states = "SELECT string_agg(evtname || evtenabled::text, ',' ORDER BY evtname) FROM pg_event_trigger";
    for (asked, answer) in [
        ("SELECT count(*) FROM public.fired", "0"),
        (states, "note_dropA,note_endO"),
        ("SELECT count(*) FROM pg_subscription", "0"),
        ("SELECT count(*) FROM pg_replication_slots", "0"),
        ("SELECT count(*) FROM pg_user_mapping", "0"),
        ("SELECT count(*) FROM pg_prepared_xacts", "0"),
        ("SELECT to_regclass('public.prepared') IS NULL", "t"),
        ("SELECT count(*) FROM public.fleeting", "1"),
        ("SELECT count(*) FROM public.shown", "1"),
        ("SHOW archive_mode", "off"),
        ("SHOW max_logical_replication_workers", "0"),
        (WORKERS, "0"),
    ] {
        assert_eq!(branch.value(asked).await, answer, "{asked}");
    }
    let before = std::fs::read_dir(archive).unwrap().count();
    let write = "SET default_transaction_read_only = off; CREATE TABLE public.more AS SELECT 1 AS n; \
        SELECT pg_switch_wal()";
    branch
        .admin("shop")
        .await
        .batch_execute(write)
        .await
        .unwrap();
    let after = std::fs::read_dir(archive).unwrap().count();
    assert_eq!(after, before, "a branch archives nothing");
    let fired = branch.value("SELECT count(*) FROM public.fired").await;
    assert_ne!(fired, "0", "a branch's own work sets its triggers off");
    let notes = copied.notes.join("\n");
    for told in ["the subscriptions sub were left out", "live credentials"] {
        assert!(notes.contains(told), "{told:?} is not in {notes}");
    }
    branch.stop().await;
}

#[tokio::test]
async fn a_trigger_at_login_keeps_nobody_out_of_a_copy() {
    let source = source_with(Options::new(17));
    source
        .execute(
            "shop",
            "CREATE TABLE logins (who text); \
             CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS \
               $$ BEGIN INSERT INTO public.logins VALUES (session_user); END $$; \
             CREATE EVENT TRIGGER note ON login EXECUTE FUNCTION note(); \
             ALTER EVENT TRIGGER note ENABLE ALWAYS",
        )
        .unwrap();
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let follower = ground.follower(&standby, "f").await;
    let before = source
        .query_value("shop", "SELECT count(*) - 1 FROM logins")
        .unwrap();
    let branch = ground.promote(&standby, follower).await;
    let after: i64 = branch
        .value("SELECT count(*) FROM logins")
        .await
        .parse()
        .unwrap();
    // The question to the source was a login there, and ours just now is one here.
    let before: i64 = before.parse().unwrap();
    assert!(after - before <= 4, "{before} and {after}");
    branch.stop().await;
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_user_whose_password_the_source_does_not_know_gets_in_with_it() {
    let source = source_with(Options::new(16).hba("host all outside 127.0.0.1/32 trust"));
    source
        .execute("shop", "CREATE ROLE outside LOGIN SUPERUSER")
        .unwrap();
    let url = source.url("outside", "from elsewhere", "shop");
    let ground = Ground::with(&url, Some(&source.superuser_url("shop"))).await;
    let standby = ground.seed().await;
    let (place, snapshot) = ground.snapshot(&standby, "snap").await;
    let branch = ground.serve(&place, &snapshot.copied).await;
    assert!(branch.lets_in("shop", "outside", "from elsewhere").await);
    assert!(!branch.lets_in("shop", "outside", "guessed").await);
    branch.stop().await;
    standby.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn text_that_sorts_otherwise_here_is_told_with_what_to_reindex() {
    let source = source_with(Options::new(16));
    source
        .execute(
            "shop",
            "CREATE COLLATION german (provider = icu, locale = 'de'); \
             CREATE TABLE word (w text COLLATE german, plain text); \
             CREATE INDEX word_w ON word (w); CREATE INDEX word_plain ON word (plain); \
             UPDATE pg_collation SET collversion = '1.2.3' WHERE collname = 'german'",
        )
        .unwrap();
    let ground = Ground::of(&source).await;
    let standby = ground.seed().await;
    let told = standby.seeded().sorts_otherwise.clone().unwrap_or_default();
    assert!(told.contains("REINDEX INDEX public.word_w,"), "{told}");
    assert!(told.contains("ICU 1.2.3 there"), "{told}");
    assert!(!told.contains("word_plain"), "{told}");
    let (_, snapshot) = ground.snapshot(&standby, "snap").await;
    assert!(
        snapshot.copied.notes.contains(&told),
        "{:?}",
        snapshot.copied.notes
    );
    standby.stop(StopMode::Immediate).await.unwrap();
}

//! A copy is exact: `pg_dump` and `pg_dumpall` print the same of the source and of a branch.

use std::fmt::Write as _;

use fixtures::TestPostgres;
use model::{CopySpec, PgMajor};

use crate::stage::{Branch, Stage, access, chain, source};

/// A source with everything in it.
pub(super) fn full_source(major: u16) -> TestPostgres {
    let source = source(major);
    fill(&source);
    source
}

/// Puts everything into a source.
pub(super) fn fill(source: &TestPostgres) {
    for (database, file) in [("postgres", "roles.sql"), ("shop", "everything.sql")] {
        let path = format!("{}/tests/real/copy/{file}", env!("CARGO_MANIFEST_DIR"));
        let arguments = [
            "-X",
            "-q",
            "-o",
            "/dev/null",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            &path,
        ];
        let made = source.client("psql", database, &arguments);
        made.and_then(fixtures::Outcome::success)
            .unwrap_or_else(|error| panic!("{file}: {error:#}"));
    }
}

/// The same text for the same objects: without the lines that differ between any two dumps.
fn normalise(dump: &str) -> String {
    let mut lines = String::new();
    for line in dump.lines() {
        let is_of_its_own = line.starts_with("\\restrict")
            || line.starts_with("\\unrestrict")
            || line.starts_with("-- Dumped")
            || line.starts_with("-- Started on")
            || line.starts_with("-- Completed on");
        if !is_of_its_own {
            writeln!(lines, "{line}").expect("a String takes any text");
        }
    }
    lines
}

/// The first lines that differ, for the message of a failed comparison.
pub(super) fn assert_same(left: &str, right: &str, what: &str) {
    let (left, right) = (normalise(left), normalise(right));
    if left == right {
        return;
    }
    let mut shown = String::new();
    let [of_left, of_right] = [&left, &right].map(|text| text.lines().collect::<Vec<_>>());
    let differs =
        (0..of_left.len().max(of_right.len())).filter(|at| of_left.get(*at) != of_right.get(*at));
    for at in differs.take(5) {
        writeln!(
            shown,
            "{at}: source {:?}\n{at}: branch {:?}",
            of_left.get(at),
            of_right.get(at)
        )
        .unwrap();
    }
    panic!("{what} differs:\n{shown}");
}

/// Roles with their passwords, memberships and settings, less our own administrator, and less what is stored of the
/// password that `user` copied by: the base is given the same password anew.
fn roles(dump: &str, user: &str) -> String {
    let users_own = format!("ALTER ROLE {user} WITH ");
    let kept = dump
        .lines()
        .filter(|line| !line.contains("ROLE bough_admin"))
        .map(|line| match line.split_once(" PASSWORD '") {
            Some((before, _)) if line.starts_with(&users_own) => before,
            _ => line,
        });
    kept.collect::<Vec<_>>().join("\n")
}

fn compare(source: &TestPostgres, branch: &Branch, dumpall: &[&str], user: &str) {
    let of_source = source
        .pg_dump("shop", &["--create"])
        .expect("the source dumps");
    let of_branch = branch
        .client("pg_dump", "shop", &["--create"])
        .expect("the branch dumps");
    assert_same(&of_source, &of_branch, "the dump");
    let of_source = source.client("pg_dumpall", "shop", dumpall);
    let of_source = of_source.and_then(fixtures::Outcome::success);
    let of_branch = branch.client("pg_dumpall", "shop", dumpall);
    let [of_source, of_branch] =
        [of_source, of_branch].map(|dump| roles(&dump.expect("roles are dumped"), user));
    assert_same(&of_source, &of_branch, "the roles");
}

/// Copies as the superuser, who reads the passwords too.
async fn is_exact(major: u16) {
    let source = full_source(major);
    let stage = Stage::new().await;
    let copied = stage
        .copy(&access(&source.superuser_url("shop")), &CopySpec::all())
        .await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(
        (copied.source_major, copied.major),
        (PgMajor(major), PgMajor(major))
    );
    assert_eq!(
        (copied.database.as_str(), copied.owner.as_str()),
        ("shop", "Besitzer Ü")
    );
    assert_eq!(
        copied.roles_with_verifier,
        ["analyst", "app", "copier", "postgres"]
    );
    assert_eq!(copied.roles_without_password, ["passwordless"]);
    assert_eq!(copied.notes, [] as [&str; 0]);
    let branch = stage.serve(&copied).await;
    compare(&source, &branch, &["--roles-only"], "postgres");
    assert_eq!(copied.admits.map(|it| it.user).as_deref(), Some("postgres"));
    branch.stop().await;
}

#[tokio::test]
async fn a_copy_of_15_is_exact() {
    is_exact(15).await;
}

#[tokio::test]
async fn a_copy_of_16_is_exact() {
    is_exact(16).await;
}

#[tokio::test]
async fn a_copy_of_17_is_exact() {
    is_exact(17).await;
}

#[tokio::test]
async fn a_copy_of_18_is_exact() {
    is_exact(18).await;
}

#[tokio::test]
async fn a_copy_by_a_role_that_only_reads_is_as_exact() {
    let source = full_source(16);
    let stage = Stage::new().await;
    let url = source.url("copier", "copier secret", "shop");
    let copied = stage.copy(&access(&url), &CopySpec::all()).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(copied.source_user, "copier");
    // pg_read_all_data reads the passwords too.
    assert_eq!(
        copied.roles_with_verifier,
        ["analyst", "app", "copier", "postgres"]
    );
    let branch = stage.serve(&copied).await;
    compare(&source, &branch, &["--roles-only"], "copier");
    branch.stop().await;
}

#[tokio::test]
async fn a_newer_server_holds_the_same_rows() {
    let source = full_source(15);
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("shop"));
    let copied = stage
        .copy_as(&access, &CopySpec::all(), Some(PgMajor(18)))
        .await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(
        (copied.source_major, copied.major),
        (PgMajor(15), PgMajor(18))
    );
    let branch = stage.serve(&copied).await;
    assert!(branch.value("SHOW server_version").await.starts_with("18"));
    let arguments = [
        "--data-only",
        "--schema=sales",
        "--schema=\"Odd, Name\"",
        "--schema=public",
    ];
    let dumped = fixtures::tool(18, "pg_dump").expect("there is one");
    let of_source = std::process::Command::new(dumped)
        .args(arguments)
        .arg(source.superuser_url("shop"))
        .output()
        .expect("the source dumps");
    let of_source = String::from_utf8(of_source.stdout).expect("it is UTF-8");
    assert!(of_source.contains("Hauptstra"));
    let of_branch = branch
        .client("pg_dump", "shop", &arguments)
        .expect("the branch dumps");
    assert_same(&of_source, &of_branch, "the rows");
    branch.stop().await;
}

/// An extension each of the application's, of another superuser's and of the first one's, with what depends on whom.
const OWNERS_OF_EXTENSIONS: &str = "SELECT string_agg(concat_ws(' ', e.extname, e.extowner::regrole, \
       d.refobjid::regrole, d.objsubid, d.deptype), ', ' ORDER BY e.extname) \
     FROM pg_extension e LEFT JOIN pg_shdepend d ON d.classid = 'pg_extension'::regclass AND d.objid = e.oid \
     AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND d.refclassid = 'pg_authid'::regclass";

/// Who owns an extension on the source may update and drop it on a branch.
async fn extensions_keep_their_owners(major: u16) {
    let source = source(major);
    let made = "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE ROLE \"Other's\" SUPERUSER LOGIN; \
         GRANT CREATE ON DATABASE postgres TO app; GRANT CREATE ON SCHEMA public TO app; \
         SET SESSION AUTHORIZATION app; \
         CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TABLE t (a citext); \
         SET SESSION AUTHORIZATION \"Other's\"; CREATE EXTENSION pg_trgm; RESET SESSION AUTHORIZATION; \
         CREATE EXTENSION pgcrypto";
    source.execute("postgres", made).unwrap();
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    let copied = stage.copy(&access, &CopySpec::all()).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let branch = stage.serve(&copied).await;
    let there = source.query_value("postgres", OWNERS_OF_EXTENSIONS);
    assert_eq!(branch.value(OWNERS_OF_EXTENSIONS).await, there.unwrap());
    let session = branch.admin("postgres").await;
    let changed = session
        .batch_execute(
            "SET SESSION AUTHORIZATION app; ALTER EXTENSION hstore UPDATE; \
             DROP EXTENSION hstore; DROP EXTENSION citext CASCADE; CREATE EXTENSION citext",
        )
        .await;
    changed.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let refused = session.batch_execute("DROP EXTENSION pg_trgm").await;
    assert!(refused.is_err_and(|error| chain(&error).contains("must be owner")));
    branch.stop().await;
}

#[tokio::test]
async fn extensions_of_15_keep_their_owners() {
    extensions_keep_their_owners(15).await;
}

#[tokio::test]
async fn extensions_of_18_keep_their_owners() {
    extensions_keep_their_owners(18).await;
}

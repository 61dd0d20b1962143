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

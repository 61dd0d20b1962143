//! What cannot be copied is refused before anything is made, with what would help.

use engine::base::copy::CopyError;
use engine::postgres::binaries::{Installations, Lookup};
use fixtures::TestPostgres;
use model::engine_api::ProblemKind;
use model::{ByteSize, CopySpec, PgMajor};

use crate::stage::{Stage, access, chain, source, working_in};

/// Nothing was made and nothing runs.
fn assert_untouched(stage: &Stage) {
    assert!(!stage.data().exists(), "a data directory was made");
    assert_eq!(working_in(stage.directory.path()), [] as [u32; 0]);
}

async fn refuse(stage: &Stage, url: &str) -> CopyError {
    let refused = stage
        .copy(&access(url), &CopySpec::all())
        .await
        .unwrap_err();
    assert_untouched(stage);
    refused
}

/// A source with things that a user called `reader` cannot read yet.
fn guarded() -> TestPostgres {
    let source = source(16);
    let made = source.execute(
        "postgres",
        "CREATE ROLE reader LOGIN PASSWORD 'reader'; \
         CREATE SCHEMA \"Closed One\"; \
         CREATE TABLE \"Closed One\".\"T 1\" (id serial PRIMARY KEY); \
         INSERT INTO \"Closed One\".\"T 1\" DEFAULT VALUES; \
         CREATE TABLE open (id serial, secret text); \
         INSERT INTO open (secret) VALUES ('a'), ('b'); \
         CREATE TABLE guarded (id integer); \
         INSERT INTO guarded VALUES (1), (2); \
         GRANT SELECT ON guarded TO reader; \
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY few ON guarded USING (id = current_setting('app.tenant', true)::integer); \
         SELECT lo_from_bytea(4711, 'large');",
    );
    made.expect("the source is made");
    source
}

#[tokio::test]
async fn what_cannot_be_read_is_named_with_grants_that_work() {
    let source = guarded();
    let stage = Stage::new().await;
    let url = source.url("reader", "reader", "postgres");
    let refused = refuse(&stage, &url).await;
    assert_eq!(refused.kind(), ProblemKind::Source);
    let told = chain(&refused);
    for object in [
        "schema Closed One",
        "table Closed One.T 1",
        "table public.open",
        "large object 4711",
    ] {
        assert!(
            told.contains(object) || told.contains("more"),
            "{object}: {told}"
        );
    }
    let CopyError::Access(lacks) = &refused else {
        panic!("{told}");
    };
    assert!(refused.hint().unwrap().contains("pg_read_all_data"));
    for grant in lacks.grants() {
        assert!(refused.hint().unwrap().contains(&grant), "{grant}");
        source
            .execute("postgres", &grant)
            .unwrap_or_else(|error| panic!("{grant}: {error:#}"));
    }
    let copied = stage.copy(&access(&url), &CopySpec::all()).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(copied.roles_with_verifier, [] as [&str; 0]);
    assert_eq!(copied.roles_without_password, ["postgres"]);
    let branch = stage.serve(&copied).await;
    let of_source = source.pg_dump("postgres", &[]).unwrap();
    let of_branch = branch.client("pg_dump", "postgres", &[]).unwrap();
    super::exact::assert_same(&of_source, &of_branch, "the dump");
    branch.stop().await;
}

#[tokio::test]
async fn rows_that_are_hidden_are_an_error_unless_they_are_accepted() {
    let source = guarded();
    let grants = "GRANT USAGE ON SCHEMA \"Closed One\" TO reader; GRANT pg_read_all_data TO reader; \
         GRANT SELECT ON LARGE OBJECT 4711 TO reader";
    source.execute("postgres", grants).unwrap();
    let stage = Stage::new().await;
    let url = source.url("reader", "reader", "postgres");
    let refused = refuse(&stage, &url).await;
    assert!(chain(&refused).contains("rows of public.guarded that row security hides"));
    let hint = refused.hint().unwrap();
    assert!(
        hint.contains("ALTER ROLE \"reader\" BYPASSRLS;") && hint.contains("--enable-row-security"),
        "{hint}"
    );
    let mut access = access(&url);
    access
        .settings
        .insert("app.tenant".to_owned(), "2".to_owned());
    let spec = CopySpec {
        dump_args: vec!["--enable-row-security".to_owned()],
        ..CopySpec::all()
    };
    let copied = stage.copy(&access, &spec).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let branch = stage.serve(&copied).await;
    assert_eq!(
        branch
            .value("SELECT string_agg(id::text, ',') FROM guarded")
            .await,
        "2"
    );
    branch.stop().await;
}

#[tokio::test]
async fn a_table_that_is_left_out_need_not_be_readable() {
    let source = guarded();
    let grants =
        "GRANT SELECT ON guarded TO reader; ALTER TABLE guarded DISABLE ROW LEVEL SECURITY";
    source.execute("postgres", grants).unwrap();
    let stage = Stage::new().await;
    let spec = CopySpec {
        dump_args: [
            "-N",
            "\"Closed One\"",
            "--exclude-table=open*",
            "--no-blobs",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..CopySpec::all()
    };
    let url = source.url("reader", "reader", "postgres");
    let copied = stage.copy(&access(&url), &spec).await;
    let copied = copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let branch = stage.serve(&copied).await;
    assert_eq!(branch.value("SELECT count(*) FROM guarded").await, "2");
    branch.stop().await;
}

#[tokio::test]
async fn a_source_that_cannot_be_entered_is_told_apart_by_what_to_do() {
    let source = source(16);
    let stage = Stage::new().await;
    let port = source.port();
    let nobody_listens = {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        taken.local_addr().unwrap().port()
    };
    let urls = [
        (
            source.url("postgres", "a%wrong one", "postgres"),
            "refuses the password",
            "check the password",
        ),
        (
            source.url("nobody", "x", "postgres"),
            "refuses the password",
            "check the password",
        ),
        (
            source.url("postgres", "postgres", "nowhere"),
            "has no database \"nowhere\"",
            "database's name",
        ),
        (
            format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            "the URL has none",
            "put the password",
        ),
        (
            format!("postgres://postgres:x@127.0.0.1:{nobody_listens}/postgres"),
            "cannot reach",
            "that the server runs",
        ),
        (
            "postgres://postgres:x@no-such-host.invalid/postgres".to_owned(),
            "cannot find the host",
            "check the host",
        ),
        (
            format!("{}?sslmode=require", source.superuser_url("postgres")),
            "no TLS connection",
            "sslmode",
        ),
    ];
    for (url, said, hint) in urls {
        let refused = refuse(&stage, &url).await;
        assert_eq!(refused.kind(), ProblemKind::Source);
        assert!(
            chain(&refused).contains(said),
            "{said}: {}",
            chain(&refused)
        );
        assert!(!chain(&refused).contains("wrong one"));
        assert!(
            refused.hint().unwrap().contains(hint),
            "{hint}: {:?}",
            refused.hint()
        );
    }
}

#[tokio::test]
async fn versions_must_be_there_and_fit() {
    let source = source(16);
    let mut stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    let refused = stage
        .copy_as(&access, &CopySpec::all(), Some(PgMajor(15)))
        .await
        .unwrap_err();
    assert_untouched(&stage);
    assert_eq!(refused.kind(), ProblemKind::BadRequest);
    assert_eq!(
        refused.to_string(),
        "a branch of version 15 cannot hold a source of version 16"
    );
    let refused = stage
        .copy_as(&access, &CopySpec::all(), Some(PgMajor(93)))
        .await
        .unwrap_err();
    assert_untouched(&stage);
    assert!(
        chain(&refused).contains("no PostgreSQL 93 server on this machine: found "),
        "{}",
        chain(&refused)
    );
    assert!(refused.hint().unwrap().contains("install PostgreSQL 93"));
    // Servers, but no programs for clients.
    stage.installations = only_the_server(&stage, 16).await;
    let refused = stage.copy(&access, &CopySpec::all()).await.unwrap_err();
    assert_untouched(&stage);
    assert!(
        chain(&refused).contains("no pg_dump of version 16 or newer"),
        "{}",
        chain(&refused)
    );
}

async fn only_the_server(stage: &Stage, major: u16) -> Installations {
    let bin = &stage.installations.server(PgMajor(major)).unwrap().bin;
    let folder = stage.directory.create_dir("only").unwrap();
    for program in ["postgres", "initdb"] {
        std::os::unix::fs::symlink(bin.join(program), folder.join(program)).unwrap();
    }
    let mut found = Installations::discover(&Lookup {
        roots: vec![folder.clone()],
        ..Lookup::default()
    })
    .await;
    found
        .found
        .retain(|installation| installation.bin == folder);
    found
}

#[tokio::test]
async fn a_database_that_does_not_fit_is_refused_with_numbers() {
    let source = source(16);
    let mut stage = Stage::new().await;
    stage.disk.free = ByteSize(300 << 20);
    stage.disk.floor = ByteSize(280 << 20);
    let refused = refuse(&stage, &source.superuser_url("postgres")).await;
    assert_eq!(refused.kind(), ProblemKind::LimitPassed);
    let told = refused.to_string();
    assert!(
        told.contains("of 314 MB are free above the floor of 293 MB") && told.contains("20.9 MB"),
        "{told}"
    );
    assert!(
        stage
            .progress
            .borrow()
            .as_ref()
            .unwrap()
            .disk_needed_bytes
            .is_some()
    );
}

#[tokio::test]
async fn a_missing_extension_is_named_with_where_to_get_it() {
    // adminpack went with version 17.
    let source = source(16);
    source
        .execute("postgres", "CREATE EXTENSION adminpack")
        .unwrap();
    let stage = Stage::new().await;
    let access = access(&source.superuser_url("postgres"));
    let refused = stage
        .copy_as(&access, &CopySpec::all(), Some(PgMajor(17)))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "PostgreSQL 17 here lacks extensions that the source uses: adminpack"
    );
    assert!(refused.hint().unwrap().contains("postgresql-17-adminpack"));
    stage.nothing_runs().await;
    let spec = CopySpec {
        dump_args: vec!["--exclude-extension=adminpack".to_owned()],
        ..CopySpec::all()
    };
    let copied = stage.copy_as(&access, &spec, Some(PgMajor(17))).await;
    copied.unwrap_or_else(|error| panic!("{}", chain(&error)));
}

//! Starting: migrations, settings, and what is said when it cannot be done.

use std::process::Command;

use serde_json::json;
use tokio::net::TcpListener;

use crate::client::{get, post};
use crate::postgres::{PASSWORD, PASSWORD_ENCODED, TestPostgres, wait_for_count};
use crate::service::{Service, command};

/// Runs a start that must fail and gives the last two lines, the error and the hint.
fn fail_to_start(command: Command) -> (String, String) {
    let (status, log) = Service::launch(command).wait_end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert_no_password(&log);
    let mut lines = log.lines().rev();
    let (hint, error) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(hint.starts_with("hint: "), "{log}");
    (
        error
            .strip_prefix("error: ")
            .unwrap_or_else(|| panic!("{log}"))
            .to_owned(),
        hint.to_owned(),
    )
}

fn assert_no_password(log: &str) {
    for secret in [PASSWORD, PASSWORD_ENCODED, "Zy:7", "Zy%3A7", "Qx"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_starts_migrate_once() {
    let postgres = TestPostgres::start().await;
    let admin = postgres.connect_admin().await;
    let key = i64::from_be_bytes(*b"metalmrt");
    admin
        .execute("SELECT pg_advisory_lock($1)", &[&key])
        .await
        .unwrap();
    let services = [(); 4].map(|()| Service::launch(command(&postgres.url())));
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    wait_for_count(&admin, waiting, 4).await;
    admin
        .execute("SELECT pg_advisory_unlock($1)", &[&key])
        .await
        .unwrap();
    for service in &services {
        assert_eq!(get(service.address(), "/healthz").await.status, 200);
    }
    let history = "SELECT version, name FROM refinery_schema_history ORDER BY version";
    let applied: Vec<(i32, String)> = admin
        .query(history, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(
        applied,
        [
            (1, "create_products".to_owned()),
            (2, "stock_the_shop".to_owned())
        ]
    );
    assert_eq!(postgres.quantities("1").await, (100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_start_keeps_what_was_reserved() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let order = json!({"items": [{"productId": "1", "quantity": 30}]});
    assert_eq!(
        post(service.address(), "/api/inventory/reserve", order)
            .await
            .status,
        200
    );
    drop(service);
    let service = Service::start(&postgres.url());
    assert_eq!(
        get(service.address(), "/api/inventory/1").await.body["stock_quantity"],
        70
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_structure_alone_is_stocked_again() {
    let postgres = TestPostgres::start().await;
    drop(Service::start(&postgres.url()));
    postgres
        .connect_admin()
        .await
        .batch_execute("TRUNCATE products, refinery_schema_history")
        .await
        .unwrap();
    let service = Service::start(&postgres.url());
    assert_eq!(
        get(service.address(), "/api/inventory/1").await.body["stock_quantity"],
        100
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_has_the_password() {
    let postgres = TestPostgres::start().await;
    let mut verbose = command(&postgres.url());
    verbose.env("RUST_LOG", "trace");
    let service = Service::launch(verbose);
    assert_eq!(get(service.address(), "/api/inventory/1").await.status, 200);
    service.wait_for_line(r#"method=GET path="/api/inventory/1" status=200 ms="#);
    service.signal(rustix::process::Signal::TERM);
    let (status, log) = service.wait_end();
    assert!(status.success(), "{log}");
    assert_no_password(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_told_at_once() {
    let postgres = TestPostgres::start().await;
    let (error, _) = fail_to_start(command(&postgres.url_with("wrong", "inventory")));
    assert!(error.contains("refused the login"), "{error}");
    assert!(
        error.contains("password authentication failed for user \"inventory\""),
        "{error}"
    );
    let (error, hint) = fail_to_start(command(&postgres.url_with(PASSWORD_ENCODED, "warehouse")));
    assert!(
        error.contains("database \"warehouse\" does not exist"),
        "{error}"
    );
    assert!(hint.contains("database name in DATABASE_URL"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_reached_is_waited_for_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().to_str().unwrap().replace('/', "%2F");
    let mut start = command(&format!(
        "postgresql://inventory:{PASSWORD_ENCODED}@{socket}/inventory"
    ));
    start.args(["--database-wait-secs", "1"]);
    let (error, hint) = fail_to_start(start);
    assert!(error.starts_with(&format!(
        "the database at {}:5432/inventory did not answer within 1 s",
        folder.path().display()
    )));
    assert!(error.contains("No such file or directory"), "{error}");
    assert!(hint.contains("start PostgreSQL"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_is_not_waited_for_without_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut start = command(&format!(
        "postgresql://inventory:{PASSWORD_ENCODED}@localhost:{port}/inventory"
    ));
    start.args(["--database-wait-secs", "1"]);
    let (error, _) = fail_to_start(start);
    assert!(
        error.starts_with(&format!(
            "the database at localhost:{port}/inventory did not answer"
        )),
        "{error}"
    );
    assert!(error.ends_with("no answer to the login"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_during_the_databases_start_succeeds() {
    let postgres = TestPostgres::start().await;
    let admin = postgres.connect_admin().await;
    admin
        .batch_execute("ALTER DATABASE inventory CONNECTION LIMIT 0")
        .await
        .unwrap();
    let service = Service::launch(command(&postgres.url()));
    let line = service.wait_for_line("the database does not answer yet");
    assert!(line.contains("too many connections"), "{line}");
    admin
        .batch_execute("ALTER DATABASE inventory CONNECTION LIMIT -1")
        .await
        .unwrap();
    assert_eq!(get(service.address(), "/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_refused_with_a_hint() {
    let (error, hint) = fail_to_start(command(""));
    assert_eq!(error, "DATABASE_URL is not set");
    assert!(
        hint.contains("postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        "{hint}"
    );
    let (error, hint) = fail_to_start(command(&format!(
        "postgresql://inventory:{PASSWORD}@db/inventory"
    )));
    assert_eq!(error, "DATABASE_URL is not a PostgreSQL URL");
    assert!(hint.contains("percent-encoded"), "{hint}");

    let mut wrong_port = Command::new(env!("CARGO_BIN_EXE_inventory"));
    wrong_port.env_clear().env("PORT", "http");
    let (status, log) = Service::launch(wrong_port).wait_end();
    assert_eq!(status.code(), Some(2), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_comes_from_the_argument_before_the_environment() {
    let postgres = TestPostgres::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();

    let mut by_environment = Command::new(env!("CARGO_BIN_EXE_inventory"));
    by_environment
        .env_clear()
        .env("DATABASE_URL", postgres.url())
        .env("PORT", port.to_string());
    let (error, hint) = fail_to_start(by_environment);
    let expected = format!("cannot listen on 127.0.0.1:{port}: Address already in use");
    assert!(error.starts_with(&expected), "{error}");
    assert!(hint.contains("--port"), "{hint}");

    let mut by_argument = command(&postgres.url());
    by_argument.env("PORT", port.to_string());
    assert_ne!(Service::launch(by_argument).address().port(), port);
}

//! Stopping: open requests are finished, new ones are refused, and the end comes within bounds.

use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_postgres::Client;

use crate::client::post;
use crate::postgres::{TestPostgres, wait_for_count};
use crate::service::{Service, command};

/// Waits until a connection of the service waits for a lock.
async fn wait_for_blocked(postgres: &TestPostgres) {
    // A connection of its own: inside a transaction, pg_stat_activity stays as it was first seen.
    let admin = postgres.connect_admin().await;
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'inventory' AND wait_event_type = 'Lock'";
    wait_for_count(&admin, blocked, 1).await;
}

/// Locks product 1 for as long as the connection's transaction lasts.
async fn lock_steel(postgres: &TestPostgres) -> Client {
    let admin = postgres.connect_admin().await;
    admin
        .batch_execute("BEGIN; SELECT 1 FROM products WHERE product_id = '1' FOR UPDATE")
        .await
        .unwrap();
    admin
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_request_is_finished_first() {
    let postgres = TestPostgres::start().await;
    for signal in [Signal::TERM, Signal::INT] {
        let service = Service::start(&postgres.url());
        let address = service.address();
        let admin = lock_steel(&postgres).await;
        let request = tokio::spawn(async move {
            post(
                address,
                "/api/inventory/reserve",
                json!({"items": [{"productId": 1, "quantity": 1}]}),
            )
            .await
        });
        wait_for_blocked(&postgres).await;
        // A connection without a request must not hold the end up.
        let _idle = TcpStream::connect(address).await.unwrap();
        service.signal(signal);
        service.wait_for_line("stopping");
        admin.batch_execute("COMMIT").await.unwrap();
        let answer = request.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let (status, log) = service.wait_end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");
        assert!(TcpStream::connect(address).await.is_err());
    }
    assert_eq!(postgres.quantities("1").await, (98, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once_and_changes_nothing() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let admin = lock_steel(&postgres).await;
    let request = tokio::spawn(post(
        address,
        "/api/inventory/reserve",
        json!({"items": [{"productId": 1, "quantity": 1}]}),
    ));
    wait_for_blocked(&postgres).await;
    service.signal(Signal::TERM);
    service.wait_for_line("stopping");
    service.signal(Signal::TERM);
    let (status, log) = service.wait_end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("error: requests were still open at the second signal to stop"),
        "{log}"
    );
    assert!(
        request.await.is_err(),
        "the caller must not be told that it succeeded"
    );
    admin.batch_execute("COMMIT").await.unwrap();
    let connected = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'inventory'";
    wait_for_count(&admin, connected, 0).await;
    assert_eq!(postgres.quantities("1").await, (100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_wait_for_the_database_ends_it() {
    let service = Service::launch(command("postgresql://inventory@%2Fnonexistent/inventory"));
    service.wait_for_line("the database does not answer yet");
    service.signal(Signal::TERM);
    let (status, log) = service.wait_end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        log.contains("stopped before the start was complete"),
        "{log}"
    );
}

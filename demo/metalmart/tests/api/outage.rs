//! A database that goes away, goes silent or keeps a request waiting: callers are told in time, and it passes.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::{get, post};
use crate::postgres::TestPostgres;
use crate::service::Service;

fn unavailable() -> (u16, Value) {
    (503, json!({"error": "the database is not available"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_told() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    assert_eq!(get(address, "/healthz").await.status, 200);
    drop(postgres);
    for path in ["/healthz", "/api/inventory/1"] {
        let answer = get(address, path).await;
        assert_eq!((answer.status, answer.body), unavailable(), "{path}");
    }
    service.wait_for_line(r#"method=GET path="/api/inventory/1" status=503 ms="#);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_broke_are_replaced() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.tcp_url().await);
    let address = service.address();
    let order = json!({"items": [{"productId": "1", "quantity": 1}]});
    let terminate =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'inventory'";
    for reserved in 1..=3 {
        let answer = post(address, "/api/inventory/reserve", &order).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body["items"][0]["reserved_quantity"], reserved);
        let ended: i64 = postgres
            .connect_admin()
            .await
            .query_one(terminate, &[])
            .await
            .unwrap()
            .get(0);
        assert!(ended > 0, "the service keeps its connections open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_database_does_not_hold_the_health_check_up() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    assert_eq!(get(address, "/healthz").await.status, 200);
    let admin = postgres.connect_admin().await;
    let pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'inventory'";
    let rows = admin.query(pids, &[]).await.unwrap();
    let pids: Vec<Pid> = rows
        .iter()
        .map(|row| Pid::from_raw(row.get(0)).unwrap())
        .collect();
    assert_eq!(pids.len(), 1, "one connection serves one caller");
    kill_process(pids[0], Signal::STOP).unwrap();
    let answer = get(address, "/healthz").await;
    // Also on failure: the server cannot end with a stopped process.
    kill_process(pids[0], Signal::CONT).unwrap();
    assert_eq!((answer.status, answer.body), unavailable());
    assert_eq!(get(address, "/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_waits_too_long_is_given_up() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let admin = postgres.connect_admin().await;
    admin
        .batch_execute("BEGIN; SELECT 1 FROM products WHERE product_id = '1' FOR UPDATE")
        .await
        .unwrap();
    let order = json!({"items": [{"productId": "1", "quantity": 1}]});
    let answer = post(address, "/api/inventory/reserve", order).await;
    assert_eq!(
        (answer.status, answer.body),
        (
            503,
            json!({"error": "the products are busy, nothing was changed"})
        )
    );
    admin.batch_execute("COMMIT").await.unwrap();
    assert_eq!(postgres.quantities("1").await, (100, 0));
    // Whoever only looks was never held up.
    assert_eq!(get(address, "/api/inventory/1").await.status, 200);
}

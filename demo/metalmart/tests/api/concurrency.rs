//! Many callers at once: nothing is sold twice, and nobody waits in a circle.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Answer, post};
use crate::postgres::TestPostgres;
use crate::service::Service;

/// Sends all orders at the same time.
async fn reserve_at_once(
    address: SocketAddr,
    orders: impl IntoIterator<Item = Value>,
) -> Vec<Answer> {
    let reserve =
        |order: Value| async move { post(address, "/api/inventory/reserve", order).await };
    let requests: JoinSet<Answer> = orders.into_iter().map(reserve).collect();
    requests.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_orders_never_oversell() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let ten = json!({"items": [{"productId": "1", "quantity": 10}]});
    let answers = reserve_at_once(service.address(), std::iter::repeat_n(ten, 20)).await;
    let count = |status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!((count(200), count(409)), (10, 10), "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.status == 409) {
        assert_eq!(
            refused.body["shortfall"],
            json!([{"product_id": "1", "asked": 10, "available": 0}])
        );
    }
    assert_eq!(postgres.quantities("1").await, (0, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_in_opposite_order_do_not_deadlock() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let order =
        |ids: [&str; 4]| json!({"items": ids.map(|id| json!({"productId": id, "quantity": 1}))});
    let orders = (0..40).map(|n| {
        order(if n % 2 == 0 {
            ["1", "2", "3", "4"]
        } else {
            ["4", "3", "2", "1"]
        })
    });
    let answers = reserve_at_once(service.address(), orders).await;
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{answers:?}"
    );
    assert_eq!(postgres.quantities("1").await, (60, 40));
    assert_eq!(postgres.quantities("4").await, (460, 40));
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'inventory'";
    let deadlocks: i64 = postgres
        .connect_admin()
        .await
        .query_one(deadlocks, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(deadlocks, 0);
}

//! The stock as it moves: looked at, reserved, released.

use serde_json::json;

use crate::client::{get, post};
use crate::postgres::TestPostgres;
use crate::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn units_are_reserved_and_released() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let steel = |stock: i64, reserved: i64| {
        json!({"product_id": "1", "name": "Steel sheet 2 mm, 1000 x 2000 mm", "unit": "sheet",
               "stock_quantity": stock, "reserved_quantity": reserved})
    };

    let answer = get(address, "/api/inventory/1").await;
    assert_eq!((answer.status, answer.body), (200, steel(100, 0)));

    let fifty = json!({"items": [{"productId": "1", "quantity": 50}]});
    let answer = post(address, "/api/inventory/reserve", &fifty).await;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({"items": [steel(50, 50)]}))
    );
    assert_eq!(get(address, "/api/inventory/1").await.body, steel(50, 50));
    assert_eq!(postgres.quantities("1").await, (50, 50));

    let answer = post(address, "/api/inventory/release", &fifty).await;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({"items": [steel(100, 0)]}))
    );
    assert_eq!(postgres.quantities("1").await, (100, 0));

    let answer = post(
        address,
        "/api/inventory/reserve",
        json!({"items": [{"productId": 1, "quantity": "99"}]}),
    )
    .await;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({"items": [steel(1, 99)]}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_several_products_is_answered_in_its_own_order() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let order = json!({"items": [
        {"productId": "3", "quantity": 5}, {"productId": "1", "quantity": 1}, {"product_id": 3, "quantity": 2}
    ]});
    let answer = post(address, "/api/inventory/reserve", order).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let items = answer.body["items"].as_array().unwrap();
    let states: Vec<_> = items
        .iter()
        .map(|item| {
            (
                item["product_id"].as_str().unwrap(),
                item["reserved_quantity"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(states, [("3", 7), ("1", 1)]);
    assert_eq!(postgres.quantities("3").await, (73, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_is_listed_and_reports_its_health() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let answer = get(address, "/api/inventory").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let ids: Vec<_> = answer.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["product_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6"]);

    let answer = get(address, "/healthz").await;
    assert_eq!((answer.status, answer.body), (200, json!({"status": "ok"})));
}

//! Requests that are refused: with which status, with which reasons, and with nothing changed.

use serde_json::json;

use crate::client::{get, post, send};
use crate::postgres::TestPostgres;
use crate::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_short_product_keeps_the_whole_order_from_happening() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let order = json!({"items": [
        {"productId": "6", "quantity": 13}, {"productId": "2", "quantity": 10}, {"productId": "1", "quantity": 60},
        {"productId": "1", "quantity": 41}
    ]});
    let answer = post(address, "/api/inventory/reserve", order).await;
    let expected = json!({"error": "not enough stock", "shortfall": [
        {"product_id": "6", "asked": 13, "available": 12}, {"product_id": "1", "asked": 101, "available": 100}
    ]});
    assert_eq!((answer.status, answer.body), (409, expected));
    for (product_id, stock) in [("1", 100), ("2", 250), ("6", 12)] {
        assert_eq!(
            postgres.quantities(product_id).await,
            (stock, 0),
            "{product_id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_is_reserved_is_not_released() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let order =
        json!({"items": [{"productId": "1", "quantity": 5}, {"productId": "2", "quantity": 5}]});
    assert_eq!(
        post(address, "/api/inventory/reserve", order).await.status,
        200
    );
    let order =
        json!({"items": [{"productId": "1", "quantity": 5}, {"productId": "2", "quantity": 6}]});
    let answer = post(address, "/api/inventory/release", order).await;
    let expected = json!({"error": "more would be released than is reserved",
                          "excess": [{"product_id": "2", "asked": 6, "reserved": 5}]});
    assert_eq!((answer.status, answer.body), (409, expected));
    assert_eq!(postgres.quantities("1").await, (95, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_products_are_named() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let answer = get(address, "/api/inventory/77").await;
    assert_eq!(
        (answer.status, answer.body),
        (
            404,
            json!({"error": "no such product", "product_ids": ["77"]})
        )
    );

    let order = json!({"items": [
        {"productId": "1", "quantity": 1}, {"productId": "77", "quantity": 1}, {"productId": -3, "quantity": 1}
    ]});
    for path in ["/api/inventory/reserve", "/api/inventory/release"] {
        let answer = post(address, path, &order).await;
        assert_eq!(
            (answer.status, answer.body),
            (
                404,
                json!({"error": "no such product", "product_ids": ["77", "-3"]})
            )
        );
    }
    assert_eq!(postgres.quantities("1").await, (100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_told_all_their_reasons() {
    let postgres = TestPostgres::start().await;
    let service = Service::start(&postgres.url());
    let address = service.address();
    let order = json!({"items": [{"productId": "1", "quantity": 0}, {"quantity": "many"}, {"productId": "1", "quantity": 1}]});
    let answer = post(address, "/api/inventory/reserve", order).await;
    let expected = json!({"error": "the request is not valid", "reasons": [
        "items[0].quantity must be a whole number from 1 to 1000000000",
        "items[1].productId is missing",
        "items[1].quantity must be a whole number from 1 to 1000000000",
    ]});
    assert_eq!((answer.status, answer.body), (400, expected));
    assert_eq!(postgres.quantities("1").await, (100, 0));

    let answer = post(address, "/api/inventory/release", "{").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body["reasons"][0]
            .as_str()
            .unwrap()
            .starts_with("the body is not JSON: "),
        "{answer:?}"
    );

    let answer = get(address, "/api/inventory/a%00b").await;
    let expected = json!({"error": "the request is not valid", "reasons": ["the product id must not contain control characters"]});
    assert_eq!((answer.status, answer.body), (400, expected));
    assert_eq!(get(address, "/api/inventory/%ff").await.status, 400);

    let answer = post(address, "/api/inventory/reserve", "x".repeat(64 * 1024 + 1)).await;
    assert_eq!(
        (answer.status, answer.body),
        (413, json!({"error": "the body is larger than 65536 bytes"}))
    );

    let answer = get(address, "/api/stock").await;
    assert_eq!(
        (answer.status, answer.body),
        (404, json!({"error": "no such path"}))
    );

    let answer = send(address, "DELETE", "/api/inventory/1", String::new()).await;
    assert_eq!(
        (answer.status, answer.body),
        (405, json!({"error": "no such method on this path"}))
    );
    assert_eq!(answer.headers["allow"], "GET,HEAD");
}

//! Bodies that are orders, and the reasons of those that are not.

use super::*;

fn lines(body: &str) -> Vec<(String, i64)> {
    let order = Order::parse(body.as_bytes()).unwrap();
    order
        .lines()
        .iter()
        .map(|line| (line.product_id.as_str().to_owned(), line.quantity))
        .collect()
}

fn reasons(body: &str) -> Vec<String> {
    Order::parse(body.as_bytes()).unwrap_err().reasons
}

#[test]
fn ids_and_quantities_may_be_strings_or_numbers() {
    let expected = [("1".to_owned(), 50)];
    for item in [
        r#"{"productId": "1", "quantity": 50}"#,
        r#"{"productId": 1, "quantity": "50"}"#,
        r#"{"product_id": "1", "quantity": 50, "note": "unknown keys are ignored"}"#,
    ] {
        assert_eq!(
            lines(&format!(r#"{{"items": [{item}]}}"#)),
            expected,
            "{item}"
        );
    }
}

#[test]
fn a_product_asked_for_twice_is_asked_for_the_sum() {
    let body = r#"{"items": [{"productId": "2", "quantity": 3}, {"productId": "1", "quantity": 1}, {"productId": 2, "quantity": 4}]}"#;
    assert_eq!(lines(body), [("2".to_owned(), 7), ("1".to_owned(), 1)]);
}

#[test]
fn the_largest_order_does_not_overflow() {
    let items = vec![format!(r#"{{"productId": 1, "quantity": {QUANTITY_MAX}}}"#); ITEMS_MAX];
    let sum = QUANTITY_MAX * i64::try_from(ITEMS_MAX).unwrap();
    assert_eq!(
        lines(&format!(r#"{{"items": [{}]}}"#, items.join(","))),
        [("1".to_owned(), sum)]
    );
}

#[test]
fn all_reasons_are_given_at_once() {
    let body = r#"{"items": [
        {"productId": "1", "quantity": 0},
        {"quantity": -5},
        {"productId": "", "quantity": 1.5},
        {"productId": "1", "product_id": "1", "quantity": 1},
        {"productId": null},
        7,
        {"productId": "1", "quantity": 2}
    ]}"#;
    assert_eq!(
        reasons(body),
        [
            "items[0].quantity must be a whole number from 1 to 1000000000",
            "items[1].productId is missing",
            "items[1].quantity must be a whole number from 1 to 1000000000",
            "items[2].productId must not be empty",
            "items[2].quantity must be a whole number from 1 to 1000000000",
            "items[3].productId and product_id are the same, give one of them",
            "items[4].productId must be a string or a whole number, not null",
            "items[4].quantity is missing",
            "items[5] must be an object, not a number",
        ]
    );
}

#[test]
fn quantities_that_are_no_counts_are_refused() {
    for quantity in [
        "0",
        "-1",
        "1.0",
        "1e3",
        "1000000001",
        "9223372036854775808",
        r#""""#,
        r#""ten""#,
        r#"" 5""#,
        "null",
        "true",
        "[1]",
    ] {
        let body = format!(r#"{{"items": [{{"productId": "1", "quantity": {quantity}}}]}}"#);
        assert_eq!(
            reasons(&body),
            ["items[0].quantity must be a whole number from 1 to 1000000000"],
            "{quantity}"
        );
    }
}

#[test]
fn ids_that_no_product_can_have_are_refused() {
    let long = "x".repeat(PRODUCT_ID_BYTES_MAX + 1);
    for (id, reason) in [
        (
            r#""a\u0000b""#.to_owned(),
            "must not contain control characters",
        ),
        (format!("\"{long}\""), "must not be longer than 64 bytes"),
        (
            "1.0".to_owned(),
            "must be a string or a whole number, not a fraction",
        ),
        (
            "{}".to_owned(),
            "must be a string or a whole number, not an object",
        ),
    ] {
        let body = format!(r#"{{"items": [{{"productId": {id}, "quantity": 1}}]}}"#);
        assert_eq!(
            reasons(&body),
            [format!("items[0].productId {reason}")],
            "{id}"
        );
    }
}

#[test]
fn bodies_of_another_shape_are_refused() {
    assert_eq!(reasons(r"{}"), ["items is missing"]);
    assert_eq!(reasons(r#"{"items": []}"#), ["items must not be empty"]);
    assert_eq!(
        reasons(r#"{"items": {"productId": "1"}}"#),
        ["items must be an array, not an object"]
    );
    assert_eq!(
        reasons("[]"),
        [r#"the body must be an object with "items", not an array"#]
    );
    let many = vec!["1"; ITEMS_MAX + 1].join(",");
    assert_eq!(
        reasons(&format!(r#"{{"items": [{many}]}}"#)),
        ["items must not be more than 100, not 101"]
    );
    for broken in [
        "",
        "items=1",
        r#"{"items": [}"#,
        r#"{"items": [{"productId": "1", "quantity": 1e999}]}"#,
    ] {
        let reasons = reasons(broken);
        assert!(
            reasons.len() == 1 && reasons[0].starts_with("the body is not JSON: "),
            "{reasons:?}"
        );
    }
    assert!(Order::parse(b"\xff\xfe").is_err());
    assert!(Order::parse("[".repeat(100_000).as_bytes()).is_err());
}

//! An API server that a test plays: a client whose requests a closure answers. Tests of the CLI include this file as well.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use axum::{Json, Router};
use kube::Client;
use serde_json::{Value, json};

/// What is answered: a status code, and an object.
pub(crate) type Answer = (u16, Value);

/// A client of a server that answers each method, path and body so.
pub(crate) fn play(answer: impl Fn(&str, &str, Value) -> Answer + Send + Sync + 'static) -> Client {
    let answer = Arc::new(answer);
    let serve = move |method: Method, uri: Uri, body: Bytes| async move {
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let (code, object) = answer(method.as_str(), uri.path(), body);
        (
            StatusCode::from_u16(code).expect("a status code"),
            Json(object),
        )
    };
    Client::new(Router::<()>::new().fallback(serve), "default")
}

/// As the API server says no.
pub(crate) fn refusal(code: u16, message: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": "",
    });
    (code, status)
}

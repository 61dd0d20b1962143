//! What went wrong as an answer: a status, and a JSON object with `error` and what the caller needs beside it.
//!
//! Causes inside the service are logged here and not shown to callers.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use tracing::error;

use super::{BODY_BYTES_MAX, HEALTH_DEADLINE, REQUEST_DEADLINE};
use crate::database::is_outage;
use crate::failure::explain;
use crate::inventory::InventoryError;
use crate::order::InvalidOrder;

/// Why a request is not answered as it hoped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("no such path")]
    NoPath,
    #[error("no such method on this path")]
    NoMethod,
    #[error("the body could not be read")]
    Body(#[from] BytesRejection),
    #[error(transparent)]
    Invalid(#[from] InvalidOrder),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error("the database gave no sign of life within {} s", HEALTH_DEADLINE.as_secs())]
    DatabaseSilent,
    #[error("not finished within {} s, the outcome is unknown; read the inventory before repeating the request", REQUEST_DEADLINE.as_secs())]
    DeadlinePassed,
}

impl Problem {
    /// A request that is wrong for one reason.
    pub(super) fn invalid(reason: String) -> Self {
        Self::Invalid(InvalidOrder {
            reasons: vec![reason],
        })
    }

    fn answer(&self) -> (StatusCode, Value) {
        let said = self.to_string();
        match self {
            Self::NoPath => (StatusCode::NOT_FOUND, json!({ "error": said })),
            Self::NoMethod => (StatusCode::METHOD_NOT_ALLOWED, json!({ "error": said })),
            Self::Body(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let reason = format!("the body is larger than {BODY_BYTES_MAX} bytes");
                (StatusCode::PAYLOAD_TOO_LARGE, json!({ "error": reason }))
            }
            Self::Body(_) => (StatusCode::BAD_REQUEST, json!({ "error": said })),
            Self::Invalid(InvalidOrder { reasons }) => (
                StatusCode::BAD_REQUEST,
                json!({ "error": said, "reasons": reasons }),
            ),
            Self::Inventory(InventoryError::Unknown { product_ids }) => (
                StatusCode::NOT_FOUND,
                json!({ "error": said, "product_ids": product_ids }),
            ),
            Self::Inventory(InventoryError::StockShort { shortfall }) => (
                StatusCode::CONFLICT,
                json!({ "error": said, "shortfall": shortfall }),
            ),
            Self::Inventory(InventoryError::ReservationShort { excess }) => (
                StatusCode::CONFLICT,
                json!({ "error": said, "excess": excess }),
            ),
            Self::Inventory(InventoryError::Connection(_)) | Self::DatabaseSilent => {
                database_unavailable()
            }
            Self::Inventory(InventoryError::Query { source, .. }) if is_outage(source) => {
                database_unavailable()
            }
            Self::Inventory(InventoryError::Query { source, .. }) if gave_up(source) => (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({ "error": "the products are busy, nothing was changed" }),
            ),
            Self::Inventory(InventoryError::Query { .. }) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                json!({ "error": "the service failed" }),
            ),
            Self::Inventory(InventoryError::Unconfirmed(_)) | Self::DeadlinePassed => {
                (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": said }))
            }
        }
    }
}

fn database_unavailable() -> (StatusCode, Value) {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        json!({ "error": "the database is not available" }),
    )
}

/// Whether the server ended the statement for want of time, having changed nothing.
fn gave_up(error: &tokio_postgres::Error) -> bool {
    let codes = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, body) = self.answer();
        if status.is_server_error() {
            error!(
                status = status.as_u16(),
                reason = explain(&self),
                "a request failed"
            );
        }
        (status, Json(body)).into_response()
    }
}

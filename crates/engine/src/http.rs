//! The engine's HTTP API, version 1, on a Unix socket: translates requests to calls, and answers to JSON.
//!
//! Owns paths, statuses and the published document (`GET /v1/openapi.json`). Decides nothing.

mod branches;
mod engine;
pub mod serve;
mod sessions;
mod sources;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use model::engine_api::{Problem, ProblemKind};
use utoipa::OpenApi;

use crate::app::App;

/// Bytes that a request's body may have: a spec with many filters is a few kilobytes.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// How long a request's body may take to come.
const BODY_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// The document of version 1.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bough engine",
        description = "Branches of databases, on one machine. Served on a Unix socket."
    ),
    paths(
        engine::show,
        engine::stop,
        branches::list,
        branches::ensure,
        branches::show,
        branches::watch,
        branches::connection,
        branches::reset,
        branches::extend,
        branches::delete,
        sessions::list,
        sessions::join,
        sessions::leave,
        sessions::stop,
        sources::list,
        sources::add,
        sources::remove,
        sources::refresh,
    )
)]
struct ApiDocument;

/// The document of the API as JSON.
pub fn openapi() -> String {
    ApiDocument::openapi()
        .to_pretty_json()
        .expect("the document is made of plain maps")
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi()).into_response()
}

/// Every path of the API.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/openapi.json", get(document))
        .route("/v1/engine", get(engine::show))
        .route("/v1/engine/stop", post(engine::stop))
        .route("/v1/branches", get(branches::list).post(branches::ensure))
        .route(
            "/v1/branches/{name}",
            get(branches::show).delete(branches::delete),
        )
        .route("/v1/branches/{name}/watch", get(branches::watch))
        .route("/v1/branches/{name}/connection", get(branches::connection))
        .route("/v1/branches/{name}/reset", post(branches::reset))
        .route("/v1/branches/{name}/extend", post(branches::extend))
        .route("/v1/sessions", get(sessions::list))
        .route(
            "/v1/sessions/{id}",
            put(sessions::join).delete(sessions::leave),
        )
        .route("/v1/sessions/{id}/stop", post(sessions::stop))
        .route("/v1/sources", get(sources::list))
        .route(
            "/v1/sources/{name}",
            put(sources::add).delete(sources::remove),
        )
        .route("/v1/sources/{name}/refresh", post(sources::refresh))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_path)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

async fn no_such_path(request: Request) -> Refusal {
    let detail = format!(
        "no {} {} in this engine's API",
        request.method(),
        request.uri().path()
    );
    Refusal(
        Problem::new(ProblemKind::NotFound, detail)
            .with_hint("is this bough newer than the engine? `bough engine stop` ends the old one"),
    )
}

/// A problem as an answer: RFC 9457.
#[derive(Debug)]
struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.0).expect("a problem is plain data");
        (
            status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            body,
        )
            .into_response()
    }
}

/// A JSON body whose refusal is a problem as well.
struct Json<T>(T);

impl<T, S> FromRequest<S> for Json<T>
where
    axum::Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read = axum::Json::from_request(request, state);
        let read = tokio::time::timeout(BODY_TIME_MAX, read).await;
        let axum::Json(value) = read.map_err(|_| {
            let detail = format!(
                "the request's body did not come within {} s",
                BODY_TIME_MAX.as_secs()
            );
            Refusal(Problem::new(ProblemKind::BadRequest, detail))
        })??;
        Ok(Self(value))
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self(Problem::new(ProblemKind::BadRequest, rejection.body_text()))
    }
}

/// The branch's name of a path.
fn branch_name(text: String) -> Result<model::BranchName, Refusal> {
    text.try_into()
        .map_err(|error: model::branch_id::NameError| {
            Refusal(Problem::new(ProblemKind::BadRequest, error.to_string()))
        })
}

#[cfg(test)]
mod tests;

//! Paths below `/v1/branches`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use model::Namespace;
use model::engine_api::{
    BranchConnection, BranchView, EnsureBranch, EnsuredBranch, ExtendBranch, Problem, SessionId,
};
use serde::Deserialize;
use tokio::sync::watch;

use super::{Json, Refusal, branch_name};
use crate::app::App;

/// Which branches to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    namespace: Option<Namespace>,
}

/// Every branch, or those of one namespace.
#[utoipa::path(get, path = "/v1/branches", params(("namespace" = Option<String>, Query)),
    responses((status = 200, body = Vec<BranchView>), (status = 500, body = Problem)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<Vec<BranchView>>, Refusal> {
    let namespace = filter.namespace;
    // Measuring disk use reads directories.
    let views = tokio::task::spawn_blocking(move || app.branches.list(namespace.as_ref())).await;
    // No answer is not an empty one: who asks takes what is not listed as gone.
    let views = views.map_err(|error| Problem::internal(&error))?;
    Ok(axum::Json(views))
}

/// Asks for a branch. Answers within milliseconds: the branch may still be in the making.
#[utoipa::path(post, path = "/v1/branches", request_body = EnsureBranch,
    responses((status = 200, description = "it lived", body = EnsuredBranch), (status = 201, description = "it is being made", body = EnsuredBranch),
        (status = 409, description = "the id is taken by another spec", body = Problem), (status = 422, description = "above a limit", body = Problem)))]
pub(super) async fn ensure(
    State(app): State<Arc<App>>,
    Json(request): Json<EnsureBranch>,
) -> Result<(StatusCode, axum::Json<EnsuredBranch>), Refusal> {
    let ensured = app.branches.ensure(&request).await?;
    let status = if ensured.reused {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, axum::Json(ensured)))
}

/// One branch.
#[utoipa::path(get, path = "/v1/branches/{name}", params(("name" = String, Path)),
    responses((status = 200, body = BranchView), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<BranchView>, Refusal> {
    let name = branch_name(name)?;
    let view = tokio::task::spawn_blocking(move || app.branches.get(&name)).await;
    let lost = |error| Problem::internal(&error);
    Ok(axum::Json(view.map_err(lost)??))
}

/// One branch at every change, a JSON text a line; ends when it is gone.
#[utoipa::path(get, path = "/v1/branches/{name}/watch", params(("name" = String, Path)),
    responses((status = 200, content_type = "application/x-ndjson", body = BranchView), (status = 404, body = Problem)))]
pub(super) async fn watch(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let mut view_rx = app.branches.watch(&branch_name(name)?)?;
    view_rx.mark_changed();
    let lines = stream::unfold(view_rx, next_line)
        .take_until(app.shared.machine.ending.clone().cancelled_owned());
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response())
}

async fn next_line(
    mut view_rx: watch::Receiver<BranchView>,
) -> Option<(
    Result<Bytes, std::convert::Infallible>,
    watch::Receiver<BranchView>,
)> {
    view_rx.changed().await.ok()?;
    let mut line = serde_json::to_vec(&*view_rx.borrow_and_update()).expect("a view is plain data");
    line.push(b'\n');
    Some((Ok(Bytes::from(line)), view_rx))
}

/// For whom a connection is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    session: Option<SessionId>,
}

/// How to connect, with the password, and where doors are guarded a pass for the session or for a command.
#[utoipa::path(get, path = "/v1/branches/{name}/connection",
    params(("name" = String, Path), ("session" = Option<String>, Query, description = "the session that asks")),
    responses((status = 200, body = BranchConnection), (status = 404, body = Problem), (status = 409, description = "not ready", body = Problem)))]
pub(super) async fn connection(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<BranchConnection>, Refusal> {
    let name = branch_name(name)?;
    let connection = app.branches.connection(&name, whose.session).await?;
    Ok(axum::Json(connection))
}

/// Gives a branch fresh data under the same address.
#[utoipa::path(post, path = "/v1/branches/{name}/reset", params(("name" = String, Path)),
    responses((status = 202, body = BranchView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn reset(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<BranchView>), Refusal> {
    Ok((
        StatusCode::ACCEPTED,
        axum::Json(app.branches.reset(&branch_name(name)?).await?),
    ))
}

/// Gives a branch a new TTL, counted from now.
#[utoipa::path(post, path = "/v1/branches/{name}/extend", params(("name" = String, Path)), request_body = ExtendBranch,
    responses((status = 200, body = BranchView), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn extend(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(request): Json<ExtendBranch>,
) -> Result<axum::Json<BranchView>, Refusal> {
    Ok(axum::Json(
        app.branches
            .extend(&branch_name(name)?, request.ttl)
            .await?,
    ))
}

/// Deletes a branch; answers when nothing is left of it.
#[utoipa::path(delete, path = "/v1/branches/{name}", params(("name" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    app.branches.delete(&branch_name(name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

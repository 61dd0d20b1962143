//! Paths below `/v1/sessions`.

use std::sync::Arc;

use axum::extract::{Path, State};
use model::engine_api::{
    BranchView, JoinSession, Problem, ProblemKind, SessionId, SessionView, StopSession,
};

use super::{Json, Refusal};
use crate::app::App;

/// Every session that holds a branch.
#[utoipa::path(get, path = "/v1/sessions", responses((status = 200, body = Vec<SessionView>)))]
pub(super) async fn list(State(app): State<Arc<App>>) -> axum::Json<Vec<SessionView>> {
    axum::Json(app.branches.sessions())
}

/// A session joins its branches, or says that it lives: the same request is its heartbeat.
#[utoipa::path(put, path = "/v1/sessions/{id}", params(("id" = String, Path)), request_body = JoinSession,
    responses((status = 200, body = Vec<BranchView>), (status = 404, description = "one of the branches is gone", body = Problem),
    (status = 410, description = "somebody stopped the session", body = Problem)))]
pub(super) async fn join(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Json(request): Json<JoinSession>,
) -> Result<axum::Json<Vec<BranchView>>, Refusal> {
    let id = session_id(id)?;
    Ok(axum::Json(app.branches.join(&id, &request).await?))
}

/// A session leaves; answers with the branches that it held, whose TTL counts from now where it was the last.
#[utoipa::path(delete, path = "/v1/sessions/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Vec<BranchView>)))]
pub(super) async fn leave(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Vec<BranchView>>, Refusal> {
    Ok(axum::Json(app.branches.leave(&session_id(id)?).await))
}

/// Stops a session; answers with the branches that it holds until its program has ended. Its heartbeats are refused.
#[utoipa::path(post, path = "/v1/sessions/{id}/stop", params(("id" = String, Path)), request_body = StopSession,
    responses((status = 200, body = Vec<BranchView>), (status = 404, description = "no session of this id holds a branch", body = Problem)))]
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Json(request): Json<StopSession>,
) -> Result<axum::Json<Vec<BranchView>>, Refusal> {
    let id = session_id(id)?;
    Ok(axum::Json(app.branches.stop(&id, &request.by).await?))
}

fn session_id(text: String) -> Result<SessionId, Refusal> {
    let id = SessionId::try_from(text);
    id.map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()).into())
}

//! Paths below `/v1/engine`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use model::engine_api::{EngineView, Problem, StopEngine};

use super::{Json, Refusal};
use crate::app::App;

/// The engine itself.
#[utoipa::path(get, path = "/v1/engine", responses((status = 200, body = EngineView), (status = 500, body = Problem)))]
pub(super) async fn show(State(app): State<Arc<App>>) -> Result<axum::Json<EngineView>, Refusal> {
    Ok(axum::Json(app.view()?))
}

/// Stops the engine after this answer. The branches' servers go on unless `servers` is true.
#[utoipa::path(post, path = "/v1/engine/stop", request_body = StopEngine, responses((status = 202)))]
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    Json(request): Json<StopEngine>,
) -> StatusCode {
    if request.servers {
        app.branches.stop_servers().await;
        crate::upkeep::stop_servers(&app.shared).await;
    }
    app.shared.machine.ending.cancel();
    StatusCode::ACCEPTED
}

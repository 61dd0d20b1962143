//! Paths below `/v1/sources`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::engine_api::{AddSource, Problem, ProblemKind, SourceName, SourceNameError, SourceView};

use super::{Json, Refusal};
use crate::app::App;

fn source_name(text: String) -> Result<SourceName, Refusal> {
    text.try_into().map_err(|error: SourceNameError| {
        Refusal(Problem::new(ProblemKind::BadRequest, error.to_string()))
    })
}

/// Every named source.
#[utoipa::path(get, path = "/v1/sources", responses((status = 200, body = Vec<SourceView>)))]
pub(super) async fn list(State(app): State<Arc<App>>) -> axum::Json<Vec<SourceView>> {
    axum::Json(app.shared.sources.list(&app.shared))
}

/// Names a source, after it was asked who it is.
#[utoipa::path(put, path = "/v1/sources/{name}", params(("name" = String, Path)), request_body = AddSource,
    responses((status = 200, body = SourceView), (status = 409, description = "the name means another database", body = Problem),
        (status = 502, description = "it cannot be reached", body = Problem)))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(request): Json<AddSource>,
) -> Result<axum::Json<SourceView>, Refusal> {
    Ok(axum::Json(
        app.shared
            .sources
            .add(source_name(name)?, request, &app.shared)
            .await?,
    ))
}

/// Looks at a source again and copies it where it has moved. Answers at once; the list says when it is done.
#[utoipa::path(post, path = "/v1/sources/{name}/refresh", params(("name" = String, Path)),
    responses((status = 202), (status = 404, body = Problem)))]
pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = source_name(name)?;
    app.shared.sources.url(&name)?;
    app.shared.refresher.ask(&name);
    if let Some(entry) = app.shared.bases.living().get(&name) {
        // One that could not be followed may be by now.
        entry.look.notify_one();
    }
    Ok(StatusCode::ACCEPTED)
}

/// Forgets a source; its branches stay.
#[utoipa::path(delete, path = "/v1/sources/{name}", params(("name" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = source_name(name)?;
    app.shared.sources.remove(&name, &app.shared).await?;
    Ok(StatusCode::NO_CONTENT)
}

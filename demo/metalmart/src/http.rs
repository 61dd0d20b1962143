//! The HTTP interface: routes, the request log, the deadline of a request, and the end of serving.
//!
//! Only translates between HTTP and `order` and `inventory`; what goes wrong becomes an answer in `problem`.

mod problem;

use std::io;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::info;

use self::problem::Problem;
use crate::clock;
use crate::inventory::{Inventory, Product};
use crate::order::{Order, ProductId};
use crate::stop::StopSignals;

/// The largest body in bytes; an order of the most items with the longest ids takes a fifth of it.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest time for a request; above the limits of the database's own, whose reasons are better.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// The longest time for a health check: those who ask give up sooner than those who order.
const HEALTH_DEADLINE: Duration = Duration::from_secs(2);

/// How long open requests may go on after a signal: longer than any request's deadline, shorter than the 30 s after
/// which Kubernetes kills.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// Why serving could not begin or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("cannot listen on {host}:{port}")]
    Listen {
        host: String,
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("serving failed")]
    Serve(#[source] io::Error),
    #[error("requests were still open {} s after the signal to stop", STOP_GRACE.as_secs())]
    Unfinished,
    #[error("requests were still open at the second signal to stop")]
    Hurried,
}

impl ServeError {
    /// What whoever runs the service can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Listen { .. } => {
                "choose another port with --port or PORT, or another address with --host"
            }
            Self::Serve(_) => "check the limits on open files and memory",
            Self::Unfinished | Self::Hurried => {
                "read the inventory before repeating a request that got no answer"
            }
        }
    }
}

/// Products as `{"items": [...]}`.
#[derive(Debug, Serialize)]
struct Items {
    items: Vec<Product>,
}

/// The whole interface over `inventory`.
pub(crate) fn router(inventory: Inventory) -> Router {
    Router::new()
        .route("/api/inventory", get(list))
        .route("/api/inventory/{id}", get(find))
        .route("/api/inventory/reserve", post(reserve))
        .route("/api/inventory/release", post(release))
        .route("/healthz", get(check_health))
        .fallback(async || Problem::NoPath)
        .method_not_allowed_fallback(async || Problem::NoMethod)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(bound_time))
        .layer(from_fn(log_request))
        .with_state(inventory)
}

/// Opens the port.
///
/// # Errors
/// [`ServeError::Listen`] when the port is taken or the name is not of this machine.
pub(crate) async fn listen(host: &str, port: u16) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError::Listen {
        host: host.to_owned(),
        port,
        source,
    };
    TcpListener::bind((host, port)).await.map_err(failed)
}

/// Serves until a signal, then takes no more requests and waits for the open ones.
///
/// # Errors
/// [`ServeError::Unfinished`] or [`ServeError::Hurried`] when requests had to be abandoned.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: &mut StopSignals,
) -> Result<(), ServeError> {
    let (drain_tx, drain_rx) = oneshot::channel::<()>();
    let drain = async move {
        // An error means that the sender is gone: the same end.
        let _ = drain_rx.await;
    };
    let mut server = Box::pin(
        axum::serve(listener, router)
            .with_graceful_shutdown(drain)
            .into_future(),
    );
    tokio::select! {
        ended = &mut server => return ended.map_err(ServeError::Serve),
        signal = stop.next() => info!(signal, "stopping: no new requests, open ones are finished"),
    }
    drop(drain_tx);
    tokio::select! {
        ended = &mut server => ended.map_err(ServeError::Serve)?,
        () = tokio::time::sleep(STOP_GRACE) => return Err(ServeError::Unfinished),
        _ = stop.next() => return Err(ServeError::Hurried),
    }
    info!("stopped");
    Ok(())
}

async fn list(State(inventory): State<Inventory>) -> Result<Json<Items>, Problem> {
    let items = inventory.list().await?;
    Ok(Json(Items { items }))
}

async fn find(
    State(inventory): State<Inventory>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Product>, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let id = ProductId::new(id)
        .map_err(|reason| Problem::invalid(format!("the product id {reason}")))?;
    let product = inventory.find(&id).await?;
    Ok(Json(product))
}

async fn reserve(
    State(inventory): State<Inventory>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Items>, Problem> {
    let order = Order::parse(&body?)?;
    let items = inventory.reserve(&order).await?;
    Ok(Json(Items { items }))
}

async fn release(
    State(inventory): State<Inventory>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Items>, Problem> {
    let order = Order::parse(&body?)?;
    let items = inventory.release(&order).await?;
    Ok(Json(Items { items }))
}

async fn check_health(
    State(inventory): State<Inventory>,
) -> Result<Json<serde_json::Value>, Problem> {
    tokio::time::timeout(HEALTH_DEADLINE, inventory.check())
        .await
        .map_err(|_| Problem::DatabaseSilent)??;
    Ok(Json(serde_json::json!({ "status": "ok" })))
}

async fn bound_time(request: Request, next: Next) -> Result<Response, Problem> {
    tokio::time::timeout(REQUEST_DEADLINE, next.run(request))
        .await
        .map_err(|_| Problem::DeadlinePassed)
}

async fn log_request(request: Request, next: Next) -> Response {
    let started = clock::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let ms = clock::now().duration_since(started).as_millis();
    info!(%method, path, status = response.status().as_u16(), ms, "request");
    response
}

//! Connections to the API: accepted up to a number, each given its time, let go when the engine ends.
//!
//! Owns what an unfriendly or broken client can take of the engine: a place, for as long as a head may take. Leaves what
//! is asked to the router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::engine_api::{Problem, ProblemKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections that are served at once: a watch, a heartbeat and a request for each of a hundred sessions, and far from
/// what a process may open, of which doors and servers need their part.
const CONNECTIONS_MAX: usize = 512;

/// Connections that are being refused at once; one more is closed without a word.
const REFUSALS_MAX: usize = 64;

/// How long a client may take for a request's head, and may be silent between two requests.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a client that is refused may take to say what it wanted and to read why not.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);

/// How long the engine waits before it accepts again after the kernel refused it a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `ending`; then waits for the answers that are under way.
pub async fn serve(listener: UnixListener, router: Router, ending: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = ending.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let (router, ending) = (router.clone(), ending.clone());
            connections.spawn(async move {
                serve_one(stream, router, ending).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
            connections.spawn(async move {
                // Whoever does not take it in time is none the wiser.
                drop(tokio::time::timeout(REFUSAL_TIME_MAX, refuse(stream)).await);
                drop(place);
            });
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_one(stream: UnixStream, router: Router, ending: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the API ended");
    }
}

/// Says that there are too many: an answer of HTTP, so that every client understands it.
async fn refuse(mut stream: UnixStream) -> std::io::Result<()> {
    // What was sent is read first: closing a socket with unread bytes may take the answer away.
    let mut head = [0; 4096];
    let _read = stream.read(&mut head).await?;
    stream.write_all(too_many().as_bytes()).await?;
    stream.shutdown().await?;
    // A client that is still writing would fail before it reads.
    while stream.read(&mut head).await? > 0 {}
    Ok(())
}

fn too_many() -> String {
    let problem = Problem::new(
        ProblemKind::LimitPassed,
        format!("this engine serves {CONNECTIONS_MAX} connections at once, and has as many"),
    )
    .with_hint("try again; if it stays so, find who holds them: `ss -xp | grep engine.sock`");
    let body = serde_json::to_string(&problem).expect("a problem is plain data");
    format!(
        "HTTP/1.1 {} Too Many Connections\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        problem.status,
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(socket: &std::path::Path) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn one_connection_too_many_is_told_so_and_the_others_are_served() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("s");
        let ending = CancellationToken::new();
        let router = Router::new().route("/", axum::routing::get(|| async { "served" }));
        let listener = UnixListener::bind(&socket).unwrap();
        let serving = tokio::spawn(serve(listener, router, ending.clone()));
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            // A first byte that came is a connection that was accepted.
            stream.write_all(b"G").await.unwrap();
            held.push(stream);
        }
        let refused = get(&socket).await.unwrap();
        assert!(refused.starts_with("HTTP/1.1 422 "), "{refused}");
        assert!(refused.contains("ss -xp"), "{refused}");
        held.pop();
        // The place is free once the engine has seen the end.
        let served = loop {
            let answer = get(&socket).await.unwrap();
            if !answer.contains("422") {
                break answer;
            }
        };
        assert!(served.ends_with("served"), "{served}");
        ending.cancel();
        drop(held);
        serving.await.unwrap();
    }
}

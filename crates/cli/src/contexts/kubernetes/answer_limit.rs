//! A client none of whose calls waits for ever: after a sleep, or where a network forgot the flow, a pooled connection
//! looks fresh and carries nothing, and the client library alone would wait until the kernel gives it up.
//!
//! Owns the limit of one call, until its answer is whole or it is a stream of its own. Leaves what passes through such a
//! stream (exec, port-forward) to who holds it, and limits of several calls together to who makes them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use tower_service::Service;

/// The longest that a call may take, the library's own retries of it included. An exec is answered once the node's
/// kubelet was reached, which the API server itself gives up after 30 s.
pub(super) const CALL_WITHIN: Duration = Duration::from_secs(40);

/// A call has no answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server has not answered for {} s", CALL_WITHIN.as_secs())]
struct NoAnswer;

/// `client`, whose calls end within [`CALL_WITHIN`]. Answers are read whole: one that goes on for as long as it is
/// listened to, as of a watch, would be cut.
pub(super) fn limited(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let valid_until = *client.valid_until();
    Client::new(Limited(client), namespace).with_valid_until(valid_until)
}

struct Limited(Client);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<Response<Body>, BoxError>;

impl Service<Request<Body>> for Limited {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            match tokio::time::timeout(CALL_WITHIN, whole(&client, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(NoAnswer.into()),
            }
        })
    }
}

async fn whole(client: &Client, request: Request<Body>) -> Answer {
    let answer = client.send(request).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, Body::from(body)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::Router;
    use futures_util::{StreamExt as _, stream};
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use operator::agents::ApiFailure;

    use super::*;
    use crate::clock;
    use crate::contexts::kubernetes::played_api::{play, refusal};

    async fn got(client: Client) -> Result<Pod, ApiFailure> {
        let api: Api<Pod> = Api::namespaced(limited(client), "shop");
        api.get("p").await.map_err(ApiFailure::from)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_answers_ends() {
        let silent = Router::<()>::new().fallback(|| async {
            std::future::pending::<()>().await;
        });
        let begun = clock::monotonic();
        let failure = got(Client::new(silent, "default")).await;
        let failure = failure.expect_err("nobody answers");
        assert_eq!(
            failure.to_string(),
            "the API server has not answered for 40 s"
        );
        assert_eq!(begun.elapsed().as_secs(), CALL_WITHIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stops_half_way_ends() {
        let half_way = Router::<()>::new().fallback(|| async {
            let begun = stream::iter([Ok::<_, Infallible>("{")]);
            axum::body::Body::from_stream(begun.chain(stream::pending()))
        });
        let failure = got(Client::new(half_way, "default")).await;
        let failure = failure.expect_err("it is never whole").to_string();
        assert!(failure.contains("has not answered"), "{failure}");
    }

    #[tokio::test]
    async fn what_is_answered_is_as_without_a_limit() {
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        let there = play(move |_, _, _| (200, pod.clone()));
        let pod = got(there).await.expect("it is there");
        assert_eq!(pod.metadata.name.as_deref(), Some("p"));
        let refused = got(play(|_, _, _| refusal(403, "pods is forbidden"))).await;
        let failure = refused.expect_err("it is refused");
        assert!(failure.is_forbidden(), "{failure}");
        assert_eq!(failure.to_string(), "pods is forbidden");
    }
}

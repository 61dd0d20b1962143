//! Stealing by request: connections whose requests are looked at, each of which goes to the session whose filter wants it,
//! or on to the target.
//!
//! HTTP/1 and HTTP/2 (with prior knowledge) stay what they are: a request arrives in the version in which it was sent,
//! and an upgraded connection, a websocket's say, is carried on as bytes. Sessions get connections of their own, kept
//! for as long as the client's. What HTTP itself forbids to pass on unchanged is hyper's to mind.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::client::conn::{http1 as client_1, http2 as client_2};
use hyper::server::conn::{http1 as server_1, http2 as server_2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tracing::debug;
use wire::Errno;

use super::client::Client;
use super::connection::{Arrival, Taken};
use super::filter::Filter;
use super::ports::Subscriber;

type Takers = Vec<(Arc<Subscriber>, Option<Arc<Filter>>)>;
type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Who answers a request: the target, or one of the takers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Backend {
    Target,
    Taker(usize),
}

/// One client's connection and those that were made for it.
struct Gate {
    arrival: Arrival,
    takers: Takers,
    senders_1: Mutex<HashMap<Backend, client_1::SendRequest<Body>>>,
    senders_2: Mutex<HashMap<Backend, client_2::SendRequest<Body>>>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// The target takes no connection.
    #[error("the target does not take a connection")]
    Target { source: std::io::Error },
    /// The session takes none.
    #[error("the session refuses with error {}", errno.0)]
    Refused { errno: Errno },
    /// The session went while it was asked; the target may answer.
    #[error("the session is gone")]
    Gone,
    /// The exchange broke.
    #[error("the exchange broke")]
    Exchange {
        #[from]
        source: hyper::Error,
    },
}

/// Serves a client that speaks HTTP/1.
pub(super) async fn serve_1(arrival: Arrival, client: Client, takers: Takers) {
    let gate = Arc::new(Gate::new(arrival, takers));
    let service = service_fn(move |request| Arc::clone(&gate).answer(request));
    let served = server_1::Builder::new()
        // The target decides how long it waits, and how headers are written.
        .header_read_timeout(None)
        .preserve_header_case(true)
        .half_close(true)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection ended out of order");
    }
}

/// Serves a client that speaks HTTP/2.
pub(super) async fn serve_2(arrival: Arrival, client: Client, takers: Takers) {
    let gate = Arc::new(Gate::new(arrival, takers));
    let service = service_fn(move |request| Arc::clone(&gate).answer(request));
    let served = server_2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(client), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection ended out of order");
    }
}

impl Gate {
    fn new(arrival: Arrival, takers: Takers) -> Self {
        Self {
            arrival,
            takers,
            senders_1: Mutex::default(),
            senders_2: Mutex::default(),
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Answer, Unanswered> {
        let (head, body) = request.into_parts();
        let wants = |taker: &(Arc<Subscriber>, Option<Arc<Filter>>)| {
            let (subscriber, filter) = taker;
            subscriber.session.is_linked()
                && filter.as_ref().is_none_or(|filter| filter.matches(&head))
        };
        let taker = self.takers.iter().position(wants);
        let mut request = Request::from_parts(head, body);
        if let Some(index) = taker {
            match self.forward(Backend::Taker(index), request).await {
                Ok(response) => return Ok(response),
                Err((Unanswered::Gone, Some(back))) => request = back,
                Err((error, _)) => return Ok(bad_gateway(&error)),
            }
        }
        // Without an answer of the target's, the client sees what it would see of a broken target.
        self.forward(Backend::Target, request)
            .await
            .map_err(|(error, _)| error)
    }

    /// Sends the request to a backend; it comes back where nothing of it was sent.
    async fn forward(
        &self,
        backend: Backend,
        request: Request<Body>,
    ) -> Result<Answer, (Unanswered, Option<Request<Body>>)> {
        if request.version() == Version::HTTP_2 {
            self.forward_2(backend, request).await
        } else {
            self.forward_1(backend, request).await
        }
    }

    async fn forward_1(
        &self,
        backend: Backend,
        mut request: Request<Body>,
    ) -> Result<Answer, (Unanswered, Option<Request<Body>>)> {
        let upgrade = hyper::upgrade::on(&mut request);
        let mut senders = self.senders_1.lock().await;
        let mut reused = senders.remove(&backend);
        loop {
            let (mut sender, is_new) = match reused.take() {
                Some(sender) => (sender, false),
                None => match self.connect_1(backend).await {
                    Ok(sender) => (sender, true),
                    Err(error) => return Err((error, Some(request))),
                },
            };
            // One that was closed meanwhile gives the request back, and a new connection gets it.
            if sender.ready().await.is_err() && !is_new {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Ok(switch(upgrade, response));
                }
                Ok(response) => {
                    senders.insert(backend, sender);
                    return Ok(response.map(BodyExt::boxed));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(back) if !is_new => request = back,
                    back => return Err((failed.into_error().into(), back)),
                },
            }
        }
    }

    async fn forward_2(
        &self,
        backend: Backend,
        request: Request<Body>,
    ) -> Result<Answer, (Unanswered, Option<Request<Body>>)> {
        let mut sender = {
            let mut senders = self.senders_2.lock().await;
            match senders.get(&backend).filter(|sender| !sender.is_closed()) {
                Some(sender) => sender.clone(),
                None => match self.connect_2(backend).await {
                    Ok(sender) => {
                        senders.insert(backend, sender.clone());
                        sender
                    }
                    Err(error) => return Err((error, Some(request))),
                },
            }
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(BodyExt::boxed)),
            Err(mut failed) => {
                let back = failed.take_message();
                Err((failed.into_error().into(), back))
            }
        }
    }

    async fn connect_1(&self, backend: Backend) -> Result<client_1::SendRequest<Body>, Unanswered> {
        let io = TokioIo::new(self.connect(backend).await?);
        let (sender, connection) = client_1::Builder::new()
            .preserve_header_case(true)
            .handshake(io)
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "a connection to a backend broke");
            }
        });
        Ok(sender)
    }

    async fn connect_2(&self, backend: Backend) -> Result<client_2::SendRequest<Body>, Unanswered> {
        let io = TokioIo::new(self.connect(backend).await?);
        let (sender, connection) = client_2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection to a backend broke");
            }
        });
        Ok(sender)
    }

    async fn connect(&self, backend: Backend) -> Result<Box<dyn Duplex>, Unanswered> {
        match backend {
            Backend::Target => {
                let ours = &self.arrival.ground.ours;
                let target = ours.connect(self.arrival.local).await;
                let target = target.map_err(|source| Unanswered::Target { source })?;
                Ok(Box::new(target))
            }
            Backend::Taker(index) => match self.arrival.offer(&self.takers[index].0).await {
                Taken::Yes(stream) => Ok(Box::new(stream)),
                Taken::Refused(errno) => Err(Unanswered::Refused { errno }),
                Taken::Gone => Err(Unanswered::Gone),
            },
        }
    }
}

/// Anything that carries bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Carries an upgraded connection on as bytes, once the client has its answer.
fn switch(client: hyper::upgrade::OnUpgrade, mut response: Response<Body>) -> Answer {
    let backend = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let (Ok(client), Ok(backend)) = tokio::join!(client, backend) else {
            return debug!("an upgrade did not come about");
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
            debug!(%error, "an upgraded connection broke");
        }
    });
    response.map(BodyExt::boxed)
}

/// What a client gets whose request a session wants and does not answer: only that session's owner sends such ones.
fn bad_gateway(error: &Unanswered) -> Answer {
    let text = format!("bough: the session that takes this request does not answer: {error}\n");
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

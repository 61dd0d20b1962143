//! Stealing by request: connections whose requests are looked at, each of which goes to the session whose filter wants it,
//! or on to the target.
//!
//! HTTP/1 and HTTP/2 (with prior knowledge) stay what they are: a request arrives in the version in which it was sent,
//! and an upgraded connection, a websocket's say, is carried on as bytes: all but an upgrade to HTTP/2, of whose requests
//! nothing would be seen. Sessions get connections of their own, kept for as long as the client's; who wants a request is
//! asked when it comes, for clients keep connections longer than sessions last. What HTTP itself forbids to pass on
//! unchanged is hyper's to mind.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::client::conn::{http1 as client_1, http2 as client_2};
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::server::conn::{http1 as server_1, http2 as server_2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tracing::debug;
use wire::{Errno, SessionId};

use super::client::Client;
use super::connection::{Arrival, Taken};
use super::filter::Filter;
use super::ports::Subscriber;

/// Fields of one head, and bytes of them: above what servers are used to take, so that the target's own limits are met first.
const FIELDS_MAX: usize = 1000;
const FIELDS_BYTES_MAX: u32 = 1 << 20;

/// Goes with an upgrade to HTTP/2 (RFC 7540, section 3.2.1).
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

pub(super) type Takers = Vec<(Arc<Subscriber>, Option<Arc<Filter>>)>;

/// Says who takes what comes now.
pub(super) type WhoTakes = Box<dyn Fn() -> Takers + Send + Sync>;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Who answers a request: the target, or one of the takers.
#[derive(Debug, Clone)]
enum Backend {
    Target,
    Taker(Arc<Subscriber>),
}

/// By which its connections are found again; none is the target.
type BackendKey = Option<(SessionId, u32)>;

impl Backend {
    fn key(&self) -> BackendKey {
        match self {
            Self::Target => None,
            Self::Taker(subscriber) => Some((subscriber.owner, subscriber.subscription)),
        }
    }
}

/// Where the one connection of all requests to a backend is, once somebody has made it.
type OneConnection = Arc<Mutex<Option<client_2::SendRequest<Body>>>>;

/// One client's connection and those that were made for it.
struct Gate {
    arrival: Arrival,
    who_takes: WhoTakes,
    senders_1: Mutex<HashMap<BackendKey, client_1::SendRequest<Body>>>,
    senders_2: Mutex<HashMap<BackendKey, OneConnection>>,
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
pub(super) async fn serve_1(arrival: Arrival, client: Client, who_takes: WhoTakes) {
    let gate = Arc::new(Gate::new(arrival, who_takes));
    let service = service_fn(move |request| Arc::clone(&gate).answer(request));
    let served = server_1::Builder::new()
        // The target decides how long it waits, and how headers are written.
        .header_read_timeout(None)
        .preserve_header_case(true)
        .half_close(true)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection ended out of order");
    }
}

/// Serves a client that speaks HTTP/2.
pub(super) async fn serve_2(arrival: Arrival, client: Client, who_takes: WhoTakes) {
    let gate = Arc::new(Gate::new(arrival, who_takes));
    let service = service_fn(move |request| Arc::clone(&gate).answer(request));
    let served = server_2::Builder::new(TokioExecutor::new())
        .max_header_list_size(FIELDS_BYTES_MAX)
        .serve_connection(TokioIo::new(client), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection ended out of order");
    }
}

impl Gate {
    fn new(arrival: Arrival, who_takes: WhoTakes) -> Self {
        Self {
            arrival,
            who_takes,
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
        let mut takers = (self.who_takes)().into_iter();
        let taker = takers.find(wants);
        let mut request = Request::from_parts(head, body);
        if let Some((taker, _)) = taker {
            match self.forward(Backend::Taker(taker), request).await {
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
        stay_at_http_1(request.headers_mut());
        let makes_tunnel = request.method() == Method::CONNECT;
        let mut senders = self.senders_1.lock().await;
        let mut reused = senders.remove(&backend.key());
        loop {
            let (mut sender, is_new) = match reused.take() {
                Some(sender) => (sender, false),
                None => match self.connect_1(&backend).await {
                    Ok(sender) => (sender, true),
                    Err(error) => return Err((error, Some(request))),
                },
            };
            // One that was closed meanwhile gives the request back, and a new connection gets it.
            if sender.ready().await.is_err() && !is_new {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response)
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS
                        || makes_tunnel && response.status().is_success() =>
                {
                    return Ok(switch(upgrade, response));
                }
                Ok(response) => {
                    senders.insert(backend.key(), sender);
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
        let mut senders = self.senders_2.lock().await;
        let place = Arc::clone(senders.entry(backend.key()).or_default());
        drop(senders);
        let mut sender = {
            // A session that takes its time holds up its own requests alone.
            let mut place = place.lock().await;
            match place.as_ref().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender.clone(),
                None => match self.connect_2(&backend).await {
                    Ok(sender) => place.insert(sender).clone(),
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

    async fn connect_1(
        &self,
        backend: &Backend,
    ) -> Result<client_1::SendRequest<Body>, Unanswered> {
        let io = TokioIo::new(self.connect(backend).await?);
        let (sender, connection) = client_1::Builder::new()
            .preserve_header_case(true)
            .max_headers(FIELDS_MAX)
            .handshake(io)
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "a connection to a backend broke");
            }
        });
        Ok(sender)
    }

    async fn connect_2(
        &self,
        backend: &Backend,
    ) -> Result<client_2::SendRequest<Body>, Unanswered> {
        let io = TokioIo::new(self.connect(backend).await?);
        let (sender, connection) = client_2::Builder::new(TokioExecutor::new())
            .max_header_list_size(FIELDS_BYTES_MAX)
            .handshake(io)
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection to a backend broke");
            }
        });
        Ok(sender)
    }

    async fn connect(&self, backend: &Backend) -> Result<Box<dyn Duplex>, Unanswered> {
        match backend {
            Backend::Target => {
                let ours = &self.arrival.ground.ours;
                let target = ours.connect(self.arrival.local).await;
                let target = target.map_err(|source| Unanswered::Target { source })?;
                Ok(Box::new(target))
            }
            Backend::Taker(subscriber) => match self.arrival.offer(subscriber).await {
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

/// Takes an offer to go on in HTTP/2 back, which a server may always pass over (RFC 9110, section 7.8).
fn stay_at_http_1(headers: &mut HeaderMap) {
    let Some(without) = without_tokens(headers, &UPGRADE, &["h2c"]) else {
        return;
    };
    headers.remove(HTTP2_SETTINGS);
    let gone: &[&str] = if without.is_some() {
        &["http2-settings"]
    } else {
        &["http2-settings", "upgrade"]
    };
    replace(headers, &UPGRADE, without);
    if let Some(rest) = without_tokens(headers, &CONNECTION, gone) {
        replace(headers, &CONNECTION, rest);
    }
}

/// What is left of the list `name` without these tokens, and whether anything is; none where it has none of them.
fn without_tokens(
    headers: &HeaderMap,
    name: &HeaderName,
    tokens: &[&str],
) -> Option<Option<HeaderValue>> {
    let values = headers.get_all(name).iter();
    let texts: Vec<&str> = values
        .map(|value| value.to_str().ok())
        .collect::<Option<_>>()?;
    let all = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    let is_gone = |token: &str| tokens.iter().any(|gone| token.eq_ignore_ascii_case(gone));
    let (gone, left): (Vec<&str>, Vec<&str>) = all.partition(|token| is_gone(token));
    if gone.is_empty() {
        return None;
    }
    Some(
        (!left.is_empty())
            .then(|| HeaderValue::from_str(&left.join(", ")).ok())
            .flatten(),
    )
}

fn replace(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name.clone(), value)),
        None => drop(headers.remove(name)),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_of_http_2_is_taken_back_and_no_other() {
        let left = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            let mut headers: HeaderMap = fields.collect();
            stay_at_http_1(&mut headers);
            let told = |(name, value): (&HeaderName, &HeaderValue)| {
                format!("{name}: {}", value.to_str().expect("text"))
            };
            let mut left: Vec<String> = headers.iter().map(told).collect();
            left.sort();
            left
        };
        // As Java's client begins.
        let java = [
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAEAAEAA"),
            ("host", "shop"),
        ];
        assert_eq!(left(&java), ["host: shop"]);
        let both = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "h2c, websocket"),
        ];
        let kept = ["connection: keep-alive, Upgrade", "upgrade: websocket"];
        assert_eq!(
            left(&both),
            ["connection: keep-alive, Upgrade", "upgrade: websocket"]
        );
        assert_eq!(
            left(&[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "websocket")
            ]),
            kept
        );
    }
}

//! The engine's API as calls over the engine's socket: one request after the other on a connection that is kept, for in a
//! cluster each connection is a program that runs in the host's pod.
//!
//! Owns HTTP, bounds on waiting and on answers, and what can go wrong between here and there. Leaves starting the
//! engine to `engine_start`, and what an answer means to the commands.

mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use model::engine_api::{
    AddSource, BranchConnection, BranchView, EngineView, EnsureBranch, EnsuredBranch, ExtendBranch,
    JoinSession, Problem, ProblemKind, SERVERS_STOP_TIME_MAX, SessionId, SourceName, SourceView,
    StopEngine, StopSession,
};
use model::{BranchName, Namespace};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

pub(crate) use watch::BranchWatch;

/// The longest answer that is read: some thousand branches with their notes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long an answer may take. The slow ones ask a source or delete a branch's files.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long the engine may take to stop hundreds of servers, and its bases' behind them.
const STOP_WAIT_MAX: Duration = SERVERS_STOP_TIME_MAX.saturating_mul(2);

/// How long the engine may take to say who it is: it answers that from memory.
const GREETING_WAIT_MAX: Duration = Duration::from_secs(10);

/// Why the engine gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers on the socket.
    #[error("cannot reach the engine at {0}")]
    Connect(PathBuf, #[source] io::Error),
    /// The connection broke.
    #[error("the engine broke off {request}")]
    Exchange {
        /// The request, as method and path.
        request: String,
        /// What HTTP says.
        #[source]
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("the engine did not answer {request} within {} s", .limit.as_secs())]
    TimedOut {
        /// The request.
        request: String,
        /// How long it had.
        limit: Duration,
    },
    /// An answer of more than [`ANSWER_BYTES_MAX`].
    #[error("the engine's answer to {0} is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong(String),
    /// An answer that is not of this API.
    #[error("the engine's answer to {request} ({status}) is not understood")]
    Answer {
        /// The request.
        request: String,
        /// The answer's status.
        status: StatusCode,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The request could not be written.
    #[error("cannot write {0} as JSON")]
    Body(String, #[source] serde_json::Error),
    /// The engine refused or failed, with its own words.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
}

impl ClientError {
    /// The problem that the engine told, where it answered with one.
    pub(crate) fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::Connect(..)
            | Self::Exchange { .. }
            | Self::TimedOut { .. }
            | Self::TooLong(_)
            | Self::Answer { .. }
            | Self::Body(..) => None,
        }
    }

    /// Whether the engine says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        self.problem()
            .is_some_and(|problem| problem.kind == ProblemKind::NotFound)
    }

    /// What the engine says of a session that somebody stopped.
    pub(crate) fn stopped(&self) -> Option<&str> {
        let problem = self.problem()?;
        (problem.kind == ProblemKind::SessionStopped).then_some(problem.detail.as_str())
    }

    /// Whether the engine is not there, or went away before it answered.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Connect(_, error) => matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    // It closed its socket while we stood in the queue before it.
                    | io::ErrorKind::ConnectionReset
            ),
            Self::Exchange { .. } => true,
            Self::TimedOut { .. }
            | Self::TooLong(_)
            | Self::Answer { .. }
            | Self::Body(..)
            | Self::Refused(_) => false,
        }
    }
}

/// Speaks to the engine behind one socket.
#[derive(Debug, Clone)]
pub(crate) struct EngineClient {
    socket: PathBuf,
    /// The connection of the last answer, which may take another request.
    kept: Arc<Mutex<Option<Sender>>>,
}

/// Takes the requests of one connection.
type Sender = SendRequest<Full<Bytes>>;

impl EngineClient {
    /// A client of the engine at `socket`; connects with the first request.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            kept: Arc::default(),
        }
    }

    /// The engine itself.
    pub(crate) async fn engine(&self) -> Result<EngineView, ClientError> {
        let call = Call::new(Method::GET, "/v1/engine".to_owned()).within(GREETING_WAIT_MAX);
        self.ask(call).await
    }

    /// Stops the engine; it has ended when its socket no longer answers.
    pub(crate) async fn stop(&self, stop: StopEngine) -> Result<(), ClientError> {
        let call = Call::new(Method::POST, "/v1/engine/stop".to_owned()).within(STOP_WAIT_MAX);
        self.tell(call.with(&stop)?).await
    }

    /// Every named source.
    pub(crate) async fn sources(&self) -> Result<Vec<SourceView>, ClientError> {
        self.ask(Call::new(Method::GET, "/v1/sources".to_owned()))
            .await
    }

    /// Names a source, or renames the URL of one.
    pub(crate) async fn add_source(
        &self,
        name: &SourceName,
        source: &AddSource,
    ) -> Result<SourceView, ClientError> {
        let call = Call::new(Method::PUT, format!("/v1/sources/{name}"));
        self.ask(call.with(source)?).await
    }

    /// Has a source looked at again; answers at once.
    pub(crate) async fn refresh_source(&self, name: &SourceName) -> Result<(), ClientError> {
        let path = format!("/v1/sources/{name}/refresh");
        self.tell(Call::new(Method::POST, path)).await
    }

    /// Forgets a source.
    pub(crate) async fn remove_source(&self, name: &SourceName) -> Result<(), ClientError> {
        self.tell(Call::new(Method::DELETE, format!("/v1/sources/{name}")))
            .await
    }

    /// The branches of `namespace`, or all.
    pub(crate) async fn branches(
        &self,
        namespace: Option<&Namespace>,
    ) -> Result<Vec<BranchView>, ClientError> {
        let path = match namespace {
            Some(namespace) => format!("/v1/branches?namespace={namespace}"),
            None => "/v1/branches".to_owned(),
        };
        self.ask(Call::new(Method::GET, path)).await
    }

    /// Asks for a branch; answers at once, whether it is ready or not.
    pub(crate) async fn ensure_branch(
        &self,
        wanted: &EnsureBranch,
    ) -> Result<EnsuredBranch, ClientError> {
        let call = Call::new(Method::POST, "/v1/branches".to_owned());
        self.ask(call.with(wanted)?).await
    }

    /// How to connect to a ready branch, as this session or as a command.
    pub(crate) async fn connection(
        &self,
        name: &BranchName,
        session: Option<&SessionId>,
    ) -> Result<BranchConnection, ClientError> {
        let whose = session.map_or_else(String::new, |id| format!("?session={id}"));
        let path = format!("/v1/branches/{name}/connection{whose}");
        self.ask(Call::new(Method::GET, path)).await
    }

    /// Gives a branch fresh data under the same URL; answers at once.
    pub(crate) async fn reset_branch(&self, name: &BranchName) -> Result<BranchView, ClientError> {
        self.ask(Call::new(
            Method::POST,
            format!("/v1/branches/{name}/reset"),
        ))
        .await
    }

    /// Gives a branch more time.
    pub(crate) async fn extend_branch(
        &self,
        name: &BranchName,
        extend: ExtendBranch,
    ) -> Result<BranchView, ClientError> {
        let call = Call::new(Method::POST, format!("/v1/branches/{name}/extend"));
        self.ask(call.with(&extend)?).await
    }

    /// Deletes a branch; answers when it is gone with its files.
    pub(crate) async fn delete_branch(&self, name: &BranchName) -> Result<(), ClientError> {
        self.tell(Call::new(Method::DELETE, format!("/v1/branches/{name}")))
            .await
    }

    /// Follows a branch: as it stands, then at every change, until it is deleted.
    pub(crate) async fn watch_branch(&self, name: &BranchName) -> Result<BranchWatch, ClientError> {
        let call = Call::new(Method::GET, format!("/v1/branches/{name}/watch"));
        let request = call.request();
        // It is over with its connection, which no other request shares.
        let (response, _) = bounded(&call, self.send(&call)).await?;
        if response.status().is_success() {
            Ok(BranchWatch::new(request, response))
        } else {
            Err(refusal(request, response).await)
        }
    }

    /// Joins a session to branches, or says that it lives.
    pub(crate) async fn join_session(
        &self,
        id: &SessionId,
        join: &JoinSession,
    ) -> Result<Vec<BranchView>, ClientError> {
        let call = Call::new(Method::PUT, format!("/v1/sessions/{id}")).within(GREETING_WAIT_MAX);
        self.ask(call.with(join)?).await
    }

    /// Ends a session; the TTL of its branches starts where it was the last.
    pub(crate) async fn leave_session(
        &self,
        id: &SessionId,
    ) -> Result<Vec<BranchView>, ClientError> {
        let call =
            Call::new(Method::DELETE, format!("/v1/sessions/{id}")).within(GREETING_WAIT_MAX);
        self.ask(call).await
    }

    /// Stops a session; answers with the branches that it holds until its program has ended.
    pub(crate) async fn stop_session(
        &self,
        id: &SessionId,
        by: String,
    ) -> Result<Vec<BranchView>, ClientError> {
        let call = Call::new(Method::POST, format!("/v1/sessions/{id}/stop"));
        self.ask(call.with(&StopSession { by })?).await
    }

    /// Sends `call` and reads an answer of type `T`.
    async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let (status, body) = self.answer(&call).await?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Answer {
            request: call.request(),
            status,
            source,
        })
    }

    /// Sends `call`; its success says all.
    async fn tell(&self, call: Call) -> Result<(), ClientError> {
        self.answer(&call).await.map(drop)
    }

    async fn answer(&self, call: &Call) -> Result<(StatusCode, Bytes), ClientError> {
        let exchange = async {
            let (response, sender) = self.send(call).await?;
            if !response.status().is_success() {
                return Err(refusal(call.request(), response).await);
            }
            let status = response.status();
            let body = read_body(call.request(), response).await?;
            *self.kept() = Some(sender);
            Ok((status, body))
        };
        bounded(call, exchange).await
    }

    /// Sends `call` on the kept connection, or on a new one. An engine that has closed the kept one was sent nothing.
    async fn send(&self, call: &Call) -> Result<(Response<Incoming>, Sender), ClientError> {
        let kept = self.kept().take();
        if let Some(mut sender) = kept.filter(|sender| sender.is_ready()) {
            match sender.send_request(call.on_the_wire()).await {
                Ok(response) => return Ok((response, sender)),
                Err(error) if error.is_canceled() => {}
                Err(source) => return Err(call.broken_off(source)),
            }
        }
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ClientError::Connect(self.socket.clone(), error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| call.broken_off(source))?;
        // Ends by itself when its sender is dropped and the response's body has been read or dropped.
        tokio::spawn(connection);
        tracing::debug!(request = call.request(), "asking the engine");
        let response = sender.send_request(call.on_the_wire()).await;
        let response = response.map_err(|source| call.broken_off(source))?;
        Ok((response, sender))
    }

    fn kept(&self) -> MutexGuard<'_, Option<Sender>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request.
struct Call {
    method: Method,
    path: String,
    body: Bytes,
    limit: Duration,
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            body: Bytes::new(),
            limit: ANSWER_WAIT_MAX,
        }
    }

    fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn with(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        let text = serde_json::to_vec(body);
        self.body = text
            .map_err(|error| ClientError::Body(self.request(), error))?
            .into();
        Ok(self)
    }

    fn on_the_wire(&self) -> Request<Full<Bytes>> {
        Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(HOST, "engine")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(self.body.clone()))
            .expect("method, path and headers are well-formed")
    }

    fn broken_off(&self, source: hyper::Error) -> ClientError {
        ClientError::Exchange {
            request: self.request(),
            source,
        }
    }

    /// The request as errors name it.
    fn request(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

async fn bounded<T>(
    call: &Call,
    exchange: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(call.limit, exchange).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::TimedOut {
            request: call.request(),
            limit: call.limit,
        }),
    }
}

async fn read_body(request: String, response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLong(request)),
        Err(error) => {
            let source = *error
                .downcast::<hyper::Error>()
                .expect("a limited body fails by its limit or as the body inside it");
            Err(ClientError::Exchange { request, source })
        }
    }
}

/// Reads the problem of an answer that is no success.
async fn refusal(request: String, response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let body = match read_body(request.clone(), response).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(source) => ClientError::Answer {
            request,
            status,
            source,
        },
    }
}

//! A way to a source that only a session's target reaches, lent to a branch host for as long as its branches are made.
//!
//! ```text
//!   the host's pod                                                       this program
//!   engine ──gateway──> a Unix socket of `bough engine borrow` ══wire══> this loan ──the session with the agent──> source
//!                                  its standard input and output, by `exec`
//! ```
//!
//! The host asks, and the session connects: to one address alone, whatever is asked for. Nothing listens but the socket,
//! which goes with the loan, and the loan with this program. Owns what the two say before the wire does, and the carrying.
//! Leaves to `commands::engine::borrow` what is done in the pod, and to `session::source_way` whether anything is lent.

use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use model::engine_api::SourceProxy;
use model::pg_url::Address;
use operator::agents::{ApiFailure, read_text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
    copy, join, sink,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use wire::pump::{self, Inbound, Inbox, Offer, OpenFailure, Session};
use wire::{AgentKey, CloseReason, Endpoint, Errno, OpenRequest, Role, SessionId, SessionKey};

use crate::contexts::hex;
use crate::contexts::kubernetes::error::ClusterError;

/// How long the pod may take to answer: it looks a name up and dials for three seconds at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Bytes that wait on either side.
const BUFFER_BYTES: usize = 64 << 10;

/// The longest line that the two say.
const LINE_BYTES_MAX: u64 = 4096;

/// Connections at once; a gateway of the engine's has as many.
const CONNECTIONS_MAX: usize = 64;

/// For how long either side keeps what a lost link carried: there is never another one.
pub(crate) const LOAN_GRACE: Duration = Duration::from_secs(1);

/// What a host is asked for, as one line on the standard input of its program. Holds no secret of the source's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoanWish {
    /// Where the source is.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Whether the host first looks if it reaches that by itself.
    pub(crate) tries_itself: bool,
    /// The wire's session, and its key: fresh ones, which this line and its end alone know.
    id: String,
    key: String,
}

impl fmt::Debug for LoanWish {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoanWish")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tries_itself", &self.tries_itself)
            .finish_non_exhaustive()
    }
}

/// What it answers, as one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoanAnswer {
    /// It needs nothing.
    Reached,
    /// The engine gets through by this socket, once the wire stands.
    Waits(PathBuf),
}

impl LoanWish {
    /// What is said about `address`.
    fn new(address: &Address, tries_itself: bool) -> Self {
        let id = SessionId::draw();
        let key = AgentKey::new(rand::random()).session_key(&id);
        Self {
            host: address.host.clone(),
            port: address.port,
            tries_itself,
            id: id.to_string(),
            key: hex::write(key.reveal()),
        }
    }

    /// Reads what a session says; none where it is no wish.
    pub(crate) async fn hear(input: &mut (impl AsyncBufRead + Unpin)) -> Option<Self> {
        hear(input).await
    }

    /// What opens the wire's session; none where that was cut.
    pub(crate) fn credential(&self) -> Option<(SessionId, SessionKey)> {
        let id = SessionId(hex::parse(&self.id)?);
        Some((id, SessionKey::new(hex::parse(&self.key)?)))
    }

    /// The one destination of the loan, as the engine's gateway asks for it.
    fn destination(&self) -> Endpoint {
        match self.host.parse() {
            Ok(ip) => Endpoint::Address(SocketAddr::new(ip, self.port)),
            Err(_) => Endpoint::Name {
                host: self.host.clone(),
                port: self.port,
            },
        }
    }
}

impl LoanAnswer {
    /// As it is said.
    pub(crate) fn line(&self) -> String {
        line(self)
    }
}

/// Reads one line of JSON; none where it is none, or ends too late.
async fn hear<T: DeserializeOwned>(input: &mut (impl AsyncBufRead + Unpin)) -> Option<T> {
    let mut line = String::new();
    let read = input.take(LINE_BYTES_MAX).read_line(&mut line).await;
    read.ok()?;
    serde_json::from_str(line.strip_suffix('\n')?).ok()
}

fn line(said: &impl Serialize) -> String {
    let said = serde_json::to_string(said).expect("texts and numbers are JSON");
    format!("{said}\n")
}

/// A host that waits for a loan.
pub(crate) struct Borrower {
    process: Process,
    link: Box<dyn Link>,
    /// What it complains of, for nobody any more.
    words: Box<dyn AsyncRead + Send + Unpin>,
    socket: PathBuf,
    wish: LoanWish,
}

impl fmt::Debug for Borrower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Borrower")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// What carries the wire.
trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// The program in the host's pod, which ends with its input.
struct Process(AttachedProcess);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Borrower {
    /// Asks the host in `pod` for what leads to `address`; none where it reaches that by itself, which it is asked to try
    /// with `tries_itself`.
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not run programs there, or the one there does not know how.
    pub(super) async fn ask(
        pods: &Api<Pod>,
        pod: &str,
        address: &Address,
        tries_itself: bool,
    ) -> Result<Option<Self>, ClusterError> {
        let no_way = |why: &str| ClusterError::NoLoan {
            pod: pod.to_owned(),
            why: why.to_owned(),
        };
        let params = AttachParams::default()
            .container(operator::HOST_CONTAINER)
            .stdin(true)
            .max_stdin_buf_size(BUFFER_BYTES)
            .max_stdout_buf_size(BUFFER_BYTES);
        let words = [operator::PROGRAM, "engine", "borrow"];
        let started = pods.exec(pod, words, &params).await;
        let started = started.map_err(|error| ClusterError::Api {
            tried: format!("lend the pod {pod} a way to the source"),
            right: format!(
                "create pods/exec -n {}",
                pods.namespace().unwrap_or("default")
            ),
            source: ApiFailure::from(error),
        })?;
        let mut process = Process(started);
        let (stdin, stdout, stderr) = (process.0.stdin(), process.0.stdout(), process.0.stderr());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(no_way("the program there has no input or output"));
        };
        let wish = LoanWish::new(address, tries_itself);
        let mut stdout = BufReader::new(stdout);
        let asked = async {
            stdin.write_all(line(&wish).as_bytes()).await.ok()?;
            stdin.flush().await.ok()?;
            hear(&mut stdout).await
        };
        let answer = timeout(ANSWER_WITHIN, asked).await;
        match answer.map_err(|_| no_way("the pod does not answer"))? {
            Some(LoanAnswer::Reached) => Ok(None),
            Some(LoanAnswer::Waits(socket)) => Ok(Some(Self {
                process,
                link: Box::new(join(stdout, stdin)),
                words: Box::new(stderr),
                socket,
                wish,
            })),
            None => {
                let words = timeout(LOAN_GRACE, read_text(Some(stderr))).await;
                let words = words.unwrap_or_default();
                let why = words.lines().next().unwrap_or("it says nothing");
                Err(no_way(why.strip_prefix("error: ").unwrap_or(why)))
            }
        }
    }

    /// Lends it the way by `target`, a session with the agent of somebody whose network is called `network`.
    pub(crate) fn lend(self, network: String, target: Session) -> Loan {
        let proxy = SourceProxy {
            network,
            socket: self.socket,
        };
        let (process, link, wish, mut words) = (self.process, self.link, self.wish, self.words);
        let carrying = tokio::spawn(async move {
            let _held = process;
            // What is not read keeps what is said beside it from coming.
            let unheard = async {
                let _read = copy(&mut words, &mut sink()).await;
                pending().await
            };
            tokio::select! {
                () = carry(link, &wish, target) => {}
                () = unheard => {}
            }
        });
        Loan { proxy, carrying }
    }
}

/// A way that is lent. Dropping it takes it back: every connection through it is cut, and its socket goes.
#[derive(Debug)]
pub(crate) struct Loan {
    /// As the engine is told of it.
    pub(crate) proxy: SourceProxy,
    carrying: JoinHandle<()>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// Carries what the host asks for, until its end of the link ends.
async fn carry(link: impl AsyncRead + AsyncWrite + Unpin, wish: &LoanWish, target: Session) {
    let Some((id, key)) = wish.credential() else {
        return;
    };
    let greeted = pump::greet(link, |who| (*who == id).then(|| key.clone())).await;
    let guest = match greeted {
        Ok(guest) => guest,
        Err(error) => return tracing::info!(%error, "the branch host does not take the loan"),
    };
    let (session, inbox) = Session::new(Role::Agent, LOAN_GRACE);
    let only = OpenRequest::Tcp {
        destination: wish.destination(),
    };
    tokio::select! {
        () = guest.carry(&session) => {}
        () = connect(inbox, &only, &target) => {}
    }
    session.close(CloseReason::Done);
}

/// Connects whoever asks for `only`, and refuses all else.
async fn connect(mut inbox: Inbox, only: &OpenRequest, target: &Session) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            asked = inbox.next() => match asked {
                None => return,
                Some(Inbound::Stream(offer)) if offer.request() != only => {
                    offer.refuse(Errno::EACCES);
                }
                Some(Inbound::Stream(offer)) if connections.len() >= CONNECTIONS_MAX => {
                    offer.refuse(Errno::EMFILE);
                }
                Some(Inbound::Stream(offer)) => {
                    connections.spawn(join_streams(offer, target.clone()));
                }
                // A host asks for connections alone.
                Some(Inbound::Call(_) | Inbound::Notice(_)) => {}
            }
        }
    }
}

/// One connection.
async fn join_streams(offer: Offer, target: Session) {
    let opened = tokio::select! {
        opened = target.open(offer.request().clone()) => opened,
        () = offer.withdrawn() => return,
    };
    let (mut there, opened) = match opened {
        Ok(opened) => opened,
        Err(OpenFailure::Refused { errno }) => return offer.refuse(errno),
        Err(OpenFailure::NotAsked { .. }) => return offer.refuse(Errno::EHOSTUNREACH),
    };
    let here = offer.accept(opened);
    if let Err(error) = pump::relay(&here, &mut there).await {
        // Neither side takes what broke for an end.
        here.reset((&error).into());
        there.reset((&error).into());
    }
}

#[cfg(test)]
mod tests;

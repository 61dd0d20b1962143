//! The client's side: dials, greets, carries, and dials again when a link is lost, until the grace is over.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::carrier::{Carrier, carry};
use super::outbox::Outbox;
use super::{GREETING_WITHIN, Inbox, Session, Shared};
use crate::connection::Role;
use crate::greeting::{ClientGreeting, ClientStep, GreetingError, Link, Refusal, Start};
use crate::key::{Nonce, SessionId, SessionKey};
use crate::message::CloseReason;

/// The first wait before a lost link is dialled again.
const REDIAL_FIRST: Duration = Duration::from_millis(50);

/// The longest such wait, doubled from the first: after a nap the session is back within it.
const REDIAL_MAX: Duration = Duration::from_secs(2);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is reached.
    #[error("the agent cannot be reached")]
    Dial {
        /// Why.
        source: io::Error,
    },
    /// The link broke during the greeting.
    #[error("the agent hung up during the greeting")]
    HungUp {
        /// Why.
        source: io::Error,
    },
    /// The agent does not answer.
    #[error("the agent did not answer the greeting within {} s", GREETING_WITHIN.as_secs())]
    Silent,
    /// The greeting failed.
    #[error("the agent and this session do not agree")]
    Greeting {
        /// Why.
        #[from]
        source: GreetingError,
    },
}

/// A fresh session with the agent that `dial` reaches. A task of its own carries it from then on and dials again as
/// often as the link is lost; after `grace` without one the session is closed.
///
/// # Errors
/// [`ConnectError`] if the first link does not come about.
pub async fn connect<D, F, T>(
    mut dial: D,
    id: SessionId,
    key: SessionKey,
    grace: Duration,
) -> Result<(Session, Inbox), ConnectError>
where
    D: FnMut() -> F + Send + 'static,
    F: Future<Output = io::Result<T>> + Send,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (session, inbox) = Session::new(Role::Client, grace);
    let first = greet(&mut dial, id, &key, Start::Fresh).await?;
    let shared = Arc::clone(&session.shared);
    // Before anybody can close the session, so that its farewell has a link.
    let mut carrier = attach(&shared, first.link);
    tokio::spawn(async move {
        let mut greeted = first;
        loop {
            let Greeted {
                transport, input, ..
            } = greeted;
            carry(carrier, transport, input, Outbox::default()).await;
            let again = redial(&shared, &mut dial, id, &key).await;
            let Some(again) = again else { break };
            carrier = attach(&shared, again.link);
            greeted = again;
        }
    });
    Ok((session, inbox))
}

/// A link that both sides have proved.
struct Greeted<T> {
    transport: T,
    input: BytesMut,
    link: Link,
}

/// Has `link` carry the session from now on.
fn attach(shared: &Arc<Shared>, link: Link) -> Carrier {
    let now = shared.clock.now();
    shared.step(|inner| {
        // A violation closes the session, which the carrier sees.
        inner.connection.attach(link, now).ok();
        Carrier::begin(shared, shared.next_link())
    })
}

/// Dials until a link stands; nothing once the session is over.
async fn redial<D, F, T>(
    shared: &Arc<Shared>,
    dial: &mut D,
    id: SessionId,
    key: &SessionKey,
) -> Option<Greeted<T>>
where
    D: FnMut() -> F,
    F: Future<Output = io::Result<T>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut wait = REDIAL_FIRST;
    loop {
        let received = shared.lock().connection.received();
        let deadline = shared.lock().connection.next_timeout();
        let attempt = async {
            tokio::time::sleep(wait).await;
            greet(dial, id, key, Start::Resumed { received }).await
        };
        let outcome = tokio::select! {
            outcome = attempt => outcome,
            () = ended(shared) => return None,
            () = shared.clock.wait_until(deadline) => {
                let now = shared.clock.now();
                shared.step(|inner| inner.connection.handle_timeout(now));
                continue;
            }
        };
        match outcome {
            Ok(greeted) => return Some(greeted),
            Err(ConnectError::Greeting { source }) if is_final(&source) => {
                shared.step(|inner| inner.connection.close(CloseReason::Lost));
                return None;
            }
            Err(
                ConnectError::Dial { .. }
                | ConnectError::HungUp { .. }
                | ConnectError::Silent
                | ConnectError::Greeting { .. },
            ) => wait = (wait * 2).min(REDIAL_MAX),
        }
    }
}

async fn ended(shared: &Arc<Shared>) {
    let mut closed_rx = shared.closed.subscribe();
    // The sender lives as long as `shared`.
    closed_rx.wait_for(Option::is_some).await.ok();
}

/// Whether another attempt would end the same way.
fn is_final(error: &GreetingError) -> bool {
    match error {
        GreetingError::Refused { refusal } => match refusal {
            Refusal::NoSuchSession
            | Refusal::Version { .. }
            | Refusal::NotProven
            | Refusal::SessionExists => true,
            Refusal::TooManySessions | Refusal::ShuttingDown => false,
        },
        GreetingError::Stranger
        | GreetingError::Unreadable { .. }
        | GreetingError::AgentNotProven
        | GreetingError::Refuse { .. } => false,
    }
}

async fn greet<D, F, T>(
    dial: &mut D,
    id: SessionId,
    key: &SessionKey,
    start: Start,
) -> Result<Greeted<T>, ConnectError>
where
    D: FnMut() -> F,
    F: Future<Output = io::Result<T>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let greeting = async {
        let transport = dial().await;
        let mut transport = transport.map_err(|source| ConnectError::Dial { source })?;
        let (mut greeting, hello) = ClientGreeting::begin(id, key.clone(), Nonce::draw(), start);
        let hung_up = |source| ConnectError::HungUp { source };
        transport.write_all(&hello).await.map_err(hung_up)?;
        let mut input = BytesMut::new();
        loop {
            match greeting.receive(&mut input)? {
                ClientStep::Wait => {
                    if transport.read_buf(&mut input).await.map_err(hung_up)? == 0 {
                        return Err(hung_up(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
                ClientStep::Send(mut bytes) => {
                    while bytes.has_remaining() {
                        transport.write_buf(&mut bytes).await.map_err(hung_up)?;
                    }
                }
                ClientStep::Linked(link) => {
                    return Ok(Greeted {
                        transport,
                        input,
                        link,
                    });
                }
            }
        }
    };
    tokio::time::timeout(GREETING_WITHIN, greeting)
        .await
        .unwrap_or(Err(ConnectError::Silent))
}

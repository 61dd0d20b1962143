//! The agent's side of a new link: who comes, whether he has the key, and whose session he carries on.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::carrier::{Carrier, carry};
use super::outbox::Outbox;
use super::{GREETING_WITHIN, Session};
use crate::greeting::{AgentGreeting, AgentStep, GreetingError, Proven, Refusal, Start};
use crate::key::{Nonce, SessionId, SessionKey};

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The link broke.
    #[error("the client hung up during the greeting")]
    HungUp {
        /// Why.
        #[from]
        source: io::Error,
    },
    /// Nothing came.
    #[error("the client did not finish its greeting within {} s", GREETING_WITHIN.as_secs())]
    Silent,
    /// The greeting failed; the client was told where it could be.
    #[error("the client's greeting is not accepted")]
    Greeting {
        /// Why.
        #[from]
        source: GreetingError,
    },
}

/// A client that proved its key and waits to be welcomed or refused.
#[derive(Debug)]
pub struct Guest<T> {
    proven: Proven,
    transport: T,
    input: BytesMut,
}

/// Greets who has come.
///
/// # Errors
/// [`GuestError`]; the link is dropped.
pub async fn greet<T>(
    mut transport: T,
    key_of: impl Fn(&SessionId) -> Option<SessionKey>,
) -> Result<Guest<T>, GuestError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let greeting = async {
        let mut greeting = AgentGreeting::new(Nonce::draw());
        let mut input = BytesMut::new();
        loop {
            match greeting.receive(&mut input, &key_of) {
                Ok(AgentStep::Wait) => {
                    if transport.read_buf(&mut input).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
                Ok(AgentStep::Send(bytes)) => transport.write_all(&bytes).await?,
                Ok(AgentStep::Proven(proven)) => {
                    return Ok(Guest {
                        proven,
                        transport,
                        input,
                    });
                }
                Err(error) => {
                    if let Some(answer) = error.answer() {
                        transport.write_all(&answer).await?;
                        transport.shutdown().await?;
                    }
                    return Err(error.into());
                }
            }
        }
    };
    tokio::time::timeout(GREETING_WITHIN, greeting)
        .await
        .unwrap_or(Err(GuestError::Silent))
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guest<T> {
    /// Which session.
    pub fn session(&self) -> SessionId {
        self.proven.session()
    }

    /// Whether it begins or goes on.
    pub fn start(&self) -> Start {
        self.proven.start()
    }

    /// Sends the client away.
    pub async fn refuse(mut self, refusal: Refusal) {
        // Who has gone by himself needs no answer.
        if self.transport.write_all(&refusal.encode()).await.is_ok() {
            self.transport.shutdown().await.ok();
        }
    }

    /// Carries `session` over the guest's link until it is lost; a link that carried it before is dropped.
    pub async fn carry(self, session: &Session) {
        let shared = Arc::clone(&session.shared);
        let now = shared.clock.now();
        let mut outbox = Outbox::default();
        let carrier = shared.step(|inner| {
            let (welcome, link) = self.proven.welcome(inner.connection.received());
            outbox.push(welcome);
            // A violation closes the session, and the carrier says so.
            inner.connection.attach(link, now).ok();
            Carrier::begin(&shared, shared.next_link())
        });
        carry(carrier, self.transport, self.input, outbox).await;
    }
}

//! What becomes of one connection that came in: a session takes it, its requests are looked at, or the target gets it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::debug;
use wire::pump::OpenFailure;
use wire::{Errno, OpenRequest};

use super::client::Client;
use super::detect::Protocol;
use super::leash::Leash;
use super::ports::{Plan, Subscriber};
use super::steal::{self, WhoTakes};
use super::tap::{Held, Taps};
use super::target::{Claim, Ours};

/// The longest that a session is waited for before the target gets the connection after all.
const TAKEN_WITHIN: Duration = Duration::from_secs(4);

/// Bytes that a relay holds in each direction.
const RELAY_BUFFER: usize = 32 * 1024;

/// What connections share.
#[derive(Debug, Default)]
pub(super) struct Ground {
    pub(super) ours: Arc<Ours>,
    pub(super) held: Arc<Held>,
}

/// One connection that came in.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) ground: Arc<Ground>,
    /// Who connected.
    pub(super) peer: SocketAddr,
    /// The address that was connected to.
    pub(super) local: SocketAddr,
    /// That it is ours, for as long as it is served.
    _claim: Claim,
}

/// What a session makes of an offered connection.
pub(super) enum Taken {
    Yes(Leash),
    /// Its application does not listen, say.
    Refused(Errno),
    /// It is not there any more.
    Gone,
}

impl Arrival {
    pub(super) fn new(ground: &Arc<Ground>, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            ground: Arc::clone(ground),
            peer,
            local,
            _claim: ground.ours.claim(local, peer),
        }
    }

    /// Serves the connection to its end, as `plan` has it now; of requests `who_takes` says later who takes them.
    pub(super) async fn serve(self, socket: TcpStream, plan: Plan, who_takes: WhoTakes) {
        let taps = Taps::open(plan.copies, self.peer, self.local, &self.ground.held);
        let mut client = Client::new(socket, taps);
        match plan.takers.first() {
            None => self.pass(client).await,
            Some((taker, None)) => match self.offer(taker).await {
                Taken::Yes(stream) => self.give(client, stream).await,
                Taken::Refused(_) => client.abort(),
                Taken::Gone => self.pass(client).await,
            },
            Some((_, Some(_))) => match client.protocol().await {
                Ok(Protocol::Http1) => steal::serve_1(self, client, who_takes).await,
                Ok(Protocol::Http2) => steal::serve_2(self, client, who_takes).await,
                Ok(Protocol::Other | Protocol::Unclear) => {
                    self.take_or_pass(client, plan.takers).await
                }
                Err(error) => debug!(%error, "a client went before it said anything"),
            },
        }
    }

    /// What is no HTTP matches no filter; the first taker without one gets it.
    async fn take_or_pass(
        self,
        client: Client,
        takers: Vec<(Arc<Subscriber>, Option<Arc<super::filter::Filter>>)>,
    ) {
        let whole = takers.iter().find(|(_, filter)| filter.is_none());
        let Some((taker, _)) = whole else {
            return self.pass(client).await;
        };
        match self.offer(taker).await {
            Taken::Yes(stream) => self.give(client, stream).await,
            Taken::Refused(_) => client.abort(),
            Taken::Gone => self.pass(client).await,
        }
    }

    /// Offers the connection to a session.
    pub(super) async fn offer(&self, taker: &Subscriber) -> Taken {
        if !taker.session.is_linked() {
            return Taken::Gone;
        }
        let request = OpenRequest::Incoming {
            subscription: taker.subscription,
            peer: self.peer,
            local: self.local,
            copy: false,
        };
        let asked = tokio::time::timeout(TAKEN_WITHIN, taker.session.open(request)).await;
        match asked {
            Ok(Ok((stream, _))) => Taken::Yes(Leash::new(stream, taker.session.clone())),
            Ok(Err(OpenFailure::Refused { .. })) if taker.session.is_closed() => Taken::Gone,
            Ok(Err(OpenFailure::Refused { errno })) => Taken::Refused(errno),
            Ok(Err(OpenFailure::NotAsked { .. })) | Err(_) => Taken::Gone,
        }
    }

    /// The session answers.
    async fn give(self, mut client: Client, mut stream: Leash) {
        if let Err(error) = stream.carry(&mut client).await {
            client.abort();
            drop(client);
            stream.reset_behind((&error).into()).await;
        }
    }

    /// The target answers, as if we were not there.
    async fn pass(self, mut client: Client) {
        match self.ground.ours.connect(self.local).await {
            Ok(mut target) => {
                if relay(&mut client, &mut target).await.is_err() {
                    target.abort();
                    client.abort();
                }
            }
            Err(error) => {
                debug!(%error, local = %self.local, "the target does not take a connection");
                client.abort();
            }
        }
    }
}

/// Carries bytes both ways until both ends are over.
async fn relay<A, B>(one: &mut A, other: &mut B) -> Result<(), Errno>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let outcome =
        tokio::io::copy_bidirectional_with_sizes(one, other, RELAY_BUFFER, RELAY_BUFFER).await;
    outcome.map(drop).map_err(|error| (&error).into())
}

//! Connections carried between this machine and a target's network, by its agent.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use wire::pump::{Inbound, Inbox, Offer, Session, Stream, relay};
use wire::{
    Answer, CallError, IncomingMode, Notice, OnConcurrentSteal, OpenRequest, Opened, Request,
    SubscribeFailure, Subscription,
};

use super::PortForwardArgs;
use super::mapping::{From, To};
use crate::agent_words;

/// Connections that are carried at once: the agent has room for as many streams of one session.
const CONNECTIONS_MAX: usize = 1024;

/// The wait after a failed `accept`, which says that descriptors are short.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Why a mapping does not stand.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The port of this machine is not to be had.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// Which.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The agent does not give the target's port.
    #[error("cannot take port {port} of the target: {}", agent_words::refusal(.failure))]
    Subscribe {
        /// Which.
        port: u16,
        /// Why.
        failure: SubscribeFailure,
    },
    /// The agent cannot be asked.
    #[error("cannot ask for port {port} of the target")]
    Call {
        /// Which.
        port: u16,
        /// Why.
        #[source]
        source: CallError,
    },
}

impl ForwardError {
    /// What can be done.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Listen { .. } => {
                Some("-L LOCAL_PORT:HOST:PORT takes another port of this machine")
            }
            Self::Subscribe { failure, .. } => match failure {
                SubscribeFailure::Unsupported { .. } | SubscribeFailure::NotPermitted { .. } => {
                    Some("`bough doctor` shows what this machine lacks; -L needs none of it")
                }
                SubscribeFailure::Taken
                | SubscribeFailure::Repeated
                | SubscribeFailure::BadFilter { .. }
                | SubscribeFailure::TooMany
                | SubscribeFailure::System { .. } => None,
            },
            Self::Call { .. } => None,
        }
    }
}

/// Every mapping of one command.
#[derive(Debug)]
pub(super) struct Forwards {
    session: Session,
    inbox: Inbox,
    to: Vec<(TcpListener, To)>,
    /// By the subscription's number.
    from: HashMap<u32, From>,
    copy: bool,
}

impl Forwards {
    /// Opens all of them, or none.
    ///
    /// # Errors
    /// [`ForwardError`] names the first that is not to be had.
    pub(super) async fn open(
        session: &Session,
        inbox: Inbox,
        args: &PortForwardArgs,
    ) -> Result<Self, ForwardError> {
        let mut listeners = Vec::with_capacity(args.to.len());
        for to in &args.to {
            let port = to.local;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            let listener = listener.map_err(|source| ForwardError::Listen { port, source })?;
            listeners.push((listener, to.clone()));
        }
        let mut subscriptions = HashMap::new();
        for (id, from) in (1..).zip(&args.from) {
            subscribe(session, id, from.remote, mode(args.copy)).await?;
            subscriptions.insert(id, *from);
        }
        Ok(Self {
            session: session.clone(),
            inbox,
            to: listeners,
            from: subscriptions,
            copy: args.copy,
        })
    }

    /// A line for each.
    pub(super) fn describe(&self, target: &str) -> Vec<String> {
        let to = self.to.iter().map(|(_, to)| {
            let local = to.local;
            format!("bough: 127.0.0.1:{local} leads to {to}, as {target} reaches it")
        });
        let mut from: Vec<_> = self.from.iter().collect();
        from.sort_by_key(|(id, _)| **id);
        let from = from.into_iter().map(|(_, from)| {
            let From { remote, local } = from;
            if self.copy {
                format!(
                    "bough: what comes to port {remote} of {target} is copied to 127.0.0.1:{local}"
                )
            } else {
                format!(
                    "bough: port {remote} of {target} leads to 127.0.0.1:{local}, and not to the target"
                )
            }
        });
        to.chain(from).collect()
    }

    /// Carries connections until the session is over; `tell` gets a line about each that came to nothing.
    pub(super) async fn serve(self, tell: impl Fn(&str)) {
        let Self {
            session,
            mut inbox,
            to,
            from,
            copy: _,
        } = self;
        let mut tasks: JoinSet<Option<String>> = JoinSet::new();
        let mut accepting = JoinSet::new();
        let (accepted_tx, mut accepted_rx) = tokio::sync::mpsc::channel(1);
        for (listener, to) in to {
            accepting.spawn(accept(listener, to, accepted_tx.clone()));
        }
        loop {
            tokio::select! {
                Some((client, to)) = accepted_rx.recv(), if tasks.len() < CONNECTIONS_MAX => {
                    tasks.spawn(lead_out(session.clone(), client, to));
                }
                inbound = inbox.next() => match inbound {
                    None => return,
                    Some(Inbound::Stream(offer)) => {
                        tasks.spawn(lead_here(offer, from.clone()));
                    }
                    Some(Inbound::Notice(Notice::SubscriptionEnded { subscription, why })) => {
                        if let Some(from) = from.get(&subscription) {
                            let port = from.remote;
                            tell(&format!("port {port} of the target does not lead here any more: {why}"));
                        }
                    }
                    Some(Inbound::Notice(Notice::CopiesDropped { connections, .. })) => {
                        tell(&format!("connections that were too fast to be copied to the end: {connections}"));
                    }
                    // Clients are not called.
                    Some(Inbound::Call(_)) => {}
                },
                Some(ended) = tasks.join_next() => {
                    if let Ok(Some(line)) = ended {
                        tell(&line);
                    }
                }
            }
        }
    }
}

fn mode(copy: bool) -> IncomingMode {
    if copy {
        IncomingMode::Mirror
    } else {
        IncomingMode::Steal {
            filter: None,
            on_concurrent: OnConcurrentSteal::Abort,
        }
    }
}

async fn subscribe(
    session: &Session,
    id: u32,
    port: u16,
    mode: IncomingMode,
) -> Result<(), ForwardError> {
    let request = Request::Subscribe(Subscription {
        id,
        port,
        mode,
        end_established: false,
    });
    let answer = session.call(request).await;
    match answer.map_err(|source| ForwardError::Call { port, source })? {
        Answer::Subscribe(Ok(_)) => Ok(()),
        Answer::Subscribe(Err(failure)) => Err(ForwardError::Subscribe { port, failure }),
        Answer::Dns(_) | Answer::Unsubscribe => {
            unreachable!("the connection lets no answer through to another question")
        }
    }
}

async fn accept(
    listener: TcpListener,
    to: To,
    accepted_tx: tokio::sync::mpsc::Sender<(TcpStream, To)>,
) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                if accepted_tx.send((client, to.clone())).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, port = to.local, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

/// Carries a connection of this machine; a line about it where it comes to nothing.
async fn lead_out(session: Session, mut client: TcpStream, to: To) -> Option<String> {
    client.set_nodelay(true).ok();
    let destination = to.endpoint();
    match session.open(OpenRequest::Tcp { destination }).await {
        Ok((stream, _)) => {
            if relay(&stream, &mut client).await.is_err() {
                client.set_zero_linger().ok();
            }
            None
        }
        Err(error) => {
            client.set_zero_linger().ok();
            let why = match &error {
                wire::pump::OpenFailure::Refused { errno } => io::Error::from(*errno).to_string(),
                wire::pump::OpenFailure::NotAsked { source } => source.to_string(),
            };
            Some(format!("the target does not reach {to}: {why}"))
        }
    }
}

/// Carries a connection of the target's; a line about it where nobody here takes it.
async fn lead_here(offer: Offer, from: HashMap<u32, From>) -> Option<String> {
    let OpenRequest::Incoming {
        subscription,
        copy: is_copy,
        ..
    } = *offer.request()
    else {
        offer.refuse(wire::Errno::EOPNOTSUPP);
        return None;
    };
    let local = from.get(&subscription)?.local;
    match TcpStream::connect((Ipv4Addr::LOCALHOST, local)).await {
        Ok(mut server) => {
            server.set_nodelay(true).ok();
            let stream = offer.accept(Opened::default());
            let carried = if is_copy {
                deliver(stream, &mut server).await
            } else {
                relay(&stream, &mut server).await
            };
            if carried.is_err() {
                server.set_zero_linger().ok();
            }
            None
        }
        Err(error) => {
            offer.refuse((&error).into());
            Some(format!("nobody answers on 127.0.0.1:{local}: {error}"))
        }
    }
}

/// Gives a copy to a server here, whose answers go nowhere.
async fn deliver(mut stream: Stream, server: &mut TcpStream) -> io::Result<()> {
    let (mut answers, mut requests) = server.split();
    let mut nowhere = tokio::io::sink();
    let given = async {
        copy(&mut stream, &mut requests).await?;
        requests.shutdown().await
    };
    let (given, _answered) = tokio::join!(given, copy(&mut answers, &mut nowhere));
    given
}

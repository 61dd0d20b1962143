//! One session: a task that takes what it asks for and gives each request to a task of its own.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};
use wire::pump::{Inbound, Inbox, LAST_BYTES_WITHIN, Offer, Question, Session};
use wire::{Answer, CallError, DnsFailure, DnsQuery, Errno, OpenRequest, Request, SessionId};

use crate::server::Inner;
use crate::{environ, outgoing};

/// Serves a session until it is over. What it left running ends then, but for what its programs have sent and ended, which
/// is still delivered.
pub(crate) async fn serve(agent: Arc<Inner>, id: SessionId, session: Session, mut inbox: Inbox) {
    // Bounded by the streams and calls that a session may have open.
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            inbound = inbox.next() => match inbound {
                None => break,
                Some(Inbound::Stream(offer)) => {
                    tasks.spawn(open(Arc::clone(&agent), offer));
                }
                Some(Inbound::Call(question)) => match question.request().clone() {
                    Request::Dns(query) => {
                        tasks.spawn(resolve(Arc::clone(&agent), question, query));
                    }
                    // In the order in which they were made.
                    Request::Subscribe(subscription) => {
                        let outcome = agent.incoming.subscribe(id, &session, &subscription);
                        answer(question, Answer::Subscribe(outcome));
                    }
                    Request::Unsubscribe { subscription } => {
                        agent.incoming.unsubscribe(id, subscription);
                        answer(question, Answer::Unsubscribe);
                    }
                },
                // The connection lets no notice through to an agent.
                Some(Inbound::Notice(_)) => {}
            },
            Some(_) = tasks.join_next() => {}
        }
    }
    agent.incoming.forget(id);
    let reason = session.closed().await;
    info!(session = %id, ?reason, "a session is over");
    let delivered = async { while tasks.join_next().await.is_some() {} };
    // The rest is cut, as its own end of the connection sees.
    timeout(LAST_BYTES_WITHIN, delivered).await.ok();
}

/// Makes the stream that is asked for, unless the session loses interest.
async fn open(agent: Arc<Inner>, offer: Offer) {
    match offer.request().clone() {
        OpenRequest::Tcp { destination } => outgoing::tcp(&agent, offer, destination).await,
        OpenRequest::Udp {
            connected,
            version_6,
        } => outgoing::udp(offer, connected, version_6).await,
        OpenRequest::Unix { path } => outgoing::unix(&agent, offer, &path).await,
        OpenRequest::Environ => environ::give(offer, agent.settings.process).await,
        // Only agents ask for these, which the connection sees to.
        OpenRequest::Incoming { .. } => offer.refuse(Errno::EOPNOTSUPP),
    }
}

fn answer(question: Question, answer: Answer) {
    if let Err((error, _)) = question.answer(answer) {
        warn!(%error, "a call cannot be answered");
    }
}

async fn resolve(agent: Arc<Inner>, question: Question, query: DnsQuery) {
    let found = agent.resolver.resolve(&query).await;
    // An answer that no frame holds would not fit a DNS message either.
    if let Err((CallError::Unsayable { .. }, question)) = question.answer(Answer::Dns(found)) {
        answer(question, Answer::Dns(Err(DnsFailure::ServerFailed)));
    }
}

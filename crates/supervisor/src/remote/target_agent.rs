//! The agents that a session takes part in its target's network by: one a pod, or the one there is.
//!
//! ```text
//!   joined ──▶ leading ──▶ retired (its pod is about to end) ──▶ parted
//!   what goes out passes the first that leads, else the first that is retired, else waits for one that joins
//!   what comes in comes from each of them
//! ```
//!
//! Owns which agent is asked, and the wait for one. Who joins and who parts is told from outside.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use wire::CloseReason;
use wire::pump::{Inbox, Session};

/// Agents that have joined and that nobody serves yet: more than a session takes part in at once.
const JOINING_MAX: usize = 32;

/// Why an agent did not join. The session with it is closed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// There are 32 already.
    #[error("{JOINING_MAX} agents have joined that nobody serves yet")]
    TooMany,
    /// Nobody takes part in anything any more.
    #[error("the program's session is over")]
    Over,
}

/// One agent, with the session that it was joined by.
pub struct TargetAgent {
    session: Session,
    is_retired: AtomicBool,
    /// The numbers of the subscriptions that it was asked for.
    subscribed: Mutex<BTreeSet<u32>>,
}

impl fmt::Debug for TargetAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetAgent")
            .field("is_retired", &self.is_retired)
            .finish_non_exhaustive()
    }
}

impl TargetAgent {
    fn new(session: Session) -> Arc<Self> {
        Arc::new(Self {
            session,
            is_retired: AtomicBool::new(false),
            subscribed: Mutex::default(),
        })
    }

    /// The session with it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether this is the first to ask it for a subscription.
    pub(crate) fn note_subscription(&self, number: u32) -> bool {
        self.subscribed().insert(number)
    }

    /// It does not have a subscription any more; whether it had it.
    pub(crate) fn forget_subscription(&self, number: u32) -> bool {
        self.subscribed().remove(&number)
    }

    /// Whether connections of a subscription may come from it.
    pub(crate) fn has_subscription(&self, number: u32) -> bool {
        !self.session.is_closed() && self.subscribed().contains(&number)
    }

    fn subscribed(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.subscribed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn leads(&self) -> bool {
        !self.session.is_closed() && !self.is_retired.load(Ordering::Relaxed)
    }
}

/// An agent that has joined, and what comes from it.
pub(crate) type Joining = (Arc<TargetAgent>, Inbox);

/// All agents of one session.
#[derive(Debug)]
pub(crate) struct Agents {
    list: watch::Sender<Vec<Arc<TargetAgent>>>,
    joining_tx: mpsc::Sender<Joining>,
    joining_rx: Mutex<Option<mpsc::Receiver<Joining>>>,
    /// How long anybody waits for an agent while there is none.
    patience: Duration,
}

impl Agents {
    pub(crate) fn new(first: Session, patience: Duration) -> Self {
        let (joining_tx, joining_rx) = mpsc::channel(JOINING_MAX);
        Self {
            list: watch::Sender::new(vec![TargetAgent::new(first)]),
            joining_tx,
            joining_rx: Mutex::new(Some(joining_rx)),
            patience,
        }
    }

    /// Whether others may join.
    pub(crate) fn is_followed(&self) -> bool {
        self.patience > Duration::ZERO
    }

    /// Those that there are, living or not, in the order in which they joined.
    pub(crate) fn all(&self) -> Vec<Arc<TargetAgent>> {
        self.list.borrow().clone()
    }

    /// One more. An agent that would not be served is not asked either: it would take connections that go nowhere.
    pub(crate) fn join(
        &self,
        session: Session,
        inbox: Inbox,
    ) -> Result<Arc<TargetAgent>, JoinError> {
        let place = self.joining_tx.try_reserve().map_err(|error| {
            session.close(CloseReason::Done);
            match error {
                TrySendError::Full(()) => JoinError::TooMany,
                TrySendError::Closed(()) => JoinError::Over,
            }
        })?;
        let agent = TargetAgent::new(session);
        let joined = Arc::clone(&agent);
        // Listed first: whoever subscribes from here on asks it too, and who serves it asks for what was there before.
        self.list.send_modify(|list| list.push(joined));
        place.send((Arc::clone(&agent), inbox));
        Ok(agent)
    }

    /// Another one is asked from here on, where there is one.
    pub(crate) fn retire(agent: &TargetAgent) {
        agent.is_retired.store(true, Ordering::Relaxed);
    }

    /// It is gone; what waits for its answers is told.
    pub(crate) fn part(&self, agent: &Arc<TargetAgent>) {
        agent.session.close(CloseReason::Done);
        self.list
            .send_modify(|list| list.retain(|other| !Arc::ptr_eq(other, agent)));
    }

    /// Those that join from now on, for the one who serves them.
    pub(crate) fn joining(&self) -> Option<mpsc::Receiver<Joining>> {
        let mut joining_rx = self.joining_rx.lock();
        joining_rx.as_mut().map_or(None, |receiver| receiver.take())
    }

    /// The one that is asked; none where none joins within the patience.
    pub(crate) async fn pick(&self) -> Option<Arc<TargetAgent>> {
        let there = choose(&self.list.borrow()).cloned();
        if there.is_some() {
            return there;
        }
        let mut list_rx = self.list.subscribe();
        let picked = async {
            let list = list_rx.wait_for(|list| choose(list).is_some()).await;
            choose(&list.ok()?).cloned()
        };
        tokio::time::timeout(self.patience, picked).await.ok()?
    }
}

fn choose(list: &[Arc<TargetAgent>]) -> Option<&Arc<TargetAgent>> {
    let living = || list.iter().filter(|agent| !agent.session.is_closed());
    living()
        .find(|agent| agent.leads())
        .or_else(|| living().next())
}

#[cfg(test)]
mod tests {
    use wire::Role;

    use super::*;

    fn session() -> (Session, Inbox) {
        Session::new(Role::Client, Duration::from_secs(60))
    }

    fn is_picked(picked: Option<&Arc<TargetAgent>>, agent: &Arc<TargetAgent>) -> bool {
        picked.is_some_and(|picked| Arc::ptr_eq(picked, agent))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_leads_is_asked_and_one_that_is_about_to_end_only_alone() {
        let agents = Agents::new(session().0, Duration::from_secs(5));
        let first = agents.all().remove(0);
        assert!(is_picked(agents.pick().await.as_ref(), &first));
        Agents::retire(&first);
        assert!(is_picked(agents.pick().await.as_ref(), &first));
        let (second, inbox) = session();
        let second = agents.join(second, inbox).unwrap();
        assert!(is_picked(agents.pick().await.as_ref(), &second));
        second.session().close(CloseReason::ShuttingDown);
        assert!(is_picked(agents.pick().await.as_ref(), &first));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_while_there_is_none_waits_for_the_next() {
        let agents = Arc::new(Agents::new(session().0, Duration::from_secs(5)));
        let first = agents.all().remove(0);
        agents.part(&first);
        assert!(first.session().is_closed());
        assert!(agents.pick().await.is_none());
        let asking = Arc::clone(&agents);
        let asked = tokio::spawn(async move { asking.pick().await });
        tokio::task::yield_now().await;
        let (next, inbox) = session();
        let next = agents.join(next, inbox).unwrap();
        assert!(is_picked(asked.await.unwrap().as_ref(), &next));
        let mut joining = agents.joining().expect("nobody has taken them");
        assert!(Arc::ptr_eq(&joining.recv().await.unwrap().0, &next));
        assert!(agents.joining().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_nobody_would_serve_is_refused_and_its_session_closed() {
        let agents = Agents::new(session().0, Duration::from_secs(5));
        let join = || {
            let (session, inbox) = session();
            (session.clone(), agents.join(session, inbox))
        };
        for _ in 0..JOINING_MAX {
            assert!(join().1.is_ok());
        }
        let (refused, why) = join();
        assert_eq!(why.unwrap_err(), JoinError::TooMany);
        assert!(refused.is_closed());
        assert_eq!(agents.all().len(), 1 + JOINING_MAX, "it is not asked");
        let mut joining = agents.joining().expect("nobody has taken them");
        joining.recv().await.expect("they wait");
        assert!(join().1.is_ok(), "there is a place again");
        drop(joining);
        let (refused, why) = join();
        assert_eq!(why.unwrap_err(), JoinError::Over);
        assert!(refused.is_closed());
    }
}

//! A session that goes along with its target: the loss of a local one, the pods of one in a cluster.
//!
//! Owns carrying out what `pods` decides, and the words for it. While no pod is joined nothing goes out, neither by the
//! target nor by this machine; the fence and the branches know nothing of all this.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use supervisor::network::IncomingMode;
use supervisor::{NetworkThread, TargetAgent, TargetNetwork};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::CloseReason;
use wire::pump::{Inbox, Session};

use super::network::{self, GRACE, NetworkLoss, PATIENCE};
use super::pods::{Action, Event, Following, GIVE_UP_AFTER, News, REPLICAS_MAX, Reach};
use crate::clock;
use crate::contexts::{PodFollower, PodId};
use crate::ui::{Ui, words};

/// Words that wait to be heard, whose tasks wait with them: a pod that joins and one that strays at every place.
const WORDS_MAX: usize = 2 * REPLICAS_MAX;

/// How long a look at the target's pods may take: without an answer the next one makes another link.
const LOOK_WITHIN: Duration = Duration::from_secs(15);

/// What a task of the following says.
enum Word {
    Event(Event),
    /// A pod's agent answers.
    Answers(PodId, Session, Inbox),
}

/// Waits for the loss of the target's network; what happens to it meanwhile is told.
pub(super) async fn follow(
    network: Option<&Arc<TargetNetwork>>,
    follower: Option<&PodFollower>,
    thread: &NetworkThread,
    ui: &Ui,
) -> NetworkLoss {
    match (network, follower) {
        (None, _) => std::future::pending().await,
        (Some(network), None) => stay(network, ui).await,
        (Some(network), Some(follower)) => Followed::new(network, follower, thread, ui).run().await,
    }
}

/// One agent and no other.
async fn stay(network: &TargetNetwork, ui: &Ui) -> NetworkLoss {
    let agents = network.agents();
    let session = agents.first().expect("nobody has parted it").session();
    tokio::select! {
        reason = session.closed() => return network::lost(&reason),
        () = strayed(session) => ui.warn(&network::describe_stray()),
    }
    network::lost(&session.closed().await)
}

/// Ends when a session that is not over has been without a link for longer than anybody should wonder about.
async fn strayed(session: &Session) {
    session.lost_for(PATIENCE).await;
    if session.is_closed() {
        std::future::pending::<()>().await;
    }
}

/// A session's place beside the pods of its target.
struct Followed<'a> {
    network: &'a Arc<TargetNetwork>,
    follower: &'a PodFollower,
    thread: &'a NetworkThread,
    ui: &'a Ui,
    following: Following,
    agents: HashMap<PodId, Arc<TargetAgent>>,
    words_tx: mpsc::Sender<Word>,
    words_rx: mpsc::Receiver<Word>,
    /// Whoever joins a pod or watches a session; they end with this.
    tasks: JoinSet<()>,
}

impl<'a> Followed<'a> {
    fn new(
        network: &'a Arc<TargetNetwork>,
        follower: &'a PodFollower,
        thread: &'a NetworkThread,
        ui: &'a Ui,
    ) -> Self {
        let first = follower.first().clone();
        let reach = if network.plan().incoming.mode != IncomingMode::Off && follower.has_replicas()
        {
            Reach::All
        } else {
            Reach::One
        };
        let (words_tx, words_rx) = mpsc::channel(WORDS_MAX);
        let mut followed = Self {
            network,
            follower,
            thread,
            ui,
            following: Following::new(reach, first.clone()),
            agents: HashMap::new(),
            words_tx,
            words_rx,
            tasks: JoinSet::new(),
        };
        if let Some(agent) = network.agents().into_iter().next() {
            followed.watch(first, agent);
        }
        followed
    }

    async fn run(mut self) -> NetworkLoss {
        // At once: other replicas are there already.
        let mut look_at = clock::monotonic();
        loop {
            let event = tokio::select! {
                Some(word) = self.words_rx.recv() => match word {
                    Word::Event(event) => event,
                    Word::Answers(pod, session, inbox) => {
                        match self.network.join(session, inbox) {
                            Ok(agent) => {
                                self.watch(pod.clone(), agent);
                                Event::Joined(pod)
                            }
                            Err(error) => Event::NotJoined(pod, error.to_string()),
                        }
                    }
                },
                seen = async {
                    tokio::time::sleep_until(look_at).await;
                    tokio::time::timeout(LOOK_WITHIN, self.follower.look()).await
                } => {
                    look_at = clock::monotonic() + self.following.next_look();
                    match seen {
                        Ok(Ok(seen)) => Event::Seen(seen),
                        Ok(Err(error)) => {
                            tracing::info!(%error, "the target's pods are not seen");
                            Event::Unseen
                        }
                        Err(_) => {
                            tracing::info!("a look at the target's pods has no answer");
                            Event::Unseen
                        }
                    }
                }
            };
            for action in self.following.step(event, clock::monotonic()) {
                if let Some(loss) = self.act(action) {
                    return loss;
                }
            }
            let soon = clock::monotonic() + self.following.next_look();
            look_at = look_at.min(soon);
            while self.tasks.try_join_next().is_some() {}
        }
    }

    fn act(&mut self, action: Action) -> Option<NetworkLoss> {
        match action {
            Action::Join(pod) => {
                let (follower, words_tx) = (self.follower.clone(), self.words_tx.clone());
                let thread = self.thread.clone();
                self.tasks.spawn(async move {
                    let joined = pod.clone();
                    let join = async move { follower.join(&joined, GRACE).await };
                    let word = match thread.run(join).await {
                        Ok((session, inbox)) => Word::Answers(pod, session, inbox),
                        Err(why) => Word::Event(Event::NotJoined(pod, why)),
                    };
                    // Nobody hears it once the session is over.
                    let _over = words_tx.send(word).await;
                });
            }
            Action::Retire(pod) => {
                if let Some(agent) = self.agents.get(&pod) {
                    self.network.retire(agent);
                }
            }
            Action::Part(pod) => {
                if let Some(agent) = self.agents.remove(&pod) {
                    self.network.part(&agent);
                }
            }
            Action::Tell(news) => self.tell(&news),
            Action::GiveUp => {
                let minutes = GIVE_UP_AFTER.as_secs() / 60;
                let target = self.follower.target();
                return Some(NetworkLoss::Agent(format!(
                    "no pod of {target} for {minutes} min"
                )));
            }
        }
        None
    }

    fn watch(&mut self, pod: PodId, agent: Arc<TargetAgent>) {
        let words_tx = self.words_tx.clone();
        let session = agent.session().clone();
        self.agents.insert(pod.clone(), agent);
        self.tasks.spawn(async move {
            let reason = tokio::select! {
                reason = session.closed() => reason,
                () = strayed(&session) => {
                    let strayed = Word::Event(Event::Strayed(pod.clone()));
                    let _over = words_tx.send(strayed).await;
                    session.closed().await
                }
            };
            let event = match reason {
                CloseReason::GraceExpired => Event::Expired(pod),
                CloseReason::Done
                | CloseReason::ShuttingDown
                | CloseReason::Violation { .. }
                | CloseReason::Lost => Event::Over(pod),
            };
            let _over = words_tx.send(Word::Event(event)).await;
        });
    }

    fn tell(&self, news: &News) {
        match news {
            News::Moved { from, to } if from.name == to.name => self.ui.note(&format!(
                "bough: the session has joined pod {} again",
                to.name
            )),
            News::Moved { from, to } => self.ui.note(&format!(
                "bough: the session has moved to pod {}: {} is gone",
                to.name, from.name
            )),
            News::Arrived { pod, joined } => self.ui.note(&format!(
                "bough: pod {} has joined: connections to {} of the target come here",
                pod.name,
                words::things(*joined, "pod")
            )),
            News::Left { pod, joined } => self.ui.note(&format!(
                "bough: pod {} has left: connections to {} of the target come here",
                pod.name,
                words::things(*joined, "pod")
            )),
            News::Alone { last } => self.ui.warn(&format!(
                "pod {} is gone: what goes to the target waits for the next one, for {} min",
                last.name,
                GIVE_UP_AFTER.as_secs() / 60
            )),
            News::NotJoined { pod, why } => self.ui.warn(&format!(
                "pod {} cannot be joined and is tried again: {why}",
                pod.name
            )),
            News::Strayed { .. } => self.ui.warn(&network::describe_stray()),
            News::Beyond(0) => self.ui.note("bough: no replica is left out any more"),
            News::Beyond(pods) => self.ui.warn(&format!(
                "{} beyond {REPLICAS_MAX} keep their traffic: a session takes part in no more",
                words::things(*pods, "replica")
            )),
        }
    }
}

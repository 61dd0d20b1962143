//! Which pods of its target a session takes part in. Pure: what is seen goes in, what is to be done comes out.
//!
//! ```text
//!            wanted            joined            about to end          gone, or its session over
//!   unknown ───────▶ Joining ────────▶ Joined ─────────────▶ Ending ───────────────────────────▶ unknown
//!               ▲       │ failed         │ gone, or its session over
//!               │       ▼                ▼
//!               └──── Failed, for RETRY_AFTER
//! ```
//!
//! Of one pod another takes the place when it is about to end or gone; of all replicas each that runs is wanted. While none
//! is joined the session is alone: connections wait, and after GIVE_UP_AFTER it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::contexts::{PodId, PodState, SeenPod};

/// How long a pod that could not be joined is left alone.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(3);

/// After how long without a pod that is told.
const TELL_AFTER: Duration = Duration::from_secs(5);

/// After how long without a pod one that is not ready will do: its service may never be, without its database.
const UNREADY_AFTER: Duration = Duration::from_secs(15);

/// After how long without a pod the session is over: as long as a lost link is tried again.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(15 * 60);

/// Most replicas that one session takes part in: each has an agent, and a port-forward.
pub(super) const REPLICAS_MAX: usize = 16;

/// Between two looks at the pods while all is well.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The same while something is under way.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// How many of a target's pods are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// One at a time.
    One,
    /// Every replica, up to [`REPLICAS_MAX`].
    All,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The pods as they are, the best first.
    Seen(Vec<SeenPod>),
    /// A pod's agent was joined.
    Joined(PodId),
    /// It was not.
    NotJoined(PodId, String),
    /// They cannot be seen at this moment, which says nothing of them.
    Unseen,
    /// The session with its agent is over.
    Over(PodId),
    /// It is over since no link came about for its whole grace.
    Expired(PodId),
    /// The link to its agent is away for longer than anybody should wonder.
    Strayed(PodId),
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Put an agent beside the pod and join it.
    Join(PodId),
    /// Begin nothing more by its agent.
    Retire(PodId),
    /// End the session with its agent.
    Part(PodId),
    /// Tell the user.
    Tell(News),
    /// The session is over.
    GiveUp,
}

/// Something that the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// The session moved.
    Moved { from: PodId, to: PodId },
    /// One more replica is joined; so many are now.
    Arrived { pod: PodId, joined: usize },
    /// One less; so many are left.
    Left { pod: PodId, joined: usize },
    /// No pod is joined.
    Alone { last: PodId },
    /// A pod cannot be joined.
    NotJoined { pod: PodId, why: String },
    /// The link to a pod that runs is away.
    Strayed { pod: PodId },
    /// So many replicas are beyond what a session takes part in.
    Beyond(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Joining,
    Joined { strayed: bool },
    Ending,
    Failed { again: Instant },
}

#[derive(Debug, Clone, Copy)]
struct Alone {
    since: Instant,
    is_told: bool,
}

/// The state.
#[derive(Debug)]
pub(super) struct Following {
    reach: Reach,
    pods: BTreeMap<PodId, Standing>,
    /// The one that was joined last.
    last: PodId,
    alone: Option<Alone>,
    beyond: usize,
    /// Whose failure was told already.
    complained: BTreeSet<PodId>,
}

impl Following {
    /// A session that has joined one pod.
    pub(super) fn new(reach: Reach, first: PodId) -> Self {
        Self {
            reach,
            pods: BTreeMap::from([(first.clone(), Standing::Joined { strayed: false })]),
            last: first,
            alone: None,
            beyond: 0,
            complained: BTreeSet::new(),
        }
    }

    /// When the pods are to be looked at again.
    pub(super) fn next_look(&self) -> Duration {
        let is_settled = |standing: &Standing| matches!(standing, Standing::Joined { .. });
        if self.alone.is_none() && self.pods.values().all(is_settled) {
            LOOK_EVERY
        } else {
            LOOK_SOON
        }
    }

    /// What follows from an event.
    pub(super) fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Seen(seen) => self.see(&seen, now, &mut actions),
            Event::Joined(pod) => self.joined(pod, &mut actions),
            Event::NotJoined(pod, why) => {
                let again = now + RETRY_AFTER;
                self.pods.insert(pod.clone(), Standing::Failed { again });
                if self.complained.insert(pod.clone()) {
                    actions.push(Action::Tell(News::NotJoined { pod, why }));
                }
            }
            Event::Over(pod) => {
                if self.is_joined(&pod) {
                    self.lose(&pod, &mut actions);
                    // Its pod may be about to end, which is seen soon.
                    let again = now + RETRY_AFTER;
                    self.pods.insert(pod, Standing::Failed { again });
                }
            }
            Event::Expired(pod) => {
                self.lose(&pod, &mut actions);
                if self.count_joined() == 0 {
                    actions.push(Action::GiveUp);
                    return actions;
                }
            }
            Event::Unseen => {}
            Event::Strayed(pod) => {
                if let Some(Standing::Joined { strayed }) = self.pods.get_mut(&pod) {
                    *strayed = true;
                }
            }
        }
        self.mind_being_alone(now, &mut actions);
        actions
    }

    fn see(&mut self, seen: &[SeenPod], now: Instant, actions: &mut Vec<Action>) {
        let known: Vec<PodId> = self.pods.keys().cloned().collect();
        for pod in known {
            let state = seen.iter().find(|it| it.id == pod).map(|it| it.state);
            let standing = self.pods[&pod];
            match (state, standing) {
                // Whether it came about is told by its own event.
                (_, Standing::Joining) => {}
                (None | Some(PodState::Ended), Standing::Failed { .. }) => {
                    self.pods.remove(&pod);
                }
                (None | Some(PodState::Ended), _) => self.lose(&pod, actions),
                (Some(PodState::Ending), Standing::Joined { .. }) => {
                    self.pods.insert(pod.clone(), Standing::Ending);
                    actions.push(Action::Retire(pod));
                }
                (Some(PodState::Runs { .. }), Standing::Joined { strayed: true }) => {
                    let calm = Standing::Joined { strayed: false };
                    self.pods.insert(pod.clone(), calm);
                    actions.push(Action::Tell(News::Strayed { pod }));
                }
                (Some(_), _) => {}
            }
        }
        self.want(seen, now, actions);
    }

    /// Begins to join what is wanted.
    fn want(&mut self, seen: &[SeenPod], now: Instant, actions: &mut Vec<Action>) {
        let waited = self.alone.is_some_and(|it| now >= it.since + UNREADY_AFTER);
        let is_wanted = |pod: &&SeenPod| match pod.state {
            PodState::Runs { is_ready } => is_ready || waited,
            PodState::Waits | PodState::Ending | PodState::Ended => false,
        };
        let most = match self.reach {
            Reach::One => 1,
            Reach::All => REPLICAS_MAX,
        };
        let takes_part =
            |standing: &&Standing| matches!(standing, Standing::Joining | Standing::Joined { .. });
        let mut taking_part = self.pods.values().filter(takes_part).count();
        let mut beyond = 0;
        for pod in seen.iter().filter(is_wanted) {
            match self.pods.get(&pod.id) {
                Some(Standing::Failed { again }) if now < *again => continue,
                Some(Standing::Failed { .. }) | None => {}
                Some(_) => continue,
            }
            if taking_part < most {
                taking_part += 1;
                self.pods.insert(pod.id.clone(), Standing::Joining);
                actions.push(Action::Join(pod.id.clone()));
            } else {
                beyond += 1;
            }
        }
        if self.reach == Reach::All && beyond != std::mem::replace(&mut self.beyond, beyond) {
            actions.push(Action::Tell(News::Beyond(beyond)));
        }
    }

    fn joined(&mut self, pod: PodId, actions: &mut Vec<Action>) {
        self.pods
            .insert(pod.clone(), Standing::Joined { strayed: false });
        self.complained.remove(&pod);
        let from = std::mem::replace(&mut self.last, pod.clone());
        let is_moved = self.alone.take().is_some() || self.reach == Reach::One;
        actions.push(Action::Tell(if is_moved {
            News::Moved { from, to: pod }
        } else {
            let joined = self.count_joined();
            News::Arrived { pod, joined }
        }));
    }

    /// A pod that was joined is no longer.
    fn lose(&mut self, pod: &PodId, actions: &mut Vec<Action>) {
        self.pods.remove(pod);
        actions.push(Action::Part(pod.clone()));
        let joined = self.count_joined();
        if self.reach == Reach::All && joined > 0 {
            let pod = pod.clone();
            actions.push(Action::Tell(News::Left { pod, joined }));
        }
    }

    fn mind_being_alone(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.count_joined() > 0 {
            self.alone = None;
            return;
        }
        let alone = self.alone.get_or_insert(Alone {
            since: now,
            is_told: false,
        });
        if now >= alone.since + GIVE_UP_AFTER {
            actions.push(Action::GiveUp);
        } else if now >= alone.since + TELL_AFTER && !alone.is_told {
            alone.is_told = true;
            let last = self.last.clone();
            actions.push(Action::Tell(News::Alone { last }));
        }
    }

    fn is_joined(&self, pod: &PodId) -> bool {
        matches!(
            self.pods.get(pod),
            Some(Standing::Joined { .. } | Standing::Ending)
        )
    }

    fn count_joined(&self) -> usize {
        self.pods.keys().filter(|pod| self.is_joined(pod)).count()
    }
}

#[cfg(test)]
mod tests;

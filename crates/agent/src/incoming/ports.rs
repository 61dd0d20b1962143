//! Who wants which port, and who gets a connection to it: the rules, without any socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wire::pump::Session;
use wire::{Notice, OnConcurrentSteal, SessionId, SubscribeFailure};

use super::filter::Filter;

/// Subscriptions of one session: an application listens on fewer.
const SUBSCRIPTIONS_MAX: usize = 64;

/// One subscription and the session that holds it.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) owner: SessionId,
    pub(super) subscription: u32,
    pub(super) session: Session,
    /// Connections whose copies were given up and not told yet.
    dropped: AtomicU64,
}

/// What a subscriber gets of a port.
#[derive(Debug, Clone)]
pub(super) enum Share {
    /// A copy of every connection.
    Copy,
    /// The connections, or the requests that the filter wants.
    Take(Option<Arc<Filter>>),
}

/// All subscriptions.
#[derive(Debug, Clone, Default)]
pub(super) struct Ports {
    entries: BTreeMap<u16, Vec<(Arc<Subscriber>, Share)>>,
}

/// Who gets a connection.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) copies: Vec<Arc<Subscriber>>,
    /// In the order in which they are asked; nothing comes after one without a filter.
    pub(super) takers: Vec<(Arc<Subscriber>, Option<Arc<Filter>>)>,
}

impl Subscriber {
    pub(super) fn new(owner: SessionId, subscription: u32, session: Session) -> Self {
        Self {
            owner,
            subscription,
            session,
            dropped: AtomicU64::new(0),
        }
    }

    /// A connection's copy was given up.
    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells of the copies that were given up since it was last told; later, where the session takes no news.
    fn tell_dropped(&self) {
        let connections = self.dropped.swap(0, Ordering::Relaxed);
        let subscription = self.subscription;
        let notice = Notice::CopiesDropped {
            subscription,
            connections,
        };
        if connections > 0 && !self.session.notify(notice) {
            self.dropped.fetch_add(connections, Ordering::Relaxed);
        }
    }
}

impl Ports {
    /// Takes a subscription; those that it ends. Whoever `is_away` gets nothing meanwhile, and keeps nobody out.
    pub(super) fn add(
        &mut self,
        port: u16,
        subscriber: Arc<Subscriber>,
        share: Share,
        on_concurrent: OnConcurrentSteal,
        is_away: impl Fn(&Subscriber) -> bool,
    ) -> Result<Vec<Arc<Subscriber>>, SubscribeFailure> {
        let owner = subscriber.owner;
        let mine = |known: &Arc<Subscriber>| known.owner == owner;
        let of_session = || {
            self.entries
                .values()
                .flatten()
                .filter(|(known, _)| mine(known))
        };
        if of_session().count() >= SUBSCRIPTIONS_MAX {
            return Err(SubscribeFailure::TooMany);
        }
        let same = |known: &Arc<Subscriber>| known.subscription == subscriber.subscription;
        let entries = self.entries.get(&port).map_or(&[][..], Vec::as_slice);
        if of_session().any(|(known, _)| same(known))
            || entries.iter().any(|(known, _)| mine(known))
        {
            return Err(SubscribeFailure::Repeated);
        }
        let takes = matches!(share, Share::Take(_));
        let taken = |share: &Share| matches!(share, Share::Take(_));
        let concurrent = takes
            && entries
                .iter()
                .any(|(known, share)| taken(share) && !is_away(known));
        let entries = match on_concurrent {
            OnConcurrentSteal::Abort if concurrent => return Err(SubscribeFailure::Taken),
            OnConcurrentSteal::Abort
            | OnConcurrentSteal::Continue
            | OnConcurrentSteal::Override => self.entries.entry(port).or_default(),
        };
        let mut ended = Vec::new();
        if concurrent && on_concurrent == OnConcurrentSteal::Override {
            let old = entries.extract_if(.., |(_, share)| taken(share));
            ended.extend(old.map(|(subscriber, _)| subscriber));
        }
        entries.push((subscriber, share));
        Ok(ended)
    }

    /// Forgets the subscriptions that `gone` names.
    pub(super) fn remove(&mut self, gone: impl Fn(&Subscriber) -> bool) {
        for entries in self.entries.values_mut() {
            entries.retain(|(subscriber, _)| !gone(subscriber));
        }
        self.entries.retain(|_, entries| !entries.is_empty());
    }

    /// The ports that a living session wants: one whose link is away gets nothing, and the target serves.
    pub(super) fn wanted(&self) -> BTreeSet<u16> {
        let wanted = self.entries.iter().filter(|(_, entries)| {
            entries
                .iter()
                .any(|(subscriber, _)| subscriber.session.is_linked())
        });
        wanted.map(|(port, _)| *port).collect()
    }

    /// Who gets a connection to `port` that comes now.
    pub(super) fn plan(&self, port: u16) -> Plan {
        let mut plan = Plan::default();
        let mut all_taken = false;
        for (subscriber, share) in self.entries.get(&port).into_iter().flatten() {
            if !subscriber.session.is_linked() {
                continue;
            }
            match share {
                Share::Copy => plan.copies.push(Arc::clone(subscriber)),
                Share::Take(filter) if !all_taken => {
                    all_taken = filter.is_none();
                    plan.takers.push((Arc::clone(subscriber), filter.clone()));
                }
                Share::Take(_) => {}
            }
        }
        plan
    }

    /// Everybody who has a subscription.
    pub(super) fn subscribers(&self) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.entries
            .values()
            .flatten()
            .map(|(subscriber, _)| subscriber)
    }

    /// Tells everybody of the copies that he did not get.
    pub(super) fn tell_dropped(&self) {
        for subscriber in self.subscribers() {
            subscriber.tell_dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::{HttpFilter, Role};

    use super::*;

    fn subscriber(owner: u8, subscription: u32) -> Arc<Subscriber> {
        let (session, _) = Session::new(Role::Agent, Duration::from_secs(1));
        Arc::new(Subscriber::new(
            SessionId([owner; 16]),
            subscription,
            session,
        ))
    }

    fn filter() -> Share {
        let filter = Filter::compile(&HttpFilter::Path("x".into())).unwrap();
        Share::Take(Some(Arc::new(filter)))
    }

    fn add(
        ports: &mut Ports,
        owner: u8,
        share: Share,
        on_concurrent: OnConcurrentSteal,
    ) -> Result<usize, SubscribeFailure> {
        let subscriber = subscriber(owner, 1);
        ports
            .add(80, subscriber, share, on_concurrent, |_| false)
            .map(|ended| ended.len())
    }

    #[test]
    fn a_port_is_stolen_once_unless_both_say_otherwise() {
        use OnConcurrentSteal::{Abort, Continue, Override};
        let mut ports = Ports::default();
        assert_eq!(add(&mut ports, 1, Share::Take(None), Abort), Ok(0));
        assert_eq!(
            add(&mut ports, 2, Share::Take(None), Abort),
            Err(SubscribeFailure::Taken)
        );
        assert_eq!(
            add(&mut ports, 2, filter(), Abort),
            Err(SubscribeFailure::Taken)
        );
        assert_eq!(
            add(&mut ports, 3, Share::Copy, Abort),
            Ok(0),
            "a copy takes nothing"
        );
        assert_eq!(add(&mut ports, 2, filter(), Continue), Ok(0));
        assert_eq!(add(&mut ports, 4, Share::Take(None), Override), Ok(2));
        let owners: Vec<u8> = ports.subscribers().map(|known| known.owner.0[0]).collect();
        assert_eq!(owners, [3, 4]);
    }

    #[test]
    fn a_session_has_a_port_once_and_a_number_once() {
        let mut ports = Ports::default();
        let on_concurrent = OnConcurrentSteal::Continue;
        let mut add = |port, subscription| {
            ports.add(
                port,
                subscriber(1, subscription),
                Share::Copy,
                on_concurrent,
                |_| false,
            )
        };
        add(80, 1).unwrap();
        assert_eq!(add(80, 2).unwrap_err(), SubscribeFailure::Repeated);
        assert_eq!(add(81, 1).unwrap_err(), SubscribeFailure::Repeated);
        for number in 2..=64 {
            add(number, u32::from(number)).unwrap();
        }
        assert_eq!(add(999, 999).unwrap_err(), SubscribeFailure::TooMany);
    }

    #[test]
    fn a_session_without_a_link_gets_nothing() {
        let mut ports = Ports::default();
        add(&mut ports, 1, Share::Copy, OnConcurrentSteal::Abort).unwrap();
        assert!(ports.wanted().is_empty());
        let plan = ports.plan(80);
        assert!(plan.copies.is_empty() && plan.takers.is_empty());
        ports.remove(|known| known.owner.0[0] == 1);
        assert_eq!(ports.subscribers().count(), 0);
    }
}

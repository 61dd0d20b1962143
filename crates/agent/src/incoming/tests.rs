//! Subscriptions over rules that fail.

use wire::pump::{Inbound, Inbox, connect, greet};
use wire::{KEY_BYTES, SessionKey};

use super::*;

const GRACE: Duration = Duration::from_secs(60);

/// Rules that fail so many times.
#[derive(Debug)]
struct Failing(usize);

impl Rules for Failing {
    fn renew(&mut self, _: &BTreeSet<u16>) -> io::Result<()> {
        if self.0 == 0 {
            return Ok(());
        }
        self.0 -= 1;
        Err(io::ErrorKind::OutOfMemory.into())
    }
}

/// The agent's side of a session that has a link, and what its client hears.
async fn linked(id: SessionId) -> (Session, Inbox) {
    let key = || SessionKey::new([0; KEY_BYTES]);
    let (session, _) = Session::new(wire::Role::Agent, GRACE);
    let ours = session.clone();
    let dial = move || {
        let (client, agent) = tokio::io::duplex(10_000);
        let session = ours.clone();
        tokio::spawn(async move {
            let guest = greet(agent, |_| Some(key())).await.unwrap();
            guest.carry(&session).await;
        });
        std::future::ready(Ok(client))
    };
    let (_client, inbox) = connect(dial, id, key(), GRACE).await.unwrap();
    (session, inbox)
}

#[tokio::test]
async fn a_subscription_that_fails_at_the_rules_changes_nothing() {
    let incoming = Incoming::new(None);
    incoming.shared.lock().running = Some(Running {
        redirect: Box::new(Failing(0)),
        _tasks: JoinSet::new(),
    });
    let steal = |id, on_concurrent| Subscription {
        id,
        port: 80,
        mode: IncomingMode::Steal {
            filter: None,
            on_concurrent,
        },
        end_established: false,
    };
    let (old, mut hears) = linked(SessionId([1; 16])).await;
    let (new, _new_hears) = linked(SessionId([2; 16])).await;
    let abort = OnConcurrentSteal::Abort;
    let subscribed = incoming.subscribe(SessionId([1; 16]), &old, &steal(7, abort));
    subscribed.unwrap();
    incoming.shared.lock().running.as_mut().unwrap().redirect = Box::new(Failing(1));
    let over = OnConcurrentSteal::Override;
    let failed = incoming.subscribe(SessionId([2; 16]), &new, &steal(8, over));
    assert!(matches!(failed, Err(SubscribeFailure::System { .. })));
    {
        let state = incoming.shared.lock();
        let held: Vec<u32> = state.ports.subscribers().map(|s| s.subscription).collect();
        assert_eq!(held, [7]);
        assert_eq!(state.ports.wanted(), BTreeSet::from([80]));
    }
    // Whoever kept the port hears nothing of it: this comes first.
    let later = Notice::CopiesDropped {
        subscription: 7,
        connections: 1,
    };
    assert!(old.notify(later.clone()));
    let Some(Inbound::Notice(heard)) = hears.next().await else {
        panic!("a notice was sent");
    };
    assert_eq!(heard, later);
    // And a later try is not kept out by the failed one.
    let again = incoming.subscribe(SessionId([2; 16]), &new, &steal(8, over));
    again.unwrap();
}

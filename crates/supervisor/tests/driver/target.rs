//! The target's network as a test wants it: the agent's socket and the words of the plan, from the environment.

use std::sync::Arc;
use std::time::Duration;

use supervisor::network::{Dns, Incoming, IncomingMode, Outgoing};
use supervisor::{NetworkPlan, NetworkThread, TargetNetwork};
use tokio::net::UnixStream;
use wire::pump::{Inbox, connect};
use wire::{AgentKey, KEY_BYTES, SessionId};

/// The key of every agent of these tests.
const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];

/// How long a lost link is waited for.
const GRACE: Duration = Duration::from_secs(30);

/// Joins the network of the agent that the environment names.
pub(crate) async fn join(thread: &NetworkThread) -> Option<(Arc<TargetNetwork>, Inbox)> {
    let socket = std::env::var_os("TARGET_AGENT")?;
    let words = std::env::var("TARGET_PLAN").unwrap_or_default();
    let has = |word: &str| words.split(' ').any(|given| given == word);
    let plan = NetworkPlan {
        outgoing: Outgoing {
            tcp: has("tcp"),
            udp: has("udp"),
            ..Outgoing::default()
        },
        dns: Dns {
            enabled: has("dns"),
            filter: None,
        },
        incoming: Incoming {
            mode: match (has("mirror"), has("steal")) {
                (true, _) => IncomingMode::Mirror,
                (false, true) => IncomingMode::Steal,
                (false, false) => IncomingMode::Off,
            },
            ..Incoming::default()
        },
        ipv6: true,
    };
    let id = SessionId::draw();
    let key = AgentKey::new(KEY).session_key(&id);
    let dial = move || UnixStream::connect(socket.clone());
    let joined = thread.run(connect(dial, id, key, GRACE)).await;
    let (session, inbox) = joined.expect("the agent answers");
    Some((TargetNetwork::new(plan, session), inbox))
}

//! Two sides of one session and the network between them: its delay, its width, its cuts. Nothing runs by itself.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use wire::{Connection, Event, Link, Role};

/// Silence is no end of the session within any of these tests.
pub(crate) const GRACE: Duration = Duration::from_secs(600);

/// One direction of the network.
#[derive(Default)]
struct Pipe {
    /// What is under way, and when it arrives.
    under_way: VecDeque<(Duration, Bytes)>,
    /// Bytes that have arrived, ever.
    arrived: u64,
}

/// One side.
pub(crate) struct Side {
    pub(crate) connection: Connection,
    input: BytesMut,
    /// Events that the test has not looked at.
    pub(crate) events: VecDeque<Event>,
}

/// The whole.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) client: Side,
    pub(crate) agent: Side,
    to_agent: Pipe,
    to_client: Pipe,
    /// From one side to the other.
    pub(crate) delay: Duration,
    /// Bytes that each direction takes in a step.
    pub(crate) width: usize,
    /// After how many further bytes in all the link is cut.
    pub(crate) cut_after: Option<u64>,
    /// How often it was.
    pub(crate) cuts: usize,
    /// Largest piece in which bytes arrive.
    pub(crate) piece: usize,
}

impl Side {
    fn new(role: Role, now: Duration) -> Self {
        Self {
            connection: Connection::new(role, GRACE, now),
            input: BytesMut::new(),
            events: VecDeque::new(),
        }
    }

    /// Moves what happened to where the test looks.
    pub(crate) fn collect(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            self.events.push_back(event);
        }
    }

    fn receive(&mut self, bytes: &[u8], now: Duration) {
        self.input.extend_from_slice(bytes);
        self.connection
            .receive(&mut self.input, now)
            .expect("both sides keep the protocol");
        self.collect();
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let now = Duration::from_secs(1000);
        let mut world = Self {
            now,
            client: Side::new(Role::Client, now),
            agent: Side::new(Role::Agent, now),
            to_agent: Pipe::default(),
            to_client: Pipe::default(),
            delay: Duration::from_millis(1),
            width: 1 << 20,
            cut_after: None,
            cuts: 0,
            piece: 1 << 20,
        };
        world.link();
        world
    }

    /// A new link, as after a greeting.
    pub(crate) fn link(&mut self) {
        let link = |other: &Side| Link {
            version: 1,
            peer_received: other.connection.received(),
        };
        let (to_client, to_agent) = (link(&self.agent), link(&self.client));
        let attach = |side: &mut Side, link, now| {
            side.input.clear();
            side.connection.attach(link, now).expect("nothing was lost");
        };
        attach(&mut self.client, to_client, self.now);
        attach(&mut self.agent, to_agent, self.now);
    }

    /// What is under way is lost; neither side has a link.
    pub(crate) fn cut(&mut self) {
        self.cuts += 1;
        self.to_agent.under_way.clear();
        self.to_client.under_way.clear();
        self.client.connection.detach(self.now);
        self.agent.connection.detach(self.now);
    }

    /// A millisecond: sides speak as far as the network takes it, and what is due arrives.
    pub(crate) fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let (now, arrival, width) = (self.now, self.now + self.delay, self.width);
        for (side, pipe) in [
            (&mut self.client, &mut self.to_agent),
            (&mut self.agent, &mut self.to_client),
        ] {
            side.connection.handle_timeout(now);
            let mut sent = 0;
            while sent < width
                && let Some(bytes) = side.connection.poll_transmit()
            {
                sent += bytes.len();
                pipe.under_way.push_back((arrival, bytes));
            }
            side.collect();
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        loop {
            let mut moved = false;
            for to_agent in [true, false] {
                let (side, pipe) = if to_agent {
                    (&mut self.agent, &mut self.to_agent)
                } else {
                    (&mut self.client, &mut self.to_client)
                };
                let Some((at, bytes)) = pipe.under_way.front_mut() else {
                    continue;
                };
                if *at > self.now {
                    continue;
                }
                moved = true;
                let mut length = bytes.len().min(self.piece);
                if let Some(left) = self.cut_after {
                    length = length.min(usize::try_from(left).unwrap());
                }
                let piece = bytes.split_to(length);
                if bytes.is_empty() {
                    pipe.under_way.pop_front();
                }
                pipe.arrived += length as u64;
                side.receive(&piece, self.now);
                if let Some(left) = &mut self.cut_after {
                    *left -= length as u64;
                    if *left == 0 {
                        self.cut_after = None;
                        self.cut();
                        return;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Bytes that arrived anywhere.
    pub(crate) fn arrived(&self) -> u64 {
        self.to_agent.arrived + self.to_client.arrived
    }

    /// Steps until `done` says so; panics where that takes longer than `limit`.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "not done after {limit:?}");
            self.step();
        }
    }
}

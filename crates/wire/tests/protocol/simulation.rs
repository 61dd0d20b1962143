//! Many streams at once over a network that breaks: every byte arrives once, in order, whoever reads slowly.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wire::{Endpoint, Event, OpenRequest, Opened, Read, StreamId};

use crate::world::World;

/// What both sides may hold at most in these sessions: all windows, all send buffers, and what is unacknowledged.
const HELD_MAX: usize = 120 * 1024 * 1024;

/// Sessions that are made up in one run.
const SEEDS: u64 = 25;

fn request() -> OpenRequest {
    OpenRequest::Tcp {
        destination: Endpoint::Address("10.0.0.1:80".parse().unwrap()),
    }
}

/// The byte at a place of a stream, different for each stream.
fn byte_at(stream: usize, at: usize) -> u8 {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (stream as u64 * 0x1_0001);
    (mixed >> 29) as u8
}

fn bytes_at(stream: usize, from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| byte_at(stream, at)).collect()
}

/// One stream as the test knows it.
struct Flow {
    stream: StreamId,
    length: usize,
    written: usize,
    /// Echoed by the agent.
    echoed: usize,
    read: usize,
    finished: bool,
    ended: bool,
    /// One step in so many the agent reads.
    slowness: u32,
}

/// The agent's side: which flow a stream is, by the order of opening.
#[derive(Default)]
struct Echo {
    flows: BTreeMap<StreamId, usize>,
    /// Read and not written back yet.
    pending: BTreeMap<usize, Vec<u8>>,
    at_end: BTreeMap<usize, bool>,
}

struct Simulation {
    world: World,
    random: StdRng,
    flows: Vec<Flow>,
    echo: Echo,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        world.delay = Duration::from_millis(random.random_range(0..40));
        world.width = 1 << random.random_range(10..20);
        world.piece = 1 << random.random_range(0..18);
        let mut simulation = Self {
            world,
            random,
            flows: Vec::new(),
            echo: Echo::default(),
        };
        let count = simulation.random.random_range(1..40);
        for _ in 0..count {
            simulation.open();
        }
        simulation
    }

    fn open(&mut self) {
        let random = &mut self.random;
        let stream = self.world.client.connection.open(request()).unwrap();
        let magnitude = random.random_range(1..19);
        self.flows.push(Flow {
            stream,
            length: random.random_range(0..1 << magnitude),
            written: 0,
            echoed: 0,
            read: 0,
            finished: false,
            ended: false,
            slowness: 1 << random.random_range(0..8),
        });
    }

    fn run(&mut self) {
        let mut cuts = self.random.random_range(0..6);
        for _ in 0..200_000 {
            self.act();
            if !self.world.client.connection.is_linked() {
                if self.random.random_ratio(1, 20) {
                    self.world.link();
                }
            } else if cuts > 0 && self.random.random_ratio(1, 50) {
                cuts -= 1;
                self.world.cut_after = Some(self.random.random_range(1..100_000));
            }
            self.world.step();
            let held = self.world.client.connection.held() + self.world.agent.connection.held();
            assert!(held <= HELD_MAX, "{held} bytes are held");
            if self.flows.iter().all(|flow| flow.ended) {
                return;
            }
        }
        panic!("streams hang");
    }

    fn act(&mut self) {
        while let Some(event) = self.world.agent.events.pop_front() {
            if let Event::Requested { stream, .. } = event {
                let index = self.flows.iter().position(|flow| flow.stream == stream);
                self.echo
                    .flows
                    .insert(stream, index.expect("it was opened"));
                self.world
                    .agent
                    .connection
                    .accept(stream, Opened::default());
            }
        }
        self.world.client.events.clear();
        for index in 0..self.flows.len() {
            self.act_as_client(index);
        }
        let streams: Vec<_> = self.echo.flows.iter().map(|(s, i)| (*s, *i)).collect();
        for (stream, index) in streams {
            self.act_as_agent(stream, index);
        }
    }

    fn act_as_client(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        if flow.ended {
            return;
        }
        let connection = &mut self.world.client.connection;
        let count = (flow.length - flow.written).min(self.random.random_range(1..100_000));
        if count > 0 {
            let bytes = bytes_at(index, flow.written, count);
            flow.written += connection.write(flow.stream, &bytes).unwrap();
        }
        if flow.written == flow.length && !flow.finished {
            flow.finished = true;
            connection.finish(flow.stream);
        }
        loop {
            let limit = self.random.random_range(1..70_000);
            match connection.read(flow.stream, limit).unwrap() {
                Read::Data(bytes) => {
                    assert_eq!(bytes, bytes_at(index, flow.read, bytes.len()));
                    flow.read += bytes.len();
                }
                Read::End => {
                    assert_eq!(flow.read, flow.length, "cut short");
                    flow.ended = true;
                    return connection.release(flow.stream);
                }
                Read::Nothing => return,
                Read::Datagram(..) => panic!("a stream of bytes"),
            }
        }
    }

    fn act_as_agent(&mut self, stream: StreamId, index: usize) {
        let flow = &mut self.flows[index];
        let connection = &mut self.world.agent.connection;
        let pending = self.echo.pending.entry(index).or_default();
        if pending.is_empty() && !self.random.random_ratio(1, flow.slowness) {
            return;
        }
        if pending.is_empty() {
            match connection.read(stream, 50_000).unwrap() {
                Read::Data(bytes) => {
                    assert_eq!(bytes, bytes_at(index, flow.echoed, bytes.len()));
                    flow.echoed += bytes.len();
                    pending.extend(bytes);
                }
                Read::End => {
                    if self.echo.at_end.insert(index, true).is_none() {
                        connection.finish(stream);
                        connection.release(stream);
                        self.echo.flows.remove(&stream);
                    }
                    return;
                }
                Read::Nothing => return,
                Read::Datagram(..) => panic!("a stream of bytes"),
            }
        }
        let taken = connection.write(stream, pending).unwrap();
        pending.drain(..taken);
    }
}

#[test]
fn every_byte_arrives_once_and_in_order_over_a_network_that_breaks() {
    let base: u64 = rand::rng().random();
    for seed in (0..SEEDS).map(|offset| base.wrapping_add(offset)) {
        println!("seed {seed}");
        let mut simulation = Simulation::new(seed);
        simulation.run();
        let world = &mut simulation.world;
        if !world.client.connection.is_linked() {
            world.link();
        }
        world.cut_after = None;
        world.run_until(Duration::from_secs(5), |world| {
            world.client.connection.streams() + world.agent.connection.streams() == 0
        });
        world.run_until(Duration::from_secs(5), |world| {
            world.client.connection.held() + world.agent.connection.held() == 0
        });
    }
}

/// Streams whose writers always have more; what the agent has read of each after a while.
fn flood(count: usize, unread: usize) -> Vec<usize> {
    let mut world = World::new();
    // 10 MB/s.
    world.width = 10_000;
    world.delay = Duration::from_millis(10);
    let streams: Vec<StreamId> = (0..count)
        .map(|_| world.client.connection.open(request()).unwrap())
        .collect();
    let noise = vec![7; 100_000];
    let mut read = vec![0; count];
    for _ in 0..2000 {
        for (index, stream) in streams.iter().enumerate() {
            world.client.connection.write(*stream, &noise).unwrap();
            while index >= unread
                && let Ok(Read::Data(bytes)) = world.agent.connection.read(*stream, 1 << 20)
            {
                read[index] += bytes.len();
            }
        }
        world.step();
    }
    let held = world.client.connection.held() + world.agent.connection.held();
    assert!(held <= HELD_MAX, "{held} bytes are held");
    read
}

#[test]
fn no_stream_starves_another() {
    let read = flood(50, 0);
    let (least, most) = (read.iter().min().unwrap(), read.iter().max().unwrap());
    assert!(*least * 10 >= *most * 8, "{least} to {most}");
}

#[test]
fn streams_that_nobody_reads_slow_no_other() {
    let alone: usize = flood(10, 0).iter().sum();
    let beside: usize = flood(210, 200).iter().sum();
    // What fills the windows of the unread ones is all that they cost.
    let windows = 200 * 32 * 1024;
    assert!(
        beside + windows >= alone * 9 / 10,
        "{beside} beside, {alone} alone"
    );
}

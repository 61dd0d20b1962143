//! A hostile peer: recorded sessions with bytes changed, cut, repeated and made up. Nothing panics, nothing grows.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wire::{
    AgentGreeting, AgentKey, Answer, ClientGreeting, Connection, DnsFailure, DnsQuery, Endpoint,
    Event, Link, Nonce, OpenRequest, Opened, Request, Role, SessionId, SessionKey, Start,
};

/// Changed sessions of one run.
const ROUNDS: u64 = 20_000;

/// What a side may hold after a few kilobytes of anything.
const HELD_MAX: usize = 1024 * 1024;

fn linked(role: Role) -> Connection {
    let now = Duration::from_secs(5);
    let mut connection = Connection::new(role, Duration::from_secs(60), now);
    let link = Link {
        version: 1,
        peer_received: 0,
    };
    connection.attach(link, now).unwrap();
    connection
}

/// What a client says that uses everything.
fn client_speech() -> Vec<u8> {
    let mut client = linked(Role::Client);
    let destination = Endpoint::Address("10.0.0.1:80".parse().unwrap());
    let tcp = client.open(OpenRequest::Tcp { destination }).unwrap();
    client.write(tcp, b"some bytes").unwrap();
    client.finish(tcp);
    let connected = None;
    let udp = OpenRequest::Udp {
        connected,
        version_6: true,
    };
    let udp = client.open(udp).unwrap();
    let to = "[::1]:53".parse().unwrap();
    client.write_datagram(udp, to, b"datagram").unwrap();
    let path = Bytes::from_static(b"/run/x");
    let unix = client.open(OpenRequest::Unix { path }).unwrap();
    client.write(unix, b"x").unwrap();
    let name = "db".into();
    client
        .call(Request::Dns(DnsQuery { name, kind: 1 }))
        .unwrap();
    speech(&mut client)
}

fn speech(connection: &mut Connection) -> Vec<u8> {
    std::iter::from_fn(|| connection.poll_transmit())
        .flatten()
        .collect()
}

/// What an agent says to the client of `client_speech`.
fn agent_speech(to_agent: &[u8]) -> Vec<u8> {
    let mut agent = linked(Role::Agent);
    let mut input = BytesMut::from(to_agent);
    agent.receive(&mut input, Duration::from_secs(5)).unwrap();
    while let Some(event) = agent.poll_event() {
        answer(&mut agent, event);
    }
    speech(&mut agent)
}

/// Does the least that an application does about an event.
fn answer(connection: &mut Connection, event: Event) {
    match event {
        Event::Requested { stream, .. } => {
            connection.accept(stream, Opened::default());
            connection.write(stream, b"answer").ok();
        }
        Event::Readable(stream) => {
            connection.read(stream, 100).ok();
        }
        Event::Called { call, .. } => {
            let failure = Answer::Dns(Err(DnsFailure::Refused));
            connection.answer(call, failure).unwrap();
        }
        Event::Answered { .. }
        | Event::Writable(_)
        | Event::CallAnswered { .. }
        | Event::Noticed(_)
        | Event::LinkLost
        | Event::Closed(_) => {}
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => {
                let end = random.random_range(at..bytes.len().min(at + 40));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                bytes.remove(at);
            }
            _ => {
                let made_up: Vec<u8> = (0..random.random_range(1..40))
                    .map(|_| random.random())
                    .collect();
                bytes.splice(at..at, made_up);
            }
        }
    }
}

fn feed(role: Role, prepare: impl Fn(&mut Connection), bytes: &[u8], random: &mut StdRng) {
    let mut connection = linked(role);
    prepare(&mut connection);
    speech(&mut connection);
    let mut input = BytesMut::new();
    for piece in bytes.chunks(random.random_range(1..bytes.len().max(2))) {
        input.extend_from_slice(piece);
        let now = Duration::from_secs(6);
        if connection.receive(&mut input, now).is_err() {
            assert!(connection.is_closed());
            assert!(connection.poll_transmit().is_some(), "the peer is told");
        }
        while let Some(event) = connection.poll_event() {
            answer(&mut connection, event);
        }
        assert!(connection.held() <= HELD_MAX);
        assert!(input.len() <= wire::PAYLOAD_MAX + wire::HEADER_BYTES);
    }
}

#[test]
fn a_hostile_peer_breaks_nothing() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let to_agent = client_speech();
    let to_client = agent_speech(&to_agent);
    // The speech is right where it is not changed.
    assert!(to_client.len() > 60 && to_agent.len() > 100);
    for _ in 0..ROUNDS {
        let mut bytes = to_agent.clone();
        mutate(&mut bytes, &mut random);
        feed(Role::Agent, |_| (), &bytes, &mut random);
        let mut bytes = to_client.clone();
        mutate(&mut bytes, &mut random);
        let open = |connection: &mut Connection| {
            let destination = Endpoint::Address("10.0.0.1:80".parse().unwrap());
            connection.open(OpenRequest::Tcp { destination }).unwrap();
            connection.open(OpenRequest::Environ).unwrap();
            let name = "db".into();
            let query = DnsQuery { name, kind: 1 };
            connection.call(Request::Dns(query)).unwrap();
        };
        feed(Role::Client, open, &bytes, &mut random);
    }
}

#[test]
fn a_hostile_greeting_breaks_nothing() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let session = SessionId([1; 16]);
    let key = AgentKey::new([2; 32]).session_key(&session);
    let (_, hello) = ClientGreeting::begin(session, key.clone(), Nonce([3; 32]), Start::Fresh);
    for _ in 0..ROUNDS {
        let mut bytes = hello.to_vec();
        mutate(&mut bytes, &mut random);
        let key_of = |_: &SessionId| Some(SessionKey::new([9; 32]));
        let mut agent = AgentGreeting::new(Nonce([4; 32]));
        let mut input = BytesMut::from(&bytes[..]);
        for _ in 0..4 {
            agent.receive(&mut input, key_of).ok();
        }
        let (mut client, _) =
            ClientGreeting::begin(session, key.clone(), Nonce([3; 32]), Start::Fresh);
        let mut input = BytesMut::from(&bytes[..]);
        for _ in 0..4 {
            client.receive(&mut input).ok();
        }
    }
}

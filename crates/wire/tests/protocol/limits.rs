//! Every bound holds against a peer that keeps none, and against a user who asks for too much.

use std::time::Duration;

use bytes::BytesMut;
use wire::{
    Answer, CALLS_MAX, CallError, CloseReason, DATAGRAM_MAX, DecodeError, DnsAnswer, DnsQuery,
    DnsRecord, Endpoint, Errno, Event, INCOMING_MAX, NOTICES_MAX, Notice, OpenError, OpenRequest,
    Opened, PAYLOAD_MAX, Read, Request, STREAMS_MAX, StreamId, Violation,
};

use crate::world::World;

const SOON: Duration = Duration::from_secs(5);

pub(crate) fn tcp() -> OpenRequest {
    OpenRequest::Tcp {
        destination: Endpoint::Address("10.0.0.1:80".parse().unwrap()),
    }
}

fn incoming() -> OpenRequest {
    OpenRequest::Incoming {
        subscription: 1,
        peer: "10.0.0.2:4711".parse().unwrap(),
        local: "10.0.0.1:80".parse().unwrap(),
        copy: true,
    }
}

/// A stream that both sides know.
pub(crate) fn stream(world: &mut World, request: OpenRequest) -> StreamId {
    let stream = world.client.connection.open(request).unwrap();
    world.run_until(SOON, |world| {
        let events = &world.agent.events;
        let asked = |event: &Event| matches!(event, Event::Requested { .. });
        events.iter().any(asked)
    });
    world.agent.events.clear();
    world.agent.connection.accept(stream, Opened::default());
    world.run_until(SOON, |world| !world.client.events.is_empty());
    world.client.events.clear();
    stream
}

pub(crate) fn run(world: &mut World, steps: usize) {
    for _ in 0..steps {
        world.step();
    }
}

#[test]
fn streams_are_counted_and_come_free_again() {
    let mut world = World::new();
    let streams: Vec<StreamId> = (0..STREAMS_MAX)
        .map(|_| world.client.connection.open(tcp()).unwrap())
        .collect();
    assert_eq!(world.client.connection.open(tcp()), Err(OpenError::TooMany));
    run(&mut world, 10);
    for stream in streams {
        world.client.connection.reset(stream, Errno::ECONNRESET);
        world.client.connection.release(stream);
    }
    run(&mut world, 10);
    for event in std::mem::take(&mut world.agent.events) {
        if let Event::Requested { stream, .. } = event {
            world.agent.connection.release(stream);
        }
    }
    run(&mut world, 10);
    assert_eq!(world.client.connection.streams(), 0);
    assert_eq!(world.agent.connection.streams(), 0);
    world.client.connection.open(tcp()).unwrap();
}

#[test]
fn clients_of_a_busy_port_leave_the_program_connections_of_its_own() {
    let mut world = World::new();
    for _ in 0..INCOMING_MAX {
        world.agent.connection.open(incoming()).unwrap();
    }
    let one_more = world.agent.connection.open(incoming());
    assert_eq!(one_more, Err(OpenError::TooMany));
    run(&mut world, 10);
    for _ in INCOMING_MAX..STREAMS_MAX {
        world.client.connection.open(tcp()).unwrap();
    }
    let one_more = world.client.connection.open(tcp());
    assert_eq!(one_more, Err(OpenError::TooMany));
    run(&mut world, 10);
    assert_eq!(world.agent.connection.streams(), STREAMS_MAX);
}

#[test]
fn opening_and_dropping_without_a_link_holds_nothing() {
    let mut world = World::new();
    world.cut();
    for _ in 0..10 * STREAMS_MAX {
        let stream = world.client.connection.open(tcp()).unwrap();
        world.client.connection.write(stream, b"hello").unwrap();
        world.client.connection.release(stream);
    }
    assert_eq!(world.client.connection.streams(), 0);
    assert_eq!(world.client.connection.held(), 0);
}

#[test]
fn a_writer_waits_at_the_window_and_goes_on_when_it_is_read() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    let noise = vec![1; 1 << 20];
    let mut written = 0;
    for _ in 0..100 {
        written += world.client.connection.write(stream, &noise).unwrap();
        world.step();
    }
    assert!(written < 128 * 1024, "{written} bytes are nowhere");
    world.client.events.clear();
    let mut read = 0;
    while let Read::Data(bytes) = world.agent.connection.read(stream, 1000).unwrap() {
        read += bytes.len();
    }
    assert_eq!(read, 32 * 1024, "a new stream's window");
    run(&mut world, 10);
    assert!(
        world.client.events.contains(&Event::Writable(stream)),
        "the writer is told"
    );
    assert!(
        world.agent.events.contains(&Event::Readable(stream)),
        "the reader is told"
    );
}

#[test]
fn without_acknowledgements_a_side_stops_to_send() {
    let mut world = World::new();
    let streams: Vec<StreamId> = (0..500)
        .map(|_| world.client.connection.open(tcp()).unwrap())
        .collect();
    let noise = vec![1; 1 << 16];
    world.width = usize::MAX;
    world.delay = Duration::from_secs(1000);
    let mut sent = 0;
    for _ in 0..100 {
        for stream in &streams {
            world.client.connection.write(*stream, &noise).unwrap();
        }
        while let Some(bytes) = world.client.connection.poll_transmit() {
            sent += bytes.len();
        }
    }
    assert!(sent <= 9 << 20, "{sent} bytes would have to be repeated");
    assert!(world.client.connection.held() <= 60 << 20);
}

#[test]
fn half_of_a_stream_ends_alone() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    world.client.connection.finish(stream);
    run(&mut world, 5);
    let agent = &mut world.agent.connection;
    assert_eq!(agent.read(stream, 10), Ok(Read::End));
    assert_eq!(agent.write(stream, b"still"), Ok(5));
    run(&mut world, 5);
    let client = &mut world.client.connection;
    assert_eq!(
        client.read(stream, 10),
        Ok(Read::Data(b"still".as_slice().into()))
    );
    assert_eq!(client.write(stream, b"no"), Err(Errno::EPIPE));
}

#[test]
fn an_answer_survives_that_its_writer_stops_to_read() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    let agent = &mut world.agent.connection;
    agent.write(stream, b"whole answer").unwrap();
    agent.finish(stream);
    agent.release(stream);
    for _ in 0..20 {
        let outcome = world.client.connection.write(stream, &[0; 10_000]);
        world.step();
        if outcome.is_err() {
            break;
        }
    }
    let client = &mut world.client.connection;
    assert!(
        client.write(stream, b"x").is_err(),
        "the other side is gone"
    );
    let answer = b"whole answer".as_slice().into();
    assert_eq!(client.read(stream, 100), Ok(Read::Data(answer)));
    assert_eq!(client.read(stream, 100), Ok(Read::End));
    client.release(stream);
    run(&mut world, 5);
    assert_eq!(world.client.connection.streams(), 0);
    assert_eq!(world.agent.connection.streams(), 0);
}

#[test]
fn an_answer_that_a_reset_follows_is_read_before_it() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    let agent = &mut world.agent.connection;
    agent.write(stream, b"too large").unwrap();
    agent.reset_behind(stream, Errno::ETIMEDOUT);
    assert!(agent.is_resetting(stream));
    assert_eq!(agent.write(stream, b"no"), Err(Errno::EPIPE));
    run(&mut world, 5);
    assert!(!world.agent.connection.is_resetting(stream));
    let told = Event::Writable(stream);
    assert!(world.agent.events.contains(&told), "who waits for it");
    let client = &mut world.client.connection;
    assert_eq!(client.write(stream, b"x"), Err(Errno::ETIMEDOUT));
    let answer = b"too large".as_slice().into();
    assert_eq!(client.read(stream, 100), Ok(Read::Data(answer)));
    assert_eq!(client.read(stream, 100), Err(Errno::ETIMEDOUT));
    client.release(stream);
    world.agent.connection.release(stream);
    run(&mut world, 5);
    assert_eq!(world.client.connection.streams(), 0);
    assert_eq!(world.agent.connection.streams(), 0);
}

#[test]
fn a_cut_leaves_what_was_finished_whole() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    let client = &mut world.client.connection;
    client.write(stream, b"all of it").unwrap();
    client.finish(stream);
    client.reset_behind(stream, Errno::ETIMEDOUT);
    run(&mut world, 5);
    let agent = &mut world.agent.connection;
    let all = b"all of it".as_slice().into();
    assert_eq!(agent.read(stream, 100), Ok(Read::Data(all)));
    assert_eq!(agent.read(stream, 100), Ok(Read::End));
    assert!(agent.write(stream, b"x").is_err(), "nobody reads");
}

#[test]
fn a_cut_that_a_reader_does_not_let_through_is_said_once_its_writer_lets_go() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    let agent = &mut world.agent.connection;
    while agent.write(stream, &[7; 10_000]).unwrap() > 0 {}
    run(&mut world, 5);
    let agent = &mut world.agent.connection;
    while agent.write(stream, &[7; 10_000]).unwrap() > 0 {}
    agent.reset_behind(stream, Errno::ETIMEDOUT);
    run(&mut world, 5);
    assert!(world.agent.connection.is_resetting(stream), "nobody reads");
    world.agent.connection.release(stream);
    run(&mut world, 5);
    assert_eq!(world.agent.connection.streams(), 0);
    // What the reader has is still his, and is all that is held for him.
    let client = &mut world.client.connection;
    assert!(matches!(client.read(stream, 1), Ok(Read::Data(_))));
    client.release(stream);
    assert_eq!(client.streams(), 0);
}

#[test]
fn what_was_finished_before_the_sessions_end_is_still_read() {
    let mut world = World::new();
    let [whole, part] = [(); 2].map(|()| stream(&mut world, tcp()));
    let client = &mut world.client.connection;
    client.write(whole, b"all of it").unwrap();
    client.finish(whole);
    client.release(whole);
    client.write(part, b"a part").unwrap();
    assert!(client.unsent() > 0);
    run(&mut world, 5);
    let client = &mut world.client.connection;
    assert_eq!(client.unsent(), 0, "a close comes behind all of it");
    client.close(CloseReason::Done);
    run(&mut world, 5);
    let agent = &mut world.agent.connection;
    assert!(agent.is_closed());
    let all = b"all of it".as_slice().into();
    assert_eq!(agent.read(whole, 100), Ok(Read::Data(all)));
    assert_eq!(agent.read(whole, 100), Ok(Read::End));
    assert!(agent.write(whole, b"answer").is_err());
    assert_eq!(agent.read(part, 100), Err(Errno::ECONNRESET));
    agent.release(whole);
    agent.release(part);
    assert_eq!(agent.streams(), 0);
}

#[test]
fn datagrams_keep_their_bounds_and_are_dropped_where_there_is_no_room() {
    let mut world = World::new();
    let connected = None;
    let version_6 = false;
    let stream = stream(
        &mut world,
        OpenRequest::Udp {
            connected,
            version_6,
        },
    );
    let to = "10.0.0.1:53".parse().unwrap();
    let client = &mut world.client.connection;
    let large = vec![1; DATAGRAM_MAX];
    assert_eq!(client.write_datagram(stream, to, &large), Ok(true));
    assert_eq!(client.write_datagram(stream, to, b""), Ok(true));
    assert!(
        client
            .write_datagram(stream, to, &[0; DATAGRAM_MAX + 1])
            .is_err()
    );
    let taken = (0..10_000)
        .filter(|_| client.write_datagram(stream, to, b"").unwrap())
        .count();
    assert!(taken < 2000, "{taken} empty datagrams are not free");
    run(&mut world, 5);
    let agent = &mut world.agent.connection;
    let Ok(Read::Datagram(from, first)) = agent.read(stream, 10) else {
        panic!("a datagram is whole whatever the reader asks for");
    };
    assert_eq!((from, first.len()), (to, DATAGRAM_MAX));
    assert_eq!(
        agent.read(stream, 10),
        Ok(Read::Datagram(to, BytesMut::new().freeze()))
    );
    while let Ok(Read::Datagram(..)) = agent.read(stream, 10) {}
    run(&mut world, 5);
    let client = &mut world.client.connection;
    assert_eq!(client.write_datagram(stream, to, &large), Ok(true));
}

#[test]
fn calls_are_counted_until_they_are_answered() {
    let mut world = World::new();
    let query = || {
        let name = "db".into();
        Request::Dns(DnsQuery { name, kind: 1 })
    };
    for _ in 0..CALLS_MAX {
        world.client.connection.call(query()).unwrap();
    }
    assert_eq!(
        world.client.connection.call(query()),
        Err(CallError::TooMany)
    );
    run(&mut world, 5);
    for event in std::mem::take(&mut world.agent.events) {
        if let Event::Called { call, .. } = event {
            let answer = Answer::Dns(DnsAnswer::Ok(Vec::new()));
            world.agent.connection.answer(call, answer).unwrap();
        }
    }
    run(&mut world, 5);
    world.client.connection.call(query()).unwrap();
}

#[test]
fn what_the_other_side_could_not_read_is_not_said() {
    let mut world = World::new();
    let client = &mut world.client.connection;
    let path = vec![b'x'; 109].into();
    assert!(matches!(
        client.open(OpenRequest::Unix { path }),
        Err(OpenError::Unsayable { .. })
    ));
    let name = "x".repeat(5000);
    let kind = 1;
    assert!(matches!(
        client.call(Request::Dns(DnsQuery { name, kind })),
        Err(CallError::Unsayable { .. })
    ));
    let call = Request::Dns(DnsQuery {
        name: "x".into(),
        kind,
    });
    client.call(call).unwrap();
    run(&mut world, 5);
    let Some(Event::Called { call, .. }) = world.agent.events.pop_back() else {
        panic!("a call")
    };
    let record = DnsRecord {
        name: "x.".into(),
        kind,
        ttl_seconds: 0,
        data: vec![0; 60_000].into(),
    };
    let agent = &mut world.agent.connection;
    let long = Answer::Dns(Ok(vec![record.clone(), record]));
    assert!(matches!(
        agent.answer(call, long),
        Err(CallError::Unsayable { .. })
    ));
    agent.answer(call, Answer::Dns(Ok(Vec::new()))).unwrap();
}

#[test]
fn an_answer_that_fills_a_frame_is_said_and_no_longer_one() {
    let mut world = World::new();
    let name = "x".into();
    let query = DnsQuery { name, kind: 1 };
    world.client.connection.call(Request::Dns(query)).unwrap();
    run(&mut world, 5);
    let Some(Event::Called { call, .. }) = world.agent.events.pop_back() else {
        panic!("a call")
    };
    let record = |length: usize| DnsRecord {
        name: "x.".into(),
        kind: 1,
        ttl_seconds: 0,
        data: vec![0; length].into(),
    };
    let answer = |length| Answer::Dns(Ok(vec![record(60_000), record(length)]));
    let agent = &mut world.agent.connection;
    let Err(CallError::Unsayable {
        source: DecodeError::TooLong { length, limit, .. },
    }) = agent.answer(call, answer(20_000))
    else {
        panic!("80,000 bytes are no frame")
    };
    assert_eq!(limit, PAYLOAD_MAX - 4, "its call's name goes along");
    let room = 20_000 - (length - limit);
    assert!(agent.answer(call, answer(room + 1)).is_err());
    agent.answer(call, answer(room)).unwrap();
    let answer = answer(room);
    world.run_until(SOON, |world| {
        let events = &world.client.events;
        events.contains(&Event::CallAnswered {
            call,
            answer: answer.clone(),
        })
    });
}

#[test]
fn notices_wait_only_so_many() {
    let mut world = World::new();
    world.cut();
    let notice = Notice::CopiesDropped {
        subscription: 1,
        connections: 1,
    };
    for _ in 0..NOTICES_MAX {
        assert!(world.agent.connection.notify(notice.clone()));
    }
    assert!(!world.agent.connection.notify(notice.clone()));
    world.link();
    run(&mut world, 5);
    for _ in 0..NOTICES_MAX {
        let agent = &mut world.agent.connection;
        assert!(agent.notify(notice.clone()), "those before were sent");
    }
}

#[test]
fn windows_grow_for_readers_that_keep_up_but_only_so_far_in_all() {
    let mut world = World::new();
    world.width = 64 << 20;
    let streams: Vec<StreamId> = (0..40)
        .map(|_| world.client.connection.open(tcp()).unwrap())
        .collect();
    let noise = vec![1; 1 << 20];
    let mut read = 0;
    let mut pour = |world: &mut World, steps: usize, reads: bool| {
        for _ in 0..steps {
            for stream in &streams {
                world.client.connection.write(*stream, &noise).unwrap();
                while reads
                    && let Ok(Read::Data(bytes)) = world.agent.connection.read(*stream, 1 << 20)
                {
                    read += bytes.len();
                }
            }
            world.step();
        }
    };
    pour(&mut world, 300, true);
    pour(&mut world, 300, false);
    let held = world.agent.connection.held();
    let first_windows = 40 * 32 * 1024;
    let growth_max = 32 << 20;
    assert!(
        held > 2 * first_windows,
        "windows of {held} bytes did not grow"
    );
    assert!(held <= first_windows + growth_max, "{held} bytes are held");
    assert!(read > 300 * first_windows / 4, "{read} bytes were read");
}

/// A frame made by hand: what a peer might say that keeps no rule.
fn raw(kind: u8, number: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [
        &length.to_be_bytes()[..],
        &[kind],
        &number.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// An `Open` of a TCP stream under this name.
fn raw_open(number: u64, stream: u32) -> Vec<u8> {
    let request = [1, 1, 4, 10, 0, 0, 1, 0, 80];
    raw(
        0x10,
        number,
        &[&stream.to_be_bytes()[..], &request].concat(),
    )
}

/// What an agent makes of these bytes.
fn received(frames: &[Vec<u8>]) -> Result<World, Violation> {
    let mut world = World::new();
    let mut input = BytesMut::from(&frames.concat()[..]);
    let now = world.now;
    world.agent.connection.receive(&mut input, now)?;
    Ok(world)
}

fn violation(frames: &[Vec<u8>]) -> Violation {
    match received(frames) {
        Err(violation) => violation,
        Ok(_) => panic!("no violation"),
    }
}

#[test]
fn a_peer_that_breaks_a_rule_is_told_which() {
    let open = || raw_open(1, 1);
    let stream = [0, 0, 0, 1];
    let data = |number, bytes: &[u8]| raw(0x13, number, &[&stream[..], bytes].concat());
    assert!(received(&[open(), data(2, b"fine")]).is_ok());
    let number = |expected, got| Violation::Number { expected, got };
    assert_eq!(violation(&[raw_open(2, 1)]), number(1, 2));
    assert_eq!(violation(&[open(), raw_open(1, 3)]), number(2, 1));
    assert_eq!(violation(&[raw(0x02, 1, &[0; 8])]), number(0, 1));
    assert_eq!(violation(&[raw_open(1, 2)]), Violation::WrongSide);
    assert_eq!(violation(&[open(), raw_open(2, 1)]), Violation::WrongSide);
    assert_eq!(violation(&[data(1, b"x")]), Violation::UnknownStream);
    let of_agent = raw(0x13, 1, &[0, 0, 0, 2, b'x']);
    assert_eq!(violation(&[of_agent]), Violation::UnknownStream);
    let opened = raw(0x11, 2, &[&stream[..], &[0, 0]].concat());
    assert_eq!(violation(&[open(), opened]), Violation::WrongSide);
    assert_eq!(
        violation(&[open(), data(2, b"")]),
        Violation::WrongKindOfStream
    );
    let finish = |number| raw(0x16, number, &stream);
    assert_eq!(
        violation(&[open(), finish(2), data(3, b"x")]),
        Violation::AfterFinish
    );
    assert_eq!(
        violation(&[open(), finish(2), finish(3)]),
        Violation::AfterFinish
    );
    let flood = |count: u64| {
        let frames = (0..count).map(|at| data(2 + at, &[0; 16 * 1024]));
        [open()].into_iter().chain(frames).collect::<Vec<_>>()
    };
    assert!(received(&flood(2)).is_ok());
    assert_eq!(violation(&flood(3)), Violation::OverCredit);
    let credit = raw(0x15, 2, &[&stream[..], &[0xff; 4]].concat());
    assert_eq!(violation(&[open(), credit]), Violation::CreditBeyondWindow);
    assert!(matches!(
        violation(&[raw(0x01, 0, &[0, 0, 0, 0, 0, 0, 0, 1])]),
        Violation::Acknowledged { .. }
    ));
    assert!(matches!(
        violation(&[raw(0x7f, 1, &[])]),
        Violation::Unreadable { .. }
    ));
    let answer = raw(0x21, 1, &[0, 0, 0, 1, 3]);
    assert_eq!(violation(&[answer]), Violation::WrongSide);
    let unsubscribe = |number| raw(0x20, number, &[0, 0, 0, 1, 3, 0, 0, 0, 1]);
    assert_eq!(
        violation(&[unsubscribe(1), unsubscribe(2)]),
        Violation::BadCall
    );
}

#[test]
fn a_peer_that_opens_without_end_is_refused_and_then_cut_off() {
    let opens = |count: u64| {
        let open = |at: u64| raw_open(at + 1, u32::try_from(2 * at + 1).unwrap());
        (0..count).map(open).collect::<Vec<_>>()
    };
    let max = STREAMS_MAX as u64;
    let mut world = received(&opens(2 * max)).unwrap();
    assert_eq!(world.agent.connection.streams(), STREAMS_MAX);
    let refusals = std::iter::from_fn(|| world.agent.connection.poll_transmit())
        .filter(|frame| frame[4] == 0x12)
        .count();
    assert_eq!(refusals, STREAMS_MAX);
    assert_eq!(violation(&opens(2 * max + 1)), Violation::TooManyStreams);
}

/// A call under this name: that a subscription ends.
fn raw_call(number: u64, call: u32) -> Vec<u8> {
    let request = [3, 0, 0, 0, 1];
    raw(0x20, number, &[&call.to_be_bytes()[..], &request].concat())
}

#[test]
fn a_peer_calls_only_so_often_before_its_answers_are_sent() {
    let max = u32::try_from(CALLS_MAX).unwrap();
    let calls = |count: u32| {
        let call = |at: u32| raw_call(u64::from(at), at);
        (1..=count).map(call).collect::<Vec<_>>()
    };
    assert_eq!(violation(&calls(max + 1)), Violation::BadCall);
    let answered = || {
        let mut world = received(&calls(max)).unwrap();
        world.agent.collect();
        let Some(Event::Called { call, .. }) = world.agent.events.pop_front() else {
            panic!("a call")
        };
        let answer = Answer::Unsubscribe;
        world.agent.connection.answer(call, answer).unwrap();
        world
    };
    let receive = |world: &mut World, call: u32| {
        let mut input = BytesMut::from(&raw_call(u64::from(max) + 1, call)[..]);
        let now = world.now;
        world.agent.connection.receive(&mut input, now)
    };
    let mut world = answered();
    assert_eq!(receive(&mut world, max + 1), Err(Violation::BadCall));
    let mut world = answered();
    assert_eq!(
        receive(&mut world, 1),
        Err(Violation::BadCall),
        "its answer is not sent yet"
    );
    let mut world = answered();
    while world.agent.connection.poll_transmit().is_some() {}
    assert_eq!(receive(&mut world, max + 1), Ok(()));
}

#[test]
fn what_comes_in_is_acknowledged_after_a_while_and_not_frame_by_frame() {
    let data = |number| raw(0x13, number, &[&[0, 0, 0, 1][..], &[1; 16_000]].concat());
    let mut world = received(&[raw_open(1, 1), data(2), data(3)]).unwrap();
    assert_eq!(world.agent.connection.poll_transmit(), None);
    let due = world.agent.connection.next_timeout().unwrap();
    world.agent.connection.handle_timeout(due);
    let acknowledged = world.agent.connection.poll_transmit().unwrap();
    assert_eq!(acknowledged, raw(0x01, 0, &[0, 0, 0, 0, 0, 0, 0, 3]));
    assert_eq!(world.agent.connection.poll_transmit(), None);
}

//! A small session whose link is cut at every single byte, and goes on.

use std::time::Duration;

use bytes::Bytes;
use wire::{
    Answer, CloseReason, Connection, DnsFailure, DnsQuery, Endpoint, Errno, Event, IncomingMode,
    Link, Notice, OpenRequest, Opened, Read, Request, Role, StreamId, Subscribed, Subscription,
};

use crate::world::{GRACE, World};

/// What the client asks of the world: one of everything.
struct Story {
    answered: Vec<String>,
    echoed: Vec<u8>,
    stolen: Vec<u8>,
    ended: bool,
    echo: Option<StreamId>,
}

fn tcp(port: u16) -> OpenRequest {
    OpenRequest::Tcp {
        destination: Endpoint::Name {
            host: "shop".into(),
            port,
        },
    }
}

impl Story {
    fn begin(world: &mut World) -> Self {
        let connection = &mut world.client.connection;
        let echo = connection.open(tcp(80)).unwrap();
        assert_eq!(connection.write(echo, b"one two three"), Ok(13));
        connection.finish(echo);
        connection.open(tcp(81)).unwrap();
        let name = "db".into();
        let query = DnsQuery { name, kind: 1 };
        connection.call(Request::Dns(query)).unwrap();
        let subscription = Subscription {
            id: 7,
            port: 80,
            mode: IncomingMode::Mirror,
            end_established: false,
        };
        connection.call(Request::Subscribe(subscription)).unwrap();
        Self {
            answered: Vec::new(),
            echoed: Vec::new(),
            stolen: Vec::new(),
            ended: false,
            echo: Some(echo),
        }
    }

    fn act(&mut self, world: &mut World) {
        while let Some(event) = world.agent.events.pop_front() {
            self.act_as_agent(world, event);
        }
        while let Some(event) = world.client.events.pop_front() {
            self.act_as_client(world, event);
        }
    }

    fn act_as_agent(&mut self, world: &mut World, event: Event) {
        let connection = &mut world.agent.connection;
        match event {
            Event::Requested { stream, request } if request == tcp(80) => {
                connection.accept(stream, Opened::default());
            }
            Event::Requested { stream, .. } => connection.refuse(stream, Errno::ECONNREFUSED),
            Event::Readable(stream) => loop {
                match connection.read(stream, 4).unwrap() {
                    Read::Data(bytes) => {
                        assert_eq!(connection.write(stream, &bytes), Ok(bytes.len()));
                    }
                    Read::End => {
                        connection.finish(stream);
                        break connection.release(stream);
                    }
                    Read::Nothing => break,
                    Read::Datagram(..) => panic!("a stream of bytes"),
                }
            },
            Event::Called { call, request } => match request {
                Request::Dns(_) => {
                    let answer = Answer::Dns(Err(DnsFailure::NoSuchName));
                    connection.answer(call, answer).unwrap();
                }
                Request::Subscribe(subscription) => {
                    let subscribed = Subscribed {
                        left_established: 0,
                        ended_established: 0,
                    };
                    let answer = Answer::Subscribe(Ok(subscribed));
                    connection.answer(call, answer).unwrap();
                    let stream = connection.open(OpenRequest::Incoming {
                        subscription: subscription.id,
                        peer: "10.0.0.1:5".parse().unwrap(),
                        local: "10.0.0.2:80".parse().unwrap(),
                        copy: true,
                    });
                    let stream = stream.unwrap();
                    assert_eq!(connection.write(stream, b"stolen"), Ok(6));
                    connection.finish(stream);
                    connection.release(stream);
                    assert!(connection.notify(Notice::CopiesDropped {
                        subscription: 7,
                        connections: 1,
                    }));
                }
                Request::Unsubscribe { .. } => panic!("not asked"),
            },
            Event::Answered { .. } | Event::Writable(_) => {}
            Event::CallAnswered { .. } | Event::Noticed(_) | Event::LinkLost | Event::Closed(_) => {
                panic!("{event:?}")
            }
        }
    }

    fn act_as_client(&mut self, world: &mut World, event: Event) {
        let connection = &mut world.client.connection;
        match event {
            Event::Answered { stream, answer } => {
                self.answered.push(format!("{answer:?}"));
                if answer.is_err() {
                    connection.release(stream);
                }
            }
            Event::CallAnswered { answer, .. } => self.answered.push(format!("{answer:?}")),
            Event::Noticed(notice) => self.answered.push(format!("{notice:?}")),
            Event::Requested { stream, .. } => connection.accept(stream, Opened::default()),
            Event::Readable(stream) => loop {
                let echo = self.echo == Some(stream);
                match connection.read(stream, 100) {
                    Ok(Read::Data(bytes)) if echo => self.echoed.extend(bytes),
                    Ok(Read::Data(bytes)) => self.stolen.extend(bytes),
                    Ok(Read::End) => {
                        connection.finish(stream);
                        connection.release(stream);
                        self.ended |= !echo;
                        break;
                    }
                    Ok(Read::Nothing) | Err(_) => break,
                    Ok(Read::Datagram(..)) => panic!("a stream of bytes"),
                }
            },
            Event::Writable(_) => {}
            Event::Called { .. } | Event::LinkLost | Event::Closed(_) => panic!("{event:?}"),
        }
    }

    fn is_told(&self, world: &World) -> bool {
        self.ended
            && self.echoed.len() == 13
            && self.answered.len() == 5
            && world.client.connection.streams() + world.agent.connection.streams() == 0
    }

    /// The order of answers about different things is the network's; what they say is not.
    fn check(mut self) {
        assert_eq!(self.echoed, b"one two three");
        assert_eq!(self.stolen, b"stolen");
        self.answered.sort();
        assert_eq!(
            self.answered,
            [
                "CopiesDropped { subscription: 7, connections: 1 }",
                "Dns(Err(NoSuchName))",
                "Err(Errno(111))",
                "Ok(Opened { local: None, peer: None })",
                "Subscribe(Ok(Subscribed { left_established: 0, ended_established: 0 }))",
            ]
        );
    }
}

/// Tells the story with cuts after so many bytes each; how many bytes arrived in all.
fn tell(cuts: &[u64], piece: usize) -> u64 {
    let mut world = World::new();
    world.piece = piece;
    let mut cuts = cuts.iter().copied();
    world.cut_after = cuts.next();
    let mut story = Story::begin(&mut world);
    let mut seen = 0;
    world.run_until(Duration::from_secs(300), |world| {
        story.act(world);
        if world.cuts > seen {
            seen = world.cuts;
            // Sides do things while they are apart, too.
            story.act(world);
            world.now += Duration::from_secs(30);
            world.link();
            world.cut_after = cuts.next();
        }
        story.is_told(world)
    });
    story.check();
    if !world.client.connection.is_linked() {
        world.link();
    }
    world.cut_after = None;
    // All is acknowledged in the end, and nothing is held any more.
    world.run_until(Duration::from_secs(1), |world| {
        world.client.connection.held() + world.agent.connection.held() == 0
    });
    world.arrived()
}

#[test]
fn a_session_survives_a_cut_at_every_byte() {
    let bytes = tell(&[], usize::MAX);
    assert!((300..3000).contains(&bytes), "{bytes}");
    for cut in 1..=bytes {
        tell(&[cut], usize::MAX);
    }
}

#[test]
fn a_session_survives_a_second_cut_at_every_byte_after_the_first() {
    for cut in [40, 150, 260] {
        for second in 1..=200 {
            tell(&[cut, second], 7);
        }
    }
}

#[test]
fn bytes_arrive_one_by_one_as_well() {
    tell(&[], 1);
}

#[test]
fn a_large_frame_is_said_again_whole_wherever_its_link_was_cut() {
    let sent: Vec<u8> = (0..5000_usize).map(|at| (at % 251) as u8).collect();
    for cut in (1..100).chain((100..5000).step_by(97)) {
        let mut world = World::new();
        // Less than the frame's beginning, so that the cut comes between it and the rest as well.
        world.width = 1;
        world.cut_after = Some(cut);
        let stream = world.client.connection.open(tcp(80)).unwrap();
        let mut piece = Bytes::from(sent.clone());
        assert_eq!(
            world.client.connection.write_piece(stream, &mut piece),
            Ok(())
        );
        assert!(piece.is_empty(), "there is room");
        let mut got = Vec::new();
        world.run_until(Duration::from_secs(60), |world| {
            if !world.client.connection.is_linked() {
                world.link();
            }
            while let Ok(Read::Data(bytes)) = world.agent.connection.read(stream, 1000) {
                got.extend(bytes);
            }
            got.len() >= sent.len()
        });
        assert_eq!(world.cuts, 1, "cut after {cut}");
        assert!(got == sent, "cut after {cut}");
    }
}

#[test]
fn a_silent_link_is_given_up_and_a_long_grace_ends() {
    let mut world = World::new();
    world.delay = Duration::from_secs(1_000_000);
    let seconds = |count| Duration::from_secs(count);
    let began = world.now;
    world.run_until(seconds(15), |world| {
        world.agent.events.contains(&Event::LinkLost)
    });
    assert!(world.now - began >= seconds(11), "too soon");
    assert!(!world.agent.connection.is_linked());
    world.now += GRACE - seconds(1);
    world.step();
    assert!(!world.agent.connection.is_closed(), "too soon");
    world.now += seconds(1);
    world.step();
    assert!(world.agent.connection.is_closed());
    assert_eq!(
        world.agent.events.back(),
        Some(&Event::Closed(CloseReason::GraceExpired))
    );
}

#[test]
fn a_session_knows_when_it_has_to_look_at_the_time() {
    let seconds = Duration::from_secs;
    let mut connection = Connection::new(Role::Client, seconds(600), seconds(1000));
    assert_eq!(connection.next_timeout(), Some(seconds(1600)), "its grace");
    let link = Link {
        version: 1,
        peer_received: 0,
    };
    connection.attach(link, seconds(1100)).unwrap();
    assert_eq!(connection.next_timeout(), Some(seconds(1104)), "silence");
    connection.detach(seconds(1200));
    assert_eq!(connection.next_timeout(), Some(seconds(1800)), "its grace");
    connection.handle_timeout(seconds(1799));
    assert!(!connection.is_closed());
    connection.handle_timeout(seconds(1800));
    assert!(connection.is_closed());
    assert_eq!(connection.next_timeout(), None);
}

#[test]
fn a_session_is_untouched_until_the_other_side_is_heard_or_confirms_something() {
    let mut world = World::new();
    let untouched = |world: &World| {
        let (client, agent) = (&world.client.connection, &world.agent.connection);
        (client.is_untouched(), agent.is_untouched())
    };
    assert_eq!(untouched(&world), (true, true));
    world.client.connection.open(tcp(80)).unwrap();
    world.run_until(Duration::from_secs(1), |world| {
        !world.agent.events.is_empty()
    });
    assert_eq!(untouched(&world), (true, false), "the agent has heard");
    world.run_until(Duration::from_secs(1), |world| {
        !world.client.connection.is_untouched()
    });
    assert_eq!(world.client.connection.received(), 0, "it was confirmed");
}

#[test]
fn keepalive_keeps_an_idle_link() {
    let mut world = World::new();
    for _ in 0..120_000 {
        world.step();
    }
    assert!(world.client.connection.is_linked() && world.agent.connection.is_linked());
}

#[test]
fn a_close_reaches_the_other_side_with_its_reason() {
    let mut world = World::new();
    world.client.connection.close(CloseReason::Done);
    world.run_until(Duration::from_secs(1), |world| {
        world
            .agent
            .events
            .contains(&Event::Closed(CloseReason::Done))
    });
}

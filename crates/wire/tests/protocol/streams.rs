//! One stream as its two sides see it: what it says of itself, how it is cut, and whose turn it is.

use wire::{Errno, Read};

use crate::limits::{run, stream, tcp};
use crate::world::World;

#[test]
fn there_is_room_for_as_much_as_is_taken() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    let client = &mut world.client.connection;
    let room = client.room(stream).unwrap();
    assert_eq!(client.write(stream, &vec![1; room - 1]), Ok(room - 1));
    assert_eq!(client.room(stream), Ok(1));
    assert_eq!(client.write(stream, b"two"), Ok(1));
    assert_eq!(client.room(stream), Ok(0));
}

#[test]
fn a_reader_owes_credit_until_it_is_said() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    world.client.connection.write(stream, &[1; 30_000]).unwrap();
    run(&mut world, 50);
    let agent = &mut world.agent.connection;
    assert!(!agent.owes_credit());
    let Ok(Read::Data(_)) = agent.read(stream, usize::MAX) else {
        panic!("bytes came")
    };
    assert!(agent.owes_credit());
    assert!(agent.poll_transmit().is_some());
    assert!(!agent.owes_credit());
}

#[test]
fn a_stream_that_is_cut_says_why_to_its_other_side() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    assert_eq!(world.agent.connection.broken(stream), None);
    world.client.connection.reset(stream, Errno::ETIMEDOUT);
    run(&mut world, 5);
    assert_eq!(
        world.agent.connection.broken(stream),
        Some(Errno::ETIMEDOUT)
    );
    assert_eq!(
        world.agent.connection.read(stream, 10),
        Err(Errno::ETIMEDOUT)
    );
    world.agent.connection.release(stream);
    assert_eq!(
        world.agent.connection.broken(stream),
        Some(Errno::ECONNRESET),
        "there is no such stream"
    );
}

#[test]
fn a_stream_that_has_ended_in_one_direction_can_be_cut() {
    let mut world = World::new();
    let stream = stream(&mut world, tcp());
    world.client.connection.finish(stream);
    run(&mut world, 5);
    world.client.connection.reset(stream, Errno::ETIMEDOUT);
    run(&mut world, 5);
    let agent = &mut world.agent.connection;
    assert_eq!(agent.read(stream, 10), Ok(Read::End), "it was whole");
    assert_eq!(agent.write(stream, b"answer"), Err(Errno::ETIMEDOUT));
}

#[test]
fn many_writes_are_one_turn() {
    let mut world = World::new();
    let client = &mut world.client.connection;
    let (busy, other) = (client.open(tcp()).unwrap(), client.open(tcp()).unwrap());
    for _ in 0..4 {
        client.write(busy, &[1; 8 * 1024]).unwrap();
    }
    client.write(other, b"a word").unwrap();
    let spoke: Vec<u8> = std::iter::from_fn(|| client.poll_transmit())
        .filter(|frame| frame.len() > 16 && frame[4] == 0x13)
        .map(|frame| frame[16])
        .collect();
    assert_eq!(spoke, [1, 3, 1], "the names of the streams");
}

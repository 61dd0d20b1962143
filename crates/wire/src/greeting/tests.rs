//! Greetings between real sides, strangers, wrong keys and changed bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::key::AgentKey;

const SESSION: SessionId = SessionId([9; 16]);

fn agent_key() -> AgentKey {
    AgentKey::new([1; 32])
}

fn key_of(session: &SessionId) -> Option<SessionKey> {
    Some(agent_key().session_key(session))
}

fn begin(key: SessionKey, start: Start) -> (ClientGreeting, Bytes) {
    ClientGreeting::begin(SESSION, key, Nonce([2; 32]), start)
}

fn sent(step: AgentStep) -> Bytes {
    match step {
        AgentStep::Send(bytes) => bytes,
        AgentStep::Wait | AgentStep::Proven(_) => panic!("{step:?}"),
    }
}

/// Carries the greeting to its end; `change` may change each message on the way.
fn greet(
    key: SessionKey,
    start: Start,
    mut change: impl FnMut(usize, &mut Vec<u8>),
) -> Result<(Link, Link), GreetingError> {
    let mut count = 0;
    let mut carry = |bytes: Bytes| {
        let mut bytes = bytes.to_vec();
        change(count, &mut bytes);
        count += 1;
        BytesMut::from(&bytes[..])
    };
    let (mut client, hello) = begin(key, start);
    let mut agent = AgentGreeting::new(Nonce([3; 32]));
    let challenge = agent.receive(&mut carry(hello), key_of)?;
    let proof = client.receive(&mut carry(sent(challenge)))?;
    let ClientStep::Send(proof) = proof else {
        panic!("{proof:?}")
    };
    let proven = match agent.receive(&mut carry(proof), key_of)? {
        AgentStep::Proven(proven) => proven,
        step @ (AgentStep::Wait | AgentStep::Send(_)) => panic!("{step:?}"),
    };
    assert_eq!((proven.session(), proven.start()), (SESSION, start));
    let (welcome, agent_link) = proven.welcome(5);
    match client.receive(&mut carry(welcome))? {
        ClientStep::Linked(client_link) => Ok((client_link, agent_link)),
        step @ (ClientStep::Wait | ClientStep::Send(_)) => panic!("{step:?}"),
    }
}

#[test]
fn both_sides_learn_where_the_other_stopped() {
    let key = agent_key().session_key(&SESSION);
    let start = Start::Resumed { received: 7 };
    let (client, agent) = greet(key, start, |_, _| ()).unwrap();
    assert_eq!(client.peer_received, 5);
    assert_eq!(agent.peer_received, 7);
    assert_eq!((client.version, agent.version), (1, 1));
}

#[test]
fn a_client_without_the_key_is_refused_and_told() {
    let error = greet(SessionKey::new([4; 32]), Start::Fresh, |_, _| ()).unwrap_err();
    let refusal = Refusal::NotProven;
    assert_eq!(error, GreetingError::Refuse { refusal });
    let mut answer = BytesMut::from(&error.answer().unwrap()[..]);
    let (mut client, _) = begin(SessionKey::new([4; 32]), Start::Fresh);
    assert_eq!(
        client.receive(&mut answer),
        Err(GreetingError::Refused { refusal })
    );
}

#[test]
fn an_agent_without_the_key_is_not_believed() {
    let (mut client, _) = begin(SessionKey::new([4; 32]), Start::Fresh);
    let challenge = build(kind::CHALLENGE, 0, 34, |out| {
        out.put_u16(1);
        out.put_slice(&[0; 32]);
    });
    client.receive(&mut BytesMut::from(&challenge[..])).unwrap();
    let welcome = build(kind::WELCOME, 0, 40, |out| {
        out.put_u64(0);
        out.put_slice(&[0; 32]);
    });
    assert_eq!(
        client.receive(&mut BytesMut::from(&welcome[..])),
        Err(GreetingError::AgentNotProven)
    );
}

#[test]
fn no_byte_of_a_greeting_can_be_changed_unseen() {
    let key = agent_key().session_key(&SESSION);
    let start = Start::Resumed { received: 7 };
    let mut lengths = Vec::new();
    greet(key.clone(), start, |_, bytes| lengths.push(bytes.len())).unwrap();
    for (message, length) in lengths.into_iter().enumerate() {
        // The header's length only makes a side wait for more.
        for at in 4..length {
            let outcome = greet(key.clone(), start, |index, bytes| {
                if index == message {
                    bytes[at] ^= 0x01;
                }
            });
            assert!(outcome.is_err(), "byte {at} of message {message}");
        }
    }
}

#[test]
fn a_proof_cannot_be_used_again() {
    let key = agent_key().session_key(&SESSION);
    let mut recorded = Vec::new();
    greet(key, Start::Fresh, |_, bytes| recorded.push(bytes.clone())).unwrap();
    let mut agent = AgentGreeting::new(Nonce([99; 32]));
    let mut hello = BytesMut::from(&recorded[0][..]);
    agent.receive(&mut hello, key_of).unwrap();
    let mut proof = BytesMut::from(&recorded[2][..]);
    let refusal = Refusal::NotProven;
    assert_eq!(
        agent.receive(&mut proof, key_of).unwrap_err(),
        GreetingError::Refuse { refusal }
    );
}

#[test]
fn versions_that_do_not_meet_are_told() {
    let hello = |oldest: u16, newest: u16| {
        let hello = build(kind::HELLO, 0, 64, |out| {
            out.put_slice(&MAGIC);
            out.put_u16(oldest);
            out.put_u16(newest);
            SESSION.put(out);
            Nonce([0; 32]).put(out);
        });
        AgentGreeting::new(Nonce([3; 32])).receive(&mut BytesMut::from(&hello[..]), key_of)
    };
    assert!(hello(1, 1).is_ok());
    assert!(hello(0, 900).is_ok());
    let (oldest, newest) = (VERSION_OLDEST, VERSION_NEWEST);
    for (too_old, too_new) in [(0, 0), (2, 9), (9, 1)] {
        let refusal = Refusal::Version { oldest, newest };
        assert_eq!(
            hello(too_old, too_new).unwrap_err(),
            GreetingError::Refuse { refusal }
        );
    }
}

#[test]
fn strangers_are_told_apart_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9\r\n",
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0],
        &[0; 64],
    ] {
        let mut agent = AgentGreeting::new(Nonce([3; 32]));
        let outcome = agent.receive(&mut BytesMut::from(bytes), key_of);
        assert_eq!(outcome.unwrap_err(), GreetingError::Stranger, "{bytes:?}");
    }
}

#[test]
fn a_greeting_comes_in_pieces_as_well() {
    let (_, hello) = begin(agent_key().session_key(&SESSION), Start::Fresh);
    let mut agent = AgentGreeting::new(Nonce([3; 32]));
    let mut input = BytesMut::new();
    for byte in &hello[..hello.len() - 1] {
        input.put_u8(*byte);
        let step = agent.receive(&mut input, key_of).unwrap();
        assert!(matches!(step, AgentStep::Wait));
    }
    input.put_u8(hello[hello.len() - 1]);
    sent(agent.receive(&mut input, key_of).unwrap());
}

//! The bytes of every frame and message, written out. A change here is another version of the protocol.

use std::net::SocketAddr;

use super::*;
use crate::message::{
    DnsFailure, DnsQuery, DnsRecord, Endpoint, HttpFilter, IncomingMode, OnConcurrentSteal,
    SubscribeFailure, Subscribed, Subscription,
};

const STREAM: StreamId = StreamId(0x0102_0304);
const CALL: CallId = CallId(9);

fn v4() -> SocketAddr {
    "10.1.2.3:8080".parse().unwrap()
}

fn v6() -> SocketAddr {
    "[fe80::1%5]:53".parse().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(request: OpenRequest) -> Frame {
    Frame::Open {
        stream: STREAM,
        request,
    }
}

fn call(request: Request) -> Frame {
    Frame::Call {
        call: CALL,
        request,
    }
}

fn answer(answer: Answer) -> Frame {
    Frame::Answer { call: CALL, answer }
}

/// Kind and payload of every frame without a message in it.
fn plain_frames() -> Vec<(Frame, &'static str)> {
    let stream = STREAM;
    vec![
        (Frame::Ack { through: 258 }, "01 0000000000000102"),
        (Frame::Ping { token: 1 }, "02 0000000000000001"),
        (Frame::Pong { token: 1 }, "03 0000000000000001"),
        (Frame::Close(CloseReason::Done), "04 01"),
        (Frame::Close(CloseReason::ShuttingDown), "04 02"),
        (Frame::Close(CloseReason::GraceExpired), "04 03"),
        (
            Frame::Close(CloseReason::Violation { how: "é".into() }),
            "04 04 00000002 c3a9",
        ),
        (Frame::Close(CloseReason::Lost), "04 05"),
        (
            Frame::Refused {
                stream,
                errno: Errno::ECONNREFUSED,
            },
            "12 01020304 006f",
        ),
        (
            Frame::Data {
                stream,
                bytes: Bytes::from_static(b"hi"),
            },
            "13 01020304 6869",
        ),
        (
            Frame::Datagram {
                stream,
                address: v4(),
                bytes: Bytes::from_static(b"hi"),
            },
            "14 01020304 04 0a010203 1f90 6869",
        ),
        (
            Frame::Credit {
                stream,
                bytes: 65_536,
            },
            "15 01020304 00010000",
        ),
        (Frame::Finish { stream }, "16 01020304"),
        (
            Frame::Reset {
                stream,
                errno: Errno::ECONNRESET,
            },
            "17 01020304 0068",
        ),
    ]
}

fn opens() -> Vec<(Frame, &'static str)> {
    let by_name = Endpoint::Name {
        host: "db".into(),
        port: 5432,
    };
    vec![
        (
            open(OpenRequest::Tcp {
                destination: Endpoint::Address(v4()),
            }),
            "10 01020304 01 01 04 0a010203 1f90",
        ),
        (
            open(OpenRequest::Tcp {
                destination: by_name,
            }),
            "10 01020304 01 02 00000002 6462 1538",
        ),
        (
            open(OpenRequest::Udp {
                connected: Some(v6()),
                version_6: true,
            }),
            "10 01020304 02 01 06 fe800000000000000000000000000001 0035 00000005 01",
        ),
        (
            open(OpenRequest::Udp {
                connected: None,
                version_6: false,
            }),
            "10 01020304 02 00 00",
        ),
        (
            open(OpenRequest::Unix {
                path: Bytes::from_static(b"\0x"),
            }),
            "10 01020304 03 00000002 0078",
        ),
        (open(OpenRequest::Environ), "10 01020304 04"),
        (
            open(OpenRequest::Incoming {
                subscription: 7,
                peer: v4(),
                local: v4(),
                copy: true,
            }),
            "10 01020304 05 00000007 04 0a010203 1f90 04 0a010203 1f90 01",
        ),
        (
            Frame::Opened {
                stream: STREAM,
                opened: Opened {
                    local: None,
                    peer: Some(v4()),
                },
            },
            "11 01020304 00 01 04 0a010203 1f90",
        ),
    ]
}

fn calls() -> Vec<(Frame, &'static str)> {
    let steal = IncomingMode::Steal {
        filter: Some(HttpFilter::AllOf(vec![
            HttpFilter::Header("a".into()),
            HttpFilter::AnyOf(vec![
                HttpFilter::Path("b".into()),
                HttpFilter::Method("c".into()),
            ]),
        ])),
        on_concurrent: OnConcurrentSteal::Abort,
    };
    let whole = |on_concurrent| IncomingMode::Steal {
        filter: None,
        on_concurrent,
    };
    let subscribe = |mode| {
        call(Request::Subscribe(Subscription {
            id: 7,
            port: 80,
            mode,
            end_established: true,
        }))
    };
    vec![
        (
            call(Request::Dns(DnsQuery {
                name: "db".into(),
                kind: 28,
            })),
            "20 00000009 01 00000002 6462 001c",
        ),
        (
            subscribe(IncomingMode::Mirror),
            "20 00000009 02 00000007 0050 01 01",
        ),
        (
            subscribe(steal),
            "20 00000009 02 00000007 0050 02 01 04 0002 01 00000001 61 05 0002 02 00000001 62 03 00000001 63 01 01",
        ),
        (
            subscribe(whole(OnConcurrentSteal::Continue)),
            "20 00000009 02 00000007 0050 02 00 02 01",
        ),
        (
            subscribe(whole(OnConcurrentSteal::Override)),
            "20 00000009 02 00000007 0050 02 00 03 01",
        ),
        (
            call(Request::Unsubscribe { subscription: 7 }),
            "20 00000009 03 00000007",
        ),
    ]
}

fn answers() -> Vec<(Frame, &'static str)> {
    let dns_failure = |failure| answer(Answer::Dns(Err(failure)));
    let failure = |failure| answer(Answer::Subscribe(Err(failure)));
    let record = DnsRecord {
        name: "db.".into(),
        kind: 1,
        ttl_seconds: 30,
        data: Bytes::from_static(&[10, 1, 2, 3]),
    };
    let subscribed = Subscribed {
        left_established: 1,
        ended_established: 2,
    };
    vec![
        (
            answer(Answer::Dns(Ok(vec![record]))),
            "21 00000009 01 01 0001 00000003 64622e 0001 0000001e 00000004 0a010203",
        ),
        (dns_failure(DnsFailure::NoSuchName), "21 00000009 01 00 01"),
        (
            dns_failure(DnsFailure::ServerFailed),
            "21 00000009 01 00 02",
        ),
        (dns_failure(DnsFailure::Refused), "21 00000009 01 00 03"),
        (dns_failure(DnsFailure::TimedOut), "21 00000009 01 00 04"),
        (dns_failure(DnsFailure::BadName), "21 00000009 01 00 05"),
        (
            answer(Answer::Subscribe(Ok(subscribed))),
            "21 00000009 02 01 00000001 00000002",
        ),
        (
            failure(SubscribeFailure::NotPermitted { needs: "a".into() }),
            "21 00000009 02 00 01 00000001 61",
        ),
        (
            failure(SubscribeFailure::Unsupported { lacks: "a".into() }),
            "21 00000009 02 00 02 00000001 61",
        ),
        (failure(SubscribeFailure::Taken), "21 00000009 02 00 03"),
        (failure(SubscribeFailure::Repeated), "21 00000009 02 00 04"),
        (
            failure(SubscribeFailure::BadFilter { why: "a".into() }),
            "21 00000009 02 00 05 00000001 61",
        ),
        (failure(SubscribeFailure::TooMany), "21 00000009 02 00 06"),
        (
            failure(SubscribeFailure::System {
                tried: "a".into(),
                errno: Errno::EACCES,
            }),
            "21 00000009 02 00 07 00000001 61 000d",
        ),
        (answer(Answer::Unsubscribe), "21 00000009 03"),
        (
            Frame::Notice(Notice::CopiesDropped {
                subscription: 7,
                connections: 3,
            }),
            "22 01 00000007 0000000000000003",
        ),
        (
            Frame::Notice(Notice::SubscriptionEnded {
                subscription: 7,
                why: "a".into(),
            }),
            "22 02 00000007 00000001 61",
        ),
    ]
}

fn all() -> Vec<(Frame, &'static str)> {
    [plain_frames(), opens(), calls(), answers()].concat()
}

#[test]
fn every_frame_has_these_bytes() {
    for (frame, golden) in all() {
        let encoded = frame.encode(3);
        let golden = golden.replace(' ', "");
        let (kind, payload) = golden.split_at(2);
        let length = format!("{:08x}", payload.len() / 2);
        assert_eq!(
            hex(&encoded),
            format!("{length}{kind}0000000000000003{payload}"),
            "{frame:?}"
        );
        let mut input = BytesMut::from(&encoded[..]);
        let (header, payload) = split(&mut input, PAYLOAD_MAX).unwrap().unwrap();
        assert_eq!(header.number, 3);
        assert_eq!(Frame::decode(header.kind, payload), Ok(frame));
    }
}

#[test]
fn a_payload_cut_anywhere_or_with_a_byte_too_many_is_an_error() {
    for (frame, _) in all() {
        let encoded = frame.encode(0);
        let (kind, payload) = (encoded[4], encoded.slice(HEADER_BYTES..));
        let takes_the_rest = matches!(frame, Frame::Data { .. } | Frame::Datagram { .. });
        for cut in 0..payload.len() {
            let outcome = Frame::decode(kind, payload.slice(..cut));
            assert!(takes_the_rest || outcome.is_err(), "{frame:?} cut to {cut}");
        }
        let longer = Bytes::from([&payload[..], &[0]].concat());
        let outcome = Frame::decode(kind, longer);
        assert!(takes_the_rest || outcome.is_err(), "{frame:?}");
    }
}

#[test]
fn a_frame_waits_for_its_last_byte_and_leaves_the_next_one() {
    let frame = Frame::Ping { token: 5 }.encode(0);
    let mut input = BytesMut::new();
    for byte in &frame[..frame.len() - 1] {
        input.put_u8(*byte);
        assert_eq!(split(&mut input, PAYLOAD_MAX), Ok(None));
    }
    input.put_slice(&frame[frame.len() - 1..]);
    input.put_slice(b"next");
    assert!(split(&mut input, PAYLOAD_MAX).unwrap().is_some());
    assert_eq!(&input[..], b"next");
}

#[test]
fn an_absurd_length_is_refused_before_it_has_come() {
    let mut input = BytesMut::from(&[0xff; HEADER_BYTES][..]);
    assert!(matches!(
        split(&mut input, PAYLOAD_MAX),
        Err(DecodeError::TooLong { .. })
    ));
}

#[test]
fn filters_nest_only_so_deep() {
    let nested = |depth| {
        let mut filter = HttpFilter::Path("x".into());
        for _ in 1..depth {
            filter = HttpFilter::AllOf(vec![filter]);
        }
        let mut bytes = BytesMut::new();
        filter.put(&mut bytes);
        HttpFilter::take_all(bytes.freeze(), "filter").is_ok()
    };
    assert!(nested(crate::FILTER_DEPTH_MAX));
    assert!(!nested(crate::FILTER_DEPTH_MAX + 1));
}

#[test]
fn bytes_of_a_stream_are_left_where_they_are_and_the_frame_is_the_same() {
    for length in [1, APART_MIN - 1, APART_MIN, DATA_MAX] {
        let bytes = Bytes::from(vec![7; length]);
        let frame = Frame::Data {
            stream: StreamId(9),
            bytes: bytes.clone(),
        };
        let whole = frame.encode(3);
        let (beginning, rest) = frame.encode_apart(3);
        assert_eq!([&beginning[..], &rest].concat(), whole, "{length}");
        let is_left = rest.as_ptr() == bytes.as_ptr();
        assert_eq!(is_left, length >= APART_MIN, "{length}");
    }
}

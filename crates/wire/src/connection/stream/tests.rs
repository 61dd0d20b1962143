//! The two halves of a stream at their bounds: what is taken, what may go, when the other side is asked again.

use std::net::Ipv4Addr;

use super::*;

const RESET: Errno = Errno(104);

fn somebody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 53))
}

fn zeros(count: usize) -> Bytes {
    Bytes::from(vec![0; count])
}

/// What a half gives next, as the number of its bytes; none where it gives none.
fn taken(half: &mut SendHalf) -> Option<usize> {
    match half.take()? {
        Outgoing::Data(bytes) | Outgoing::Datagram(_, bytes) => Some(bytes.len()),
        Outgoing::Finish | Outgoing::Reset(_) => None,
    }
}

#[test]
fn a_writer_finds_the_room_that_there_is_and_is_called_once_half_of_it_is_free() {
    let mut half = SendHalf::new(SEND_BUFFER_MAX);
    assert_eq!(
        half.write(&zeros(SEND_BUFFER_MAX - 3)),
        Ok(SEND_BUFFER_MAX - 3)
    );
    assert!(!half.writer_waits);
    assert_eq!(half.room(), Ok(3));
    assert!(!half.writer_waits, "there is room");
    let mut piece = zeros(5);
    half.write_piece(&mut piece).unwrap();
    assert_eq!(piece.len(), 2, "what there is no room for stays");
    assert!(half.writer_waits);
    half.writer_waits = false;
    assert_eq!((half.room(), half.held()), (Ok(0), SEND_BUFFER_MAX));
    assert!(half.writer_waits, "whoever asks is told later");
    assert_eq!(half.write(&zeros(1)), Ok(0));

    let mut left = SEND_BUFFER_MAX;
    while left > SEND_BUFFER_MAX / 2 {
        assert!(!half.take_writable(), "{left} bytes are left");
        left -= taken(&mut half).unwrap();
        assert_eq!(half.held(), left);
    }
    assert!(half.take_writable());
    assert!(!half.take_writable(), "it is asked once");
}

#[test]
fn data_goes_as_far_as_the_credit_and_in_frames_and_the_end_comes_last() {
    let mut half = SendHalf::new(DATA_MAX + 3);
    half.write(&zeros(DATA_MAX + 5)).unwrap();
    half.finish = Finish::Asked;
    let sizes = [taken(&mut half), taken(&mut half), taken(&mut half)];
    assert_eq!(sizes, [Some(DATA_MAX), Some(3), None]);
    assert_eq!((half.is_sendable(), half.finish), (false, Finish::Asked));
    half.grant(1).unwrap();
    assert_eq!(taken(&mut half), Some(1));
    half.grant(9).unwrap();
    assert_eq!(taken(&mut half), Some(1));
    assert!(!half.is_over());
    assert!(matches!(half.take(), Some(Outgoing::Finish)));
    assert!(half.is_over() && !half.is_sendable());
    assert!(half.take().is_none(), "the end is said once");
    assert_eq!(half.write(b"more"), Err(Errno::EPIPE));
}

#[test]
fn datagrams_are_kept_up_to_their_window_and_go_whole() {
    let cost = DATAGRAM_MAX + DATAGRAM_COST;
    let mut half = SendHalf::new(cost - 1);
    let largest = zeros(DATAGRAM_MAX);
    for _ in 0..2 {
        assert_eq!(half.write_datagram(somebody(), &largest), Ok(true));
    }
    assert_eq!(half.held(), DATAGRAM_WINDOW);
    assert_eq!(half.write_datagram(somebody(), b""), Ok(false), "dropped");
    assert!(!half.is_sendable() && half.take().is_none(), "a byte short");
    half.grant(1).unwrap();
    assert_eq!(taken(&mut half), Some(DATAGRAM_MAX));
    assert_eq!((half.held(), half.is_sendable()), (cost, false));
    half.grant(cost).unwrap();
    assert_eq!(taken(&mut half), Some(DATAGRAM_MAX));
    assert_eq!(half.write_datagram(somebody(), b""), Ok(true));
    assert!(!half.is_sendable(), "an empty one is not free");
    half.grant(DATAGRAM_COST).unwrap();
    assert_eq!((taken(&mut half), half.held()), (Some(0), 0));
}

#[test]
fn nobody_grants_more_than_the_largest_window() {
    let mut half = SendHalf::new(WINDOW);
    half.grant(WINDOW_MAX - WINDOW).unwrap();
    let more = half.grant(1);
    assert!(matches!(more, Err(Violation::CreditBeyondWindow)));
}

#[test]
fn a_dead_half_takes_nothing_gives_nothing_and_holds_nothing() {
    let mut half = SendHalf::new(WINDOW);
    half.write(b"said").unwrap();
    half.kill(RESET);
    half.kill(Errno::EPIPE);
    assert_eq!(half.write(b"more"), Err(RESET), "of the first cause");
    assert_eq!(half.write_datagram(somebody(), b""), Err(RESET));
    assert!(half.is_over() && !half.is_sendable() && half.take().is_none());
    assert_eq!(half.held(), 0);

    let mut said = SendHalf::new(WINDOW);
    said.finish = Finish::Asked;
    assert!(matches!(said.take(), Some(Outgoing::Finish)));
    said.kill(RESET);
    assert_eq!(said.dead, None, "it had said all it had to say");

    let mut half = ReceiveHalf::new(WINDOW);
    half.take_in(zeros(4)).unwrap();
    half.kill(RESET);
    assert_eq!((half.read(9), half.held()), (Err(RESET), 0));
    half.take_in(zeros(4)).unwrap();
    half.take_in_datagram(somebody(), &zeros(4)).unwrap();
    assert_eq!(half.held(), 0, "nobody will read it");
    assert!(half.is_over());
}

#[test]
fn the_other_side_sends_what_it_was_granted_and_nothing_after_its_end() {
    let mut half = ReceiveHalf::new(WINDOW);
    half.take_in(zeros(WINDOW)).unwrap();
    assert_eq!(half.held(), WINDOW);
    assert!(matches!(half.take_in(zeros(1)), Err(Violation::OverCredit)));
    half.finished = true;
    assert!(matches!(
        half.take_in(Bytes::new()),
        Err(Violation::AfterFinish)
    ));

    let mut half = ReceiveHalf::new(DATAGRAM_WINDOW);
    for _ in 0..2 {
        half.take_in_datagram(somebody(), &zeros(DATAGRAM_MAX))
            .unwrap();
    }
    assert_eq!(half.held(), DATAGRAM_WINDOW);
    let more = half.take_in_datagram(somebody(), &Bytes::new());
    assert!(
        matches!(more, Err(Violation::OverCredit)),
        "an empty one is not free"
    );
}

#[test]
fn a_reader_gets_what_came_then_the_end_and_is_called_once_where_it_found_nothing() {
    let mut half = ReceiveHalf::new(WINDOW);
    assert!(
        half.take_readable() && !half.take_readable(),
        "the first bytes are news"
    );
    assert_eq!(half.read(9), Ok(Read::Nothing));
    assert!(half.take_readable() && !half.take_readable());
    half.take_in(zeros(5)).unwrap();
    assert_eq!(half.read(3), Ok(Read::Data(zeros(3))));
    assert_eq!(half.held(), 2);
    assert!(!half.is_over());
    half.finished = true;
    assert!(half.is_over(), "of what comes, not of what is read");
    assert_eq!(half.read(3), Ok(Read::Data(zeros(2))));
    assert_eq!(half.read(3), Ok(Read::End));
    assert!(!half.take_readable(), "nothing follows an end");

    let mut half = ReceiveHalf::new(DATAGRAM_WINDOW);
    half.take_in_datagram(somebody(), &zeros(2)).unwrap();
    assert_eq!(
        half.read(1),
        Ok(Read::Datagram(somebody(), zeros(2))),
        "whole"
    );
    assert_eq!(half.held(), 0);
}

#[test]
fn credit_is_given_back_half_a_window_at_a_time_for_what_was_read() {
    let mut half = ReceiveHalf::new(WINDOW);
    assert_eq!(half.take_grant(), 0);
    half.take_in(zeros(WINDOW)).unwrap();
    assert_eq!(half.take_grant(), 0, "nothing was read");
    half.read(WINDOW / 2 - 1).unwrap();
    assert_eq!(half.take_grant(), 0, "not worth a frame");
    half.read(1).unwrap();
    assert_eq!(half.take_grant(), WINDOW / 2);
    assert_eq!(half.take_grant(), 0, "it was given");
    half.take_in(zeros(WINDOW / 2)).unwrap();
    assert!(matches!(half.take_in(zeros(1)), Err(Violation::OverCredit)));

    for is_reset in [false, true] {
        let mut half = ReceiveHalf::new(WINDOW);
        half.take_in(zeros(WINDOW)).unwrap();
        while half.held() > 0 {
            half.read(WINDOW).unwrap();
        }
        if is_reset {
            half.kill(RESET);
        } else {
            half.finished = true;
        }
        assert_eq!(half.take_grant(), 0, "nobody would use it");
    }
}

#[test]
fn a_window_doubles_for_a_reader_that_keeps_up_and_never_beyond_its_limit() {
    let mut half = ReceiveHalf::new(WINDOW);
    let pass = |half: &mut ReceiveHalf, count: usize| {
        half.take_in(zeros(count)).unwrap();
        while half.held() > 0 {
            half.read(count).unwrap();
        }
    };
    pass(&mut half, WINDOW - 1);
    assert!(!half.wants_growth(), "less than its window was read");
    pass(&mut half, 1);
    assert!(half.wants_growth());
    half.take_grant();
    half.take_in(zeros(2)).unwrap();
    half.read(1).unwrap();
    assert!(!half.wants_growth(), "something waits to be read");
    half.read(1).unwrap();
    assert_eq!((half.grow(), half.extra()), (WINDOW, WINDOW));
    assert!(!half.wants_growth(), "counted anew");

    let mut window = 2 * WINDOW;
    while window < WINDOW_MAX {
        half.take_grant();
        pass(&mut half, window);
        assert!(half.wants_growth(), "{window}");
        window += half.grow();
        assert_eq!(half.extra(), window - WINDOW);
    }
    assert_eq!(window, WINDOW_MAX);
    half.take_grant();
    pass(&mut half, WINDOW_MAX);
    assert!(!half.wants_growth());

    let mut half = ReceiveHalf::new(DATAGRAM_WINDOW);
    for _ in 0..2 {
        half.take_in_datagram(somebody(), &zeros(DATAGRAM_MAX))
            .unwrap();
        half.read(DATAGRAM_MAX).unwrap();
    }
    assert!(!half.wants_growth(), "that of datagrams never grows");
}

#[test]
fn there_is_something_to_say_as_long_as_one_thing_is() {
    assert!(Control::default().is_empty());
    let full = [
        Control {
            answer: Some(Err(RESET)),
            ..Control::default()
        },
        Control {
            credit: 1,
            ..Control::default()
        },
        Control {
            reset: Some(RESET),
            ..Control::default()
        },
    ];
    for control in full {
        assert!(!control.is_empty(), "{control:?}");
    }
}

/// Memory is bounded by them, and both sides of a link of 100 ms count on them.
#[test]
fn a_stream_holds_no_more_than_it_says() {
    assert_eq!(SEND_BUFFER_MAX, 65_536);
    assert_eq!((WINDOW, WINDOW_MAX), (32_768, 2_097_152));
    assert_eq!(DATAGRAM_WINDOW, 131_142);
}

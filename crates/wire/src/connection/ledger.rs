//! What was said and may have to be said again: the numbered frames that the other side has not acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Violation;

/// Unacknowledged bytes after which nothing new is sent: what one session keeps for a lost link, and at 100 ms of round
/// trip 80 MB/s.
pub(super) const UNACKED_MAX: usize = 8 * 1024 * 1024;

/// Unacknowledged frames after which nothing new is sent: a frame of a few bytes costs its bookkeeping as well.
pub(super) const UNACKED_FRAMES_MAX: usize = 64 * 1024;

/// A frame in bytes: its beginning, and the rest of it, which is empty for most.
pub(super) type Frame = (Bytes, Bytes);

/// The frames sent and not acknowledged, in order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The number of the last frame that was recorded.
    last: u64,
    frames: VecDeque<Frame>,
    bytes: usize,
    /// How many of `frames` went out on this link.
    sent: usize,
}

impl Ledger {
    /// Whether something new has to wait for an acknowledgement.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= UNACKED_MAX || self.frames.len() >= UNACKED_FRAMES_MAX
    }

    /// The number of the next new frame.
    pub(super) fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// Keeps a new frame, which has the next number and goes out at once.
    pub(super) fn record(&mut self, frame: Frame) {
        debug_assert_eq!(self.sent, self.frames.len(), "old frames go first");
        self.last += 1;
        self.bytes += length(&frame);
        self.frames.push_back(frame);
        self.sent += 1;
    }

    /// The next frame that this link has not carried yet though an earlier one did.
    pub(super) fn repeat(&mut self) -> Option<Frame> {
        let frame = self.frames.get(self.sent)?.clone();
        self.sent += 1;
        Some(frame)
    }

    /// Forgets the frames up to `through`, which this link must have carried.
    pub(super) fn acknowledge(&mut self, through: u64) -> Result<(), Violation> {
        let acknowledged = self.acknowledged();
        let sent = acknowledged + self.sent as u64;
        if !(acknowledged..=sent).contains(&through) {
            return Err(Violation::Acknowledged { through, sent });
        }
        let gone = usize::try_from(through - acknowledged).expect("no more than are kept");
        for frame in self.frames.drain(..gone) {
            self.bytes -= length(&frame);
        }
        self.sent -= gone;
        Ok(())
    }

    /// Begins a new link, whose other side has received up to `through`; the rest is to be repeated.
    pub(super) fn resume(&mut self, through: u64) -> Result<(), Violation> {
        self.sent = self.frames.len();
        self.acknowledge(through)?;
        self.sent = 0;
        Ok(())
    }

    /// The number of the last frame that the other side is known to have.
    pub(super) fn acknowledged(&self) -> u64 {
        self.last - self.frames.len() as u64
    }

    /// Bytes that an earlier link carried and this one did not yet.
    pub(super) fn unrepeated(&self) -> usize {
        self.frames.range(self.sent..).map(length).sum()
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn length((beginning, rest): &Frame) -> usize {
    beginning.len() + rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u8) -> Frame {
        (
            Bytes::copy_from_slice(&[number]),
            Bytes::from_static(&[0; 9]),
        )
    }

    fn ledger_of(count: u8) -> Ledger {
        let mut ledger = Ledger::default();
        for number in 1..=count {
            assert_eq!(ledger.next_number(), number.into());
            ledger.record(frame(number));
        }
        ledger
    }

    #[test]
    fn it_is_full_at_its_limits_and_has_room_again_once_something_is_acknowledged() {
        let mut ledger = Ledger::default();
        assert!(!ledger.is_full());
        ledger.record((
            Bytes::from(vec![0; UNACKED_MAX - 2]),
            Bytes::from_static(&[0]),
        ));
        assert!(!ledger.is_full(), "one byte is left");
        ledger.record((Bytes::from_static(&[0]), Bytes::new()));
        assert!(ledger.is_full());
        ledger.acknowledge(1).unwrap();
        assert!(!ledger.is_full());

        let mut ledger = Ledger::default();
        for _ in 1..UNACKED_FRAMES_MAX {
            ledger.record(frame(0));
        }
        assert!(!ledger.is_full(), "one frame is left");
        ledger.record(frame(0));
        assert!(ledger.is_full());
    }

    #[test]
    fn what_is_acknowledged_is_forgotten() {
        let mut ledger = ledger_of(5);
        ledger.acknowledge(3).unwrap();
        ledger.acknowledge(3).unwrap();
        assert_eq!(ledger.bytes(), 20);
        assert_eq!(
            ledger.repeat(),
            None,
            "nothing is repeated on the same link"
        );
    }

    #[test]
    fn a_new_link_repeats_what_did_not_arrive_in_order() {
        let mut ledger = ledger_of(5);
        ledger.acknowledge(1).unwrap();
        ledger.resume(3).unwrap();
        assert_eq!(ledger.repeat(), Some(frame(4)));
        assert!(
            ledger.acknowledge(5).is_err(),
            "the link has not carried it yet"
        );
        assert_eq!(ledger.repeat(), Some(frame(5)));
        assert_eq!(ledger.repeat(), None);
        assert_eq!(ledger.next_number(), 6);
        ledger.acknowledge(5).unwrap();
        assert_eq!(ledger.bytes(), 0);
    }

    #[test]
    fn nobody_acknowledges_what_was_never_sent_or_takes_it_back() {
        let mut ledger = ledger_of(5);
        assert!(ledger.acknowledge(6).is_err());
        ledger.acknowledge(4).unwrap();
        assert!(ledger.acknowledge(3).is_err());
        assert!(ledger.resume(3).is_err());
        assert!(ledger.resume(6).is_err());
    }
}

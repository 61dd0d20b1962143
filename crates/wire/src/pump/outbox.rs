//! Frames on their way to the link, written together without being copied together.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes that wait for the link at most, and one frame more: as little as keeps it busy, since what waits here has
/// taken its turn already.
pub(super) const OUTBOX_MAX: usize = 64 * 1024;

/// The frames, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < OUTBOX_MAX
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&[], Bytes::chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let count = slices.len().min(self.frames.len());
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(frame);
        }
        count
    }

    fn advance(&mut self, count: usize) {
        self.bytes = self
            .bytes
            .checked_sub(count)
            .expect("no more than there is");
        let mut left = count;
        while left > 0 {
            let frame = self.frames.front_mut().expect("no more than there is");
            if left < frame.len() {
                return frame.advance(left);
            }
            left -= frame.len();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_wherever_a_write_stops() {
        for step in 1..8 {
            let mut outbox = Outbox::default();
            for frame in ["ab", "cde", "", "f"] {
                outbox.push(Bytes::from(frame));
            }
            let mut out = String::new();
            while outbox.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 4];
                let count = outbox.chunks_vectored(&mut slices);
                let all = slices[..count].iter().flat_map(|slice| slice.iter());
                let some: Vec<u8> = all.copied().take(step).collect();
                out.push_str(std::str::from_utf8(&some).unwrap());
                outbox.advance(some.len());
            }
            assert_eq!(out, "abcdef");
        }
    }

    #[test]
    fn what_was_written_whole_is_gone_and_the_next_frame_stands_first() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from("ab"));
        outbox.push(Bytes::from("cd"));
        assert_eq!(outbox.chunk(), b"ab");
        outbox.advance(2);
        assert_eq!(outbox.chunk(), b"cd");
        outbox.advance(1);
        assert_eq!(outbox.chunk(), b"d");
        outbox.advance(1);
        assert!(!outbox.has_remaining() && outbox.chunk().is_empty());
    }

    #[test]
    fn there_is_room_below_the_limit_alone() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from(vec![0; OUTBOX_MAX - 1]));
        assert!(outbox.has_room());
        outbox.push(Bytes::from("x"));
        assert!(!outbox.has_room());
        outbox.advance(1);
        assert!(outbox.has_room());
    }
}

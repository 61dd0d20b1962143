//! Bytes in the order in which they came, in the pieces in which they came.
//!
//! Owns when a piece keeps its own memory and when it is copied. How many bytes there may be is for whoever holds them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this are copied together, so that a byte never holds a whole read's memory: a read of a link is at most
/// some 64 KiB and is held 32 times over at most.
const PIECE_MIN: usize = 2048;

/// Bytes that wait.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    whole: VecDeque<Bytes>,
    /// Small pieces, copied together; they follow `whole`.
    tail: BytesMut,
}

impl Pieces {
    /// Appends a piece, with its memory if it is large enough to be worth it.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() < PIECE_MIN {
            return self.copy(&piece);
        }
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.whole.push_back(tail.freeze());
        }
        self.whole.push_back(piece);
    }

    /// Appends a copy.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// The next bytes of one piece, at most `limit` of them and never none.
    pub(super) fn take(&mut self, limit: usize) -> Option<Bytes> {
        let Some(piece) = self.whole.front_mut() else {
            return self.take_of_tail(limit);
        };
        if piece.len() > limit {
            return Some(piece.split_to(limit));
        }
        let piece = self.whole.pop_front();
        if self.whole.is_empty() {
            // What waits no more keeps no memory.
            self.whole = VecDeque::new();
        }
        piece
    }

    fn take_of_tail(&mut self, limit: usize) -> Option<Bytes> {
        if self.tail.len() > limit {
            return Some(self.tail.split_to(limit).freeze());
        }
        let tail = std::mem::take(&mut self.tail);
        (!tail.is_empty()).then(|| tail.freeze())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.tail.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let large = |byte| Bytes::from(vec![byte; PIECE_MIN]);
        let mut pieces = Pieces::default();
        pieces.copy(b"a");
        pieces.push(Bytes::from_static(b"b"));
        pieces.push(large(b'c'));
        pieces.push(large(b'd'));
        pieces.copy(b"e");
        let mut out = Vec::new();
        while let Some(piece) = pieces.take(1000) {
            assert!((1..=1000).contains(&piece.len()));
            out.extend_from_slice(&piece);
        }
        let expected = [b"ab", &large(b'c')[..], &large(b'd')[..], b"e"].concat();
        assert_eq!(out, expected);
        assert!(pieces.is_empty());
    }

    #[test]
    fn a_piece_that_is_taken_whole_leaves_nothing() {
        for length in [1, PIECE_MIN] {
            let mut pieces = Pieces::default();
            pieces.push(Bytes::from(vec![7; length]));
            assert_eq!(pieces.take(length).map(|piece| piece.len()), Some(length));
            assert!(pieces.is_empty());
            assert_eq!(pieces.take(length), None);
        }
    }

    #[test]
    fn a_large_piece_is_not_copied_and_a_small_one_does_not_keep_its_read() {
        let read = Bytes::from(vec![7; 2 * PIECE_MIN]);
        let mut pieces = Pieces::default();
        pieces.push(read.slice(..PIECE_MIN));
        pieces.push(read.slice(PIECE_MIN..2 * PIECE_MIN - 1));
        let large = pieces.take(usize::MAX).unwrap();
        assert_eq!(large.as_ptr(), read.as_ptr());
        let small = pieces.take(usize::MAX).unwrap();
        assert_ne!(small.as_ptr(), read[PIECE_MIN..].as_ptr());
        drop(large);
        assert!(read.is_unique(), "nothing holds the read");
    }
}

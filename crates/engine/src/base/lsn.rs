//! Positions in a source's WAL: their text, their order, and which of them a replay can reach.
//!
//! Owns one rule beside the number: `pg_current_wal_insert_lsn()` names the place where the next record's bytes will
//! go. At a page's start that is behind the page's header, while a replay that has everything stands in front of it.
//! Such a value counts as the page's start. Source: `XLogBytePosToRecPtr` and `XLogBytePosToEndRecPtr` in PostgreSQL's
//! `src/backend/access/transam/xlog.c`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of a WAL page's header, and of the one that begins a segment (`SizeOfXLogShortPHD`, `SizeOfXLogLongPHD` in
/// `src/include/access/xlog_internal.h`, on 64-bit machines).
const PAGE_HEADER_BYTES: u64 = 24;
const SEGMENT_HEADER_BYTES: u64 = 40;

/// A position in the WAL, in bytes from its beginning; written `16/B374D848`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no position in a WAL")]
pub struct LsnError(String);

/// How a cluster's WAL is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalShape {
    /// `wal_block_size`: bytes of a page, 8192 unless the server was built otherwise.
    pub page_bytes: u64,
    /// `wal_segment_size`: bytes of a file, a power of two from 1 MB to 1 GB.
    pub segment_bytes: u64,
}

impl Lsn {
    /// The nearest position at or below this one that a replay of everything inserted so far reaches.
    #[must_use]
    pub fn reachable(self, shape: WalShape) -> Self {
        let in_page = self.0 % shape.page_bytes;
        let header = if self.0 % shape.segment_bytes < shape.page_bytes {
            SEGMENT_HEADER_BYTES
        } else {
            PAGE_HEADER_BYTES
        };
        if in_page <= header {
            Self(self.0 - in_page)
        } else {
            self
        }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, LsnError> {
        let wrong = || LsnError(text.to_owned());
        let half = |digits: &str| {
            let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let parsed = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex);
            parsed.map(u64::from).ok_or_else(wrong)
        };
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

impl TryFrom<String> for Lsn {
    type Error = LsnError;

    fn try_from(text: String) -> Result<Self, LsnError> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: WalShape = WalShape {
        page_bytes: 8192,
        segment_bytes: 16 << 20,
    };

    fn lsn(text: &str) -> Lsn {
        text.parse().unwrap()
    }

    #[test]
    fn a_value_inside_a_page_header_counts_as_the_pages_start() {
        let cases = [
            ("0/3000028", "0/3000000"), // right after a WAL switch: behind a segment's header
            ("0/3000018", "0/3000000"),
            ("0/3000029", "0/3000029"),
            ("0/3002018", "0/3002000"), // behind an ordinary page's header
            ("0/3002019", "0/3002019"),
            ("0/3002000", "0/3002000"),
            ("0/3001FF8", "0/3001FF8"),
            ("0/0", "0/0"),
        ];
        for (named, reached) in cases {
            assert_eq!(lsn(named).reachable(SHAPE), lsn(reached), "{named}");
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in [
            "",
            "0",
            "0/",
            "/0",
            "0/0/0",
            "x/0",
            "0/100000000",
            "+1/0",
            "-1/0",
            "0/ 1",
        ] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_text_of_a_position_is_the_position(number: u64) {
            prop_assert_eq!(String::from(Lsn(number)).parse(), Ok(Lsn(number)));
        }

        #[test]
        fn what_is_reachable_is_near_below_and_stays(number: u64) {
            let reached = Lsn(number).reachable(SHAPE);
            prop_assert!(reached.0 <= number && number - reached.0 <= SEGMENT_HEADER_BYTES);
            prop_assert_eq!(reached.reachable(SHAPE), reached);
        }
    }
}

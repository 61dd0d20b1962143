//! Sizes in bytes, shown for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes. Shown in decimal units with three significant digits: `1.23 GB`.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = u64)]
pub struct ByteSize(pub u64);

const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 0;
        let mut divisor: u64 = 1;
        while unit + 1 < UNITS.len() && self.0 / divisor >= 1000 {
            divisor *= 1000;
            unit += 1;
        }
        let whole = self.0 / divisor;
        let thousandths = (self.0 % divisor) * 1000 / divisor;
        let name = UNITS[unit];
        match whole {
            _ if unit == 0 => write!(f, "{whole} {name}"),
            0..10 => write!(f, "{whole}.{:02} {name}", thousandths / 10),
            10..100 => write!(f, "{whole}.{} {name}", thousandths / 100),
            _ => write!(f, "{whole} {name}"),
        }
    }
}

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no size: a whole number of bytes, or one with kB, MB, GB, TB, KiB, MiB, GiB or TiB"
)]
pub struct ByteSizeError(pub String);

/// What a unit stands for. Single letters are powers of 1024, as coreutils and mkfs read them.
const FACTORS: [(&str, u64); 17] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("k", 1 << 10),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
];

impl std::str::FromStr for ByteSize {
    type Err = ByteSizeError;

    /// Reads `20MB`, `1 GiB`, `500K`, `1048576`.
    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let error = || ByteSizeError(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let number: u64 = number.parse().map_err(|_| error())?;
        let known = FACTORS.iter().find(|(name, _)| *name == unit.trim());
        let (_, factor) = known.ok_or_else(error)?;
        number.checked_mul(*factor).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("20MB", 20_000_000),
            ("1 GiB", 1 << 30),
            ("5K", 5_120),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MB", "1.5GB", "-1", "5 parsecs", "99999999TB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_show_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_230, "1.23 kB"),
            (45_600_000, "45.6 MB"),
            (789_000_000_000, "789 GB"),
            (u64::MAX, "18446 PB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}

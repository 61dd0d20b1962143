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

#[cfg(test)]
mod tests {
    use super::*;

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

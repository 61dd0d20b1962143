//! How long a branch outlives its last session.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds from the moment the last session left until the engine deletes the branch.
#[derive(
    Debug,
    Clone,
    Copy,
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
pub struct Ttl(pub u64);

/// The TTL of whoever names none.
pub const TTL_DEFAULT: Ttl = Ttl(300);

/// The longest TTL unless an administrator raises the maximum.
pub const TTL_MAX_DEFAULT: Ttl = Ttl(900);

impl Ttl {
    /// The TTL as a span of time.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl Default for Ttl {
    fn default() -> Self {
        TTL_DEFAULT
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

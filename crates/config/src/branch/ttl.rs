//! `ttl_secs` and `ttl_mins`: how long a branch outlives its last session.

use model::Ttl;
use model::ttl::TTL_MAX_DEFAULT;

use crate::decode::{Decode, Render, Report, Shape};
use crate::json::Json;
use crate::tree::Node;

/// A time that is longer than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime(pub(super) u64);

impl Decode for Lifetime {
    const EXPECTED: &'static str = "a whole number, at least 1";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let number = u64::decode(node, report)?;
        if number == 0 {
            report.problem(node, "a branch that lives for no time cannot be used");
            return None;
        }
        Some(Self(number))
    }

    fn shape() -> Shape {
        u64::shape()
    }
}

impl Render for Lifetime {
    fn render(&self) -> Json {
        Json::from(self.0)
    }
}

/// The TTL of a branch; `node` is the branch. Both keys at once are an error of their own.
pub(super) fn choose_ttl(
    seconds: Option<Lifetime>,
    minutes: Option<Lifetime>,
    node: &Node<'_>,
    report: &mut Report,
) -> Ttl {
    let (key, ttl) = match (seconds, minutes) {
        (Some(Lifetime(seconds)), _) => ("ttl_secs", Ttl(seconds)),
        (None, Some(Lifetime(minutes))) => ("ttl_mins", Ttl(minutes.saturating_mul(60))),
        (None, None) => return Ttl::default(),
    };
    if ttl > TTL_MAX_DEFAULT
        && let Some(value) = node.get(key)
    {
        let most = if key == "ttl_mins" {
            TTL_MAX_DEFAULT.0 / 60
        } else {
            TTL_MAX_DEFAULT.0
        };
        report
            .warning(
                &value,
                format!(
                    "more than {TTL_MAX_DEFAULT}: refused unless an administrator has raised the maximum"
                ),
            )
            .hint(format!("write at most {most}"));
    }
    ttl
}

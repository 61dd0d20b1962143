//! What this machine can do, each thing tried or read, with what to do where it cannot.
//!
//! Owns the checks of kernel, namespaces and seccomp, and the reading of what the engine found. Leaves finding servers
//! and probing the volume to the engine, and showing to the command.

mod engine_checks;
mod kernel;
mod namespaces;
mod network;
mod sight;

use serde::Serialize;

use crate::settings::Settings;

/// How well the machine serves one need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As wished.
    Good,
    /// Works, with less.
    Limited,
    /// Does not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What.
    pub(crate) name: &'static str,
    /// How well.
    pub(crate) verdict: Verdict,
    /// What was found; several lines where there is more to say.
    pub(crate) found: String,
    /// What to do about it, where something is lacking.
    pub(crate) advice: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Good,
            found: found.into(),
            advice: None,
        }
    }

    fn limited(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Limited,
            advice: Some(advice.into()),
            ..Self::good(name, found)
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Missing,
            ..Self::limited(name, found, advice)
        }
    }
}

/// Looks at everything. Starts the engine, as every command that needs it does: that it starts is a check.
pub(crate) async fn examine(settings: &Settings) -> Vec<Check> {
    let mut checks = engine_checks::examine(settings).await;
    checks.push(kernel::check_release(&kernel::read_release()));
    checks.push(kernel::check_notification(kernel::read_actions()));
    checks.push(sight::check());
    checks.push(namespaces::check());
    checks.push(network::check_target_network());
    checks.push(network::check_incoming());
    checks
}

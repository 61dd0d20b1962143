//! What is true of a resource, as every resource says it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A statement about a resource, as `kubectl describe` and `kubectl wait` read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about: `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// `True` or `False`.
    #[schemars(length(min = 1, max = 7))]
    pub status: String,
    /// Why, in a word.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, for a person.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// Since when the status is this.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
}

impl Condition {
    /// That it is ready, or not; since when is kept where the same was so `before`, and is `now` otherwise.
    pub fn ready(is_ready: bool, reason: &str, message: &str, before: &[Self], now: &str) -> Self {
        let status = if is_ready { "True" } else { "False" };
        let mut before = before.iter().filter(|it| it.type_ == READY);
        let since = before.next().filter(|it| it.status == status);
        Self {
            type_: READY.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since
                .map_or_else(|| now.to_owned(), |it| it.last_transition_time.clone()),
        }
    }
}

/// The type of the condition that every resource has.
const READY: &str = "Ready";

//! Why a step of the operator failed: what is told of it, and counted.

use std::time::Duration;

use crate::agents::ApiFailure;

/// What went wrong with one step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The API server refused or did not answer.
    #[error("cannot {tried}")]
    Api {
        /// What was tried, with which object.
        tried: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The same, about agents and sessions.
    #[error("cannot {tried}")]
    Agents {
        /// What was tried, with which object.
        tried: String,
        /// Why.
        #[source]
        source: ApiFailure,
    },
    /// It was not done in time: the API server, or who stands behind it, does not answer.
    #[error("cannot {tried} within {} s", .limit.as_secs())]
    Late {
        /// What was tried, with which object.
        tried: String,
        /// The time that it had.
        limit: Duration,
    },
    /// A host's engine does not say what it has.
    #[error("the engine of {pod} does not answer: {words}")]
    Engine {
        /// The host's pod.
        pod: String,
        /// What it says instead.
        words: String,
    },
}

impl StepError {
    /// It with its cause, in a line.
    pub(crate) fn told(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// Whose answer was missing, in a word.
    pub(crate) fn of(&self) -> &'static str {
        match self {
            Self::Api { .. } | Self::Agents { .. } | Self::Late { .. } => "api",
            Self::Engine { .. } => "engine",
        }
    }
}

//! `Branch`: fetched by namespace and version, planned purely, applied one by one.

mod apply;
mod fetch;
mod plan;

use jiff::Timestamp;
use kube::Client;

use crate::Settings;

pub(crate) use fetch::{ask, unready};
pub use plan::ASKED_ANNOTATION;

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
    /// A host's engine does not say what it has.
    #[error("the engine of {pod} does not answer: {words}")]
    Engine {
        /// The host's pod.
        pod: String,
        /// What it says instead.
        words: String,
    },
}

/// Looks at everything once.
pub(crate) async fn look(client: &Client, settings: &Settings, now: Timestamp) {
    let groups = match fetch::groups(client, &settings.namespaces).await {
        Ok(groups) => groups,
        Err(error) => return tell(&error),
    };
    for group in groups {
        if let Err(error) = apply::host(client, &group, &settings.host).await {
            tell(&error);
            continue;
        }
        let host = match fetch::host(client, &group).await {
            Ok(host) => host,
            Err(error) => {
                tell(&error);
                continue;
            }
        };
        for branch in &group.branches {
            for action in plan::plan(branch, &host, now) {
                if let Err(error) = apply::action(client, branch, action).await {
                    tell(&error);
                    break;
                }
            }
        }
    }
}

fn tell(error: &StepError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(cause, "{error}");
}

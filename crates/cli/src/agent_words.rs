//! What a target's agent says, in words for people. Pure.

use std::io;

use wire::{CloseReason, SubscribeFailure};

/// Why a port of the target does not come here.
pub(crate) fn refusal(failure: &SubscribeFailure) -> String {
    match failure {
        SubscribeFailure::NotPermitted { needs } => format!("that needs {needs}"),
        SubscribeFailure::Unsupported { lacks } => format!("that needs {lacks}, and there is none"),
        SubscribeFailure::Taken => "another session steals it".to_owned(),
        SubscribeFailure::Repeated => "this session has it already".to_owned(),
        SubscribeFailure::BadFilter { why } => format!("the filter cannot be read: {why}"),
        SubscribeFailure::TooMany => "the session has as many ports as it may".to_owned(),
        SubscribeFailure::System { tried, errno } => {
            let why = io::Error::from(*errno);
            format!("the agent failed to {tried}: {why}")
        }
    }
}

/// Why a session with an agent is over; `grace` is for how long a lost link was tried again, in words.
pub(crate) fn end(reason: &CloseReason, grace: &str) -> String {
    match reason {
        CloseReason::Done => "the session was closed".to_owned(),
        CloseReason::ShuttingDown => "its agent ends".to_owned(),
        CloseReason::GraceExpired => format!("no link to its agent for {grace}"),
        CloseReason::Violation { how } => format!("its agent broke the protocol: {how}"),
        CloseReason::Lost => "its agent was restarted, or has forgotten this session".to_owned(),
    }
}

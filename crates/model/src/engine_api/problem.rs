//! Refusals and failures: RFC 9457 problem details, with a kind that callers match and a hint that people follow.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SpecView;

/// What sort of refusal it is; each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The request is not well-formed. 400.
    BadRequest,
    /// No such branch, source, session or path. 404.
    NotFound,
    /// The id is taken by a branch of a different spec. 409.
    SpecDiffers,
    /// The object is in use or in a phase that does not allow it. 409.
    Conflict,
    /// A limit of this engine would be passed. 422.
    LimitPassed,
    /// Somebody stopped the session; it holds nothing from then on. 410.
    SessionStopped,
    /// The source cannot be reached, read or copied. 502.
    Source,
    /// The engine failed. 500.
    Internal,
}

impl ProblemKind {
    /// The HTTP status of this kind.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::SpecDiffers | Self::Conflict => 409,
            Self::SessionStopped => 410,
            Self::LimitPassed => 422,
            Self::Internal => 500,
            Self::Source => 502,
        }
    }
}

/// The body of every answer that is not a success, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The kind, for programs.
    pub kind: ProblemKind,
    /// The HTTP status.
    pub status: u16,
    /// What was tried and why it failed, for people.
    pub detail: String,
    /// One thing to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The spec that was asked for, where it differs from the living branch's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Box<SpecView>>,
    /// The living branch's spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<Box<SpecView>>,
}

impl Problem {
    /// A problem without hint or specs.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            status: kind.status(),
            detail: detail.into(),
            hint: None,
            asked: None,
            existing: None,
        }
    }

    /// A failure of the engine's own, with its whole chain of causes.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(ProblemKind::Internal, crate::chain(error))
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

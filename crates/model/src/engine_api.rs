//! What the engine's HTTP API says, version 1: every request and answer body.
//!
//! Owns the shapes and the paths' version. Leaves serving to `engine` and calling to `cli`. A field is
//! only ever added, and optional; anything else is a new version beside this one.

mod branch;
mod engine;
mod problem;
mod session;
mod source;

pub use branch::{
    BaseView, BranchConnection, BranchPhase, BranchView, CopyPhase, CopyProgress, EnsureBranch,
    EnsuredBranch, ExtendBranch, Freshness, SourceProxy, SourceRef, SpecView,
};
pub use engine::{
    BackingView, ENGINE_END_TIME_MAX, EngineView, InstallationView, PassedOverKind,
    SERVERS_STOP_TIME_MAX, StopEngine, VolumeView,
};
pub use problem::{Problem, ProblemKind};
pub use session::{
    HEARTBEAT_GRACE, HEARTBEAT_INTERVAL, Holder, JoinSession, SessionId, SessionView, StopSession,
};
pub use source::{
    AddSource, BaseActivity, BaseMode, SOURCE_NAME_BYTES_MAX, SourceBase, SourceCare, SourceName,
    SourceNameError, SourceView,
};

/// The version that every path begins with.
pub const API_VERSION: &str = "v1";

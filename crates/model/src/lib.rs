//! The words of Bough as types: ids, specs that no file format shaped, and what the engine's API says.
//!
//! Owns the meaning of each word and the rules a value must meet. Leaves to others: reading files
//! (`config`), doing anything (`engine`, `supervisor`), showing anything (`cli`). No I/O, no async here.

pub mod branch_id;
mod chain;
mod checked_text;
pub mod copy;
pub mod door_pass;
pub mod engine_api;
pub mod exit_code;
mod incoming;
pub mod pg_startup;
pub mod pg_url;
pub mod pg_version;
pub mod secret;
pub mod size;
pub mod target;
pub mod ttl;
pub mod volume_kind;

pub use branch_id::{BranchId, BranchName, Namespace};
pub use chain::chain;
pub use copy::{CopyMode, CopySpec, TableFilter};
pub use exit_code::ExitCode;
pub use incoming::IncomingMode;
pub use pg_url::PgUrl;
pub use pg_version::PgMajor;
pub use secret::Secret;
pub use size::ByteSize;
pub use target::{TargetKind, TargetRef};
pub use ttl::Ttl;
pub use volume_kind::VolumeKind;

#[cfg(test)]
mod tests;

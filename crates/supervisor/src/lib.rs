//! The parent of the user's process: it starts the command, stands between it and the world, and ends as it ended.
//!
//! Owns the child's start ([`Command`]), its signals and job control ([`Child`], [`Signals`]), its end, and the
//! ending of a whole process tree ([`Tree`]). The session's network (seccomp notification, proxies) joins it here,
//! each system call family in a file of its own. Leaves to others: branches, environment, what is printed (`cli`).
//!
//! Linux only. The one crate of the workspace with `unsafe`; each block says why it is sound.

pub mod child;
pub mod command;
pub mod descriptors;
mod disposition;
mod job;
mod lookup;
pub mod process;
pub mod signals;
mod terminal;
pub mod tree;

pub use child::{Child, ChildEnd, STOP_GRACE, StopHandle, StopReason};
pub use command::{Command, Output, SpawnError};
pub use process::Process;
pub use signals::{Signals, SignalsError};
pub use tree::Tree;

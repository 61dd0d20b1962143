//! Branches: clones that have a name, a door, sessions and a TTL.
//!
//! ```text
//! request -> registry -> driver (one task a branch) -> state: step -> journal -> view
//!                            |                                          (watch)
//!                            +-> work: what the state has to do -> outcome -> event
//! ```
//!
//! `state`, `hold`, `quiet` and `after_restart` are pure; `record` is what is journaled, `newborn` when it first is; `driver` is the only one
//! who changes a record; `work` does what takes time; `registry` finds the driver of a name.

mod after_restart;
mod doorway;
mod driver;
pub mod hold;
mod newborn;
mod quiet;
pub mod record;
pub mod registry;
mod request;
pub mod state;
mod unjournaled;
mod work;

//! Branches: writable clones of a base, each with its own server, door, sessions and TTL.
//!
//! ```text
//! request -> registry -> driver (one task a branch) -> state: step -> journal -> view
//!                            |                                          (watch)
//!                            +-> work: what the state has to do -> outcome -> event
//! ```
//!
//! `state` and `hold` are pure; `record` is what is journaled; `driver` is the only one who changes a record; `work`
//! does what takes time; `registry` finds the driver of a name.

pub mod clone_turns;
mod driver;
pub mod hold;
pub mod record;
pub mod registry;
pub mod state;
mod work;

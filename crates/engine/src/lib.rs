//! The engine: branches of databases on one machine, served over a Unix socket.
//!
//! Reading order: `app` (how everything is put together), `branch` (the life of one branch), `base` (copies of
//! sources), `clone` and `pool` (writable copies of those), `volume` (how files are cloned), `postgres` (servers and their programs), `source` (the shared database,
//! which is only ever read), `door` (the way into a branch), `catalogue` (what survives a crash), `http` (the API).

pub mod app;
pub mod base;
pub mod branch;
pub mod catalogue;
pub mod clock;
mod clock_jump;
pub mod clone;
pub mod door;
pub mod http;
pub mod layout;
pub mod leftovers;
pub mod machine;
pub mod named_sources;
pub mod pool;
pub mod postgres;
pub mod refresh;
pub mod settings;
pub mod source;
mod threads;
pub mod turns;
pub mod upkeep;
pub mod volume;

pub use app::{EngineError, repair, run};
pub use settings::{Doors, Limits, Settings};

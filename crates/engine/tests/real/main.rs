//! The engine's parts against real PostgreSQL servers: one binary, one module a part.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by it")]

mod copy;
mod gateway;
mod logical;
mod physical;
mod server;
mod source;
mod stage;
mod volume;
mod warm_up;

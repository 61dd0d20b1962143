//! User stories over the built programs: `bough` (`BOUGH_BIN`) and the inventory service (`INVENTORY_BIN`), real
//! PostgreSQL servers, one data directory a story. `cargo xtask test` builds the programs and gets the servers.
//!
//! `story` is one user's machine, `engine_api` asks the engine without `bough`, `traces` looks for what was left
//! behind: each story ends with it.

mod engine_api;
mod story;
mod traces;

mod clients;
mod connections;
mod crash;
mod encrypted_doors;
mod errors;
mod fence;
mod following;
mod freshness;
mod guarded_doors;
mod limits;
mod local;
mod network;
mod readme;
mod reuse;
mod secrets;
mod sessions;
mod source_untouched;
mod sources;
mod subscribed;
mod targets;
mod verbs;
mod volumes;
mod walk_through;

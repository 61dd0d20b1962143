//! PostgreSQL itself: its programs, its servers and connections to them.
//!
//! Owns finding the programs, making a cluster, writing a server's settings, starting, adopting and ending servers,
//! and connecting to them and to sources. Leaves to `source` what a shared database is asked, to `base` what is
//! copied from it, and to `branch` when a server runs.

pub mod account;
pub mod binaries;
pub mod connect;
pub mod control_data;
pub mod initdb;
pub mod passfile;
pub mod password;
pub(crate) mod said;
pub mod server;
pub mod settings;
pub mod sql;
pub mod unnoticed;

//! The inventory service as its users meet it: the real binary over a real PostgreSQL server of each test's own.
//!
//! `postgres`, `service` and `client` are the harness; the other files hold the tests, one subject a file.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod client;
mod postgres;
mod service;

mod concurrency;
mod flow;
mod outage;
mod refusals;
mod start;
mod stop;

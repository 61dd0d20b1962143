//! The agent in a network namespace of its own, between real programs.
//!
//! Needs `unshare`, `nsenter`, `setpriv`, `ip`, `curl`, `python3` and `node`; and namespaces, as root or by user namespaces. Where the machine
//! refuses those, every test prints what it did not run.

#![cfg(test)]

#[path = "real/agent.rs"]
mod agent;
#[path = "real/death.rs"]
mod death;
#[path = "real/http.rs"]
mod http;
#[path = "real/incoming.rs"]
mod incoming;
#[path = "real/namespace.rs"]
mod namespace;
#[path = "real/outgoing.rs"]
mod outgoing;
#[path = "real/pod.rs"]
mod pod;
#[path = "real/proxy.rs"]
mod proxy;
#[path = "real/sessions.rs"]
mod sessions;

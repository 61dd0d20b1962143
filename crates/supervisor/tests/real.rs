//! The supervisor around real programs, in processes of their own: `supervise` (tests/driver) runs each.
//!
//! Needs `sh`, `bash`, `cc`, `python3`, `setsid`, `unshare`, `chroot` and `stty`, which a Debian with python3 has, and `ip`.

#![cfg(test)]

#[path = "real/agent.rs"]
mod agent;
#[path = "real/cost.rs"]
mod cost;
#[path = "real/driver.rs"]
mod driver;
#[path = "real/end.rs"]
mod end;
#[path = "real/fence.rs"]
mod fence;
#[path = "real/fence_blind.rs"]
mod fence_blind;
#[path = "real/fence_edges.rs"]
mod fence_edges;
#[path = "real/inheritance.rs"]
mod inheritance;
#[path = "real/job_control.rs"]
mod job_control;
#[path = "real/pty.rs"]
mod pty;
#[path = "real/signals.rs"]
mod signals;
#[path = "real/stop.rs"]
mod stop;
#[path = "real/target.rs"]
mod target;

//! The parent of the user's process: it starts the command, stands between it and the world, and ends as it ended.
//!
//! Owns the child's start ([`Command`]), its signals and job control ([`Child`], [`Signals`]), its end, the ending of a
//! whole process tree ([`Tree`]), and a session whose network is looked at ([`guard`], [`fence`]): `seccomp` asks,
//! `intercept` answers, the fence's proxy carries, and [`network`] says what of it is the target's. Leaves to others: branches, environment, what is printed (`cli`).
//!
//! Linux only. The one crate of the workspace with much `unsafe`; each block says why it is sound.

mod asker;
pub mod child;
mod closings;
pub mod command;
mod datagrams;
pub mod descriptors;
mod disposition;
pub mod fence;
pub mod guard;
mod incoming;
mod intercept;
mod job;
mod limits;
mod lookup;
mod namespaces;
pub mod network;
mod network_thread;
mod ports;
mod prefixed;
pub mod process;
pub mod remote;
mod resolver;
mod seccomp;
mod session;
pub mod signals;
mod socket;
mod terminal;
pub mod tree;
mod unix_sockets;
mod uploads;

pub use child::{Child, ChildEnd, STOP_GRACE, StopHandle, StopReason};
pub use command::{Command, Output, SpawnError};
pub use fence::{FencePlan, FencedDatabase, FencedServer, KnownHosts, OnSource, Report};
pub use guard::watcher::{WatcherError, WatcherProgram, watch};
pub use guard::{Guard, GuardError, GuardPlan, Prepared, SESSION_VARIABLE};
pub use namespaces::Namespaces;
pub use network::NetworkPlan;
pub use network_thread::NetworkThread;
pub use ports::{Holder, PortTaken};
pub use process::Process;
pub use remote::{
    Destination, Dialled, JoinError, Remote, TargetAgent, TargetNetwork, ThisMachine, Upstream,
};
pub use seccomp::InstallError;
pub use session::{Event, remote_of};
pub use signals::{Signals, SignalsError};
pub use tree::Tree;

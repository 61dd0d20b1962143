//! Logical bases that follow: a copy of a source's database, kept up by a subscription to a publication that its owner
//! made.
//!
//! ```text
//!              fitness ── unfit: sentences ──▶ (a copy that is made again when its source has moved)
//!                 │ fit
//!                 ▼
//!   source ──▶  seed  ──▶ SUBSCRIBER ◀── tend: look ▶ tending::step ▶ wait, reconnect, restart, seed again
//!      │    slot, copy in   │  applies what the source publishes, never serves
//!      │    its snapshot    │
//!      │                    └─ snapshot: stop ▶ clone ▶ go on
//!      │                                   └─▶ sequences, no subscription ▶ stopped cleanly
//!      └─ Moment: where it stands, and its catalogue's fingerprint ──▶ wait until applied
//! ```
//!
//! The same outer shape as `physical`, for sources that grant reading and a slot but not their files. Reading order:
//! `fitness`, `fingerprint` (how a schema change is noticed), `slot` (the one thing that is made on a source), `seed`,
//! `subscriber`, `tending` (the pure machine), `snapshot`.
//!
//! Owns everything between a publication and a directory that a branch can be made of. Leaves names, journal, room on
//! the disk and when to do what to `store`. *Promises:*
//!
//! - On the source nothing is made but connections and one replication slot, which the source itself bounds
//!   (`max_slot_wal_keep_size`) or an administrator answers for. Its name is known before it is made, so that it is
//!   dropped whatever happens in between.
//! - A clone that is handed out knows neither the slot nor how the source is reached.
//! - What a subscription does not carry is either read for each snapshot (sequences) or makes the source unfit, by name
//!   (large objects, materialized views, unlogged tables).

pub mod fingerprint;
pub mod fitness;
pub mod reach;
pub mod seed;
pub mod slot;
pub mod snapshot;
pub mod stillness;
pub mod subscriber;
pub mod tending;

pub use super::physical::{CloneLive, Host, Place, Upstream};

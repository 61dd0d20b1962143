//! Logical bases: sources that are followed by a subscription, and the snapshots that are made of them.

mod changed;
mod fresh;
mod ground;
mod handles;
mod hazards;
mod unfit;

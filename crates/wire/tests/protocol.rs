//! The protocol between two real sides over a network that is made up, with a clock that is made up.

#![cfg(test)]

#[path = "protocol/limits.rs"]
mod limits;
#[path = "protocol/loss.rs"]
mod loss;
#[path = "protocol/mutation.rs"]
mod mutation;
#[path = "protocol/simulation.rs"]
mod simulation;
#[path = "protocol/streams.rs"]
mod streams;
#[path = "protocol/world.rs"]
mod world;

//! Physical bases: sources that are followed file by file, and the snapshots and followers that are made of them.

mod base;
mod egress;
mod follow;
mod followers;
mod ground;
mod hazards;
mod unfit;

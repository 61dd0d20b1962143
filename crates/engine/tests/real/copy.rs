//! Copies of sources into bases: exact, consistent, selective, harmless, and refused for good reasons.

mod consistent;
mod exact;
mod harmless;
mod interrupted;
mod refused;
mod selective;
mod unusual;

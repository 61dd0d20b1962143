//! The program as its users run it, against an engine that a test plays: every answer is the test's own.
//!
//! What real servers do is tested in the package `tests`.

#![cfg(test)]

#[path = "it/borrow.rs"]
mod borrow;
#[path = "it/completions.rs"]
mod completions;
#[path = "it/db_branches.rs"]
mod db_branches;
#[path = "it/doctor.rs"]
mod doctor;
#[path = "it/documents.rs"]
mod documents;
#[path = "it/engine.rs"]
mod engine;
#[path = "it/exec.rs"]
mod exec;
#[path = "it/fake_door.rs"]
mod fake_door;
#[path = "it/fake_engine.rs"]
mod fake_engine;
#[path = "it/habits.rs"]
mod habits;
#[path = "it/harness.rs"]
mod harness;
#[path = "it/help.rs"]
mod help;
#[path = "it/kubeconfig.rs"]
mod kubeconfig;
#[path = "it/kubernetes.rs"]
mod kubernetes;
#[path = "it/local.rs"]
mod local;
#[path = "../src/samples.rs"]
mod samples;
#[path = "it/session.rs"]
mod session;
#[path = "it/source.rs"]
mod source;
#[path = "it/targets.rs"]
mod targets;
#[path = "it/verify_config.rs"]
mod verify_config;
#[path = "it/volume.rs"]
mod volume;

//! Stories on a real Kubernetes. `cargo xtask test --cluster` brings one up, or takes the one that `KUBECONFIG` names,
//! loads the images of this tree into it, and runs these.
//!
//! `kubernetes` is the cluster as a story uses it: by kubectl alone, in a namespace of its own; `operator` is ours in it,
//! for one story at a time; `stage` is both with the shop, as most stories begin; `users` are people with few rights. Beside this file lies
//! what the node is made of: `node/`, `coredns.yaml`, `pause.c`, `postgres-entrypoint.sh`.

mod kubernetes;
mod operator;
mod stage;
mod users;

mod administrator;
mod branch_commands;
mod chart;
mod connections;
mod databases;
mod documents;
mod doors;
mod endings;
mod events;
mod evictions;
mod full_volume;
mod granted_sources;
mod guarded_doors;
mod images;
mod in_cluster;
mod killed;
mod kinds;
mod large_source;
mod leader;
mod least_rights;
mod limits;
mod listing;
mod namespace_rights;
mod node_restarts;
mod observed;
mod plain_volume;
mod pod_security;
mod pods;
mod replaced_pods;
mod replicas;
mod service_name;
mod sessions;
mod several_hosts;
mod shop;
mod sources;
mod strays;
mod taken_away;
mod target_only_source;
mod targetless;
mod twenty_sessions;
mod two_people;
mod versions;
mod volumes;
mod walk_through;
mod walls;

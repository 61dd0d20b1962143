//! `cargo xtask cluster`: a real Kubernetes of one node on this machine, for development and for the stories of
//! `tests/cluster`.
//!
//! ```text
//!   machine ── veth 10.99.0.1/30 ┬ 10.99.0.2 ── network and mount namespaces of the node
//!                                │   etcd, kube-apiserver, -controller-manager, -scheduler, kubelet, kube-proxy
//!                                └   containerd ── pods 10.244.0.0/24, services 10.96.0.0/16, CoreDNS 10.96.0.10
//! ```
//!
//! - `programs`: what is built from Go modules, kept by version outside the tree; by which Go, `toolchain`.
//! - `capable`: whether this machine can run a node at all.
//! - `images`: what its containers are made of, since no registry is asked.
//! - `place`: where the node's files lie, and who of its processes lives.
//! - `namespaces`, `cgroups`: what separates it from the machine, whose mounts, firewall and settings stay as they were.
//! - `volumes`: filesystems and storage classes.
//! - `identities`: users, tokens and kubeconfigs.
//! - `components`: the command line of every component.
//! - `node`: up and down; `traces`: whether anything is left.
//! - `given`: somebody else's cluster in its place, where `KUBECONFIG` names one.
//!
//! The one verb whose processes outlive it: `up` leaves a node running, `down` ends it and leaves nothing.

mod capable;
mod cgroups;
mod components;
mod given;
mod identities;
mod images;
mod namespaces;
mod node;
mod place;
mod programs;
mod toolchain;
mod traces;
mod volumes;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::console;
use crate::debian::{self, Requirement};
use crate::image::{self, Archive};
use crate::lock::Lock;
use crate::places::{Places, create_public_dir};
use given::Given;
use place::{Component, Place};

/// Arguments of `cargo xtask cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    verb: ClusterVerb,
}

#[derive(Debug, Clone, Subcommand)]
enum ClusterVerb {
    /// Build what is missing, and bring the node up; of one that is up, empty the volumes that were given back
    Up,
    /// End the node, and leave the machine as it was
    Down,
    /// What runs
    Status {
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// Whether this machine can run a node, and what is in its way
    Check,
    /// The path of the administrator's kubeconfig
    Kubeconfig,
    /// Kill a component of the node and start it again
    Restart {
        /// Which one
        component: Component,
    },
    /// Give images to the node
    Load {
        /// Archives, as `cargo xtask image` makes them
        #[arg(required = true, value_name = "FILE")]
        archives: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Form {
    #[default]
    Table,
    Json,
}

/// What the node needs of the system's packages.
const REQUIREMENTS: [Requirement; 4] = [
    Requirement::Go,
    Requirement::Network,
    Requirement::Xfs,
    Requirement::Cluster,
];

/// A cluster that answers, as stories need it.
#[derive(Debug)]
pub(crate) struct Ready {
    /// What `KUBECONFIG` is for its clients.
    pub(crate) kubeconfig: OsString,
    /// A client of it.
    pub(crate) kubectl: PathBuf,
    /// Whether it was brought up for this, and is to be taken down after it.
    pub(crate) is_new: bool,
}

/// Runs one verb.
///
/// # Errors
/// When the machine lacks something, a program does not build, or the node does not become ready.
pub(crate) fn run(places: &Places, args: &ClusterArgs) -> Result<()> {
    let place = place_of(places);
    let given = given(&place);
    match &args.verb {
        ClusterVerb::Status { output } => match given {
            Some(given) => status_of(&given, *output),
            None => status(&place, *output),
        },
        ClusterVerb::Check => check(places),
        ClusterVerb::Kubeconfig => {
            let path = match given {
                Some(given) => given.kubeconfig().clone(),
                None => {
                    ensure!(place.exists(), "no node is up: `cargo xtask cluster up`");
                    place.kubeconfig(identities::ADMINISTRATOR).into()
                }
            };
            Ok(console::result(&path.display().to_string())?)
        }
        ClusterVerb::Up => {
            let ready = up(places)?;
            let kubeconfig = ready.kubeconfig.display();
            Ok(console::result(&format!("export KUBECONFIG={kubeconfig}"))?)
        }
        ClusterVerb::Down if given.is_some() => {
            console::note("the cluster of KUBECONFIG is not ours, and stays as it is");
            Ok(())
        }
        ClusterVerb::Down => down(places),
        ClusterVerb::Restart { component } => restart(places, *component),
        ClusterVerb::Load { archives } => {
            let unnamed = archives.iter().map(|path| Archive {
                name: path.display().to_string(),
                path: path.clone(),
            });
            load(places, &unnamed.collect::<Vec<_>>())
        }
    }
}

/// Brings a cluster up, or finds one.
///
/// # Errors
/// When the machine lacks something, a program does not build, or the node does not become ready.
pub(crate) fn up(places: &Places) -> Result<Ready> {
    let place = place_of(places);
    let root = root(places);
    if let Some(given) = given(&place) {
        let version = given.version()?;
        console::note(&format!(
            "the cluster of KUBECONFIG ({}) is used: Kubernetes {}",
            given.kubeconfig().display(),
            version["gitVersion"].as_str().unwrap_or("of no version")
        ));
        return Ok(Ready {
            kubeconfig: given.kubeconfig().clone(),
            kubectl: given.kubectl()?,
            is_new: false,
        });
    }
    ensure_root()?;
    debian::require(&REQUIREMENTS)?;
    create_public_dir(&root)?;
    let _lock = Lock::take(&root.join(".lock"))?;
    let programs = programs::ensure(&root)?;
    let images = image::ensure_postgres(places, &root.join("images"))?;
    let is_new = !(place.exists() && node::is_ready(&place, &programs));
    node::up(&place, &programs, &images).context("bring the node up")?;
    Ok(Ready {
        kubeconfig: place.kubeconfig(identities::ADMINISTRATOR).into(),
        kubectl: programs.kubectl,
        is_new,
    })
}

/// Helm, which installs the chart.
///
/// # Errors
/// When the machine lacks Go, or it does not build.
pub(crate) fn helm(places: &Places) -> Result<PathBuf> {
    debian::require(&[Requirement::Go])?;
    let root = root(places);
    create_public_dir(&root)?;
    let _lock = Lock::take(&root.join(".lock"))?;
    programs::ensure_helm(&root)
}

/// Ends our node.
///
/// # Errors
/// When something of it stays.
pub(crate) fn down(places: &Places) -> Result<()> {
    ensure_root()?;
    let root = root(places);
    create_public_dir(&root)?;
    let _lock = Lock::take(&root.join(".lock"))?;
    node::down(&place_of(places))
}

/// Checks that [`up`] lacks nothing that it can be told beforehand: before an hour of other tests, not after it.
///
/// # Errors
/// When there is no cluster and none can be: what is in the way.
pub(crate) fn require(places: &Places) -> Result<()> {
    check(places)?;
    if given(&place_of(places)).is_some() {
        return Ok(());
    }
    debian::require(&REQUIREMENTS)
}

/// Of that, what no package mends.
fn check(places: &Places) -> Result<()> {
    if given(&place_of(places)).is_some() {
        return Ok(());
    }
    ensure_root()?;
    capable::check()
}

fn restart(places: &Places, component: Component) -> Result<()> {
    let place = place_of(places);
    ensure!(
        given(&place).is_none(),
        "the cluster of KUBECONFIG is not ours, and its components are not ours to kill"
    );
    ensure_root()?;
    ensure!(place.exists(), "no node is up: `cargo xtask cluster up`");
    let root = root(places);
    let _lock = Lock::take(&root.join(".lock"))?;
    node::restart(&place, &programs::ensure(&root)?, component)
}

/// Gives images to our node; for somebody's cluster, says how to.
///
/// # Errors
/// When one is not taken.
pub(crate) fn load(places: &Places, archives: &[Archive]) -> Result<()> {
    let place = place_of(places);
    if given(&place).is_some() {
        console::note("load these into the cluster of KUBECONFIG, unless it has them:");
        for line in given::loading(archives) {
            console::note(&line);
        }
        return Ok(());
    }
    ensure_root()?;
    ensure!(place.exists(), "no node is up: `cargo xtask cluster up`");
    for archive in archives {
        images::import(&place, &namespaces::Namespaces::of(&place), &archive.path)?;
        console::note(&format!("{} is loaded", archive.name));
    }
    Ok(())
}

fn root(places: &Places) -> PathBuf {
    places.cache.join("cluster")
}

fn place_of(places: &Places) -> Place {
    Place::in_directory(&root(places).join("node"))
}

fn given(place: &Place) -> Option<Given> {
    let ours = place.kubeconfig(identities::ADMINISTRATOR);
    Given::from(std::env::var_os(given::VARIABLE), Path::new(&ours))
}

fn ensure_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a node needs root: namespaces, mounts and a bridge of its own"
    );
    Ok(())
}

/// One line a component: its process, or that it has ended.
fn status(place: &Place, form: Form) -> Result<()> {
    let running: Vec<(Component, Option<i32>)> = Component::ALL
        .into_iter()
        .map(|component| (component, place.living(component)))
        .collect();
    let text = match form {
        Form::Json => {
            let components: serde_json::Map<_, _> = running
                .iter()
                .map(|(component, process)| (component.name().to_owned(), (*process).into()))
                .collect();
            let up = running.iter().all(|(_, process)| process.is_some());
            json!({
                "up": up,
                "ours": true,
                "directory": place.directory(),
                "kubeconfig": place.kubeconfig(identities::ADMINISTRATOR),
                "processes": components,
            })
            .to_string()
        }
        Form::Table => {
            let lines = running.iter().map(|(component, process)| {
                let process = process.map_or("-".to_owned(), |process| process.to_string());
                format!("{:<24} {process}", component.name())
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    Ok(console::result(&text)?)
}

/// What somebody's cluster says of itself.
fn status_of(given: &Given, form: Form) -> Result<()> {
    let version = given.version()?;
    let kubeconfig = given.kubeconfig().display().to_string();
    let text = match form {
        Form::Json => json!({
            "up": true,
            "ours": false,
            "kubeconfig": kubeconfig,
            "version": version["gitVersion"],
        })
        .to_string(),
        Form::Table => {
            let version = version["gitVersion"].as_str().unwrap_or("of no version");
            format!("{kubeconfig}: Kubernetes {version}")
        }
    };
    Ok(console::result(&text)?)
}

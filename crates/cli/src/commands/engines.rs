//! The engines that a command about branches speaks to: this machine's one, or in a cluster one in each branch host.
//!
//! Owns which are meant, and which of them has a branch. Leaves what is asked to the commands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use model::engine_api::BranchView;
use model::{BranchName, Namespace};

use super::select::Scope;
use crate::contexts::{BranchHost, ClusterError, ContextChoice};
use crate::engine_client::EngineClient;
use crate::engine_start::RunningEngine;
use crate::error::CommandError;
use crate::session_file;
use crate::settings::Settings;
use crate::ui::Ui;

/// Whose branches a command is about.
#[derive(Debug, Args)]
pub(super) struct WhoseArgs {
    /// Namespace of the branches [default: MIRRORD_TARGET_NAMESPACE, else the file's, else the context's own, else `default`]
    #[arg(short, long, value_name = "NS", global = true)]
    namespace: Option<Namespace>,

    /// A session's configuration file: its namespace is meant [default: BOUGH_CONFIG_FILE, else MIRRORD_CONFIG_FILE]
    #[arg(short = 'f', long, value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    /// Where the branches live: `local` or a kubeconfig's context [default: MIRRORD_KUBE_CONTEXT, else the file's
    /// kube_context, else the kubeconfig's current one, else `local`]
    #[arg(long, value_name = "CONTEXT", global = true)]
    context: Option<String>,

    /// Branches of every namespace
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    all_namespaces: bool,
}

/// What they mean.
#[derive(Debug)]
pub(super) struct Whose {
    /// Where the branches live.
    pub(super) context: ContextChoice,
    /// Those of one namespace, or all.
    pub(super) scope: Scope,
}

impl WhoseArgs {
    /// By the arguments, the file and the environment.
    pub(super) fn choose(&self, settings: &Settings) -> Result<Whose, CommandError> {
        let config = session_file::read_place(self.config_file.as_ref(), settings)?;
        let context = session_file::choose_context(self.context.as_deref(), &config, settings)?;
        let scope = if self.all_namespaces {
            Scope::All
        } else {
            let named = self.namespace.clone().or(config.target.namespace);
            Scope::Namespace(settings.choose_namespace_of(named.as_ref(), context.namespace())?)
        };
        Ok(Whose { context, scope })
    }
}

/// One that answers.
#[derive(Debug)]
pub(super) struct Engine {
    running: RunningEngine,
    /// In whose pod it is; none for this machine's.
    pub(super) host: Option<BranchHost>,
}

impl Engine {
    /// To speak to it.
    pub(super) fn client(&self) -> &EngineClient {
        &self.running.client
    }

    /// What it said of itself.
    pub(super) fn running(&self) -> &RunningEngine {
        &self.running
    }

    /// The caller's settings, with this engine in the place of this machine's.
    pub(super) fn settings<'a>(&'a self, settings: &'a Settings) -> &'a Settings {
        self.host.as_ref().map_or(settings, |host| &host.settings)
    }
}

/// All of them, with every branch that they have.
#[derive(Debug)]
pub(super) struct Engines {
    all: Vec<Engine>,
    owners: BTreeMap<BranchName, usize>,
    /// By namespace and id, those beyond the scope as well: names that exist elsewhere make better errors.
    pub(super) branches: Vec<BranchView>,
}

impl Engines {
    /// The engine of a branch out of [`Engines::branches`].
    pub(super) fn of(&self, branch: &BranchView) -> &Engine {
        &self.all[self.owners[&branch.name]]
    }

    /// Each engine.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Engine> {
        self.all.iter()
    }
}

/// Connects to the engines of those branches. Of several one that does not answer is told and left out.
///
/// # Errors
/// When none answers, or in a cluster one namespace has none.
pub(super) async fn connect(
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<Engines, CommandError> {
    let hosts = find_hosts(whose, settings).await?;
    connect_to(hosts, settings, ui).await
}

/// The same, where a cluster without a branch host has no engine. Where the user may not look for hosts that is told.
///
/// # Errors
/// When none of those that there are answers.
pub(super) async fn connect_to_any(
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<Engines, CommandError> {
    let hosts = match find_hosts(whose, settings).await {
        Err(ClusterError::NoHost { .. }) => Vec::new(),
        Err(error) if error.is_forbidden() => {
            let why = CommandError::from(error).message();
            ui.warn(&format!(
                "what branch hosts know of sessions is left out: {why}"
            ));
            Vec::new()
        }
        found => found?,
    };
    connect_to(hosts, settings, ui).await
}

/// The hosts whose engines are meant; none in the place of this machine's.
async fn find_hosts(
    whose: &Whose,
    settings: &Settings,
) -> Result<Vec<Option<BranchHost>>, ClusterError> {
    match &whose.context.kubeconfig {
        None => Ok(vec![None]),
        Some(kubeconfig) => {
            let namespace = whose.scope.namespace();
            let found = BranchHost::find(kubeconfig, namespace, settings).await?;
            Ok(found.into_iter().map(Some).collect())
        }
    }
}

async fn connect_to(
    hosts: Vec<Option<BranchHost>>,
    settings: &Settings,
    ui: &Ui,
) -> Result<Engines, CommandError> {
    let is_one = hosts.len() == 1;
    let asked = hosts.into_iter().map(|host| ask(host, settings, ui));
    let mut engines = Engines {
        all: Vec::new(),
        owners: BTreeMap::new(),
        branches: Vec::new(),
    };
    let mut failure = None;
    for answer in futures_util::future::join_all(asked).await {
        match answer {
            Ok((engine, branches)) => engines.add(engine, branches),
            Err((_, error)) if is_one => return Err(error),
            Err((place, error)) => {
                let message = error.message();
                ui.warn(&format!("{place} is left out: {message}"));
                failure = Some(error);
            }
        }
    }
    if let (true, Some(error)) = (engines.all.is_empty(), failure) {
        return Err(error);
    }
    let order = |branch: &BranchView| (branch.namespace.clone(), branch.id.clone());
    engines.branches.sort_by_key(order);
    Ok(engines)
}

impl Engines {
    fn add(&mut self, engine: Engine, branches: Vec<BranchView>) {
        let owner = self.all.len();
        self.all.push(engine);
        for branch in branches {
            // A resource of this name is one host's: another's is what has not gone there yet.
            if !self.owners.contains_key(&branch.name) {
                self.owners.insert(branch.name.clone(), owner);
                self.branches.push(branch);
            }
        }
    }
}

/// One engine and its branches, or where it is and why it does not answer.
async fn ask(
    host: Option<BranchHost>,
    settings: &Settings,
    ui: &Ui,
) -> Result<(Engine, Vec<BranchView>), (String, CommandError)> {
    let settings = host.as_ref().map_or(settings, |host| &host.settings);
    let place = || settings.engine_elsewhere.clone().unwrap_or_default();
    let running = super::connect_engine(settings, ui).await;
    let running = running.map_err(|error| (place(), error))?;
    let branches = running.client.branches(None).await;
    let branches = branches.map_err(|error| (place(), error.into()))?;
    Ok((Engine { running, host }, branches))
}

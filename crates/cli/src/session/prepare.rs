//! From a command line to a plan: the file read, the context chosen, the target found, each branch's source located.
//!
//! Nothing here changes anything, but that a target of a cluster gets its agent. Precedence of the namespace: the flag, MIRRORD_TARGET_NAMESPACE, the file,
//! `default`; of the target alike, and of whatever else has a variable (`config` reads those).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{
    Config, DbBranch, Environment, LocateError, SourceConnection, Surroundings, TargetChoice,
};
use model::engine_api::SessionId;
use model::{ExitCode, Namespace, TargetRef};

use super::{Request, network};
use crate::contexts::local::OwnNetwork;
use crate::contexts::{
    self, AgentLink, BranchHost, BranchWish, ClusterSession, ContextChoice, FoundTarget, OwnPod,
    PodFollower, TargetWish,
};
use crate::diagnostics;
use crate::error::CommandError;
use crate::session_file::{self, NO_FILE};
use crate::settings::Settings;
use crate::ui::Ui;

/// Why a session cannot be planned.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    /// The file forbids who makes branches there.
    #[error(
        "cannot make branches in {0}: its operator makes them, and \"operator\" is false in the file"
    )]
    OperatorForbidden(String),
    /// In a cluster the version says which image a branch's host runs.
    #[error(
        "branch {id} ({path}) says no version, and neither a target nor a branch host is there that its source could be \
         asked from"
    )]
    NoVersion {
        /// The branch.
        id: String,
        /// Where the file asks for it.
        path: String,
    },
    /// A branch's source is not where the file says.
    #[error("cannot find the source of branch {id} ({path})")]
    Source {
        /// The branch.
        id: String,
        /// Where the file asks for it.
        path: String,
        /// Why.
        #[source]
        source: LocateError,
    },
}

/// A branch of the file, with its source.
#[derive(Debug, Clone)]
pub(super) struct PlannedBranch {
    /// What the file asks for.
    pub(super) wanted: DbBranch,
    /// Where it comes from.
    pub(super) source: SourceConnection,
}

/// Everything that is known before anything is done.
#[derive(Debug)]
pub(super) struct Plan {
    /// By which name engines and clusters know the session.
    pub(super) id: SessionId,
    /// The file, where there is one.
    pub(super) file: Option<PathBuf>,
    /// What it says.
    pub(super) config: Config,
    /// Where the target lives.
    pub(super) context: ContextChoice,
    /// The target's namespace, and the branches'.
    pub(super) namespace: Namespace,
    /// The target; none: the program runs as itself.
    pub(super) target: Option<TargetRef>,
    /// The target's environment.
    pub(super) target_environment: Option<Environment>,
    /// Its network, where it has one of its own that can be dialled into.
    pub(super) own_network: Option<OwnNetwork>,
    /// How its agent is reached.
    pub(super) agent: Option<AgentLink>,
    /// How its pods are found again.
    pub(super) follower: Option<PodFollower>,
    /// The session as its cluster knows it.
    pub(super) resource: Option<ClusterSession>,
    /// The pod that stands for the target where there is none on purpose.
    pub(super) own_pod: Option<OwnPod>,
    /// What must be told of how it was found.
    pub(super) remarks: Vec<String>,
    /// The caller's environment.
    pub(super) caller: Arc<Environment>,
    /// Where the program runs.
    pub(super) directory: PathBuf,
    /// The branches to be had.
    pub(super) branches: Vec<PlannedBranch>,
    /// Who has which of them, where that is not this machine's engine.
    pub(super) hosts: Vec<(BranchHost, Vec<usize>)>,
}

impl Plan {
    /// Where connections are found: the target's environment, or without a target the caller's.
    pub(super) fn source_environment(&self) -> &Environment {
        self.target_environment.as_ref().unwrap_or(&self.caller)
    }

    /// The engines that have the branches: in a cluster the hosts', each behind a socket of this session's own.
    pub(super) fn engines<'a>(&'a self, settings: &'a Settings) -> Vec<&'a Settings> {
        if self.hosts.is_empty() {
            return vec![settings];
        }
        self.hosts.iter().map(|(host, _)| &host.settings).collect()
    }

    /// Which of the branches each of these engines has.
    pub(super) fn branches_of(&self, engine: usize) -> Vec<usize> {
        match self.hosts.get(engine) {
            Some((_, branches)) => branches.clone(),
            None => (0..self.branches.len()).collect(),
        }
    }

    /// Whose host one of these engines is; nobody's on this machine.
    pub(super) fn host(&self, engine: usize) -> Option<&BranchHost> {
        self.hosts.get(engine).map(|(host, _)| host)
    }

    /// The file's name for messages.
    pub(super) fn file_name(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(NO_FILE))
    }
}

/// Plans a session.
///
/// # Errors
/// Exit code 2 for the file, 3 for context and target, 4 for a source that is not to be found.
pub(super) async fn prepare(
    request: &Request<'_>,
    settings: &Settings,
    ui: &Ui,
) -> Result<Plan, CommandError> {
    let file = request
        .file
        .clone()
        .or_else(|| settings.session.config_file.clone());
    let mut surroundings = session_file::surroundings(settings)?;
    surroundings.key = request.key.clone().or(surroundings.key);
    surroundings.target = request.target.clone();
    surroundings.namespace = request.namespace.clone();
    surroundings.flags = request.flags.clone();
    let config = session_file::read(file.as_deref(), settings, &surroundings)?;
    for warning in &config.warnings {
        ui.warn(&diagnostics::describe(warning).join("\n"));
    }
    let name = file.as_deref().unwrap_or(Path::new(NO_FILE));
    if let Some(refusal) = diagnostics::refusal(name, &config) {
        return Err(refusal);
    }
    let context = session_file::choose_context(request.context.as_deref(), &config, settings)?;
    let namespace =
        settings.choose_namespace_of(config.target.namespace.as_ref(), context.namespace())?;
    require_operator(&context, &namespace, &config).await?;
    let target = config.target.workload().cloned();
    let id = SessionId(format!("{:016x}", rand::random::<u64>()));
    let wish = TargetWish {
        session: id.0.clone(),
        network: network::wish(&config.network),
        image: settings.agent_image.clone(),
        by_operator: config.operator != Some(false),
    };
    let found = match &target {
        Some(target) => Some(contexts::find(&context, &namespace, target, wish, settings).await?),
        None => None,
    };
    let resource = found.as_ref().and_then(|found| found.session.clone());
    let place = Place {
        id,
        file,
        context,
        namespace,
        surroundings,
    };
    let planned = plan(place, config, found, settings, ui).await;
    if let (Err(_), Some(resource)) = (&planned, resource) {
        resource.end().await;
    }
    planned
}

/// Where a session is to be.
struct Place {
    id: SessionId,
    file: Option<PathBuf>,
    context: ContextChoice,
    namespace: Namespace,
    surroundings: Surroundings,
}

/// Plans a session whose target is found.
async fn plan(
    place: Place,
    config: Config,
    found: Option<FoundTarget>,
    settings: &Settings,
    ui: &Ui,
) -> Result<Plan, CommandError> {
    let Place {
        id,
        file,
        context,
        namespace,
        surroundings,
    } = place;
    if let Some(found) = &found
        && !found.skipped.is_empty()
    {
        let names = found.skipped.join(", ");
        ui.warn(&format!(
            "variables of the target that are not UTF-8 stay out: {names}"
        ));
    }
    let mut plan = Plan {
        id,
        file,
        context,
        namespace,
        target_environment: found.as_ref().map(environment_of),
        own_network: found.as_ref().and_then(|found| found.own_network.clone()),
        agent: found.as_ref().and_then(|found| found.agent.clone()),
        follower: found.as_ref().and_then(|found| found.follower.clone()),
        resource: found.as_ref().and_then(|found| found.session.clone()),
        remarks: found
            .as_ref()
            .map_or_else(Vec::new, |found| found.remarks.clone()),
        target: found.map(|found| found.reference),
        caller: surroundings.environment,
        directory: surroundings.directory,
        own_pod: None,
        branches: Vec::new(),
        hosts: Vec::new(),
        config,
    };
    plan.branches = locate_branches(&plan)?;
    learn_versions(&mut plan).await?;
    plan.hosts = request_hosts(&plan, settings, ui).await?;
    // The last, so that nothing that fails before leaves it behind.
    make_own_pod(&mut plan, settings).await?;
    Ok(plan)
}

/// Gives a session that has no target on purpose a pod in the cluster, where it wants connections or names of it.
async fn make_own_pod(plan: &mut Plan, settings: &Settings) -> Result<(), CommandError> {
    let is_targetless = plan.config.target.choice == TargetChoice::Targetless;
    let (Some(kubeconfig), true) = (&plan.context.kubeconfig, is_targetless) else {
        return Ok(());
    };
    if !network::goes_out(&plan.config.network) {
        return Ok(());
    }
    let pod = OwnPod::make(kubeconfig, &plan.namespace, &settings.agent_image).await?;
    plan.remarks.push(format!(
        "pod {} is this session's own, and goes with it",
        pod.name()
    ));
    plan.agent = Some(AgentLink::Pod(Box::new(pod.agent().clone())));
    plan.own_pod = Some(pod);
    Ok(())
}

/// Refuses what only an operator does where there is none, before anything is done.
async fn require_operator(
    context: &ContextChoice,
    namespace: &Namespace,
    config: &Config,
) -> Result<(), CommandError> {
    let Some(kubeconfig) = &context.kubeconfig else {
        return Ok(());
    };
    let branch = |error| CommandError::new(ExitCode::Branch, error);
    if config.branches.is_empty() {
        return if config.operator == Some(true) {
            Ok(contexts::require_operator(kubeconfig, namespace).await?)
        } else {
            Ok(())
        };
    }
    if config.operator == Some(false) {
        let error = PlanError::OperatorForbidden(context.to_string());
        return Err(branch(error).with_hint("remove \"operator\", or write true"));
    }
    let required = contexts::require_operator(kubeconfig, namespace).await;
    required.map_err(|error| CommandError::from(error).with_exit(ExitCode::Branch))
}

/// Learns in a cluster which version each branch has that the file says none of, from its source as the target reaches it.
async fn learn_versions(plan: &mut Plan) -> Result<(), CommandError> {
    let Some(kubeconfig) = &plan.context.kubeconfig else {
        return Ok(());
    };
    let failed = |error| CommandError::from(error).with_exit(ExitCode::Branch);
    for planned in &mut plan.branches {
        if planned.wanted.version.is_some() {
            continue;
        }
        let url = &planned.source.url;
        let learnt = match &plan.agent {
            Some(AgentLink::Pod(agent)) => agent.source_version(url).await.map(Some),
            Some(AgentLink::Socket { .. }) | None => {
                BranchHost::source_version(kubeconfig, &plan.namespace, url).await
            }
        };
        planned.wanted.version = learnt.map_err(failed)?;
        if planned.wanted.version.is_none() {
            let error = PlanError::NoVersion {
                id: planned.wanted.id.to_string(),
                path: planned.wanted.path.clone(),
            };
            let error = CommandError::new(ExitCode::Branch, error);
            return Err(error.with_hint("\"version\": \"16\", as its source has it"));
        }
    }
    Ok(())
}

/// The hosts of the branches in a cluster; none on this machine, or without branches.
async fn request_hosts(
    plan: &Plan,
    settings: &Settings,
    ui: &Ui,
) -> Result<Vec<(BranchHost, Vec<usize>)>, CommandError> {
    let (Some(kubeconfig), false) = (&plan.context.kubeconfig, plan.branches.is_empty()) else {
        return Ok(Vec::new());
    };
    let wishes = plan.branches.iter().filter_map(|planned| {
        let url = &planned.source.url;
        let database = url.database().unwrap_or_default();
        Some(BranchWish {
            id: planned.wanted.id.clone(),
            source: format!("{}/{database}", url.address()),
            // Each has one by now.
            version: planned.wanted.version?,
            copy: planned.wanted.copy.clone(),
            ttl: planned.wanted.ttl,
            target: plan.target.clone(),
        })
    });
    let wishes: Vec<_> = wishes.collect();
    let tell = |line: &str| ui.note(line);
    let hosts = BranchHost::request(kubeconfig, &plan.namespace, &wishes, settings, &tell).await;
    hosts.map_err(|error| CommandError::from(error).with_exit(ExitCode::Branch))
}

fn environment_of(found: &FoundTarget) -> Environment {
    let variables = found.environment.iter();
    variables
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn locate_branches(plan: &Plan) -> Result<Vec<PlannedBranch>, CommandError> {
    let mut located = Vec::with_capacity(plan.config.branches.len());
    for wanted in &plan.config.branches {
        let source = wanted
            .connection
            .locate(plan.source_environment())
            .map_err(|source| {
                let hint = source.hint();
                let failure = CommandError::new(
                    ExitCode::Branch,
                    PlanError::Source {
                        id: wanted.id.to_string(),
                        path: wanted.path.clone(),
                        source,
                    },
                );
                match hint {
                    Some(hint) => failure.with_hint(hint),
                    None => failure,
                }
            })?;
        located.push(PlannedBranch {
            wanted: wanted.clone(),
            source,
        });
    }
    Ok(located)
}

//! From a command line to a plan: the file read, the context chosen, the target found, each branch's source located.
//!
//! On this machine nothing is changed here. In a cluster the session is given what it needs there: a `Session` and the target's
//! agent, hosts for its branches, or a pod of its own; what nothing comes of is in `Leftovers`. Precedence of the namespace: the flag, MIRRORD_TARGET_NAMESPACE, the file, `default`; of the target alike, and of whatever else has a
//! variable (`config` reads those).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{
    Config, DbBranch, Environment, LocateError, SourceConnection, Surroundings, TargetChoice,
};
use model::engine_api::SessionId;
use model::{ExitCode, Namespace, PgMajor, TargetRef};

use super::{Request, environment, network};
use crate::contexts::local::OwnNetwork;
use crate::contexts::{
    self, AgentLink, BranchHost, BranchWish, ClusterSession, ContextChoice, FoundTarget,
    Kubeconfig, Leftovers, OwnPod, PodFollower, TargetWish,
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
    /// The target, as it was found; none: the program runs as itself.
    found: Option<FoundTarget>,
    /// The target's environment.
    pub(super) target_environment: Option<Environment>,
    /// Where connections are found: there, or without a target what the program would get without branches.
    pub(super) source_environment: Environment,
    /// The pod that stands for the target where there is none on purpose.
    pub(super) own_pod: Option<OwnPod>,
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
    /// The target.
    pub(super) fn target(&self) -> Option<&TargetRef> {
        self.found.as_ref().map(|found| &found.reference)
    }

    /// Its network, where it has one of its own that can be dialled into.
    pub(super) fn own_network(&self) -> Option<&OwnNetwork> {
        self.found.as_ref()?.own_network.as_ref()
    }

    /// How its agent is reached, or that of the session's own pod.
    pub(super) fn agent(&self) -> Option<AgentLink> {
        match &self.own_pod {
            Some(pod) => Some(AgentLink::Pod(Box::new(pod.agent().clone()))),
            None => self.found.as_ref()?.agent.clone(),
        }
    }

    /// How its pods are found again.
    pub(super) fn follower(&self) -> Option<&PodFollower> {
        self.found.as_ref()?.follower.as_ref()
    }

    /// The session as its cluster knows it.
    pub(super) fn resource(&self) -> Option<&ClusterSession> {
        self.found.as_ref()?.session.as_ref()
    }

    /// What must be told of how it was found.
    pub(super) fn remarks(&self) -> Vec<String> {
        let found = self.found.as_ref().map(|found| found.remarks.clone());
        let mut remarks = found.unwrap_or_default();
        if let Some(pod) = &self.own_pod {
            remarks.push(format!(
                "pod {} is this session's own, and goes with it",
                pod.name()
            ));
        }
        remarks
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

/// A session as it is asked for: its file, and where it is to be.
pub(super) struct Asked {
    config: Config,
    place: Place,
}

/// Reads what is asked for, from standard input too; who reads there may be ended by any signal.
///
/// # Errors
/// Exit code 2 for the file, 3 for the context.
pub(super) fn read(
    request: &Request<'_>,
    settings: &Settings,
    ui: &Ui,
) -> Result<Asked, CommandError> {
    let file = request
        .file
        .clone()
        .or_else(|| settings.session.config_file.clone());
    let mut surroundings = session_file::surroundings(settings)?;
    surroundings.key = request.key.clone().or(surroundings.key);
    surroundings.target = request.target.clone();
    surroundings.namespace = request.namespace.clone();
    surroundings.flags = request.flags.clone();
    let mut config = session_file::read(file.as_deref(), settings, &surroundings)?;
    for branch in &mut config.branches {
        branch.max_age = request.max_age.or(branch.max_age);
    }
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
    let place = Place {
        id: SessionId::random(rand::random()),
        file,
        context,
        namespace,
        surroundings,
    };
    Ok(Asked { config, place })
}

/// Plans a session.
///
/// # Errors
/// Exit code 3 for the target, 4 for a source that is not to be found.
pub(super) async fn prepare(
    asked: Asked,
    settings: &Settings,
    leftovers: &Leftovers,
    ui: &Ui,
) -> Result<Plan, CommandError> {
    let Asked { config, place } = asked;
    let (context, namespace) = (&place.context, &place.namespace);
    require_operator(context, namespace, &config).await?;
    let target = config.target.workload().cloned();
    let wish = TargetWish {
        session: place.id.to_string(),
        network: network::wish(&config.network),
        image: settings.agent_image.clone(),
        by_operator: config.operator != Some(false),
        leftovers: leftovers.clone(),
    };
    let found = match &target {
        Some(target) => Some(contexts::find(context, namespace, target, wish, settings).await?),
        None => None,
    };
    plan(place, config, found, settings, leftovers, ui).await
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
    leftovers: &Leftovers,
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
    let target_environment = found.as_ref().map(environment_of);
    let caller = surroundings.environment;
    let source_environment = match &target_environment {
        Some(target) => target.clone(),
        None => environment::alone(&config.env, &surroundings.directory, &caller)?,
    };
    let mut branches = locate_branches(&config, &source_environment)?;
    let hosts = match &context.kubeconfig {
        Some(kubeconfig) if !branches.is_empty() => {
            let found = found.as_ref();
            let wishes = wish_for(&mut branches, kubeconfig, &namespace, found).await?;
            let tell = |line: &str| ui.note(line);
            BranchHost::request(kubeconfig, &namespace, &wishes, settings, &tell)
                .await
                .map_err(of_branch)?
        }
        Some(_) | None => Vec::new(),
    };
    // The last, so that nothing else that fails makes it in vain.
    let own_pod = make_own_pod(&config, &context, &namespace, settings, leftovers).await?;
    Ok(Plan {
        id,
        file,
        config,
        context,
        namespace,
        found,
        target_environment,
        source_environment,
        own_pod,
        caller,
        directory: surroundings.directory,
        branches,
        hosts,
    })
}

/// Gives a session that has no target on purpose a pod in the cluster, where it wants connections or names of it.
async fn make_own_pod(
    config: &Config,
    context: &ContextChoice,
    namespace: &Namespace,
    settings: &Settings,
    leftovers: &Leftovers,
) -> Result<Option<OwnPod>, CommandError> {
    let is_targetless = config.target.choice == TargetChoice::Targetless;
    let (Some(kubeconfig), true) = (&context.kubeconfig, is_targetless) else {
        return Ok(None);
    };
    if !network::goes_out(&config.network) {
        return Ok(None);
    }
    let pod = OwnPod::make(kubeconfig, namespace, &settings.agent_image, leftovers).await?;
    Ok(Some(pod))
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
    required.map_err(of_branch)
}

/// What the branches' hosts in a cluster are asked for. A branch whose version the file does not say has its source's.
async fn wish_for(
    branches: &mut [PlannedBranch],
    kubeconfig: &Kubeconfig,
    namespace: &Namespace,
    found: Option<&FoundTarget>,
) -> Result<Vec<BranchWish>, CommandError> {
    let mut wishes = Vec::with_capacity(branches.len());
    for planned in branches {
        let version = match planned.wanted.version {
            Some(version) => version,
            None => learn_version(planned, kubeconfig, namespace, found).await?,
        };
        planned.wanted.version = Some(version);
        let url = &planned.source.url;
        let database = url.database().unwrap_or_default();
        wishes.push(BranchWish {
            id: planned.wanted.id.clone(),
            source: format!("{}/{database}", url.address()),
            version,
            copy: planned.wanted.copy.clone(),
            ttl: Some(planned.wanted.ttl),
            target: found.map(|found| found.reference.clone()),
        });
    }
    Ok(wishes)
}

/// Learns the version of a branch's source, as the target reaches it.
async fn learn_version(
    planned: &PlannedBranch,
    kubeconfig: &Kubeconfig,
    namespace: &Namespace,
    found: Option<&FoundTarget>,
) -> Result<PgMajor, CommandError> {
    let url = &planned.source.url;
    let learnt = match found.and_then(|found| found.agent.as_ref()) {
        Some(AgentLink::Pod(agent)) => agent.source_version(url).await.map(Some),
        Some(AgentLink::Socket { .. }) | None => {
            BranchHost::source_version(kubeconfig, namespace, url).await
        }
    };
    learnt.map_err(of_branch)?.ok_or_else(|| {
        let error = PlanError::NoVersion {
            id: planned.wanted.id.to_string(),
            path: planned.wanted.path.clone(),
        };
        let error = CommandError::new(ExitCode::Branch, error);
        error.with_hint("\"version\": \"16\", as its source has it")
    })
}

/// A failure of the cluster that is one of the branches.
fn of_branch(error: impl Into<CommandError>) -> CommandError {
    error.into().with_exit(ExitCode::Branch)
}

fn environment_of(found: &FoundTarget) -> Environment {
    let variables = found.environment.iter();
    variables
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// The branches' connections: in the target's environment, or without a target in the caller's.
fn locate_branches(
    config: &Config,
    known: &Environment,
) -> Result<Vec<PlannedBranch>, CommandError> {
    let mut located = Vec::with_capacity(config.branches.len());
    for wanted in &config.branches {
        let source = wanted.connection.locate(known).map_err(|source| {
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
        environment::check(wanted, known)?;
        located.push(PlannedBranch {
            wanted: wanted.clone(),
            source,
        });
    }
    Ok(located)
}

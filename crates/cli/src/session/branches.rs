//! The branches that a session's file names: asked for, held, waited for.

use std::sync::Arc;

use futures_util::future::try_join_all;
use model::ExitCode;
use model::Secret;
use model::engine_api::{
    BranchConnection, BranchView, EnsureBranch, EnsuredBranch, Holder, SourceProxy, SourceRef,
};
use supervisor::TargetNetwork;

use super::membership::Membership;
use super::prepare::{Plan, PlannedBranch};
use super::source_way::{SourceWay, SourceWays};
use crate::branch_door;
use crate::engine_client::{ClientError, EngineClient};
use crate::engine_start;
use crate::error::CommandError;
use crate::readiness;
use crate::settings::Settings;
use crate::ui::Ui;

/// How often branches are asked for: each try outlives one end of the engine.
const ASK_TRIES_MAX: usize = 3;

/// A branch that the session may use.
#[derive(Debug)]
pub(super) struct ReadyBranch {
    /// What the file asks for.
    pub(super) planned: PlannedBranch,
    /// Whether it lived already.
    pub(super) reused: bool,
    /// How it stands.
    pub(super) view: BranchView,
    /// How to reach it.
    pub(super) connection: BranchConnection,
}

/// Makes or finds every branch of `plan` and waits until all are ready; none without an engine where none is wanted.
///
/// # Errors
/// With the exit code for branches, whatever is the matter: nothing may run then.
pub(super) async fn obtain(
    plan: &Plan,
    network: Option<&Arc<TargetNetwork>>,
    membership: &mut Membership<'_>,
    ui: &Ui,
) -> Result<Vec<ReadyBranch>, CommandError> {
    if plan.branches.is_empty() {
        return Ok(Vec::new());
    }
    let ways = SourceWays::new(plan, network);
    let obtained = obtain_all(plan, &ways, membership, ui).await;
    obtained.map_err(|error| error.with_exit(ExitCode::Branch))
}

/// What was asked of one engine.
struct Asked<'a> {
    settings: &'a Settings,
    client: EngineClient,
    /// Which branches of the plan.
    indexes: Vec<usize>,
    ensured: Vec<EnsuredBranch>,
    /// Open until they are ready: what a copy goes through.
    _ways: Vec<Option<SourceWay>>,
}

async fn obtain_all(
    plan: &Plan,
    ways: &SourceWays<'_>,
    membership: &mut Membership<'_>,
    ui: &Ui,
) -> Result<Vec<ReadyBranch>, CommandError> {
    let mut asked = Vec::new();
    for (number, settings) in membership.engines().into_iter().enumerate() {
        let one = ask(plan, ways, (number, settings), membership, ui).await?;
        let views: Vec<BranchView> = one.ensured.iter().map(|it| it.branch.clone()).collect();
        membership.hold(number, &views);
        asked.push(one);
    }
    let limits = plan
        .branches
        .iter()
        .map(|branch| branch.wanted.creation_timeout);
    let limit = limits.max().expect("there is at least one branch");
    let waiting = async {
        let mut all = Vec::with_capacity(asked.len());
        for one in &asked {
            let views = one.ensured.iter().map(|it| it.branch.clone()).collect();
            all.push(readiness::wait_until_ready(one.settings, ui, views, limit).await?);
        }
        Ok::<_, CommandError>(all)
    };
    let views = tokio::select! {
        views = waiting => views?,
        loss = membership.keep(ui) => return Err(loss.into()),
    };
    let mut ready = Vec::with_capacity(plan.branches.len());
    for (number, (one, views)) in asked.iter().zip(views).enumerate() {
        let reused = one.ensured.iter().map(|it| it.reused);
        for ((index, view), reused) in one.indexes.iter().zip(views).zip(reused) {
            let planned = &plan.branches[*index];
            let session = membership.id();
            let host = plan.host(number);
            let way = branch_door::find_way(host, &one.client, &view.name, Some(session)).await?;
            let branch = ReadyBranch {
                connection: way.connection,
                planned: planned.clone(),
                reused,
                view,
            };
            ready.push((*index, branch));
        }
    }
    // As the file has them.
    ready.sort_by_key(|(index, _)| *index);
    Ok(ready.into_iter().map(|(_, branch)| branch).collect())
}

/// Asks one engine for its branches of the plan.
async fn ask<'a>(
    plan: &Plan,
    ways: &SourceWays<'_>,
    (number, settings): (usize, &'a Settings),
    membership: &mut Membership<'_>,
    ui: &Ui,
) -> Result<Asked<'a>, CommandError> {
    let indexes = plan.branches_of(number);
    let host = plan.host(number);
    let found = indexes.iter().map(|index| {
        let branch = &plan.branches[*index];
        ways.find(branch, host)
    });
    // In a cluster each of them is a program that is run in the host's pod.
    let (engine, found) = tokio::join!(engine_start::connect(settings), try_join_all(found));
    let (engine, found) = (engine?, found?);
    if let Some(notice) = engine.version_notice() {
        ui.warn(&notice);
    }
    let client = engine.client;
    let holder = membership.join();
    let wanted = indexes.iter().zip(&found).map(|(index, way)| {
        let proxy = way.as_ref().map(|way| way.proxy.clone());
        want(plan, &plan.branches[*index], proxy, holder.clone())
    });
    let wanted: Vec<_> = wanted.collect();
    let ensured = ensure_all(&wanted, settings, &client).await?;
    Ok(Asked {
        settings,
        client,
        indexes,
        ensured,
        _ways: found,
    })
}

/// Asks for every branch, which the session holds from then on, so that no TTL runs while they are waited for. Asking
/// twice is asking once: an engine that went away meanwhile is started and asked again.
async fn ensure_all(
    wanted: &[EnsureBranch],
    settings: &Settings,
    client: &EngineClient,
) -> Result<Vec<EnsuredBranch>, CommandError> {
    for _ in 1..ASK_TRIES_MAX {
        match try_to_ensure_all(wanted, client).await {
            Err(error) if error.is_absence() => {
                engine_start::connect(settings).await?;
            }
            Ok(ensured) => return Ok(ensured),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(try_to_ensure_all(wanted, client).await?)
}

async fn try_to_ensure_all(
    wanted: &[EnsureBranch],
    client: &EngineClient,
) -> Result<Vec<EnsuredBranch>, ClientError> {
    let mut ensured = Vec::with_capacity(wanted.len());
    for branch in wanted {
        ensured.push(client.ensure_branch(branch).await?);
    }
    Ok(ensured)
}

fn want(
    plan: &Plan,
    planned: &PlannedBranch,
    proxy: Option<SourceProxy>,
    holder: Holder,
) -> EnsureBranch {
    let branch = &planned.wanted;
    EnsureBranch {
        id: branch.id.clone(),
        namespace: plan.namespace.clone(),
        source: SourceRef::Url(Secret::new(planned.source.url.reveal())),
        proxy,
        database: branch.database.clone(),
        copy: branch.copy.clone(),
        version: branch.version,
        connection_settings: branch.connection_settings.clone(),
        ttl: branch.ttl,
        max_age_seconds: branch.max_age.map(|age| age.as_secs()),
        holder: Some(holder),
    }
}

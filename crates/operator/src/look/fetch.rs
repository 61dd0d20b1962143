//! What there is in the API server: branches, sources, the hosts of sources, and the administrator's limits.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::group::{self, Group};
use super::tell;
use crate::Settings;
use crate::host::{Home, SOURCE_LABEL};
use crate::limits::{Allowed, LIMITS_NAME, LimitError};
use crate::observed::Observed;
use crate::step::StepError;

/// Where there is something to be looked at: each of these namespaces, or the whole cluster, which is none of them.
pub(crate) fn places(namespaces: &[String]) -> Vec<Option<&str>> {
    match namespaces {
        [] => vec![None],
        some => some.iter().map(|it| Some(it.as_str())).collect(),
    }
}

/// Everything of one place, by who shares a host, in a cluster whose services have names below `domain`.
///
/// # Errors
/// [`StepError::Api`] where something of it cannot be listed: a host whose branches nobody knows would count as left.
pub(super) async fn groups(
    client: &Client,
    place: Option<&str>,
    domain: &str,
) -> Result<Vec<Group>, StepError> {
    let all = ListParams::default();
    let branches = list(client, place, &all, "branches").await?;
    let sources = list(client, place, &all, "sources").await?;
    let of_sources = ListParams::default().labels(SOURCE_LABEL);
    let hosts: Vec<StatefulSet> = list(client, place, &of_sources, "branch hosts").await?;
    let there = hosts
        .iter()
        .filter_map(|host| Some((host.namespace()?, Home::of(host)?)));
    Ok(group::groups(branches, &sources, there.collect(), domain))
}

async fn list<K>(
    client: &Client,
    place: Option<&str>,
    which: &ListParams,
    what: &str,
) -> Result<Vec<K>, StepError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    let api: Api<K> = match place {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let listed = api.list(which).await;
    let listed = listed.map_err(|source| StepError::Api {
        tried: match place {
            Some(namespace) => format!("list {what} in namespace {namespace}"),
            None => format!("list {what}"),
        },
        source: Box::new(source),
    })?;
    Ok(listed.items)
}

/// The limits of the administrator. Where they cannot be read, that is told, and known of them; they are none where the operator stands for no lead, and so has no namespace of its own.
pub(super) async fn allowed(
    client: &Client,
    settings: &Settings,
    observed: &Observed,
) -> Result<Allowed, LimitError> {
    let Some(candidate) = &settings.candidate else {
        return Ok(Allowed::default());
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &candidate.namespace);
    let namespace = candidate.namespace.clone();
    match api.get_opt(LIMITS_NAME).await {
        Ok(Some(found)) => Allowed::read(&found.data.unwrap_or_default()),
        // Every way of installing makes one, an empty one where nothing is limited.
        Ok(None) => Err(LimitError::Gone { namespace }),
        Err(source) => {
            let tried = format!("read the configmap {LIMITS_NAME} in namespace {namespace}");
            let source = Box::new(source);
            tell(observed, &StepError::Api { tried, source });
            Err(LimitError::Unread { namespace })
        }
    }
}

//! The end of all sessions, sources, branches and their hosts, before their operator goes: without it nobody ends what holds a
//! branch's resource, and nobody forgets a session whose command was killed.
//!
//! ```text
//!   sessions deleted ──> sources, branches deleted ──an operator ends each in its engine──> gone ──> hosts deleted, with volumes
//!                                      └── after ANSWER_WITHIN ──> hosts deleted ──an operator lets go what was there──┘
//! ```
//!
//! A command whose session's resource is deleted ends with it, and the agents end once nobody speaks to them.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{DeleteParams, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use resources::{Branch, Session, Source};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::HOST_LABEL;
use crate::host::{self, Home};
use crate::look;
use crate::source;

/// How long branches may take to end by the engines of their hosts. One that does not answer holds nobody up: it goes with
/// its volume, and so do its branches.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

/// How long they may take once their hosts are gone.
const END_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Sessions.
    pub sessions: usize,
    /// Branches.
    pub branches: usize,
    /// Branch hosts.
    pub hosts: usize,
    /// Namespaces of several that may not be read, as those that are gone: what may be there was left.
    pub left_out: Vec<String>,
}

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub enum ClearError {
    /// The API server refused or did not answer.
    #[error("cannot {tried}")]
    Api {
        /// What was tried.
        tried: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Branches do not end.
    #[error("there are still branches {} s after their hosts were deleted: {}", END_WITHIN.as_secs(), .left.join(", "))]
    Left {
        /// Those, each `NAMESPACE/NAME`.
        left: Vec<String>,
    },
}

impl ClearError {
    fn is_forbidden(&self) -> bool {
        match self {
            Self::Api { source, .. } => {
                matches!(source.as_ref(), kube::Error::Api(status) if status.is_forbidden())
            }
            Self::Left { .. } => false,
        }
    }
}

/// Ends all sessions, branches and hosts of `namespaces`, of the whole cluster without any.
///
/// # Errors
/// [`ClearError`] where something is left, and may be tried again.
pub async fn clear(client: &Client, namespaces: &[String]) -> Result<Cleared, ClearError> {
    let mut cleared = Cleared::default();
    let mut places = Vec::new();
    let mut refused = None;
    for place in look::places(namespaces) {
        match (list::<Branch>(client, place, "branches").await, place) {
            (Ok(_), _) => places.push(place),
            (Err(error), Some(namespace)) if error.is_forbidden() => {
                cleared.left_out.push(namespace.to_owned());
                refused = Some(error);
            }
            (Err(error), _) => return Err(error),
        }
    }
    if let (true, Some(error)) = (places.is_empty(), refused) {
        return Err(error);
    }
    for place in &places {
        // First, so that a command is told that its session was ended, and not that its branch is lost.
        for session in list::<Session>(client, *place, "sessions").await? {
            cleared.sessions += 1;
            let api = Api::namespaced(client.clone(), &namespace(&session));
            delete(&api, &session).await?;
        }
        // Before its host goes, which it would have made again.
        for source in list::<Source>(client, *place, "sources").await? {
            let api = Api::namespaced(client.clone(), &namespace(&source));
            delete(&api, &source).await?;
        }
        for branch in list::<Branch>(client, *place, "branches").await? {
            cleared.branches += 1;
            delete(
                &Api::<Branch>::namespaced(client.clone(), &namespace(&branch)),
                &branch,
            )
            .await?;
        }
    }
    if !wait_until_none(client, &places, ANSWER_WITHIN)
        .await?
        .is_empty()
    {
        cleared.hosts += end_hosts(client, &places).await?;
        let left = wait_until_none(client, &places, END_WITHIN).await?;
        if !left.is_empty() {
            return Err(ClearError::Left { left });
        }
    }
    // A look that had begun before may have made one again.
    cleared.hosts += end_hosts(client, &places).await?;
    Ok(cleared)
}

/// Deletes all hosts; how many.
async fn end_hosts(client: &Client, places: &[Option<&str>]) -> Result<usize, ClearError> {
    let mut ended = 0;
    for place in places {
        let all = hosts(client, *place).await?;
        let stands = |it: &&StatefulSet| it.metadata.deletion_timestamp.is_none();
        for host in all.iter().filter(stands) {
            ended += usize::from(host::count(host));
            if let Some(home) = Home::of(host)
                && let Err(error) = source::release(client, &namespace(host), &home).await
            {
                tracing::warn!("{error}");
            }
            let api = Api::<StatefulSet>::namespaced(client.clone(), &namespace(host));
            delete(&api, host).await?;
        }
    }
    Ok(ended)
}

fn namespace(object: &impl ResourceExt) -> String {
    object.namespace().unwrap_or_default()
}

fn failed(tried: &str, source: kube::Error) -> ClearError {
    ClearError::Api {
        tried: tried.to_owned(),
        source: Box::new(source),
    }
}

/// None where the cluster does not know such a resource.
async fn list<K>(client: &Client, place: Option<&str>, what: &str) -> Result<Vec<K>, ClearError>
where
    K: Clone + Debug + DeserializeOwned + Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    let api: Api<K> = match place {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    match api.list(&ListParams::default()).await {
        Ok(listed) => Ok(listed.items),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(source) => Err(failed(&format!("list {what}"), source)),
    }
}

async fn hosts(client: &Client, place: Option<&str>) -> Result<Vec<StatefulSet>, ClearError> {
    let api: Api<StatefulSet> = match place {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let listed = api.list(&ListParams::default().labels(HOST_LABEL)).await;
    let listed = listed.map_err(|source| failed("list branch hosts", source))?;
    Ok(listed.items)
}

async fn delete<K>(api: &Api<K>, object: &K) -> Result<(), ClearError>
where
    K: Clone + Debug + DeserializeOwned + ResourceExt,
{
    let name = object.name_any();
    match api.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        deleted => deleted
            .map(drop)
            .map_err(|source| failed(&format!("delete {name} in {}", namespace(object)), source)),
    }
}

/// The branches that are left after this time at most, each `NAMESPACE/NAME`.
async fn wait_until_none(
    client: &Client,
    places: &[Option<&str>],
    limit: Duration,
) -> Result<Vec<String>, ClearError> {
    let end = Instant::now() + limit;
    loop {
        let mut left = Vec::new();
        for place in places {
            let found = list::<Branch>(client, *place, "branches").await?;
            let names = found
                .iter()
                .map(|it| format!("{}/{}", namespace(it), it.name_any()));
            left.extend(names);
        }
        if left.is_empty() || Instant::now() >= end {
            return Ok(left);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;
    use crate::agents::played_api::play;

    #[tokio::test]
    async fn sessions_go_as_well_and_before_what_they_work_with() {
        let deleted = Arc::new(Mutex::new(Vec::<String>::new()));
        let shared = Arc::clone(&deleted);
        let client = play(move |method, path, _| {
            let mut deleted = shared.lock().expect("no panic");
            let workload = json!({"kind": "Deployment", "name": "inventory"});
            let (kind, spec) = if path.contains("/sessions") {
                ("sessions", json!({ "target": workload }))
            } else if path.contains("/branches") {
                let spec = json!({"id": "x", "source": "db:5432/d", "version": 16});
                ("branches", spec)
            } else {
                ("others", json!({}))
            };
            if method == "DELETE" {
                deleted.push(kind.to_owned());
            }
            let is_there = kind != "others" && !deleted.iter().any(|it| it == kind);
            let metadata = json!({"name": "x", "namespace": "shop"});
            let object = json!({"metadata": metadata, "spec": spec});
            let items = if is_there { vec![object] } else { Vec::new() };
            let answer = if method == "DELETE" {
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
            } else {
                json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
            };
            (200, answer)
        });
        let cleared = clear(&client, &[]).await.expect("all of it ends");
        let wanted = Cleared {
            sessions: 1,
            branches: 1,
            ..Cleared::default()
        };
        assert_eq!(cleared, wanted);
        let deleted = deleted.lock().expect("no panic").clone();
        assert_eq!(deleted, ["sessions", "branches"]);
    }
}

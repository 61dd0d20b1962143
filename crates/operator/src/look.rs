//! One look at everything: what there is, by who shares hosts that are alike, then these side by side, each with its source
//! and its branches.
//!
//! Owns the order. Leaves what is to be done to `branch` and `source`, which say it as pure functions, and the hosts of one
//! group to `hosts`.

mod fetch;
mod group;
mod hosts;
mod share;
mod strays;

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use resources::{Branch, BranchPhase};
use tokio::time::Instant;

use crate::branch::{self, Action, Held, Sources};
use crate::limits::{Allowed, LimitError};
use crate::observed::{Loop, Observed, Seen};
use crate::step::StepError;
use crate::{Settings, source};
pub(crate) use fetch::places;
use group::Group;
use hosts::HostSeen;
pub(crate) use strays::Strays;

/// Groups of hosts that are looked at side by side: one that hangs takes half a minute for each question, and holds few
/// others up. Those of one group are at most as many as a source may have.
const GROUPS_AT_ONCE: usize = 16;

/// Looks at everything once; `strays` are those of the looks before.
pub(crate) async fn look(
    client: &Client,
    settings: &Settings,
    observed: &Observed,
    strays: &mut Strays,
    now: Timestamp,
) {
    let began = Instant::now();
    observed.turns(Loop::Branches);
    let (groups, allowed) = match read(client, settings, observed).await {
        Ok(read) => read,
        Err(error) => {
            tell(observed, &error);
            return observed.looked(Some(error.told()));
        }
    };
    observed.answered();
    observed.looked(None);
    let all = groups.iter().flat_map(|group| &group.branches);
    let sources = Sources {
        all: groups.iter().filter_map(|it| it.source.as_ref()).collect(),
        domain: &settings.cluster_domain,
    };
    let turn = Turn {
        client,
        settings,
        observed,
        held: branch::refusals(all, &sources, &allowed, &strays.by_namespace()),
        allowed: allowed.ok(),
        now,
    };
    let mut seen = Seen::default();
    for group in &groups {
        for branch in &group.branches {
            let status = branch.status.clone().unwrap_or_default();
            let (phase, sessions) = match turn.held.get(&branch::key(branch)) {
                Some(Held::Refused(_)) => (BranchPhase::Failed, 0),
                Some(Held::Waits) | None => (status.phase, status.sessions),
            };
            seen.branch(&group.namespace, phase, sessions);
        }
    }
    let looks = stream::iter(&groups).map(|group| turn.take(group));
    let hosts: Vec<_> = looks.buffer_unordered(GROUPS_AT_ONCE).collect().await;
    let mut found = Vec::new();
    for (group, hosts) in hosts {
        for host in hosts {
            seen.host(&group.namespace, group.home.version, host.state);
            found.push((
                group.namespace.clone(),
                group.home.pod(host.ordinal),
                host.strays,
            ));
        }
    }
    strays.seen(found);
    observed.figures.looked(&seen, began.elapsed());
}

/// What there is, and what is allowed. A namespace that cannot be read, as one that is gone, is told and left out whole: the
/// others have an operator all the same.
async fn read(
    client: &Client,
    settings: &Settings,
    observed: &Observed,
) -> Result<(Vec<Group>, Result<Allowed, LimitError>), StepError> {
    let (mut groups, mut has_read, mut failed) = (Vec::new(), false, None);
    for place in places(&settings.namespaces) {
        match fetch::groups(client, place, &settings.cluster_domain).await {
            Ok(found) => {
                has_read = true;
                groups.extend(found);
            }
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    tell(observed, &earlier);
                }
            }
        }
    }
    match failed {
        Some(error) if !has_read => return Err(error),
        Some(error) => tell(observed, &error),
        None => {}
    }
    let allowed = fetch::allowed(client, settings, observed).await;
    Ok((groups, allowed))
}

/// What a look at hosts goes by.
struct Turn<'a> {
    client: &'a Client,
    settings: &'a Settings,
    observed: &'a Observed,
    held: BTreeMap<branch::Key, Held>,
    /// What is allowed; none where nobody says it at this moment.
    allowed: Option<Allowed>,
    now: Timestamp,
}

impl Turn<'_> {
    /// Looks at one group of hosts, its source, and its branches; gives how each host stands.
    async fn take<'g>(&self, group: &'g Group) -> (&'g Group, Vec<HostSeen>) {
        self.observed.turns(Loop::Branches);
        let mut within = Vec::new();
        for branch in &group.branches {
            match self.held.get(&branch::key(branch)) {
                Some(Held::Waits) => {}
                Some(Held::Refused(why)) => {
                    let actions = branch::plan_refused(branch, why, self.now);
                    self.perform(branch, actions).await;
                }
                None => within.push(branch),
            }
        }
        if group.is_left() {
            let forgotten = source::forget(self.client, &group.namespace, &group.home).await;
            if let Err(error) = forgotten {
                tell(self.observed, &error);
            }
            return (group, Vec::new());
        }
        if within.is_empty() && group.source.is_none() {
            return (group, Vec::new());
        }
        (group, self.look_at(group, &within).await)
    }

    /// Does what is to be done about one branch, up to the first step that fails.
    async fn perform(&self, branch: &Branch, actions: Vec<Action>) {
        for action in actions {
            // Each may take its time, and nothing hangs while they follow each other.
            self.observed.turns(Loop::Branches);
            if let Err(error) = branch::action(self.client, branch, action, self.now).await {
                return tell(self.observed, &error);
            }
        }
    }
}

fn tell(observed: &Observed, error: &StepError) {
    observed.figures.failed(error.of());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(cause, "{error}");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::agents::played_api::{play, refusal};
    use crate::{Candidate, HostSettings};

    fn settings() -> Settings {
        let name = || "bough-operator".to_owned();
        Settings {
            namespaces: vec!["shop".to_owned()],
            candidate: Some(Candidate {
                name: name(),
                namespace: name(),
            }),
            port: None,
            cluster_domain: crate::CLUSTER_DOMAIN.to_owned(),
            host: HostSettings::of_image("bough:1"),
        }
    }

    /// The branch `ended`, which is being deleted, has no host any more; `new` is not let in yet.
    fn branches() -> Value {
        let branch = |name: &str, version: u16| {
            json!({
                "apiVersion": "bough.dev/v1alpha1", "kind": "Branch",
                "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"},
                "spec": {"id": name, "source": "db:5432/d", "version": version, "requester": "alice"},
            })
        };
        let (mut ended, new) = (branch("ended", 16), branch("new", 17));
        ended["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        ended["metadata"]["finalizers"] = json!(["bough.dev/branch-host"]);
        json!({"items": [ended, new]})
    }

    #[tokio::test]
    async fn limits_that_cannot_be_read_hold_back_who_is_new_and_nobody_else() {
        let changed = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&changed);
        let client = play(move |method, path, body| match (method, path) {
            ("GET", path) if path.ends_with("/branches") => (200, branches()),
            ("GET", path) if path.ends_with("/configmaps/bough-limits") => {
                refusal(500, "etcd does not answer")
            }
            ("GET", path) if path.ends_with("/statefulsets/bough-host-16") => {
                let mut gone = refusal(404, "not found");
                gone.1["reason"] = json!("NotFound");
                gone
            }
            ("GET", _) => (200, json!({"items": []})),
            (method, path) => {
                let mut changed = shared.lock().expect("no panic");
                changed.push(format!("{method} {path}"));
                (200, body)
            }
        });
        let now = "2026-01-01T00:00:10Z".parse().expect("a time");
        let (observed, mut strays) = (Observed::default(), Strays::default());
        look(&client, &settings(), &observed, &mut strays, now).await;
        let changed = changed.lock().expect("no panic");
        let ended = "PATCH /apis/bough.dev/v1alpha1/namespaces/shop/branches/ended";
        assert_eq!(*changed, [ended]);
    }
}

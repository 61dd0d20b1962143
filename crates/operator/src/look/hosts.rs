//! Hosts that are alike, looked at: made where they are missing, asked side by side, each with the branches that are at
//! home there; then the new branches on those that answered, and what the source says; then the hosts that are too many.
//!
//! Owns the order. Leaves who goes where to `share`, and what is to be done about a branch or a source to them.

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use model::engine_api::BranchView;
use resources::{Branch, Source};

use super::group::Group;
use super::share::{self, Candidate, Readiness};
use super::{Turn, tell};
use crate::branch::{self, Host};
use crate::host::{self, Answering, Home, OneHost, Presence};
use crate::observed::HostState;
use crate::source::{self, Kept};
use crate::step::StepError;

/// Branches of one host about which something is done side by side: a deletion takes as long as the host's disk does.
const BRANCHES_AT_ONCE: usize = 4;

/// What a look tells of one host.
pub(super) struct HostSeen {
    pub(super) ordinal: u16,
    pub(super) state: HostState,
    /// How many branches it has that no resource names; none where it did not say.
    pub(super) strays: Option<usize>,
}

impl HostSeen {
    /// The first of a group, which says nothing.
    fn silent(state: HostState) -> Self {
        Self {
            ordinal: 0,
            state,
            strays: None,
        }
    }
}

/// What one of the hosts had to say.
struct Told {
    ordinal: u16,
    state: HostState,
    /// How it stands for its branches; none where it could not be asked.
    host: Option<Host>,
    /// How many branches it has that no resource names; none where it could not be asked.
    strays: Option<usize>,
    /// How its source stands there; none without one, or where it could not be asked.
    kept: Option<Kept>,
}

impl Told {
    fn seen(&self) -> HostSeen {
        HostSeen {
            ordinal: self.ordinal,
            state: self.state,
            strays: self.strays,
        }
    }

    fn branches(&self) -> &[BranchView] {
        match &self.host {
            Some(Host::Answers { branches, .. }) => branches,
            Some(Host::Starting(_) | Host::Gone(_)) | None => &[],
        }
    }
}

/// Whether there are hosts to be asked.
enum Standing {
    /// So many.
    There(u16),
    /// None yet; why, for people.
    Waits(String),
    /// None, and none is to be made; why, for people.
    Gone(String),
}

impl Turn<'_> {
    /// Looks at the hosts of `group`, with its `branches` that are not refused; how each host stands.
    pub(super) async fn look_at(&self, group: &Group, branches: &[&Branch]) -> Vec<HostSeen> {
        let count = match self.stand(group, branches).await {
            Ok(Standing::There(count)) => count,
            Ok(Standing::Waits(why)) => {
                let host = Host::Starting(why.clone());
                self.look_at_none(group, branches, host, why).await;
                return vec![HostSeen::silent(HostState::Starting)];
            }
            Ok(Standing::Gone(why)) => {
                let host = Host::Gone(why.clone());
                self.look_at_none(group, branches, host, why).await;
                return Vec::new();
            }
            Err(error) => {
                tell(self.observed, &error);
                return vec![HostSeen::silent(HostState::Failing)];
            }
        };
        // One that hangs keeps nobody waiting but those who are new.
        let looks = (0..count).map(|ordinal| self.look_at_one(group, ordinal, branches));
        let told = join_all(looks).await;
        let new = branches.iter().filter(|it| branch::home(it).is_none());
        let new: Vec<&Branch> = new.copied().collect();
        let placed = self.place(group, &told, branches, &new);
        for (branch, ordinal) in new.iter().zip(&placed) {
            let of = ordinal.and_then(|ordinal| told.get(usize::from(ordinal)));
            let waits = || {
                told.iter()
                    .find(|it| matches!(it.host, Some(Host::Starting(_))))
            };
            if let Some(host) = of.or_else(waits).and_then(|it| it.host.as_ref()) {
                self.perform(branch, branch::plan(branch, host, self.now))
                    .await;
            }
        }
        self.tell_source(group, &told).await;
        let placed = placed.into_iter().flatten();
        if let Err(error) = self.let_go(group, &told, placed).await {
            tell(self.observed, &error);
        }
        told.iter().map(Told::seen).collect()
    }

    /// Makes the hosts of `group` where they are missing and needed, renews those that are there, adds those that are
    /// wanted beyond them.
    async fn stand(&self, group: &Group, branches: &[&Branch]) -> Result<Standing, StepError> {
        let (client, namespace, home) = (self.client, &group.namespace, &group.home);
        let spec = group.source.as_ref().map(|it| &it.spec);
        let ttl_max = self.allowed.as_ref().map(|it| it.ttl_max_of_host(spec));
        let today = host::build(namespace, home, spec, &self.settings.host, ttl_max);
        let needed = group.needs_host();
        let there = match host::have(client, namespace, home, needed, &today).await? {
            Presence::There(there) => there,
            Presence::Gone(why) => return Ok(Standing::Gone(why)),
        };
        if let Some(other) = Home::of(&there).filter(|it| it != home) {
            let (name, version) = (home.name(), other.version);
            let why = format!(
                "its host {name} is version {version}'s until the last branch there is gone"
            );
            return Ok(Standing::Waits(why));
        }
        // Those that are as they were serve all the same.
        if let Err(error) = host::renew(client, namespace, home, &there, &today).await {
            tell(self.observed, &error);
        }
        let walled = (spec, self.settings.host.wall);
        if let Err(error) = host::wall(client, namespace, home, &there, walled).await {
            tell(self.observed, &error);
        }
        let count = host::count(&there);
        let homes = branches.iter().filter_map(|it| branch::home(it));
        let least = share::least(group.hosts_wanted(), homes.map(|it| it.ordinal));
        if least <= count {
            return Ok(Standing::There(count));
        }
        match host::scale(client, namespace, home, host::Way::Up, least).await {
            Ok(()) => Ok(Standing::There(least)),
            Err(error) => {
                tell(self.observed, &error);
                Ok(Standing::There(count))
            }
        }
    }

    async fn look_at_none(&self, group: &Group, branches: &[&Branch], host: Host, why: String) {
        for branch in branches {
            let actions = branch::plan(branch, &host, self.now);
            self.perform(branch, actions).await;
        }
        let told = Told {
            ordinal: 0,
            state: HostState::Starting,
            host: Some(host),
            strays: None,
            kept: Some(Kept::Starting(why)),
        };
        self.tell_source(group, &[told]).await;
    }

    /// Asks one host, and does what is to be done about the branches that are at home there.
    async fn look_at_one(&self, group: &Group, ordinal: u16, branches: &[&Branch]) -> Told {
        let told = self.ask(group, ordinal, branches).await;
        let told = told.unwrap_or_else(|error| {
            tell(self.observed, &error);
            Told {
                ordinal,
                state: HostState::Failing,
                host: None,
                strays: None,
                kept: None,
            }
        });
        if let Some(host) = &told.host {
            let own = branches.iter().filter(|it| is_at(it, ordinal));
            let all = own.map(|branch| self.perform(branch, branch::plan(branch, host, self.now)));
            let performed = stream::iter(all).buffer_unordered(BRANCHES_AT_ONCE);
            performed.collect::<()>().await;
        }
        told
    }

    async fn ask(
        &self,
        group: &Group,
        ordinal: u16,
        branches: &[&Branch],
    ) -> Result<Told, StepError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &group.namespace);
        let pod = group.home.pod(ordinal);
        let answering = host::look(&pods, &pod).await?;
        let (host, strays, state) = match &answering {
            Answering::Starting(why) => (Host::Starting(why.clone()), None, HostState::Starting),
            // One that does not answer is asked nothing more.
            Answering::In { .. } => {
                let all = branches_in(&pods, &pod).await?;
                let strays = strays(&all, group);
                let own = all.into_iter().filter(|it| is_of(it, group));
                let mut host = Host::Answers {
                    pod: pod.clone(),
                    branches: own.collect(),
                    volume: None,
                };
                self.see_volume(group, &mut host, branches).await;
                (host, Some(strays), HostState::Answers)
            }
        };
        let kept = match &group.source {
            Some(source) => self.keep(source, &pod, &answering).await,
            None => None,
        };
        Ok(Told {
            ordinal,
            state,
            host: Some(host),
            strays,
            kept,
        })
    }

    /// Has `host` say which volume it is on, where that decides something: of a branch that nobody has said it of, or that
    /// its engine does not have.
    async fn see_volume(&self, group: &Group, host: &mut Host, own: &[&Branch]) {
        let Host::Answers {
            pod,
            branches: had,
            volume,
        } = host
        else {
            return;
        };
        let is_had = |branch: &Branch| had.iter().any(|it| it.id.as_str() == branch.spec.id);
        let is_known = |branch: &Branch| {
            let status = branch.status.as_ref();
            status.is_some_and(|it| it.volume.is_some())
        };
        let here = own.iter().filter(|it| {
            branch::home(it).is_none_or(|home| home.ordinal == OneHost::of_pod(pod).ordinal)
        });
        let mut undecided = here.filter(|it| !(is_known(it) && is_had(it)));
        if undecided.next().is_none() {
            return;
        }
        match host::volume(self.client, &group.namespace, pod).await {
            Ok(uid) => *volume = uid,
            // Nobody is told lost for that.
            Err(error) => tell(self.observed, &error),
        }
    }

    async fn keep(&self, source: &Source, pod: &str, answering: &Answering) -> Option<Kept> {
        let kept = source::look(self.client, source, pod, answering, self.now).await;
        kept.inspect_err(|error| tell(self.observed, error)).ok()
    }

    /// The host of each new branch.
    fn place(
        &self,
        group: &Group,
        told: &[Told],
        branches: &[&Branch],
        new: &[&Branch],
    ) -> Vec<Option<u16>> {
        let candidates: Vec<Candidate<'_>> = told
            .iter()
            .map(|it| Candidate {
                ordinal: it.ordinal,
                readiness: readiness(it, group.source.is_some()),
                load: branches
                    .iter()
                    .filter(|branch| is_at(branch, it.ordinal))
                    .count(),
                has: it.branches().iter().map(|view| view.id.as_str()).collect(),
            })
            .collect();
        let ids: Vec<&str> = new.iter().map(|it| it.spec.id.as_str()).collect();
        share::place(&ids, &candidates, group.hosts_wanted())
    }

    async fn tell_source(&self, group: &Group, told: &[Told]) {
        let Some(source) = &group.source else {
            return;
        };
        let hosts: Vec<_> = told
            .iter()
            .map(|it| (group.home.pod(it.ordinal), it.kept.clone()))
            .collect();
        if let Err(error) = source::tell(self.client, source, &hosts, self.now).await {
            tell(self.observed, &error);
        }
    }

    /// Ends the hosts above the wanted number that have no branches, the last ones, in their engines' own way first.
    async fn let_go(
        &self,
        group: &Group,
        told: &[Told],
        placed: impl Iterator<Item = u16>,
    ) -> Result<(), StepError> {
        let there = u16::try_from(told.len()).unwrap_or(u16::MAX);
        let homes = group.branches.iter().filter_map(branch::home);
        let homes = homes.map(|it| it.ordinal);
        let has_strays = |it: &Told| it.strays.is_some_and(|count| count > 0);
        let with_branches = told
            .iter()
            .filter(|it| !it.branches().is_empty() || has_strays(it));
        let occupied = homes
            .chain(placed)
            .chain(with_branches.map(|it| it.ordinal));
        let stay = share::stay(there, group.hosts_wanted(), occupied);
        if stay == there {
            return Ok(());
        }
        let (client, namespace, home) = (self.client, &group.namespace, &group.home);
        for ordinal in stay..there {
            source::release_one(client, namespace, home, ordinal).await?;
        }
        host::scale(client, namespace, home, host::Way::Down, stay).await
    }
}

fn is_at(branch: &Branch, ordinal: u16) -> bool {
    branch::home(branch).is_some_and(|it| it.ordinal == ordinal)
}

/// A host of no source has no base before somebody asks.
fn readiness(told: &Told, has_source: bool) -> Readiness {
    let has_base = !has_source || told.kept.as_ref().is_some_and(Kept::has_base);
    match &told.host {
        Some(Host::Answers { .. }) if has_base => Readiness::Stocked,
        Some(Host::Answers { .. }) => Readiness::Bare,
        Some(Host::Starting(_) | Host::Gone(_)) | None => Readiness::Away,
    }
}

/// Whether a branch of a group's engine has a namespace that a resource of the group can name.
fn is_of(view: &BranchView, group: &Group) -> bool {
    view.namespace.as_str() == group.namespace
}

/// How many branches of a host's engine no resource names.
fn strays(views: &[BranchView], group: &Group) -> usize {
    let is_named = |view: &BranchView| {
        let mut named = group.branches.iter();
        is_of(view, group) && named.any(|it| it.spec.id == view.id.as_str())
    };
    views.iter().filter(|view| !is_named(view)).count()
}

/// Asks the engine in `pod` for all of its branches.
async fn branches_in(pods: &Api<Pod>, pod: &str) -> Result<Vec<BranchView>, StepError> {
    let words = [
        "db-branches",
        "status",
        "--all-namespaces",
        "--output",
        "json",
    ];
    let text = host::ask(pods, pod, &words).await?;
    serde_json::from_str(&text).map_err(|error| StepError::Engine {
        pod: pod.to_owned(),
        words: error.to_string(),
    })
}

//! Who shares hosts that are alike: a pure function of the branches, the sources and the hosts that are there.
//!
//! A branch is at home where an engine first answered for it, for good: neither a host that is away for a while nor another
//! source moves it. Before that it is with the source whose address it names, else with all others of its version.

use std::collections::BTreeMap;

use kube::ResourceExt;
use resources::{Branch, SOURCE_NAME_CHARS_MAX, Source};

use crate::branch;
use crate::host::{Home, wanted_hosts};
use crate::source::is_of;

/// Hosts that are alike, and those they are for.
#[derive(Debug)]
pub(super) struct Group {
    /// The namespace.
    pub(super) namespace: String,
    /// The hosts.
    pub(super) home: Home,
    /// The source that they follow; none where its branches have none, or that is gone.
    pub(super) source: Option<Source>,
    /// The branches, deleted ones included.
    pub(super) branches: Vec<Branch>,
}

impl Group {
    /// How many hosts take new branches; once their source is gone, nobody says that there are to be more than one.
    pub(super) fn hosts_wanted(&self) -> u16 {
        wanted_hosts(self.source.as_ref().map(|it| &it.spec))
    }

    /// Whether nobody needs the hosts any more: its source and the last branch of it are gone.
    pub(super) fn is_left(&self) -> bool {
        self.home.source.is_some() && self.source.is_none() && self.branches.is_empty()
    }

    /// Whether a host that is missing is to be made. How the host of a source looks only the source says: once that is
    /// gone, nobody makes it again. A branch that ends needs none.
    pub(super) fn needs_host(&self) -> bool {
        let goes = |it: &Branch| it.metadata.deletion_timestamp.is_some();
        match (&self.home.source, &self.source) {
            (Some(_), source) => source.is_some(),
            (None, _) => !self.branches.iter().all(goes),
        }
    }
}

/// All of them; `there` are the hosts of sources that there are, each with its namespace. Services have names below `domain`.
pub(super) fn groups(
    branches: Vec<Branch>,
    sources: &[Source],
    there: Vec<(String, Home)>,
    domain: &str,
) -> Vec<Group> {
    let mut groups: BTreeMap<(String, Home), Vec<Branch>> = BTreeMap::new();
    let wanted = sources.iter().filter(|it| is_wanted(it)).map(|source| {
        let home = Home {
            version: source.spec.version,
            source: Some(source.name_any()),
        };
        (source.namespace().unwrap_or_default(), home)
    });
    for key in there.into_iter().chain(wanted) {
        groups.entry(key).or_default();
    }
    for branch in branches {
        let key = (
            branch.namespace().unwrap_or_default(),
            home(&branch, sources, domain),
        );
        groups.entry(key).or_default().push(branch);
    }
    let groups = groups
        .into_iter()
        .map(|((namespace, home), branches)| Group {
            source: of_home(sources, &namespace, &home).cloned(),
            namespace,
            home,
            branches,
        });
    groups.collect()
}

/// Whether a source is one that gets a host. A name that its host cannot have the API server refuses; one may be older
/// than that rule.
fn is_wanted(source: &Source) -> bool {
    let name = source.name_any();
    let fits = name.len() <= SOURCE_NAME_CHARS_MAX && !name.contains('.');
    source.metadata.deletion_timestamp.is_none() && fits
}

fn of_home<'a>(sources: &'a [Source], namespace: &str, home: &Home) -> Option<&'a Source> {
    sources.iter().find(|source| {
        is_wanted(source)
            && source.namespace().as_deref() == Some(namespace)
            && home.source.as_deref() == Some(source.name_any().as_str())
            && source.spec.version == home.version
    })
}

fn home(branch: &Branch, sources: &[Source], domain: &str) -> Home {
    let version = branch.spec.version;
    if let Some(host) = branch::home(branch) {
        return Home::named(version, host.set);
    }
    let source = sources.iter().find(|source| {
        is_wanted(source) && source.spec.version == version && is_of(branch, source, domain)
    });
    Home {
        version,
        source: source.map(ResourceExt::name_any),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::ASKED_ANNOTATION;
    use crate::branch::{Action, Host};

    fn source(name: &str, version: u16, host: &str) -> Source {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "connection": {"name": "s", "key": "k"}, "version": version,
                "addresses": [{"host": host, "port": 5432}],
            },
        }))
        .expect("a source")
    }

    fn branch(id: &str, told: &str, set: Option<&str>) -> Branch {
        serde_json::from_value(json!({
            "metadata": {"name": id, "namespace": "shop"},
            "spec": {"id": id, "source": told, "version": 16, "copy": {"mode": "all"}},
            "status": {"home": set},
        }))
        .expect("a branch")
    }

    fn all_groups(
        branches: Vec<Branch>,
        sources: &[Source],
        there: Vec<(String, Home)>,
    ) -> Vec<Group> {
        groups(branches, sources, there, crate::CLUSTER_DOMAIN)
    }

    fn told(groups: &[Group]) -> Vec<(String, Vec<String>)> {
        let told = groups.iter().map(|group| {
            let branches = group.branches.iter().map(ResourceExt::name_any);
            (group.home.pod(0), branches.collect())
        });
        told.collect()
    }

    #[test]
    fn a_branch_goes_to_its_source_s_host_by_any_of_its_names() {
        let sources = [
            source("orders", 16, "postgres.shop.svc.cluster.local"),
            source("old", 15, "postgres"),
        ];
        let branches = ["postgres", "postgres.shop", "postgres.shop.svc", "other"];
        let branches = branches.map(|host| branch(host, &format!("{host}:5432/d"), None));
        let found = all_groups(branches.to_vec(), &sources, Vec::new());
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            told(&found),
            [
                ("bough-source-old-0".to_owned(), names(&[])),
                ("bough-host-16-0".to_owned(), names(&["other"])),
                (
                    "bough-source-orders-0".to_owned(),
                    names(&["postgres", "postgres.shop", "postgres.shop.svc"])
                ),
            ]
        );
        let elsewhere = branch("b", "postgres:5433/d", None);
        let found = all_groups(vec![elsewhere], &sources[..1], Vec::new());
        assert_eq!(told(&found)[0].0, "bough-host-16-0", "another port");
    }

    #[test]
    fn a_branch_stays_where_it_is_and_keeps_that_host() {
        let source = source("orders", 16, "postgres");
        let stays = branch("x", "postgres:5432/d", Some("bough-host-16"));
        let found = all_groups(vec![stays], &[source], Vec::new());
        assert_eq!(found[0].home.pod(0), "bough-host-16-0");
        let home = || Home::named(16, "bough-source-orders");
        let there = vec![("shop".to_owned(), home())];
        let last = branch("x", "postgres:5432/d", Some("bough-source-orders"));
        let found = all_groups(vec![last], &[], there.clone());
        assert!(!found[0].is_left(), "a branch is on it");
        let found = all_groups(Vec::new(), &[], there);
        assert!(found[0].is_left());
        assert_eq!(found[0].home, home());
    }

    /// One look at a branch: what its resource says afterwards.
    fn looked_at(mut branch: Branch, host: &Host) -> Branch {
        let now = "2026-01-02T12:00:00Z".parse().expect("a time");
        for action in branch::plan(&branch, host, now) {
            if let Action::Tell(status) = action {
                branch.status = Some(*status);
            }
        }
        branch
    }

    #[test]
    fn a_host_that_is_away_for_a_while_keeps_its_branches_whatever_became_of_the_sources() {
        let mut asked = branch("x", "postgres:5432/d", None);
        asked.metadata.annotations = Some(
            [(
                ASKED_ANNOTATION.to_owned(),
                "2026-01-02T12:00:00Z".to_owned(),
            )]
            .into(),
        );
        let away = Host::Starting("its pod is Pending".to_owned());
        // Nothing is settled before a host has answered.
        let waiting = looked_at(asked.clone(), &away);
        assert_eq!(branch::home(&waiting), None);
        for set in ["bough-host-16", "bough-source-orders"] {
            let answers = Host::Answers {
                pod: format!("{set}-0"),
                branches: Vec::new(),
                volume: None,
            };
            let there = looked_at(asked.clone(), &answers);
            let drained = looked_at(there, &away);
            let status = drained.status.as_ref().expect("told");
            assert_eq!(
                (status.host.as_deref(), status.home.as_deref()),
                (None, Some(set))
            );
            let home = Home::named(16, set);
            let hosts = vec![("shop".to_owned(), home.clone())];
            for sources in [
                &[][..],
                &[source("orders", 16, "postgres")],
                &[source("orders", 16, "elsewhere")],
            ] {
                let found = all_groups(vec![drained.clone()], sources, hosts.clone());
                let own = found.iter().find(|it| it.home == home).expect("its host's");
                assert_eq!(own.branches.len(), 1, "{set}, {sources:?}");
                assert!(!own.is_left(), "{set}, {sources:?}");
            }
        }
    }

    #[test]
    fn a_missing_host_is_made_for_who_stays_and_where_its_looks_are_known() {
        let stays = branch("x", "other:5432/d", None);
        let mut goes = branch("y", "other:5432/d", None);
        goes.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let needs = |branches: &[&Branch], sources: &[Source]| {
            let branches = branches.iter().map(|it| (*it).clone()).collect();
            all_groups(branches, sources, Vec::new())[0].needs_host()
        };
        assert!(needs(&[&stays, &goes], &[]));
        assert!(!needs(&[&goes], &[]));
        let on_source = branch("z", "other:5432/d", Some("bough-source-orders"));
        assert!(needs(&[&on_source], &[source("orders", 16, "postgres")]));
        assert!(!needs(&[&on_source], &[]), "nobody says how it looked");
    }
}

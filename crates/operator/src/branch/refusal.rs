//! Which branches are refused because they are not allowed, or too many, as a pure function of all of them.
//!
//! Whoever has a host already keeps it, whatever the limits have become; of the others the oldest come first. What is
//! refused is looked at again at every look, and let in when another one has gone. While nobody says what is allowed, who
//! is new waits. A branch that somebody made in a host's engine by himself, so that no resource names it, takes a place of
//! its namespace as any other.

use std::collections::BTreeMap;

use kube::ResourceExt;
use resources::{Branch, BranchPhase, Source, SourceAccess};

use crate::limits::{Allowed, LIMITS_NAME, LimitError, ttl_max_default};
use crate::source::{is_of, is_written};

use super::plan::{REFUSED, home};

/// A branch's namespace and name.
pub(crate) type Key = (String, String);

/// By which a branch is known.
pub(crate) fn key(branch: &Branch) -> Key {
    (branch.namespace().unwrap_or_default(), branch.name_any())
}

/// The sources that there are.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) all: Vec<&'a Source>,
    /// The domain of the names of the cluster's services.
    pub(crate) domain: &'a str,
}

impl<'a> Sources<'a> {
    /// Those that a branch says it comes from.
    fn of(&self, branch: &Branch) -> impl Iterator<Item = &'a Source> {
        let all = self.all.iter().copied();
        all.filter(move |it| is_of(branch, it, self.domain))
    }
}

/// Why a branch has no host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is not allowed; why, for a person.
    Refused(String),
    /// Whether it is allowed is not known at this moment.
    Waits,
}

/// The branches that have no host, each with why. `strays` is how many branches without a resource each namespace has.
pub(crate) fn refusals<'a>(
    branches: impl Iterator<Item = &'a Branch>,
    sources: &Sources<'_>,
    allowed: &Result<Allowed, LimitError>,
    strays: &BTreeMap<String, usize>,
) -> BTreeMap<Key, Held> {
    // One that goes makes room.
    let mut standing: Vec<&Branch> = branches
        .filter(|branch| branch.metadata.deletion_timestamp.is_none())
        .collect();
    standing.sort_by_key(|branch| {
        let made = branch.creation_timestamp().map(|time| time.0);
        (!is_in(branch), made, key(branch))
    });
    let (mut of_users, mut of_namespaces) = (BTreeMap::new(), BTreeMap::new());
    let mut refused = BTreeMap::new();
    for branch in standing {
        let user = branch.spec.requester.as_deref().unwrap_or("somebody");
        let namespace = branch.namespace().unwrap_or_default();
        let own: &mut usize = of_users.entry(user.to_owned()).or_default();
        let strays = strays.get(&namespace).copied().unwrap_or_default();
        let there: &mut usize = of_namespaces.entry(namespace.clone()).or_insert(strays);
        let why = match allowed {
            _ if is_in(branch) => None,
            Err(LimitError::Unread { .. }) => {
                refused.insert(key(branch), Held::Waits);
                continue;
            }
            Err(error) => Some(error.to_string()),
            Ok(allowed) => beyond(branch, sources, allowed)
                .or_else(|| outlives(branch, sources))
                .or_else(|| comes_unasked(branch, sources))
                .or_else(|| full(allowed.per_user, *own, user, "user"))
                .or_else(|| {
                    let why = full(allowed.per_namespace, *there, &namespace, "namespace")?;
                    Some(why + &of_strays(strays))
                }),
        };
        match why {
            Some(why) => {
                let held = Held::Refused(format!("refused: {why}"));
                drop(refused.insert(key(branch), held));
            }
            None => {
                *own += 1;
                *there += 1;
            }
        }
    }
    refused
}

/// What a branch wants that nobody may have, in the words of the API server's own policy: it looks first, but only once
/// it is in force.
fn beyond(branch: &Branch, sources: &Sources<'_>, allowed: &Allowed) -> Option<String> {
    let Branch { spec, .. } = branch;
    if let Some(most) = allowed.ttl_seconds_max
        && spec.ttl_seconds > most
    {
        return Some(format!(
            "branches of this cluster live for at most {most} s (configmap {LIMITS_NAME})"
        ));
    }
    // What the engine of a host of no source grants where nobody raised it.
    let most = ttl_max_default();
    if allowed.ttl_seconds_max.is_none()
        && spec.ttl_seconds > most
        && sources.of(branch).next().is_none()
    {
        return Some(format!(
            "branches of no Source live for at most {most} s unless an administrator raises that \
             (ttlSecondsMax of the configmap {LIMITS_NAME})"
        ));
    }
    let versions = allowed.versions.as_ref()?;
    if versions.contains(&spec.version) {
        return None;
    }
    let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
    Some(format!(
        "branches of this cluster have the versions {} alone (configmap {LIMITS_NAME})",
        versions.join(",")
    ))
}

/// Which of its sources lets no branch live for so long. The API server compares addresses as they are written, the
/// operator every name that a server has.
fn outlives(branch: &Branch, sources: &Sources<'_>) -> Option<String> {
    let mut own = sources.of(branch);
    let source = own.find(|it| branch.spec.ttl_seconds > it.spec.ttl_seconds_max)?;
    Some(format!(
        "branches of the source {} live for at most {} s",
        source.name_any(),
        source.spec.ttl_seconds_max
    ))
}

/// Which of its sources is for those alone who are granted it, where the API server asked nobody whether he is: it knows
/// that a branch is a source's by addresses as they are written.
fn comes_unasked(branch: &Branch, sources: &Sources<'_>) -> Option<String> {
    let is_granted = |it: &&Source| it.spec.access == SourceAccess::Granted;
    let mut own = sources.of(branch).filter(is_granted);
    let source = own.find(|it| !is_written(branch, it))?;
    let told = &branch.spec.source;
    let server = told.split_once('/').map_or(told.as_str(), |(it, _)| it);
    Some(format!(
        "the source {} is for those who are granted it (access), which is asked for its addresses as they are written alone: \
         {server} is not among them",
        source.name_any(),
    ))
}

/// What of that nobody finds among the resources.
fn of_strays(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(
            "; {count} of these were made in a branch host without a resource: `bough db-branches status` has them"
        ),
    }
}

/// Why there is no room for one more.
fn full(limit: Option<usize>, count: usize, who: &str, each: &str) -> Option<String> {
    let limit = limit.filter(|it| count >= *it)?;
    Some(format!(
        "{who} has {count} branches, and {limit} for each {each} are allowed (configmap {LIMITS_NAME})"
    ))
}

/// Whether it was let in, which its status alone says: its finalizers are its user's to write.
fn is_in(branch: &Branch) -> bool {
    let Some(status) = &branch.status else {
        return false;
    };
    let mut conditions = status.conditions.iter();
    let was_refused = conditions.any(|it| it.reason == REFUSED);
    home(branch).is_some() || (status.phase != BranchPhase::Pending && !was_refused)
}

#[cfg(test)]
mod tests {
    use resources::BranchStatus;
    use serde_json::json;

    use super::super::plan::{Action, FINALIZER, plan_refused};
    use super::*;

    fn branch(namespace: &str, name: &str, user: &str, second: u32, is_in: bool) -> Branch {
        let mut branch: Branch = serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": namespace,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
            "spec": {"id": name, "source": "db:5432/d", "version": 16, "requester": user},
        }))
        .expect("a branch");
        if is_in {
            branch.status = Some(BranchStatus {
                phase: BranchPhase::Making,
                ..BranchStatus::default()
            });
        }
        branch
    }

    fn of<'a>(all: &[&'a Source]) -> Sources<'a> {
        Sources {
            all: all.to_vec(),
            domain: crate::CLUSTER_DOMAIN,
        }
    }

    /// Those that are refused, each with why.
    fn reasons(held: BTreeMap<Key, Held>) -> BTreeMap<Key, String> {
        let refused = held.into_iter().map(|(key, held)| match held {
            Held::Refused(why) => (key, why),
            Held::Waits => panic!("{key:?} waits"),
        });
        refused.collect()
    }

    fn refused(
        branches: &[Branch],
        per_user: Option<usize>,
        per_namespace: Option<usize>,
    ) -> Vec<String> {
        let allowed = Ok(Allowed {
            per_user,
            per_namespace,
            ..Allowed::default()
        });
        let refused = refusals(branches.iter(), &of(&[]), &allowed, &BTreeMap::new());
        refused.into_keys().map(|(_, name)| name).collect()
    }

    #[test]
    fn who_is_in_stays_and_of_the_others_the_oldest_come_first() {
        let mut all = [
            branch("shop", "third", "alice", 3, false),
            branch("shop", "first", "alice", 1, false),
            branch("bank", "late", "alice", 9, true),
            branch("shop", "his", "bob", 4, false),
        ];
        assert_eq!(refused(&all, Some(2), None), ["third"]);
        assert_eq!(refused(&all, Some(1), None), ["first", "third"]);
        assert_eq!(refused(&all, None, Some(2)), ["his"]);
        assert_eq!(refused(&all, None, None), [""; 0]);
        // Nobody is put out, and one that goes makes room.
        assert_eq!(refused(&all, Some(0), None), ["first", "his", "third"]);
        all[2].metadata.deletion_timestamp = all[2].metadata.creation_timestamp.clone();
        assert_eq!(refused(&all, Some(2), None), [""; 0]);
    }

    #[test]
    fn a_finalizer_that_its_user_wrote_lets_nobody_in() {
        let mut all = [
            branch("shop", "first", "alice", 1, true),
            branch("shop", "second", "alice", 2, false),
        ];
        all[1].metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        assert_eq!(refused(&all, Some(1), None), ["second"]);
        // Nor does what was told of a refusal.
        let now = "2026-01-01T00:00:10Z".parse().expect("a time");
        let told = plan_refused(&all[1], "refused: too many", now);
        let Some(Action::Tell(status)) = told.first() else {
            panic!("{told:?}");
        };
        all[1].status = Some((**status).clone());
        assert_eq!(refused(&all, Some(1), None), ["second"]);
        // One whose host answered stays in, whatever has become of it.
        all[1].status.as_mut().expect("told").home = Some("bough-host-16".to_owned());
        assert_eq!(refused(&all, Some(1), None), [""; 0]);
    }

    #[test]
    fn a_refusal_says_who_has_how_many_and_what_cannot_be_read_lets_nobody_in() {
        let all = [
            branch("shop", "first", "alice", 1, true),
            branch("shop", "second", "alice", 2, false),
        ];
        let allowed = Ok(Allowed {
            per_user: Some(1),
            ..Allowed::default()
        });
        let told = reasons(refusals(all.iter(), &of(&[]), &allowed, &BTreeMap::new()));
        let told: Vec<_> = told.values().collect();
        assert_eq!(
            told,
            [
                "refused: alice has 1 branches, and 1 for each user are allowed (configmap bough-limits)"
            ]
        );
        let data = [("branchesPerUser".to_owned(), "x".to_owned())].into();
        let gone = Err(LimitError::Gone {
            namespace: "bough-operator".to_owned(),
        });
        for unknown in [Allowed::read(&data), gone] {
            let told = reasons(refusals(all.iter(), &of(&[]), &unknown, &BTreeMap::new()));
            let told: Vec<_> = told.iter().map(|((_, name), why)| (name, why)).collect();
            let [(name, why)] = told.as_slice() else {
                panic!("{told:?}");
            };
            assert!(
                *name == "second" && why.starts_with("refused: the "),
                "{why}"
            );
        }
    }

    #[test]
    fn what_nobody_may_have_is_refused_whoever_lets_it_pass_and_counts_for_nothing() {
        let mut all = [
            branch("shop", "long", "alice", 1, false),
            branch("shop", "new", "alice", 2, false),
            branch("shop", "fits", "alice", 3, false),
            branch("shop", "is-in", "bob", 4, true),
        ];
        all[0].spec.ttl_seconds = 601;
        all[1].spec.version = 18;
        all[2].spec.ttl_seconds = 600;
        all[3].spec.ttl_seconds = 900;
        let allowed = Ok(Allowed {
            per_user: Some(1),
            ttl_seconds_max: Some(600),
            versions: Some(vec![16, 17]),
            ..Allowed::default()
        });
        let told = reasons(refusals(all.iter(), &of(&[]), &allowed, &BTreeMap::new()));
        let told: Vec<_> = told
            .iter()
            .map(|((_, name), why)| (name.as_str(), why.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "long",
                    "refused: branches of this cluster live for at most 600 s (configmap bough-limits)"
                ),
                (
                    "new",
                    "refused: branches of this cluster have the versions 16,17 alone (configmap bough-limits)"
                ),
            ]
        );
    }

    #[test]
    fn no_branch_outlives_what_its_source_allows_by_whichever_name() {
        let mut all = [
            branch("shop", "long", "alice", 1, false),
            branch("shop", "fits", "alice", 2, false),
            branch("bank", "elsewhere", "alice", 3, false),
            branch("shop", "is-in", "bob", 4, true),
        ];
        for (branch, ttl) in all.iter_mut().zip([61, 60, 61, 61]) {
            branch.spec.ttl_seconds = ttl;
        }
        let source: Source = serde_json::from_value(json!({
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {
                "connection": {"name": "s", "key": "k"}, "version": 16, "ttlSecondsMax": 60,
                "addresses": [{"host": "db.shop.svc.cluster.local", "port": 5432}],
            },
        }))
        .expect("a source");
        let told = reasons(refusals(
            all.iter(),
            &of(&[&source]),
            &Ok(Allowed::default()),
            &BTreeMap::new(),
        ));
        let told: Vec<_> = told
            .iter()
            .map(|((_, name), why)| (name.as_str(), why.as_str()))
            .collect();
        let why = "refused: branches of the source orders live for at most 60 s";
        assert_eq!(told, [("long", why)]);
    }

    #[test]
    fn while_nobody_says_what_is_allowed_who_is_new_waits_and_nobody_else() {
        let all = [
            branch("shop", "first", "alice", 1, true),
            branch("shop", "second", "alice", 2, false),
        ];
        let unread = Err(LimitError::Unread {
            namespace: "bough-operator".to_owned(),
        });
        let held = refusals(all.iter(), &of(&[]), &unread, &BTreeMap::new());
        assert_eq!(held, [(key(&all[1]), Held::Waits)].into());
    }

    #[test]
    fn a_ttl_that_nobody_raised_is_the_engine_s_and_a_source_s_is_what_it_says() {
        let mut all = [
            branch("shop", "of-none", "alice", 1, false),
            branch("shop", "of-source", "alice", 2, false),
        ];
        all[0].spec.source = "other:5432/d".to_owned();
        for branch in &mut all {
            branch.spec.ttl_seconds = 3600;
        }
        let source: Source = serde_json::from_value(json!({
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {
                "connection": {"name": "s", "key": "k"}, "version": 16, "ttlSecondsMax": 3600,
                "addresses": [{"host": "db", "port": 5432}],
            },
        }))
        .expect("a source");
        let mut allowed = Allowed::default();
        assert_eq!(allowed.ttl_max_of_host(None), 900);
        assert_eq!(allowed.ttl_max_of_host(Some(&source.spec)), 3600);
        let refused = reasons(refusals(
            all.iter(),
            &of(&[&source]),
            &Ok(allowed.clone()),
            &BTreeMap::new(),
        ));
        assert_eq!(refused.keys().collect::<Vec<_>>(), [&key(&all[0])]);
        let why = refused.values().next().expect("why");
        assert!(
            why.contains("at most 900 s unless an administrator raises"),
            "{why}"
        );
        allowed.ttl_seconds_max = Some(7200);
        assert_eq!(allowed.ttl_max_of_host(None), 7200);
        assert_eq!(
            reasons(refusals(
                all.iter(),
                &of(&[&source]),
                &Ok(allowed.clone()),
                &BTreeMap::new(),
            )),
            BTreeMap::new()
        );
        allowed.ttl_seconds_max = Some(60);
        assert_eq!(allowed.ttl_max_of_host(None), 900, "who has one keeps it");
    }

    #[test]
    fn a_source_that_is_granted_takes_nobody_in_who_was_not_asked() {
        let of_host = |name: &str, host: &str, is_in: bool| {
            let mut branch = branch("shop", name, "alice", 1, is_in);
            branch.spec.source = format!("{host}:5432/d");
            branch
        };
        let all = [
            of_host("written", "DB.shop", false),
            of_host("other", "db.shop.svc", false),
            of_host("in", "db.shop.svc", true),
        ];
        let source = |access: &str| -> Source {
            serde_json::from_value(json!({
                "metadata": {"name": "orders", "namespace": "shop"},
                "spec": {
                    "connection": {"name": "s", "key": "k"}, "version": 16, "access": access,
                    "addresses": [{"host": "db.shop", "port": 5432}],
                },
            }))
            .expect("a source")
        };
        let told = |source: &Source| {
            let allowed = Ok(Allowed::default());
            let sources = of(&[source]);
            reasons(refusals(all.iter(), &sources, &allowed, &BTreeMap::new()))
        };
        let why = "refused: the source orders is for those who are granted it (access), which is asked for its addresses as \
                   they are written alone: db.shop.svc:5432 is not among them";
        let granted = told(&source("granted"));
        assert_eq!(granted, [(key(&all[1]), why.to_owned())].into());
        assert_eq!(told(&source("open")), BTreeMap::new());
    }

    #[test]
    fn a_branch_that_was_made_without_a_resource_takes_a_place_of_its_namespace() {
        let all = [
            branch("shop", "first", "alice", 1, false),
            branch("bank", "other", "alice", 2, false),
        ];
        let allowed = Ok(Allowed {
            per_namespace: Some(1),
            ..Allowed::default()
        });
        let strays = [("shop".to_owned(), 1)].into();
        let told = reasons(refusals(all.iter(), &of(&[]), &allowed, &strays));
        let why = "refused: shop has 1 branches, and 1 for each namespace are allowed (configmap bough-limits); 1 of these were \
                   made in a branch host without a resource: `bough db-branches status` has them";
        assert_eq!(told, [(key(&all[0]), why.to_owned())].into());
    }
}

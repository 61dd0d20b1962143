//! Which branches are refused because there are too many, as a pure function of all of them.
//!
//! Whoever has a host already keeps it, whatever the limits have become; of the others the oldest come first. What is
//! refused is looked at again at every look, and let in when another one has gone.

use std::collections::BTreeMap;

use kube::ResourceExt;
use resources::Branch;

use crate::limits::{LIMITS_NAME, LimitError, Quotas};

use super::plan::FINALIZER;

/// A branch's namespace and name.
pub(super) type Key = (String, String);

/// By which a branch is known.
pub(super) fn key(branch: &Branch) -> Key {
    (branch.namespace().unwrap_or_default(), branch.name_any())
}

/// The branches that are refused, each with why, for a person.
pub(super) fn refusals<'a>(
    branches: impl Iterator<Item = &'a Branch>,
    quotas: &Result<Quotas, LimitError>,
) -> BTreeMap<Key, String> {
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
        let there: &mut usize = of_namespaces.entry(namespace.clone()).or_default();
        let why = match quotas {
            _ if is_in(branch) => None,
            Err(error) => Some(error.to_string()),
            Ok(Quotas {
                per_user,
                per_namespace,
            }) => {
                let is_full = |limit: &Option<usize>, count: usize| limit.filter(|it| count >= *it);
                let full = is_full(per_user, *own).map(|limit| (user, *own, limit, "user"));
                let full = full.or_else(|| {
                    let limit = is_full(per_namespace, *there)?;
                    Some((namespace.as_str(), *there, limit, "namespace"))
                });
                full.map(|(who, count, limit, each)| {
                    format!(
                        "refused: {who} has {count} branches, and {limit} for each {each} are allowed (configmap {LIMITS_NAME})"
                    )
                })
            }
        };
        match why {
            Some(why) => drop(refused.insert(key(branch), why)),
            None => {
                *own += 1;
                *there += 1;
            }
        }
    }
    refused
}

/// Whether it was let in.
fn is_in(branch: &Branch) -> bool {
    branch.finalizers().iter().any(|name| name == FINALIZER)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn branch(namespace: &str, name: &str, user: &str, second: u32, held: bool) -> Branch {
        let mut branch: Branch = serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": namespace,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
            "spec": {"id": name, "source": "db:5432/d", "version": 16, "requester": user},
        }))
        .expect("a branch");
        if held {
            branch.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        }
        branch
    }

    fn refused(
        branches: &[Branch],
        per_user: Option<usize>,
        per_namespace: Option<usize>,
    ) -> Vec<String> {
        let quotas = Ok(Quotas {
            per_user,
            per_namespace,
        });
        let refused = refusals(branches.iter(), &quotas);
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
    fn a_refusal_says_who_has_how_many_and_what_cannot_be_read_lets_nobody_in() {
        let all = [
            branch("shop", "first", "alice", 1, true),
            branch("shop", "second", "alice", 2, false),
        ];
        let quotas = Ok(Quotas {
            per_user: Some(1),
            per_namespace: None,
        });
        let told = refusals(all.iter(), &quotas);
        let told: Vec<_> = told.values().collect();
        assert_eq!(
            told,
            [
                "refused: alice has 1 branches, and 1 for each user are allowed (configmap bough-limits)"
            ]
        );
        let data = [("branchesPerUser".to_owned(), "x".to_owned())].into();
        let told = refusals(all.iter(), &Quotas::read(&data));
        assert_eq!(told.len(), 1);
    }
}

//! What an administrator allows everybody: numbers of branches, their TTL, versions, images of agents.
//!
//! All stand in one ConfigMap of the operator's namespace, which may be edited while everything runs; a key that is not
//! there limits nothing. The API server compares one wish with it by itself (`manifests::admission`); what has to be
//! counted is the operator's, before a host is made (`branch::quota`).

use std::collections::BTreeMap;

/// The ConfigMap's name.
pub const LIMITS_NAME: &str = "bough-limits";

pub(crate) const TTL_SECONDS_MAX: &str = "ttlSecondsMax";
pub(crate) const VERSIONS: &str = "versions";
pub(crate) const AGENT_IMAGES: &str = "agentImages";
const BRANCHES_PER_USER: &str = "branchesPerUser";
const BRANCHES_PER_NAMESPACE: &str = "branchesPerNamespace";

/// What an administrator wishes to allow, as flags and values of the chart have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Branches that one user may have at a time, in all namespaces together.
    pub branches_per_user: Option<u32>,
    /// Branches that one namespace may have at a time.
    pub branches_per_namespace: Option<u32>,
    /// The longest TTL of a branch, in seconds.
    pub ttl_seconds_max: Option<u32>,
    /// The major versions of PostgreSQL that branches may have; all without any.
    pub versions: Vec<u16>,
    /// The images that agents may run from, as they are written in pods; all without any.
    pub agent_images: Vec<String>,
}

impl Limits {
    /// The ConfigMap's data.
    pub(crate) fn data(&self) -> BTreeMap<&'static str, String> {
        let number = |limit: Option<u32>| limit.map(|it| it.to_string());
        let list = |words: Vec<String>| (!words.is_empty()).then(|| words.join(","));
        let versions = self.versions.iter().map(ToString::to_string).collect();
        let all = [
            (BRANCHES_PER_USER, number(self.branches_per_user)),
            (BRANCHES_PER_NAMESPACE, number(self.branches_per_namespace)),
            (TTL_SECONDS_MAX, number(self.ttl_seconds_max)),
            (VERSIONS, list(versions)),
            (AGENT_IMAGES, list(self.agent_images.clone())),
        ];
        let written = all
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        written.collect()
    }
}

/// What has to be counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Quotas {
    /// Branches of one user.
    pub(crate) per_user: Option<usize>,
    /// Branches of one namespace.
    pub(crate) per_namespace: Option<usize>,
}

/// A limit that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the administrator's {key} is {value:?}, which is no number (configmap {LIMITS_NAME})")]
pub(crate) struct LimitError {
    key: &'static str,
    value: String,
}

impl Quotas {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// [`LimitError`] for what is no number: then nobody knows what is allowed.
    pub(crate) fn read(data: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        let number = |key: &'static str| {
            let written = data.get(key).map(|text| text.trim());
            let written = written.filter(|text| !text.is_empty());
            let read = written.map(|text| {
                let value = text.to_owned();
                text.parse().map_err(|_| LimitError { key, value })
            });
            read.transpose()
        };
        Ok(Self {
            per_user: number(BRANCHES_PER_USER)?,
            per_namespace: number(BRANCHES_PER_NAMESPACE)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_is_no_number_is_named() {
        let limits = Limits {
            branches_per_user: Some(2),
            ttl_seconds_max: Some(600),
            versions: vec![16, 17],
            ..Limits::default()
        };
        let data = limits.data();
        let told: Vec<_> = data
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            told,
            ["branchesPerUser=2", "ttlSecondsMax=600", "versions=16,17"]
        );
        let owned = data.into_iter().map(|(key, value)| (key.to_owned(), value));
        let mut owned: BTreeMap<_, _> = owned.collect();
        let quotas = Quotas {
            per_user: Some(2),
            per_namespace: None,
        };
        assert_eq!(Quotas::read(&owned), Ok(quotas));
        owned.insert(BRANCHES_PER_NAMESPACE.to_owned(), "many".to_owned());
        let error = Quotas::read(&owned).expect_err("no number");
        assert!(
            error
                .to_string()
                .contains("branchesPerNamespace is \"many\""),
            "{error}"
        );
    }
}

//! What an administrator allows everybody: numbers of branches, their TTL, versions, images of agents.
//!
//! All stand in one ConfigMap of the operator's namespace, which may be edited while everything runs; a key that is not
//! there limits nothing. The API server compares one wish with it by itself (`manifests::admission`), which takes a moment
//! to come into force. The operator counts, and compares again, before a host is made (`branch::refusal`); what agents run
//! from is the API server's alone. The engines of hosts have the longest TTL as well, where it is a raised one.

use std::collections::BTreeMap;
use std::str::FromStr;

use model::ttl::TTL_MAX_DEFAULT;
use resources::SourceSpec;

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

/// What the operator lets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Branches of one user.
    pub(crate) per_user: Option<usize>,
    /// Branches of one namespace.
    pub(crate) per_namespace: Option<usize>,
    /// The longest TTL, in seconds.
    pub(crate) ttl_seconds_max: Option<u32>,
    /// The major versions.
    pub(crate) versions: Option<Vec<u16>>,
}

/// Why nobody knows what is allowed, so that nobody new is let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    /// A limit that is none.
    #[error("the administrator's {key} is {value:?}, which is no number (configmap {LIMITS_NAME})")]
    NoNumber {
        /// Which one.
        key: &'static str,
        /// What it says.
        value: String,
    },
    /// The API server does not say what is allowed, at this moment.
    #[error(
        "nobody says at this moment what is allowed (configmap {LIMITS_NAME} in namespace {namespace})"
    )]
    Unread {
        /// Where it is.
        namespace: String,
    },
    /// Nothing says what is allowed, not even that all is.
    #[error(
        "the configmap {LIMITS_NAME} in namespace {namespace} is gone, which says what is allowed; an empty one allows everything"
    )]
    Gone {
        /// Where it should be.
        namespace: String,
    },
}

impl Allowed {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// [`LimitError::NoNumber`] for what is none.
    pub(crate) fn read(data: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        let written = |key: &str| data.get(key).map_or("", |text| text.trim());
        Ok(Self {
            per_user: number(BRANCHES_PER_USER, written(BRANCHES_PER_USER))?,
            per_namespace: number(BRANCHES_PER_NAMESPACE, written(BRANCHES_PER_NAMESPACE))?,
            ttl_seconds_max: number(TTL_SECONDS_MAX, written(TTL_SECONDS_MAX))?,
            versions: match written(VERSIONS) {
                "" => None,
                list => Some(
                    list.split(',')
                        .filter_map(|word| number(VERSIONS, word.trim()).transpose())
                        .collect::<Result<_, _>>()?,
                ),
            },
        })
    }
}

/// The longest TTL, in seconds, of a branch of no source where no administrator says another one.
pub(crate) fn ttl_max_default() -> u32 {
    u32::try_from(TTL_MAX_DEFAULT.0).unwrap_or(u32::MAX)
}

impl Allowed {
    /// The longest TTL, in seconds, that the engine of a host grants: none less than what may be asked for there. Shorter
    /// ones are held before an engine is asked, and who has a longer one already keeps it.
    pub(crate) fn ttl_max_of_host(&self, source: Option<&SourceSpec>) -> u32 {
        let of_source = source.map_or(0, |it| it.ttl_seconds_max);
        let of_everybody = self.ttl_seconds_max.unwrap_or_default();
        of_source.max(of_everybody).max(ttl_max_default())
    }
}

/// The number of a key; none where nothing is written.
fn number<N: FromStr>(key: &'static str, text: &str) -> Result<Option<N>, LimitError> {
    if text.is_empty() {
        return Ok(None);
    }
    let value = text.to_owned();
    let read = text.parse();
    read.map(Some)
        .map_err(|_| LimitError::NoNumber { key, value })
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
        let mut allowed = Allowed {
            per_user: Some(2),
            per_namespace: None,
            ttl_seconds_max: Some(600),
            versions: Some(vec![16, 17]),
        };
        assert_eq!(Allowed::read(&owned), Ok(allowed.clone()));
        owned.insert(VERSIONS.to_owned(), " 16, 18 ,".to_owned());
        allowed.versions = Some(vec![16, 18]);
        assert_eq!(Allowed::read(&owned), Ok(allowed));
        for (key, value) in [
            (BRANCHES_PER_NAMESPACE, "many"),
            (TTL_SECONDS_MAX, "-1"),
            (VERSIONS, "16,new"),
        ] {
            let data = [(key.to_owned(), value.to_owned())].into();
            let error = Allowed::read(&data).expect_err("no number").to_string();
            let wrong = value.rsplit(',').next().expect("a word");
            assert!(error.contains(&format!("{key} is {wrong:?}")), "{error}");
        }
    }
}

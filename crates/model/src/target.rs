//! The workload whose place is taken: its kind, name and container.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kinds of workload that a target may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// A single pod.
    Pod,
    /// A Deployment.
    Deployment,
    /// An Argo Rollout.
    Rollout,
    /// A Job.
    Job,
    /// A CronJob.
    CronJob,
    /// A StatefulSet.
    StatefulSet,
    /// A Service: the pods behind it.
    Service,
    /// A ReplicaSet.
    ReplicaSet,
    /// Pods by label selector, `k=v,k2=v2`.
    Label,
}

/// Every kind with its words in the text form; the first word is the one shown.
const KIND_WORDS: [(TargetKind, &[&str]); 9] = [
    (TargetKind::Pod, &["pod"]),
    (TargetKind::Deployment, &["deployment", "deploy"]),
    (TargetKind::Rollout, &["rollout"]),
    (TargetKind::Job, &["job"]),
    (TargetKind::CronJob, &["cronjob"]),
    (TargetKind::StatefulSet, &["statefulset"]),
    (TargetKind::Service, &["service"]),
    (TargetKind::ReplicaSet, &["replicaset"]),
    (TargetKind::Label, &["label"]),
];

impl TargetKind {
    /// The kind's word in the text form `kind/name`.
    pub fn as_str(self) -> &'static str {
        KIND_WORDS
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("", |(_, words)| words[0])
    }

    /// The kind that `word` names in the text form.
    pub fn from_word(word: &str) -> Option<Self> {
        KIND_WORDS
            .iter()
            .find(|(_, words)| words.contains(&word))
            .map(|(kind, _)| *kind)
    }

    /// Every word that the text form knows, for errors and completion.
    pub fn words() -> impl Iterator<Item = &'static str> {
        KIND_WORDS
            .iter()
            .flat_map(|(_, words)| words.iter().copied())
    }
}

/// A target as people write it: `deployment/inventory`, or `deployment/inventory/container/app`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetRef {
    /// The kind of workload.
    pub kind: TargetKind,
    /// Its name; a selector for [`TargetKind::Label`].
    pub name: String,
    /// One of its containers; none lets the context choose.
    pub container: Option<String>,
}

/// Why a text names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not of the form `kind/name[/container/c]`.
    #[error("{0:?} is not a target: expected kind/name or kind/name/container/container-name")]
    Form(String),
    /// The kind is none of ours.
    #[error("{kind:?} in {text:?} is not a kind of target: expected one of {}", TargetKind::words().collect::<Vec<_>>().join(", "))]
    Kind {
        /// The whole text.
        text: String,
        /// Its first part.
        kind: String,
    },
    /// The selector of a [`TargetKind::Label`] is none.
    #[error("{0:?} selects no pods: expected label/key=value, with a comma between several")]
    Selector(String),
    /// A label is in the selector twice.
    #[error("the label {key:?} is given twice in {text:?}")]
    LabelTwice {
        /// The whole text.
        text: String,
        /// The label.
        key: String,
    },
}

impl FromStr for TargetRef {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let form = || TargetError::Form(text.to_owned());
        let (word, rest) = text.split_once('/').ok_or_else(form)?;
        let kind = TargetKind::from_word(word).ok_or_else(|| TargetError::Kind {
            text: text.to_owned(),
            kind: word.to_owned(),
        })?;
        let (name, container) = match kind {
            TargetKind::Label => split_selector(text, rest)?,
            TargetKind::Pod
            | TargetKind::Deployment
            | TargetKind::Rollout
            | TargetKind::Job
            | TargetKind::CronJob
            | TargetKind::StatefulSet
            | TargetKind::Service
            | TargetKind::ReplicaSet => split_name(rest).ok_or_else(form)?,
        };
        Ok(Self {
            kind,
            name: name.to_owned(),
            container: container.map(str::to_owned),
        })
    }
}

const BEFORE_CONTAINER: &str = "/container/";

/// A name, and the container behind it: neither has a slash.
fn split_name(rest: &str) -> Option<(&str, Option<&str>)> {
    let (name, container) = match rest.split_once(BEFORE_CONTAINER) {
        Some((name, container)) => (name, Some(container)),
        None => (rest, None),
    };
    let has_slash = name.contains('/') || container.is_some_and(|it| it.contains('/'));
    (!has_slash).then_some((name, container))
}

/// A selector, whose keys may have slashes (`app.kubernetes.io/name`), and the container behind it.
fn split_selector<'t>(
    text: &str,
    rest: &'t str,
) -> Result<(&'t str, Option<&'t str>), TargetError> {
    let (selector, container) = match rest.rsplit_once(BEFORE_CONTAINER) {
        Some((_, container)) if container.is_empty() || container.contains('/') => {
            return Err(TargetError::Form(text.to_owned()));
        }
        Some((selector, container)) => (selector, Some(container)),
        None => (rest, None),
    };
    let mut keys = Vec::new();
    for label in selector.split(',') {
        match label.split_once('=') {
            Some((key, _)) if keys.contains(&key) => {
                return Err(TargetError::LabelTwice {
                    text: text.to_owned(),
                    key: key.to_owned(),
                });
            }
            Some((key, _)) if !key.is_empty() => keys.push(key),
            Some(_) | None => return Err(TargetError::Selector(text.to_owned())),
        }
    }
    Ok((selector, container))
}

impl TryFrom<String> for TargetRef {
    type Error = TargetError;

    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<TargetRef> for String {
    fn from(target: TargetRef) -> Self {
        target.to_string()
    }
}

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)?;
        match &self.container {
            Some(container) => write!(f, "/container/{container}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in [
            "deployment/inventory",
            "pod/a/container/c",
            "pod/",
            "pod/a/container/",
            "label/k=v,k2=v2",
            "label/k=",
            "label/app.kubernetes.io/name=api,tier=web/container/php",
            "cronjob/x",
        ] {
            assert_eq!(
                text.parse::<TargetRef>().map(|t| t.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!(
            "deploy/a".parse::<TargetRef>().map(|t| t.kind),
            Ok(TargetKind::Deployment)
        );
    }

    #[test]
    fn what_upstream_rejects_is_rejected() {
        for bad in [
            "deployments/a",
            "sts/a",
            "svc/a",
            "a",
            "DEPLOYMENT/a",
            "pod/a/c/d",
            "pod/a/container/c/d",
            "pod/a/container",
            "pod/a/",
            "label/",
            "label/a",
            "label/=b",
            "label/a=b,",
            "label/a=b,a=c",
            "label/a=b/container/",
            "label/a=b/container/c/d",
        ] {
            assert!(bad.parse::<TargetRef>().is_err(), "{bad}");
        }
    }
}

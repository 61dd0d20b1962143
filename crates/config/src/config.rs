//! The resolved configuration: plain data, every default filled in.

use model::TargetKind;

use crate::branch::DbBranch;
use crate::diagnostic::{Diagnostic, Unsupported, Weight};
use crate::environment::{EnvRules, Magic};
use crate::fs::Fs;
use crate::json::Json;
use crate::network::Network;
use crate::root::CopyTarget;
use crate::target::Target;

/// Who chose the session's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The command line or the environment.
    Given,
    /// The file.
    File,
    /// Nobody.
    Random,
}

/// The session's key: what branches without an id are found again by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionKey {
    /// The key.
    pub text: String,
    /// Who chose it.
    pub origin: KeyOrigin,
}

impl SessionKey {
    pub(crate) fn new(text: &str, origin: KeyOrigin) -> Self {
        Self {
            text: text.to_owned(),
            origin,
        }
    }
}

/// Everything that a configuration file says, or leaves to its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whose place is taken.
    pub target: Target,
    /// Whether an operator is used: `Some(true)` demands one, `Some(false)` forbids it.
    pub operator: Option<bool>,
    /// The kubeconfig's context.
    pub kube_context: Option<String>,
    /// The kubeconfig.
    pub kubeconfig: Option<String>,
    /// The session's key.
    pub key: SessionKey,
    /// How the process takes part in the target's network.
    pub network: Network,
    /// Whose files the process sees.
    pub fs: Fs,
    /// Which variables it gets.
    pub env: EnvRules,
    /// Whether a copy of the target is made for the session.
    pub copy_target: CopyTarget,
    /// Whether the process sees the target's host name.
    pub hostname: bool,
    /// What the format does unasked.
    pub magic: Magic,
    /// The branches of the session.
    pub branches: Vec<DbBranch>,
    /// What its author should know, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// What reads well and this version cannot do.
    pub unsupported: Vec<Unsupported>,
    /// The whole file with every default in place, as it could be written. Its secrets are masked when it is shown.
    pub resolved: Json,
}

impl Config {
    /// The kinds of target that the file would go with, `None` standing for having none on purpose: what an editor may
    /// offer.
    pub fn compatible_targets(&self) -> Vec<Option<TargetKind>> {
        let copies = self.copy_target.enabled;
        let splits = self
            .resolved
            .get("feature")
            .and_then(|it| it.get("split_queues"));
        let splits = splits.is_some_and(|queues| *queues != Json::Object(Vec::new()));
        let goes = |kind: Option<TargetKind>| match kind {
            None | Some(TargetKind::Rollout | TargetKind::Service) => !copies,
            Some(TargetKind::Pod) => !(copies && self.copy_target.scale_down),
            Some(TargetKind::Job | TargetKind::CronJob) => copies,
            Some(TargetKind::Label) => !(copies || splits || !self.branches.is_empty()),
            Some(TargetKind::Deployment | TargetKind::StatefulSet | TargetKind::ReplicaSet) => true,
        };
        [
            None,
            Some(TargetKind::Pod),
            Some(TargetKind::Deployment),
            Some(TargetKind::Rollout),
            Some(TargetKind::Job),
            Some(TargetKind::CronJob),
            Some(TargetKind::StatefulSet),
            Some(TargetKind::Service),
            Some(TargetKind::ReplicaSet),
            Some(TargetKind::Label),
        ]
        .into_iter()
        .filter(|kind| goes(*kind))
        .collect()
    }

    /// What forbids a run, of [`Config::unsupported`].
    pub fn refused(&self) -> impl Iterator<Item = &Unsupported> {
        self.unsupported
            .iter()
            .filter(|unsupported| unsupported.weight == Weight::Refused)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::reader::{Surroundings, read_text};

    /// The kinds of target that go with a file of these features, in the order of the list.
    fn compatible(feature: &str) -> String {
        let file = format!("{{\"feature\": {feature}}}");
        let surroundings = Surroundings {
            is_target_final: false,
            ..Surroundings::new("/nowhere", "k3y")
        };
        let config = read_text(Path::new("f.json"), &file, &surroundings)
            .unwrap_or_else(|rejected| panic!("{file}: {rejected}"));
        let names = config
            .compatible_targets()
            .into_iter()
            .map(|kind| kind.map_or_else(|| "none".to_owned(), |kind| kind.as_str().to_owned()));
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_editor_is_told_the_targets_that_the_file_goes_with() {
        let plain = "none pod deployment rollout statefulset service replicaset label";
        assert_eq!(compatible("{}"), plain);
        assert_eq!(compatible(r#"{"split_queues": {}}"#), plain);
        let without_label = "none pod deployment rollout statefulset service replicaset";
        let queue = r#"{"queue_type": "SQS", "message_filter": {"session": "^ada$"}}"#;
        assert_eq!(
            compatible(&format!("{{\"split_queues\": {{\"orders\": {queue}}}}}")),
            without_label
        );
        let branch = r#"{"type": "pg", "connection": {"url": "DATABASE_URL"}}"#;
        assert_eq!(
            compatible(&format!("{{\"db_branches\": [{branch}]}}")),
            without_label
        );
        assert_eq!(
            compatible(r#"{"copy_target": true}"#),
            "pod deployment job cronjob statefulset replicaset"
        );
        assert_eq!(
            compatible(r#"{"copy_target": {"scale_down": true}}"#),
            "deployment job cronjob statefulset replicaset"
        );
        assert_eq!(
            compatible(r#"{"copy_target": {"enabled": false, "scale_down": true}}"#),
            plain
        );
    }

    #[test]
    fn only_what_the_file_asks_for_and_cannot_have_is_refused() {
        let surroundings = Surroundings::new("/nowhere", "k3y");
        let file = r#"{"telemetry": true, "profile": "developers"}"#;
        let config = read_text(Path::new("f.json"), file, &surroundings).expect("accepted");
        let refused: Vec<&str> = config.refused().map(|it| it.path.as_str()).collect();
        assert_eq!(refused, ["profile"]);
        assert!(config.unsupported.iter().any(|it| it.path == "telemetry"));
    }
}

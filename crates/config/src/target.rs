//! `target`: the workload whose place is taken, in every form that the format has.
//!
//! Owns the forms: `"kind/name[/container/c]"`, an object with the kind as its key, `{"path": either, "namespace": n}`,
//! `"targetless"`. Leaves finding the workload to the context.

use std::collections::BTreeMap;
use std::str::FromStr;

use model::target::TargetError;
use model::{Namespace, TargetKind, TargetRef};

use crate::decode::{Decode, Record, Render, Report, Shape, nearest, record, report_kind};
use crate::json::Json;
use crate::tree::{Node, Value};

/// The word for having no target on purpose.
const TARGETLESS: &str = "targetless";

/// Whose place is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TargetChoice {
    /// Nobody said.
    #[default]
    Unset,
    /// Nobody's, on purpose.
    Targetless,
    /// A workload's.
    Workload(TargetRef),
}

impl FromStr for TargetChoice {
    type Err = TargetError;

    /// `targetless`, or `kind/name` with an optional container.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text == TARGETLESS {
            Ok(Self::Targetless)
        } else {
            text.parse().map(Self::Workload)
        }
    }
}

/// The target, and where it lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Whose place is taken.
    pub choice: TargetChoice,
    /// Its namespace; none leaves it to the context.
    pub namespace: Option<Namespace>,
}

impl Target {
    /// The workload, where there is one.
    pub fn workload(&self) -> Option<&TargetRef> {
        match &self.choice {
            TargetChoice::Workload(target) => Some(target),
            TargetChoice::Unset | TargetChoice::Targetless => None,
        }
    }
}

record! {
    /// The workload whose place is taken, and where it lives.
    struct WithNamespace {
        /// The workload: `"KIND/NAME"`, `"KIND/NAME/container/CONTAINER"`, `"targetless"`, or an object with the kind as
        /// its key.
        /// Example: `{"deployment": "inventory"}`
        path: Option<TargetChoice>,
        /// The namespace; without it the context's own.
        /// Example: `"metalmart"`
        namespace: Option<Namespace>,
    }
}

/// The keys of a target with a namespace.
pub(crate) const HOME_KEYS: &[&str] = WithNamespace::KEYS;

record! {
    /// A workload, with its kind as the key: one of them.
    struct ByKind {
        /// A pod's name.
        /// Example: `"inventory-5d7f"`
        pod: Option<String>,
        /// A Deployment's name.
        /// Example: `"inventory"`
        deployment: Option<String>,
        /// A Rollout's name.
        /// Example: `"inventory"`
        rollout: Option<String>,
        /// A Job's name.
        /// Example: `"import"`
        job: Option<String>,
        /// A CronJob's name.
        /// Example: `"nightly"`
        cron_job: Option<String>,
        /// A StatefulSet's name.
        /// Example: `"search"`
        stateful_set: Option<String>,
        /// A Service's name: one of the pods behind it.
        /// Example: `"inventory"`
        service: Option<String>,
        /// A ReplicaSet's name.
        /// Example: `"inventory-5d7f"`
        replica_set: Option<String>,
        /// Labels that pods must have. Neither with branches nor with `copy_target` nor with `split_queues`.
        /// Example: `{"app": "inventory"}`
        labels: Option<BTreeMap<String, String>>,
        /// One of the pod's containers; without it the pod's default one.
        /// Example: `"app"`
        container: Option<String>,
    }
}

impl ByKind {
    fn resolve(self, node: &Node<'_>, report: &mut Report) -> Option<TargetRef> {
        let selector = self.labels.map(|labels| {
            let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            pairs.join(",")
        });
        let given: Vec<(TargetKind, String)> = [
            (TargetKind::Pod, self.pod),
            (TargetKind::Deployment, self.deployment),
            (TargetKind::Rollout, self.rollout),
            (TargetKind::Job, self.job),
            (TargetKind::CronJob, self.cron_job),
            (TargetKind::StatefulSet, self.stateful_set),
            (TargetKind::Service, self.service),
            (TargetKind::ReplicaSet, self.replica_set),
            (TargetKind::Label, selector),
        ]
        .into_iter()
        .filter_map(|(kind, name)| name.map(|name| (kind, name)))
        .collect();
        match <[_; 1]>::try_from(given) {
            Ok([(TargetKind::Label, selector)]) if selector.is_empty() => {
                report
                    .problem(node, "the target names no label: it would be every pod")
                    .hint("name one, such as {\"labels\": {\"app\": \"inventory\"}}");
                None
            }
            Ok([(kind, name)]) => Some(TargetRef {
                kind,
                name,
                container: self.container,
            }),
            Err(given) if given.is_empty() => {
                // An unknown key is a kind that was misspelt, and was reported.
                let all_known = node
                    .members()
                    .iter()
                    .all(|member| Self::KEYS.contains(&member.key.as_str()));
                if all_known {
                    report
                        .problem(node, "the target has no kind")
                        .hint("name one, such as {\"deployment\": \"inventory\"}");
                }
                None
            }
            Err(_) => {
                report.problem(
                    node,
                    "the target has several kinds: a target is one workload",
                );
                None
            }
        }
    }
}

impl Decode for Namespace {
    const EXPECTED: &'static str = "a namespace";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let text = String::decode(node, report)?;
        match Self::new(text) {
            Ok(namespace) => Some(namespace),
            Err(error) => {
                report.problem(node, error.to_string());
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::not_empty("namespace")
    }
}

impl Render for Namespace {
    fn render(&self) -> Json {
        Json::text(self.as_str())
    }
}

fn read_text(text: &str, node: &Node<'_>, report: &mut Report) -> Option<TargetChoice> {
    match text.parse::<TargetChoice>() {
        Ok(choice) => Some(choice),
        Err(error) => {
            let word = text.split('/').next().unwrap_or_default();
            let meant = match word {
                "sts" => Some("statefulset"),
                "svc" => Some("service"),
                "rs" => Some("replicaset"),
                "po" => Some("pod"),
                _ => nearest(word, TargetKind::words().chain([TARGETLESS])),
            };
            let finding = report.problem(node, error.to_string());
            if let Some(near) = meant.filter(|near| *near != word) {
                finding.hint(format!("did you mean {near:?}?"));
            }
            None
        }
    }
}

impl Decode for TargetChoice {
    const EXPECTED: &'static str = "\"kind/name\" or an object with the kind as its key";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let choice = match &node.tree.value {
            Value::Text(text) => read_text(text, node, report),
            Value::Object(_) => ByKind::decode(node, report)
                .and_then(|by_kind| by_kind.resolve(node, report))
                .map(TargetChoice::Workload),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => {
                report_kind(node, Self::EXPECTED, report)
            }
        }?;
        if let TargetChoice::Workload(target) = &choice
            && target.name.is_empty()
        {
            report.warning(node, "the target's name is empty: nothing can have it");
        }
        Some(choice)
    }

    fn shape() -> Shape {
        Shape::one_of([
            Shape::not_empty("`KIND/NAME[/container/CONTAINER]` or `targetless`"),
            ByKind::shape(),
        ])
    }
}

impl Render for TargetChoice {
    /// The form with the kind as its key; the text form where that has no place for it.
    fn render(&self) -> Json {
        let target = match self {
            Self::Unset => return Json::Null,
            Self::Targetless => return Json::from(TARGETLESS),
            Self::Workload(target) => target,
        };
        let name = || Json::text(&target.name);
        let (key, value) = match target.kind {
            TargetKind::Pod => ("pod", name()),
            TargetKind::Deployment => ("deployment", name()),
            TargetKind::Rollout => ("rollout", name()),
            TargetKind::Job => ("job", name()),
            TargetKind::CronJob => ("cron_job", name()),
            TargetKind::StatefulSet => ("stateful_set", name()),
            TargetKind::Service => ("service", name()),
            TargetKind::ReplicaSet => ("replica_set", name()),
            TargetKind::Label => {
                let pairs: Option<Vec<_>> = target
                    .name
                    .split(',')
                    .map(|pair| pair.split_once('='))
                    .collect();
                match pairs {
                    Some(pairs) => (
                        "labels",
                        Json::object(
                            pairs
                                .into_iter()
                                .map(|(key, value)| (key, Json::text(value))),
                        ),
                    ),
                    None => return Json::text(target.to_string()),
                }
            }
        };
        Json::object([(key, value), ("container", target.container.render())])
    }
}

impl Decode for Target {
    const EXPECTED: &'static str = "a target";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        target(node, report)
    }

    fn shape() -> Shape {
        Shape::one_of([TargetChoice::shape(), WithNamespace::shape()])
    }
}

impl Render for Target {
    fn render(&self) -> Json {
        // No path at all is how nobody says one: null is refused.
        let is_unset = self.choice == TargetChoice::Unset;
        let path = (!is_unset).then(|| ("path", self.choice.render()));
        let namespace = ("namespace", self.namespace.render());
        Json::object(path.into_iter().chain([namespace]))
    }
}

fn target(node: &Node<'_>, report: &mut Report) -> Option<Target> {
    let is_outer = node.members().is_empty()
        || node
            .members()
            .iter()
            .any(|member| WithNamespace::KEYS.contains(&member.key.as_str()));
    if matches!(node.tree.value, Value::Object(_)) && is_outer {
        if let Some(path) = node.get("path").filter(Node::is_null) {
            report
                .problem(&path, "the path of a target is not null")
                .hint("leave \"path\" out, or write \"targetless\"");
        }
        if let Some(inner) = node.members().iter().find(|member| {
            ByKind::KEYS.contains(&member.key.as_str()) && node.get("path").is_none()
        }) {
            report
                .problem_at(
                    node.path_to(&inner.key),
                    &inner.key_span,
                    format!("{:?} does not stand beside \"namespace\"", inner.key),
                )
                .hint("put the workload under \"path\": {\"path\": {...}, \"namespace\": ...}");
            return None;
        }
        let WithNamespace { path, namespace } = WithNamespace::decode(node, report)?;
        return Some(Target {
            choice: path.unwrap_or_default(),
            namespace,
        });
    }
    TargetChoice::decode(node, report).map(|choice| Target {
        choice,
        namespace: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::read_value;

    fn shown(json: &str) -> Option<(Option<String>, Option<String>)> {
        let target = read_value(json, target).ok()?;
        Some((
            target.workload().map(ToString::to_string),
            target.namespace.map(String::from),
        ))
    }

    #[test]
    fn every_form_is_read() {
        let workload = |text: &str| Some((Some(text.to_owned()), None));
        for (json, expected) in [
            (r#""deploy/a""#, workload("deployment/a")),
            (r#""pod/a/container/c""#, workload("pod/a/container/c")),
            (r#""label/k=v,k2=v2""#, workload("label/k=v,k2=v2")),
            (r#"{"deployment": "a"}"#, workload("deployment/a")),
            (
                r#"{"cron_job": "a", "container": "c"}"#,
                workload("cronjob/a/container/c"),
            ),
            (
                r#"{"labels": {"b": "2", "a": "1"}}"#,
                workload("label/a=1,b=2"),
            ),
            (r#"{"path": "statefulset/a"}"#, workload("statefulset/a")),
            (
                r#"{"path": {"replica_set": "a"}}"#,
                workload("replicaset/a"),
            ),
            (r#""targetless""#, Some((None, None))),
            (r#"{"path": "targetless"}"#, Some((None, None))),
            (r#"{}"#, Some((None, None))),
            (r#"{"namespace": "n"}"#, Some((None, Some("n".to_owned())))),
            (
                r#"{"path": {"deployment": "a"}, "namespace": "n"}"#,
                Some((Some("deployment/a".to_owned()), Some("n".to_owned()))),
            ),
        ] {
            assert_eq!(shown(json), expected, "{json}");
        }
    }

    #[test]
    fn targetless_is_not_the_same_as_unset() {
        let choice = |json| read_value(json, target).map(|target| target.choice);
        assert_eq!(choice("\"targetless\""), Ok(TargetChoice::Targetless));
        assert_eq!(choice("{}"), Ok(TargetChoice::Unset));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for json in [
            r#""deployments/a""#,
            r#""sts/a""#,
            r#""a""#,
            r#""DEPLOYMENT/a""#,
            r#""pod/a/c/d""#,
            "1",
            "[]",
            r#"{"statefulset": "a"}"#,
            r#"{"path": {"statefulset": "a"}}"#,
            r#"{"deployment": "a", "namespace": "n"}"#,
            r#"{"path": null, "namespace": "n"}"#,
            r#"{"pod": "a", "deployment": "b"}"#,
            r#"{"container": "c"}"#,
            r#"{"path": {"deployment": "a"}, "foo": 1}"#,
            r#"{"namespace": "Not_A_Label"}"#,
        ] {
            assert_eq!(shown(json), None, "{json}");
        }
    }
}

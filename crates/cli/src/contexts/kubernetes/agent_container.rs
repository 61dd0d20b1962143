//! Agents as ephemeral containers: which one is there already, how a new one looks, when it runs.
//!
//! One a pod and capability set, used by whoever comes while it runs: an ephemeral container is never removed, it only
//! ends. It has the capabilities that its set needs and the target's own account where that is known, since the kernel
//! shows a process's environment to its account alone.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Capabilities, ContainerState, EphemeralContainer, Pod, SeccompProfile, SecurityContext,
};
use kube::Api;
use kube::api::{AttachParams, Patch, PatchParams};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::error::{ApiFailure, ClusterError};
use super::invitation::Invitation;
use super::workload::ChosenPod;

/// Where an agent keeps its port and key, in its container's own files.
pub(crate) const AGENT_FOLDER: &str = "/tmp/bough-agent";

/// The program in the image.
pub(super) const PROGRAM: &str = "/bough";

/// How long an agent may take to run, its image pulled from a slow registry.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How often an agent is asked that has not said where it listens yet.
const INVITES_MAX: usize = 40;

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What root needs to read the environment of another account's process: to look into it, and to open the file.
const SEES_PROCESSES: &[&str] = &["SYS_PTRACE", "DAC_READ_SEARCH"];

/// The same, and what mirror and steal take.
const SEES_AND_REDIRECTS: &[&str] = &["NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"];

/// States in which the kubelet tries again what will not come right by itself soon.
const HOPELESS: [&str; 7] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// What a session wants of an agent in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentWish {
    /// Whether it is to mirror or steal.
    pub(crate) incoming: bool,
    /// The image that it runs from.
    pub(crate) image: String,
}

/// An agent's ephemeral container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgentContainer {
    name: String,
    lacks_capabilities: bool,
}

/// As whom an agent runs, and what it may do beyond that account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    /// As root, with these capabilities and no others.
    Root(&'static [&'static str]),
    /// As the target.
    Of(i64, Option<i64>),
    /// As the image says, which is nobody in particular.
    Image,
}

impl AgentContainer {
    /// Finds the agent that `wish` wants, or starts one and waits until it runs.
    ///
    /// # Errors
    /// [`ClusterError`] when it may not be there or does not start.
    pub(super) async fn place(
        pods: &Api<Pod>,
        chosen: &ChosenPod,
        wish: &AgentWish,
    ) -> Result<Self, ClusterError> {
        if let Some(name) = running_agent(&chosen.pod, &chosen.container.name, wish) {
            return Ok(Self {
                name,
                lacks_capabilities: false,
            });
        }
        let accounts = accounts(chosen, wish.incoming);
        let mut refusal = None;
        for (tried, account) in accounts.iter().enumerate() {
            let name = format!("{}{:06x}", prefix(wish), rand::random::<u32>() >> 8);
            let container = build(&name, chosen, wish, *account);
            let patch = json!({"spec": {"ephemeralContainers": [container]}});
            let params = PatchParams::default();
            let patched = pods
                .patch_ephemeral_containers(&chosen.name, &params, &Patch::Strategic(patch))
                .await;
            match patched.map_err(ApiFailure::from) {
                Ok(_) => {
                    wait_until_running(pods, &chosen.name, &name, &wish.image).await?;
                    return Ok(Self {
                        name,
                        lacks_capabilities: tried > 0,
                    });
                }
                // Pod Security may let a lesser one stand there.
                Err(failure) if failure.is_forbidden() => refusal = refusal.or(Some(failure)),
                Err(source) => {
                    return Err(ClusterError::Refused {
                        pod: chosen.name.clone(),
                        incoming: wish.incoming,
                        source,
                    });
                }
            }
        }
        Err(ClusterError::Refused {
            pod: chosen.name.clone(),
            incoming: wish.incoming,
            source: refusal.expect("one account was tried at least, and refused"),
        })
    }

    /// The agent in a pod of the session's own, once it runs.
    ///
    /// # Errors
    /// [`ClusterError`] when it does not start.
    pub(super) async fn of_own_pod(
        pods: &Api<Pod>,
        pod: &str,
        container: &str,
        image: &str,
    ) -> Result<Self, ClusterError> {
        wait_until_running(pods, pod, container, image).await?;
        Ok(Self {
            name: container.to_owned(),
            lacks_capabilities: false,
        })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What must be told of it.
    pub(super) fn remarks(&self) -> Vec<String> {
        if self.lacks_capabilities {
            vec!["the namespace's Pod Security leaves the agent without capabilities".to_owned()]
        } else {
            Vec::new()
        }
    }

    /// Has the agent invite `sessions` sessions.
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not run programs there, or nobody answers.
    pub(super) async fn invite(
        &self,
        pods: &Api<Pod>,
        pod: &str,
        sessions: u8,
    ) -> Result<Invitation, ClusterError> {
        let sessions = sessions.to_string();
        let command = [PROGRAM, "agent", "invite", "--sessions", sessions.as_str()];
        let params = AttachParams::default().container(&self.name);
        let mut heard = String::new();
        for _ in 0..INVITES_MAX {
            let process = pods.exec(pod, command, &params).await;
            let mut process = process.map_err(|error| ClusterError::Api {
                tried: format!("ask the agent {} in the pod {pod}", self.name),
                right: format!(
                    "create pods/exec -n {}",
                    pods.namespace().unwrap_or("default")
                ),
                source: error.into(),
            })?;
            let (stdout, stderr) = (process.stdout(), process.stderr());
            let (answer, words) = tokio::join!(read_text(stdout), read_text(stderr));
            if let Some(invitation) = Invitation::parse(&answer) {
                return Ok(invitation);
            }
            heard = words;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(ClusterError::Silent {
            pod: pod.to_owned(),
            container: self.name.clone(),
            why: heard.lines().next().unwrap_or("it says nothing").to_owned(),
        })
    }

    /// The failure of an agent that invited fewer sessions than it was asked to.
    pub(super) fn silent(&self, pod: &str) -> ClusterError {
        ClusterError::Silent {
            pod: pod.to_owned(),
            container: self.name.clone(),
            why: "it invites too few sessions".to_owned(),
        }
    }
}

pub(super) async fn read_text(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = Vec::new();
    if let Some(stream) = stream {
        // A piece is no invitation, which the caller sees.
        let _cut = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The beginning of the names of agents of one capability set.
fn prefix(wish: &AgentWish) -> &'static str {
    if wish.incoming {
        "bough-agent-incoming-"
    } else {
        "bough-agent-"
    }
}

/// The name of an agent that runs beside `target` already, of the same image and capability set.
fn running_agent(pod: &Pod, target: &str, wish: &AgentWish) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let statuses = pod.status.as_ref()?.ephemeral_container_statuses.as_ref()?;
    let runs = |name: &str| {
        let mut own = statuses.iter().filter(|status| status.name == name);
        own.any(|status| {
            status
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some())
        })
    };
    let is_ours = |name: &str| {
        let digits = name.strip_prefix(prefix(wish));
        digits.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_hexdigit()))
    };
    let mut agents = spec.ephemeral_containers.iter().flatten().filter(|agent| {
        is_ours(&agent.name)
            && agent.image.as_deref() == Some(&wish.image)
            && agent.target_container_name.as_deref() == Some(target)
    });
    agents
        .find(|agent| runs(&agent.name))
        .map(|agent| agent.name.clone())
}

/// As whom an agent may run, best first.
fn accounts(chosen: &ChosenPod, incoming: bool) -> Vec<Account> {
    if incoming {
        return vec![Account::Root(SEES_AND_REDIRECTS)];
    }
    let own = chosen.container.security_context.as_ref();
    let pod = chosen
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let user = own
        .and_then(|context| context.run_as_user)
        .or(pod.and_then(|context| context.run_as_user));
    let group = own
        .and_then(|context| context.run_as_group)
        .or(pod.and_then(|context| context.run_as_group));
    let not_root = own
        .and_then(|context| context.run_as_non_root)
        .or(pod.and_then(|context| context.run_as_non_root));
    match user {
        // The kernel wants more than the same account where the target has capabilities that the agent has not.
        Some(0) => vec![Account::Root(SEES_PROCESSES), Account::Root(&[])],
        Some(user) => vec![Account::Of(user, group)],
        None if not_root == Some(true) => vec![Account::Image],
        None => vec![Account::Root(SEES_PROCESSES), Account::Image],
    }
}

fn build(name: &str, chosen: &ChosenPod, wish: &AgentWish, account: Account) -> EphemeralContainer {
    let mut command: Vec<String> = [PROGRAM, "agent", "pod"].map(str::to_owned).to_vec();
    if chosen.sees_process() {
        command.extend(["--process", "1"].map(str::to_owned));
    }
    if !wish.incoming {
        let why = "NET_ADMIN in the agent's container, which was placed without";
        command.extend(["--hands-off".to_owned(), why.to_owned()]);
    }
    EphemeralContainer {
        name: name.to_owned(),
        image: Some(wish.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(command),
        target_container_name: Some(chosen.container.name.clone()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(security(account)),
        ..EphemeralContainer::default()
    }
}

fn security(account: Account) -> SecurityContext {
    let (user, group, add) = match account {
        Account::Root(add) => (Some(0), Some(0), add),
        Account::Of(user, group) => (Some(user), group, &[][..]),
        Account::Image => (None, None, &[][..]),
    };
    let add: Vec<String> = add.iter().map(|&name| name.to_owned()).collect();
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: (!add.is_empty()).then_some(add),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        run_as_user: user,
        run_as_group: group,
        run_as_non_root: Some(user != Some(0)),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..SecurityContext::default()
    }
}

async fn wait_until_running(
    pods: &Api<Pod>,
    pod: &str,
    name: &str,
    image: &str,
) -> Result<(), ClusterError> {
    let failed = |why: String| ClusterError::NotStarted {
        pod: pod.to_owned(),
        container: name.to_owned(),
        image: image.to_owned(),
        why,
    };
    let running = async {
        loop {
            let found = pods.get(pod).await.map_err(|error| ClusterError::Api {
                tried: format!("see whether the agent {name} in the pod {pod} runs"),
                right: format!("get pods -n {}", pods.namespace().unwrap_or("default")),
                source: error.into(),
            })?;
            match progress(&found, name) {
                Progress::Runs => return Ok(()),
                Progress::Failed(why) => return Err(failed(why)),
                Progress::Waits => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    let waited = tokio::time::timeout(START_WITHIN, running).await;
    waited.unwrap_or_else(|_| {
        let seconds = START_WITHIN.as_secs();
        Err(failed(format!("it does not run after {seconds} s")))
    })
}

/// How far an agent's container is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waits,
    Runs,
    Failed(String),
}

fn progress(pod: &Pod, name: &str) -> Progress {
    let statuses = pod.status.iter().flat_map(|it| {
        let own = it.container_statuses.iter().flatten();
        own.chain(it.ephemeral_container_statuses.iter().flatten())
    });
    let mut own = statuses.filter(|status| status.name == name);
    let Some(ContainerState {
        running,
        terminated,
        waiting,
    }) = own.find_map(|status| status.state.clone())
    else {
        return Progress::Waits;
    };
    if running.is_some() {
        return Progress::Runs;
    }
    if let Some(end) = terminated {
        let words = end.message.unwrap_or_default();
        let words = words.lines().last().unwrap_or("it said nothing").to_owned();
        return Progress::Failed(format!("it ended with code {}: {words}", end.exit_code));
    }
    let waiting = waiting.unwrap_or_default();
    let reason = waiting.reason.unwrap_or_default();
    if HOPELESS.contains(&reason.as_str()) {
        let message = waiting.message.unwrap_or_default();
        return Progress::Failed(format!("{reason}: {message}"));
    }
    Progress::Waits
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn wish(incoming: bool) -> AgentWish {
        AgentWish {
            incoming,
            image: "bough:1".to_owned(),
        }
    }

    fn chosen(pod_context: Value, own_context: Value) -> ChosenPod {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {
                "securityContext": pod_context,
                "containers": [{"name": "app", "securityContext": own_context}],
            },
        }))
        .expect("it is a pod");
        let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
        ChosenPod {
            name: "p".to_owned(),
            pod,
            container,
        }
    }

    #[test]
    fn an_agent_has_the_targets_account_and_no_more_capabilities_than_it_needs() {
        let of = |pod, own, incoming| accounts(&chosen(pod, own), incoming);
        let root = Account::Root(SEES_PROCESSES);
        let incoming = Account::Root(SEES_AND_REDIRECTS);
        assert_eq!(of(json!({}), json!({}), false), [root, Account::Image]);
        assert_eq!(of(json!({"runAsUser": 7}), json!({}), true), [incoming]);
        assert_eq!(
            of(
                json!({"runAsUser": 7, "runAsGroup": 8}),
                json!({"runAsUser": 9}),
                false
            ),
            [Account::Of(9, Some(8))]
        );
        assert_eq!(
            of(json!({"runAsNonRoot": true}), json!({}), false),
            [Account::Image]
        );
        assert_eq!(
            of(json!({"runAsUser": 0}), json!({}), false),
            [root, Account::Root(&[])]
        );
    }

    #[test]
    fn without_mirror_and_steal_it_fits_pod_security_restricted() {
        let target = chosen(json!({"runAsUser": 7, "runAsGroup": 8}), json!({}));
        let account = accounts(&target, false)[0];
        let built = build("bough-agent-0a", &target, &wish(false), account);
        let written = serde_json::to_value(&built).expect("JSON");
        assert_eq!(
            written["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "runAsUser": 7, "runAsGroup": 8, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            })
        );
        assert_eq!(written["targetContainerName"], "app");
        let command: Vec<&str> = built.command.iter().flatten().map(String::as_str).collect();
        assert_eq!(command[..5], ["/bough", "agent", "pod", "--process", "1"]);
        assert_eq!(command[5], "--hands-off");
        let incoming = build("x", &target, &wish(true), accounts(&target, true)[0]);
        let add = incoming
            .security_context
            .and_then(|it| it.capabilities?.add);
        assert_eq!(add.unwrap_or_default(), SEES_AND_REDIRECTS);
        assert!(
            !incoming
                .command
                .iter()
                .flatten()
                .any(|word| word == "--hands-off")
        );
    }

    fn pod_with(agents: &[(&str, &str, &str)]) -> Pod {
        let spec = agents.iter().map(
            |(name, image, _)| json!({"name": name, "image": image, "targetContainerName": "app"}),
        );
        let statuses = agents.iter().map(|(name, _, state)| {
            let state = match *state {
                "running" => json!({"running": {}}),
                "ended" => json!({"terminated": {"exitCode": 1, "message": "a\nerror: b\n"}}),
                reason => json!({"waiting": {"reason": reason, "message": "why"}}),
            };
            json!({"name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0})
        });
        serde_json::from_value(json!({
            "spec": {"containers": [], "ephemeralContainers": spec.collect::<Vec<_>>()},
            "status": {"ephemeralContainerStatuses": statuses.collect::<Vec<_>>()},
        }))
        .expect("it is a pod")
    }

    #[test]
    fn an_agent_that_runs_is_used_again_by_its_own_set() {
        let pod = pod_with(&[
            ("debugger-x", "bough:1", "running"),
            ("bough-agent-00", "bough:1", "ended"),
            ("bough-agent-01", "bough:0", "running"),
            ("bough-agent-02", "bough:1", "running"),
            ("bough-agent-incoming-03", "bough:1", "running"),
        ]);
        let found = |target, incoming| running_agent(&pod, target, &wish(incoming));
        assert_eq!(found("app", false).as_deref(), Some("bough-agent-02"));
        assert_eq!(
            found("app", true).as_deref(),
            Some("bough-agent-incoming-03")
        );
        assert_eq!(found("worker", false), None);
    }

    #[test]
    fn what_will_not_start_is_not_waited_for() {
        let state = |state| progress(&pod_with(&[("a", "i", state)]), "a");
        assert_eq!(state("running"), Progress::Runs);
        assert_eq!(state("ContainerCreating"), Progress::Waits);
        assert_eq!(progress(&Pod::default(), "a"), Progress::Waits);
        let why = "ImagePullBackOff: why".to_owned();
        assert_eq!(state("ImagePullBackOff"), Progress::Failed(why));
        let why = "it ended with code 1: error: b".to_owned();
        assert_eq!(state("ended"), Progress::Failed(why));
    }
}

//! How a new agent's container looks: as whom it runs, what it may do, its command.
//!
//! It has the capabilities that its set needs and the target's own account where that is known, since the kernel shows a
//! process's environment to its account alone.

use k8s_openapi::api::core::v1::{
    Capabilities, EphemeralContainer, SeccompProfile, SecurityContext,
};

use super::{AgentWish, PROGRAM};
use crate::agents::target::ChosenPod;

/// What root needs to read the environment of another account's process: to look into it, and to open the file.
const SEES_PROCESSES: &[&str] = &["SYS_PTRACE", "DAC_READ_SEARCH"];

/// The same, and what mirror and steal take.
const SEES_AND_REDIRECTS: &[&str] = &["NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"];

/// As whom an agent runs, and what it may do beyond that account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// As root, with these capabilities and no others.
    Root(&'static [&'static str]),
    /// As the target.
    Of(i64, Option<i64>),
    /// As the image says, which is nobody in particular.
    Image,
}

/// As whom an agent may run, best first.
pub(super) fn accounts(chosen: &ChosenPod, incoming: bool) -> Vec<Account> {
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

pub(super) fn build(
    name: &str,
    chosen: &ChosenPod,
    wish: &AgentWish,
    account: Account,
) -> EphemeralContainer {
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

/// Whether an agent that is there has no capabilities where the first choice would have.
pub(super) fn lacks_capabilities(
    container: &EphemeralContainer,
    chosen: &ChosenPod,
    incoming: bool,
) -> bool {
    let adds = |context: &SecurityContext| {
        let capabilities = context.capabilities.as_ref();
        capabilities.is_some_and(|it| it.add.as_ref().is_some_and(|add| !add.is_empty()))
    };
    let best = accounts(chosen, incoming).first().copied().map(security);
    let has = container.security_context.as_ref().is_some_and(adds);
    best.as_ref().is_some_and(adds) && !has
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::super::tests::wish;
    use super::*;

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
}

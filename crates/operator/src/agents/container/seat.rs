//! Which agent beside a target is a session's, as a pure function of the pod.
//!
//! ```text
//!   one of its image and set runs ──> that one
//!   one of them is on its way     ──> that one
//!   all have ended, or none is    ──> a new one, of the first number that the pod has not had in this set
//! ```
//!
//! The number makes sessions that begin together come to the same name, so that one of them has it made and the others
//! find it there.

use k8s_openapi::api::core::v1::{ContainerState, EphemeralContainer, Pod};

use super::AgentWish;

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

/// Where a session finds its agent.
#[derive(Debug, PartialEq)]
pub(super) enum Seat<'a> {
    /// It is there, or on its way.
    Taken(&'a EphemeralContainer),
    /// It is to be made, of this name.
    Free(String),
}

/// The beginning of the names of agents of one capability set.
fn prefix(wish: &AgentWish) -> &'static str {
    if wish.incoming {
        "bough-agent-incoming-"
    } else {
        "bough-agent-"
    }
}

/// The agent of `pod` that whoever has this wish is to use, beside the container `target`.
pub(super) fn seat<'a>(pod: &'a Pod, target: &str, wish: &AgentWish) -> Seat<'a> {
    let spec = pod.spec.as_ref();
    let there = || {
        spec.iter()
            .flat_map(|it| it.ephemeral_containers.iter().flatten())
    };
    let is_ours = |name: &str| {
        let digits = name.strip_prefix(prefix(wish));
        digits.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_hexdigit()))
    };
    let agents = there().filter(|agent| {
        is_ours(&agent.name)
            && agent.image.as_deref() == Some(&wish.image)
            && agent.target_container_name.as_deref() == Some(target)
    });
    let (mut on_its_way, mut stuck) = (None, None);
    for agent in agents {
        match progress(pod, &agent.name) {
            Progress::Runs => return Seat::Taken(agent),
            Progress::Waits => on_its_way = on_its_way.or(Some(agent)),
            Progress::Stuck(_) => stuck = stuck.or(Some(agent)),
            Progress::Ended(_) => {}
        }
    }
    if let Some(agent) = on_its_way.or(stuck) {
        return Seat::Taken(agent);
    }
    let names = (0_u32..).map(|number| format!("{}{number}", prefix(wish)));
    let mut free = names.filter(|name| !there().any(|it| it.name == *name));
    Seat::Free(
        free.next()
            .expect("a pod has fewer containers than there are numbers"),
    )
}

/// How far an agent's container is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is not there yet.
    Waits,
    /// It runs.
    Runs,
    /// It does not come right by itself soon, and why; the kubelet tries it again all the same.
    Stuck(String),
    /// It has ended, and how.
    Ended(String),
}

pub(super) fn progress(pod: &Pod, name: &str) -> Progress {
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
        return Progress::Ended(format!("it ended with code {}: {words}", end.exit_code));
    }
    let waiting = waiting.unwrap_or_default();
    let reason = waiting.reason.unwrap_or_default();
    if HOPELESS.contains(&reason.as_str()) {
        let message = waiting.message.unwrap_or_default();
        return Progress::Stuck(format!("{reason}: {message}"));
    }
    Progress::Waits
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::wish;
    use super::*;

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
            ("bough-agent-0", "bough:1", "ended"),
            ("bough-agent-1", "bough:0", "running"),
            ("bough-agent-2", "bough:1", "PodInitializing"),
            // As versions before named them.
            ("bough-agent-0a3f", "bough:1", "running"),
            ("bough-agent-incoming-0", "bough:1", "running"),
        ]);
        let found = |target, incoming| match seat(&pod, target, &wish(incoming)) {
            Seat::Taken(agent) => agent.name.clone(),
            Seat::Free(name) => format!("{name}, anew"),
        };
        assert_eq!(found("app", false), "bough-agent-0a3f");
        assert_eq!(found("app", true), "bough-agent-incoming-0");
        assert_eq!(found("worker", false), "bough-agent-3, anew");
        assert_eq!(found("worker", true), "bough-agent-incoming-1, anew");
    }

    #[test]
    fn whoever_comes_while_one_starts_waits_for_it_and_after_the_end_of_all_has_the_next() {
        let found = |agents: &[(&str, &str, &str)]| {
            let pod = pod_with(agents);
            match seat(&pod, "app", &wish(false)) {
                Seat::Taken(agent) => agent.name.clone(),
                Seat::Free(name) => format!("{name}, anew"),
            }
        };
        let ended = ("bough-agent-0", "bough:1", "ended");
        assert_eq!(found(&[]), "bough-agent-0, anew");
        assert_eq!(found(&[ended]), "bough-agent-1, anew");
        for state in ["ContainerCreating", "ImagePullBackOff"] {
            let waits = ("bough-agent-1", "bough:1", state);
            assert_eq!(found(&[ended, waits]), "bough-agent-1", "{state}");
        }
        // The kubelet has not said anything of it yet.
        let mut pod = pod_with(&[ended, ("bough-agent-1", "bough:1", "running")]);
        let status = pod.status.as_mut().expect("a status");
        let statuses = status.ephemeral_container_statuses.as_mut().expect("some");
        drop(statuses.pop());
        let Seat::Taken(agent) = seat(&pod, "app", &wish(false)) else {
            panic!("another one");
        };
        assert_eq!(agent.name, "bough-agent-1");
    }

    #[test]
    fn what_will_not_start_is_not_waited_for() {
        let state = |state| progress(&pod_with(&[("a", "i", state)]), "a");
        assert_eq!(state("running"), Progress::Runs);
        assert_eq!(state("ContainerCreating"), Progress::Waits);
        assert_eq!(progress(&Pod::default(), "a"), Progress::Waits);
        let why = "ImagePullBackOff: why".to_owned();
        assert_eq!(state("ImagePullBackOff"), Progress::Stuck(why));
        let why = "it ended with code 1: error: b".to_owned();
        assert_eq!(state("ended"), Progress::Ended(why));
    }
}

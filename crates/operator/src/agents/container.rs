//! Agents as ephemeral containers: found or placed, waited for, asked.
//!
//! One a pod and capability set, used by whoever comes while it runs: an ephemeral container is never removed, it only
//! ends. Which one that is `seat` says, how a new one looks `shape`.

mod seat;
mod shape;

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, Patch, PatchParams};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::error::{AgentError, ApiFailure};
use super::target::ChosenPod;
use seat::{Progress, Seat, progress, seat};

/// Where an agent keeps its port and key, in its container's own files.
pub const AGENT_FOLDER: &str = "/tmp/bough-agent";

/// The program in the image.
pub const PROGRAM: &str = "/bough";

/// How long an agent may take to run, its image pulled from a slow registry.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How often the pod is looked at again where somebody else has changed it meanwhile.
const LOOKS_MAX: usize = 10;

/// How many agents are tried that end while they are asked.
const AGENTS_MAX: usize = 3;

/// How often an agent is asked that has not said where it listens yet.
const INVITES_MAX: usize = 40;

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What a session wants of an agent in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentWish {
    /// Whether it is to mirror or steal.
    pub incoming: bool,
    /// The image that it runs from.
    pub image: String,
}

/// What an agent is asked by a program in its container.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a, T> {
    /// The words after `agent`.
    pub words: &'a [&'a str],
    /// Reads the answer; none where it is none, which an agent gives that has not said where it listens yet.
    pub read: fn(&str) -> Option<T>,
}

/// An agent's ephemeral container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentContainer {
    name: String,
    lacks_capabilities: bool,
}

impl AgentContainer {
    /// Finds the agent that `wish` wants beside a pod, or starts one, and has it answer `question` once it runs: another one
    /// where one ends meanwhile, which they do when nobody was there for a minute.
    ///
    /// # Errors
    /// [`AgentError`] when none may be there, none starts, or none answers.
    pub async fn place_asking<T>(
        pods: &Api<Pod>,
        chosen: &ChosenPod,
        wish: &AgentWish,
        question: &Question<'_, T>,
    ) -> Result<(Self, T), AgentError> {
        let mut chosen = Cow::Borrowed(chosen);
        for number in 1.. {
            let agent = Self::place(pods, &chosen, wish).await?;
            match agent.ask(pods, &chosen.name, question).await {
                Err(AgentError::Ended { .. }) if number < AGENTS_MAX => {
                    chosen.to_mut().pod = look_at(pods, &chosen.name).await?;
                }
                answered => return Ok((agent, answered?)),
            }
        }
        unreachable!("the last one returns")
    }

    /// Finds the agent that `wish` wants, or starts one and waits until it runs.
    ///
    /// # Errors
    /// [`AgentError`] when it may not be there or does not start.
    async fn place(
        pods: &Api<Pod>,
        chosen: &ChosenPod,
        wish: &AgentWish,
    ) -> Result<Self, AgentError> {
        let mut seen = Cow::Borrowed(&chosen.pod);
        for look in 1.. {
            let agent = match seat(&seen, &chosen.container.name, wish) {
                Seat::Taken(container) => Self {
                    name: container.name.clone(),
                    lacks_capabilities: shape::lacks_capabilities(container, chosen, wish.incoming),
                },
                Seat::Free(name) => match put(pods, chosen, wish, name).await {
                    Ok((agent, pod)) => {
                        seen = Cow::Owned(pod);
                        agent
                    }
                    // Somebody else has put another one there meanwhile.
                    Err(failure) if failure.is_contested() && look < LOOKS_MAX => {
                        tokio::time::sleep(LOOK_EVERY).await;
                        seen = Cow::Owned(look_at(pods, &chosen.name).await?);
                        continue;
                    }
                    Err(source) => {
                        return Err(AgentError::Refused {
                            pod: chosen.name.clone(),
                            incoming: wish.incoming,
                            source,
                        });
                    }
                },
            };
            match progress(&seen, &agent.name) {
                Progress::Runs => return Ok(agent),
                // It was there already, and the pod that was looked at was an older one.
                Progress::Ended(_) if look < LOOKS_MAX => {}
                Progress::Ended(_) | Progress::Waits | Progress::Stuck(_) => {
                    wait_until_running(pods, &chosen.name, &agent.name, &wish.image).await?;
                    return Ok(agent);
                }
            }
        }
        unreachable!("the last look returns")
    }

    /// The agent in a pod of the session's own, once it runs.
    ///
    /// # Errors
    /// [`AgentError`] when it does not start.
    pub async fn of_own_pod(
        pods: &Api<Pod>,
        pod: &str,
        container: &str,
        image: &str,
    ) -> Result<Self, AgentError> {
        wait_until_running(pods, pod, container, image).await?;
        Ok(Self {
            name: container.to_owned(),
            lacks_capabilities: false,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What must be told of it.
    pub fn remarks(&self) -> Vec<String> {
        if self.lacks_capabilities {
            vec!["the namespace's Pod Security leaves the agent without capabilities".to_owned()]
        } else {
            Vec::new()
        }
    }

    /// Asks the agent, by a program in its container, until it answers.
    ///
    /// # Errors
    /// [`AgentError`] when the user may not run programs there, or nobody answers; [`AgentError::Ended`] when it has
    /// ended meanwhile, so that another one may be placed.
    pub async fn ask<T>(
        &self,
        pods: &Api<Pod>,
        pod: &str,
        question: &Question<'_, T>,
    ) -> Result<T, AgentError> {
        let mut heard = String::new();
        let asking = self.ask_often(pods, pod, question, &mut heard);
        // A kubelet that does not answer holds each try for as long as the API server waits for it.
        let answer = tokio::time::timeout(START_WITHIN, asking).await;
        if let Some(answer) = answer.unwrap_or(Ok(None))? {
            return Ok(answer);
        }
        Err(AgentError::Silent {
            pod: pod.to_owned(),
            container: self.name.clone(),
            why: heard.lines().next().unwrap_or("it says nothing").to_owned(),
        })
    }

    /// Its answer; none where it gives none, of which `heard` is what was heard last.
    async fn ask_often<T>(
        &self,
        pods: &Api<Pod>,
        pod: &str,
        question: &Question<'_, T>,
        heard: &mut String,
    ) -> Result<Option<T>, AgentError> {
        let command = [&[PROGRAM, "agent"], question.words].concat();
        let params = AttachParams::default().container(&self.name);
        for _ in 0..INVITES_MAX {
            match pods.exec(pod, command.iter().copied(), &params).await {
                Ok(mut process) => {
                    let (stdout, stderr) = (process.stdout(), process.stderr());
                    let (answer, words) = tokio::join!(read_text(stdout), read_text(stderr));
                    if let Some(answer) = (question.read)(&answer) {
                        return Ok(Some(answer));
                    }
                    *heard = words;
                }
                Err(error) => *heard = self.explain_refusal(pods, pod, error.into()).await?,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(None)
    }

    /// What to say of an agent in which no program can be run just now.
    ///
    /// # Errors
    /// Where that will stay so: the user may not, nobody answers at all, or the agent has ended.
    async fn explain_refusal(
        &self,
        pods: &Api<Pod>,
        pod: &str,
        failure: ApiFailure,
    ) -> Result<String, AgentError> {
        // The kubelet tells of an end some moments later.
        if !failure.is_forbidden()
            && let Ok(found) = look_at(pods, pod).await
        {
            return match progress(&found, &self.name) {
                Progress::Ended(_) => Err(AgentError::Ended {
                    pod: pod.to_owned(),
                    container: self.name.clone(),
                }),
                Progress::Runs | Progress::Waits | Progress::Stuck(_) => Ok(failure.to_string()),
            };
        }
        Err(AgentError::Api {
            tried: format!("ask the agent {} in the pod {pod}", self.name),
            right: format!(
                "create pods/exec -n {}",
                pods.namespace().unwrap_or("default")
            ),
            source: failure,
        })
    }

    /// The failure of an agent that invited fewer sessions than it was asked to.
    pub fn silent(&self, pod: &str) -> AgentError {
        AgentError::Silent {
            pod: pod.to_owned(),
            container: self.name.clone(),
            why: "it invites too few sessions".to_owned(),
        }
    }
}

/// What a program in a pod says, up to a bound; nothing where it says nothing.
pub async fn read_text(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = Vec::new();
    if let Some(stream) = stream {
        // A piece is no invitation, which the caller sees.
        let _cut = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Puts an agent of this name beside the target, as the first account that may stand there; with the pod as it is then.
async fn put(
    pods: &Api<Pod>,
    chosen: &ChosenPod,
    wish: &AgentWish,
    name: String,
) -> Result<(AgentContainer, Pod), ApiFailure> {
    let mut refusal = None;
    for (tried, account) in shape::accounts(chosen, wish.incoming).iter().enumerate() {
        let container = shape::build(&name, chosen, wish, *account);
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        let params = PatchParams::default();
        let patched = pods
            .patch_ephemeral_containers(&chosen.name, &params, &Patch::Strategic(patch))
            .await;
        match patched.map_err(ApiFailure::from) {
            Ok(pod) => {
                let lacks_capabilities = tried > 0;
                let agent = AgentContainer {
                    name,
                    lacks_capabilities,
                };
                return Ok((agent, pod));
            }
            // Pod Security, or whoever does its work, may let a lesser one stand there.
            Err(failure) if failure.is_denied() => refusal = refusal.or(Some(failure)),
            Err(failure) => return Err(failure),
        }
    }
    Err(refusal.expect("one account was tried at least, and refused"))
}

async fn look_at(pods: &Api<Pod>, pod: &str) -> Result<Pod, AgentError> {
    pods.get(pod).await.map_err(|error| AgentError::Api {
        tried: format!("look at the pod {pod}"),
        right: format!("get pods -n {}", pods.namespace().unwrap_or("default")),
        source: error.into(),
    })
}

async fn wait_until_running(
    pods: &Api<Pod>,
    pod: &str,
    name: &str,
    image: &str,
) -> Result<(), AgentError> {
    let failed = |why: String| AgentError::NotStarted {
        pod: pod.to_owned(),
        container: name.to_owned(),
        image: image.to_owned(),
        why,
    };
    let running = async {
        loop {
            let found = look_at(pods, pod).await?;
            match progress(&found, name) {
                Progress::Runs => return Ok(()),
                Progress::Ended(why) | Progress::Stuck(why) => return Err(failed(why)),
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

#[cfg(test)]
mod tests;

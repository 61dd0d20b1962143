//! Agents beside pods, as whoever places them does it: the operator for a `Session`, a command with its user's own rights.
//!
//! ```text
//!   workload ──> its pods, the best of them, the container                     (target)
//!   pod ──> an agent as an ephemeral container, or one that is there already   (container)
//!   agent ──exec──> what it is asked
//! ```
//!
//! Owns which pod and container stand for a workload, and how an agent looks. Leaves what an agent is asked, and what is done
//! with its answer, to whoever asks.

mod container;
mod error;
#[cfg(test)]
pub(crate) mod played_api;
mod target;

pub use container::{AGENT_FOLDER, AgentContainer, AgentWish, PROGRAM, Question, read_text};
pub use error::{AgentError, ApiFailure};
pub use target::{
    ChosenPod, PodId, PodState, SeenPod, choose, find_pod, is_ready, look, newest_job,
    own_containers, rollouts, selector_of_service, state_of, target_of, with_container,
    workload_of,
};

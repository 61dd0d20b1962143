//! Which PostgreSQL a source is, asked by our program in a pod of the cluster, since this machine may not reach it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use model::{PgMajor, PgUrl};
use operator::agents::read_text;
use tokio::io::AsyncWriteExt;

use super::error::ClusterError;

/// How long the pod may take to answer: the question itself has 20 s there.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Asks from `container` of `pod`, where `program` is ours.
///
/// # Errors
/// [`ClusterError`] when the user may not run programs there, or the source does not answer.
pub(super) async fn ask(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    program: &str,
    url: &PgUrl,
) -> Result<PgMajor, ClusterError> {
    let unknown = |why: &str| ClusterError::NoVersion {
        pod: pod.to_owned(),
        why: why.to_owned(),
    };
    let asked = ask_there(pods, pod, container, program, url);
    let asked = tokio::time::timeout(ANSWER_WITHIN, asked).await;
    let (answer, words) = asked.unwrap_or_else(|_| Err(unknown("the pod does not answer")))?;
    let why = words.lines().next().unwrap_or("it says nothing");
    let why = why.strip_prefix("error: ").unwrap_or(why);
    answer.trim().parse().map_err(|_| unknown(why))
}

/// What the program there says: its answer, and its complaints.
async fn ask_there(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    program: &str,
    url: &PgUrl,
) -> Result<(String, String), ClusterError> {
    let params = AttachParams::default().container(container).stdin(true);
    let process = pods
        .exec(pod, [program, "agent", "source-version"], &params)
        .await;
    let mut process = process.map_err(|error| ClusterError::Api {
        tried: format!("ask for the source's version in the pod {pod}"),
        right: format!(
            "create pods/exec -n {}",
            pods.namespace().unwrap_or("default")
        ),
        source: error.into(),
    })?;
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let question = async {
        let mut stdin = stdin?;
        let line = format!("{}\n", url.reveal());
        stdin.write_all(line.as_bytes()).await.ok()?;
        stdin.flush().await.ok()?;
        // Held until the answer is there: its end may take the others along.
        Some(stdin)
    };
    let (_held, answer, words) = tokio::join!(question, read_text(stdout), read_text(stderr));
    Ok((answer, words))
}

//! One step about a source done: its engine asked or told, the resource written.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use model::engine_api::SourceView;
use resources::{FollowMode, Source, SourceStatus};
use serde_json::json;

use super::plan::Kept;
use crate::host::{PROGRAM, REPLICATION_FILE, SOURCE_DIR, URL_FILE, ask, ask_with};
use crate::step::StepError;

/// What the engine in `pod` says of the source; none where it does not know it.
pub(super) async fn known(
    pods: &Api<Pod>,
    pod: &str,
    source: &Source,
) -> Result<Option<Box<SourceView>>, StepError> {
    let text = ask(pods, pod, &["source", "ls", "--output", "json"]).await?;
    let known = read(pod, &text)?;
    let name = source.name_any();
    let own = known.into_iter().find(|it| it.name.as_str() == name);
    Ok(own.map(Box::new))
}

/// Tells the engine in `pod` of the source, as the resource has it now.
pub(super) async fn add(pods: &Api<Pod>, pod: &str, source: &Source) -> Result<Kept, StepError> {
    let script = script();
    let words = words(source);
    let words = words.iter().map(String::as_str);
    // The first word after the script is its own name.
    let command: Vec<&str> = ["/bin/sh", "-c", &script, PROGRAM]
        .into_iter()
        .chain(words)
        .collect();
    match ask_with(pods, pod, &command).await {
        Ok(text) => {
            let known = read(pod, &text)?.into_iter().next().map(Box::new);
            Ok(Kept::In(known))
        }
        Err(StepError::Engine { words, .. }) => Ok(Kept::Refused(words)),
        Err(error) => Err(error),
    }
}

/// The connection strings come from the files of the Secret: in no argument, which every process of the pod could read.
fn script() -> String {
    format!(
        "set -eu; BOUGH_SOURCE_URL=$(cat {SOURCE_DIR}/{URL_FILE}); export BOUGH_SOURCE_URL; \
         if [ -e {SOURCE_DIR}/{REPLICATION_FILE} ]; then \
         BOUGH_REPLICATION_URL=$(cat {SOURCE_DIR}/{REPLICATION_FILE}); export BOUGH_REPLICATION_URL; fi; \
         exec \"$0\" \"$@\""
    )
}

fn words(source: &Source) -> Vec<String> {
    let spec = &source.spec;
    let mode = match spec.follow {
        FollowMode::Auto => "auto",
        FollowMode::Physical => "physical",
        FollowMode::Logical => "logical",
    };
    let mut words = vec!["source".to_owned(), "add".to_owned()];
    words.extend(["--name".to_owned(), source.name_any()]);
    words.extend(["--mode".to_owned(), mode.to_owned()]);
    words.extend(["--warm".to_owned(), spec.warm_pool.clones.to_string()]);
    words.extend(["--output".to_owned(), "json".to_owned()]);
    for address in &spec.addresses {
        let address = format!("{}:{}", address.host, address.port);
        words.extend(["--address".to_owned(), address]);
    }
    words
}

fn read(pod: &str, text: &str) -> Result<Vec<SourceView>, StepError> {
    serde_json::from_str(text).map_err(|error| StepError::Engine {
        pod: pod.to_owned(),
        words: error.to_string(),
    })
}

/// Has the resource say so.
pub(super) async fn tell(
    client: &Client,
    source: &Source,
    status: &SourceStatus,
) -> Result<(), StepError> {
    let (namespace, name) = (source.namespace().unwrap_or_default(), source.name_any());
    let api: Api<Source> = Api::namespaced(client.clone(), &namespace);
    let mut whole = json!({
        "ready": null, "state": null, "position": null, "host": null, "message": null, "hosts": [], "conditions": [],
    });
    if let (Some(whole), Some(told)) = (whole.as_object_mut(), json!(status).as_object()) {
        whole.extend(told.clone());
    }
    let patch = Patch::Merge(json!({ "status": whole }));
    let told = api
        .patch_status(&name, &PatchParams::default(), &patch)
        .await;
    told.map(drop).map_err(|source| StepError::Api {
        tried: format!("tell of the source {name} in namespace {namespace}"),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_told_all_but_the_secrets_in_words() {
        let source: Source = serde_json::from_value(json!({
            "metadata": {"name": "orders"},
            "spec": {
                "connection": {"name": "s", "key": "k"}, "version": 16, "follow": "physical",
                "addresses": [{"host": "postgres", "port": 5432}], "warmPool": {"clones": 3},
            },
        }))
        .expect("a source");
        assert_eq!(
            words(&source).join(" "),
            "source add --name orders --mode physical --warm 3 --output json --address postgres:5432"
        );
    }

    #[test]
    fn connection_strings_go_from_files_into_the_environment() {
        let folder = std::env::temp_dir().join(format!("bough-source-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(URL_FILE), "postgres://a b$(c)").expect("a file");
        let script = script().replace(SOURCE_DIR, folder.to_str().expect("text"));
        let shown = || {
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", &script, "printenv", "BOUGH_SOURCE_URL"])
                .env_remove("BOUGH_REPLICATION_URL")
                .output()
                .expect("a shell");
            String::from_utf8(output.stdout).expect("text")
        };
        assert_eq!(shown(), "postgres://a b$(c)\n");
        std::fs::remove_dir_all(&folder).expect("gone");
        assert_eq!(shown(), "", "without a file nothing is run");
    }
}

//! A source's connection strings in its host: files of its Secrets, which the kubelet lays there.
//!
//! Owns how the volume of a pod looks, and what a pod that runs has. A pod keeps the Secrets that it was made with: another
//! one comes with the next pod, other words of the same one by themselves.

use k8s_openapi::api::core::v1::Volume;
use resources::{SecretKey, SourceSpec};
use serde_json::{Value, json};

/// The volume.
pub(super) const VOLUME: &str = "source";

/// Where a source's host has its connection strings.
pub(crate) const SOURCE_DIR: &str = "/etc/bough/source";

/// The file of a source's connection string there.
pub(crate) const URL_FILE: &str = "url";

/// The file of the one for replication, where the source has one.
pub(crate) const REPLICATION_FILE: &str = "replication";

/// One file of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Laid {
    /// The file.
    pub(crate) file: String,
    /// The Secret's name.
    pub(crate) secret: String,
    /// The key of the Secret.
    pub(crate) key: String,
}

/// The volume with a source's connection strings, which the host's account alone reads.
pub(super) fn volume(source: &SourceSpec) -> Value {
    let files: Vec<Value> = wanted(source)
        .into_iter()
        .map(|it| {
            let item = json!({"key": it.key, "path": it.file});
            json!({"secret": {"name": it.secret, "items": [item]}})
        })
        .collect();
    json!({"name": VOLUME, "projected": {"defaultMode": 0o440, "sources": files}})
}

/// What a host of this source is to have.
pub(crate) fn wanted(source: &SourceSpec) -> Vec<Laid> {
    let file = |of: &SecretKey, file: &str| Laid {
        file: file.to_owned(),
        secret: of.name.clone(),
        key: of.key.clone(),
    };
    let replication = source.replication.as_ref();
    [file(&source.connection, URL_FILE)]
        .into_iter()
        .chain(replication.map(|of| file(of, REPLICATION_FILE)))
        .collect()
}

/// What a pod with these volumes has.
pub(crate) fn laid(volumes: Option<&Vec<Volume>>) -> Vec<Laid> {
    let own = volumes.into_iter().flatten().filter(|it| it.name == VOLUME);
    let projected = own.filter_map(|it| it.projected.as_ref()?.sources.as_ref());
    let secrets = projected.flatten().filter_map(|it| it.secret.as_ref());
    secrets
        .flat_map(|secret| {
            secret.items.iter().flatten().map(|item| Laid {
                file: item.path.clone(),
                secret: secret.name.clone(),
                key: item.key.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_into_a_pod_is_read_from_it_again() {
        let mut spec: SourceSpec = serde_json::from_value(json!({
            "connection": {"name": "reader", "key": "url"}, "version": 16,
            "addresses": [{"host": "postgres", "port": 5432}],
        }))
        .expect("a spec");
        let read = |spec: &SourceSpec| {
            let volume = serde_json::from_value(volume(spec)).expect("a volume");
            let other = serde_json::from_value(json!({"name": "tmp", "emptyDir": {}}));
            laid(Some(&vec![other.expect("a volume"), volume]))
        };
        assert_eq!(read(&spec), wanted(&spec));
        let one = wanted(&spec);
        spec.replication = Some(SecretKey {
            name: "follower".to_owned(),
            key: "url".to_owned(),
        });
        assert_eq!(read(&spec), wanted(&spec));
        assert_eq!((one.len(), wanted(&spec).len()), (1, 2));
        assert_eq!(laid(None), []);
    }
}

//! Storage for claims: two filesystems on loop files, one that shares blocks (reflink) and one that does not, with local
//! volumes made ahead on each, since nothing provisions them.
//!
//! A volume is used once: what a released one holds is nobody's to give away. There are enough for a run of all stories.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::namespaces::{NODE, mount};
use super::place::Place;
use crate::command;

/// How large a filesystem may grow. Its file is sparse.
const FILESYSTEM_BYTES: u64 = 40 << 30;

/// Volumes of a class.
const VOLUMES: usize = 32;

/// What a volume says that it holds. Nothing keeps its user to that.
const CAPACITY: &str = "20Gi";

/// A class of storage and the filesystem below it.
struct Class {
    /// Its name in the cluster; the filesystem's in the node's directory.
    name: &'static str,
    option: &'static str,
    /// Claims that name no class get this one.
    is_default: bool,
}

const CLASSES: [Class; 2] = [
    Class {
        name: "reflink",
        option: "reflink=1",
        is_default: true,
    },
    Class {
        name: "plain",
        option: "reflink=0",
        is_default: false,
    },
];

/// Makes and mounts the filesystems, with a directory for every volume.
///
/// # Errors
/// When the machine refuses one.
pub(super) fn make(place: &Place) -> Result<()> {
    for class in &CLASSES {
        let (file, point) = (place.path(&format!("{}.xfs", class.name)), point(class));
        let point = place.path(&point);
        let made = fs::File::create(&file).and_then(|made| made.set_len(FILESYSTEM_BYTES));
        made.with_context(|| format!("create {}", file.display()))?;
        fs::create_dir_all(&point).with_context(|| format!("create {}", point.display()))?;
        let mut mkfs = Command::new("mkfs.xfs");
        command::capture(mkfs.args(["-q", "-m", class.option]).arg(&file))?;
        mount(&[
            "-o".as_ref(),
            "loop".as_ref(),
            file.as_ref(),
            point.as_ref(),
        ])?;
        for number in 0..VOLUMES {
            let volume = point.join(number.to_string());
            fs::create_dir(&volume).with_context(|| format!("create {}", volume.display()))?;
        }
    }
    Ok(())
}

/// The classes and volumes as the API server is told of them.
pub(super) fn manifest(place: &Place) -> Value {
    let classes = CLASSES.iter().map(storage_class);
    let volumes = CLASSES.iter().flat_map(|class| {
        let point = place.path(&point(class));
        (0..VOLUMES).map(move |number| volume(class.name, number, &point.join(number.to_string())))
    });
    let items: Vec<Value> = classes.chain(volumes).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

fn point(class: &Class) -> String {
    format!("volumes/{}", class.name)
}

fn storage_class(class: &Class) -> Value {
    let default = class.is_default.to_string();
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": class.name,
            "annotations": { "storageclass.kubernetes.io/is-default-class": default },
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn volume(class: &str, number: usize, directory: &Path) -> Value {
    let on_node = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [NODE] });
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": format!("{class}-{number}") },
        "spec": {
            "capacity": { "storage": CAPACITY },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": class,
            "local": { "path": directory },
            "nodeAffinity": {
                "required": { "nodeSelectorTerms": [{ "matchExpressions": [on_node] }] },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_volume_is_a_directory_of_its_own_and_one_class_is_the_default() {
        let place = Place::in_directory(Path::new("/node"));
        let manifest = manifest(&place);
        let items = manifest["items"].as_array().expect("a list");
        let paths: BTreeSet<&str> = items
            .iter()
            .filter_map(|item| item["spec"]["local"]["path"].as_str())
            .collect();
        assert_eq!(paths.len(), VOLUMES * CLASSES.len());
        assert!(
            paths
                .iter()
                .all(|path| Path::new(path).starts_with("/node/volumes"))
        );
        let annotation = "storageclass.kubernetes.io/is-default-class";
        let defaults = items
            .iter()
            .filter(|item| item["metadata"]["annotations"][annotation] == "true");
        assert_eq!(defaults.count(), 1);
    }
}

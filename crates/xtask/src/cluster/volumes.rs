//! Storage for claims: filesystems on loop files, which share blocks (reflink) or do not, and a small one, with local volumes
//! made ahead on each, since nothing provisions them.
//!
//! A volume that was given back keeps what it holds until it is emptied, which the next `up` does. There are enough for a
//! run of all stories.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::namespaces::{NODE, mount};
use super::place::Place;
use crate::command;

/// What a volume says that it holds. Nothing keeps its user to that.
const CAPACITY: &str = "20Gi";

/// A class of storage and the filesystem below it.
struct Class {
    /// Its name in the cluster; the filesystem's in the node's directory.
    name: &'static str,
    option: &'static str,
    /// How large its filesystem may grow. The file of that is sparse.
    bytes: u64,
    /// How many volumes it has: more than all stories claim, of which one that was given back is none.
    volumes: usize,
    /// Claims that name no class get this one.
    is_default: bool,
}

const CLASSES: [Class; 3] = [
    Class {
        name: "reflink",
        option: "reflink=1",
        bytes: 40 << 30,
        volumes: 96,
        is_default: true,
    },
    Class {
        name: "plain",
        option: "reflink=0",
        bytes: 40 << 30,
        volumes: 16,
        is_default: false,
    },
    // One volume that a story fills.
    Class {
        name: "small",
        option: "reflink=1",
        bytes: 2 << 30,
        volumes: 1,
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
        let made = fs::File::create(&file).and_then(|made| made.set_len(class.bytes));
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
        for number in 0..class.volumes {
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
        (0..class.volumes)
            .map(move |number| volume(class.name, number, &point.join(number.to_string())))
    });
    let items: Vec<Value> = classes.chain(volumes).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

/// The volumes that were given back, of what the API server lists.
pub(super) fn given_back(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    let released = items.filter(|item| item["status"]["phase"] == "Released");
    let names = released.filter_map(|item| item["metadata"]["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Empties the directory of a volume, and gives the volume as the API server is told of it anew; none if it is not one of
/// ours.
///
/// # Errors
/// When the directory cannot be emptied.
pub(super) fn empty(place: &Place, name: &str) -> Result<Option<Value>> {
    let ours = CLASSES.iter().find_map(|class| {
        let number = name.strip_prefix(class.name)?.strip_prefix('-')?;
        let number: usize = number
            .parse()
            .ok()
            .filter(|number| *number < class.volumes)?;
        Some((class, number))
    });
    let Some((class, number)) = ours else {
        return Ok(None);
    };
    let directory = place.path(&point(class)).join(number.to_string());
    let anew = || fs::remove_dir_all(&directory).and_then(|()| fs::create_dir(&directory));
    anew().with_context(|| format!("empty {}", directory.display()))?;
    Ok(Some(volume(class.name, number, &directory)))
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
        let wanted: usize = CLASSES.iter().map(|class| class.volumes).sum();
        assert_eq!(paths.len(), wanted);
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
    #[test]
    fn only_a_volume_that_was_given_back_is_emptied() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::in_directory(dir.path());
        let volume = dir.path().join("volumes/plain/3");
        fs::create_dir_all(volume.join("data")).expect("created");
        let item = |name: &str, phase: &str| json!({ "metadata": { "name": name }, "status": { "phase": phase } });
        let list = json!({ "items": [item("plain-3", "Released"), item("plain-4", "Bound")] });
        assert_eq!(given_back(&list), ["plain-3"]);
        let anew = empty(&place, "plain-3").expect("emptied").expect("ours");
        assert_eq!(anew["spec"]["local"]["path"], volume.display().to_string());
        assert!(volume.is_dir() && !volume.join("data").exists());
        for other in ["plain-999", "plain-../4", "pvc-1", "plain3"] {
            assert!(
                empty(&place, other).expect("left alone").is_none(),
                "{other}"
            );
        }
    }
}

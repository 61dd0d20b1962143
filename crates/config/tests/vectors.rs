//! Every vector gets the verdict that it must get; what is not read yet is refused in those words.

use std::path::Path;

use config::{
    AddressMatch, Config, Rejected, Side, SideFilter, Surroundings, Target, TargetChoice,
};
use serde_json::{Value, json};

/// Vectors whose format is not read yet. The list only shrinks: each must really be refused for that reason.
const NOT_READ_YET: [(&str, &str); 8] = [
    ("toml-basic.toml", "TOML"),
    ("toml-db.toml", "TOML"),
    ("yaml-anchors.yml", "YAML"),
    ("yaml-basic.yaml", "YAML"),
    ("yaml-bool-yes.yaml", "YAML"),
    ("yaml-dup-keys.yaml", "YAML"),
    ("yaml-version-int.yaml", "YAML"),
    ("yaml-version-float.yaml", "YAML"),
];

/// Vectors that resolve otherwise than upstream, on purpose.
const RESOLVED_OTHERWISE: [(&str, &str); 1] = [(
    "tera-key-doublequote.json",
    "upstream loses the file's key when the text before rendering is not JSON; here the file's key counts",
)];

struct Vector {
    file: String,
    input: String,
    accepted: bool,
    resolved: Value,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("vectors.jsonl");
    let read = |line: &str| {
        let record: Value = serde_json::from_str(line).expect("a record is JSON");
        let text = |key: &str| record[key].as_str().expect(key).to_owned();
        Vector {
            file: text("file"),
            input: text("input"),
            accepted: text("expect") == "accept",
            resolved: record["resolved"].clone(),
        }
    };
    text.lines().map(read).collect()
}

fn read(vector: &Vector, directory: &Path) -> Result<Config, Rejected> {
    let surroundings = Surroundings {
        // What git had checked out when upstream resolved the vectors.
        git_branch: Some("b".to_owned()),
        ..Surroundings::new(directory, "random")
    };
    config::read_text(Path::new(&vector.file), &vector.input, &surroundings)
}

#[test]
fn every_vector_gets_its_verdict() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let vectors = vectors();
    assert_eq!(vectors.len(), 147);
    let mut wrong = Vec::new();
    for vector in &vectors {
        let outcome = read(vector, directory.path());
        let planned = NOT_READ_YET.iter().find(|(file, _)| *file == vector.file);
        let is_right = match (&outcome, planned) {
            (Err(rejected), Some((_, format))) => rejected.errors.iter().any(|error| {
                error.text == format!("{format} files are not read yet: see docs/roadmap.md")
            }),
            (Ok(_), Some(_)) => false,
            (outcome, None) => outcome.is_ok() == vector.accepted,
        };
        if !is_right {
            let said =
                outcome.map_or_else(|rejected| rejected.to_string(), |_| "accepted".to_owned());
            wrong.push(format!("{}: {said}", vector.file));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_of_what_is_not_read_yet_names_vectors() {
    let vectors = vectors();
    for (file, _) in NOT_READ_YET {
        assert!(vectors.iter().any(|vector| vector.file == file), "{file}");
    }
}

/// The parts of a resolved file that both sides have, in upstream's shape.
fn summary_of_upstream(resolved: &Value) -> Value {
    let feature = &resolved["feature"];
    let network = &feature["network"];
    json!({
        "target": resolved["target"]["path"],
        "namespace": resolved["target"]["namespace"],
        "incoming": network["incoming"]["mode"],
        "ignore_localhost": network["incoming"]["ignore_localhost"],
        "outgoing": [
            network["outgoing"]["tcp"], network["outgoing"]["udp"], network["outgoing"]["ignore_localhost"],
        ],
        "dns": network["dns"]["enabled"],
        "ipv6": network["ipv6"],
        "fs": [feature["fs"]["mode"], feature["fs"]["readonly_file_buffer"]],
        "copy_target": [feature["copy_target"]["enabled"], feature["copy_target"]["scale_down"]],
        "unset": feature["env"]["unset"],
        "env_file": feature["env"]["env_file"],
        "branches": branches_of_upstream(&feature["db_branches"]),
    })
}

fn branches_of_upstream(list: &Value) -> Vec<Value> {
    let branches = list.as_array().cloned().unwrap_or_default();
    branches
        .iter()
        .filter(|branch| branch["type"] == "pg")
        .map(|branch| {
            let minutes = branch["ttl_mins"].as_u64().map(|minutes| minutes * 60);
            json!({
                "id": branch["id"],
                "name": branch["name"],
                "ttl": branch["ttl_secs"].as_u64().or(minutes).unwrap_or(300),
                "timeout": branch["creation_timeout_secs"],
                "mode": branch["copy"]["mode"],
            })
        })
        .collect()
}

fn target_of_ours(target: &Target) -> Value {
    let TargetChoice::Workload(workload) = &target.choice else {
        return Value::Null;
    };
    let kind = serde_json::to_value(workload.kind).expect("a kind is a word");
    if kind == "label" {
        let pairs = workload
            .name
            .split(',')
            .filter_map(|pair| pair.split_once('='));
        let labels: Value = pairs.map(|(k, v)| (k.to_owned(), Value::from(v))).collect();
        return json!({"labels": labels});
    }
    json!({kind.as_str().expect("a word"): workload.name, "container": workload.container})
}

fn summary_of_ours(config: &Config) -> Value {
    let network = &config.network;
    let branch = |branch: &config::DbBranch| {
        json!({
            "id": branch.is_id_chosen.then(|| branch.id.as_str()),
            "name": branch.database,
            "ttl": branch.ttl.0,
            "timeout": branch.creation_timeout.as_secs(),
            "mode": branch.copy.mode.as_str(),
        })
    };
    json!({
        "target": target_of_ours(&config.target),
        "namespace": config.target.namespace.as_ref().map(|namespace| namespace.as_str()),
        "incoming": network.incoming.mode.as_str(),
        "ignore_localhost": network.incoming.ignore_localhost,
        "outgoing": [network.outgoing.tcp, network.outgoing.udp, network.outgoing.ignore_localhost],
        "dns": network.dns.enabled,
        "ipv6": network.ipv6,
        "fs": [config.fs.mode.as_str(), config.fs.readonly_file_buffer],
        "copy_target": [config.copy_target.enabled, config.copy_target.scale_down],
        "unset": config.env.unset,
        "env_file": config.env.env_file,
        "branches": config.branches.iter().map(branch).collect::<Vec<_>>(),
    })
}

#[test]
fn what_upstream_accepts_resolves_as_it_does_there() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut compared = 0;
    for vector in vectors() {
        let Ok(config) = read(&vector, directory.path()) else {
            continue;
        };
        let differs = RESOLVED_OTHERWISE
            .iter()
            .any(|(file, _)| *file == vector.file);
        if vector.resolved.is_null() {
            continue;
        }
        if differs {
            assert_ne!(
                summary_of_ours(&config),
                summary_of_upstream(&vector.resolved)
            );
            continue;
        }
        assert_eq!(
            summary_of_ours(&config),
            summary_of_upstream(&vector.resolved),
            "{}",
            vector.file
        );
        compared += 1;
    }
    assert!(compared > 70, "only {compared} compared");
}

#[test]
fn filters_are_read_into_their_parts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let vectors = vectors();
    let vector = vectors
        .iter()
        .find(|vector| vector.file == "outgoing-04.json");
    let config = read(vector.expect("outgoing-04"), directory.path()).expect("accepted");
    let Some(SideFilter { side, entries }) = config.network.outgoing.filter else {
        panic!("no filter")
    };
    assert_eq!(side, Side::Local);
    let ports: Vec<u16> = entries.iter().map(|entry| entry.port).collect();
    assert_eq!(ports, [1337, 0, 0, 53]);
    assert_eq!(
        entries[2].address,
        AddressMatch::Name("google.com".to_owned())
    );
    assert_eq!(entries[3].address, AddressMatch::Any);
}

//! Every vector gets the verdict that it must get, and resolves as upstream resolves it.

use std::path::Path;

use config::{AddressMatch, Config, Rejected, Side, SideFilter, Surroundings, TargetChoice};
use serde_json::{Value, json};

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
        if outcome.is_ok() != vector.accepted {
            let said =
                outcome.map_or_else(|rejected| rejected.to_string(), |_| "accepted".to_owned());
            wrong.push(format!("{}: {said}", vector.file));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `feature.magic.aws` adds upstream: files are this machine's here, so nothing has to be looked for elsewhere.
const AWS_MAPPING: &str = "^/root/\\.aws(/.*)?";

/// What upstream resolved, as the file that it is.
fn file_of_upstream(resolved: &Value) -> String {
    let mut file = resolved.clone();
    if file["target"]["path"].is_null()
        && let Some(target) = file["target"].as_object_mut()
    {
        // Having no target, on purpose or not, is null there, and null is no path in a file.
        target.remove("path");
    }
    if let Some(mapping) = file["feature"]["fs"]["mapping"].as_object_mut() {
        mapping.remove(AWS_MAPPING);
        if mapping.is_empty() {
            file["feature"]["fs"]["mapping"] = Value::Null;
        }
    }
    file.to_string()
}

fn parts(config: &Config) -> (Value, Value) {
    let resolved = serde_json::to_value(&config.resolved).expect("JSON can be written");
    let target = match config.target.choice {
        TargetChoice::Targetless => {
            json!({"namespace": config.target.namespace.as_ref().map(|it| it.as_str())})
        }
        TargetChoice::Unset | TargetChoice::Workload(_) => resolved["target"].clone(),
    };
    (target, resolved["feature"].clone())
}

/// Every default, every shorthand, every branch: what upstream made of a file is what is made of it here.
#[test]
fn what_upstream_accepts_resolves_as_it_does_there() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut compared = 0;
    for vector in vectors() {
        let Ok(config) = read(&vector, directory.path()) else {
            continue;
        };
        if vector.resolved.is_null() {
            continue;
        }
        let theirs = Vector {
            file: "upstream.json".to_owned(),
            input: file_of_upstream(&vector.resolved),
            accepted: true,
            resolved: Value::Null,
        };
        let theirs = read(&theirs, directory.path())
            .unwrap_or_else(|rejected| panic!("{}: {rejected}", vector.file));
        let differs = RESOLVED_OTHERWISE
            .iter()
            .any(|(file, _)| *file == vector.file);
        if differs {
            assert_ne!(parts(&config), parts(&theirs), "{}", vector.file);
            continue;
        }
        assert_eq!(parts(&config), parts(&theirs), "{}", vector.file);
        compared += 1;
    }
    assert!(compared > 70, "only {compared} compared");
}

/// Reading what was resolved gives the same again.
#[test]
fn a_resolved_file_resolves_to_itself() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for vector in vectors() {
        let Ok(config) = read(&vector, directory.path()) else {
            continue;
        };
        let again = Vector {
            file: "resolved.json".to_owned(),
            input: serde_json::to_string(&config.resolved.reveal()).expect("JSON can be written"),
            accepted: true,
            resolved: Value::Null,
        };
        let again = read(&again, directory.path())
            .unwrap_or_else(|rejected| panic!("{}: {rejected}", vector.file));
        assert_eq!(again.resolved, config.resolved, "{}", vector.file);
        let ids = |config: &Config| -> Vec<String> {
            config
                .branches
                .iter()
                .map(|branch| branch.id.to_string())
                .collect()
        };
        assert_eq!(ids(&again), ids(&config), "{}", vector.file);
        let refused = |config: &Config| config.refused().count();
        assert!(refused(&again) >= refused(&config), "{}", vector.file);
    }
}

/// What of `value` is not in `defaults`.
fn beyond(value: &Value, defaults: &Value) -> Value {
    let (Value::Object(own), Value::Object(defaults)) = (value, defaults) else {
        return value.clone();
    };
    let differing = own
        .iter()
        .filter_map(|(key, value)| match defaults.get(key) {
            Some(default) if default == value => None,
            Some(default) => Some((key.clone(), beyond(value, default))),
            None => Some((key.clone(), value.clone())),
        });
    differing.collect()
}

/// A file that was accepted once is accepted with the same meaning for ever: every resolved vector is on record.
#[test]
fn resolved_vectors_stay_what_they_are() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let resolved = |config: &Config| -> Value {
        serde_json::to_value(&config.resolved).expect("JSON can be written")
    };
    let empty = Vector {
        file: "empty.json".to_owned(),
        input: "{}".to_owned(),
        accepted: true,
        resolved: Value::Null,
    };
    let defaults = resolved(&read(&empty, directory.path()).expect("accepted"));
    let mut record = format!("{} {defaults}\n", empty.file);
    for vector in vectors() {
        if let Ok(config) = read(&vector, directory.path()) {
            let own = beyond(&resolved(&config), &defaults);
            record.push_str(&format!("{} {own}\n", vector.file));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resolved.txt");
    if std::env::var_os("BOUGH_PUBLISH").is_some() {
        std::fs::write(&path, &record).expect("the record can be written");
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    for (now, before) in record.lines().zip(published.lines()) {
        assert_eq!(now, before);
    }
    assert_eq!(
        record.lines().count(),
        published.lines().count(),
        "new vectors: run `BOUGH_PUBLISH=1 cargo test -p config resolved_vectors` and commit the record"
    );
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

/// Every default of the format, as the format's own reader resolves `{}`: what only a run can fill in (images of its
/// own version, paths of logs) left out.
#[test]
fn every_default_is_the_formats() {
    let surroundings = Surroundings::new("/nowhere", "random");
    let config = config::read_text(Path::new("f.json"), "{}", &surroundings).expect("accepted");
    let resolved = serde_json::to_value(&config.resolved).expect("JSON can be written");
    let mut wrong = Vec::new();
    let mut compared = 0;
    for line in include_str!("defaults.txt").lines() {
        let (path, expected) = line.split_once(" = ").expect("a path and a value");
        let expected: Value = match (path, expected) {
            // Nobody's target has no path at all, and one word of a list is a list of it.
            ("target", "{}") => json!({"namespace": null}),
            ("skip_sip", word) => json!([word.trim_matches('"')]),
            ("feature.env.override" | "feature.env.mapping", "null") => json!({}),
            (_, value) => serde_json::from_str(value).expect("JSON"),
        };
        let found = path
            .split('.')
            .try_fold(&resolved, |value, key| value.get(key));
        compared += 1;
        if found != Some(&expected) {
            wrong.push(format!("{path}: {found:?}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 140, "only {compared}");
}

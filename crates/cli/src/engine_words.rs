//! What the engine says of itself and of the machine, in words. Pure.

use model::engine_api::{EngineView, InstallationView, VolumeView};

/// The volume's kind and filesystem.
pub(crate) fn volume(volume: &VolumeView) -> String {
    let (kind, filesystem, description) = (&volume.kind, &volume.filesystem, &volume.description);
    let mut text = format!("{kind} on {filesystem}: {description}");
    if let Some(backing) = &volume.backing {
        text.push_str(&format!("\nin the file {}", backing.path));
    }
    text
}

/// Free space on the volume, and below it where it is in a file.
pub(crate) fn free(volume: &VolumeView) -> String {
    let free = format!("{} free", volume.free_bytes);
    match &volume.backing {
        Some(backing) => format!("{free}, and {} where its file is", backing.free_bytes),
        None => free,
    }
}

/// The account that servers run as.
pub(crate) fn account(account: Option<&str>) -> String {
    account.map_or_else(|| "the engine's own account".to_owned(), str::to_owned)
}

/// What branches' servers reach.
pub(crate) fn egress(engine: &EngineView) -> String {
    match &engine.egress_open {
        None => "nothing but their clients".to_owned(),
        Some(reason) => format!("no branch starts: {reason}"),
    }
}

/// A line for each PostgreSQL, with what it is good for.
pub(crate) fn installations(installations: &[InstallationView]) -> String {
    let lines = installations.iter().map(installation);
    lines.collect::<Vec<_>>().join("\n")
}

fn installation(found: &InstallationView) -> String {
    let version = match &found.version {
        Some(version) => version.clone(),
        None => found.major.to_string(),
    };
    let parts = [
        (found.server, "server"),
        (found.pg_dump, "pg_dump"),
        (found.psql, "psql"),
    ];
    let has: Vec<_> = parts
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, part)| *part)
        .collect();
    format!("{version} in {}: {}", found.bin, has.join(", "))
}

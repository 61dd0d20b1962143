//! A catalogue that was cut, flipped, emptied or removed: the engine refuses it by name and touches nothing, and its
//! owner goes on with the backup.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use fixtures::eventually;

use super::{begin, check_whole};
use crate::world::World;

/// From a change to a backup that has it.
const BACKUP_MAX: Duration = Duration::from_secs(30);

/// What may happen to a file, by name.
type Damage = (&'static str, fn(&[u8]) -> Option<Vec<u8>>);

const DAMAGES: [Damage; 6] = [
    ("removed", |_| None),
    ("empty", |_| Some(Vec::new())),
    ("cut in its head", |bytes| Some(bytes[..100].to_vec())),
    ("cut in half", |bytes| {
        Some(bytes[..bytes.len() / 2].to_vec())
    }),
    ("overwritten", |bytes| Some(vec![b'x'; bytes.len()])),
    ("flipped all over", |bytes| {
        let flip = |(place, byte): (usize, &u8)| byte ^ u8::from(place % 97 == 0);
        Some(bytes.iter().enumerate().map(flip).collect())
    }),
];

#[test]
fn a_damaged_catalogue_is_refused_by_name_and_made_anew_of_its_backup() -> Result<()> {
    let world = begin()?;
    let path = world.data().join("catalogue.redb");
    let backup = world.data().join("catalogue.backup.json");
    eventually("a backup with the branch", BACKUP_MAX, || {
        let text = fs::read_to_string(&backup).unwrap_or_default();
        let is_whole = ["Ready", "Asleep"].iter().any(|state| text.contains(state));
        Ok(is_whole.then_some(()))
    })?;
    for (number, (name, damage)) in DAMAGES.iter().enumerate() {
        // The engine was killed, so that its servers run on and nothing was written in farewell.
        world.kill_engine()?;
        let whole = fs::read(&path)?;
        let damaged = damage(&whole);
        match &damaged {
            Some(bytes) => fs::write(&path, bytes)?,
            None => fs::remove_file(&path)?,
        }
        refuse(&world, name, damaged.as_deref())?;
        if number % 2 == 0 {
            // As whoever kept a copy of his own does it.
            fs::write(&path, &whole)?;
        } else {
            let told = world.bough(&["engine", "repair"])?;
            ensure!(told.status.success(), "{name}: {}", told.stderr);
            ensure!(told.stderr.contains("records"), "{name}: {}", told.stderr);
        }
        world.start_engine()?;
        check_whole(&world)?;
        let again = world.bough(&["engine", "repair"])?;
        ensure!(!again.status.success(), "an engine runs, and was repaired");
    }
    Ok(())
}

/// Starts an engine, which refuses to, says what to do, and leaves everything as it was.
fn refuse(world: &World, name: &str, damaged: Option<&[u8]>) -> Result<()> {
    let clones = world.data().join("volume/clones");
    let before = fs::read_dir(&clones)?.count();
    let said = world.start_engine_in_vain()?;
    for word in ["catalogue.redb", "bough engine repair"] {
        ensure!(said.contains(word), "{name}: no {word} in {said}");
    }
    ensure!(!said.contains("panicked"), "{name}: {said}");
    let after = fs::read(world.data().join("catalogue.redb")).ok();
    let is_kept = match (damaged, &after) {
        (Some(damaged), Some(after)) => after.len() >= damaged.len() || !after.is_empty(),
        (None, None) => true,
        (Some([]), None) | (None, Some(_)) | (Some(_), None) => false,
    };
    ensure!(is_kept, "{name}: the file was replaced");
    ensure!(
        before > 0 && fs::read_dir(&clones)?.count() == before,
        "{name}"
    );
    Ok(())
}

//! What somebody who means no good, or a machine that forgets, hands the engine: it is refused with what to do about it,
//! nothing is lost, and the engine goes on.

mod catalogue;
mod requests;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::actions::{Holding, SourceCount, Told, perform, read};
use crate::schedule::{Action, Age, Copy, LONG_TTL, Slot, Wish};
use crate::world::{Ground, World};

/// The branch that must live through it.
const SLOT: Slot = Slot(0);

/// Its rows.
const ROWS: u64 = 3;

/// A world with a branch in it that holds rows of its own.
fn begin() -> Result<World> {
    let world = World::begin(Ground::Directory)?;
    let count = SourceCount::default();
    let wish = Wish {
        copy: Copy::All,
        age: Age::Fresh,
        ttl: LONG_TTL,
    };
    let write = Action::Write {
        slot: SLOT,
        first: 0,
        rows: ROWS,
    };
    for action in [Action::Create { slot: SLOT, wish }, write] {
        let outcome = perform(&world, &count, &action);
        let is_done = match &outcome.told {
            Told::Ensured(_) => true,
            Told::Wrote { unsure, .. } => unsure.is_empty(),
            Told::Done
            | Told::Refused(_)
            | Told::Lost(_)
            | Told::Wrong(_)
            | Told::Failed(_)
            | Told::Held(_)
            | Told::Unreadable(_) => false,
        };
        ensure!(is_done, "{outcome:?}");
    }
    Ok(world)
}

/// That the branch is there with its rows.
fn check_whole(world: &World) -> Result<()> {
    let told = read(world, SLOT);
    let rows: BTreeSet<u64> = (0..ROWS).collect();
    let is_whole = matches!(&told, Told::Held(Holding { kept, .. }) if *kept == rows);
    ensure!(is_whole, "{told:?}");
    Ok(())
}

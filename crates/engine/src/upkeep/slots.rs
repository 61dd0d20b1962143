//! The replication slots that bases have, or had, on their sources: none outlives its base.
//!
//! ```text
//!   journaled ─▶ BEING MADE ─▶ a base's ─▶ NOBODY'S ─▶ dropped on the source, and from the journal
//!                     └── failed, or the engine died ──────▲   │ the source does not answer: told, and tried again
//!                                                          └───┘
//! ```
//!
//! Owns the journal of slots and who has which. A slot keeps WAL on the source, so its name is journaled before it is made,
//! and whatever is journaled and neither being made nor a journaled base's is dropped. Leaves making them to
//! `base::logical`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{PgUrl, Secret, chain};
use tokio::sync::Notify;

use super::removal::remove_lost;
use crate::app::Shared;
use crate::base::living::BaseRecord;
use crate::base::logical::slot::{SlotRecord, drop_slot, new_name};
use crate::base::physical::Upstream;
use crate::catalogue::CatalogueError;
use crate::postgres::connect::connect_url;

/// How often a source that did not answer is asked again to drop a slot.
const TRY_INTERVAL: Duration = Duration::from_secs(60);

/// The slots that no base has yet, or has any more.
#[derive(Debug, Default)]
pub struct Slots {
    being_made: Mutex<BTreeSet<String>>,
    left: Mutex<BTreeMap<String, String>>,
    look: Arc<Notify>,
}

/// A slot that is being made. Dropping it without a journaled base gives the slot up.
#[derive(Debug)]
pub struct BeingMade<'a> {
    slots: &'a Slots,
    /// Its name.
    pub name: String,
}

impl Drop for BeingMade<'_> {
    fn drop(&mut self) {
        self.slots.being_made().remove(&self.name);
        self.slots.look.notify_one();
    }
}

impl Slots {
    fn being_made(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.being_made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Journals a slot that is going to be made.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn announce<'a>(
        &'a self,
        shared: &Shared,
        upstream: &Upstream,
        database: &str,
    ) -> Result<BeingMade<'a>, CatalogueError> {
        let being_made = BeingMade {
            slots: self,
            name: new_name(),
        };
        self.being_made().insert(being_made.name.clone());
        let record = SlotRecord {
            name: being_made.name.clone(),
            url: Secret::new(upstream.replication_url().reveal()),
            database: database.to_owned(),
        };
        shared.machine.catalogue.put(&record).await?;
        Ok(being_made)
    }

    /// Journals how the source of a slot is reached by now: whoever drops it one day logs in so.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn renew(
        &self,
        shared: &Shared,
        upstream: &Upstream,
        name: &str,
    ) -> Result<(), CatalogueError> {
        let catalogue = &shared.machine.catalogue;
        let records = catalogue.all::<SlotRecord>()?;
        let url = upstream.replication_url();
        let is_outdated =
            |record: &SlotRecord| record.name == name && record.url.reveal() != url.reveal();
        for record in records.into_iter().filter(is_outdated) {
            let url = Secret::new(url.reveal());
            catalogue.put(&SlotRecord { url, ..record }).await?;
        }
        Ok(())
    }

    /// Slots that could not be dropped yet, a sentence each.
    pub fn told(&self) -> Vec<String> {
        self.left().values().cloned().collect()
    }
}

/// Begins to drop what nobody has. Ends with the engine.
pub fn start(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    let look = Arc::clone(&shared.upkeep.slots.look);
    tokio::spawn(async move {
        while let Some(shared) = weak.upgrade() {
            drop_unused(&shared).await;
            shared.bases.drop_over().await;
            drop(shared);
            // Either way it is time to look again.
            let _ = tokio::time::timeout(TRY_INTERVAL, look.notified()).await;
        }
    });
}

/// Drops every slot that nobody has, as far as the sources answer.
pub async fn drop_unused(shared: &Shared) {
    let slots = &shared.upkeep.slots;
    if let Err(error) = remove_lost(shared).await {
        tracing::error!(error = chain(&error), "cannot journal that a base is gone");
    }
    let unused = match unused(shared).await {
        Ok(unused) => unused,
        Err(error) => {
            tracing::error!(error = chain(&error), "cannot read which slots there are");
            return;
        }
    };
    slots
        .left()
        .retain(|name, _| unused.iter().any(|record| record.name == *name));
    for record in unused {
        match drop_one(&record).await {
            Ok(()) => {
                let removed = shared.machine.catalogue.remove::<SlotRecord>(&record.name);
                if let Err(error) = removed.await {
                    tracing::error!(
                        slot = record.name,
                        error = chain(&error),
                        "cannot journal that a slot is gone"
                    );
                }
                slots.left().remove(&record.name);
                tracing::info!(slot = record.name, "dropped a slot on a source");
            }
            Err(why) => {
                let told = format!(
                    "the replication slot {} is still on its source, which keeps WAL for it: {why}",
                    record.name
                );
                tracing::warn!("{told}");
                slots.left().insert(record.name, told);
            }
        }
    }
}

async fn unused(shared: &Shared) -> Result<Vec<SlotRecord>, CatalogueError> {
    let catalogue = &shared.machine.catalogue;
    // Before the bases are read: one that is made by then has its base.
    let being_made = shared.upkeep.slots.being_made().clone();
    // One whose making was ended may just be being journaled.
    catalogue.settle::<BaseRecord>().await;
    let records = catalogue.all::<SlotRecord>()?;
    let bases = catalogue.all::<BaseRecord>()?;
    let is_used = |record: &SlotRecord| {
        let has = |base: &BaseRecord| base.seeded.slot() == Some(record.name.as_str());
        being_made.contains(&record.name) || bases.iter().any(has)
    };
    let unused = records.into_iter().filter(|record| !is_used(record));
    Ok(unused.collect())
}

async fn drop_one(record: &SlotRecord) -> Result<(), String> {
    let url = PgUrl::parse(record.url.reveal()).map_err(|error| chain(&error))?;
    let session = connect_url(&url, Some(&record.database), []).await;
    let session = session.map_err(|error| chain(&error))?;
    let dropped = drop_slot(&session, &record.name).await;
    dropped.map_err(|error| chain(&error))
}

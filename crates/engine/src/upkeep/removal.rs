//! The end of bases: of one that is of no more use, of all that a source has, of those that nobody can want any more.
//!
//! Owns that a base which goes leaves nothing: no server, no clone that waits, no snapshot that no branch stands on, no
//! record, and no slot (`slots`). Each part may be done twice: what an engine's end cuts off is done again by the next.

use std::sync::Arc;

use model::chain;
use model::engine_api::{SourceCare, SourceName};

use super::{Wanted, end, slots};
use crate::app::Shared;
use crate::base::followed::FollowedBase;
use crate::base::living::{BaseName, BaseRecord, LivingBase, Phase};
use crate::base::store::{clear, key};
use crate::catalogue::CatalogueError;
use crate::named_sources::journaled_names;
use crate::postgres::server::StopMode;
use crate::refresh::plain_spec;
use crate::volume::remove_tree;

/// Looks after a source no more: its bases go, its branches stay.
///
/// # Errors
/// [`CatalogueError`] when it cannot be journaled that a base is gone: it may then be taken up again.
pub async fn forget(shared: &Arc<Shared>, wanted: &Wanted) -> Result<(), CatalogueError> {
    let (name, care) = (&wanted.name, &wanted.care);
    let task = shared.upkeep.tasks().remove(name);
    end(task).await;
    if let Some(entry) = shared.bases.living().get(name)
        && let Phase::Lives(living) = entry.phase()
    {
        retire(shared, &living, care).await;
    }
    shared.bases.living().forget(name);
    let spec = plain_spec(wanted.url.clone());
    shared.pool.forget(&key(&spec, care));
    for record in records_of(shared, name).await? {
        shared.pool.forget(&record.name.snapshot_key(care));
        shared.bases.drop_snapshots_of(&record.name, care).await;
        remove(shared, &record.name).await?;
    }
    slots::drop_unused(shared).await;
    Ok(())
}

/// Gives up what is kept of a source as it was wanted `before`, and is prepared otherwise or read by another URL from now on.
pub(super) async fn outdate(shared: &Arc<Shared>, before: &Wanted, now: &Wanted) {
    let spec_of = |wanted: &Wanted| plain_spec(wanted.url.clone());
    let dumps = key(&spec_of(before), &before.care);
    if dumps != key(&spec_of(now), &now.care) {
        shared.pool.forget(&dumps);
    }
    if before.care.prepare == now.care.prepare {
        return;
    }
    let records = records_of(shared, &before.name).await;
    for record in records.unwrap_or_else(told_as_none) {
        shared.pool.forget(&record.name.snapshot_key(&before.care));
        let dropped = shared.bases.drop_snapshots_of(&record.name, &before.care);
        dropped.await;
    }
}

/// Stops what is made of a base.
pub(super) async fn retire(shared: &Shared, living: &LivingBase, care: &SourceCare) {
    living.retire();
    shared.pool.followers().forget(&living.name);
    shared.pool.forget(&living.snapshot_key(care));
    if let Err(error) = living.base.stop(StopMode::Fast).await {
        tracing::error!(base = %living.name, error = chain(&error), "cannot stop a base's server");
    }
}

/// Removes a base's record and its files; the files are left to the next engine's start, which finds no record, where they
/// cannot be removed.
///
/// # Errors
/// [`CatalogueError`]; the base is then as it was.
pub(super) async fn remove(shared: &Shared, name: &BaseName) -> Result<(), CatalogueError> {
    let machine = &shared.machine;
    let place = name.place(&machine.layout);
    FollowedBase::let_go(shared.bases.host(), &place).await;
    machine
        .catalogue
        .remove::<BaseRecord>(name.as_str())
        .await?;
    if let Err(error) = clear(&place.directory).await {
        tracing::error!(base = %name, error = chain(&error), "cannot remove a base");
    }
    if let Err(error) = remove_tree(&place.socket_dir) {
        tracing::error!(base = %name, error = chain(&error), "cannot remove a base's socket");
    }
    Ok(())
}

/// The same where it is tried again in any case.
pub(super) async fn try_to_remove(shared: &Shared, name: &BaseName) {
    if let Err(error) = remove(shared, name).await {
        tracing::error!(base = %name, error = chain(&error), "cannot journal that a base is gone");
    }
}

/// Removes the bases whose sources have no names any more: without them, their slots are nobody's. Those whose files are not
/// there are left to the next engine's start, which looks first whether the volume is.
pub(super) async fn remove_lost(shared: &Shared) -> Result<(), CatalogueError> {
    let catalogue = &shared.machine.catalogue;
    catalogue.settle::<BaseRecord>().await;
    // The bases first: one of a source that is added by then has its source.
    let records = catalogue.all::<BaseRecord>()?;
    let sources = journaled_names(catalogue)?;
    for record in records {
        if !sources.contains(&record.source) {
            tracing::warn!(base = %record.name, "a base whose source has no name any more is removed");
            remove(shared, &record.name).await?;
        }
    }
    Ok(())
}

/// The bases of a source, those included that were just being journaled.
///
/// # Errors
/// [`CatalogueError`].
pub(super) async fn records_of(
    shared: &Shared,
    name: &SourceName,
) -> Result<Vec<BaseRecord>, CatalogueError> {
    let catalogue = &shared.machine.catalogue;
    catalogue.settle::<BaseRecord>().await;
    let mut own = catalogue.all::<BaseRecord>()?;
    own.retain(|record| record.source == *name);
    Ok(own)
}

/// Says that the bases could not be read.
pub(super) fn told_as_none(error: CatalogueError) -> Vec<BaseRecord> {
    tracing::error!(error = chain(&error), "cannot read which bases there are");
    Vec::new()
}

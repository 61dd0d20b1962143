//! What an earlier engine left half made: found and removed before any branch is brought back.
//!
//! Owns the rule that whatever no record names goes: clones and copies in the making, bases and snapshots that were never
//! journaled, bases whose source or whose files are gone, clones of no branch (the pool's among them), sockets of servers that are gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::engine_api::SourceName;

use crate::base::living::BaseRecord;
use crate::base::store::{BaseError, SnapshotRecord, clear};
use crate::branch::record::BranchRecord;
use crate::catalogue::{Catalogue, CatalogueError, Record};
use crate::layout::Layout;
use crate::named_sources::journaled_names;
use crate::volume::{VolumeError, remove_tree};

/// Why leftovers could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum LeftoversError {
    /// One directory.
    #[error("cannot clear {directory}")]
    Clear {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: Box<BaseError>,
    },
    /// The volume cannot be listed, or a directory cannot be removed.
    #[error("cannot remove leftovers")]
    Volume(#[from] VolumeError),
    /// The catalogue cannot be read.
    #[error("cannot tell what is left over")]
    Catalogue(#[from] CatalogueError),
}

/// Removes everything below the volume and the socket directory that `catalogue` does not name.
///
/// # Errors
/// [`LeftoversError`] names the directory.
pub async fn remove_leftovers(
    layout: &Layout,
    catalogue: &Arc<Catalogue>,
) -> Result<(), LeftoversError> {
    let clones: Vec<String> = catalogue
        .all::<BranchRecord>()?
        .into_iter()
        .filter_map(|record| record.clone)
        .map(|clone| clone.to_string())
        .collect();
    let mut snapshots: Vec<String> = catalogue
        .all::<SnapshotRecord>()?
        .iter()
        .map(Record::key)
        .collect();
    let sources = journaled_names(catalogue)?;
    let mut bases = Vec::new();
    for record in catalogue.all::<BaseRecord>()? {
        if is_lost(&record, &sources, layout) {
            tracing::warn!(base = %record.name, "its source or its files are gone: forgotten");
            catalogue.remove::<BaseRecord>(&record.key()).await?;
        } else {
            bases.push(record.key());
        }
    }
    let lost: Vec<String> = snapshots
        .extract_if(.., |name| !layout.snapshots().join(name).is_dir())
        .collect();
    for name in lost {
        tracing::warn!(snapshot = name, "its files are gone: forgotten");
        catalogue.remove::<SnapshotRecord>(&name).await?;
    }
    let unnamed = [
        strangers(&layout.making(), &[])?,
        strangers(&layout.bases(), &bases)?,
        strangers(&layout.snapshots(), &snapshots)?,
        strangers(&layout.clones(), &clones)?,
    ];
    for directory in unnamed.into_iter().flatten() {
        tracing::info!(directory = %directory.display(), "removing what no record names");
        let cleared = clear(&directory).await;
        cleared.map_err(|source| LeftoversError::Clear {
            directory,
            source: Box::new(source),
        })?;
    }
    let servers = [clones, bases].concat();
    for sockets in strangers(&layout.sockets(), &servers)? {
        remove_tree(&sockets)?;
    }
    Ok(())
}

/// Whether nobody can want a base any more: its source has no name by now, or its files are gone.
fn is_lost(record: &BaseRecord, sources: &BTreeSet<SourceName>, layout: &Layout) -> bool {
    !sources.contains(&record.source) || matches!(layout.base(&record.name).try_exists(), Ok(false))
}

/// The entries of `directory` that are not among `names`.
fn strangers(directory: &Path, names: &[String]) -> Result<Vec<PathBuf>, VolumeError> {
    let list = |source| VolumeError::File {
        what: "list",
        path: directory.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(list)? {
        let entry = entry.map_err(list)?;
        if !names.iter().any(|name| entry.file_name() == name.as_str()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

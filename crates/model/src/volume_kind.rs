//! How branches are made on a volume, as a word that engine, API and users share.
//!
//! What each kind does is the engine's (`crates/engine/src/volume.rs`).

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How branches are made, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum VolumeKind {
    /// An overlay over a snapshot, on a filesystem with reflinks.
    #[serde(rename = "overlay")]
    Overlay,
    /// A btrfs subvolume.
    #[serde(rename = "btrfs subvolume")]
    Subvolume,
    /// A ZFS dataset.
    #[serde(rename = "ZFS dataset")]
    Dataset,
    /// A reflink of every file.
    #[serde(rename = "reflink")]
    Reflink,
    /// An overlay over a snapshot, where a file is copied at its first write.
    #[serde(rename = "overlay with copies")]
    OverlayWithCopies,
    /// A copy of every byte.
    #[serde(rename = "plain copy")]
    PlainCopy,
}

impl VolumeKind {
    /// Every kind, best first.
    pub const ALL: [Self; 6] = [
        Self::Overlay,
        Self::Subvolume,
        Self::Dataset,
        Self::Reflink,
        Self::OverlayWithCopies,
        Self::PlainCopy,
    ];

    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Subvolume => "btrfs subvolume",
            Self::Dataset => "ZFS dataset",
            Self::Reflink => "reflink",
            Self::OverlayWithCopies => "overlay with copies",
            Self::PlainCopy => "plain copy",
        }
    }

    /// Whether a branch shares what it does not change from the start on, whatever it writes to.
    pub fn has_reflinks(self) -> bool {
        match self {
            Self::Overlay | Self::Subvolume | Self::Dataset | Self::Reflink => true,
            Self::OverlayWithCopies | Self::PlainCopy => false,
        }
    }

    /// What a branch of this kind costs, in a line.
    pub fn description(self) -> &'static str {
        match self {
            Self::Overlay => {
                "branches of any size at once; a file that is written shares its blocks with the snapshot"
            }
            Self::Subvolume => "branches of any size at once, by a snapshot of a subvolume",
            Self::Dataset => "branches of any size at once, by a clone of a dataset",
            Self::Reflink => "branches share their blocks; one takes as long as it has files",
            Self::OverlayWithCopies => {
                "branches of any size at once, but the first query on a table copies its file, up to 1 GB of it"
            }
            Self::PlainCopy => "a branch takes as much disk and time as its data",
        }
    }
}

impl fmt::Display for VolumeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

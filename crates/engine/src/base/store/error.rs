//! Why no fresh copy of a source could be had, and what to do about it.

use model::ByteSize;

use crate::base::SnapshotName;
use crate::base::copy::CopyError;
use crate::base::followed::SnapshotError;
use crate::base::logical::snapshot::SnapshotError as LogicalError;
use crate::base::lsn::Lsn;
use crate::base::physical::snapshot::SnapshotError as PhysicalError;
use crate::catalogue::CatalogueError;
use crate::postgres::server::ServerError;
use crate::source::SourceError;
use crate::volume::VolumeError;

/// What to do where a base that follows its source does not come as far as it should.
pub(crate) const BEHIND_HINT: &str =
    "`bough source ls` says how the base is; --max-age SECS takes a snapshot of that age";

/// What to do where a source that can be followed is not just now.
const COPIED_AGAIN_HINT: &str = "it is copied again by itself, and `bough source ls` says how that stands: ask again then; \
     `bough source refresh` tries at once, --mode auto dumps it until then";

/// Why no fresh base could be had.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The source could not be asked whether it has moved.
    #[error("cannot ask the source whether it has moved")]
    Ask(#[source] SourceError),
    /// The copy failed.
    #[error("cannot copy the source")]
    Copy(#[source] Box<CopyError>),
    /// Its owner wants it followed and not dumped, and it is not followed.
    #[error("the source is to be followed physically, and is not: {}", reasons.join("; "))]
    NotFollowed {
        /// Why, a sentence each.
        reasons: Vec<String>,
        /// Whether nothing is to be mended: its copy failed, or did not last, and is made again by itself.
        is_copied_again: bool,
    },
    /// It was added otherwise, or removed, while it was waited for.
    #[error("the source was added again or removed meanwhile")]
    Over,
    /// The source is behind what it once was.
    #[error("the source stands at {now}, and its base was sent everything up to {before}")]
    WentBack {
        /// Where it stands.
        now: Lsn,
        /// Where it stood.
        before: Lsn,
    },
    /// No snapshot of a base that follows.
    #[error("cannot take a snapshot of the base")]
    Snapshot(#[source] Box<SnapshotError>),
    /// There is less room than a snapshot takes and must stay.
    #[error(
        "no room for a snapshot: it takes {wanted}, {floor} stay free, and {volume} has {free} free"
    )]
    NoRoom {
        /// What a snapshot takes from the start.
        wanted: ByteSize,
        /// What stays free.
        floor: ByteSize,
        /// What is free.
        free: ByteSize,
        /// Where.
        volume: String,
    },
    /// Files could not be made, moved or removed.
    #[error("cannot keep the base {name}")]
    Keep {
        /// The base.
        name: SnapshotName,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The volume failed.
    #[error("cannot use the volume")]
    Volume(#[from] VolumeError),
    /// What a copy left running could not be ended.
    #[error("cannot end what a copy left running")]
    Sweep(#[from] ServerError),
    /// The catalogue failed.
    #[error("cannot journal the base")]
    Catalogue(#[from] CatalogueError),
}

impl BaseError {
    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ask(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::NotFollowed {
                is_copied_again: true,
                ..
            } => Some(COPIED_AGAIN_HINT.into()),
            Self::NotFollowed { .. } => Some(
                "fix that and add the source again, or add it with --mode auto, which dumps it until then".into(),
            ),
            Self::Over => Some("ask again".into()),
            Self::WentBack { .. } => {
                Some("it was restored, or fails over; its base is copied again: ask again".into())
            }
            Self::Snapshot(error) => snapshot_hint(error),
            Self::NoRoom { .. } => {
                Some("free space on the volume, or destroy branches that nobody needs".into())
            }
            Self::Keep { .. } | Self::Volume(_) | Self::Sweep(_) | Self::Catalogue(_) => None,
        }
    }

    /// What the source was asked in vain while it was copied.
    pub(super) fn of_source(&self) -> Option<&SourceError> {
        let Self::Copy(error) = self else {
            return None;
        };
        let CopyError::Source(error) = &**error else {
            return None;
        };
        Some(error)
    }

    /// Whether dropping other bases could help.
    pub(super) fn wants_room(&self) -> bool {
        match self {
            Self::Copy(error) => error.wants_room(),
            Self::Volume(error) => error.is_full(),
            Self::Snapshot(error) => error.is_full(),
            Self::NoRoom { .. } => true,
            Self::Ask(_)
            | Self::NotFollowed { .. }
            | Self::Over
            | Self::WentBack { .. }
            | Self::Keep { .. }
            | Self::Sweep(_)
            | Self::Catalogue(_) => false,
        }
    }
}

fn snapshot_hint(error: &SnapshotError) -> Option<String> {
    match error {
        SnapshotError::Physical(error) => match error {
            PhysicalError::Source(error) => error.hint(),
            PhysicalError::Behind(_) => Some(BEHIND_HINT.into()),
            PhysicalError::Prepare(error) => error.hint().map(Into::into),
            PhysicalError::Backup(_)
            | PhysicalError::Binaries(_)
            | PhysicalError::Start(_)
            | PhysicalError::Connect(_)
            | PhysicalError::Neutral(_)
            | PhysicalError::Collations(_)
            | PhysicalError::Stop(_)
            | PhysicalError::State(_)
            | PhysicalError::NotClean => None,
        },
        SnapshotError::Logical(error) => match error {
            LogicalError::Source(error) => error.hint(),
            LogicalError::Behind(_) => Some(BEHIND_HINT.into()),
            LogicalError::Prepare(error) => error.hint().map(Into::into),
            LogicalError::Changed | LogicalError::Over => {
                Some("ask again: the base is being copied from scratch".into())
            }
            LogicalError::Subscriber(_)
            | LogicalError::Clone(_)
            | LogicalError::Binaries(_)
            | LogicalError::Start(_)
            | LogicalError::Connect(_)
            | LogicalError::Detach { .. }
            | LogicalError::Stop(_)
            | LogicalError::State(_)
            | LogicalError::NotClean => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_to_be_mended_where_a_copy_is_made_again_by_itself() {
        let hint = |reason: &str, is_copied_again| {
            let reasons = vec![reason.to_owned()];
            let error = BaseError::NotFollowed {
                reasons,
                is_copied_again,
            };
            error.hint().expect("there is one")
        };
        let lost = "the copy failed: requested WAL segment 0000000100000000000000A1 has already been removed";
        assert!(hint(lost, true).starts_with("it is copied again by itself"));
        let unfit = "wal_level is minimal";
        assert!(hint(unfit, false).starts_with("fix that and add the source again"));
    }
}

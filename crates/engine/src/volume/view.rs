//! What is told of a volume: to `bough engine status` and `bough doctor`.

use std::path::Path;

use model::ByteSize;
use model::engine_api::{BackingView, PassedOverKind, VolumeView};

use super::{PassedOver, Volume, VolumeError, Way, filesystem_name, room};

/// The volume in `directory` as the API shows it.
///
/// # Errors
/// [`VolumeError::File`] when its free space cannot be asked.
pub fn view(
    volume: &dyn Volume,
    passed_over: &[PassedOver],
    directory: &Path,
    floor: ByteSize,
) -> Result<VolumeView, VolumeError> {
    let room = room(directory)?;
    let backing = room.places.get(1).map(|place| BackingView {
        path: place.path.display().to_string(),
        free_bytes: place.free,
    });
    let passed_over = passed_over.iter().map(|passed| PassedOverKind {
        kind: passed.kind.to_string(),
        reason: passed.reason.clone(),
    });
    let mounted_by = match volume.mounted_by() {
        None => "",
        Some(Way::Engine) => "; mounted by the engine",
        Some(Way::Server) => "; mounted by each server in a user namespace of its own",
    };
    Ok(VolumeView {
        kind: volume.kind().to_string(),
        description: format!("{}{mounted_by}", volume.kind().description()),
        passed_over: passed_over.collect(),
        backing,
        filesystem: filesystem_name(directory),
        free_bytes: room.places[0].free,
        floor_bytes: floor,
    })
}

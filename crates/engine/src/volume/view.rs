//! What is told of a volume: to `bough engine status` and `bough doctor`.

use std::path::Path;

use model::ByteSize;
use model::engine_api::{BackingView, PassedOverKind, VolumeView};

use super::{Volume, VolumeError, Way, filesystem_name, room};

/// The volume in `directory` as the API shows it.
///
/// # Errors
/// [`VolumeError::File`] when its free space cannot be asked.
pub fn view(
    volume: &dyn Volume,
    passed_over: &[PassedOverKind],
    directory: &Path,
    floor: ByteSize,
) -> Result<VolumeView, VolumeError> {
    let room = room(directory)?;
    let backing = room.places.get(1).map(|place| BackingView {
        path: place.path.display().to_string(),
        free_bytes: place.free,
    });
    let mounted_by = match volume.mounted_by() {
        None => "",
        Some(Way::Engine) => "; mounted by the engine",
        Some(Way::Server) => "; mounted by each server in a user namespace of its own",
    };
    Ok(VolumeView {
        kind: volume.kind(),
        description: format!("{}{mounted_by}", volume.kind().description()),
        passed_over: passed_over.to_vec(),
        backing,
        filesystem: filesystem_name(directory),
        free_bytes: room.places[0].free,
        floor_bytes: floor,
    })
}

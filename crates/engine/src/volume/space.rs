//! Free space: of a volume's filesystem, and of whatever holds the file that a volume is in.
//!
//! Owns the floor's arithmetic. Leaves what a tree takes to `usage`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use model::ByteSize;

use super::{VolumeError, cannot, mounts};

/// Loop files within loop files that are followed; more are somebody's joke.
const DEPTH_MAX: usize = 4;

/// The free space of one filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A directory or file on it.
    pub path: PathBuf,
    /// What an ordinary account may still write there.
    pub free: ByteSize,
}

/// Free space wherever a write to a volume may need some: on the volume, and below it where it is in a file, which is
/// sparse. When the lower filesystem is full, writes to the upper one fail and may shut it down with all that is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The volume first.
    pub places: Vec<Place>,
}

/// There is less room than is needed and must stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no room: {wanted} are needed, {floor} stay free, and {path} has {free} free")]
pub struct NoRoom {
    /// What is needed.
    pub wanted: ByteSize,
    /// What stays free.
    pub floor: ByteSize,
    /// What is free.
    pub free: ByteSize,
    /// Where: the volume, or the file that it is in.
    pub path: PathBuf,
}

impl Room {
    /// The place with the least room.
    pub fn tightest(&self) -> &Place {
        let least = self.places.iter().min_by_key(|place| place.free.0);
        least.expect("the volume itself is a place")
    }

    /// Whether `wanted` can be written and `floor` stays, everywhere.
    ///
    /// # Errors
    /// [`NoRoom`] with the numbers of the place that lacks it.
    pub fn check(&self, wanted: ByteSize, floor: ByteSize) -> Result<(), NoRoom> {
        let Place { path, free } = self.tightest();
        if free.0 >= wanted.0.saturating_add(floor.0) {
            return Ok(());
        }
        Err(NoRoom {
            wanted,
            floor,
            free: *free,
            path: path.clone(),
        })
    }
}

/// The room of the volume at `path`.
///
/// # Errors
/// [`VolumeError::File`] when the volume's own cannot be asked; a file below it whose place is not known to this account
/// does not count.
pub fn room(path: &Path) -> Result<Room, VolumeError> {
    let mut places = vec![Place {
        path: path.to_owned(),
        free: free_space(path)?,
    }];
    while let Some(file) = places.last().and_then(|place| backing_file(&place.path))
        && places.len() <= DEPTH_MAX
        && let Ok(free) = free_space(&file)
    {
        places.push(Place { path: file, free });
    }
    Ok(Room { places })
}

/// Free space without which no server is started again: a segment of WAL, and as much beside it.
const START_ROOM: ByteSize = ByteSize(32 << 20);

/// Whether a server that works at `path` has room to go on. Where nobody can tell, it has: what it lacks it says itself.
pub fn has_start_room(path: &Path) -> bool {
    writable_space(path).map_or(true, |free| free >= START_ROOM)
}

/// What may be written at `path` before that filesystem is full, or the one below it.
///
/// # Errors
/// [`VolumeError::File`].
pub fn writable_space(path: &Path) -> Result<ByteSize, VolumeError> {
    Ok(room(path)?.tightest().free)
}

/// Free space for an ordinary account on the filesystem of `path` itself.
///
/// # Errors
/// [`VolumeError::File`] from statvfs(3).
pub(super) fn free_space(path: &Path) -> Result<ByteSize, VolumeError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| cannot("ask for the free space of", path)(errno.into()))?;
    Ok(ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// The file that the filesystem of `path` is in, where it is a loop device's.
fn backing_file(path: &Path) -> Option<PathBuf> {
    let device = block_device(path).ok().flatten()?;
    // A partition's loop device is the directory above it.
    let file = ["loop/backing_file", "../loop/backing_file"]
        .into_iter()
        .find_map(|name| fs::read_to_string(device.join(name)).ok())?;
    Some(PathBuf::from(file.trim_end_matches('\n')))
}

/// The directory in `/sys` of the block device that `path` lies on.
fn block_device(path: &Path) -> io::Result<Option<PathBuf>> {
    let device = fs::metadata(path)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let by_number = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    if by_number.exists() {
        return fs::canonicalize(by_number).map(Some);
    }
    // btrfs gives every subvolume a number of no device: its mount names one.
    let Some(mount) = mounts::mount_of(&fs::canonicalize(path)?)? else {
        return Ok(None);
    };
    let Some(name) = mount
        .source
        .strip_prefix("/dev")
        .ok()
        .and_then(Path::file_name)
    else {
        return Ok(None);
    };
    let by_name = Path::new("/sys/class/block").join(name);
    Ok(fs::canonicalize(by_name).ok())
}

/// The name of the filesystem that `path` is on, from its magic number (statfs(2)).
pub fn filesystem_name(path: &Path) -> String {
    const NAMES: [(u64, &str); 9] = [
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0xef53, "ext4"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlayfs"),
        (0x2fc1_2fc1, "zfs"),
        (0xca45_1a4e, "bcachefs"),
        (0x6969, "nfs"),
        (0xf2f5_2010, "f2fs"),
    ];
    let Ok(stat) = rustix::fs::statfs(path) else {
        return "unknown".to_owned();
    };
    let magic = u64::try_from(stat.f_type).unwrap_or_default();
    let known = NAMES.iter().find(|(number, _)| *number == magic);
    known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room_of(free: [u64; 2]) -> Room {
        let place = |(name, free): (&str, u64)| Place {
            path: PathBuf::from(name),
            free: ByteSize(free),
        };
        let places = ["/volume", "/image"].into_iter().zip(free).map(place);
        Room {
            places: places.collect(),
        }
    }

    #[test]
    fn the_floor_holds_on_the_volume_and_below_it() {
        let (wanted, floor) = (ByteSize(100), ByteSize(50));
        assert_eq!(room_of([150, 1000]).check(wanted, floor), Ok(()));
        let refused = room_of([149, 1000]).check(wanted, floor).unwrap_err();
        assert_eq!(refused.path, Path::new("/volume"));
        let refused = room_of([1000, 149]).check(wanted, floor).unwrap_err();
        assert_eq!(
            (refused.path.as_path(), refused.free.0),
            (Path::new("/image"), 149)
        );
    }

    #[test]
    fn absurd_sizes_do_not_wrap_around() {
        let all = room_of([u64::MAX, u64::MAX]);
        assert_eq!(all.check(ByteSize(u64::MAX), ByteSize(u64::MAX)), Ok(()));
        assert!(
            room_of([5, 5])
                .check(ByteSize(u64::MAX), ByteSize(2))
                .is_err()
        );
    }
}

//! What is mounted where, as this process sees it: mount points, their filesystems, their devices.
//!
//! Owns reading `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and asking one directory whether it is a mount point.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

use super::{VolumeError, cannot};

/// statfs(2): `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where.
    pub(super) point: PathBuf,
    /// The filesystem's type.
    pub(super) filesystem: String,
    /// What is mounted: a device, a dataset, or a word.
    pub(super) source: PathBuf,
    /// The options of the mount and of the filesystem.
    pub(super) options: String,
}

/// Whether something is mounted right on `path`. What is not there is no mount point.
///
/// # Errors
/// From statx(2).
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(CWD, path, flags, StatxFlags::empty()) {
        Ok(found)
            if found
                .stx_attributes_mask
                .contains(StatxAttributes::MOUNT_ROOT) =>
        {
            Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        // Kernels before 5.8 do not say.
        Ok(_) => Ok(read()?.iter().any(|mount| mount.point == path)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// `STATX_MNT_ID_UNIQUE` (statx(2), since Linux 6.8), which rustix does not name.
const UNIQUE_MOUNT_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// A number that the mount on which `path` lies has, and no other until the machine starts anew; none where the kernel
/// gives none.
///
/// # Errors
/// [`VolumeError::File`] from statx(2).
pub fn mount_identity(path: &Path) -> Result<Option<u64>, VolumeError> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), UNIQUE_MOUNT_ID);
    let found = found.map_err(|errno| cannot("look at the mount of", path)(errno.into()))?;
    let is_told = found.stx_mask & UNIQUE_MOUNT_ID.bits() != 0;
    Ok(is_told.then_some(found.stx_mnt_id))
}

/// Whether an overlay is mounted right on `path`.
pub(super) fn is_overlay(path: &Path) -> io::Result<bool> {
    if !is_mount_point(path)? {
        return Ok(false);
    }
    let found = rustix::fs::statfs(path)?;
    Ok(u64::try_from(found.f_type).is_ok_and(|magic| magic == OVERLAY_MAGIC))
}

/// The mount that `path`, which is absolute and without links, lies on.
pub(super) fn mount_of(path: &Path) -> io::Result<Option<Mount>> {
    let above = read()?
        .into_iter()
        .filter(|mount| path.starts_with(&mount.point));
    // Of two on the same point the later one is on top.
    Ok(above.max_by_key(|mount| mount.point.components().count()))
}

fn read() -> io::Result<Vec<Mount>> {
    let text = fs::read("/proc/self/mountinfo")?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect())
}

/// A line: `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/root rw,errors=continue`.
fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    // The number of optional fields before the hyphen varies.
    let hyphen = fields.iter().position(|field| *field == b"-")?;
    let own = String::from_utf8_lossy(fields.get(5)?);
    let of_filesystem = String::from_utf8_lossy(fields.get(hyphen + 3)?);
    Some(Mount {
        point: unescape(fields.get(4)?),
        filesystem: String::from_utf8_lossy(fields.get(hyphen + 1)?).into_owned(),
        source: unescape(fields.get(hyphen + 2)?),
        options: format!("{own},{of_filesystem}"),
    })
}

/// Space, tab, line feed and backslash are written as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, behind @ ..] = rest {
        let octal = (*first == b'\\').then(|| behind.get(..3)).flatten();
        let value = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(value.unwrap_or(*first));
        rest = if value.is_some() {
            &behind[3..]
        } else {
            behind
        };
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_and_without_optional_fields() {
        let line = b"36 35 98:0 /mnt1 /mnt/with\\040space rw,noatime master:1 shared:2 - ext3 /dev/root rw,discard";
        let mount = parse(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt/with space"));
        assert_eq!(mount.filesystem, "ext3");
        assert_eq!(mount.source, Path::new("/dev/root"));
        assert_eq!(mount.options, "rw,noatime,rw,discard");
        assert!(parse(b"36 35 98:0 / / rw - tmpfs none rw").is_some());
    }

    #[test]
    fn a_cut_line_is_no_mount() {
        for line in [
            "",
            "36",
            "36 35 98:0 / /mnt rw",
            "36 35 98:0 / /mnt rw - ext4",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn escapes_of_any_kind_are_undone_and_others_stay() {
        assert_eq!(unescape(b"a\\134b\\011"), Path::new("a\\b\t"));
        assert_eq!(unescape(b"a\\13"), Path::new("a\\13"));
        assert_eq!(unescape(b"a\\999"), Path::new("a\\999"));
    }

    #[test]
    fn a_mount_keeps_its_identity() {
        let of = |path: &str| mount_identity(Path::new(path)).unwrap();
        assert_eq!(of("/proc"), of("/proc/self"));
        assert!(of("/proc").is_none() || of("/proc") != of("/dev"));
        assert!(mount_identity(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn mount_points_are_told_from_directories() {
        let root = tempfile::tempdir().unwrap();
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(root.path()).unwrap());
        assert!(!is_mount_point(&root.path().join("absent")).unwrap());
        assert!(!is_overlay(Path::new("/proc")).unwrap());
        let found = mount_of(Path::new("/proc/self")).unwrap().unwrap();
        assert_eq!(found.filesystem, "proc");
    }
}

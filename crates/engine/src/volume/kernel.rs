//! The system calls that Rust calls unsafe: what a child does between fork and exec to be inside a branch's namespace,
//! and the ioctls of btrfs and of extents.
//!
//! Owns every `unsafe` of volumes, each with why it is sound. Leaves to `namespace`, `subvolume` and `space` when
//! they are made and what their failures mean.

#![expect(
    unsafe_code,
    reason = "pre_exec and ioctls have no safe form; they are kept together here"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::ioctl::{Direction, Opcode, Setter, Updater, ioctl, opcode};
use rustix::mount::MountFlags;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

/// What a child has to do to see a branch's data directory.
#[derive(Debug)]
pub(super) enum Entrance {
    /// Makes a user and a mount namespace and mounts the overlay there.
    Make {
        /// The tree's directory, absolute.
        tree: CString,
        /// The mount point, relative to it.
        data: CString,
        /// The overlay's options, relative to it as well: no path needs quoting or can be too long.
        options: &'static CStr,
        /// The line of `/proc/self/uid_map`.
        uid_map: Vec<u8>,
        /// The line of `/proc/self/gid_map`.
        gid_map: Vec<u8>,
    },
    /// Joins the namespaces of a process that lives there.
    Join {
        /// That process.
        holder: OwnedFd,
        /// The data directory, absolute.
        data: CString,
    },
}

/// What is done inside, once the child's working directory is the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The program is executed.
    Execute,
    /// The named file gets this text, and the child ends: nothing is executed.
    Write(&'static CStr, &'static [u8]),
}

/// The steps of a child, in their order. Their numbers travel through a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    /// unshare(2).
    Unshare = 1,
    /// `/proc/self/setgroups`.
    DenyGroups,
    /// `/proc/self/uid_map`.
    MapUser,
    /// `/proc/self/gid_map`.
    MapGroup,
    /// mount(2).
    Mount,
    /// setns(2).
    Join,
    /// chdir(2).
    Enter,
    /// The lock's descriptor is made to outlive exec.
    KeepLock,
    /// The trial's file is written.
    Write,
    /// The trial has succeeded; its error is no error.
    Done,
}

impl Step {
    const ALL: [Self; 10] = [
        Self::Unshare,
        Self::DenyGroups,
        Self::MapUser,
        Self::MapGroup,
        Self::Mount,
        Self::Join,
        Self::Enter,
        Self::KeepLock,
        Self::Write,
        Self::Done,
    ];

    /// The step that a child reported.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u8 == byte)
    }
}

/// Makes the child of `command` enter, keep `lock` for as long as it or a descendant lives, and report the step at
/// which it failed through `report`.
pub(super) fn enter_before_exec(
    command: &mut Command,
    entrance: Entrance,
    lock: OwnedFd,
    report: OwnedFd,
    then: Then,
) {
    let inside = move || {
        let done = enter(&entrance, lock.as_fd()).and_then(|()| follow(then));
        done.map_err(|(step, errno)| {
            // Where nobody reads the step any more, the error number remains.
            let _ = rustix::io::write(&report, &[step as u8]);
            errno.into()
        })
    };
    // SAFETY: between fork and exec only what is async-signal-safe may be done. The closure makes system calls by
    // rustix on descriptors and C strings that were made before the fork, without allocating, locking or panicking:
    // `io::Error` from an error number allocates nothing, and an empty report is ignored.
    unsafe {
        command.pre_exec(inside);
    }
}

fn enter(entrance: &Entrance, lock: BorrowedFd<'_>) -> Result<(), (Step, Errno)> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    match entrance {
        Entrance::Make {
            tree,
            data,
            options,
            uid_map,
            gid_map,
        } => {
            rustix::process::chdir(tree.as_c_str()).map_err(at(Step::Enter))?;
            // SAFETY: the child of a fork has one thread, so that no other sees the new namespaces half made; its
            // table of descriptors is not unshared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }
                .map_err(at(Step::Unshare))?;
            // An account without privileges may map its group only once groups cannot be dropped (user_namespaces(7)).
            write(c"/proc/self/setgroups", b"deny").map_err(at(Step::DenyGroups))?;
            write(c"/proc/self/uid_map", uid_map).map_err(at(Step::MapUser))?;
            write(c"/proc/self/gid_map", gid_map).map_err(at(Step::MapGroup))?;
            let flags = MountFlags::NODEV | MountFlags::NOSUID;
            rustix::mount::mount(c"bough", data.as_c_str(), c"overlay", flags, Some(*options))
                .map_err(at(Step::Mount))?;
            rustix::process::chdir(data.as_c_str()).map_err(at(Step::Enter))?;
        }
        Entrance::Join { holder, data } => {
            let both = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT;
            rustix::thread::move_into_thread_name_spaces(holder.as_fd(), both)
                .map_err(at(Step::Join))?;
            rustix::process::chdir(data.as_c_str()).map_err(at(Step::Enter))?;
        }
    }
    rustix::io::fcntl_setfd(lock, FdFlags::empty()).map_err(at(Step::KeepLock))
}

fn follow(then: Then) -> Result<(), (Step, Errno)> {
    match then {
        Then::Execute => Ok(()),
        Then::Write(name, text) => {
            write(name, text).map_err(|errno| (Step::Write, errno))?;
            // An error is the one way not to execute.
            Err((Step::Done, Errno::CANCELED))
        }
    }
}

/// Writes a file that is there.
fn write(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    // For reading as well, as PostgreSQL opens its files.
    let flags = if path.to_bytes().starts_with(b"/proc") {
        OFlags::WRONLY
    } else {
        OFlags::RDWR
    };
    let file = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::io::write(&file, text)? {
        written if written == text.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// `struct btrfs_ioctl_vol_args` (linux/btrfs.h).
#[repr(C)]
struct VolumeName {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2` (linux/btrfs.h).
#[repr(C)]
struct SnapshotName {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

const BTRFS_GROUP: u8 = 0x94;
const SUBVOLUME_CREATE: Opcode = opcode::write::<VolumeName>(BTRFS_GROUP, 14);
const SUBVOLUME_DESTROY: Opcode = opcode::write::<VolumeName>(BTRFS_GROUP, 15);
const SNAPSHOT_CREATE: Opcode = opcode::write::<SnapshotName>(BTRFS_GROUP, 23);

/// `name` with at least one NUL behind it.
fn fixed<const N: usize>(name: &CStr) -> io::Result<[u8; N]> {
    let bytes = name.to_bytes();
    let mut fixed = [0; N];
    match fixed.get_mut(..bytes.len()) {
        Some(place) if bytes.len() < N => place.copy_from_slice(bytes),
        Some(_) | None => return Err(Errno::NAMETOOLONG.into()),
    }
    Ok(fixed)
}

/// Makes the btrfs subvolume `name` in `parent`.
pub(super) fn create_subvolume(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let argument = VolumeName {
        fd: 0,
        name: fixed(name)?,
    };
    // SAFETY: BTRFS_IOC_SUBVOL_CREATE reads one btrfs_ioctl_vol_args, which `VolumeName` is laid out as; other
    // filesystems refuse the number.
    Ok(unsafe { ioctl(parent, Setter::<SUBVOLUME_CREATE, _>::new(argument)) }?)
}

/// Makes the subvolume `name` in `parent`, a writable snapshot of the subvolume `of`.
pub(super) fn snapshot_subvolume(
    of: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &CStr,
) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let argument = SnapshotName {
        fd: i64::from(of.as_raw_fd()),
        transaction: 0,
        flags: 0,
        unused: [0; 4],
        name: fixed(name)?,
    };
    // SAFETY: BTRFS_IOC_SNAP_CREATE_V2 reads one btrfs_ioctl_vol_args_v2, which `SnapshotName` is laid out as, and
    // uses the descriptor in it, which `of` keeps open during the call.
    Ok(unsafe { ioctl(parent, Setter::<SNAPSHOT_CREATE, _>::new(argument)) }?)
}

/// Destroys the subvolume `name` in `parent` with all that is in it. Without privileges it takes the mount option
/// `user_subvol_rm_allowed`.
pub(super) fn destroy_subvolume(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let argument = VolumeName {
        fd: 0,
        name: fixed(name)?,
    };
    // SAFETY: BTRFS_IOC_SNAP_DESTROY reads one btrfs_ioctl_vol_args, which `VolumeName` is laid out as.
    Ok(unsafe { ioctl(parent, Setter::<SUBVOLUME_DESTROY, _>::new(argument)) }?)
}

/// Extents asked for in one call.
const EXTENTS: usize = 128;

/// `struct fiemap_extent` (linux/fiemap.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap` with its array (linux/fiemap.h).
#[repr(C)]
struct RawExtents {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    room: u32,
    reserved: u32,
    extents: [RawExtent; EXTENTS],
}

/// The number of FS_IOC_FIEMAP holds the size of the struct without its array.
const FIEMAP: Opcode = opcode::from_components(
    Direction::ReadWrite,
    b'f',
    11,
    offset_of!(RawExtents, extents),
);

/// FIEMAP_EXTENT_LAST.
const EXTENT_LAST: u32 = 0x1;
/// FIEMAP_EXTENT_SHARED.
const EXTENT_SHARED: u32 = 0x2000;

/// A run of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where it ends in the file.
    pub(super) end: u64,
    /// Its bytes.
    pub(super) length: u64,
    /// Whether other files have it as well.
    pub(super) is_shared: bool,
    /// Whether it is the file's last.
    pub(super) is_last: bool,
}

/// The file's first extents from byte `start` on; none behind the last.
pub(super) fn extents(file: BorrowedFd<'_>, start: u64) -> io::Result<Vec<Extent>> {
    let mut asked = RawExtents {
        start,
        length: u64::MAX - start,
        flags: 0,
        mapped: 0,
        room: u32::try_from(EXTENTS).expect("a small number"),
        reserved: 0,
        extents: [RawExtent::default(); EXTENTS],
    };
    // SAFETY: FS_IOC_FIEMAP reads and writes a fiemap, which `RawExtents` is laid out as, and at most `room` extents
    // behind it, for which the array has places.
    unsafe { ioctl(file, Updater::<FIEMAP, _>::new(&mut asked)) }?;
    let mapped = usize::try_from(asked.mapped).unwrap_or(EXTENTS);
    let found = asked.extents.iter().take(mapped).map(|raw| Extent {
        end: raw.logical.saturating_add(raw.length),
        length: raw.length,
        is_shared: raw.flags & EXTENT_SHARED != 0,
        is_last: raw.flags & EXTENT_LAST != 0,
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_the_kernels() {
        // linux/btrfs.h and linux/fs.h, as strace(1) prints them on x86-64 and aarch64.
        assert_eq!(SUBVOLUME_CREATE, 0x5000_940e);
        assert_eq!(SUBVOLUME_DESTROY, 0x5000_940f);
        assert_eq!(SNAPSHOT_CREATE, 0x5000_9417);
        assert_eq!(FIEMAP, 0xc020_660b);
        assert_eq!(size_of::<VolumeName>(), 4096);
        assert_eq!(size_of::<SnapshotName>(), 4096);
        assert_eq!(size_of::<RawExtent>(), 56);
    }

    #[test]
    fn every_step_survives_the_pipe_and_other_bytes_are_none() {
        for step in Step::ALL {
            assert_eq!(Step::from_byte(step as u8), Some(step));
        }
        assert_eq!(Step::from_byte(0), None);
        assert_eq!(Step::from_byte(200), None);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        assert_eq!(&fixed::<4>(c"abc").unwrap(), b"abc\0");
        assert!(fixed::<3>(c"abc").is_err());
        assert!(fixed::<2>(c"abc").is_err());
    }
}

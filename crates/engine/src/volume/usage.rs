//! What a data directory takes on the disk: bytes of its own, and bytes that it shares with others.
//!
//! Owns counting, with its limits and its memory. A plain file's bytes are its own; where files can share blocks, every
//! extent says whether it is shared (FIEMAP); below an overlay everything is shared, and nothing of it is looked at
//! twice.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use model::ByteSize;
use rustix::fs::OFlags;

use super::{DataDir, kernel};

/// Files that one count looks at: half a second's work where each has to be opened.
const FILES_MAX: usize = 20_000;

/// Calls for the extents of one file, each for some hundred of them: a file that is more fragmented counts as its own
/// from there on.
const EXTENT_CALLS_MAX: usize = 32;

/// How long a count is good enough to be told again.
const AGE_MAX: SignedDuration = SignedDuration::from_secs(2);

/// Directories that are remembered; more are counted anew each time.
const REMEMBERED_MAX: usize = 10_000;

/// What a data directory takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// What would be free again without it.
    pub own: ByteSize,
    /// What it has in common with others.
    pub shared: ByteSize,
    /// Whether it has more files than were looked at.
    pub is_partial: bool,
}

impl Usage {
    fn add(&mut self, other: Self) {
        self.own.0 += other.own.0;
        self.shared.0 += other.shared.0;
        self.is_partial |= other.is_partial;
    }
}

/// Counts that were made lately.
#[derive(Debug, Default)]
pub struct Usages(Mutex<HashMap<PathBuf, (Timestamp, Usage)>>);

impl Usages {
    /// What the data directory takes: as it was within the last two seconds before `now`. Blocks.
    pub fn of(&self, data: &Path, now: Timestamp) -> Usage {
        if let Some((at, usage)) = self.known().get(data)
            && now.duration_since(*at).abs() < AGE_MAX
        {
            return *usage;
        }
        let usage = self.count(data);
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.retain(|path, _| path.is_dir());
        }
        if known.len() < REMEMBERED_MAX {
            known.insert(data.to_owned(), (now, usage));
        }
        usage
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (Timestamp, Usage)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, data: &Path) -> Usage {
        let Some((upper, lower)) = DataDir::at(data).layers() else {
            return usage(data);
        };
        let mut total = usage(&upper);
        let below = self.of_snapshot(&lower);
        total.shared.0 += below.own.0 + below.shared.0;
        total.is_partial |= below.is_partial;
        total
    }

    /// A snapshot never changes: it is counted once.
    fn of_snapshot(&self, data: &Path) -> Usage {
        if let Some((_, usage)) = self.known().get(data) {
            return *usage;
        }
        let usage = Count::new(Extents::Ignored).tree(data);
        let mut known = self.known();
        if known.len() < REMEMBERED_MAX {
            known.insert(data.to_owned(), (Timestamp::MIN, usage));
        }
        usage
    }
}

/// What the files below `path` take on disk, shared blocks counted in full: the size of a copy, all of whose files are
/// counted, however many.
pub fn disk_usage(path: &Path) -> ByteSize {
    let mut all = Count {
        extents: Extents::Ignored,
        files_left: usize::MAX,
    };
    let counted = all.tree(path);
    ByteSize(counted.own.0 + counted.shared.0)
}

/// [`disk_usage`] on a thread that may block.
pub async fn measure(path: PathBuf) -> ByteSize {
    let measured = tokio::task::spawn_blocking(move || disk_usage(&path)).await;
    measured.expect("measuring does not panic")
}

/// What the files below `path` take. Files that vanish meanwhile, or cannot be read, count nothing or as their own.
pub fn usage(path: &Path) -> Usage {
    let extents = if can_share(path) {
        Extents::Asked
    } else {
        Extents::Ignored
    };
    Count::new(extents).tree(path)
}

/// Whether files on the filesystem of `path` can share blocks and say which.
fn can_share(path: &Path) -> bool {
    const WITH_REFLINKS: [&str; 3] = ["xfs", "btrfs", "bcachefs"];
    WITH_REFLINKS.contains(&super::filesystem_name(path).as_str())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extents {
    Asked,
    Ignored,
}

struct Count {
    extents: Extents,
    files_left: usize,
}

impl Count {
    fn new(extents: Extents) -> Self {
        Self {
            extents,
            files_left: FILES_MAX,
        }
    }

    fn tree(&mut self, path: &Path) -> Usage {
        let mut total = Usage::default();
        let Ok(entries) = fs::read_dir(path) else {
            return total;
        };
        total.own.0 += fs::symlink_metadata(path).map_or(0, |found| allocated(&found));
        for entry in entries.flatten() {
            if self.files_left == 0 {
                total.is_partial = true;
                break;
            }
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if found.is_dir() {
                total.add(self.tree(&entry.path()));
            } else {
                self.files_left -= 1;
                total.add(self.file(&entry.path(), &found));
            }
        }
        total
    }

    fn file(&self, path: &Path, found: &fs::Metadata) -> Usage {
        let all = allocated(found);
        let shared = if self.extents == Extents::Asked && found.is_file() && all > 0 {
            shared_bytes(path).unwrap_or(0).min(all)
        } else {
            0
        };
        Usage {
            own: ByteSize(all - shared),
            shared: ByteSize(shared),
            is_partial: false,
        }
    }
}

/// stat(2): `st_blocks` counts 512 bytes each.
fn allocated(found: &fs::Metadata) -> u64 {
    found.blocks() * 512
}

fn shared_bytes(path: &Path) -> std::io::Result<u64> {
    // What is no regular file any more must not block or be followed.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let (mut shared, mut start) = (0_u64, 0);
    for _ in 0..EXTENT_CALLS_MAX {
        let extents = kernel::extents(file.as_fd(), start)?;
        let common = extents.iter().filter(|extent| extent.is_shared);
        shared += common.map(|extent| extent.length).sum::<u64>();
        match extents.last() {
            Some(last) if !last.is_last && last.end > start => start = last.end,
            Some(_) | None => break,
        }
    }
    Ok(shared)
}

//! Whether this machine can afford one more warm clone: the first thing to be given up when memory or disk is short.
//!
//! Owns the reading of free memory and the comparison, which is pure. Leaves free space to `volume`.

use model::ByteSize;

use crate::machine::Machine;
use crate::volume::writable_space;

/// Memory that a warm clone takes: 4.4 MB proportional, about 10 MB of what is available, both measured.
const CLONE_MEMORY: ByteSize = ByteSize(16 << 20);

/// Memory that a follower takes: it has as many places for connections as its source.
const FOLLOWER_MEMORY: ByteSize = ByteSize(48 << 20);

/// On a volume whose clones take room from the start, no larger one is made before somebody asks for it.
const CLONE_ROOM_MAX: ByteSize = ByteSize(1 << 30);

/// The memory that new programs can have without swapping (`MemAvailable`, proc_meminfo(5)); none where the kernel does
/// not say.
fn available_memory(meminfo: &str) -> Option<ByteSize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteSize(kibibytes.saturating_mul(1024)))
}

/// Whether somebody may have what was kept warm: a branch writes, which below the floor is refused with the numbers.
pub(super) fn may_hand_out(machine: &Machine) -> bool {
    let floor = machine.limits.free_floor_bytes;
    writable_space(&machine.layout.volume()).is_ok_and(|free| free >= floor)
}

/// What this machine has for what nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spare {
    /// Free memory; none where the kernel does not say.
    memory: Option<ByteSize>,
    memory_floor: ByteSize,
    /// Free space on the volume; none where it cannot be asked.
    space: Option<ByteSize>,
    /// Twice the floor, so that a request never finds the last room taken by what nobody asked for.
    space_floor: ByteSize,
    /// Whether clones of snapshots take room from the start.
    clone_takes_room: bool,
    /// Whether copies of bases do.
    copy_takes_room: bool,
}

impl Spare {
    /// As it is just now. May wait for the volume.
    pub(super) fn read(machine: &Machine) -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let floor = machine.limits.free_floor_bytes.0.saturating_mul(2);
        Self {
            memory: available_memory(&meminfo),
            memory_floor: machine.limits.memory_floor_bytes,
            space: writable_space(&machine.layout.volume()).ok(),
            space_floor: ByteSize(floor),
            clone_takes_room: machine.volume.clone_takes_room(),
            copy_takes_room: machine.volume.copy_takes_room(),
        }
    }

    /// Whether what is kept warm may stay.
    pub(super) fn may_keep(&self) -> bool {
        self.has(ByteSize(0), ByteSize(0))
    }

    /// Whether a clone of a snapshot of `size` may be made before anybody asks for it.
    pub(super) fn may_add(&self, size: ByteSize) -> bool {
        self.may_make(CLONE_MEMORY, size, self.clone_takes_room)
    }

    /// Whether a follower of a base of `size` may be made before anybody asks for it.
    pub(super) fn may_add_follower(&self, size: ByteSize) -> bool {
        self.may_make(FOLLOWER_MEMORY, size, self.copy_takes_room)
    }

    fn may_make(&self, memory: ByteSize, size: ByteSize, takes_room: bool) -> bool {
        let room = if takes_room { size } else { ByteSize(0) };
        room <= CLONE_ROOM_MAX && self.has(memory, room)
    }

    fn has(&self, memory: ByteSize, space: ByteSize) -> bool {
        let is_above = |free: ByteSize, floor: ByteSize, wanted: ByteSize| {
            free.0 >= floor.0.saturating_add(wanted.0)
        };
        let has_memory = |free| is_above(free, self.memory_floor, memory);
        let has_space = |free| is_above(free, self.space_floor, space);
        self.memory.is_none_or(has_memory) && self.space.is_some_and(has_space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Spare {
        /// A machine that has enough of everything.
        pub(in crate::pool) fn plenty() -> Self {
            Self {
                memory: Some(ByteSize(1 << 40)),
                space: Some(ByteSize(1 << 40)),
                ..Self::nothing()
            }
        }

        /// A machine that has less than must stay free.
        pub(in crate::pool) fn nothing() -> Self {
            Self {
                memory: Some(ByteSize(0)),
                memory_floor: ByteSize(1),
                space: Some(ByteSize(0)),
                space_floor: ByteSize(1),
                clone_takes_room: true,
                copy_takes_room: true,
            }
        }
    }

    #[test]
    fn what_nobody_asked_for_is_made_where_memory_and_space_are_left_over() {
        let (room, plenty) = (ByteSize(1 << 20), Spare::plenty());
        assert!(plenty.may_keep() && plenty.may_add(room) && plenty.may_add_follower(room));
        let large = ByteSize(CLONE_ROOM_MAX.0 + 1);
        assert!(!plenty.may_add(large) && !plenty.may_add_follower(large));
        let shares = Spare {
            clone_takes_room: false,
            ..plenty
        };
        assert!(shares.may_add(large) && !shares.may_add_follower(large));
        let memory = Some(ByteSize(CLONE_MEMORY.0 + 1));
        let little_memory = Spare { memory, ..plenty };
        assert!(little_memory.may_add(room) && !little_memory.may_add_follower(room));
        let untold = Spare {
            memory: None,
            ..plenty
        };
        assert!(untold.may_add(room), "the kernel may not say");
        let space = Some(room);
        let little_space = Spare { space, ..plenty };
        assert!(little_space.may_keep() && !little_space.may_add(room));
        let unasked = Spare {
            space: None,
            ..plenty
        };
        assert!(!unasked.may_keep(), "a volume that does not answer");
    }

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:       24626176 kB\nMemFree:  1 kB\nMemAvailable:   22020096 kB\nBuffers: 0 kB\n";
        assert_eq!(available_memory(meminfo), Some(ByteSize(22_020_096 << 10)));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
        assert_eq!(available_memory("MemAvailable: many\n"), None);
    }
}

//! Whether this machine can afford one more warm clone: the first thing to be given up when memory or disk is short.
//!
//! Owns the reading of free memory and the comparison. Leaves free space to `volume`.

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

/// Whether what is kept warm may stay.
pub(super) fn may_keep(machine: &Machine) -> bool {
    has_memory(machine, ByteSize(0)) && has_space(machine, ByteSize(0))
}

/// Whether somebody may have what was kept warm: a branch writes, which below the floor is refused with the numbers.
pub(super) fn may_hand_out(machine: &Machine) -> bool {
    let floor = machine.limits.free_floor_bytes;
    writable_space(&machine.layout.volume()).is_ok_and(|free| free >= floor)
}

/// Whether a clone of a snapshot of `size` may be made before anybody asks for it.
pub(super) fn may_add(machine: &Machine, size: ByteSize) -> bool {
    let room = if machine.volume.clone_takes_room() {
        size
    } else {
        ByteSize(0)
    };
    room <= CLONE_ROOM_MAX && has_memory(machine, CLONE_MEMORY) && has_space(machine, room)
}

/// Whether a follower of a base of `size` may be made before anybody asks for it.
pub(super) fn may_add_follower(machine: &Machine, size: ByteSize) -> bool {
    let room = if machine.volume.copy_takes_room() {
        size
    } else {
        ByteSize(0)
    };
    room <= CLONE_ROOM_MAX && has_memory(machine, FOLLOWER_MEMORY) && has_space(machine, room)
}

fn has_memory(machine: &Machine, wanted: ByteSize) -> bool {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let floor = machine.limits.memory_floor_bytes.0;
    available_memory(&meminfo).is_none_or(|free| free.0 >= floor.saturating_add(wanted.0))
}

/// Twice the floor, so that a request never finds the last room taken by what nobody asked for.
fn has_space(machine: &Machine, wanted: ByteSize) -> bool {
    let floor = machine.limits.free_floor_bytes.0.saturating_mul(2);
    writable_space(&machine.layout.volume())
        .is_ok_and(|free| free.0 >= floor.saturating_add(wanted.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:       24626176 kB\nMemFree:  1 kB\nMemAvailable:   22020096 kB\nBuffers: 0 kB\n";
        assert_eq!(available_memory(meminfo), Some(ByteSize(22_020_096 << 10)));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
        assert_eq!(available_memory("MemAvailable: many\n"), None);
    }
}

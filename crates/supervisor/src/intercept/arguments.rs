//! The arguments of a call, from registers or, for i386's socketcall(2), from memory.

use std::io;

use super::Answer;
use crate::asker::Asker;
use crate::seccomp::Call;

/// The arguments of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments([u64; 6]);

impl Arguments {
    pub(super) fn new(args: [u64; 6]) -> Self {
        Self(args)
    }

    /// Argument `number` as a descriptor or another `int`: its low half.
    pub(super) fn int(&self, number: usize) -> i32 {
        (self.0[number] & u64::from(u32::MAX)) as u32 as i32
    }

    /// Argument `number` as a pointer.
    pub(super) fn pointer(&self, number: usize) -> u64 {
        self.0[number]
    }
}

/// Bytes of an argument of socketcall's.
const WORD: usize = 4;

/// What `socketcall(number, pointer)` asks for (linux/net.h); none for what goes on.
///
/// # Errors
/// When its arguments cannot be read.
pub(super) fn of_socketcall(
    asker: Asker,
    args: &[u64; 6],
) -> io::Result<Option<(Call, Arguments)>> {
    let (call, count) = match args[0] {
        2 => (Call::Bind, 3),
        3 => (Call::Connect, 3),
        6 => (Call::LocalName, 3),
        7 => (Call::PeerName, 3),
        // sendto, sendmsg, sendmmsg.
        11 => (Call::Multiplexed, 4),
        16 => (Call::Multiplexed, 3),
        20 => (Call::Multiplexed, 4),
        _ => return Ok(None),
    };
    let mut bytes = [0; 4 * WORD];
    asker.read(args[1], &mut bytes[..count * WORD])?;
    let mut found = [0; 6];
    for (argument, word) in found
        .iter_mut()
        .zip(bytes[..count * WORD].chunks_exact(WORD))
    {
        *argument = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]).into();
    }
    if call == Call::Multiplexed {
        // The flags are the last of them.
        found[0] = found[count - 1];
    }
    Ok(Some((call, Arguments::new(found))))
}

/// A send that would connect is refused, as the filter does where it can see the flags.
pub(super) fn judge_send(arguments: &Arguments) -> Answer {
    if arguments.int(0) & libc::MSG_FASTOPEN == 0 {
        Answer::GoOn
    } else {
        Answer::Fail(libc::EOPNOTSUPP)
    }
}

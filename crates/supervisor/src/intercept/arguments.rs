//! The arguments of a call, from registers or, for i386's socketcall(2), from memory.

use std::io;

use crate::asker::Asker;
use crate::seccomp::{Call, is_32_bit};

/// The arguments of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments {
    values: [u64; 6],
    /// Bytes of the asker's pointers.
    word: usize,
}

impl Arguments {
    pub(super) fn new(values: [u64; 6], arch: u32) -> Self {
        let word = if is_32_bit(arch) { 4 } else { 8 };
        Self { values, word }
    }

    /// Argument `number` as a descriptor or another `int`: its low half.
    pub(super) fn int(&self, number: usize) -> i32 {
        (self.values[number] & u64::from(u32::MAX)) as u32 as i32
    }

    /// Argument `number` as a pointer.
    pub(super) fn pointer(&self, number: usize) -> u64 {
        self.values[number]
    }

    /// Argument `number` as a length.
    pub(super) fn length(&self, number: usize) -> usize {
        usize::try_from(self.values[number]).unwrap_or(usize::MAX)
    }

    /// Bytes of a pointer in the asker's memory.
    pub(super) fn word(&self) -> usize {
        self.word
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
    arch: u32,
) -> io::Result<Option<(Call, Arguments)>> {
    let (call, count) = match args[0] {
        1 => (Call::Socket, 3),
        2 => (Call::Bind, 3),
        3 => (Call::Connect, 3),
        4 => (Call::Listen, 2),
        6 => (Call::LocalName, 3),
        7 => (Call::PeerName, 3),
        11 => (Call::SendTo, 6),
        12 => (Call::ReceiveFrom, 6),
        15 => (Call::Option, 5),
        16 => (Call::SendMessage, 3),
        17 => (Call::ReceiveMessage, 3),
        19 => (Call::ReceiveMessages, 5),
        20 => (Call::SendMessages, 4),
        _ => return Ok(None),
    };
    let mut bytes = [0; 6 * WORD];
    asker.read(args[1], &mut bytes[..count * WORD])?;
    let mut found = [0; 6];
    for (argument, word) in found
        .iter_mut()
        .zip(bytes[..count * WORD].chunks_exact(WORD))
    {
        *argument = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]).into();
    }
    Ok(Some((call, Arguments::new(found, arch))))
}

/// Whether a send would connect: refused, as the filter does where it can see the flags.
pub(super) fn is_connecting_send(call: Call, arguments: &Arguments) -> bool {
    let flags = match call {
        Call::SendTo | Call::SendMessages => arguments.int(3),
        Call::SendMessage => arguments.int(2),
        Call::Connect
        | Call::Bind
        | Call::Option
        | Call::Listen
        | Call::Socket
        | Call::LocalName
        | Call::PeerName
        | Call::ReceiveFrom
        | Call::ReceiveMessage
        | Call::ReceiveMessages
        | Call::Multiplexed => 0,
    };
    flags & libc::MSG_FASTOPEN != 0
}

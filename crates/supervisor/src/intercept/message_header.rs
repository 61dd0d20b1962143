//! Messages of sendmsg(2) and recvmsg(2) in the asker's memory: where their bytes and their address are.
//!
//! Owns `struct msghdr`, `struct mmsghdr` and `struct iovec` of programs of 64 and of 32 bits.

use std::io;

use crate::asker::Asker;

/// Pieces of one message (`UIO_MAXIOV`).
const PIECES_MAX: usize = 1024;

/// Bytes of one datagram and a little more, so that one that is too long stays too long.
const BYTES_MAX: usize = 66_000;

/// Bytes of ancillary data that are passed on.
const CONTROL_BYTES_MAX: usize = 4096;

/// A piece of the asker's memory.
#[derive(Debug, Clone, Copy)]
struct Piece {
    at: u64,
    length: usize,
}

/// One message.
#[derive(Debug)]
pub(super) struct MessageHeader {
    at: u64,
    word: usize,
    /// Where the address is, or is to be; none: nowhere.
    pub(super) name: Option<(u64, usize)>,
    pieces: Vec<Piece>,
    control: Piece,
}

/// What is told of a message that was received.
pub(super) struct Received<'a> {
    pub(super) bytes: &'a [u8],
    /// Who sent it, as the kernel writes it.
    pub(super) name: &'a [u8],
    pub(super) control: &'a [u8],
    pub(super) flags: i32,
}

impl MessageHeader {
    /// Bytes from one message of sendmmsg(2) to the next.
    pub(super) fn stride(word: usize) -> u64 {
        // The header, the length, and what aligns the next.
        if word == 8 { 64 } else { 32 }
    }

    /// Reads the message at `at` of an asker whose pointers have `word` bytes.
    ///
    /// # Errors
    /// When it cannot be read, or has too many pieces.
    pub(super) fn read(asker: Asker, at: u64, word: usize) -> io::Result<Self> {
        let mut header = [0; 56];
        let header = &mut header[..7 * word];
        asker.read(at, header)?;
        let field = |number: usize| take(&header[number * word..], word);
        let length = |number: usize| usize::try_from(field(number)).unwrap_or(usize::MAX);
        // The length of the name has 32 bits everywhere.
        let name_length = take(&header[word..], 4);
        let name = (field(0) != 0).then(|| {
            let length = usize::try_from(name_length).unwrap_or_default();
            (field(0), length)
        });
        let count = length(3);
        if count > PIECES_MAX {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let mut table = vec![0; count * 2 * word];
        asker.read(field(2), &mut table)?;
        let pieces = table.chunks_exact(2 * word).map(|piece| Piece {
            at: take(piece, word),
            length: usize::try_from(take(&piece[word..], word)).unwrap_or(usize::MAX),
        });
        Ok(Self {
            at,
            word,
            name,
            pieces: pieces.collect(),
            control: Piece {
                at: field(4),
                length: if field(4) == 0 { 0 } else { length(5) },
            },
        })
    }

    /// The message of sendto(2) and recvfrom(2): one piece.
    pub(super) fn of_one(at: u64, length: usize) -> Self {
        Self {
            at: 0,
            word: 0,
            name: None,
            pieces: vec![Piece { at, length }],
            control: Piece { at: 0, length: 0 },
        }
    }

    /// Bytes that it has, or has room for.
    pub(super) fn length(&self) -> usize {
        let lengths = self.pieces.iter().map(|piece| piece.length);
        let whole = lengths.fold(0, usize::saturating_add);
        whole.min(BYTES_MAX)
    }

    /// Bytes of ancillary data that there is room for; those of another layout stay out.
    pub(super) fn control_length(&self) -> usize {
        if self.word == size_of::<usize>() {
            self.control.length.min(CONTROL_BYTES_MAX)
        } else {
            0
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn gather(&self, asker: Asker) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length()];
        let mut at = 0;
        for piece in &self.pieces {
            let length = piece.length.min(bytes.len() - at);
            asker.read(piece.at, &mut bytes[at..at + length])?;
            at += length;
        }
        Ok(bytes)
    }

    /// The size that the message is to be cut into (udp(7), UDP_SEGMENT), if it says one.
    ///
    /// # Errors
    /// When its ancillary data cannot be read.
    pub(super) fn segment(&self, asker: Asker) -> io::Result<Option<usize>> {
        let mut control = vec![0; self.control_length()];
        asker.read(self.control.at, &mut control)?;
        Ok(segment_of(&control))
    }

    /// Puts received bytes where they belong.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn scatter(&self, asker: Asker, mut bytes: &[u8]) -> io::Result<()> {
        for piece in &self.pieces {
            let (now, later) = bytes.split_at(piece.length.min(bytes.len()));
            asker.write(piece.at, now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Tells all of a message that was received by recvmsg(2).
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn tell(&self, asker: Asker, received: &Received<'_>) -> io::Result<()> {
        self.scatter(asker, received.bytes)?;
        let word = u64::try_from(self.word).expect("a word is small");
        if let Some((name, room)) = self.name {
            let cut = received.name.len().min(room);
            asker.write(name, &received.name[..cut])?;
            let length = u32::try_from(received.name.len()).expect("addresses are short");
            asker.write(self.at + word, &length.to_ne_bytes())?;
        }
        if self.control_length() > 0 {
            asker.write(self.control.at, received.control)?;
        }
        let control = u64::try_from(received.control.len()).expect("it is bounded");
        asker.write(self.at + 5 * word, &control.to_ne_bytes()[..self.word])?;
        asker.write(self.at + 6 * word, &received.flags.to_ne_bytes())
    }

    /// Tells the length of a message of sendmmsg(2) or recvmmsg(2), which stands behind it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn tell_length(&self, asker: Asker, length: usize) -> io::Result<()> {
        let after = u64::try_from(7 * self.word).expect("a header is small");
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        asker.write(self.at + after, &length.to_ne_bytes())
    }
}

/// A number of `length` bytes, as this machine writes them: little-endian on both architectures.
fn take(bytes: &[u8], length: usize) -> u64 {
    let mut number = [0; 8];
    number[..length].copy_from_slice(&bytes[..length]);
    u64::from_le_bytes(number)
}

/// `UDP_SEGMENT` of the level `SOL_UDP` among control messages of 64 bits (cmsg(3)).
fn segment_of(mut control: &[u8]) -> Option<usize> {
    while control.len() >= 16 {
        let length = usize::try_from(take(control, 8)).ok()?;
        let (level, kind) = (take(&control[8..], 4), take(&control[12..], 4));
        let is_it = level == u64::from(libc::SOL_UDP.cast_unsigned())
            && kind == u64::from(libc::UDP_SEGMENT.cast_unsigned());
        if is_it && length >= 18 && control.len() >= 18 {
            return usize::try_from(take(&control[16..], 2)).ok();
        }
        if length < 16 {
            return None;
        }
        control = control.get(length.checked_next_multiple_of(8)?..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segments_size_is_found_among_other_things() {
        let message = |level: i32, kind: i32, data: &[u8]| {
            let mut bytes = (16 + data.len() as u64).to_le_bytes().to_vec();
            bytes.extend(level.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        };
        let other = message(libc::IPPROTO_IP, libc::IP_TOS, &[0; 4]);
        let segment = message(libc::SOL_UDP, libc::UDP_SEGMENT, &1200_u16.to_le_bytes());
        assert_eq!(segment_of(&segment), Some(1200));
        assert_eq!(segment_of(&[&other[..], &segment].concat()), Some(1200));
        assert_eq!(segment_of(&other), None);
        for torn in [&segment[..15], &[0; 32], &[0xff; 64]] {
            assert_eq!(segment_of(torn), None);
        }
    }

    #[test]
    fn messages_of_this_process_are_read_and_told() {
        let own = Asker::new(rustix::thread::gettid().as_raw_nonzero().get());
        let (first, second) = (*b"abc", *b"defg");
        let table = [
            first.as_ptr().addr() as u64,
            3,
            second.as_ptr().addr() as u64,
            4,
        ];
        let header = [0_u64, 0, table.as_ptr().addr() as u64, 2, 0, 0, 0];
        let read = MessageHeader::read(own, header.as_ptr().addr() as u64, 8).unwrap();
        assert_eq!(read.length(), 7);
        assert_eq!(read.gather(own).unwrap(), b"abcdefg");
        assert!(read.name.is_none());
    }
}

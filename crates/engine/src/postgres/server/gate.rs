//! What answers a server that is sealed later: its connects go on until the gate is closed, and fail from then on.
//!
//! A follower has to reach its base's Unix socket as long as it follows, and nothing once it is a branch; a filter cannot
//! be tightened from outside. So the kernel asks about each of its connects (seccomp_unotify(2)), and the engine says yes
//! without a look: nobody but the engine gets into a follower, so that what it connects to is its own configuration's.
//! Closed, at the latest by the engine's own end, there is nobody to ask, and the kernel refuses with ENOSYS.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::watched;

/// The group of seccomp's ioctls (linux/seccomp.h).
const GROUP: u8 = b'!';
const RECEIVE: Opcode = opcode::read_write::<libc::seccomp_notif>(GROUP, 0);
const ANSWER: Opcode = opcode::read_write::<libc::seccomp_notif_resp>(GROUP, 1);

/// A look that waits for nothing.
const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// An open gate. Dropping it closes it soon; [`Gate::close`] says when.
#[derive(Debug)]
pub(super) struct Gate {
    answering: JoinHandle<()>,
}

impl Gate {
    /// Answers whoever asks `listener`.
    pub(super) fn open(listener: OwnedFd) -> io::Result<Self> {
        let listener = watched(listener)?;
        let answering = tokio::spawn(async move {
            if let Err(error) = answer(&listener).await {
                tracing::warn!(%error, "a follower is cut off from its base");
            }
        });
        Ok(Self { answering })
    }

    /// Closes it; ends when nothing gets through any more.
    pub(super) async fn close(mut self) {
        self.answering.abort();
        // Cancelled is what it is to be: the task, and the listener in it, are gone.
        let _ = (&mut self.answering).await;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

/// Lets every call go on, until none of the server's processes is left.
async fn answer(listener: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut guard = listener.readable().await?;
        // Readable or closed; before 6.11 a kernel asked for a question once nobody is left to put one never returns.
        if !has_question(listener.get_ref())? {
            if guard.ready().is_read_closed() {
                return Ok(());
            }
            guard.clear_ready();
            continue;
        }
        match receive_question(listener.get_ref()) {
            Ok(id) => let_go_on(listener.get_ref(), id)?,
            Err(Errno::NOENT | Errno::INTR) if guard.ready().is_read_closed() => return Ok(()),
            // Its process was interrupted or killed meanwhile.
            Err(Errno::NOENT | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        guard.clear_ready();
    }
}

/// Whether a question waits (`seccomp_unotify(2)`: POLLIN, and POLLHUP alone once no process has the filter).
fn has_question(listener: &OwnedFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut polled, Some(&NOW))?;
    Ok(polled[0].revents().contains(PollFlags::IN))
}

#[expect(unsafe_code, reason = "seccomp's ioctls are in no crate")]
fn receive_question(listener: &OwnedFd) -> Result<u64, Errno> {
    // SAFETY: the struct is made of integers, of which all zeroes are a value, and the one that the call demands.
    let mut question: libc::seccomp_notif = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: SECCOMP_IOCTL_NOTIF_RECV writes a seccomp_notif.
    unsafe { ioctl(listener, Updater::<RECEIVE, _>::new(&mut question)) }?;
    Ok(question.id)
}

#[expect(unsafe_code, reason = "seccomp's ioctls are in no crate")]
fn let_go_on(listener: &OwnedFd, id: u64) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: 0,
        flags: u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).expect("a small number"),
    };
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads a seccomp_notif_resp.
    match unsafe { ioctl(listener, Updater::<ANSWER, _>::new(&mut answer)) } {
        // Nobody waits for this answer any more.
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The listener that a server handed over before its program ran.
pub(super) fn receive(taken: &OwnedFd) -> io::Result<OwnedFd> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    recvmsg(taken, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptors.next()
        } else {
            None
        }
    });
    descriptor.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        // linux/seccomp.h, as strace(1) prints them.
        assert_eq!(RECEIVE, 0xc050_2100);
        assert_eq!(ANSWER, 0xc018_2101);
    }
}

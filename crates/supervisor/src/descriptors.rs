//! Descriptors that this process itself inherited.
//!
//! Owns keeping them from processes that are to outlive the caller. Rust opens all of its own with close-on-exec.

use std::io;

/// The first descriptor after standard input, output and error.
const FIRST: libc::c_uint = 3;

/// Marks every descriptor from 3 on as close-on-exec: no program started after this inherits one.
///
/// Before a daemon is started: a pipe that it held open would keep its reader waiting for as long as it lives.
///
/// # Errors
/// When the kernel cannot (before 5.11).
pub fn keep_from_children() -> io::Result<()> {
    let last = libc::c_uint::MAX;
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    #[expect(unsafe_code, reason = "close_range is not in rustix")]
    // SAFETY: with this flag the call closes nothing, it marks only; no descriptor changes its owner.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST, last, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

//! seccomp's user notification: a filter that asks this process about chosen system calls of the session.
//!
//! Owns the kernel's interface (seccomp(2), seccomp_unotify(2)): which calls are trapped
//! (`filter`), the listener, one question at a time and its answer, and where questions' ids are (`asked`). Leaves to `intercept` what is answered.
//!
//! The oldest kernel is 5.19, which brought `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: without it a timer's signal makes
//! an interrupted connect start again for ever.

mod asked;
mod filter;
mod listener;
mod program;

pub(crate) use asked::{ASKED, Asked, UNTOLD_MAX};
pub(crate) use filter::{Call, MARKED, Scope, build, call_of, is_32_bit};
pub use listener::InstallError;
pub(crate) use listener::{Listener, Question, Received, install};

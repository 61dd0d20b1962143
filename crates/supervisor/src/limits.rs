//! Limits of this process that its child must not see.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the number of descriptors that this process may have to what its account may; gives what it was.
///
/// Each connection through the proxy takes two, and the usual limit is 1024.
pub(crate) fn raise_descriptors() -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    // It stays what it was, where a security module forbids it.
    let _as_before = setrlimit(Resource::Nofile, raised);
    before
}

/// Gives a forked child back what its program would have had. Calls nothing but setrlimit(2), which signal-safety(7)
/// allows between fork and exec.
pub(crate) fn restore_descriptors_in_child(limit: Rlimit) {
    let _as_raised = setrlimit(Resource::Nofile, limit);
}

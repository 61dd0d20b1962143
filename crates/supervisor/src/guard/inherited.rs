//! Connections that this process has from its own parent, and its program would have from it: nobody asks about them, so
//! they are looked at before the start.
//!
//! Sockets without a name at the other end are pairs, as programs have for standard input and output; they are let be.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::{SocketAddrUnix, SocketType, getpeername, sockopt};

use crate::fence::{Fence, InheritedSocket, Route};
use crate::remote::Destination;
use crate::socket::canonical;
use crate::unix_sockets::leads_nowhere;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inherited {
    /// Its number.
    descriptor: RawFd,
    /// Where it leads.
    to: Destination,
}

impl Inherited {
    /// For the report.
    pub(super) fn told(&self) -> InheritedSocket {
        InheritedSocket {
            descriptor: self.descriptor,
            address: self.to.to_string(),
        }
    }

    /// Whether `fence` would have led it elsewhere, had it been there.
    pub(super) fn is_fenced(&self, fence: &Fence) -> bool {
        let route = match &self.to {
            Destination::Tcp(address) => fence.route(canonical(*address)),
            Destination::Unix(path) => {
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                fence.route_socket(path, real).0
            }
        };
        match route {
            Route::Source | Route::Watched => true,
            Route::Elsewhere
            | Route::Doubtful
            | Route::Door(_)
            | Route::TlsDoor
            | Route::Allowed => false,
        }
    }
}

/// The connections of this process that its children have as well.
///
/// # Errors
/// When the descriptors cannot be listed.
pub(super) fn connections() -> io::Result<Vec<Inherited>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        if let Some(descriptor) = number
            && let Some(to) = peer(descriptor)
        {
            found.push(Inherited { descriptor, to });
        }
    }
    Ok(found)
}

/// Where the descriptor leads, where it is a connection that is inherited.
fn peer(descriptor: RawFd) -> Option<Destination> {
    #[expect(unsafe_code, reason = "a descriptor that nobody here owns is a number")]
    // SAFETY: it is asked about only, by calls that say EBADF where it has been closed meanwhile.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let flags = fcntl_getfd(socket).ok()?;
    if flags.contains(FdFlags::CLOEXEC) || sockopt::socket_type(socket).ok()? == SocketType::DGRAM {
        return None;
    }
    let peer = getpeername(socket).ok()??;
    if let Ok(address) = SocketAddr::try_from(peer.clone()) {
        return Some(Destination::Tcp(address));
    }
    let peer = SocketAddrUnix::try_from(peer).ok()?;
    // rustix shows a socket without a name as one with an empty name.
    let path = peer.path_bytes().filter(|path| !path.is_empty());
    let name = peer.abstract_name().filter(|name| !name.is_empty());
    let shown = match (path, name) {
        (None, None) => return None,
        // What services of systemd have for standard output, as a rule.
        (Some(path), _) if leads_nowhere(Path::new(OsStr::from_bytes(path))) => return None,
        (Some(path), _) => path.to_owned(),
        (None, Some(name)) => [b"@", name].concat(),
    };
    Some(Destination::Unix(OsString::from_vec(shown).into()))
}

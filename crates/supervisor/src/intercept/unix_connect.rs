//! connect(2) to a Unix socket: a PostgreSQL server's, one of the target's, or one of a service that would answer names.
//!
//! The proxy tells such connections apart by the name of the program's own socket, which has none by itself: the kernel
//! gives it an abstract one first (unix(7), "Autobind feature"), that nobody but the proxy sees.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::net::{SocketAddrUnix, bind, connect, getsockname};

use super::arguments::Arguments;
use super::connect::errno;
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::fence::{Arrival, Peer, Route, socket_port};
use crate::network::Side;
use crate::remote::{Destination, Dialled, TargetNetwork};
use crate::seccomp::Question;
use crate::socket::Socket;

/// Services of this machine that answer names before a name server is asked: nscd (glibc, `_PATH_NSCDSOCKET`), systemd's
/// resolver by varlink (nss-resolve), and avahi (nss-mdns).
const RESOLVERS: [&str; 6] = [
    "/var/run/nscd/socket",
    "/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/var/run/systemd/resolve/io.systemd.Resolve",
    "/run/avahi-daemon/socket",
    "/var/run/avahi-daemon/socket",
];

impl Interceptor {
    pub(super) fn connect_unix(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
        path: &[u8],
    ) -> Looked<Answer> {
        let path = Path::new(OsStr::from_bytes(path));
        if let Some(network) = &self.session.network {
            if network.plan().answers_names() && RESOLVERS.iter().any(|own| path == Path::new(own))
            {
                return Ok(Answer::Fail(libc::ENOENT));
            }
            let whole = whole_path(asker, path).map_err(|_| Answer::GoOn)?;
            if network.plan().outgoing.unix_streams.side(&whole) == Side::Target {
                let network = Arc::clone(network);
                return self.connect_unix_remotely(question, asker, arguments, network, whole);
            }
        }
        let Some(port) = socket_port(path) else {
            return Ok(Answer::GoOn);
        };
        // What is not there the kernel says best.
        let path = real_path(asker, path).map_err(|_| Answer::GoOn)?;
        match self.session.fence.route_path(&path, port) {
            Route::Source | Route::Watched => {}
            Route::Allowed => {
                self.session.ledger.count_allowed();
                return Ok(Answer::GoOn);
            }
            Route::Elsewhere | Route::Door(_) | Route::TlsDoor => return Ok(Answer::GoOn),
        }
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        if !socket.is_stream().map_err(|_| Answer::GoOn)? {
            return Ok(Answer::GoOn);
        }
        match self.join_unix(socket, path, None) {
            Ok(()) => Ok(Answer::Succeed),
            Err(error) => Ok(Answer::Fail(errno(&error))),
        }
    }

    /// Connects to a socket of the target's; the runtime answers.
    fn connect_unix_remotely(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        arguments: &Arguments,
        network: Arc<TargetNetwork>,
        path: PathBuf,
    ) -> Looked<Answer> {
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        if !Socket(descriptor.as_fd())
            .is_stream()
            .map_err(|_| Answer::GoOn)?
        {
            return Ok(Answer::GoOn);
        }
        let (interceptor, question) = (Arc::clone(self), *question);
        self.runtime.spawn(async move {
            let to = Destination::Unix(path.clone());
            let joined = match network.dial_there(&to).await {
                Ok(upstream) => {
                    let socket = Socket(descriptor.as_fd());
                    interceptor.join_unix(socket, path, Some(upstream))
                }
                Err(error) => Err(error),
            };
            let answer = match joined {
                Ok(()) => Answer::Succeed,
                Err(error) => Answer::Fail(errno(&error)),
            };
            interceptor.send(&question, answer);
        });
        Ok(Answer::Later)
    }

    fn join_unix(
        &self,
        socket: Socket<'_>,
        path: PathBuf,
        upstream: Option<Dialled>,
    ) -> io::Result<()> {
        let own = own_name(socket)?;
        let cookie = socket.cookie()?;
        let proxy = SocketAddrUnix::new_abstract_name(&self.proxy.unix)?;
        connect(socket.0, &proxy)?;
        let arrival = Arrival {
            destination: Destination::Unix(path),
            cookie,
            upstream,
        };
        self.session.arrivals.expect(Peer::Unix(own), arrival);
        Ok(())
    }
}

/// The abstract name of a socket, given to it where it has none.
fn own_name(socket: Socket<'_>) -> io::Result<Vec<u8>> {
    let name = |socket: Socket<'_>| -> io::Result<Option<Vec<u8>>> {
        let address = SocketAddrUnix::try_from(getsockname(socket.0)?)?;
        // rustix shows a socket without a name as one with an empty name.
        let name = address.abstract_name().filter(|name| !name.is_empty());
        Ok(name.map(<[u8]>::to_vec))
    };
    if let Some(name) = name(socket)? {
        return Ok(name);
    }
    // A socket that has a path for a name says EINVAL, and is refused by that.
    bind(socket.0, &SocketAddrUnix::new_unnamed())?;
    name(socket)?.ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))
}

/// `path` as its program means it, without links in it.
fn real_path(asker: Asker, path: &Path) -> io::Result<PathBuf> {
    whole_path(asker, path)?.canonicalize()
}

/// `path` from the root on, as its program means it.
fn whole_path(asker: Asker, path: &Path) -> io::Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let directory = std::fs::read_link(format!("/proc/{}/cwd", asker.thread()))?;
    Ok(directory.join(path))
}

//! connect(2) to a Unix socket: a source's, one of the target's, one of a service that would answer names, or any other,
//! which is counted, and under assertion looked into.
//!
//! The proxy tells such connections apart by the name of the program's own socket, which has none by itself: the kernel
//! gives it an abstract one first (unix(7), "Autobind feature"), that nobody but the proxy sees.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, open, openat2, statat,
};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, bind, connect, getsockname};

use super::arguments::Arguments;
use super::connect::errno;
use super::remote_connect::{Patience, Waited};
use super::{Answer, Interceptor, Looked};
use crate::asker::Asker;
use crate::fence::{Arrival, Look, Peer, Route, socket_port};
use crate::network::Side;
use crate::remote::{Destination, Dialled, Pending, Remote, TargetNetwork, ThisMachine};
use crate::seccomp::Question;
use crate::socket::Socket;
use crate::unix_sockets;

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
        let whole = whole_path(asker, path);
        if let Some(network) = &self.session.network {
            if network.plan().answers_names() && RESOLVERS.iter().any(|own| path == Path::new(own))
            {
                return Ok(Answer::Fail(libc::ENOENT));
            }
            if network.plan().outgoing.unix_streams.side(&whole) == Side::Target {
                let network = Arc::clone(network);
                let descriptor = self.take_descriptor(question, asker, arguments)?;
                return self.connect_unix_watched(
                    question,
                    asker,
                    descriptor,
                    Some(network),
                    whole,
                );
            }
        }
        // What is not there the kernel says best.
        let real = real_path(asker, path).ok_or(Answer::GoOn)?;
        let (route, place) = self.session.fence.route_socket(&whole, real);
        if route == Route::Allowed {
            self.session.ledger.count_allowed();
            return Ok(Answer::GoOn);
        }
        let descriptor = self.take_descriptor(question, asker, arguments)?;
        let socket = Socket(descriptor.as_fd());
        let judge = |error: io::Error| self.judge_socket(asker, &error);
        if !socket.is_stream().map_err(judge)? {
            return Ok(Answer::GoOn);
        }
        match route {
            Route::Source => match self.join_unix(socket, place, None) {
                Ok(()) => Ok(Answer::Succeed),
                Err(error) => Ok(Answer::Fail(errno(&error))),
            },
            // Between programs of the session nothing gets out, and descriptors may be passed.
            _ if self.is_listened_by_session(&place) => Ok(Answer::GoOn),
            Route::Watched => self.connect_unix_watched(question, asker, descriptor, None, place),
            Route::Elsewhere
            | Route::Doubtful
            | Route::Allowed
            | Route::Door(_)
            | Route::TlsDoor => {
                if !unix_sockets::leads_nowhere(&place) {
                    self.count_unseen_socket(&place);
                }
                Ok(Answer::GoOn)
            }
        }
    }

    fn is_listened_by_session(&self, name: &Path) -> bool {
        let tree = self.tree.get();
        tree.is_some_and(|tree| unix_sockets::is_listened_by(tree, name))
    }

    fn count_unseen_socket(&self, name: &Path) {
        let ledger = &self.session.ledger;
        ledger.count_socket(&Destination::Unix(name.to_owned()), Side::Here, Look::Never);
    }

    /// A PostgreSQL server may listen on an abstract name as well (`unix_socket_directories` with `@`): where that may be a
    /// source's, nobody gets there, for no branch is led to by it.
    pub(super) fn connect_abstract(&self, asker: Asker, name: &[u8]) -> Answer {
        let end = name.iter().rposition(|byte| *byte != 0);
        let path = Path::new(OsStr::from_bytes(&name[..end.map_or(0, |end| end + 1)]));
        let route = match socket_port(path) {
            Some(_) => self.session.fence.route_path(path),
            None => Route::Elsewhere,
        };
        match route {
            Route::Source | Route::Watched => {
                return self.judge(asker, &io::Error::from_raw_os_error(libc::EACCES));
            }
            Route::Allowed => self.session.ledger.count_allowed(),
            Route::Elsewhere | Route::Doubtful | Route::Door(_) | Route::TlsDoor => {
                let shown = [b"@", path.as_os_str().as_bytes()].concat();
                let shown = Path::new(OsStr::from_bytes(&shown));
                if !self.is_listened_by_session(shown) {
                    self.count_unseen_socket(shown);
                }
            }
        }
        Answer::GoOn
    }

    /// Connects to a socket of `network`, or of this machine where there is none, to be looked into; the runtime answers.
    fn connect_unix_watched(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        descriptor: OwnedFd,
        network: Option<Arc<TargetNetwork>>,
        path: PathBuf,
    ) -> Looked<Answer> {
        let judge = |error: io::Error| self.judge_socket(asker, &error);
        let socket = Socket(descriptor.as_fd());
        if !socket.is_stream().map_err(judge)? {
            return Ok(Answer::GoOn);
        }
        let patience = if socket.is_nonblocking().map_err(judge)? {
            None
        } else {
            let time = socket.send_timeout().map_err(judge)?;
            Some(Patience::of(asker, time))
        };
        let (interceptor, question) = (Arc::clone(self), *question);
        self.runtime.spawn(async move {
            let to = Destination::Unix(path.clone());
            let mut dialling: Pending<'_, Dialled> = match &network {
                Some(network) => Box::pin(network.dial_there(&to)),
                None => ThisMachine.dial(&to),
            };
            let waited = match patience {
                Some(patience) => {
                    interceptor
                        .wait_for(&question, &patience, &mut dialling)
                        .await
                }
                None => Waited::Ended(dialling.await),
            };
            let joined = match waited {
                Waited::Ended(Ok(upstream)) => {
                    let socket = Socket(descriptor.as_fd());
                    interceptor.join_unix(socket, path, Some(upstream))
                }
                Waited::Ended(Err(error)) => Err(error),
                Waited::Interrupted(errno) => Err(io::Error::from_raw_os_error(errno)),
                // unix(7), with a queue that stays full.
                Waited::TimedOut => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
                Waited::Gone => return,
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

/// Where the socket at `path` is; none where it is not there for its program. One that this process does not see where
/// its program does (a root or mounts of its own) keeps the program's way of writing, of which the port is known.
fn real_path(asker: Asker, path: &Path) -> Option<PathBuf> {
    let whole = whole_path(asker, path);
    if let Ok(real) = whole.canonicalize() {
        return Some(real);
    }
    if is_absent(asker, &whole) {
        return None;
    }
    let below = whole.strip_prefix("/").unwrap_or(&whole);
    let theirs = of_process(asker, "root").join(below);
    Some(if theirs.exists() { theirs } else { whole })
}

/// `path` from the root on, as its program means it; as it is, where that cannot be seen.
fn whole_path(asker: Asker, path: &Path) -> PathBuf {
    for own in ["/proc/self", "/proc/thread-self"] {
        // They are this process's to whoever looks here.
        if let Ok(below) = path.strip_prefix(own) {
            return of_process(asker, "").join(below);
        }
    }
    match std::fs::read_link(of_process(asker, "cwd")) {
        Ok(directory) if path.is_relative() => directory.join(path),
        Ok(_) | Err(_) => path.to_owned(),
    }
}

/// What `/proc` has of the asker.
fn of_process(asker: Asker, entry: &str) -> PathBuf {
    Path::new("/proc")
        .join(asker.thread().to_string())
        .join(entry)
}

/// Whether `whole` certainly names nothing for its program: what cannot be looked at may be there.
fn is_absent(asker: Asker, whole: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(root) = open(of_process(asker, "root"), flags, Mode::empty()) else {
        return false;
    };
    let mut missing: Option<&OsStr> = None;
    for there in whole.ancestors() {
        let found = openat2(&root, there, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        match (found, missing) {
            (Ok(directory), Some(name)) => {
                // A link may lead on, and what `/proc` has depends on who looks.
                let is_link = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
                let of_processes =
                    fstatfs(&directory).map_or(true, |fs| fs.f_type == PROC_SUPER_MAGIC);
                return !is_link && !of_processes;
            }
            (Err(Errno::NOENT | Errno::NOTDIR), _) => missing = there.file_name(),
            (Ok(_), None) | (Err(_), _) => return false,
        }
    }
    false
}

//! Network and mount namespaces for a target: new ones, or those that it is in.
//!
//! With CAP_SYS_ADMIN and CAP_NET_ADMIN they are made directly. Otherwise, as for root in many containers, within a user namespace that
//! holds the caller's own account alone, so that files and processes keep their owner. All of it happens while this
//! process has one thread, which the kernel demands (unshare(2), setns(2)); only the network is entered later, by one
//! thread, so that another one can stay outside.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{Pid, PidfdFlags, getegid, geteuid, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};

/// The table of hosts that programs look into before they ask anybody.
const HOSTS: &str = "/etc/hosts";

/// Whose namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// New ones.
    New,
    /// Those of this process.
    Of(i32),
}

/// Why a process is not in the namespaces that it should be in.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// No user namespace is to be had.
    #[error("cannot make a user namespace")]
    User(#[source] io::Error),
    /// The account does not get its rights there.
    #[error("cannot map the account into the user namespace by {file}")]
    Map {
        /// The file that says it.
        file: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No network or mount namespace is to be had.
    #[error("cannot make a {kind} namespace")]
    Make {
        /// Which of them.
        kind: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The namespaces of a process cannot be joined.
    #[error("cannot join the namespaces of process {process}")]
    Join {
        /// The process.
        process: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The table of hosts cannot be put in its place.
    #[error("cannot put {path:?} over {HOSTS}")]
    Hosts {
        /// The target's table.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A process that is in all namespaces but the network's.
#[derive(Debug)]
pub(super) struct Entered {
    joined: Option<(i32, OwnedFd)>,
}

/// Enters user and mount namespaces.
///
/// # Errors
/// [`EnterError`].
pub(super) fn enter(ground: &Ground) -> Result<Entered, EnterError> {
    match *ground {
        Ground::New => {
            if !has_rights() {
                make_user_namespace()?;
            }
            unshare(CloneFlags::CLONE_NEWNS).map_err(make("mount"))?;
            // Mounts of the machine's still come in; none of ours gets out.
            let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
            mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(make("mount"))?;
            Ok(Entered { joined: None })
        }
        Ground::Of(process) => {
            let handle = open(process)?;
            let error = |source| EnterError::Join { process, source };
            let kinds = CloneFlags::CLONE_NEWNS | user_kind(process).map_err(error)?;
            setns(&handle, kinds).map_err(|errno| error(errno.into()))?;
            Ok(Entered {
                joined: Some((process, handle)),
            })
        }
    }
}

impl Entered {
    /// Enters the network namespace, with the calling thread and those that it will start.
    ///
    /// # Errors
    /// [`EnterError`].
    pub(super) fn enter_network(self) -> Result<(), EnterError> {
        match self.joined {
            None => unshare(CloneFlags::CLONE_NEWNET).map_err(make("network")),
            Some((process, handle)) => {
                setns(&handle, CloneFlags::CLONE_NEWNET).map_err(|errno| EnterError::Join {
                    process,
                    source: errno.into(),
                })
            }
        }
    }
}

/// Takes this process, which must have one thread, into all namespaces of a target's `process`.
///
/// # Errors
/// [`EnterError::Join`].
pub fn join(process: i32) -> Result<(), EnterError> {
    enter(&Ground::Of(process))?.enter_network()
}

/// Shows `hosts` in the place of the machine's table, for this mount namespace. A machine without such a table has no
/// place to show it in, and its names are then looked up elsewhere.
///
/// # Errors
/// [`EnterError::Hosts`].
pub(super) fn mount_hosts(hosts: &Path) -> Result<(), EnterError> {
    if !Path::new(HOSTS).exists() || !hosts.exists() {
        return Ok(());
    }
    let flags = MsFlags::MS_BIND;
    mount(Some(hosts), HOSTS, None::<&str>, flags, None::<&str>).map_err(|errno| {
        EnterError::Hosts {
            path: hosts.to_owned(),
            source: errno.into(),
        }
    })
}

/// Whether namespaces can be made and set up without a user namespace: root in a container often cannot.
fn has_rights() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

fn make(kind: &'static str) -> impl FnOnce(nix::Error) -> EnterError {
    move |errno| EnterError::Make {
        kind,
        source: errno.into(),
    }
}

fn make_user_namespace() -> Result<(), EnterError> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| EnterError::User(errno.into()))?;
    let maps = [
        // Without this an ordinary account may map no group (user_namespaces(7)).
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{user} {user} 1")),
        ("/proc/self/gid_map", format!("{group} {group} 1")),
    ];
    for (file, text) in maps {
        fs::write(file, text).map_err(|source| EnterError::Map { file, source })?;
    }
    Ok(())
}

fn open(process: i32) -> Result<OwnedFd, EnterError> {
    let error = |source| EnterError::Join { process, source };
    let missing = || error(io::Error::from_raw_os_error(nix::libc::ESRCH));
    let pid = Pid::from_raw(process).ok_or_else(missing)?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| error(errno.into()))
}

/// The user namespace among what is joined, unless it is this process's own, which cannot be joined again.
fn user_kind(process: i32) -> io::Result<CloneFlags> {
    let own = fs::read_link("/proc/self/ns/user")?;
    let theirs = fs::read_link(format!("/proc/{process}/ns/user"))?;
    Ok(if own == theirs {
        CloneFlags::empty()
    } else {
        CloneFlags::CLONE_NEWUSER
    })
}

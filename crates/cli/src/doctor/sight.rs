//! Whether this program may look into the programs that it starts, tried on one that waits.

use std::fs;
use std::io::{self, IoSliceMut};
use std::process::{Child, Command, Stdio};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::Check;

const NAME: &str = "look into programs";

const ADVICE: &str = "branches work; a session's fence, outgoing connections, names and ports do not. A container \
                      needs CAP_SYS_PTRACE for it (`--cap-add SYS_PTRACE`), and /proc/sys/kernel/yama/ptrace_scope \
                      must be 0 or 1";

/// Whom Yama lets look (proc_sys_kernel(5)); absent without Yama.
const SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// Takes a descriptor of a child, and reads its memory.
pub(super) fn check() -> Check {
    let scope = fs::read_to_string(SCOPE).ok();
    let scope = match scope.as_deref().map(str::trim) {
        Some(scope) => format!("Yama's ptrace_scope is {scope}"),
        None => "no Yama".to_owned(),
    };
    match try_to_look() {
        Ok(()) => Check::good(NAME, format!("allowed; {scope}")),
        Err((call, error)) => Check::limited(NAME, format!("{call}: {error}; {scope}"), ADVICE),
    }
}

fn try_to_look() -> Result<(), (&'static str, io::Error)> {
    let start = || -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["probe", "wait"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
    };
    let mut child = start().map_err(|error| ("cannot start a program", error))?;
    let looked = look(&child);
    // It ends with its standard input.
    drop(child.stdin.take());
    let _status = child.wait();
    looked
}

fn look(child: &Child) -> Result<(), (&'static str, io::Error)> {
    let id = child.id().cast_signed();
    let pid = Pid::from_raw(id).expect("a pid is not 0");
    let handle = pidfd_open(pid, PidfdFlags::empty());
    let handle = handle.map_err(|error| ("pidfd_open is forbidden", error.into()))?;
    pidfd_getfd(&handle, 0, PidfdGetfdFlags::empty())
        .map_err(|error| ("pidfd_getfd is forbidden", error.into()))?;
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    let from = [RemoteIoVec { base: 1, len: 1 }];
    match process_vm_readv(nix::unistd::Pid::from_raw(id), &mut into, &from) {
        // Nothing is mapped there, and that much may be known.
        Ok(_) | Err(nix::Error::EFAULT) => Ok(()),
        Err(error) => Err(("process_vm_readv is forbidden", error.into())),
    }
}

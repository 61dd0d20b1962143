//! Who listens on a port of this machine, as `/proc` shows it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use crate::process::Stat;
use crate::tree::Tree;

/// The listening state in `/proc/net/tcp` (proc_pid_net(5), TCP_LISTEN).
const LISTENING: &str = "0A";

/// The state of a connect that is not answered (TCP_SYN_SENT).
const SYN_SENT: &str = "02";

/// The tables of TCP.
const TCP: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// What it runs, as the kernel cuts it.
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// Whether anybody in this network namespace listens on TCP port `port`.
pub(crate) fn is_listened_on(port: u16) -> bool {
    !listening_sockets(port).is_empty()
}

/// The first process that listens on TCP port `port`, as far as this account may see whose a socket is.
pub(crate) fn find_holder(port: u16) -> Option<Holder> {
    let sockets = listening_sockets(port);
    if sockets.is_empty() {
        return None;
    }
    let all = Stat::read_all().into_iter().map(|stat| stat.process.pid());
    let pid = all.into_iter().find(|pid| holds_one_of(*pid, &sockets))?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder {
        pid,
        program: program.trim_end().to_owned(),
    })
}

/// Every UDP port of this network namespace that a socket has.
pub(crate) fn bound_datagram_ports() -> BTreeSet<u16> {
    ports_of(["/proc/net/udp", "/proc/net/udp6"], None)
}

/// Every TCP port of this network namespace that a socket has whose connect is not answered.
pub(crate) fn ports_on_their_way() -> BTreeSet<u16> {
    ports_of(TCP, Some(SYN_SENT))
}

fn ports_of(tables: [&str; 2], wanted: Option<&str>) -> BTreeSet<u16> {
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let ports = lines.filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, port) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let is_meant = wanted.is_none_or(|wanted| wanted == state);
        is_meant.then(|| u16::from_str_radix(port, 16).ok())?
    });
    ports.collect()
}

/// Whether a process of `tree` has UDP port `port`.
pub(crate) fn is_bound_by(tree: &Tree, port: u16) -> bool {
    // A UDP socket that is connected to nobody is in the state of one that is closed (TCP_CLOSE).
    let sockets = sockets_of(["/proc/net/udp", "/proc/net/udp6"], port, "07");
    !sockets.is_empty()
        && tree
            .members()
            .iter()
            .any(|member| holds_one_of(member.pid(), &sockets))
}

/// The names that `/proc/PID/fd` has for the sockets that listen on `port`.
fn listening_sockets(port: u16) -> Vec<String> {
    sockets_of(TCP, port, LISTENING)
}

fn sockets_of(tables: [&str; 2], port: u16, state: &str) -> Vec<String> {
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| socket_of(line, port, state))
        .collect()
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode ...`
fn socket_of(line: &str, port: u16, wanted: &str) -> Option<String> {
    let mut fields = line.split_whitespace();
    let (_, local_port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let is_it = state == wanted && u16::from_str_radix(local_port, 16) == Ok(port);
    is_it.then(|| format!("socket:[{inode}]"))
}

/// Whether process `pid` has one of `sockets`, named as `/proc/PID/fd` has them.
pub(crate) fn holds_one_of(pid: i32, sockets: &[String]) -> bool {
    descriptors(pid).any(|(_, link)| {
        sockets
            .iter()
            .any(|socket| link.as_os_str() == socket.as_str())
    })
}

/// The number by which process `pid` has `socket`, named as `/proc/PID/fd` has it.
pub(crate) fn find_descriptor(pid: i32, socket: &str) -> Option<i32> {
    let found = descriptors(pid).find(|(_, link)| link.as_os_str() == socket);
    found.map(|(number, _)| number)
}

/// The descriptors of process `pid` and what they lead to, as far as this account may see.
fn descriptors(pid: i32) -> impl Iterator<Item = (i32, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = "   1: 0100007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 39123 1 0 100 0";
        assert_eq!(
            socket_of(line, 8082, LISTENING).as_deref(),
            Some("socket:[39123]")
        );
        assert_eq!(socket_of(line, 8083, LISTENING), None);
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(socket_of(&connected, 8082, LISTENING), None);
        assert_eq!(socket_of("", 8082, LISTENING), None);
    }

    #[test]
    fn this_process_is_found() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listened_on(port));
        let holder = find_holder(port).unwrap();
        assert_eq!(holder.pid.cast_unsigned(), std::process::id());
        drop(listener);
        assert!(!is_listened_on(port));
    }
}

//! Whether a port is free, and who holds it if not.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};

/// That a service can listen on the port of 127.0.0.1.
///
/// # Errors
/// When it cannot: with the process that holds the port, as far as this account may see it, and the flag that
/// chooses another.
pub(super) fn check_free(port: u16, flag: &str) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let holder = holder(port).unwrap_or_else(|| "a process of another account".to_owned());
            bail!("port {port} is held by {holder}: end it, or choose another port with {flag}");
        }
        Err(error) => Err(error).with_context(|| format!("listen on port {port}")),
    }
}

/// `program (pid N)` of the process that listens on the port.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    let sockets: Vec<String> = tables
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut holders = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        let held = |target: std::path::PathBuf| {
            sockets
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        };
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        targets
            .any(held)
            .then(|| format!("{} (pid {pid})", name.trim()))
    });
    holders.next()
}

/// The inodes of the listening sockets of a port: proc_net_tcp(5), local address in the second column, state (0A is
/// listening) in the fourth, inode in the tenth.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let suffix = format!(":{port:04X}");
    let of_line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let listens = columns.get(1)?.ends_with(&suffix) && *columns.get(3)? == "0A";
        let inode = columns.get(9)?.parse().ok()?;
        listens.then_some(inode)
    };
    table.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_names_its_holder() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let error = check_free(port, "--port")
            .expect_err("we hold it")
            .to_string();
        let pid = std::process::id();
        assert!(
            error.contains(&format!("pid {pid}")) && error.contains("--port"),
            "{error}"
        );
        drop(listener);
        assert!(check_free(port, "--port").is_ok());
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
            1: 0100007F:1F92 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n\
            2: 0100007F:1F93 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0\n";
        assert_eq!(listening_inodes(table, 8082), [4711]);
        assert_eq!(listening_inodes("", 8082), [0_u64; 0]);
    }
}

//! The folder where a running target is met: `<data dir>/targets/<its address>/`, made at its start, gone with its end.
//!
//! ```text
//!   agent.sock   where sessions come to        agent.key    what they prove themselves by
//!   relay.sock   where other targets come to   hosts        names and addresses, as the target sees them
//!   proxy.sock   where the engine comes to, for databases that only the target reaches
//!   agent.log, relay.log                       what these two had to say
//! ```
//!
//! Owns the files' names and the choice of the address, which no two folders share. The names are short, since paths of
//! sockets are (unix(7)); everything is the owner's alone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agent::relay::{SOCKET_NAME, TARGETS_NETWORK};
use wire::AgentKey;

use crate::contexts::{AgentLink, hex};

/// Attempts to find an address that no other target has: among 131,070 the first is nearly always free.
const ATTEMPTS: usize = 64;

/// The folder of one start of a target.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    /// A new one below `data_dir`, with a key for the agent in it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn make(data_dir: &Path) -> io::Result<Self> {
        let targets = data_dir.join("targets");
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(&targets)?;
        builder.recursive(false);
        let mut failure = io::Error::from(ErrorKind::AddrInUse);
        for _ in 0..ATTEMPTS {
            let folder = targets.join(draw_address().to_string());
            match builder.create(&folder) {
                Ok(()) => {
                    let place = Self { folder };
                    let key: [u8; wire::KEY_BYTES] = rand::random();
                    create(&place.key_file())?.write_all(hex::write(&key).as_bytes())?;
                    return Ok(place);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The one that was written down.
    pub(super) fn of(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// The target's address, where it has a network of its own.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.folder.file_name()?.to_str()?.parse().ok()
    }

    /// How sessions come to the agent; none where it has never been ready.
    pub(super) fn agent_link(&self) -> Option<AgentLink> {
        let socket = self.agent_socket();
        let key = hex::parse(fs::read_to_string(self.key_file()).ok()?.trim_end())?;
        let key = AgentKey::new(key);
        socket.exists().then_some(AgentLink::Socket { socket, key })
    }

    /// Where sessions come to.
    pub(super) fn agent_socket(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }

    /// Where the engine comes to, for databases that only the target reaches.
    pub(super) fn proxy_socket(&self) -> PathBuf {
        self.folder.join("proxy.sock")
    }

    /// Names and addresses, as the target sees them.
    pub(super) fn hosts(&self) -> PathBuf {
        self.folder.join("hosts")
    }

    /// Where other targets come to.
    pub(super) fn relay_socket(&self) -> PathBuf {
        self.folder.join(SOCKET_NAME)
    }

    /// The agent's key.
    pub(super) fn key_file(&self) -> PathBuf {
        self.folder.join("agent.key")
    }

    /// An empty log of one of the companions.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn create_log(&self, name: &str) -> io::Result<File> {
        create(&self.folder.join(format!("{name}.log")))
    }

    /// Writes the table of hosts, in the file that the target may have open or mounted already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write_hosts(&self, table: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o644);
        let file = options.open(self.hosts())?;
        // The target's programs read it as whoever they are, whatever the caller's mask.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all_at(table.as_bytes(), 0)?;
        file.set_len(u64::try_from(table.len()).expect("a table fits in memory"))
    }

    /// Removes it. What cannot be removed is of no use to anybody without its processes.
    pub(super) fn remove(&self) {
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// A random address of the targets' network that is neither its first nor its last.
fn draw_address() -> Ipv4Addr {
    let (network, bits) = TARGETS_NETWORK;
    let count = (1_u32 << (32 - u32::from(bits))) - 2;
    Ipv4Addr::from_bits(network.to_bits() + 1 + rand::random::<u32>() % count)
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_places_have_the_same_address() {
        let dir = tempfile::tempdir().unwrap();
        let places: Vec<_> = (0..20).map(|_| Place::make(dir.path()).unwrap()).collect();
        let mut addresses: Vec<_> = places
            .iter()
            .map(|place| place.address().unwrap())
            .collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 20);
    }

    #[test]
    fn a_table_of_hosts_is_replaced_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::make(dir.path()).unwrap();
        place.write_hosts("a long first table\n").unwrap();
        let open = File::open(place.path().join("hosts")).unwrap();
        place.write_hosts("short\n").unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "short\n");
    }
}

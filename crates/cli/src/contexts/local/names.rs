//! Names of targets, as other targets know them: `NAME` within its namespace, `NAME.NS`, `NAME.NS.svc` and
//! `NAME.NS.svc.cluster.local` everywhere.
//!
//! Each target with a network of its own sees a table of hosts of its own in the place of the machine's, which every
//! program looks into before it asks a server. The tables are written anew whenever such a target starts or ends.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use model::Namespace;
use rustix::fs::{FlockOperation, flock};

use super::place::Place;
use super::registry::{Record, Registry};

/// The machine's own table.
const MACHINE_HOSTS: &str = "/etc/hosts";

/// Writes the tables of every running target of `data_dir`.
///
/// # Errors
/// When the register cannot be read, or the folder of targets not be locked. One table that cannot be written keeps
/// no other from it: its target may just have ended.
pub(super) fn refresh(data_dir: &Path, registry: &Registry) -> io::Result<()> {
    // Two that start at once would else overwrite each other's view.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(data_dir.join("targets").join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let records = registry.all(None).map_err(io::Error::other)?;
    let known: Vec<Known<'_>> = records.iter().filter_map(Known::of).collect();
    let machine = fs::read_to_string(MACHINE_HOSTS).unwrap_or_default();
    for target in &known {
        let table = table(&machine, target.namespace, &known);
        if let Err(error) = Place::of(target.folder.to_owned()).write_hosts(&table) {
            tracing::debug!(%error, folder = %target.folder.display(), "a table of hosts is not written");
        }
    }
    Ok(())
}

/// The table of a target that is about to start and whose record is not written yet.
pub(super) fn first_table() -> String {
    fs::read_to_string(MACHINE_HOSTS).unwrap_or_default()
}

/// A running target with an address of its own.
struct Known<'a> {
    name: &'a str,
    namespace: &'a Namespace,
    address: Ipv4Addr,
    folder: &'a Path,
}

impl<'a> Known<'a> {
    fn of(record: &'a Record) -> Option<Self> {
        if !record.has_own_network() || !record.state().runs() {
            return None;
        }
        let folder = record.place.as_deref()?;
        Some(Self {
            name: &record.target.name,
            namespace: &record.namespace,
            address: Place::of(folder.to_owned()).address()?,
            folder,
        })
    }
}

/// The machine's table, then the targets as one of `namespace` knows them. A name that two kinds share is the first's.
fn table(machine: &str, namespace: &Namespace, known: &[Known<'_>]) -> String {
    let mut table = machine.to_owned();
    if !table.is_empty() && !table.ends_with('\n') {
        table.push('\n');
    }
    table.push_str("# targets of this machine, by bough\n");
    let mut seen = BTreeSet::new();
    for target in known {
        let full = format!("{}.{}", target.name, target.namespace);
        if !seen.insert(full.clone()) {
            continue;
        }
        let mut names = vec![
            full.clone(),
            format!("{full}.svc"),
            format!("{full}.svc.cluster.local"),
        ];
        if target.namespace == namespace {
            names.insert(0, target.name.to_owned());
        }
        table.push_str(&format!("{} {}\n", target.address, names.join(" ")));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_for_its_own_namespace() {
        let (shop, other) = (
            Namespace::new("shop").unwrap(),
            Namespace::new("other").unwrap(),
        );
        let known = |name, namespace, last| Known {
            name,
            namespace,
            address: Ipv4Addr::new(198, 18, 0, last),
            folder: Path::new("/"),
        };
        let all = [
            known("cart", &shop, 1),
            known("cart", &shop, 2),
            known("mail", &other, 3),
        ];
        let expected = "127.0.0.1 localhost\n\
                        # targets of this machine, by bough\n\
                        198.18.0.1 cart cart.shop cart.shop.svc cart.shop.svc.cluster.local\n\
                        198.18.0.3 mail.other mail.other.svc mail.other.svc.cluster.local\n";
        assert_eq!(table("127.0.0.1 localhost", &shop, &all), expected);
    }
}

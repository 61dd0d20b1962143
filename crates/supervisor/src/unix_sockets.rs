//! Unix sockets that have names, as this machine's network shows them, whichever file leads to them.
//!
//! A server's socket is known by the name that it was bound to; links, hard links and mounts give it further ones, which
//! lead to the same file.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::ports::holds_one_of;
use crate::tree::Tree;

/// The table, of the network namespace of whoever reads it: `Num RefCount Protocol Flags Type St Inode Path`.
const TABLE: &str = "/proc/net/unix";

/// How many fields of a line are before the path, which may have spaces.
const FIELDS_BEFORE_PATH: usize = 7;

/// The flag of a socket that listens (`__SO_ACCEPTCON`).
const LISTENS: u32 = 0x1_0000;

/// Services of the system that answer questions of the C library or take lines of logs, and connect to nothing for whoever
/// asks: nscd(8), systemd-userdbd.service(8), nss-resolve(8), systemd-journald.service(8), syslog(3).
const QUIET_SERVICES: [&str; 5] = [
    "/run/nscd/socket",
    "/run/systemd/userdb",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/journal",
    "/dev/log",
];

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listening {
    inode: u64,
    /// Where it was bound; an abstract name begins with `@`.
    name: PathBuf,
}

/// The names that sockets listen at.
pub(crate) fn listened_names() -> Vec<PathBuf> {
    let all = listening().into_iter();
    all.map(|listening| listening.name).collect()
}

/// Whether a process of `tree` listens at `name`, an abstract one with `@` before it.
pub(crate) fn is_listened_by(tree: &Tree, name: &Path) -> bool {
    let all = listening().into_iter();
    let its = all.filter(|listening| {
        let is_called_so = listening.name.file_name() == name.file_name();
        // A folder may be a link, as /var/run is.
        listening.name == name || (is_called_so && is_same_file(&listening.name, name))
    });
    let sockets: Vec<String> = its
        .map(|listening| format!("socket:[{}]", listening.inode))
        .collect();
    let mut members = tree.members().into_iter();
    !sockets.is_empty() && members.any(|member| holds_one_of(member.pid(), &sockets))
}

/// Whether the socket at `path`, without links on its way, is one of root's through which nobody gets anywhere.
pub(crate) fn leads_nowhere(path: &Path) -> bool {
    is_of_quiet_service(path) && fs::symlink_metadata(path).is_ok_and(|found| found.uid() == 0)
}

fn is_of_quiet_service(path: &Path) -> bool {
    QUIET_SERVICES.iter().any(|quiet| path.starts_with(quiet))
}

/// Whether two paths lead to the same file.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let place = |path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}

fn listening() -> Vec<Listening> {
    let table = fs::read(TABLE).unwrap_or_default();
    let lines = table.split(|byte| *byte == b'\n');
    lines.filter_map(parse).collect()
}

fn parse(line: &[u8]) -> Option<Listening> {
    let mut rest = line;
    let mut fields = [""; FIELDS_BEFORE_PATH];
    for field in &mut fields {
        let begin = rest.iter().position(|byte| *byte != b' ')?;
        let end = rest[begin..].iter().position(|byte| *byte == b' ')? + begin;
        *field = std::str::from_utf8(&rest[begin..end]).ok()?;
        rest = &rest[end..];
    }
    let name = rest.get(1..).filter(|name| !name.is_empty())?;
    let flags = u32::from_str_radix(fields[3], 16).ok()?;
    let listening = Listening {
        inode: fields[6].parse().ok()?,
        name: OsStr::from_bytes(name).into(),
    };
    (flags & LISTENS != 0).then_some(listening)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = |flags: &str, name: &str| {
            let line =
                format!("0000000000000000: 00000002 00000000 {flags} 0001 01    39123{name}");
            parse(line.as_bytes())
        };
        let read = line("00010000", " /run/a b/.s.PGSQL.5432").unwrap();
        assert_eq!(read.inode, 39123);
        assert_eq!(read.name, Path::new("/run/a b/.s.PGSQL.5432"));
        assert_eq!(line("00000000", " /run/other"), None);
        assert_eq!(line("00010000", ""), None);
        assert_eq!(
            parse(b"Num       RefCount Protocol Flags    Type St Inode Path"),
            None
        );
    }

    #[test]
    fn only_the_systems_own_sockets_lead_nowhere() {
        for quiet in [
            "/run/nscd/socket",
            "/run/systemd/userdb/io.systemd.DynamicUser",
            "/run/systemd/resolve/io.systemd.Resolve",
            "/run/systemd/journal/stdout",
            "/dev/log",
        ] {
            assert!(is_of_quiet_service(Path::new(quiet)), "{quiet}");
        }
        for elsewhere in [
            "/run/postgresql/.s.PGSQL.5432",
            "/run/docker.sock",
            "/run/nscd/socket2",
            "/run/systemd/private",
        ] {
            assert!(!is_of_quiet_service(Path::new(elsewhere)), "{elsewhere}");
        }
    }

    #[test]
    fn a_listener_is_among_them_and_its_file_has_every_name_that_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let bound = dir.path().join("bound");
        let listener = UnixListener::bind(&bound).unwrap();
        assert!(listened_names().contains(&bound));
        let hard = dir.path().join("hard");
        fs::hard_link(&bound, &hard).unwrap();
        assert!(is_same_file(&bound, &hard));
        assert!(!is_same_file(&bound, dir.path()));
        assert!(!is_same_file(
            &dir.path().join("no"),
            &dir.path().join("no")
        ));
        drop(listener);
        assert!(!listened_names().contains(&bound));
    }
}

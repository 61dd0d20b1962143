//! The machine's own accounts: `/etc/passwd` (passwd(5)), read without the C library.
//!
//! The program is linked statically, and the C library's lookup would load the machine's name service modules into it,
//! which may crash it. Accounts of a directory service are therefore unknown here.

use std::fs;
use std::io;

/// Where the accounts are.
const PATH: &str = "/etc/passwd";

/// One account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Every account of the machine.
pub(super) fn read() -> io::Result<Vec<Entry>> {
    Ok(parse(&fs::read_to_string(PATH)?))
}

/// Lines that are not accounts are passed over, as the C library does.
fn parse(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Entry { name, uid, gid })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_other_lines_passed_over() {
        let text = "root:x:0:0:root:/root:/bin/sh\n# no account\n\npostgres:x:106:113::/var/lib/postgresql:/bin/bash\n+\nbad:x:y:1::\n";
        let found: Vec<_> = parse(text)
            .into_iter()
            .map(|entry| (entry.name, entry.uid, entry.gid))
            .collect();
        assert_eq!(
            found,
            [("root".to_owned(), 0, 0), ("postgres".to_owned(), 106, 113)]
        );
    }
}

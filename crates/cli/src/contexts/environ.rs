//! The environment that a living process was started with, from `/proc/PID/environ` (proc_pid_environ(5)): read here for
//! processes of this machine, read out by an agent for those of a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use supervisor::Process;

/// A process's environment.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Environ {
    /// Its variables.
    pub(super) variables: BTreeMap<String, String>,
    /// Names, made readable, of variables that are not UTF-8.
    pub(super) skipped: Vec<String>,
}

/// Reads the environment of `process`.
///
/// # Errors
/// When the process is another account's, hides it (prctl(2), PR_SET_DUMPABLE), or is gone.
pub(super) fn read(process: Process) -> io::Result<Environ> {
    let bytes = fs::read(format!("/proc/{}/environ", process.pid()))?;
    // Only a look after the reading proves whose it was.
    if process.is_alive() {
        Ok(parse(&bytes))
    } else {
        Err(io::Error::other("the process has ended"))
    }
}

/// The variables in what the kernel shows.
pub(super) fn parse(bytes: &[u8]) -> Environ {
    let mut environ = Environ::default();
    for entry in bytes.split(|byte| *byte == 0) {
        // A program that writes a title over its arguments (setproctitle) leaves pieces without '=' here.
        let Some(at) = entry.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = (&entry[..at], &entry[at + 1..]);
        match (str::from_utf8(name), str::from_utf8(value)) {
            // getenv(3) takes the first of a name.
            (Ok(name), Ok(value)) if !name.is_empty() => {
                environ
                    .variables
                    .entry(name.to_owned())
                    .or_insert_with(|| value.to_owned());
            }
            _ => environ
                .skipped
                .push(String::from_utf8_lossy(name).into_owned()),
        }
    }
    environ
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_split_at_the_first_equals_sign_and_the_first_of_a_name_counts() {
        let environ = parse(b"A=1\0URL=postgres://u:p@h/d?x=y\0EMPTY=\0A=2\0title of a program\0");
        let expected = [("A", "1"), ("EMPTY", ""), ("URL", "postgres://u:p@h/d?x=y")];
        let found: Vec<_> = environ
            .variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected);
        assert!(environ.skipped.is_empty());
    }

    #[test]
    fn what_is_not_utf_8_is_named() {
        let environ = parse(b"BAD=\xff\0\xfeNAME=1\0GOOD=1\0=C:=C:\\\0");
        assert_eq!(environ.skipped, ["BAD", "\u{fffd}NAME", ""]);
        assert_eq!(environ.variables.len(), 1);
    }
}

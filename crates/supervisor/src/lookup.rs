//! Which file a command names: the search along `PATH` as execvp(3) makes it.
//!
//! Pure: what the files are like is asked through an argument. It exists apart from execvp itself so that "there is
//! no such program" and "this file cannot be executed" can be told apart, which shells do as 127 and 126.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is searched when the environment has no `PATH` (glibc: confstr(_CS_PATH)).
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// What the machine says of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// A file that this process may execute.
    Executable,
    /// Something is there, and it may not be executed: no permission, a directory, a device.
    Denied,
    /// A folder on the way to it may not be searched.
    Hidden,
    /// Nothing is there.
    Missing,
}

/// What the search came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Execute this; relative paths are relative to the child's working directory.
    Found(PathBuf),
    /// The first candidate that is there, when none can be executed.
    Denied(PathBuf),
    /// No candidate is there.
    Missing,
}

/// Finds `program` along `path`, the value of the child's own `PATH`.
pub(crate) fn find(
    program: &OsStr,
    path: Option<&OsStr>,
    examine: impl Fn(&Path) -> Candidate,
) -> Lookup {
    if program.is_empty() {
        return Lookup::Missing;
    }
    if program.as_bytes().contains(&b'/') {
        let file = PathBuf::from(program);
        return match examine(&file) {
            Candidate::Executable => Lookup::Found(file),
            Candidate::Denied | Candidate::Hidden => Lookup::Denied(file),
            Candidate::Missing => Lookup::Missing,
        };
    }
    let mut denied = None;
    let path = path.unwrap_or(OsStr::new(PATH_DEFAULT));
    for directory in path.as_bytes().split(|byte| *byte == b':') {
        // An empty element means the working directory.
        let directory = if directory.is_empty() {
            OsStr::new(".")
        } else {
            OsStr::from_bytes(directory)
        };
        let file = Path::new(directory).join(program);
        match examine(&file) {
            Candidate::Executable => return Lookup::Found(file),
            Candidate::Denied => denied = denied.or(Some(file)),
            // execvp says EACCES for the whole search then; shells say 127, since nobody knows of such a file.
            Candidate::Hidden | Candidate::Missing => {}
        }
    }
    denied.map_or(Lookup::Missing, Lookup::Denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(program: &str, path: Option<&str>) -> Lookup {
        find(
            OsStr::new(program),
            path.map(OsStr::new),
            |file| match file.to_str().unwrap() {
                "/b/tool" | "./tool" | "/usr/bin/tool" | "/b/late" | "sub/tool" => {
                    Candidate::Executable
                }
                "/a/tool" | "/a/late" | "/a/data" | "/b/data" => Candidate::Denied,
                hidden if hidden.starts_with("/root/") => Candidate::Hidden,
                _ => Candidate::Missing,
            },
        )
    }

    #[test]
    fn the_search_goes_on_past_what_cannot_be_executed() {
        let found = |file: &str| Lookup::Found(PathBuf::from(file));
        assert_eq!(look("tool", Some("/a:/b")), found("/b/tool"));
        assert_eq!(look("late", Some("/none:/a:/b")), found("/b/late"));
        assert_eq!(
            look("data", Some("/a:/b")),
            Lookup::Denied(PathBuf::from("/a/data"))
        );
        assert_eq!(look("nothing", Some("/a:/b")), Lookup::Missing);
    }

    #[test]
    fn a_folder_that_may_not_be_searched_holds_nothing_unless_it_is_named() {
        assert_eq!(look("tool", Some("/root/bin:/none")), Lookup::Missing);
        let file = PathBuf::from("/root/bin/tool");
        assert_eq!(look("/root/bin/tool", None), Lookup::Denied(file));
    }

    #[test]
    fn empty_elements_are_the_working_directory_and_no_path_is_the_default_one() {
        let found = |file: &str| Lookup::Found(PathBuf::from(file));
        for path in ["", ":/none", "/none:", "/none::/none"] {
            assert_eq!(look("tool", Some(path)), found("./tool"), "{path:?}");
        }
        assert_eq!(look("tool", None), found("/usr/bin/tool"));
    }

    #[test]
    fn a_slash_ends_the_search_before_it_begins() {
        assert_eq!(
            look("sub/tool", Some("/b")),
            Lookup::Found(PathBuf::from("sub/tool"))
        );
        assert_eq!(look("other/tool", Some("/b")), Lookup::Missing);
        assert_eq!(look("", Some("/b")), Lookup::Missing);
    }
}

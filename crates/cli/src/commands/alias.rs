//! `bough alias`: the name `mirrord` for this program, as a link, made or removed.
//!
//! Owns that nothing is ever put in the place of a program that is not ours.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use clap::Args;
use model::ExitCode;
use serde::Serialize;

use crate::error::CommandError;
use crate::settings::{HABITUAL_NAME, OWN_NAME, Settings};
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough alias                     `mirrord` beside `bough`
  bough alias --dir ~/.local/bin
  bough alias --remove

Called as `mirrord` it is the same program, with the same commands. A program that is not ours is never replaced.";

/// Let `mirrord` be another name of this program, for scripts and habits
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AliasArgs {
    /// Where the link is [default: the folder of this program]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Remove the link
    #[arg(long)]
    remove: bool,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Why there is no link, or still one.
#[derive(Debug, thiserror::Error)]
enum AliasError {
    /// Where this program is cannot be told.
    #[error("cannot tell where this program is")]
    Program(#[source] io::Error),
    /// What is there cannot be looked at.
    #[error("cannot look at {path}")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Something else has the name.
    #[error("{path} is there and is not this program: it stays")]
    Foreign { path: PathBuf },
    /// The link cannot be made.
    #[error("cannot make the link {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The link cannot be removed.
    #[error("cannot remove the link {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<AliasError> for CommandError {
    fn from(error: AliasError) -> Self {
        let hint = match &error {
            AliasError::Foreign { .. } => {
                Some("name another folder with --dir, one that comes earlier in PATH")
            }
            AliasError::Make { .. } => Some("name a folder that you may write with --dir"),
            AliasError::Program(_) | AliasError::Look { .. } | AliasError::Remove { .. } => None,
        };
        let failure = Self::new(ExitCode::Internal, error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

/// What has the name.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A link to this program, or to one of its name.
    Ours,
    Foreign,
}

/// Makes or removes the link.
pub(crate) fn run(
    args: &AliasArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let program = std::env::current_exe().map_err(AliasError::Program)?;
    let folder = match &args.dir {
        Some(folder) => folder.clone(),
        None => program.parent().unwrap_or(Path::new("/")).to_path_buf(),
    };
    let link = folder.join(HABITUAL_NAME);
    let report = if args.remove {
        remove(&link)?
    } else {
        make(&link, &program)?
    };
    ui.report(&report, args.output)?;
    if !args.remove
        && let Some(other) = shadowing(&link, settings.path())
    {
        ui.warn(&format!("{} comes first in PATH", other.display()));
    }
    Ok(ExitCode::Success)
}

fn make(link: &Path, program: &Path) -> Result<AliasReport, AliasError> {
    let failed = |source| AliasError::Make {
        path: link.to_owned(),
        source,
    };
    let did = match look(link, program)? {
        Found::Foreign => {
            return Err(AliasError::Foreign {
                path: link.to_owned(),
            });
        }
        Found::Ours if std::fs::read_link(link).is_ok_and(|target| target == program) => "kept",
        Found::Ours => {
            // Made aside and renamed: the name is never without a program.
            let aside = link.with_extension(format!("{}", std::process::id()));
            symlink(program, &aside).map_err(failed)?;
            std::fs::rename(&aside, link).map_err(failed)?;
            "renewed"
        }
        // Fails where something has come in between: nothing is replaced.
        Found::Nothing => {
            symlink(program, link).map_err(failed)?;
            "made"
        }
    };
    Ok(AliasReport::new(link, Some(program), did))
}

fn remove(link: &Path) -> Result<AliasReport, AliasError> {
    let program = std::env::current_exe().map_err(AliasError::Program)?;
    match look(link, &program)? {
        Found::Foreign => Err(AliasError::Foreign {
            path: link.to_owned(),
        }),
        Found::Nothing => Ok(AliasReport::new(link, None, "absent")),
        Found::Ours => {
            std::fs::remove_file(link).map_err(|source| AliasError::Remove {
                path: link.to_owned(),
                source,
            })?;
            Ok(AliasReport::new(link, None, "removed"))
        }
    }
}

/// What has the name: a link is ours if it leads to this program, or to one called `bough` that may be gone since.
fn look(link: &Path, program: &Path) -> Result<Found, AliasError> {
    let metadata = match std::fs::symlink_metadata(link) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(source) => {
            return Err(AliasError::Look {
                path: link.to_owned(),
                source,
            });
        }
    };
    if !metadata.is_symlink() {
        return Ok(Found::Foreign);
    }
    let target = std::fs::read_link(link).map_err(|source| AliasError::Look {
        path: link.to_owned(),
        source,
    })?;
    let is_ours = target == program || target.file_name() == Some(OsStr::new(OWN_NAME));
    Ok(if is_ours { Found::Ours } else { Found::Foreign })
}

/// Another program of the name that a shell would find first.
fn shadowing(link: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let folder = link.parent()?;
    for candidate in std::env::split_paths(path?) {
        if candidate == folder {
            return None;
        }
        let other = candidate.join(HABITUAL_NAME);
        if other.is_file() {
            return Some(other);
        }
    }
    None
}

#[derive(Serialize)]
struct AliasReport {
    link: PathBuf,
    program: Option<PathBuf>,
    /// `made`, `renewed`, `kept`, `removed`, or `absent`.
    did: &'static str,
}

impl AliasReport {
    fn new(link: &Path, program: Option<&Path>, did: &'static str) -> Self {
        Self {
            link: link.to_owned(),
            program: program.map(Path::to_owned),
            did,
        }
    }
}

impl Report for AliasReport {
    fn text(&self, _: Page) -> String {
        let link = self.link.display();
        match (&self.program, self.did) {
            (Some(program), "kept") => {
                format!("{link} is a link to {} already.\n", program.display())
            }
            (Some(program), _) => format!("{link} is a link to {}.\n", program.display()),
            (None, "absent") => format!("There is no {link}.\n"),
            (None, _) => format!("{link} is removed.\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder {
        folder: tempfile::TempDir,
        program: PathBuf,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("bough");
            std::fs::write(&program, "").unwrap();
            Self { folder, program }
        }

        fn link(&self) -> PathBuf {
            self.folder.path().join("mirrord")
        }
    }

    #[test]
    fn a_link_is_made_kept_and_renewed() {
        let folder = Folder::new();
        let made = |program: &Path| make(&folder.link(), program).map(|report| report.did);
        assert_eq!(made(&folder.program).unwrap(), "made");
        assert_eq!(made(&folder.program).unwrap(), "kept");
        let moved = folder.folder.path().join("elsewhere/bough");
        assert_eq!(made(&moved).unwrap(), "renewed");
        assert_eq!(std::fs::read_link(folder.link()).unwrap(), moved);
    }

    #[test]
    fn a_program_that_is_not_ours_stays() {
        let folder = Folder::new();
        std::fs::write(folder.link(), "theirs").unwrap();
        assert!(matches!(
            make(&folder.link(), &folder.program),
            Err(AliasError::Foreign { .. })
        ));
        assert!(matches!(
            remove(&folder.link()),
            Err(AliasError::Foreign { .. })
        ));
        assert_eq!(std::fs::read_to_string(folder.link()).unwrap(), "theirs");
        std::fs::remove_file(folder.link()).unwrap();
        symlink("/opt/mirrord/bin/mirrord", folder.link()).unwrap();
        assert!(matches!(
            make(&folder.link(), &folder.program),
            Err(AliasError::Foreign { .. })
        ));
    }

    #[test]
    fn an_earlier_program_of_the_name_is_told() {
        let (ours, theirs) = (Folder::new(), Folder::new());
        std::fs::write(theirs.link(), "theirs").unwrap();
        let path = |folders: &[&Folder]| {
            std::env::join_paths(folders.iter().map(|folder| folder.folder.path())).unwrap()
        };
        let found = shadowing(&ours.link(), Some(&path(&[&theirs, &ours])));
        assert_eq!(found, Some(theirs.link()));
        assert_eq!(
            shadowing(&ours.link(), Some(&path(&[&ours, &theirs]))),
            None
        );
    }
}

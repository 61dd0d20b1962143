//! `engine volume`: a filesystem with reflinks in a file, for whoever's own has none.

mod create;
mod list;
mod remove;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use model::ExitCode;

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;
use crate::volume_file::{Owner, OwnerError, VolumeFileError};

const EXAMPLES: &str = "\
Examples:
  sudo bough engine volume create --size 50G    once; then your own engine branches in milliseconds
  bough engine volume ls
  sudo bough engine volume rm";

/// Make, show or remove a fast volume in a file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VolumeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::CreateArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
}

pub(super) fn run(args: &VolumeArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    match &args.verb {
        Verb::Create(args) => create::run(args, settings, ui),
        Verb::List(args) => list::run(args, settings, ui),
        Verb::Remove(args) => remove::run(args, settings, ui),
    }
}

/// Whose volume, and where.
#[derive(Debug, Args)]
struct Whose {
    /// The account whose engine uses it [default: the one that called sudo, else root]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// The file [default: in /var/lib/bough-volumes, named after the data directory]
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
}

impl Whose {
    /// The account and its engine's data directory.
    fn find(&self, settings: &Settings) -> Result<(Owner, PathBuf), CommandError> {
        let is_root = rustix::process::geteuid().is_root();
        let owner = Owner::choose(self.user.as_deref(), &settings.environment);
        let owner = owner.map_err(|error| {
            let hint = "for an account of a directory service, call sudo as that account";
            CommandError::new(ExitCode::Usage, error).with_hint(hint)
        })?;
        if settings.is_data_dir_named || owner.is_root() || !is_root {
            return Ok((owner, settings.data_dir.clone()));
        }
        match &owner.home {
            Some(home) => {
                let data_dir = home.join(crate::settings::DATA_HOME_DEFAULT).join("bough");
                Ok((owner, data_dir))
            }
            None => {
                let unknown = OwnerError::Homeless(owner.name);
                let hint = "say where its engine keeps its data: --data-dir DIR";
                Err(CommandError::new(ExitCode::Usage, unknown).with_hint(hint))
            }
        }
    }
}

impl From<VolumeFileError> for CommandError {
    fn from(error: VolumeFileError) -> Self {
        let hint = error.hint();
        let failure = Self::new(ExitCode::Internal, error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

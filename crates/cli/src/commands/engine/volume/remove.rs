//! `engine volume rm`: unmounted, its unit and its file removed.

use clap::Args;

use super::Whose;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;
use crate::volume_file::VolumeFile;

const EXAMPLES: &str = "\
Examples:
  bough engine stop --servers && sudo bough engine volume rm
  sudo bough engine volume rm --force    with the branches on it

Copies of sources on it are made again when they are asked for.";

/// Remove the volume in a file with all that is on it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RemoveArgs {
    /// Even where branches live on it
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    whose: Whose,
}

pub(super) fn run(args: &RemoveArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let (_, data_dir) = args.whose.find(settings)?;
    let volume = VolumeFile::of(&data_dir, args.whose.path.as_deref());
    volume.remove(args.force)?;
    ui.note("the volume is removed");
    Ok(())
}

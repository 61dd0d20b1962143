//! `engine volume ls`: the volume of this data directory, where it is in a file.

use clap::Args;
use serde::Serialize;

use super::Whose;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Fields, Format, Page, Report, Ui};
use crate::volume_file::{VolumeFile, VolumeState};

const EXAMPLES: &str = "\
Examples:
  bough engine volume ls
  bough engine volume ls -o json";

/// Show the volume in a file, if there is one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    #[command(flatten)]
    whose: Whose,
}

pub(super) fn run(args: &ListArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let (_, data_dir) = args.whose.find(settings)?;
    let volume = VolumeFile::of(&data_dir, args.whose.path.as_deref());
    let volumes: Vec<VolumeState> = volume.state().into_iter().collect();
    ui.report(&VolumeList(volumes), args.output)?;
    Ok(())
}

#[derive(Serialize)]
#[serde(transparent)]
struct VolumeList(Vec<VolumeState>);

impl Report for VolumeList {
    fn text(&self, _: Page) -> String {
        let Some(volume) = self.0.first() else {
            return "No volume in a file; `sudo bough engine volume create --size 50G` makes one.\n"
                .to_owned();
        };
        let mut fields = Fields::new();
        fields.field("Volume", volume.path.display().to_string());
        fields.field("File", volume.image.display().to_string());
        fields.field("Mounted", if volume.mounted { "yes" } else { "no" });
        let size = volume.size_bytes.zip(volume.taken_bytes);
        fields.maybe(
            "Size",
            size.map(|(size, taken)| format!("{size}, of which {taken} are taken")),
        );
        let unit = volume.unit.as_ref().map(|unit| unit.display().to_string());
        fields.field("At boot", unit.unwrap_or_else(|| "not mounted".to_owned()));
        fields.text()
    }
}

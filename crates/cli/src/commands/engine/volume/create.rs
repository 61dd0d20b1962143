//! `engine volume create`: the file, its filesystem, its mount now and at every boot, in the account's hands.

use clap::Args;
use model::ByteSize;

use super::Whose;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;
use crate::volume_file::{Filesystem, VolumeFile};

const EXAMPLES: &str = "\
Examples:
  sudo bough engine volume create --size 50G
  sudo bough engine volume create --size 200G --path /fast/bough.img
  sudo bough engine volume create --size 50G --filesystem btrfs --user postgres --data-dir /srv/bough

The file is sparse: it takes what is written to it, and gives back what is removed. What is there already is left as it
is, so that the command can be given again.";

/// Make a fast volume in a file, for the account that calls sudo
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CreateArgs {
    /// The size of the file, such as 50G; at least 512M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: ByteSize,

    /// The filesystem in it
    #[arg(long, value_enum, default_value = "xfs")]
    filesystem: Filesystem,

    #[command(flatten)]
    whose: Whose,
}

pub(super) fn run(args: &CreateArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let (owner, data_dir) = args.whose.find(settings)?;
    let volume = VolumeFile::of(&data_dir, args.whose.path.as_deref());
    let state = volume.create(&owner, args.size, args.filesystem)?;
    ui.note(&format!(
        "{} is mounted on {}",
        state.image.display(),
        state.path.display()
    ));
    match &state.unit {
        Some(unit) => ui.note(&format!("{} mounts it at every boot", unit.display())),
        None => ui.warn(
            "there is no systemd here to mount it at boot: give this command again after one",
        ),
    }
    if let Ok(room) = engine::volume::room(&state.path)
        && let [volume, below, ..] = room.places.as_slice()
        && below.free < volume.free
    {
        ui.warn(&format!(
            "the volume has room for {}, and what holds its file has {} free",
            volume.free, below.free
        ));
    }
    ui.note(&format!(
        "the engine of {} uses it from its next start on",
        owner.name
    ));
    Ok(())
}

/// `50G`, `512M`, `1T` in powers of 1024, as mkfs and truncate take them; a bare number is bytes.
fn parse_size(text: &str) -> Result<ByteSize, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        unit => return Err(format!("{unit:?} is no unit; use M, G or T, such as 50G")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "no number in front, such as 50G".to_owned())?;
    let bytes = number
        .checked_mul(1 << shift)
        .filter(|bytes| i64::try_from(*bytes).is_ok());
    bytes
        .map(ByteSize)
        .ok_or_else(|| "no file can be that large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_other_tools_read_them() {
        assert_eq!(parse_size("50G"), Ok(ByteSize(50 << 30)));
        assert_eq!(parse_size("512MiB"), Ok(ByteSize(512 << 20)));
        assert_eq!(parse_size("1t"), Ok(ByteSize(1 << 40)));
        assert_eq!(parse_size("4096"), Ok(ByteSize(4096)));
        for wrong in ["", "G", "-1G", "1.5G", "5X", "9999999999999T", "50 G"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }
}

//! `bough completions`: a shell's completion script.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;
use model::ExitCode;

use crate::args;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough completions bash > ~/.local/share/bash-completion/completions/bough
  bough completions zsh > ~/.zfunc/_bough
  bough completions fish > ~/.config/fish/completions/bough.fish";

/// Write a shell's completion script
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: ShellWord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShellWord {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Elvish,
}

/// Writes the script to standard output, for the name by which the program was called.
pub(crate) fn run(
    args: &CompletionsArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let shell = match args.shell {
        ShellWord::Bash => Shell::Bash,
        ShellWord::Zsh => Shell::Zsh,
        ShellWord::Fish => Shell::Fish,
        ShellWord::Powershell => Shell::PowerShell,
        ShellWord::Elvish => Shell::Elvish,
    };
    let mut script = Vec::new();
    let name = settings.program_name();
    clap_complete::generate(shell, &mut args::Args::command(), name, &mut script);
    ui.raw(&script)?;
    Ok(ExitCode::Success)
}

//! Commands that mirrord has and Bough has not: each is refused by name, with what to use instead.

use clap::error::ErrorKind;
use model::ExitCode;

use crate::error::CommandError;

/// A command of mirrord, and what to use instead.
const FOREIGN: &[(&str, &str)] = &[
    (
        "kill",
        "`bough session stop ID` ends one that holds a branch; `bough session ls` shows them",
    ),
    (
        "ui",
        "`bough db-branches status` and `bough ls` show what there is",
    ),
    (
        "wizard",
        "`bough verify-config FILE` says what a file lacks; docs/configuration.md has examples",
    ),
    (
        "chaos",
        "nothing disturbs traffic on purpose in this version",
    ),
    (
        "subscribe",
        "`bough session ls -o json` says who holds which branch",
    ),
    ("queues", "queues are not split in this version"),
    (
        "ci",
        "`bough exec` runs in continuous integration as it does elsewhere, without a key",
    ),
    (
        "container",
        "run `bough exec` within the container, or the program outside of it",
    ),
    ("up", "run one `bough exec` for each service"),
    ("preview", "preview environments are not supported"),
    ("dump", "traffic is not shown in this version"),
    ("diagnose", "`bough doctor` shows what this machine can do"),
    (
        "fix",
        "kubeconfigs are left alone: there is nothing to mend",
    ),
    ("teams", "there is nothing to sign up for"),
    ("newsletter", "there is nothing to sign up for"),
    (
        "vpn",
        "`bough exec` runs one program; the whole machine is left alone",
    ),
    ("attach", "start the program with `bough exec`"),
    (
        "ext",
        "editor plugins of mirrord start sessions by a protocol of their own: use `bough exec` in a terminal or a task",
    ),
    (
        "container-ext",
        "editor plugins of mirrord start sessions by a protocol of their own: use `bough exec`",
    ),
    ("intproxy", "it is a part of mirrord's own"),
    ("extproxy", "it is a part of mirrord's own"),
    (
        "extract",
        "nothing is preloaded, so there is no library to extract",
    ),
    ("login", "there is nothing to log in to"),
    ("completion", "`bough completions SHELL`"),
];

/// A command that is mirrord's alone.
#[derive(Debug, thiserror::Error)]
#[error("there is no command {0:?} in bough")]
struct ForeignCommand(&'static str);

/// What to say of a command line that the parser refused, where it asks for a command of mirrord's.
pub(crate) fn refusal(error: &clap::Error) -> Option<CommandError> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let word = error
        .context()
        .find_map(|(kind, value)| match (kind, value) {
            (
                clap::error::ContextKind::InvalidSubcommand,
                clap::error::ContextValue::String(word),
            ) => Some(word),
            _ => None,
        })?;
    let (name, instead) = FOREIGN.iter().find(|(name, _)| name == word)?;
    let failure = CommandError::new(ExitCode::Usage, ForeignCommand(name));
    Some(failure.with_hint(*instead))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::args::Args;

    #[test]
    fn every_command_of_mirrord_is_there_or_refused_by_name() {
        let own: Vec<String> = Args::command()
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        for name in [
            "exec",
            "ls",
            "session",
            "db-branches",
            "verify-config",
            "completions",
        ] {
            assert!(own.iter().any(|own| own == name), "{name}");
        }
        for (name, _) in FOREIGN {
            assert!(!own.iter().any(|own| own == name), "{name} is there");
            let error = Args::try_parse_from(["mirrord", name, "--x"]).unwrap_err();
            let refused = refusal(&error).unwrap_or_else(|| panic!("{name}: {error}"));
            assert_eq!(refused.exit(), ExitCode::Usage, "{name}");
        }
        let unknown = Args::try_parse_from(["mirrord", "no-such-thing"]).unwrap_err();
        assert!(refusal(&unknown).is_none());
    }
}

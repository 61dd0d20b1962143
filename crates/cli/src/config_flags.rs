//! Flags that say what a configuration file would, in mirrord's words: each stands for one of its variables.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use config::Flag;

/// A mode of files, as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FsMode {
    /// This machine's
    Local,
    /// This machine's, but for listed paths
    #[value(alias = "localwithoverrides")]
    LocalWithOverrides,
    /// The target's for reading
    Read,
    /// The target's
    Write,
}

impl FsMode {
    fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::LocalWithOverrides => "localwithoverrides",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What the command line says in place of the file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "In place of the file")]
pub(crate) struct ConfigFlags {
    /// Whose files the program sees: feature.fs.mode
    #[arg(long, value_name = "MODE", value_enum)]
    fs_mode: Option<FsMode>,

    /// The only variables of the target that come along, with `;` between them: feature.env.include
    #[arg(short = 's', long, value_name = "NAMES")]
    override_env_vars_include: Option<String>,

    /// Variables of the target that stay behind, with `;` between them: feature.env.exclude
    #[arg(short = 'x', long, value_name = "NAMES")]
    override_env_vars_exclude: Option<String>,

    /// A dotenv file of further variables: feature.env.env_file
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Take what comes to the target, in place of a copy: feature.network.incoming
    #[arg(long)]
    steal: bool,

    /// Connect from this machine: feature.network.outgoing
    #[arg(long)]
    no_outgoing: bool,

    /// The same for TCP alone
    #[arg(long)]
    no_tcp_outgoing: bool,

    /// The same for UDP alone
    #[arg(long)]
    no_udp_outgoing: bool,

    /// Resolve names on this machine: feature.network.dns
    #[arg(long)]
    no_remote_dns: bool,

    /// Do not check certificates of the API server: accept_invalid_certificates
    #[arg(
        short = 'c',
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    accept_invalid_certificates: Option<bool>,

    #[command(flatten)]
    habits: HabitFlags,
}

/// Flags that mean nothing here, and that scripts have.
#[derive(Debug, Default, Args)]
struct HabitFlags {
    /// Programs that are left alone
    #[arg(long, value_name = "NAMES", hide = true)]
    skip_processes: Option<String>,

    /// Nothing is reported in any case
    #[arg(long, hide = true)]
    no_telemetry: bool,

    /// No version is looked up in any case
    #[arg(long, hide = true)]
    disable_version_check: bool,

    /// The agent's namespace
    #[arg(short = 'a', long, value_name = "NS", hide = true)]
    agent_namespace: Option<String>,

    /// What the agent logs
    #[arg(short = 'l', long, value_name = "LEVEL", hide = true)]
    agent_log_level: Option<String>,

    /// The agent's image
    #[arg(short = 'i', long, value_name = "IMAGE", hide = true)]
    agent_image: Option<String>,

    /// Seconds that the agent's pod stays
    #[arg(long, value_name = "SECONDS", hide = true)]
    agent_ttl: Option<u16>,

    /// Seconds that the agent's start may take
    #[arg(long, value_name = "SECONDS", hide = true)]
    agent_startup_timeout: Option<u64>,

    /// The agent as an ephemeral container
    #[arg(short = 'e', long, hide = true)]
    ephemeral_container: bool,
}

impl ConfigFlags {
    /// Each flag that was given, as the variable that it stands for.
    pub(crate) fn given(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        flags.extend(self.of_files_and_variables());
        flags.extend(self.of_network());
        flags.extend(self.habits.given());
        flags
    }

    fn of_files_and_variables(&self) -> impl Iterator<Item = Flag> {
        let mode = self.fs_mode.map(FsMode::word);
        let include = self.override_env_vars_include.clone();
        let exclude = self.override_env_vars_exclude.clone();
        let file = self.env_file.as_ref();
        let flags = [
            flag("--fs-mode", "MIRRORD_FILE_MODE", mode),
            flag(
                "--override-env-vars-include",
                "MIRRORD_OVERRIDE_ENV_VARS_INCLUDE",
                include,
            ),
            flag(
                "--override-env-vars-exclude",
                "MIRRORD_OVERRIDE_ENV_VARS_EXCLUDE",
                exclude,
            ),
            flag(
                "--env-file",
                "MIRRORD_OVERRIDE_ENV_VARS_FILE",
                file.map(|path| path.display()),
            ),
        ];
        flags.into_iter().flatten()
    }

    fn of_network(&self) -> impl Iterator<Item = Flag> {
        let certificates = self.accept_invalid_certificates;
        let flags = [
            flag("--steal", "MIRRORD_AGENT_TCP_STEAL_TRAFFIC", on(self.steal)),
            flag(
                "--no-outgoing",
                "MIRRORD_TCP_OUTGOING",
                off(self.no_outgoing),
            ),
            flag(
                "--no-outgoing",
                "MIRRORD_UDP_OUTGOING",
                off(self.no_outgoing),
            ),
            flag(
                "--no-tcp-outgoing",
                "MIRRORD_TCP_OUTGOING",
                off(self.no_tcp_outgoing),
            ),
            flag(
                "--no-udp-outgoing",
                "MIRRORD_UDP_OUTGOING",
                off(self.no_udp_outgoing),
            ),
            flag(
                "--no-remote-dns",
                "MIRRORD_REMOTE_DNS",
                off(self.no_remote_dns),
            ),
            flag(
                "--accept-invalid-certificates",
                "MIRRORD_ACCEPT_INVALID_CERTIFICATES",
                certificates,
            ),
        ];
        flags.into_iter().flatten()
    }
}

impl HabitFlags {
    fn given(&self) -> impl Iterator<Item = Flag> {
        let skipped = self.skip_processes.clone();
        let ephemeral = on(self.ephemeral_container);
        let flags = [
            flag("--skip-processes", "MIRRORD_SKIP_PROCESSES", skipped),
            flag(
                "--no-telemetry",
                "MIRRORD_TELEMETRY",
                off(self.no_telemetry),
            ),
            flag(
                "--agent-namespace",
                "MIRRORD_AGENT_NAMESPACE",
                self.agent_namespace.clone(),
            ),
            flag(
                "--agent-log-level",
                "MIRRORD_AGENT_RUST_LOG",
                self.agent_log_level.clone(),
            ),
            flag(
                "--agent-image",
                "MIRRORD_AGENT_IMAGE",
                self.agent_image.clone(),
            ),
            flag("--agent-ttl", "MIRRORD_AGENT_TTL", self.agent_ttl),
            flag(
                "--agent-startup-timeout",
                "MIRRORD_AGENT_STARTUP_TIMEOUT",
                self.agent_startup_timeout,
            ),
            flag(
                "--ephemeral-container",
                "MIRRORD_EPHEMERAL_CONTAINER",
                ephemeral,
            ),
        ];
        flags.into_iter().flatten()
    }
}

/// A flag with a value, where it was given.
fn flag(name: &'static str, variable: &'static str, value: Option<impl ToString>) -> Option<Flag> {
    value.map(|value| Flag {
        name,
        variable,
        value: value.to_string(),
    })
}

fn on(is_given: bool) -> Option<bool> {
    is_given.then_some(true)
}

fn off(is_given: bool) -> Option<bool> {
    is_given.then_some(false)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: ConfigFlags,
    }

    fn given(line: &str) -> Vec<(String, String)> {
        let words = ["x"].into_iter().chain(line.split_whitespace());
        let flags = Line::parse_from(words).flags.given();
        flags
            .into_iter()
            .map(|flag| (flag.variable.to_owned(), flag.value))
            .collect()
    }

    #[test]
    fn each_flag_stands_for_a_variable() {
        let pair = |name: &str, value: &str| (format!("MIRRORD_{name}"), value.to_owned());
        for (line, expected) in [
            ("", vec![]),
            (
                "--fs-mode local-with-overrides",
                vec![pair("FILE_MODE", "localwithoverrides")],
            ),
            ("-s A;B", vec![pair("OVERRIDE_ENV_VARS_INCLUDE", "A;B")]),
            ("-x A", vec![pair("OVERRIDE_ENV_VARS_EXCLUDE", "A")]),
            ("--steal", vec![pair("AGENT_TCP_STEAL_TRAFFIC", "true")]),
            (
                "--no-outgoing",
                vec![pair("TCP_OUTGOING", "false"), pair("UDP_OUTGOING", "false")],
            ),
            ("-c", vec![pair("ACCEPT_INVALID_CERTIFICATES", "true")]),
            (
                "-c=false",
                vec![pair("ACCEPT_INVALID_CERTIFICATES", "false")],
            ),
            (
                "-e --agent-ttl 3",
                vec![pair("AGENT_TTL", "3"), pair("EPHEMERAL_CONTAINER", "true")],
            ),
            ("--disable-version-check", vec![]),
        ] {
            assert_eq!(given(line), expected, "{line}");
        }
    }
}

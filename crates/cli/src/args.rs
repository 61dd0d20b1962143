//! The command line: flags that every command has, and the commands. Leaves each command's own flags to its file.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::commands::{
    agent, alias, completions, db_branches, doctor, engine, exec, local, ls, operator,
    port_forward, probe, schema, session, source, verify_config, watch_session,
};

const EXAMPLES: &str = "\
Examples:
  bough exec -f .mirrord/inventory-db-branch.json -- cargo run    a process with its own branch
  bough db-branches -n metalmart status                           what branches there are
  bough db-branches create try-it --source postgres://db/inventory

Exit codes:
  0 done; 1 internal failure, or no such object; 2 configuration or usage; 3 context or target; 4 branch.
  `exec` exits with its program's own code (128+n for a signal), 126 and 127 as shells have them.";

/// Run a process as if in the cluster, with its own branch of the shared database
#[derive(Debug, Parser)]
#[command(name = "bough", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct GlobalArgs {
    /// Where the engine keeps its data [default: BOUGH_DATA_DIR, else /var/lib/bough for root, else
    /// ~/.local/share/bough]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,

    /// No opening, closing and progress lines
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say more about what goes on; twice for everything [RUST_LOG says which]
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Exec(Box<exec::ExecArgs>),
    DbBranches(db_branches::DbBranchesArgs),
    Session(session::SessionArgs),
    Source(source::SourceArgs),
    Local(local::LocalArgs),
    Ls(ls::LsArgs),
    PortForward(port_forward::PortForwardArgs),
    Engine(engine::EngineArgs),
    Operator(Box<operator::OperatorArgs>),
    VerifyConfig(verify_config::VerifyConfigArgs),
    Schema(schema::SchemaArgs),
    Alias(alias::AliasArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Agent(agent::AgentArgs),
    #[command(hide = true)]
    Probe(probe::ProbeArgs),
    #[command(hide = true)]
    WatchSession(watch_session::WatchSessionArgs),
}

impl Command {
    /// Whether this process is to be the engine, which keeps its own log.
    pub(crate) fn is_engine(&self) -> bool {
        matches!(self, Self::Engine(args) if args.is_engine())
    }

    /// Whether this process is to be something that keeps its own log.
    pub(crate) fn keeps_log(&self) -> bool {
        self.is_engine() || matches!(self, Self::Operator(args) if args.is_operator())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_two_flags_of_a_command_are_the_same() {
        Args::command().debug_assert();
    }
}

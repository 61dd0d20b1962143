//! `bough exec`: a program run as the target, with its own branches.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use config::TargetChoice;
use model::Namespace;

use crate::error::CommandError;
use crate::session::{self, Request};
use crate::settings::Settings;
use crate::ui::Ui;

/// The file that `-f` alone means.
const FILE_DEFAULT: &str = ".mirrord/mirrord.json";

const EXAMPLES: &str = "\
Examples:
  bough exec -f .mirrord/inventory.json -- ./inventory --port 8082
  bough exec -f .mirrord/inventory-db-branch.json -- cargo run
  bough exec -t deployment/inventory -n metalmart -- env

The program starts only once each branch is ready and proven to be what its variables lead to.
Exits with the program's own code (128+n for a signal); else 2 for the file, 3 for context or target, 4 for a branch,
126 and 127 for a program that cannot be run or found.";

/// Run a program as the target, with its own branches of the databases
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExecArgs {
    /// Configuration file; -f alone means .mirrord/mirrord.json [default: BOUGH_CONFIG_FILE, else MIRRORD_CONFIG_FILE,
    /// else every default]
    #[arg(short = 'f', long, value_name = "FILE", num_args = 0..=1, default_missing_value = FILE_DEFAULT)]
    config_file: Option<PathBuf>,

    /// Whose place is taken: KIND/NAME, KIND/NAME/container/CONTAINER, or `targetless` [default: the file's, else
    /// MIRRORD_IMPERSONATED_TARGET]
    #[arg(short, long)]
    target: Option<TargetChoice>,

    /// Namespace of the target and of the branches [default: the file's, else MIRRORD_TARGET_NAMESPACE, else `default`]
    #[arg(short, long, visible_alias = "target-namespace", value_name = "NS")]
    namespace: Option<Namespace>,

    /// Where targets live: `local` or a kubeconfig's context [default: the file's kube_context]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    /// The session's key: branches without an id are found again by it [default: MIRRORD_KEY, else the file's, else
    /// random]
    #[arg(short, long)]
    key: Option<String>,

    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Runs the program; answers with its exit code.
pub(crate) async fn run(args: &ExecArgs, settings: &Settings, ui: &Ui) -> Result<u8, CommandError> {
    let request = Request {
        file: args.config_file.clone(),
        target: args.target.clone(),
        namespace: args.namespace.clone(),
        context: args.context.clone(),
        key: args.key.clone(),
        command: &args.command,
    };
    session::run(&request, settings, ui).await
}

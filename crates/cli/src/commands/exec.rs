//! `bough exec`: a program run as the target, with its own branches.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use config::TargetChoice;
use model::Namespace;
use supervisor::OnSource;

use crate::config_flags::ConfigFlags;
use crate::error::CommandError;
use crate::session::{self, FileFormat, Request};
use crate::settings::Settings;
use crate::ui::Ui;

/// The file that `-f` alone means.
const FILE_DEFAULT: &str = ".mirrord/mirrord.json";

const EXAMPLES: &str = "\
Examples:
  bough exec -f .mirrord/inventory.json -- ./inventory --port 8082
  bough exec -f .mirrord/inventory-db-branch.json -- cargo run
  bough exec -t deployment/inventory -n metalmart -- env
  bough exec -f x.json --assert-isolated --report session.md -- ./run-tests

The program starts only once each branch is ready and proven to be what its variables lead to.
Exits with the program's own code (128+n for a signal); else 2 for the file, 3 for context or target, 4 for a branch,
126 and 127 for a program that cannot be run or found.";

/// What becomes of a connection to a source's own address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnSourceConnection {
    /// The branched database is the branch, another one is itself
    #[default]
    Redirect,
    /// The branched database is refused, another one is itself
    Refuse,
    /// It goes on, and is counted
    Allow,
}

impl From<OnSourceConnection> for OnSource {
    fn from(chosen: OnSourceConnection) -> Self {
        match chosen {
            OnSourceConnection::Redirect => Self::Redirect,
            OnSourceConnection::Refuse => Self::Refuse,
            OnSourceConnection::Allow => Self::Allow,
        }
    }
}

/// Run a program as the target, with its own branches of the databases
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExecArgs {
    /// Configuration file, - for standard input; -f alone means .mirrord/mirrord.json [default: BOUGH_CONFIG_FILE, else MIRRORD_CONFIG_FILE,
    /// else every default]
    #[arg(short = 'f', long, value_name = "FILE", num_args = 0..=1, default_missing_value = FILE_DEFAULT)]
    config_file: Option<PathBuf>,

    /// Whose place is taken: KIND/NAME, KIND/NAME/container/CONTAINER, or `targetless` [default: MIRRORD_IMPERSONATED_TARGET,
    /// else the file's]
    #[arg(short, long)]
    target: Option<TargetChoice>,

    /// Namespace of the target and of the branches [default: MIRRORD_TARGET_NAMESPACE, else the file's, else the context's own, else `default`]
    #[arg(short, long, visible_alias = "target-namespace", value_name = "NS")]
    namespace: Option<Namespace>,

    /// Where targets live: `local` or a kubeconfig's context [default: MIRRORD_KUBE_CONTEXT, else the
    /// file's kube_context]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    /// The session's key: branches without an id are found again by it [default: MIRRORD_KEY, else the file's, else
    /// random]
    #[arg(short, long)]
    key: Option<String>,

    /// Take data of up to this age for new branches, without asking the source [default: the file's freshness, else all
    /// that was committed before this command]
    #[arg(long, value_name = "SECS")]
    max_age: Option<u64>,

    /// What becomes of a connection to the source's own address while a branch stands in for it
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    on_source_connection: OnSourceConnection,

    /// Refuse every session with PostgreSQL that does not end in a branch, and exit with 4 if there was one
    #[arg(long)]
    assert_isolated: bool,

    /// Write what the program connected to into FILE at its end
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// The report's form [default: json if its name ends so, else markdown]
    #[arg(short, long, value_name = "FORM", value_enum, requires = "report")]
    output: Option<FileFormat>,

    /// Write the certificate that programs with sslmode=verify-full need as sslrootcert into FILE
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    #[command(flatten)]
    overrides: ConfigFlags,

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
        flags: args.overrides.given(),
        max_age: args.max_age.map(Duration::from_secs),
        on_source: args.on_source_connection.into(),
        assert_isolated: args.assert_isolated,
        report: args.report.clone(),
        report_format: args.output,
        ca_file: args.ca_file.clone(),
        command: &args.command,
    };
    session::run(&request, settings, ui).await
}

//! `db-branches url`: a branch's connection string. In a cluster it names a port of this machine that leads to the branch,
//! for as long as the command runs.

use clap::Args;
use model::pg_url::Address;
use model::{ExitCode, PgUrl};
use serde::Serialize;
use supervisor::{Signals, SignalsError};

use super::select::{self, Scope};
use crate::contexts::BranchHost;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough db-branches url try-it
  psql \"$(bough db-branches url try-it --show-password)\"

In a cluster it names a port of this machine that leads to the branch until the command is ended.";

/// Show a branch's connection string
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct UrlArgs {
    /// Id or name of a branch
    name: String,

    /// Show the password as well
    #[arg(long)]
    show_password: bool,
}

/// The engine told a connection string that is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the connection string that the engine gave")]
struct UrlError(#[source] model::pg_url::PgUrlError);

/// Nobody could end this command in order.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for signals")]
struct SignalsFailure(#[source] SignalsError);

pub(super) async fn run(
    args: &UrlArgs,
    scope: &Scope,
    settings: &Settings,
    host: Option<&BranchHost>,
    ui: &Ui,
) -> Result<(), CommandError> {
    let (engine, branches) = super::connect(settings, ui).await?;
    let branch = select::select_one(&args.name, scope, &branches)?;
    let connection = engine.client.connection(&branch.name).await?;
    let url = PgUrl::parse(connection.url.reveal());
    let mut url = url.map_err(|error| CommandError::new(ExitCode::Internal, UrlError(error)))?;
    if let Some(host) = host {
        let door = host.lead_to_door(connection.port).await?;
        url = url.with_address(&Address {
            host: door.ip().to_string(),
            port: door.port(),
        });
    }
    let shown = match (args.show_password, host) {
        (false, _) => url.redacted(),
        (true, Some(_)) => url.reveal(),
        (true, None) => connection.url.reveal().to_owned(),
    };
    let mut signals = Signals::install()
        .map_err(|error| CommandError::new(ExitCode::Internal, SignalsFailure(error)))?;
    ui.report(&UrlReport(shown), Format::Text)?;
    if host.is_some() {
        ui.note("bough: it leads to the branch until this command ends, by Ctrl-C");
        signals.interrupted().await;
    }
    Ok(())
}

#[derive(Serialize)]
struct UrlReport(String);

impl Report for UrlReport {
    fn text(&self, _: Page) -> String {
        format!("{}\n", self.0)
    }
}

//! `db-branches url`: a branch's connection string.

use clap::Args;
use model::{ExitCode, PgUrl};
use serde::Serialize;

use super::select::{self, Scope};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough db-branches url try-it
  psql \"$(bough db-branches url try-it --show-password)\"";

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

pub(super) async fn run(
    args: &UrlArgs,
    scope: &Scope,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let (engine, branches) = super::connect(settings, ui).await?;
    let branch = select::select_one(&args.name, scope, &branches)?;
    let connection = engine.client.connection(&branch.name).await?;
    let url = if args.show_password {
        connection.url.reveal().to_owned()
    } else {
        let url = PgUrl::parse(connection.url.reveal());
        url.map_err(|error| CommandError::new(ExitCode::Internal, UrlError(error)))?
            .redacted()
    };
    ui.report(&UrlReport(url), Format::Text)?;
    Ok(())
}

#[derive(Serialize)]
struct UrlReport(String);

impl Report for UrlReport {
    fn text(&self, _: Page) -> String {
        format!("{}\n", self.0)
    }
}

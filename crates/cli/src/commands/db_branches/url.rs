//! `db-branches url`: a branch's connection string. In a cluster it names a port of this machine that leads to the branch,
//! for as long as the command runs.

use clap::Args;
use model::engine_api::BranchConnection;
use model::pg_url::Address;
use model::{ExitCode, PgUrl};
use serde::Serialize;
use supervisor::{Signals, SignalsError};

use crate::commands::engines::{self, Whose};
use crate::commands::select;
use crate::contexts::BranchHost;
use crate::error::CommandError;
use crate::readiness::{self, CONNECT_WAIT_MAX};
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
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let branch = select::select_one(&args.name, &whose.scope, &engines.branches)?;
    let engine = engines.of(branch);
    let host = engine.host.as_ref();
    let there = host.map_or(settings, |host| &host.settings);
    let waiting = readiness::wait_until_ready(there, ui, vec![branch.clone()], CONNECT_WAIT_MAX);
    waiting.await?;
    let connection = engine.client().connection(&branch.name).await?;
    let url = PgUrl::parse(connection.url.reveal());
    let url = url.map_err(|error| CommandError::new(ExitCode::Internal, UrlError(error)))?;
    let led = match host {
        Some(host) => Some(Led::to(host, &connection).await?),
        None => None,
    };
    let shown = match (args.show_password, &led) {
        (false, None) => url.redacted(),
        (false, Some(led)) => led.url.redacted(),
        (true, None) => connection.url.reveal().to_owned(),
        (true, Some(led)) => led.url.reveal(),
    };
    ui.report(&UrlReport(shown), Format::Text)?;
    if let Some(led) = led {
        led.stay(ui).await;
    }
    Ok(())
}

/// A branch of a cluster under an address of this machine.
pub(super) struct Led {
    /// By which it is reached.
    pub(super) url: PgUrl,
    signals: Signals,
}

impl Led {
    /// Leads to a branch from now on, until this program ends.
    ///
    /// # Errors
    /// When its host is not reached, or nobody could end this program in order.
    pub(super) async fn to(
        host: &BranchHost,
        connection: &BranchConnection,
    ) -> Result<Self, CommandError> {
        let door = host.lead_to_door(connection.port).await?;
        let url = PgUrl::parse(connection.url.reveal());
        let url = url.map_err(|error| CommandError::new(ExitCode::Internal, UrlError(error)))?;
        let signals = Signals::install()
            .map_err(|error| CommandError::new(ExitCode::Internal, SignalsFailure(error)))?;
        let address = Address {
            host: door.ip().to_string(),
            port: door.port(),
        };
        let url = url.with_address(&address);
        Ok(Self { url, signals })
    }

    /// Until somebody ends this program.
    pub(super) async fn stay(mut self, ui: &Ui) {
        ui.note("bough: it leads to the branch until this command ends, by Ctrl-C");
        self.signals.interrupted().await;
    }
}

#[derive(Serialize)]
struct UrlReport(String);

impl Report for UrlReport {
    fn text(&self, _: Page) -> String {
        format!("{}\n", self.0)
    }
}

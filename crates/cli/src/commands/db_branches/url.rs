//! `db-branches url`: a branch's connection string. In a cluster it names a port of this machine that leads to the branch,
//! for as long as the command runs.

use clap::Args;
use model::engine_api::{BranchConnection, BranchView};
use model::pg_url::Address;
use model::{BranchId, BranchName, ExitCode, Namespace, PgUrl};
use serde::Serialize;
use supervisor::{Signals, SignalsError};

use crate::branch_door::{self, Way};
use crate::commands::engines::{self, Whose};
use crate::commands::select;
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

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
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
    let way = branch_door::find_way(host, engine.client(), &branch.name, None).await?;
    let led = Led::of(&way)?;
    let url = match &led {
        Some(led) => led.url.clone(),
        None => parse(&way)?,
    };
    let report = UrlReport::new(branch, &url, &way.connection, args.show_password);
    ui.report(&report, args.output)?;
    if let Some(led) = led {
        led.stay(ui).await;
    }
    Ok(())
}

fn parse(way: &Way) -> Result<PgUrl, CommandError> {
    let url = PgUrl::parse(way.connection.url.reveal());
    url.map_err(|error| CommandError::new(ExitCode::Internal, UrlError(error)))
}

/// A branch under a port of this program, which leads there until it ends.
pub(super) struct Led {
    /// By which it is reached.
    pub(super) url: PgUrl,
    signals: Signals,
}

impl Led {
    /// None where the way leads there without this program.
    ///
    /// # Errors
    /// When nobody could end this program in order.
    pub(super) fn of(way: &Way) -> Result<Option<Self>, CommandError> {
        if !way.is_led {
            return Ok(None);
        }
        let signals = Signals::install()
            .map_err(|error| CommandError::new(ExitCode::Internal, SignalsFailure(error)))?;
        let address = Address {
            host: way.connection.host.clone(),
            port: way.connection.port,
        };
        let url = parse(way)?.with_address(&address);
        Ok(Some(Self { url, signals }))
    }

    /// Until somebody ends this program.
    pub(super) async fn stay(mut self, ui: &Ui) {
        ui.note("bough: it leads to the branch until this command ends, by Ctrl-C");
        self.signals.interrupted().await;
    }
}

#[derive(Serialize)]
struct UrlReport<'a> {
    id: &'a BranchId,
    name: &'a BranchName,
    namespace: &'a Namespace,
    /// The password is hidden unless it was asked for.
    url: String,
    host: &'a str,
    port: u16,
    user: &'a str,
    database: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl<'a> UrlReport<'a> {
    fn new(
        branch: &'a BranchView,
        url: &PgUrl,
        connection: &'a BranchConnection,
        shows_password: bool,
    ) -> Self {
        let password = url.password().filter(|_| shows_password);
        Self {
            id: &branch.id,
            name: &branch.name,
            namespace: &branch.namespace,
            url: if shows_password {
                url.reveal()
            } else {
                url.redacted()
            },
            host: &connection.host,
            port: connection.port,
            user: &connection.user,
            database: &connection.database,
            password: password.map(|password| password.reveal().to_owned()),
        }
    }
}

impl Report for UrlReport<'_> {
    fn text(&self, _: Page) -> String {
        format!("{}\n", self.url)
    }
}

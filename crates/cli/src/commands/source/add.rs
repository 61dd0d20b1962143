//! `source add`: a database gets a name.

use clap::Args;
use model::engine_api::{AddSource, SourceName, SourceRef};
use model::{ExitCode, PgUrl, Secret};

use super::list::SourceList;
use crate::commands::connect_engine;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::source_arg;
use crate::ui::{Format, Ui};

const EXAMPLES: &str = "\
Examples:
  bough source add postgres://reader@db.example:5432/inventory
  bough source add - --name inventory < url.txt      the password stays off the process list

Copying needs a direct address, not a pooler's, and the right to read what is to be copied.";

/// Name a database; asks it who and where it is
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AddArgs {
    /// Its connection string, or `-` to read it from standard input [default: BOUGH_SOURCE_URL]
    url: Option<String>,

    /// The name [default: the database's]
    #[arg(long)]
    name: Option<SourceName>,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Why a source gets no name.
#[derive(Debug, thiserror::Error)]
enum AddError {
    /// A name where a URL belongs.
    #[error("{0} is a name, not a connection string")]
    NotUrl(SourceName),
    /// The URL names no database.
    #[error("the connection string names no database to call the source after")]
    NoDatabase,
    /// The database's name cannot name a source.
    #[error("cannot call the source after its database")]
    Name(#[source] model::engine_api::SourceNameError),
    /// The URL does not parse.
    #[error("cannot read the source's connection string")]
    Url(#[source] model::pg_url::PgUrlError),
}

impl From<AddError> for CommandError {
    fn from(error: AddError) -> Self {
        let hint = match &error {
            AddError::NotUrl(_) | AddError::Url(_) => {
                "a connection string looks like postgres://user:password@host:5432/database"
            }
            AddError::NoDatabase | AddError::Name(_) => "name it with --name",
        };
        Self::new(ExitCode::Usage, error).with_hint(hint)
    }
}

pub(super) async fn run(args: &AddArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let url = match source_arg::resolve(args.url.as_deref(), settings, ui)? {
        SourceRef::Url(url) => url,
        SourceRef::Name(name) => return Err(AddError::NotUrl(name).into()),
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_after_database(&url)?,
    };
    let engine = connect_engine(settings, ui).await?;
    let added = engine.client.add_source(&name, &AddSource { url }).await?;
    ui.report(&SourceList(vec![added]), args.output)?;
    ui.note(&format!(
        "bough db-branches create ID --source {name} makes a branch of it"
    ));
    Ok(())
}

fn name_after_database(url: &Secret) -> Result<SourceName, AddError> {
    let parsed = PgUrl::parse(url.reveal()).map_err(AddError::Url)?;
    let database = parsed.database().ok_or(AddError::NoDatabase)?;
    SourceName::new(database).map_err(AddError::Name)
}

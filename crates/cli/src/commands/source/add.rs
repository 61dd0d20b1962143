//! `source add`: a database gets a name.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use model::engine_api::{AddSource, BaseMode, SourceCare, SourceName, SourceRef};
use model::pg_url::Address;
use model::{ByteSize, ExitCode, PgUrl, Secret};

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
  bough source add --name shop --prepare masks.sql --warm 2 --refresh-every 600
  bough source add --name shop --mode physical       follow it by replication, or say what that lacks

Copying needs the server's own address and the right to read what is to be copied; a pooler's goes to --address. A source
whose role has REPLICATION, and whose server is of a version that is installed here, is followed: its branches are as
fast as those of an unmoved source. Otherwise it is dumped, and the answer says why.";

/// Name a database; asks it who and where it is
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AddArgs {
    /// Its connection string, or `-` to read it from standard input [default: BOUGH_SOURCE_URL]
    url: Option<String>,

    /// The name [default: the database's]
    #[arg(long)]
    name: Option<SourceName>,

    /// A further address of the same server, as files and applications may name it; may be given several times
    #[arg(long = "address", value_name = "HOST:PORT")]
    addresses: Vec<String>,

    /// SQL that runs in every copy before a branch is made of it: masking, trimming, migrations. Where it fails there
    /// is no branch
    #[arg(long, value_name = "FILE.sql")]
    prepare: Option<PathBuf>,

    /// Clones that are kept running whether or not anybody has asked lately
    #[arg(long, value_name = "K", default_value_t = 0)]
    warm: u32,

    /// Look at the source every so many seconds and, where it has moved, copy it again [default: when a branch is asked
    /// for]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(10..))]
    refresh_every: Option<u64>,

    /// The most that a copy takes from the source in a second: 500kB, 20MB
    #[arg(long, value_name = "BYTES")]
    max_rate: Option<ByteSize>,

    /// How its base is kept
    #[arg(long, value_enum, default_value_t)]
    mode: ModeWord,

    /// The connection string for replication, where another role or address grants that [default: BOUGH_REPLICATION_URL]
    #[arg(long, value_name = "URL")]
    replication_url: Option<String>,

    /// Follow by a replication slot even where the source does not bound what it keeps (max_slot_wal_keep_size): an engine
    /// that is away for long could then fill the source's disk
    #[arg(long)]
    unbounded_slot: bool,

    /// Follow by this physical replication slot, which an administrator made on the source for this base alone: it keeps
    /// what the base needs while the engine is away, and is never dropped from here. Means --mode physical
    #[arg(long, value_name = "NAME")]
    slot: Option<String>,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How the base of a source is kept.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ModeWord {
    /// Physical where the source grants and allows it, else logical
    #[default]
    Auto,
    /// Followed file by file, by replication; an error where the source does not grant or allow it
    Physical,
    /// Followed by logical replication where its owner publishes every table and grants a slot; else dumped, and dumped
    /// again where the source has moved
    Logical,
}

impl From<ModeWord> for BaseMode {
    fn from(word: ModeWord) -> Self {
        match word {
            ModeWord::Auto => Self::Auto,
            ModeWord::Physical => Self::Physical,
            ModeWord::Logical => Self::Logical,
        }
    }
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
    /// An address that is none.
    #[error("{0:?} is no address of a server")]
    Address(String),
    /// The SQL file cannot be read.
    #[error("cannot read {0}")]
    Prepare(PathBuf, #[source] std::io::Error),
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
            AddError::Address(_) => "an address looks like db.example:5432",
            AddError::Prepare(..) => "--prepare takes a file of SQL statements",
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
    let replication_url = args.replication_url.as_deref();
    let care = SourceCare {
        replication_url: source_arg::resolve_replication(replication_url, settings, ui)?,
        ..care(args)?
    };
    let engine = connect_engine(settings, ui).await?;
    let wanted = AddSource { url, care };
    let added = engine.client.add_source(&name, &wanted).await?;
    ui.report(&SourceList(vec![added]), args.output)?;
    ui.note(&format!(
        "bough db-branches create ID --source {name} makes a branch of it"
    ));
    Ok(())
}

/// How the source is to be copied and kept.
fn care(args: &AddArgs) -> Result<SourceCare, AddError> {
    let mut addresses = args.addresses.iter();
    if let Some(wrong) = addresses.find(|text| text.parse::<Address>().is_err()) {
        return Err(AddError::Address(wrong.clone()));
    }
    let prepare = args.prepare.as_ref().map(|path| {
        let read = std::fs::read_to_string(path).map(Secret::new);
        read.map_err(|source| AddError::Prepare(path.clone(), source))
    });
    Ok(SourceCare {
        addresses: args.addresses.clone(),
        prepare: prepare.transpose()?,
        warm: args.warm,
        refresh_seconds: args.refresh_every,
        rate_bytes_max: args.max_rate,
        mode: args.mode.into(),
        replication_url: None,
        unbounded_slot: args.unbounded_slot,
        slot: args.slot.clone(),
    })
}

fn name_after_database(url: &Secret) -> Result<SourceName, AddError> {
    let parsed = PgUrl::parse(url.reveal()).map_err(AddError::Url)?;
    let database = parsed.database().ok_or(AddError::NoDatabase)?;
    SourceName::new(database).map_err(AddError::Name)
}

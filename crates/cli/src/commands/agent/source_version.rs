//! `bough agent source-version`: which PostgreSQL a source is, asked from where this runs: beside a target, or in a branch
//! host. Its URL comes as one line on standard input, so that no list of processes has it.

use std::io;
use std::time::Duration;

use clap::Args;
use engine::source::{SourceAccess, SourceError};
use model::{ExitCode, PgUrl};
use tokio::time::timeout;

use super::{runtime, say};
use crate::error::CommandError;

/// How long the source may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Ask a source for its version
#[derive(Debug, Args)]
pub(super) struct SourceVersionArgs {}

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
enum VersionError {
    #[error("no URL came on standard input")]
    Input(#[source] io::Error),
    #[error("the URL on standard input is none")]
    Url(#[source] model::pg_url::PgUrlError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the source does not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
}

/// Writes the major version as one line.
pub(super) fn run(_: &SourceVersionArgs) -> Result<(), CommandError> {
    let told = runtime()?.block_on(ask());
    let major = told.map_err(|error| CommandError::new(ExitCode::Branch, error))?;
    say(&major.to_string());
    Ok(())
}

async fn ask() -> Result<model::PgMajor, VersionError> {
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(VersionError::Input)?;
    let url = PgUrl::parse(line.trim_end_matches('\n')).map_err(VersionError::Url)?;
    let access = SourceAccess {
        url,
        database: None,
        settings: std::collections::BTreeMap::new(),
        gateway: None,
    };
    let asked = timeout(ANSWER_WITHIN, access.version()).await;
    Ok(asked.map_err(|_| VersionError::Silent)??)
}

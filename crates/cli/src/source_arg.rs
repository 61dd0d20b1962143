//! Where a branch's data comes from, as people write it: a name, a connection string, or `-` for one on standard input.

use std::io::{self, Read};

use model::engine_api::{SourceName, SourceNameError, SourceRef};
use model::pg_url::PgUrlError;
use model::{ExitCode, PgUrl, Secret};

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

/// The longest connection string that is read from standard input.
const URL_BYTES_MAX: u64 = 64 << 10;

/// Why a text is no source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceArgError {
    /// Neither a URL nor a name.
    #[error("cannot use this as a source")]
    Name(#[source] SourceNameError),
    /// A connection string that does not parse. Never shows it.
    #[error("cannot read the source's connection string")]
    Url(#[source] PgUrlError),
    /// Standard input broke.
    #[error("cannot read the source's connection string from standard input")]
    Input(#[source] io::Error),
    /// Nothing names a source.
    #[error("no source is named")]
    Absent,
}

impl From<SourceArgError> for CommandError {
    fn from(error: SourceArgError) -> Self {
        let hint = match &error {
            SourceArgError::Absent => {
                "name a source, give a URL, `-` to read one from standard input, or set BOUGH_SOURCE_URL"
            }
            SourceArgError::Name(_) | SourceArgError::Url(_) | SourceArgError::Input(_) => {
                "a connection string looks like postgres://user:password@host:5432/database"
            }
        };
        Self::new(ExitCode::Usage, error).with_hint(hint)
    }
}

/// The source that `text` means, or BOUGH_SOURCE_URL where there is none. Warns of a password that the process list
/// shows.
///
/// # Errors
/// [`SourceArgError`] when neither is a source.
pub(crate) fn resolve(
    text: Option<&str>,
    settings: &Settings,
    ui: &Ui,
) -> Result<SourceRef, SourceArgError> {
    let source = match (text, &settings.source_url) {
        (Some("-"), _) => SourceRef::Url(read_url()?),
        (Some(text), _) if is_url(text) => SourceRef::Url(Secret::new(text)),
        (Some(text), _) => {
            let name = SourceName::new(text).map_err(SourceArgError::Name)?;
            return Ok(SourceRef::Name(name));
        }
        (None, Some(url)) => SourceRef::Url(url.clone()),
        (None, None) => return Err(SourceArgError::Absent),
    };
    if let SourceRef::Url(secret) = &source {
        let url = PgUrl::parse(secret.reveal()).map_err(SourceArgError::Url)?;
        let was_argument = text.is_some_and(|text| text != "-");
        if was_argument && url.password().is_some() {
            ui.warn(
                "every account of this machine can read the password in this command's arguments",
            );
            ui.hint("give `-` and the URL on standard input, or set BOUGH_SOURCE_URL");
        }
    }
    Ok(source)
}

/// The connection string for replication that `text` is, or BOUGH_REPLICATION_URL where there is none; none where neither
/// is there. Warns like [`resolve`].
///
/// # Errors
/// [`SourceArgError`] when it is no connection string.
pub(crate) fn resolve_replication(
    text: Option<&str>,
    settings: &Settings,
    ui: &Ui,
) -> Result<Option<Secret>, SourceArgError> {
    let secret = match (text, &settings.replication_url) {
        (Some(text), _) => Secret::new(text),
        (None, Some(url)) => url.clone(),
        (None, None) => return Ok(None),
    };
    let url = PgUrl::parse(secret.reveal()).map_err(SourceArgError::Url)?;
    if text.is_some() && url.password().is_some() {
        ui.warn("every account of this machine can read the password in this command's arguments");
        ui.hint("set BOUGH_REPLICATION_URL instead");
    }
    Ok(Some(secret))
}

/// No name of a source holds `:` or `=`, and every connection string one of them.
fn is_url(text: &str) -> bool {
    text.contains([':', '='])
}

fn read_url() -> Result<Secret, SourceArgError> {
    let mut text = String::new();
    io::stdin()
        .take(URL_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(SourceArgError::Input)?;
    Ok(Secret::new(text.trim()))
}

//! What ends the service: one line for each reason and one for what to do about it.

use std::error::Error;

use crate::database::ConnectError;
use crate::http::ServeError;
use crate::migrations::MigrationError;
use crate::settings::UrlError;

/// Why the service did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    DatabaseUrl(#[from] UrlError),
    #[error("the process cannot be prepared")]
    Process(#[source] std::io::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Migration(#[from] MigrationError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Failure {
    /// What whoever starts the service can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::DatabaseUrl(error) => error.hint(),
            Self::Process(_) => "check the limits on processes, threads and open files",
            Self::Connect(error) => error.hint(),
            Self::Migration(error) => error.hint(),
            Self::Serve(error) => error.hint(),
        }
    }
}

/// An error and its causes in one line, outermost first.
pub(crate) fn explain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Some libraries end their own text with that of their source.
        if !line.ends_with(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
        next = error.source();
    }
    line.replace(['\n', '\r'], " ")
}

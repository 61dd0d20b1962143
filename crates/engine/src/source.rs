//! Sources: shared databases, which are only ever read.
//!
//! Owns what a source is asked: who and where it is (`facts`), whether it has moved (`movement`, through a
//! `contact` that is kept for a while), whether it can be read (`access`), its roles (`roles`), whether a pooler stands
//! before it (`pooler`), and the ways to those that only somebody else's network reaches (`gateways`). Every question is
//! asked in a read-only transaction and by simple queries, so that nothing stays behind in a session that a pooler hands
//! to somebody else. Leaves copying to `base::copy`.

pub mod access;
pub mod contact;
pub mod facts;
pub mod gateways;
pub mod movement;
pub mod pooler;
pub mod roles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::pg_url::Address;
use model::pg_version::PG_MAJOR_MIN;
use model::{PgMajor, PgUrl};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::postgres::connect::{ConnectError, Gateway, Peer, Session, connect_by, connect_peer};
use facts::Facts;

/// How long a source may take for one answer: the catalogues of a hundred thousand tables take less.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);

/// How a source is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAccess {
    /// Its URL, with the password.
    pub url: PgUrl,
    /// The database; none: the one that the URL names.
    pub database: Option<String>,
    /// Settings for every connection to it, such as `app.tenant` for its row security.
    pub settings: BTreeMap<String, String>,
    /// The way to it, where this machine does not reach it by itself.
    pub gateway: Option<Arc<Gateway>>,
}

/// Why a source did not answer a question.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no connection to it.
    #[error("cannot connect to the source")]
    Connect(#[from] ConnectError),
    /// It refused a question, or went away.
    #[error("cannot read {what} of the source")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Who answers there keeps no sessions.
    #[error(
        "a pooler answers at {address} whose clients take turns at its sessions: a copy through it would not be of one moment, \
         and would leave its settings to others"
    )]
    Pooled {
        /// Where.
        address: Address,
    },
    /// Who answers there keeps settings from the server that the copy needs.
    #[error(
        "a pooler or proxy answers at {address}, and the settings of a connection do not reach the server through it"
    )]
    NoOptions {
        /// Where.
        address: Address,
    },
    /// It is older than any version that is copied.
    #[error("the source is PostgreSQL {major}, and {PG_MAJOR_MIN} is the oldest that is copied")]
    TooOld {
        /// Its version.
        major: PgMajor,
    },
    /// It took the question and did not answer.
    #[error("the source did not say within {} s: {what}", ANSWER_TIME_MAX.as_secs())]
    Silent {
        /// What was asked for.
        what: &'static str,
    },
    /// It answered something that none of PostgreSQL's versions answers.
    #[error("the source's {what} makes no sense: {answer:?}")]
    Answer {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        answer: String,
    },
}

impl SourceError {
    /// The same again, where the source did not answer in time; none where it did.
    pub fn as_silence(&self) -> Option<Self> {
        match self {
            Self::Silent { what } => Some(Self::Silent { what }),
            Self::Connect(ConnectError::TimedOut { address, seconds }) => {
                Some(Self::Connect(ConnectError::TimedOut {
                    address: address.clone(),
                    seconds: *seconds,
                }))
            }
            Self::Connect(_)
            | Self::Ask { .. }
            | Self::Pooled { .. }
            | Self::NoOptions { .. }
            | Self::TooOld { .. }
            | Self::Answer { .. } => None,
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connect(error) => error.hint(),
            Self::Ask { source, .. } if source.is_closed() || source.code().is_none() => Some(
                "the connection to the source was lost: check that it runs, and try again".into(),
            ),
            Self::Silent { .. } => Some(
                "see whether the source is overloaded, or its disk stuck, and try again".into(),
            ),
            Self::Pooled { address } | Self::NoOptions { address } => Some(pooler::hint(address)),
            Self::Ask { .. } | Self::TooOld { .. } | Self::Answer { .. } => None,
        }
    }
}

impl SourceAccess {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`] says what to do about it.
    pub async fn connect(&self) -> Result<Session, ConnectError> {
        let settings = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let gateway = self.gateway.as_deref().map(Gateway::directory);
        connect_by(&self.url, self.database.as_deref(), settings, gateway).await
    }

    /// Connects once more to the server that answered a session.
    ///
    /// # Errors
    /// [`ConnectError`], as from [`SourceAccess::connect`].
    pub async fn connect_to(&self, peer: &Peer) -> Result<Session, ConnectError> {
        let settings = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        connect_peer(&self.url, self.database.as_deref(), settings, peer).await
    }

    /// Asks for its major version alone.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn version(&self) -> Result<PgMajor, SourceError> {
        let session = self.connect().await?;
        Facts::read_version(&session).await.map(|(major, _)| major)
    }

    /// Asks who and where the source really is.
    ///
    /// # Errors
    /// [`SourceError`], also where no copy could be made through who answers there.
    pub async fn facts(&self) -> Result<Facts, SourceError> {
        let session = self.connect().await?;
        pooler::check(self, &session).await?;
        let asked = async {
            let begun = session.begin_read().await;
            begun.map_err(asking("a moment"))?;
            Facts::read(&session).await
        };
        in_time("who it is", asked).await
    }
}

/// Names what was asked for in an error.
pub(crate) fn asking(what: &'static str) -> impl Fn(tokio_postgres::Error) -> SourceError {
    move |source| SourceError::Ask { what, source }
}

/// What is `asked` as a whole, of several statements: a source that does not answer in [`ANSWER_TIME_MAX`] is given up, and
/// the connection is of no more use then. Whoever asks next waits for this answer.
pub(crate) async fn in_time<A>(
    what: &'static str,
    asked: impl Future<Output = Result<A, SourceError>>,
) -> Result<A, SourceError> {
    let answered = tokio::time::timeout(ANSWER_TIME_MAX, asked).await;
    answered.unwrap_or(Err(SourceError::Silent { what }))
}

/// The rows of a simple query, which one round trip brings and which leaves no prepared statement behind. A source that
/// does not answer in [`ANSWER_TIME_MAX`] is given up: the connection is of no more use then.
pub(crate) async fn rows(
    client: &Client,
    what: &'static str,
    query: &str,
) -> Result<Vec<Answer>, SourceError> {
    let answered = tokio::time::timeout(ANSWER_TIME_MAX, client.simple_query(query)).await;
    let messages = answered
        .map_err(|_| SourceError::Silent { what })?
        .map_err(asking(what))?;
    let row = |message| {
        if let SimpleQueryMessage::Row(row) = message {
            Some(Answer { what, row })
        } else {
            None
        }
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// The one row of a simple query.
pub(crate) async fn row(
    client: &Client,
    what: &'static str,
    query: &str,
) -> Result<Answer, SourceError> {
    let mut found = rows(client, what, query).await?;
    let none = || SourceError::Answer {
        what,
        answer: "no row".to_owned(),
    };
    found.pop().ok_or_else(none)
}

/// A row in PostgreSQL's text form.
pub(crate) struct Answer {
    what: &'static str,
    row: SimpleQueryRow,
}

impl Answer {
    /// A column, none where it is NULL.
    pub(crate) fn get(&self, column: usize) -> Option<&str> {
        self.row.get(column)
    }

    /// A column that is never NULL.
    pub(crate) fn text(&self, column: usize) -> Result<String, SourceError> {
        let found = self.get(column).map(str::to_owned);
        found.ok_or_else(|| self.senseless("NULL"))
    }

    /// A number that is never NULL.
    pub(crate) fn number<T: std::str::FromStr>(&self, column: usize) -> Result<T, SourceError> {
        let text = self.get(column).unwrap_or("NULL");
        text.parse().map_err(|_| self.senseless(text))
    }

    /// A truth value; NULL is false.
    pub(crate) fn is(&self, column: usize) -> bool {
        self.get(column) == Some("t")
    }

    fn senseless(&self, answer: &str) -> SourceError {
        SourceError::Answer {
            what: self.what,
            answer: answer.to_owned(),
        }
    }
}

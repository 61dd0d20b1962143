//! The first copy of a followed source: a slot, the database in the slot's snapshot, then a subscription that goes on from
//! there.
//!
//! ```text
//!   fingerprint ─▶ slot ─▶ copy within its snapshot ─▶ fingerprint the same? ─▶ sync ─▶ start ─▶ subscribe
//! ```
//!
//! Owns the order, and what a base remembers of its source. The caller journals the slot's name before and drops the slot
//! when this fails.

use jiff::Timestamp;
use model::engine_api::{CopyProgress, ProblemKind};
use model::{ByteSize, CopySpec, PgMajor};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::fingerprint::Fingerprint;
use super::fitness::Fit;
use super::slot::{self, SlotError};
use super::subscriber::{SUBSCRIPTION, Started, Subscriber, SubscriberError};
use super::{Host, Place, Upstream};
use crate::base::copy::{Burden, CopiedBase, CopyError, CopyRequest, DiskBudget, copy};
use crate::base::lsn::WalShape;
use crate::base::physical::replication::programs;
use crate::postgres::connect::Session;
use crate::postgres::{sql, unnoticed};
use crate::source::{SourceError, asking, in_time};
use crate::volume::{VolumeError, sync};

/// From this version on a subscription applies as its owner, whom row security does not bind, only when told to, and a
/// superuser's need not name a password.
const HAS_RUN_AS_OWNER: PgMajor = PgMajor(16);

/// A source to seed a base of.
#[derive(Debug, Clone, Copy)]
pub struct SeedRequest<'a> {
    /// The source, found fit.
    pub fit: &'a Fit,
    /// The same, as it is reached.
    pub upstream: &'a Upstream,
    /// What this machine has.
    pub host: &'a Host,
    /// Where the base comes to lie: an existing empty directory.
    pub place: &'a Place,
    /// The name of the slot, which is not there yet.
    pub slot: &'a str,
    /// Bytes a second at most that are read of rows; none: as fast as may be.
    pub rate_max: Option<ByteSize>,
    /// Connections to the source that read rows at once.
    pub readers_max: u32,
    /// What the volume has.
    pub disk: DiskBudget,
    /// How long it may burden the source.
    pub burden: Burden,
}

/// What a base remembers of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeded {
    /// What was copied; its position is that of the slot's snapshot.
    pub copied: CopiedBase,
    /// Tells clusters apart.
    pub system_identifier: u64,
    /// How the source's WAL is cut.
    pub shape: WalShape,
    /// The source's definitions.
    pub fingerprint: Fingerprint,
    /// Whether the administrator answers for a slot that the source does not bound.
    #[serde(default)]
    pub unbounded_slot: bool,
    /// The publications.
    pub publications: Vec<String>,
    /// The slot.
    pub slot: String,
    /// When.
    pub seeded_at: Timestamp,
}

/// Why there is no base. Nothing is left running; the directory and the slot are the caller's to remove.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The source did not answer.
    #[error("cannot ask the source")]
    Source(#[from] SourceError),
    /// No programs for it.
    #[error("neither version {major} nor a newer one of PostgreSQL's clients is installed here")]
    NoPrograms {
        /// The source's version.
        major: PgMajor,
    },
    /// There is no slot.
    #[error("cannot make a replication slot")]
    Slot(#[from] SlotError),
    /// The copy failed.
    #[error("cannot copy the source")]
    Copy(#[from] Box<CopyError>),
    /// Definitions changed under it.
    #[error("the source's definitions changed while it was copied")]
    Changed,
    /// Its files could not be written to the disk.
    #[error("cannot write the base to the disk")]
    Volume(#[from] VolumeError),
    /// Its server does not do what it should.
    #[error("cannot follow with the base")]
    Subscriber(#[from] SubscriberError),
    /// It could not subscribe.
    #[error("cannot subscribe to the source")]
    Subscribe(#[source] tokio_postgres::Error),
}

impl SeedError {
    /// The sort of failure.
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::Copy(error) => error.kind(),
            Self::Volume(error) if error.is_full() => ProblemKind::LimitPassed,
            Self::Source(_) | Self::Slot(_) | Self::Changed | Self::Subscribe(_) => {
                ProblemKind::Source
            }
            Self::NoPrograms { .. } | Self::Volume(_) | Self::Subscriber(_) => {
                ProblemKind::Internal
            }
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Changed => Some("ask again".into()),
            Self::Slot(SlotError::TimedOut) => {
                Some("see pg_stat_activity of the source for transactions that stay open".into())
            }
            Self::NoPrograms { .. }
            | Self::Slot(_)
            | Self::Volume(_)
            | Self::Subscriber(_)
            | Self::Subscribe(_) => None,
        }
    }

    /// Whether more room on the disk would help.
    pub fn wants_room(&self) -> bool {
        self.kind() == ProblemKind::LimitPassed
    }
}

/// Copies a source and subscribes to it. A future that is dropped leaves a server that is ending at most: call [`sweep`]
/// on the data directory before removing it.
///
/// # Errors
/// [`SeedError`].
///
/// [`sweep`]: crate::postgres::server::sweep
pub async fn seed(
    request: &SeedRequest<'_>,
    progress: &watch::Sender<Option<CopyProgress>>,
) -> Result<Subscriber, SeedError> {
    let SeedRequest {
        fit,
        upstream,
        host,
        place,
        ..
    } = *request;
    let major = fit.facts.major;
    let installation = programs(&host.installations, major);
    let installation = installation.ok_or(SeedError::NoPrograms { major })?;
    let fingerprint = read_fingerprint(upstream).await?;
    let exported = slot::make(&fit.reach, installation, request.slot).await?;
    let copied = copy(
        &CopyRequest {
            access: &upstream.access,
            copy: &CopySpec::all(),
            version: None,
            within: Some(&exported),
            directory: &place.directory,
            socket_dir: &place.socket_dir,
            installations: &host.installations,
            account: &host.account,
            disk: request.disk,
            burden: request.burden,
            prepare: None,
            rate_max: request.rate_max,
            readers_max: request.readers_max,
            size_max: None,
            clock: host.clock,
        },
        progress,
    )
    .await
    .map_err(Box::new)?;
    if read_fingerprint(upstream).await? != fingerprint {
        return Err(SeedError::Changed);
    }
    // From here on the base survives a crash of the machine.
    let data = place.data();
    let synced = tokio::task::spawn_blocking(move || sync(&data)).await;
    synced.expect("work on files does not panic")?;
    let mut copied = copied;
    copied.notes.splice(0..0, fit.notes.iter().cloned());
    let seeded = Seeded {
        copied,
        system_identifier: fit.system_identifier,
        shape: fit.shape,
        fingerprint,
        unbounded_slot: fit.unbounded_slot,
        publications: fit.publications.clone(),
        slot: request.slot.to_owned(),
        seeded_at: host.clock.now(),
    };
    let statement = subscribe(&seeded, &fit.reach.text(&place.passfile()));
    let started = Started::begin(host.clone(), place.clone(), seeded, &fit.reach).await?;
    let session = started.connect().await.map_err(SubscriberError::from)?;
    let subscribed = unnoticed::run(&session, &[&statement]).await;
    subscribed.map_err(SeedError::Subscribe)?;
    Ok(started.subscriber())
}

/// The source's definitions at this moment.
pub(super) async fn read_fingerprint(upstream: &Upstream) -> Result<Fingerprint, SourceError> {
    let session = upstream.access.connect().await?;
    fingerprint_of(&session).await
}

/// The same by a session, whose transaction is over afterwards.
pub(super) async fn fingerprint_of(session: &Session) -> Result<Fingerprint, SourceError> {
    let asked = async {
        session.begin_read().await.map_err(asking("a moment"))?;
        let fingerprint = Fingerprint::read(session).await?;
        let ended = session.batch_execute("COMMIT").await;
        ended.map_err(asking("a moment"))?;
        Ok(fingerprint)
    };
    in_time("how everything is defined", asked).await
}

/// The statement that subscribes: from the slot that is there, without a copy, for that is here.
fn subscribe(seeded: &Seeded, connection: &str) -> String {
    let publications = sql::idents(seeded.publications.iter().map(String::as_str));
    let as_owner = if seeded.copied.major >= HAS_RUN_AS_OWNER {
        ", run_as_owner = true, password_required = false"
    } else {
        ""
    };
    format!(
        "CREATE SUBSCRIPTION {SUBSCRIPTION} CONNECTION {} PUBLICATION {publications} \
         WITH (create_slot = false, slot_name = {}, copy_data = false, streaming = off{as_owner})",
        sql::literal(connection),
        sql::literal(&seeded.slot),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::PgUrl;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use std::time::Duration;

    use super::*;
    use crate::base::moment::Moment;
    use crate::clock::Clock;
    use crate::source::SourceAccess;
    use crate::source::movement::Position;

    /// Lets everybody in, and answers nothing from then on.
    async fn let_in_and_say_nothing(listener: TcpListener) {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut said = [0; 4096];
        let asked = client.read(&mut said).await.unwrap();
        assert!(asked > 0, "a session begins with a word");
        // AuthenticationOk, ReadyForQuery.
        let welcome = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
        client.write_all(welcome).await.unwrap();
        while client.read(&mut said).await.unwrap() > 0 {}
    }

    async fn silent_source() -> Session {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        tokio::spawn(let_in_and_say_nothing(listener));
        let url = format!("postgres://app@{place}/shop?sslmode=disable");
        let access = SourceAccess {
            url: PgUrl::parse(&url).unwrap(),
            database: None,
            settings: BTreeMap::new(),
            gateway: None,
        };
        access.connect().await.unwrap()
    }

    /// What it is told, once two hours have passed at most.
    async fn told<A>(asked: impl Future<Output = Result<A, SourceError>>) -> Option<SourceError> {
        let told = tokio::time::timeout(Duration::from_secs(2 * 3600), asked).await;
        told.expect("somebody waits for ever").err()
    }

    #[tokio::test]
    async fn a_source_that_lets_us_in_and_never_answers_is_given_up_whatever_is_asked() {
        let session = silent_source().await;
        let shape = WalShape {
            page_bytes: 8192,
            segment_bytes: 16 << 20,
        };
        let clock = Clock::start();
        // From here on waits pass at once.
        tokio::time::pause();
        for told in [
            told(fingerprint_of(&session)).await,
            told(Moment::read(&session, shape, clock)).await,
            told(Position::begin(&session)).await,
        ] {
            assert!(matches!(told, Some(SourceError::Silent { .. })), "{told:?}");
        }
    }
}

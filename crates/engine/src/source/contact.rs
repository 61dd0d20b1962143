//! A connection to a source that is kept for a short while, so that asking whether it has moved costs no login.
//!
//! Owns when it may be used again: by whoever comes with the very same access, and only for `CONTACT_TIME_MAX` after
//! it was opened, for a name or a proxy may lead to another server by then. Also that those who wait for a source that does
//! not answer are told together, not one after another. Leaves the questions to callers.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::movement::{Acquaintance, Position};
use super::{SourceAccess, SourceError, in_time};
use crate::clock::Clock;
use crate::postgres::connect::Session;

/// How long one connection is used: a source that fails over is asked anew within it, and one idle connection is all
/// that it ever holds.
const CONTACT_TIME_MAX: Duration = Duration::from_secs(30);

/// What a question is about.
const WHAT: &str = "where it stands";

/// Something that a source is asked.
pub trait Question: Sync {
    /// What it answers.
    type Answer: Send;

    /// Asks it.
    ///
    /// # Errors
    /// [`SourceError`].
    fn ask(
        &self,
        session: &Session,
    ) -> impl Future<Output = Result<Self::Answer, SourceError>> + Send;
}

/// The connection that is kept, if any, and what is known of the source.
#[derive(Debug, Default)]
pub struct Contact {
    kept: Arc<Mutex<Option<Kept>>>,
    known: Known,
    silences: std::sync::Mutex<Silences>,
}

/// How often the source did not answer in time, and whom last.
#[derive(Debug, Default)]
struct Silences {
    count: u64,
    last: Option<(SourceAccess, SourceError)>,
}

/// When somebody's wait began.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// What the last question about the position found.
type Known = Mutex<Option<Arc<Acquaintance>>>;

#[derive(Debug)]
struct Kept {
    session: Session,
    access: SourceAccess,
    opened_at: Timestamp,
}

impl Contact {
    fn silences(&self) -> MutexGuard<'_, Silences> {
        self.silences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beginning of a wait for a turn with the source.
    pub fn mark(&self) -> Mark {
        Mark(self.silences().count)
    }

    /// What somebody with the very same access was told since: that the source does not answer in time. Who waited as long
    /// need not find out again.
    pub fn silence_since(&self, mark: Mark, access: &SourceAccess) -> Option<SourceError> {
        let silences = self.silences();
        let last = silences.last.as_ref().filter(|_| silences.count > mark.0);
        let (of, told) = last?;
        if of == access {
            told.as_silence()
        } else {
            None
        }
    }

    /// Tells those who wait, where that is how a question ended.
    pub fn note(&self, access: &SourceAccess, error: &SourceError) {
        let Some(told) = error.as_silence() else {
            return;
        };
        let mut silences = self.silences();
        silences.count += 1;
        silences.last = Some((access.clone(), told));
    }

    /// Where the source stands, asked through the kept connection or through a new one that is kept from here on.
    ///
    /// # Errors
    /// [`SourceError`] when a new connection cannot be had or does not answer.
    pub async fn position(
        &self,
        access: &SourceAccess,
        clock: Clock,
    ) -> Result<Position, SourceError> {
        self.ask(access, clock, &Where(&self.known)).await
    }

    /// The answer to a question, asked likewise. The question leaves no transaction open.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn ask<Q: Question>(
        &self,
        access: &SourceAccess,
        clock: Clock,
        question: &Q,
    ) -> Result<Q::Answer, SourceError> {
        let mark = self.mark();
        let mut slot = self.kept.lock().await;
        if let Some(told) = self.silence_since(mark, access) {
            return Err(told);
        }
        let asked = Self::ask_in_turn(&mut slot, access, clock, question).await;
        let (answer, opened_at) = asked.inspect_err(|error| self.note(access, error))?;
        if let Some(opened_at) = opened_at {
            tokio::spawn(close_in_time(Arc::downgrade(&self.kept), opened_at));
        }
        Ok(answer)
    }

    /// The answer, and when the connection was opened that is kept from here on, where it is another.
    async fn ask_in_turn<Q: Question>(
        slot: &mut Option<Kept>,
        access: &SourceAccess,
        clock: Clock,
        question: &Q,
    ) -> Result<(Q::Answer, Option<Timestamp>), SourceError> {
        if let Some(kept) = slot.take().filter(|kept| kept.serves(access, clock.now())) {
            // Whatever is the matter with it, a new one says it better.
            if let Ok(answer) = in_time(WHAT, question.ask(&kept.session)).await {
                *slot = Some(kept);
                return Ok((answer, None));
            }
        }
        let session = access.connect().await?;
        let answer = in_time(WHAT, question.ask(&session)).await?;
        let opened_at = clock.now();
        *slot = Some(Kept {
            session,
            access: access.clone(),
            opened_at,
        });
        Ok((answer, Some(opened_at)))
    }
}

impl Kept {
    /// Another password must prove itself to the source.
    fn serves(&self, access: &SourceAccess, now: Timestamp) -> bool {
        let age_max = SignedDuration::try_from(CONTACT_TIME_MAX).unwrap_or(SignedDuration::ZERO);
        self.access == *access && now.duration_since(self.opened_at) < age_max
    }
}

/// Where a source stands.
struct Where<'a>(&'a Known);

impl Question for Where<'_> {
    type Answer = Position;

    async fn ask(&self, session: &Session) -> Result<Position, SourceError> {
        Position::ask(session, &mut *self.0.lock().await).await
    }
}

async fn close_in_time(slot: Weak<Mutex<Option<Kept>>>, opened_at: Timestamp) {
    tokio::time::sleep(CONTACT_TIME_MAX).await;
    if let Some(slot) = slot.upgrade() {
        let mut slot = slot.lock().await;
        drop(slot.take_if(|kept| kept.opened_at == opened_at));
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use futures_util::future::join_all;
    use model::PgUrl;

    use super::*;

    /// Connections that came since the last count.
    fn tries(listener: &TcpListener) -> usize {
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| match listener.accept() {
            Ok(_) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        })
        .count()
    }

    #[tokio::test]
    async fn those_who_wait_for_a_source_that_hangs_are_told_together() {
        let hangs = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = hangs.local_addr().unwrap().port();
        let access = |user: &str| SourceAccess {
            url: PgUrl::parse(&format!(
                "postgres://{user}@127.0.0.1:{port}/shop?sslmode=disable&connect_timeout=2"
            ))
            .unwrap(),
            database: None,
            settings: Default::default(),
            gateway: None,
        };
        let (contact, clock) = (Contact::default(), Clock::start());
        let (app, other) = (access("app"), access("other"));
        let asked = join_all((0..8).map(|_| contact.position(&app, clock))).await;
        for answer in asked {
            let told = answer.unwrap_err();
            assert!(told.as_silence().is_some(), "{told:?}");
        }
        assert_eq!(tries(&hangs), 1, "one found it out for all");
        // Who comes later, or otherwise, asks himself.
        contact.position(&app, clock).await.unwrap_err();
        assert_eq!(tries(&hangs), 1);
        let mark = contact.mark();
        contact.position(&app, clock).await.unwrap_err();
        assert!(contact.silence_since(mark, &app).is_some());
        assert!(contact.silence_since(mark, &other).is_none());
        assert!(contact.silence_since(contact.mark(), &app).is_none());
    }
}

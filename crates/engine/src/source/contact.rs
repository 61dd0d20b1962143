//! A connection to a source that is kept for a short while, so that asking whether it has moved costs no login.
//!
//! Owns when it may be used again: by whoever comes with the very same access, and only for `CONTACT_TIME_MAX` after
//! it was opened, for a name or a proxy may lead to another server by then. Leaves the
//! questions to callers.

use std::sync::{Arc, Weak};
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
}

/// What the last question about the position found.
type Known = Mutex<Option<Arc<Acquaintance>>>;

#[derive(Debug)]
struct Kept {
    session: Session,
    access: SourceAccess,
    opened_at: Timestamp,
}

impl Contact {
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
        let mut slot = self.kept.lock().await;
        if let Some(kept) = slot.take().filter(|kept| kept.serves(access, clock.now())) {
            // Whatever is the matter with it, a new one says it better.
            if let Ok(answer) = in_time(WHAT, question.ask(&kept.session)).await {
                *slot = Some(kept);
                return Ok(answer);
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
        tokio::spawn(close_in_time(Arc::downgrade(&self.kept), opened_at));
        Ok(answer)
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

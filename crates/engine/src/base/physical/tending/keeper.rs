//! The hands of `tending`: looks, asks the source where that is due, and does what the machine says.

use std::time::Duration;

use jiff::Timestamp;
use model::{PgMajor, chain};

use super::{Action, Cause, SourceSight, State, step};
use crate::base::followed::cause::Identity;
use crate::base::followed::patience::{self, has_passed};
use crate::base::physical::Upstream;
use crate::base::physical::fitness::takes_us_for_synchronous;
use crate::base::physical::replication::{self, Reach, ReplicationError};
use crate::base::physical::standby::{Progress, Sight, Standby, StandbyError};
use crate::postgres::connect::Session;
use crate::source::{SourceError, asking, in_time, row};

/// How often a source whose changes arrive is asked whether it goes on being fit. Each time is a login.
const ASK_INTERVAL: Duration = Duration::from_secs(60);

/// How a standby is after a look.
pub type Tended = patience::Tended<Progress, Cause>;

/// Looks after one standby.
#[derive(Debug, Default)]
pub struct Keeper {
    state: State,
    asked_at: Option<Timestamp>,
}

impl Keeper {
    /// One look, and what it asks for. Call it every second or so; it is cheap while changes arrive.
    ///
    /// # Errors
    /// [`StandbyError`] when what had to be done failed; the next look finds what is left.
    pub async fn tend(
        &mut self,
        standby: &Standby,
        upstream: &Upstream,
    ) -> Result<Tended, StandbyError> {
        let now = standby.host().clock.now();
        let sight = standby.look().await;
        let source = if self.is_due(&sight, now) {
            self.asked_at = Some(now);
            ask(upstream).await
        } else {
            SourceSight::NotAsked
        };
        let seeded = standby.seeded();
        let origin = Identity {
            system_identifier: seeded.system_identifier,
            major: seeded.major,
        };
        let state = std::mem::take(&mut self.state);
        let (state, action) = step(state, origin, &sight, &source, now);
        self.state = state;
        match action {
            Action::Nothing => {}
            Action::Reconnect => {
                if let Some(reach) = self.find(standby, upstream).await {
                    standby.point_at(reach).await?;
                }
            }
            Action::Restart => standby.restart().await?,
            Action::SeedAgain(cause) => {
                standby
                    .stop(crate::postgres::server::StopMode::Fast)
                    .await?;
                return Ok(Tended::SeedAgain(cause));
            }
        }
        let progress = sight
            .progress
            .filter(|progress| progress.streams_on.is_some());
        standby.show_password(progress.is_none()).await?;
        Ok(match progress {
            Some(progress) => Tended::Following(progress),
            None => self.state.patience.waits(),
        })
    }

    /// Asks the source at the next look, though its changes arrive: somebody doubts that they are its own.
    pub fn doubt(&mut self) {
        self.asked_at = None;
    }

    fn is_due(&self, sight: &Sight, now: Timestamp) -> bool {
        let streams = sight
            .progress
            .is_some_and(|progress| progress.streams_on.is_some());
        let last = self.asked_at;
        let is_old = last.is_none_or(|last| has_passed(last, now, ASK_INTERVAL));
        !streams || is_old
    }

    /// A way to the source that is answered by the same cluster.
    async fn find(&mut self, standby: &Standby, upstream: &Upstream) -> Option<Reach> {
        match find(standby, upstream).await {
            Ok(found) => found,
            Err(said) => {
                self.state.patience.said = Some(said);
                None
            }
        }
    }
}

async fn find(standby: &Standby, upstream: &Upstream) -> Result<Option<Reach>, String> {
    let session = upstream
        .access
        .connect()
        .await
        .map_err(|error| error.to_string())?;
    let ways = Reach::ways(upstream, &session).map_err(|error| error.to_string())?;
    let installations = &standby.host().installations;
    let Some(programs) = replication::programs(installations, standby.seeded().major) else {
        return Ok(ways.into_iter().next());
    };
    let mut last = None;
    for reach in ways {
        match reach.identify(programs).await {
            Ok(identity) if identity.system_identifier == standby.seeded().system_identifier => {
                return Ok(Some(reach));
            }
            Ok(_) => last = Some("another cluster answers there".to_owned()),
            Err(ReplicationError::Refused { answer }) => last = Some(answer),
            Err(error) => last = Some(error.to_string()),
        }
    }
    last.map_or(Ok(None), Err)
}

async fn ask(upstream: &Upstream) -> SourceSight {
    let answered = async {
        let session = upstream.access.connect().await.map_err(SourceError::from)?;
        read(&session).await
    };
    match in_time("how it is", answered).await {
        Ok(sight) => sight,
        Err(error) => SourceSight::Silent { why: chain(&error) },
    }
}

const QUESTIONS: &str = "SELECT current_setting('server_version_num'), \
     CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE') \
       THEN (SELECT system_identifier FROM pg_control_system()) END, \
     EXISTS (SELECT FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')), \
     current_setting('synchronous_standby_names'), \
     CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END";

async fn read(session: &Session) -> Result<SourceSight, SourceError> {
    session.begin_read().await.map_err(asking("a moment"))?;
    let found = row(session, "state", QUESTIONS).await?;
    let number = found.number(0)?;
    Ok(SourceSight::Answers {
        system_identifier: found.get(1).and_then(|text| text.parse().ok()),
        major: PgMajor::from_server_version_num(number),
        has_tablespaces: found.is(2),
        waits_for_us: takes_us_for_synchronous(&found.text(3)?),
        flushed: found.get(4).and_then(|text| text.parse().ok()),
    })
}

//! How far a server in recovery has replayed, and waiting for it.
//!
//! Owns what counts as having everything: the position, and that what streams is the source's own timeline. Positions
//! of two timelines cannot be compared.

use std::time::Duration;

use super::StandbyError;
use crate::base::lsn::Lsn;
use crate::base::moment::Moment;
use crate::base::physical::{Place, control};
use crate::postgres::connect::Session;

/// Pauses between two looks at how far replay is: short ones first, for it is mostly a matter of one round trip.
const LOOK_PAUSE_MIN: Duration = Duration::from_micros(200);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(10);

/// Why a copy does not hold what the source had.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It could not be asked.
    #[error("cannot ask how far the source's changes have come")]
    Ask(#[from] Box<StandbyError>),
    /// It has not come so far in time.
    #[error(
        "the source's changes up to {wanted} have come to {reached} within {:.1} s{}",
        waited.as_secs_f64(),
        if *streams { "" } else { ", and nothing arrives from it" }
    )]
    TimedOut {
        /// Where the source stood.
        wanted: Lsn,
        /// How far they have come.
        reached: Lsn,
        /// Whether more is arriving, on the source's timeline.
        streams: bool,
        /// How long was waited.
        waited: Duration,
    },
}

/// How far a server in recovery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it has replayed.
    pub replayed: Lsn,
    /// The timeline that it is being sent; none while nobody sends.
    pub streams_on: Option<u32>,
    /// Whether replay has paused, as it does when limits no longer suffice.
    pub is_paused: bool,
}

const PROGRESS: &str = "SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn(), '0/0'), \
     (SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'), \
     CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' END";

/// How far the server of a session is.
pub(in crate::base::physical) async fn progress(
    session: &Session,
    place: &Place,
) -> Result<Progress, StandbyError> {
    let what = "its position";
    let asked = |source| StandbyError::Ask { what, source };
    let found = control::rows(session, PROGRESS).await.map_err(asked)?;
    let promoted = || StandbyError::Promoted { data: place.data() };
    let row = found.first().ok_or_else(promoted)?;
    if control::text(row, 0) != "t" {
        return Err(promoted());
    }
    Ok(Progress {
        replayed: control::text(row, 1).parse()?,
        streams_on: control::text(row, 2).parse().ok(),
        is_paused: control::text(row, 3) == "t",
    })
}

/// Waits until the server of a session has replayed what the source had at `moment`, on its timeline.
pub(in crate::base::physical) async fn wait_replayed(
    session: &Session,
    place: &Place,
    moment: &Moment,
    time_max: Duration,
) -> Result<Progress, WaitError> {
    let mut last = Progress {
        replayed: Lsn(0),
        streams_on: None,
        is_paused: false,
    };
    let reached = async {
        let mut pause = LOOK_PAUSE_MIN;
        loop {
            last = progress(session, place).await.map_err(Box::new)?;
            if holds(last, moment) {
                return Ok(last);
            }
            // Nothing tells of a replay's progress: it is looked at until the deadline.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_PAUSE_MAX);
        }
    };
    match tokio::time::timeout(time_max, reached).await {
        Ok(reached) => reached,
        Err(_) => Err(WaitError::TimedOut {
            wanted: moment.lsn,
            reached: last.replayed,
            streams: last.streams_on.is_some_and(|line| moment.line.takes(line)),
            waited: time_max,
        }),
    }
}

/// Positions of two timelines cannot be compared, so that only what streams on the source's own counts.
fn holds(progress: Progress, moment: &Moment) -> bool {
    let on_line = progress
        .streams_on
        .is_some_and(|line| moment.line.takes(line));
    on_line && progress.replayed >= moment.lsn
}

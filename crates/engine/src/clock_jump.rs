//! What a jump of the machine's clock between two engines means to the times in the catalogue: they follow it, once.
//!
//! ```text
//!   an engine of this boot:  told T at steady time S  ->  this one tells T + (now - S) + jump: kept times move by `jump`
//!   none, or another boot:   nobody knows of a jump: the machine's clock is believed
//! ```
//!
//! Else a clock that was set ahead would expire branches, and one that was set back would keep them and let old data
//! pass for young. Owns when a jump counts, and that times move with the clock that tells them, in one step. Leaves
//! which times of a record there are to the records.

use jiff::SignedDuration;

use crate::base::store::SnapshotRecord;
use crate::branch::record::BranchRecord;
use crate::catalogue::{Catalogue, CatalogueError, Together};
use crate::clock::{Clock, Reckoning, moved};

/// Below it, nothing is written: a clock that is corrected bit by bit moves so far in hours.
const JUMP_MIN: SignedDuration = SignedDuration::from_secs(2);

/// Has the catalogue's times follow `clock`, which is that of the engine that starts. Nobody else uses the catalogue yet.
///
/// # Errors
/// [`CatalogueError`]; the times are as they were.
pub(crate) fn follow(
    catalogue: &Catalogue,
    clock: Clock,
    boot_id: &str,
) -> Result<(), CatalogueError> {
    let earlier = catalogue.all::<Reckoning>()?.pop();
    let jump = earlier.and_then(|earlier| clock.jump_since(&earlier, boot_id));
    let mut together = Together::default();
    match jump {
        Some(jump) if jump.abs() < JUMP_MIN => return Ok(()),
        Some(jump) => {
            tracing::warn!(seconds = jump.as_secs(), "the machine's clock has jumped");
            for mut branch in catalogue.all::<BranchRecord>()? {
                branch.hold.follow_clock(jump);
                branch.ready_at = branch.ready_at.map(|at| moved(at, jump));
                together.add(&branch)?;
            }
            for mut snapshot in catalogue.all::<SnapshotRecord>()? {
                snapshot.follow_clock(jump);
                together.add(&snapshot)?;
            }
        }
        None => {}
    }
    together.add(&clock.reckoning(boot_id))?;
    catalogue.put_together(&together)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use model::{BranchId, BranchName, CopySpec, Namespace, Secret, Ttl};

    use super::*;
    use crate::branch::hold::Hold;
    use crate::branch::record::{ApplicationAccess, Spec};
    use crate::branch::state::State;

    const BOOT: &str = "one boot";
    const TTL_SECONDS: i64 = 300;

    /// A branch that nobody has held since `at`.
    fn idle(at: Timestamp) -> BranchRecord {
        let id = BranchId::new("left").unwrap();
        let mut hold = Hold::new(Ttl(TTL_SECONDS.unsigned_abs()));
        hold.settle(at);
        BranchRecord {
            name: BranchName::of(&Namespace::default(), &id),
            id,
            namespace: Namespace::default(),
            spec: Spec {
                url: Secret::new("postgres://app@db/shop"),
                proxy: None,
                database: None,
                copy: CopySpec::all(),
                version: None,
                connection_settings: std::collections::BTreeMap::new(),
                max_age_seconds: None,
            },
            state: State::AwaitingSnapshot,
            hold,
            clone: None,
            port: 1,
            created_at: at,
            ready_at: Some(at),
            application_access: ApplicationAccess::Unsure,
            origin: None,
            boot_id: None,
            unsynced_on: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// When the one branch expires.
    fn expiry(catalogue: &Catalogue) -> i64 {
        let branches = catalogue.all::<BranchRecord>().unwrap();
        branches[0].hold.expires_at().unwrap().as_second()
    }

    #[tokio::test]
    async fn what_is_left_of_a_ttl_outlives_every_jump_between_two_engines() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("catalogue.redb");
        let catalogue = Arc::new(Catalogue::open(&path).unwrap());
        // Told at the steady second, by a clock that is so many seconds off.
        let start = |steady: i64, off: i64| {
            let clock = Clock::told(at(1_000_000 + steady + off), steady);
            follow(&catalogue, clock, BOOT).unwrap();
        };
        start(100, 0);
        catalogue.put(&idle(at(1_000_100))).await.unwrap();
        let end = 1_000_100 + TTL_SECONDS;
        start(110, 7200);
        assert_eq!(expiry(&catalogue), end + 7200);
        start(120, 7200);
        assert_eq!(expiry(&catalogue), end + 7200, "it was followed once");
        start(130, -3600);
        assert_eq!(expiry(&catalogue), end - 3600);
        start(140, 0);
        assert_eq!(expiry(&catalogue), end);
        let branches = catalogue.all::<BranchRecord>().unwrap();
        assert_eq!(branches[0].ready_at, Some(at(1_000_100)));
        assert_eq!(branches[0].created_at, at(1_000_100));
    }

    #[tokio::test]
    async fn of_another_boot_nobody_knows_how_long_ago_it_was() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("catalogue.redb");
        let catalogue = Arc::new(Catalogue::open(&path).unwrap());
        follow(&catalogue, Clock::told(at(1_000_000), 100), BOOT).unwrap();
        catalogue.put(&idle(at(1_000_000))).await.unwrap();
        let next = Clock::told(at(1_009_000), 10);
        follow(&catalogue, next, "another boot").unwrap();
        assert_eq!(expiry(&catalogue), 1_000_000 + TTL_SECONDS);
        // From there on, it is that boot's clock that jumps.
        let ahead = Clock::told(at(1_009_610), 20);
        follow(&catalogue, ahead, "another boot").unwrap();
        assert_eq!(expiry(&catalogue), 1_000_600 + TTL_SECONDS);
    }
}

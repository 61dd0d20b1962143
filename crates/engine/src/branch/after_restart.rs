//! What a record of an earlier engine means to this one: a server that may live on, or files that may be cut. Pure.
//!
//! ```text
//!   the same boot:  READY -> STARTING, which adopts the server; every other state does its work again
//!   another boot:   what a server had in memory is lost: STARTING, READY, ASLEEP -> FAILING; CLONING -> made anew.
//!                   A branch that was stopped and written to the disk has lost nothing: as with the same boot
//!   another mount:  CLONING -> made anew; whether the rest is whole the start finds out (`work`)
//! ```

use jiff::Timestamp;

use super::record::BranchRecord;
use super::state::{AfterRemoval, Failure, State};
use crate::machine::Machine;

/// Where and when this engine runs.
#[derive(Debug, Clone)]
pub(super) struct Now {
    /// The time.
    pub(super) time: Timestamp,
    /// The boot of the machine.
    pub(super) boot_id: String,
    /// The mount of the volume, where it can be told.
    pub(super) volume_mount: Option<u64>,
}

impl Now {
    /// As this machine says.
    pub(super) fn of(machine: &Machine) -> Self {
        Self {
            time: machine.clock.now(),
            boot_id: machine.boot_id.clone(),
            volume_mount: machine.volume_mount,
        }
    }
}

/// What a record of an earlier engine means to this one.
pub(super) fn recover(mut record: BranchRecord, now: &Now) -> BranchRecord {
    record.hold.recover(now.time);
    record.unsynced_on = record.unsynced_on.or(now.volume_mount);
    let since = Since {
        rebooted: record
            .boot_id
            .as_ref()
            .is_some_and(|boot| *boot != now.boot_id),
        remounted: record.unsynced_on != now.volume_mount,
    };
    record.state = resume(record.state, since);
    record
}

/// What has happened since the record was written.
#[derive(Debug, Clone, Copy)]
struct Since {
    rebooted: bool,
    remounted: bool,
}

fn resume(
    state: State,
    Since {
        rebooted,
        remounted,
    }: Since,
) -> State {
    match state {
        // Its files may have been cut; nobody has used it yet.
        State::Cloning { .. } if rebooted || remounted => State::Deleting(AfterRemoval::Anew),
        State::Starting { .. }
        | State::Ready { .. }
        | State::FallingAsleep { .. }
        | State::Asleep { .. }
            if rebooted =>
        State::Failing(Failure {
            message: "the branch was lost when the machine restarted: branches keep their data in memory first".to_owned(),
            hint: Some("ask for it again: it is made from scratch".to_owned()),
        }),
        // The server may have outlived the engine: starting adopts it.
        State::Ready { snapshot, restarts } => State::Starting { snapshot, restarts },
        State::Gone => State::Deleting(AfterRemoval::Gone),
        state @ (State::AwaitingSnapshot
        | State::Cloning { .. }
        | State::Starting { .. }
        | State::FallingAsleep { .. }
        | State::Asleep { .. }
        | State::Failing(_)
        | State::Failed(_)
        | State::Deleting(_)) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SnapshotName;

    const SAME: Since = Since {
        rebooted: false,
        remounted: false,
    };
    const REBOOTED: Since = Since {
        rebooted: true,
        remounted: true,
    };
    const REMOUNTED: Since = Since {
        rebooted: false,
        remounted: true,
    };

    fn started(restarts: u32) -> State {
        State::Starting {
            snapshot: None,
            restarts,
        }
    }

    fn ready(restarts: u32) -> State {
        State::Ready {
            snapshot: None,
            restarts,
        }
    }

    #[test]
    fn a_server_that_outlived_its_engine_is_started_which_adopts_it() {
        assert_eq!(resume(ready(2), SAME), started(2));
        assert_eq!(resume(ready(2), REMOUNTED), started(2));
    }

    #[test]
    fn what_a_server_had_in_memory_is_lost_with_the_boot_and_told() {
        let asleep = State::Asleep { snapshot: None };
        let falling = State::FallingAsleep { snapshot: None };
        for state in [ready(0), started(0), asleep, falling] {
            let State::Failing(failure) = resume(state.clone(), REBOOTED) else {
                panic!("{state:?} is not lost");
            };
            assert!(failure.message.contains("restarted") && failure.hint.is_some());
        }
    }

    #[test]
    fn a_clone_that_may_have_been_cut_is_made_anew() {
        let cloning = State::Cloning {
            snapshot: SnapshotName::new("a", 1),
        };
        for since in [REBOOTED, REMOUNTED] {
            let anew = State::Deleting(AfterRemoval::Anew);
            assert_eq!(resume(cloning.clone(), since), anew);
        }
        assert_eq!(resume(cloning.clone(), SAME), cloning);
    }

    #[test]
    fn what_no_server_held_goes_on_where_it_was() {
        let failure = Failure {
            message: "no room".to_owned(),
            hint: None,
        };
        for state in [
            State::AwaitingSnapshot,
            State::Failed(failure.clone()),
            State::Failing(failure),
            State::Deleting(AfterRemoval::Gone),
        ] {
            assert_eq!(resume(state.clone(), REBOOTED), state);
        }
        let gone = State::Deleting(AfterRemoval::Gone);
        assert_eq!(resume(State::Gone, SAME), gone);
    }
}

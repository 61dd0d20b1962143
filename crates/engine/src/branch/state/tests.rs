//! The machine, event by event and over random schedules.

use proptest::prelude::*;

use super::*;

fn snapshot() -> SnapshotName {
    SnapshotName::new("0123456789abcdef", 1)
}

fn failure() -> Failure {
    Failure {
        message: "no".to_owned(),
        hint: None,
    }
}

fn run(events: impl IntoIterator<Item = Event>) -> State {
    events
        .into_iter()
        .fold(State::AwaitingSnapshot, |state, event| {
            state.step(event).unwrap()
        })
}

#[test]
fn a_branch_becomes_ready_and_goes() {
    let ready = run([
        Event::SnapshotReady(snapshot()),
        Event::Cloned,
        Event::Started,
    ]);
    assert_eq!(
        ready,
        State::Ready {
            snapshot: Some(snapshot()),
            restarts: 0
        }
    );
    let deleting = ready.step(Event::Expired).unwrap();
    assert_eq!(deleting.work(), Work::Remove);
    assert_eq!(deleting.step(Event::Removed).unwrap(), State::Gone);
}

#[test]
fn a_snapshot_is_kept_for_as_long_as_files_may_stand_on_it() {
    let mut state = run([Event::SnapshotReady(snapshot())]);
    for event in [
        Event::Cloned,
        Event::Started,
        Event::QuietLong,
        Event::Stopped,
        Event::Knocked,
    ] {
        assert_eq!(state.snapshot(), Some(&snapshot()), "{}", state.word());
        state = state.step(event).unwrap();
    }
    assert_eq!(state.snapshot(), Some(&snapshot()));
    let deleting = state.step(Event::DeleteAsked).unwrap();
    assert_eq!(deleting.snapshot(), None);
    let denied = State::Gone.step(Event::Started).unwrap_err();
    let told = "a branch that is gone does not take Started";
    assert_eq!(denied.to_string(), told);
}

#[test]
fn a_branch_sleeps_and_wakes() {
    let asleep = run([
        Event::CloneTaken(Some(snapshot())),
        Event::QuietLong,
        Event::Stopped,
    ]);
    assert_eq!(asleep.work(), Work::Rest);
    let waking = asleep.step(Event::Knocked).unwrap();
    assert_eq!(waking.work(), Work::Start);
    assert_eq!(waking.step(Event::Started).unwrap().work(), Work::Serve);
}

#[test]
fn a_server_that_does_not_stop_is_served_again() {
    let falling = run([Event::CloneTaken(Some(snapshot())), Event::QuietLong]);
    let back = falling.step(Event::StopFailed).unwrap();
    assert_eq!(back.work(), Work::Start);
    assert_eq!(back.snapshot(), Some(&snapshot()));
}

#[test]
fn a_failure_leaves_nothing_and_can_be_rebuilt() {
    let failing = run([Event::SnapshotReady(snapshot()), Event::Failed(failure())]);
    assert_eq!(failing.work(), Work::Remove);
    let failed = failing.step(Event::Removed).unwrap();
    assert_eq!(failed, State::Failed(failure()));
    assert_eq!(
        failed.step(Event::Rebuild).unwrap(),
        State::AwaitingSnapshot
    );
}

#[test]
fn who_asks_while_what_failed_is_being_removed_gets_it_anew() {
    let failing = run([Event::SnapshotReady(snapshot()), Event::Failed(failure())]);
    let anew = failing.step(Event::Rebuild).unwrap();
    assert_eq!(anew.work(), Work::Remove);
    assert_eq!(anew.step(Event::Removed).unwrap(), State::AwaitingSnapshot);
}

#[test]
fn a_reset_comes_back_under_the_same_name() {
    let reset = run([
        Event::SnapshotReady(snapshot()),
        Event::Cloned,
        Event::Started,
        Event::ResetAsked,
    ]);
    assert_eq!(reset.step(Event::Removed).unwrap(), State::AwaitingSnapshot);
    let deleted = reset.step(Event::DeleteAsked).unwrap();
    assert_eq!(deleted.step(Event::Removed).unwrap(), State::Gone);
}

#[test]
fn a_server_that_keeps_ending_fails_the_branch() {
    let mut state = run([
        Event::SnapshotReady(snapshot()),
        Event::Cloned,
        Event::Started,
    ]);
    for _ in 0..RESTARTS_MAX {
        state = state.step(Event::ServerExited { forgiven: false }).unwrap();
        state = state.step(Event::Started).unwrap();
    }
    assert!(matches!(
        state.step(Event::ServerExited { forgiven: false }),
        Ok(State::Failing(_))
    ));
    assert!(matches!(
        state.step(Event::ServerExited { forgiven: true }),
        Ok(State::Starting { restarts: 1, .. })
    ));
}

#[test]
fn a_start_that_fails_is_tried_again_before_data_is_given_up() {
    let mut state = run([Event::SnapshotReady(snapshot()), Event::Cloned]);
    for tried in 1..=RESTARTS_MAX {
        state = state.step(Event::StartFailed(failure())).unwrap();
        assert!(matches!(&state, State::Starting { restarts, .. } if *restarts == tried));
    }
    let given_up = state.step(Event::StartFailed(failure())).unwrap();
    assert_eq!(given_up, State::Failing(failure()));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::SnapshotReady(snapshot())),
        Just(Event::SnapshotGone),
        Just(Event::Cloned),
        Just(Event::Started),
        Just(Event::Failed(failure())),
        Just(Event::StartFailed(failure())),
        any::<bool>().prop_map(|forgiven| Event::ServerExited { forgiven }),
        Just(Event::CloneTaken(Some(snapshot()))),
        Just(Event::QuietLong),
        Just(Event::Stopped),
        Just(Event::StopFailed),
        Just(Event::Knocked),
        Just(Event::Removed),
        Just(Event::Rebuild),
        Just(Event::ResetAsked),
        Just(Event::DeleteAsked),
        Just(Event::Expired),
    ]
}

proptest! {
    /// Whatever happened, a branch can be deleted, and then is gone after one removal.
    #[test]
    fn every_branch_can_go(events in proptest::collection::vec(any_event(), 0..40)) {
        let mut state = State::AwaitingSnapshot;
        for event in events {
            state = state.step(event).unwrap_or(state);
        }
        if state != State::Gone {
            let deleting = state.step(Event::DeleteAsked).unwrap();
            prop_assert_eq!(deleting.step(Event::Removed).unwrap(), State::Gone);
        }
    }

    /// Files exist only between the clone and a removal: no state forgets them without `Work::Remove`.
    #[test]
    fn files_are_never_forgotten(events in proptest::collection::vec(any_event(), 0..40)) {
        let mut state = State::AwaitingSnapshot;
        let mut has_files = false;
        for event in events {
            let work = state.work();
            let Ok(next) = state.step(event.clone()) else { continue };
            match work {
                Work::Clone(_) if event == Event::SnapshotGone => {}
                Work::Clone(_) | Work::Start | Work::Serve | Work::Stop => has_files = true,
                Work::Remove if event == Event::Removed => has_files = false,
                Work::AwaitSnapshot | Work::Remove | Work::Rest | Work::Finish => {}
            }
            state = next;
            if matches!(state, State::AwaitingSnapshot | State::Failed(_) | State::Gone) {
                prop_assert!(!has_files, "{:?} forgot its files", state);
            }
        }
    }
}

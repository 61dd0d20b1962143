//! What a look decides, for each sight of base and source.

use super::*;
use crate::base::followed::patience::{REFUSED_MAX, RESTARTS_MAX};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn fingerprint(text: &str) -> Fingerprint {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap()
}

fn origin() -> Origin {
    Origin {
        identity: Identity {
            system_identifier: 7,
            major: PgMajor(16),
        },
        fingerprint: fingerprint("a"),
        unbounded_slot: false,
    }
}

fn progress(applied: u64, follows: bool, errors: u64) -> Progress {
    Progress {
        applied: Lsn(applied),
        follows,
        is_enabled: true,
        errors,
    }
}

fn sight(progress: Progress) -> Sight {
    Sight {
        is_running: true,
        progress: Some(progress),
        has_room: true,
        said: None,
    }
}

fn answers(definitions: &str, slot: SlotState) -> SourceSight {
    SourceSight::Answers {
        system_identifier: Some(7),
        major: PgMajor(16),
        fingerprint: fingerprint(definitions),
        slot,
        waits_for_us: false,
        bounds_slots: true,
        flushed: Some(Lsn(1000)),
    }
}

fn in_order() -> SourceSight {
    answers("a", SlotState::There { is_active: true })
}

fn decide(sight: &Sight, source: &SourceSight) -> Action {
    step(State::default(), &origin(), sight, source, at(0)).1
}

#[test]
fn what_follows_is_left_alone() {
    let sight = sight(progress(10, true, 0));
    assert_eq!(decide(&sight, &in_order()), Action::Nothing);
    assert_eq!(decide(&sight, &SourceSight::NotAsked), Action::Nothing);
}

#[test]
fn a_changed_definition_is_copied_again() {
    let changed = answers("b", SlotState::There { is_active: true });
    assert_eq!(
        decide(&sight(progress(10, true, 0)), &changed),
        Action::SeedAgain(Cause::Own(OwnCause::Definitions))
    );
}

#[test]
fn a_slot_that_is_gone_or_lost_is_made_anew() {
    for (slot, cause) in [
        (SlotState::Gone, Cause::Own(OwnCause::SlotGone)),
        (SlotState::Lost, Cause::Own(OwnCause::SlotLost)),
    ] {
        let decided = decide(&sight(progress(10, false, 0)), &answers("a", slot));
        assert_eq!(decided, Action::SeedAgain(cause));
    }
}

#[test]
fn a_source_that_unbinds_the_slot_is_left_unless_somebody_answers_for_its_disk() {
    let mut unbound = in_order();
    let SourceSight::Answers { bounds_slots, .. } = &mut unbound else {
        unreachable!();
    };
    *bounds_slots = false;
    let follows = sight(progress(10, true, 0));
    assert_eq!(
        decide(&follows, &unbound),
        Action::SeedAgain(Cause::Own(OwnCause::Unbounded))
    );
    let watched = Origin {
        unbounded_slot: true,
        ..origin()
    };
    let decided = step(State::default(), &watched, &follows, &unbound, at(0)).1;
    assert_eq!(decided, Action::Nothing);
}

#[test]
fn a_silent_source_is_waited_for_however_often_its_worker_fails() {
    let mut state = State::default();
    for second in 0..10_000 {
        let silent = SourceSight::Silent {
            why: "refused".to_owned(),
        };
        let errors = u64::try_from(second).unwrap();
        let (next, action) = step(
            state,
            &origin(),
            &sight(progress(10, false, errors)),
            &silent,
            at(second),
        );
        assert_eq!(action, Action::Nothing, "at {second}");
        state = next;
    }
    assert_eq!(state.patience.said.as_deref(), Some("refused"));
    // Its errors of the outage are no conflict.
    let back = step(
        state,
        &origin(),
        &sight(progress(10, false, 10_001)),
        &in_order(),
        at(10_001),
    );
    assert!(matches!(back.1, Action::Nothing | Action::Reconnect));
}

#[test]
fn a_change_that_fails_each_time_is_a_conflict() {
    let mut state = State::default();
    let mut decided = Action::Nothing;
    for errors in 0..=ERRORS_MAX {
        let failing = Sight {
            said: Some("duplicate key".to_owned()),
            ..sight(progress(10, false, errors))
        };
        let second = i64::try_from(errors).unwrap();
        (state, decided) = step(state, &origin(), &failing, &in_order(), at(second));
    }
    let said = "duplicate key".to_owned();
    assert_eq!(
        decided,
        Action::SeedAgain(Cause::Own(OwnCause::Conflict { said }))
    );
}

#[test]
fn errors_with_progress_in_between_are_none() {
    let mut state = State::default();
    for look in 0..100 {
        let seen = sight(progress(look, true, look));
        let second = i64::try_from(look).unwrap();
        let (next, action) = step(state, &origin(), &seen, &in_order(), at(second));
        assert_eq!(action, Action::Nothing);
        state = next;
    }
}

#[test]
fn a_disabled_subscription_and_another_cluster_end_it() {
    let mut disabled = progress(10, false, 0);
    disabled.is_enabled = false;
    let decided = decide(&sight(disabled), &SourceSight::NotAsked);
    assert_eq!(decided, Action::SeedAgain(Cause::Own(OwnCause::Disabled)));
    let other = SourceSight::Answers {
        system_identifier: Some(8),
        major: PgMajor(16),
        fingerprint: fingerprint("a"),
        slot: SlotState::Gone,
        waits_for_us: true,
        bounds_slots: false,
        flushed: None,
    };
    let decided = decide(&sight(progress(10, true, 0)), &other);
    assert_eq!(decided, Action::SeedAgain(Cause::OtherCluster));
}

#[test]
fn a_source_that_went_back_is_copied_again() {
    let ahead = decide(&sight(progress(1001, true, 0)), &in_order());
    assert_eq!(ahead, Action::SeedAgain(Cause::Own(OwnCause::Diverged)));
    let level = decide(&sight(progress(1000, true, 0)), &in_order());
    assert_eq!(level, Action::Nothing);
}

#[test]
fn a_server_that_ends_again_and_again_is_broken() {
    let ended = Sight {
        is_running: false,
        progress: None,
        has_room: true,
        said: None,
    };
    let mut state = State::default();
    for _ in 0..RESTARTS_MAX {
        let (next, action) = step(state, &origin(), &ended, &in_order(), at(0));
        assert_eq!(action, Action::Restart);
        state = next;
    }
    let (_, action) = step(state, &origin(), &ended, &in_order(), at(1));
    assert!(matches!(action, Action::SeedAgain(Cause::Broken { .. })));
}

/// Looks at a source that answers, each with one more error than the last: none is given up. Answers the state then.
fn watch_on_a_full_disk(state: State, seen: &Sight, looks: i64) -> State {
    let look = |state, second| {
        let mut seen = seen.clone();
        if let Some(progress) = &mut seen.progress {
            progress.errors = u64::try_from(second).unwrap();
        }
        let (next, action) = step(state, &origin(), &seen, &in_order(), at(second));
        assert_eq!(action, Action::Nothing, "at {second}");
        next
    };
    (0..looks).fold(state, look)
}

#[test]
fn on_a_full_disk_neither_errors_nor_an_end_nor_silence_give_a_base_up() {
    let full = Sight {
        has_room: false,
        said: Some("could not extend file \"base/5/1\": No space left on device".to_owned()),
        ..sight(progress(10, false, 0))
    };
    let ended = Sight {
        is_running: false,
        progress: None,
        ..full.clone()
    };
    let state = watch_on_a_full_disk(State::default(), &full, 10_000);
    let state = watch_on_a_full_disk(state, &ended, 10_000);
    assert_eq!(
        state.patience.said.as_deref(),
        Some("its volume has no room")
    );
    // With room it is started, and what had failed is no conflict.
    let ended = Sight {
        has_room: true,
        said: None,
        ..ended
    };
    let (state, action) = step(state, &origin(), &ended, &in_order(), at(10_000));
    assert_eq!(action, Action::Restart);
    let again = sight(progress(10, true, 10_000));
    let (_, action) = step(state, &origin(), &again, &in_order(), at(10_001));
    assert_eq!(action, Action::Nothing);
}

#[test]
fn a_worker_that_is_there_between_two_errors_for_want_of_room_is_no_conflict() {
    let seen = Sight {
        said: Some("could not extend file \"base/5/1\": No space left on device".to_owned()),
        ..sight(progress(10, true, 0))
    };
    watch_on_a_full_disk(State::default(), &seen, 100);
}

#[test]
fn who_is_refused_for_long_is_pointed_anew_and_then_copied_again() {
    let mut state = State::default();
    let mut reconnects = 0;
    for second in 0.. {
        let seen = sight(progress(10, false, 0));
        let (next, action) = step(state, &origin(), &seen, &in_order(), at(second));
        state = next;
        match action {
            Action::Nothing => {}
            Action::Reconnect => reconnects += 1,
            Action::SeedAgain(Cause::Refused { .. }) => {
                assert_eq!(second, i64::try_from(REFUSED_MAX.as_secs()).unwrap());
                break;
            }
            other @ (Action::Restart | Action::SeedAgain(_)) => panic!("{other:?} at {second}"),
        }
    }
    assert!(reconnects > 10);
}

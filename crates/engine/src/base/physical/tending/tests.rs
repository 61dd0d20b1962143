//! The machine, look by look.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::base::followed::patience::RESTARTS_MAX;
use crate::base::physical::standby::Progress;

const ORIGIN: Identity = Identity {
    system_identifier: 7,
    major: PgMajor(16),
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn progress(streams_on: Option<u32>) -> Progress {
    Progress {
        replayed: Lsn(0x500_0000),
        streams_on,
        is_paused: false,
    }
}

fn streaming() -> Sight {
    Sight {
        is_running: true,
        progress: Some(progress(Some(1))),
        suffices: true,
        has_room: true,
        trouble: None,
    }
}

fn alone() -> Sight {
    Sight {
        progress: Some(progress(None)),
        ..streaming()
    }
}

fn answers() -> SourceSight {
    SourceSight::Answers {
        system_identifier: Some(7),
        major: PgMajor(16),
        has_tablespaces: false,
        waits_for_us: false,
        flushed: Some(Lsn(0x500_0000)),
    }
}

fn silent() -> SourceSight {
    SourceSight::Silent {
        why: "away".to_owned(),
    }
}

/// The actions of looks a second apart.
fn watch(seconds: i64, sight: &Sight, source: &SourceSight) -> Vec<Action> {
    let mut state = State::default();
    let look = |second| {
        let (next, action) = step(state.clone(), ORIGIN, sight, source, at(second));
        state = next;
        action
    };
    (0..seconds).map(look).collect()
}

#[test]
fn a_standby_that_streams_is_left_alone() {
    let actions = watch(2000, &streaming(), &answers());
    assert!(actions.iter().all(|action| *action == Action::Nothing));
}

#[test]
fn a_source_that_is_away_is_waited_for_and_nothing_is_lost() {
    let actions = watch(100_000, &alone(), &silent());
    assert!(actions.iter().all(|action| *action == Action::Nothing));
}

#[test]
fn a_source_that_is_back_is_reconnected_to_at_intervals_and_given_up_after_ten_minutes() {
    let actions = watch(601, &alone(), &answers());
    let reconnects = actions
        .iter()
        .filter(|action| **action == Action::Reconnect);
    assert_eq!(reconnects.count(), 59);
    assert_eq!(actions[9], Action::Nothing);
    assert_eq!(actions[10], Action::Reconnect);
    assert!(matches!(
        actions[600],
        Action::SeedAgain(Cause::Refused { .. })
    ));
}

#[test]
fn limits_that_no_longer_suffice_are_met_by_a_restart() {
    let paused = Sight {
        progress: Some(Progress {
            is_paused: true,
            ..progress(Some(1))
        }),
        suffices: false,
        ..streaming()
    };
    let (state, action) = step(State::default(), ORIGIN, &paused, &answers(), at(0));
    assert_eq!(action, Action::Restart);
    let (state, action) = step(state, ORIGIN, &streaming(), &answers(), at(1));
    assert_eq!((state, action), (State::default(), Action::Nothing));
}

#[test]
fn a_standby_that_ends_again_and_again_is_seeded_again() {
    let ended = Sight {
        is_running: false,
        progress: None,
        ..streaming()
    };
    let actions = watch(4, &ended, &SourceSight::NotAsked);
    assert_eq!(
        actions[..3],
        [Action::Restart, Action::Restart, Action::Restart]
    );
    assert!(matches!(
        actions[3],
        Action::SeedAgain(Cause::Broken { .. })
    ));
}

#[test]
fn on_a_full_disk_a_standby_is_waited_for_whatever_its_server_does() {
    let full = Sight {
        has_room: false,
        trouble: Some(Trouble::NoRoom),
        ..alone()
    };
    let broken = Sight {
        trouble: Some(Trouble::Broken {
            said: "could not locate a valid checkpoint record".to_owned(),
        }),
        ..full.clone()
    };
    let ended = Sight {
        is_running: false,
        progress: None,
        ..full.clone()
    };
    for seen in [&full, &broken, &ended] {
        let actions = watch(10_000, seen, &answers());
        let waits = actions.iter().all(|action| *action == Action::Nothing);
        assert!(waits, "{seen:?}");
    }
    // Once there is room it is started, and what is broken all the same is given up.
    let state = step(State::default(), ORIGIN, &ended, &answers(), at(0)).0;
    let has_room = Sight {
        has_room: true,
        ..ended
    };
    let (state, action) = step(state, ORIGIN, &has_room, &answers(), at(1));
    assert_eq!(action, Action::Restart);
    let broken = Sight {
        has_room: true,
        ..broken
    };
    let (_, action) = step(state, ORIGIN, &broken, &answers(), at(2));
    assert!(matches!(action, Action::SeedAgain(Cause::Broken { .. })));
}

#[test]
fn a_server_that_recovers_for_long_is_not_disturbed_at_once() {
    let mute = Sight {
        progress: None,
        ..streaming()
    };
    let actions = watch(301, &mute, &SourceSight::NotAsked);
    assert!(
        actions[..300]
            .iter()
            .all(|action| *action == Action::Nothing)
    );
    assert_eq!(actions[300], Action::Restart);
}

#[test]
fn what_ends_a_base_ends_it_at_once() {
    let cases = [
        (Trouble::WalRemoved, Cause::Own(OwnCause::WalRemoved)),
        (Trouble::Tablespace, Cause::Own(OwnCause::Tablespace)),
        (Trouble::OtherCluster, Cause::OtherCluster),
    ];
    for (trouble, cause) in cases {
        let sight = Sight {
            trouble: Some(trouble),
            ..alone()
        };
        let (_, action) = step(State::default(), ORIGIN, &sight, &silent(), at(0));
        assert_eq!(action, Action::SeedAgain(cause));
    }
}

#[test]
fn what_the_source_has_become_counts_even_while_it_streams() {
    let become_of = |change: fn(&mut SourceSight)| {
        let mut source = answers();
        change(&mut source);
        let (_, action) = step(State::default(), ORIGIN, &streaming(), &source, at(0));
        action
    };
    let upgraded = become_of(|source| {
        if let SourceSight::Answers { major, .. } = source {
            *major = PgMajor(17);
        }
    });
    let cause = Cause::NewMajor { major: PgMajor(17) };
    assert_eq!(upgraded, Action::SeedAgain(cause));
    let replaced = become_of(|source| {
        if let SourceSight::Answers {
            system_identifier, ..
        } = source
        {
            *system_identifier = Some(8);
        }
    });
    assert_eq!(replaced, Action::SeedAgain(Cause::OtherCluster));
    let waits = become_of(|source| {
        if let SourceSight::Answers { waits_for_us, .. } = source {
            *waits_for_us = true;
        }
    });
    assert_eq!(waits, Action::SeedAgain(Cause::Own(OwnCause::WaitsForUs)));
}

#[test]
fn a_history_that_is_apart_for_a_moment_is_not_believed() {
    let apart = Sight {
        trouble: Some(Trouble::Diverged),
        ..alone()
    };
    let actions = watch(3, &apart, &answers());
    assert_eq!(actions[..2], [Action::Nothing, Action::Nothing]);
    assert_eq!(
        actions[2],
        Action::SeedAgain(Cause::Own(OwnCause::Diverged))
    );
}

#[test]
fn a_history_that_is_apart_is_not_followed_though_it_streams() {
    let apart = Sight {
        trouble: Some(Trouble::Diverged),
        ..streaming()
    };
    assert_eq!(watch(1, &apart, &answers()), [Action::Nothing]);
    let actions = watch(3, &apart, &answers());
    assert_eq!(
        actions[2],
        Action::SeedAgain(Cause::Own(OwnCause::Diverged))
    );
}

#[test]
fn a_source_that_went_back_is_not_followed() {
    let mut source = answers();
    if let SourceSight::Answers { flushed, .. } = &mut source {
        *flushed = Some(Lsn(0x4ff_ffff));
    }
    assert_eq!(watch(1, &streaming(), &answers()), [Action::Nothing]);
    let actions = watch(1, &streaming(), &source);
    assert_eq!(actions, [Action::SeedAgain(Cause::Own(OwnCause::Diverged))]);
}

fn sights() -> impl Strategy<Value = Sight> {
    let trouble = prop_oneof![
        Just(None),
        Just(Some(Trouble::Diverged)),
        Just(Some(Trouble::Limits)),
        Just(Some(Trouble::Refused {
            said: "no".to_owned()
        })),
    ];
    let progress = prop_oneof![
        Just(None),
        (any::<bool>(), any::<bool>()).prop_map(|(streams, is_paused)| Some(Progress {
            is_paused,
            ..progress(streams.then_some(1))
        })),
    ];
    (any::<bool>(), progress, any::<bool>(), trouble).prop_map(
        |(is_running, progress, suffices, trouble)| Sight {
            is_running,
            progress: progress.filter(|_| is_running),
            suffices,
            has_room: true,
            trouble,
        },
    )
}

proptest! {
    /// Whatever happened before, a standby that streams and suffices is left alone and forgets.
    #[test]
    fn streaming_heals(history in proptest::collection::vec(sights(), 0..50)) {
        let mut state = State::default();
        for (second, sight) in (0_i64..).zip(&history) {
            state = step(state, ORIGIN, sight, &answers(), at(second)).0;
        }
        let (state, action) = step(state, ORIGIN, &streaming(), &answers(), at(100));
        prop_assert_eq!((state, action), (State::default(), Action::Nothing));
    }

    /// A server is never restarted more often than its files can be trusted.
    #[test]
    fn restarts_are_bounded(history in proptest::collection::vec(sights(), 0..50)) {
        let mut state = State::default();
        let mut in_a_row = 0;
        for (second, sight) in (0_i64..).zip(&history) {
            let (next, action) = step(state, ORIGIN, sight, &answers(), at(second));
            let healed = next == State::default();
            in_a_row = if healed { 0 } else { in_a_row + u32::from(action == Action::Restart) };
            prop_assert!(in_a_row <= RESTARTS_MAX);
            state = next;
        }
    }
}

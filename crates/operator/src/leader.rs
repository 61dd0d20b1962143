//! Which of several operators works: the one that holds a Lease of their namespace.
//!
//! ```text
//!            looked: nobody's, or unchanged for LEASE ──> Take ──wrote──> Leading{until}
//!   Following <── looked: somebody else's ── Leading        │ refused        │ Renew, wrote ──> Leading{later}
//!       ^                                                   v                │
//!       └──────────── `until` has passed, or it is somebody else's <─────────┘
//! ```
//!
//! Clocks of two machines are never compared: how old a record is says how long *this* one has seen it unchanged. A leader
//! stops RENEW_WITHIN after it sent the last renewal that was taken; another begins LEASE after it saw one at the earliest,
//! so that there is no moment with two.
//!
//! Owns the decision, as a pure function. `lease` reads and writes; what a leader does is `lib.rs`'s.

mod lease;

use std::time::Duration;

pub use lease::{Candidate, LEASE_NAME};
pub(crate) use lease::{keep, release};

/// How long a record has to be unchanged until somebody else may take it.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// How long after its last renewal a leader stops.
pub(crate) const RENEW_WITHIN: Duration = Duration::from_secs(10);

/// How often the record is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The record, as far as it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Who holds it; none after a leader that ended by itself.
    pub(crate) holder: Option<String>,
    /// The version of the object, another one after each write.
    pub(crate) version: String,
}

/// What this operator is. Times are counted from its own start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// Somebody else may work.
    #[default]
    Unknown,
    /// Somebody else holds the record, in this version since then.
    Following {
        /// The version.
        version: String,
        /// When it was first seen.
        since: Duration,
    },
    /// This one works.
    Leading {
        /// When it stops, unless it renews.
        until: Duration,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The record is this; none where there is none.
    Looked(Option<Record>),
    /// The record was written in this one's name, by a request sent then.
    Wrote {
        /// When the request was sent.
        sent: Duration,
    },
    /// The record could not be read or written.
    Failed,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    Wait,
    /// A record in this one's name, where there is none.
    Create,
    /// This one's name into the record, where it still has this version.
    Write {
        /// The version.
        version: String,
        /// Whether it was somebody else's before.
        taken: bool,
    },
}

/// What comes of `event` for the operator `own`.
pub(crate) fn step(state: State, event: Event, own: &str, now: Duration) -> (State, Action) {
    let is_over = matches!(state, State::Leading { until } if until <= now);
    let state = if is_over { State::Unknown } else { state };
    match event {
        Event::Failed => (state, Action::Wait),
        // One that was answered too late is over before it began.
        Event::Wrote { sent } if sent + RENEW_WITHIN <= now => (State::Unknown, Action::Wait),
        Event::Wrote { sent } => {
            let until = sent + RENEW_WITHIN;
            (State::Leading { until }, Action::Wait)
        }
        Event::Looked(None) => (State::Unknown, Action::Create),
        Event::Looked(Some(record)) => looked(state, record, own, now),
    }
}

fn looked(state: State, record: Record, own: &str, now: Duration) -> (State, Action) {
    let Record { holder, version } = record;
    let write = |taken| Action::Write {
        version: version.clone(),
        taken,
    };
    match holder.as_deref() {
        None => (State::Unknown, write(true)),
        Some(holder) if holder == own => (state, write(false)),
        Some(_) => match state {
            State::Following {
                version: seen,
                since,
            } if seen == version => {
                let action = if now >= since + LEASE {
                    write(true)
                } else {
                    Action::Wait
                };
                let state = State::Following { version, since };
                (state, action)
            }
            State::Unknown | State::Following { .. } | State::Leading { .. } => {
                let since = now;
                (State::Following { version, since }, Action::Wait)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(holder: &str, version: u64) -> Event {
        let holder = Some(holder.to_owned()).filter(|it| !it.is_empty());
        let version = version.to_string();
        Event::Looked(Some(Record { holder, version }))
    }

    fn write(version: u64, taken: bool) -> Action {
        let version = version.to_string();
        Action::Write { version, taken }
    }

    #[test]
    fn the_first_one_leads_and_goes_on_while_it_renews() {
        let (state, action) = step(State::default(), Event::Looked(None), "a", at(1));
        assert_eq!(action, Action::Create);
        let (state, _) = step(state, Event::Wrote { sent: at(1) }, "a", at(2));
        assert_eq!(state, State::Leading { until: at(11) });
        let (state, action) = step(state, record("a", 1), "a", at(4));
        assert_eq!(action, write(1, false));
        let (state, _) = step(state, Event::Wrote { sent: at(4) }, "a", at(5));
        assert_eq!(state, State::Leading { until: at(14) });
        // Without an answer it stops in time.
        let (state, _) = step(state, Event::Failed, "a", at(13));
        assert_eq!(state, State::Leading { until: at(14) });
        let (state, _) = step(state, Event::Failed, "a", at(14));
        assert_eq!(state, State::Unknown);
    }

    #[test]
    fn another_one_takes_over_once_nothing_has_changed_for_long() {
        let (state, action) = step(State::default(), record("a", 1), "b", at(100));
        assert_eq!(action, Action::Wait);
        let (state, action) = step(state, record("a", 1), "b", at(114));
        assert_eq!(action, Action::Wait);
        // A renewal begins the count anew.
        let (state, action) = step(state, record("a", 2), "b", at(114));
        assert_eq!(action, Action::Wait);
        let (state, action) = step(state, record("a", 2), "b", at(128));
        assert_eq!(action, Action::Wait);
        let (_, action) = step(state, record("a", 2), "b", at(129));
        assert_eq!(action, write(2, true));
        // One that ended by itself left its name out.
        let (_, action) = step(State::default(), record("", 3), "b", at(1));
        assert_eq!(action, write(3, true));
    }

    #[test]
    fn a_leader_that_was_replaced_or_answered_late_does_not_lead() {
        let leading = State::Leading { until: at(20) };
        let (state, action) = step(leading, record("b", 5), "a", at(12));
        assert_eq!(action, Action::Wait);
        assert!(matches!(state, State::Following { .. }), "{state:?}");
        let (state, _) = step(State::default(), Event::Wrote { sent: at(1) }, "a", at(11));
        assert_eq!(state, State::Unknown);
        // Its own name of before its pause gives it nothing until the write is taken.
        let (state, action) = step(State::Unknown, record("a", 5), "a", at(60));
        assert_eq!((state, action), (State::Unknown, write(5, false)));
    }

    /// Two of them with any pauses: a record is kept as the API server keeps it, and never do both lead.
    #[test]
    fn no_two_lead_at_once_whatever_their_pauses() {
        for seed in 0..2000_u64 {
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut next = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let mut stored: Option<(usize, u64)> = None;
            let mut states = [State::default(), State::default()];
            let mut wakes = [next(5), next(5)];
            let names = ["a", "b"];
            for now in 0..400 {
                for one in 0..2 {
                    if wakes[one] > now {
                        continue;
                    }
                    let seen = stored.map_or(Event::Looked(None), |(holder, version)| {
                        record(names[holder], version)
                    });
                    let (state, action) = step(states[one].clone(), seen, names[one], at(now));
                    let taken = match action {
                        Action::Wait => false,
                        Action::Create => stored.is_none(),
                        Action::Write { version, .. } => {
                            stored.is_some_and(|(_, it)| it.to_string() == version)
                        }
                    };
                    states[one] = state;
                    if taken {
                        stored = Some((one, stored.map_or(0, |(_, version)| version + 1)));
                        let wrote = Event::Wrote { sent: at(now) };
                        states[one] = step(states[one].clone(), wrote, names[one], at(now)).0;
                    }
                    // Most often two seconds; sometimes the machine stands still.
                    wakes[one] = now + if next(12) == 0 { next(60) } else { 2 };
                }
                let lead =
                    |state: &State| matches!(state, State::Leading { until } if *until > at(now));
                assert!(
                    !(lead(&states[0]) && lead(&states[1])),
                    "seed {seed}, second {now}"
                );
            }
        }
    }
}

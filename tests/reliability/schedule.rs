//! Schedules: what is done, at the same time and one after another, and what goes wrong meanwhile. Pure data made from
//! a seed; it prints itself, and what it printed can be read again, shortened and replayed.
//!
//! Owns what can happen and how likely it is. Leaves doing it to `actions` and `faults`, and judging it to `model`.

use std::fmt;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// Branches of one schedule: few, so that actions meet.
pub(crate) const SLOTS: u8 = 3;

/// Rounds of one schedule.
const ROUNDS: std::ops::RangeInclusive<usize> = 4..=7;

/// Actions of one round, which begin at the same time.
const ACTIONS: std::ops::RangeInclusive<usize> = 1..=4;

/// A strike comes within so many milliseconds of its round's beginning: most actions are under way then, some are over.
const STRIKE_MS: std::ops::Range<u64> = 0..600;

/// Of 100 rounds, those in which something goes wrong.
const STRUCK_PERCENT: u32 = 40;

/// Of 100 of them, those in which two things do, and where the first is a jump of the clock: by itself, a running engine
/// does not see it.
const STRUCK_TWICE_PERCENT: u32 = 25;
const JUMP_AND_MORE_PERCENT: u32 = 75;

/// Of 1000 schedules, those in which a session falls silent: each takes its grace of some 15 s.
const SILENT_PERMILLE: u32 = 6;

/// A TTL that outlives every schedule, and one that does not, in seconds.
pub(crate) const LONG_TTL: u64 = 600;
pub(crate) const SHORT_TTL: u64 = 1;

/// Everything that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// What it was made from.
    pub(crate) seed: u64,
    /// One after another.
    pub(crate) rounds: Vec<Round>,
}

/// What happens at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Round {
    /// What clients do.
    pub(crate) actions: Vec<Action>,
    /// What goes wrong, each at a moment of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) strikes: Vec<Strike>,
}

/// Which branch, by its place in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Slot(pub(crate) u8);

/// What of the source is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Copy {
    All,
    Schema,
    Empty,
}

/// How old data may be that is given unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Age {
    /// None: everything that was committed before.
    Fresh,
    /// [`YOUNG`] seconds.
    Young,
    Any,
}

/// The age of data that is accepted as young, in seconds: what one schedule copies is older in the next.
pub(crate) const YOUNG: u64 = 4;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    pub(crate) copy: Copy,
    pub(crate) age: Age,
    pub(crate) ttl: u64,
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Asks for a branch, new or known.
    Create {
        slot: Slot,
        wish: Wish,
    },
    /// Waits for the branch and commits rows: `first`, and as many as `rows` in all, one transaction each.
    Write {
        slot: Slot,
        first: u64,
        rows: u64,
    },
    /// Waits for the branch and reads what it holds.
    Read {
        slot: Slot,
    },
    /// Joins a session, or says that it lives.
    Join {
        slot: Slot,
    },
    /// Ends the session.
    Leave {
        slot: Slot,
    },
    /// Joins a session that never says a word again, and whose branch has a short TTL.
    FallSilent {
        slot: Slot,
    },
    Reset {
        slot: Slot,
    },
    Extend {
        slot: Slot,
        ttl: u64,
    },
    Destroy {
        slot: Slot,
    },
    /// Commits to the source, one transaction over two tables.
    WriteSource,
    /// Has the named source looked at again.
    Refresh,
    /// Lists branches, sessions and sources, as `status` does.
    List,
}

impl Action {
    /// The branch that it is about.
    pub(crate) fn slot(&self) -> Option<Slot> {
        match self {
            Self::Create { slot, .. }
            | Self::Write { slot, .. }
            | Self::Read { slot }
            | Self::Join { slot }
            | Self::Leave { slot }
            | Self::FallSilent { slot }
            | Self::Reset { slot }
            | Self::Extend { slot, .. }
            | Self::Destroy { slot } => Some(*slot),
            Self::WriteSource | Self::Refresh | Self::List => None,
        }
    }
}

/// Something that goes wrong, some milliseconds after its round has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Strike {
    pub(crate) after_ms: u64,
    pub(crate) fault: Fault,
}

/// What can go wrong. What lasts is mended when its round is over and so many milliseconds have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// `kill -9`; another engine starts at once.
    KillEngine,
    /// `kill -9`, and again as soon as the next one answers.
    KillEngineTwice,
    /// `engine stop`, with or without the servers; another engine starts at once.
    StopEngine { servers: bool },
    /// `kill -9` of a branch's server: its postmaster, or one of the postmaster's children.
    KillBranch { slot: Slot, child: bool },
    /// `kill -9` of the server of a clone that is nobody's yet.
    KillWarm,
    /// `kill -9` of a server in which a copy is being made.
    KillMaking,
    /// `kill -9` of the server that follows the source: its postmaster, or one of the postmaster's children.
    KillBase { child: bool },
    /// The source's server is killed, and started again.
    KillSource { for_ms: u64 },
    /// No process of the source's server does anything.
    FreezeSource { for_ms: u64 },
    /// Files fill the volume up to the floor of free space.
    FillToFloor { for_ms: u64 },
    /// Files fill the volume to its last block.
    Fill { for_ms: u64 },
    /// The machine's clock is set ahead or back. Engines see it that start from then on.
    JumpClock { by_s: i64 },
    /// The volume's device fails; then the engine and its servers are ended, and the volume is mounted again.
    FailVolume { for_ms: u64 },
}

impl Fault {
    /// Whether it needs a volume in a file of its own.
    pub(crate) fn needs_volume(self) -> bool {
        match self {
            Self::FillToFloor { .. } | Self::Fill { .. } | Self::FailVolume { .. } => true,
            Self::KillEngine
            | Self::KillEngineTwice
            | Self::StopEngine { .. }
            | Self::KillBranch { .. }
            | Self::KillWarm
            | Self::KillMaking
            | Self::KillBase { .. }
            | Self::KillSource { .. }
            | Self::FreezeSource { .. }
            | Self::JumpClock { .. } => false,
        }
    }

    /// What it strikes.
    fn part(self) -> Part {
        match self {
            Self::KillEngine
            | Self::KillEngineTwice
            | Self::StopEngine { .. }
            | Self::FailVolume { .. } => Part::Engine,
            Self::KillBranch { .. } | Self::KillWarm | Self::KillMaking | Self::KillBase { .. } => {
                Part::Servers
            }
            Self::KillSource { .. } | Self::FreezeSource { .. } => Part::Source,
            Self::FillToFloor { .. } | Self::Fill { .. } => Part::Space,
            Self::JumpClock { .. } => Part::Clock,
        }
    }
}

/// What a fault strikes. Two of a round strike different ones: of one, the second would wait for the first to be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Engine,
    Servers,
    Source,
    Space,
    Clock,
}

impl Schedule {
    /// The schedule of `seed`.
    pub(crate) fn of(seed: u64) -> Self {
        let mut draw = Draw {
            random: StdRng::seed_from_u64(seed),
            rows: 0,
        };
        let count = draw.random.random_range(ROUNDS);
        let mut rounds: Vec<Round> = (0..count).map(|_| draw.round()).collect();
        // Nothing is of interest before there is a branch.
        rounds[0].actions[0] = Action::Create {
            slot: Slot(0),
            wish: draw.wish(),
        };
        if draw.random.random_ratio(SILENT_PERMILLE, 1000) {
            let slot = draw.slot();
            let actions = vec![Action::FallSilent { slot }];
            rounds.push(Round {
                actions,
                strikes: Vec::new(),
            });
        }
        Self { seed, rounds }
    }

    /// Reads what [`Schedule`] prints.
    ///
    /// # Errors
    /// Names the line that is none of a schedule.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut schedule = Self {
            seed: 0,
            rounds: Vec::new(),
        };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(seed) = line.strip_prefix("# seed ") {
                schedule.seed = seed.parse().with_context(|| line.to_owned())?;
            } else {
                let round = serde_json::from_str(line).with_context(|| line.to_owned())?;
                schedule.rounds.push(round);
            }
        }
        Ok(schedule)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# seed {}", self.seed)?;
        for round in &self.rounds {
            let line = serde_json::to_string(round).map_err(|_| fmt::Error)?;
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Draws from a seed.
struct Draw {
    random: StdRng,
    /// Rows drawn by now: each has a number of its own.
    rows: u64,
}

impl Draw {
    fn slot(&mut self) -> Slot {
        // The first one more often, so that it lives through more.
        Slot(self.random.random_range(0..SLOTS + 2).saturating_sub(2))
    }

    fn wish(&mut self) -> Wish {
        let copy = match self.random.random_range(0..10) {
            0 => Copy::Empty,
            1 => Copy::Schema,
            _ => Copy::All,
        };
        let age = match self.random.random_range(0..8) {
            0..2 => Age::Any,
            2 => Age::Young,
            _ => Age::Fresh,
        };
        Wish {
            copy,
            age,
            ttl: self.ttl(),
        }
    }

    fn ttl(&mut self) -> u64 {
        if self.random.random_ratio(1, 8) {
            SHORT_TTL
        } else {
            LONG_TTL
        }
    }

    fn round(&mut self) -> Round {
        let count = self.random.random_range(ACTIONS);
        let mut actions: Vec<Action> = Vec::new();
        for _ in 0..count {
            let action = self.action();
            // One writer, so that what the source holds is a number.
            if action != Action::WriteSource || !actions.contains(&Action::WriteSource) {
                actions.push(action);
            }
        }
        let strikes = if self.random.random_ratio(STRUCK_PERCENT, 100) {
            self.strikes()
        } else {
            Vec::new()
        };
        Round { actions, strikes }
    }

    fn strikes(&mut self) -> Vec<Strike> {
        let first = self.fault();
        let twice = match first.part() {
            Part::Clock => JUMP_AND_MORE_PERCENT,
            Part::Engine | Part::Servers | Part::Source | Part::Space => STRUCK_TWICE_PERCENT,
        };
        let mut faults = vec![first];
        if self.random.random_ratio(twice, 100) {
            let mut second = self.fault();
            while second.part() == first.part() {
                second = self.fault();
            }
            faults.push(second);
        }
        faults
            .into_iter()
            .map(|fault| Strike {
                after_ms: self.random.random_range(STRIKE_MS),
                fault,
            })
            .collect()
    }

    fn action(&mut self) -> Action {
        let slot = self.slot();
        match self.random.random_range(0..100) {
            0..28 => Action::Create {
                slot,
                wish: self.wish(),
            },
            28..48 => self.write(slot),
            48..60 => Action::Read { slot },
            60..66 => Action::Join { slot },
            66..70 => Action::Leave { slot },
            70..76 => Action::Reset { slot },
            76..81 => Action::Extend {
                slot,
                ttl: self.ttl(),
            },
            81..88 => Action::Destroy { slot },
            88..93 => Action::WriteSource,
            93..96 => Action::Refresh,
            _ => Action::List,
        }
    }

    fn write(&mut self, slot: Slot) -> Action {
        let (first, rows) = (self.rows, self.random.random_range(1..=5));
        self.rows += rows;
        Action::Write { slot, first, rows }
    }

    /// Seconds by which a clock is set: minutes to hours ahead or back; or back by less than data is old, so that it
    /// would pass for younger.
    fn jump(&mut self) -> i64 {
        match self.random.random_range(0..5) {
            0..2 => self.random.random_range(60..6 * 3600),
            2..4 => -self.random.random_range(60..6 * 3600),
            _ => -self.random.random_range(3..8),
        }
    }

    fn fault(&mut self) -> Fault {
        let for_ms = self.random.random_range(50..700);
        match self.random.random_range(0..100) {
            0..20 => Fault::KillEngine,
            20..26 => Fault::JumpClock { by_s: self.jump() },
            26..32 => Fault::KillEngineTwice,
            32..38 => Fault::StopEngine { servers: false },
            38..44 => Fault::StopEngine { servers: true },
            44..56 => Fault::KillBranch {
                slot: self.slot(),
                child: false,
            },
            56..60 => Fault::KillBranch {
                slot: self.slot(),
                child: true,
            },
            60..65 => Fault::KillWarm,
            65..69 => Fault::KillMaking,
            69..72 => Fault::KillBase { child: false },
            72..73 => Fault::KillBase { child: true },
            73..80 => Fault::KillSource { for_ms },
            80..86 => Fault::FreezeSource { for_ms },
            86..91 => Fault::FillToFloor { for_ms },
            91..95 => Fault::Fill { for_ms },
            _ => Fault::FailVolume { for_ms },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_schedule_and_another_another() {
        assert_eq!(Schedule::of(7), Schedule::of(7));
        assert_ne!(Schedule::of(7), Schedule::of(8));
    }

    #[test]
    fn what_a_schedule_prints_is_the_schedule() {
        for seed in 0..50 {
            let schedule = Schedule::of(seed);
            let again = Schedule::parse(&schedule.to_string()).expect("it is one");
            assert_eq!(again, schedule);
        }
        assert!(Schedule::parse("{\"actions\":[\"fly\"]}").is_err());
        // A word that is not known is not passed over.
        assert!(Schedule::parse("{\"actions\":[\"list\"],\"strike\":null}").is_err());
    }

    #[test]
    fn two_faults_of_a_round_strike_different_parts_and_all_pairs_of_parts_come() {
        let mut pairs = std::collections::BTreeSet::new();
        for round in (0..1000).flat_map(|seed| Schedule::of(seed).rounds) {
            if let [one, other] = round.strikes.as_slice() {
                let mut parts = [one, other].map(|strike| format!("{:?}", strike.fault.part()));
                assert_ne!(parts[0], parts[1]);
                parts.sort();
                pairs.insert(parts);
            }
        }
        assert_eq!(pairs.len(), 5 * 4 / 2, "{pairs:?}");
    }

    #[test]
    fn every_action_and_every_fault_comes_in_a_run() {
        let all: String = (0..300)
            .map(|seed| Schedule::of(seed).to_string())
            .collect();
        for word in [
            "create",
            "write",
            "read",
            "join",
            "leave",
            "fall_silent",
            "reset",
            "extend",
            "destroy",
            "write_source",
            "refresh",
            "list",
            "kill_engine",
            "kill_engine_twice",
            "stop_engine",
            "kill_branch",
            "kill_warm",
            "kill_making",
            "kill_base",
            "kill_source",
            "freeze_source",
            "fill_to_floor",
            "fill",
            "fail_volume",
            "jump_clock",
            "\"young\"",
            "\"all\"",
            "\"schema\"",
            "\"empty\"",
        ] {
            assert!(all.contains(word), "no {word} in 300 schedules");
        }
    }
}

//! How long a base that nothing arrives at is waited for: the same for every way of following, and pure.
//!
//! ```text
//!   nothing arrives ─▶ waits ─▶ reconnect, and again at intervals
//!                        │ the source answers for long, and still nothing arrives ─▶ given up
//!   its server is mute for long, or ended ─▶ restart ─▶ again and again ─▶ given up
//!   its volume is full ─▶ waits, whatever its server does
//! ```
//!
//! A source that is silent is waited for without end, and so is room: what is here stays as good as it was. Owns the times and the counts
//! between two looks; what a look has found is each way's own to judge.

use std::time::Duration;

use jiff::Timestamp;

use super::cause::Cause;

/// How long a base gets by itself before it is told anew how its source is reached: it tries twice a second.
const RECONNECT_AFTER: Duration = Duration::from_secs(10);

/// How long a source may answer questions while nothing comes from it.
pub const REFUSED_MAX: Duration = Duration::from_secs(600);

/// How long a server that runs may not answer: it is looked at again while it recovers.
const MUTE_MAX: Duration = Duration::from_secs(300);

/// How long a request waits for a server that is away: it is looked at each second, started again, and recovers.
pub const AWAY_MAX: Duration = Duration::from_secs(10);

/// Between two tries to ask it.
pub const AWAY_PAUSE: Duration = Duration::from_millis(100);

/// Restarts without following in between: more means that the files are at fault.
pub const RESTARTS_MAX: u32 = 3;

/// What was found of the source by a look at a base at which nothing arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering<'a> {
    /// It was not asked this time.
    NotAsked,
    /// It does not answer, for this reason.
    Silent(&'a str),
    /// It answers.
    Answers,
}

/// What to do after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<C> {
    /// Nothing.
    Nothing,
    /// Find a way to the source anew, and tell the base's server.
    Reconnect,
    /// Start the base's server again.
    Restart,
    /// Stop it, find out anew whether the source is fit, and make another base.
    SeedAgain(C),
}

/// How a base is after a look: how far it is, or why it is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tended<P, C> {
    /// Changes arrive, so far.
    Following(P),
    /// Nothing arrives; what is here stays as good as it was.
    Waiting {
        /// Since when.
        since: Option<Timestamp>,
        /// What was said last about it.
        said: Option<String>,
    },
    /// It is of no more use, and was stopped.
    SeedAgain(C),
}

impl<P, C> Tended<P, C> {
    /// The same in other words.
    pub fn told<Q, D>(
        self,
        progress: impl FnOnce(P) -> Q,
        cause: impl FnOnce(C) -> D,
    ) -> Tended<Q, D> {
        match self {
            Self::Following(found) => Tended::Following(progress(found)),
            Self::Waiting { since, said } => Tended::Waiting { since, said },
            Self::SeedAgain(found) => Tended::SeedAgain(cause(found)),
        }
    }
}

/// What is remembered between two looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patience {
    /// Since when nothing arrives.
    pub waiting_since: Option<Timestamp>,
    /// Since when the source answers while nothing arrives.
    answers_since: Option<Timestamp>,
    last_reconnect: Option<Timestamp>,
    mute_since: Option<Timestamp>,
    restarts: u32,
    /// What was complained of last.
    pub said: Option<String>,
}

impl Patience {
    /// How a base is at which nothing arrives.
    pub fn waits<P, C>(&self) -> Tended<P, C> {
        Tended::Waiting {
            since: self.waiting_since,
            said: self.said.clone(),
        }
    }

    /// Something arrives. What was complained of stays.
    pub fn arrives(&mut self) {
        *self = Self {
            said: self.said.take(),
            ..Self::default()
        };
    }

    /// The same of a base that may be following what is not its own source's history: its restarts still count.
    pub fn arrives_in_doubt(&mut self) {
        *self = Self {
            restarts: self.restarts,
            ..Self::default()
        };
    }

    /// Its server has ended, or must be started again.
    pub fn ended<O>(&mut self) -> Action<Cause<O>> {
        if self.restarts >= RESTARTS_MAX {
            let said = format!("it ended {RESTARTS_MAX} times in a row");
            return Action::SeedAgain(Cause::Broken { said });
        }
        self.restarts += 1;
        Action::Restart
    }

    /// Its volume is full, or was a moment ago: neither its server's end nor what fails there says anything of its files
    /// or of its source. Whether its server `may_start` says who looked.
    pub fn lacks_room<O>(&mut self, now: Timestamp, may_start: bool) -> Action<Cause<O>> {
        *self = Self {
            waiting_since: Some(self.waiting_since.unwrap_or(now)),
            last_reconnect: self.last_reconnect,
            restarts: self.restarts,
            said: Some("its volume has no room".to_owned()),
            ..Self::default()
        };
        if may_start {
            Action::Restart
        } else {
            Action::Nothing
        }
    }

    /// Its server runs and does not answer.
    pub fn mute<O>(&mut self, now: Timestamp) -> Action<Cause<O>> {
        let since = *self.mute_since.get_or_insert(now);
        if has_passed(since, now, MUTE_MAX) {
            self.mute_since = None;
            return self.ended();
        }
        Action::Nothing
    }

    /// Its server answers.
    pub fn answered(&mut self) {
        self.mute_since = None;
    }

    /// Nothing arrives.
    pub fn wait<O>(&mut self, source: Answering<'_>, now: Timestamp) -> Action<Cause<O>> {
        let since = *self.waiting_since.get_or_insert(now);
        match source {
            Answering::NotAsked => {}
            Answering::Silent(why) => {
                self.answers_since = None;
                self.said = Some(why.to_owned());
                return Action::Nothing;
            }
            Answering::Answers => {
                let answers_since = *self.answers_since.get_or_insert(now);
                if has_passed(answers_since, now, REFUSED_MAX) {
                    let said = self.said.clone().unwrap_or_default();
                    return Action::SeedAgain(Cause::Refused { said });
                }
            }
        }
        let last = self.last_reconnect.unwrap_or(since);
        if has_passed(last, now, RECONNECT_AFTER) {
            self.last_reconnect = Some(now);
            return Action::Reconnect;
        }
        Action::Nothing
    }
}

/// Whether `time` lies between the two.
pub fn has_passed(since: Timestamp, now: Timestamp, time: Duration) -> bool {
    passed(since, now) >= time
}

/// What lies between the two; a clock that went back has passed nothing.
pub fn passed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

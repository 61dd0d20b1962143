//! Whether a source can be followed physically, and if not, why: a sentence each for whoever asked for it.
//!
//! Owns the questions to the source and the verdict, which is a pure function of the answers and of what this machine
//! has. What can only be known by doing is done: the replication connection is opened. Leaves to `seed` what shows only
//! once the files are here (a locale that they need, a collation of another version).

mod reason;
mod traits;

use std::process::Stdio;

use model::{ByteSize, PgMajor};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

pub use reason::Reason;
pub use traits::{Architecture, Traits, takes_us_for_synchronous};

use super::replication::{self, Identity, Reach, ReplicationError};
use super::{Host, Upstream};
use crate::base::libraries;
use crate::postgres::binaries::Installation;
use crate::source::facts::Facts;
use crate::source::{SourceError, asking, in_time};

/// Connections for WAL that following takes: the base backup uses two, its data and its WAL.
const WAL_SENDERS_NEEDED: u32 = 2;

/// Why it is not known whether a source can be followed.
#[derive(Debug, thiserror::Error)]
pub enum FitnessError {
    /// The source did not answer.
    #[error("cannot ask the source")]
    Source(#[from] SourceError),
    /// The replication connection could not be asked, for a reason that is not the source's.
    #[error("cannot open a replication connection")]
    Replication(#[from] ReplicationError),
}

/// How a standby keeps the source from removing WAL that it still needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotUse {
    /// Not at all: a standby that falls behind is seeded again.
    None,
    /// By a slot that ends with its connection, which the source itself ends when we hang.
    Temporary,
    /// By a slot of this name, which somebody made.
    Permanent(String),
}

/// A slot that an administrator made for a base and named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedSlot<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it may be used where the source does not bound what it keeps.
    pub unbounded: bool,
}

/// A source that can be followed.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Who and where it is.
    pub facts: Facts,
    /// What a standby must know of it.
    pub traits: Traits,
    /// Who answers replication.
    pub identity: Identity,
    /// How replication is reached.
    pub reach: Reach,
    /// How WAL is kept.
    pub slot: SlotUse,
    /// What is otherwise than on the source, or of interest to whoever follows it, a sentence each.
    pub notes: Vec<String>,
}

/// The verdict.
#[derive(Debug, Clone)]
pub enum Fitness {
    /// It can be followed.
    Fit(Box<Fit>),
    /// It cannot.
    Unfit {
        /// Why: never empty.
        reasons: Vec<Reason>,
    },
}

/// What this machine has for a source.
#[derive(Debug, Clone, Default)]
struct Ours {
    has_server: bool,
    has_programs: bool,
    /// Libraries of the source's that our server lacks.
    missing_libraries: Vec<String>,
    /// Locales of the database's that this machine lacks.
    missing_locales: Vec<String>,
}

/// Decides whether a source can be followed from here, by the slot that an administrator `named` where there is one.
///
/// # Errors
/// [`FitnessError`] when that cannot be found out; whatever the source grants or is, is an answer.
pub async fn fitness(
    upstream: &Upstream,
    host: &Host,
    named: Option<NamedSlot<'_>>,
) -> Result<Fitness, FitnessError> {
    let session = upstream.access.connect().await.map_err(SourceError::from)?;
    let asked = async {
        session.begin_read().await.map_err(asking("a moment"))?;
        let facts = Facts::read(&session).await?;
        let replicator = upstream.replication_url().user();
        let replicator = replicator.unwrap_or_else(|| facts.session_user.clone());
        let traits = Traits::read(&session, &replicator).await?;
        let ended = session.batch_execute("COMMIT").await;
        ended.map_err(asking("a moment"))?;
        Ok((facts, replicator, traits))
    };
    let (facts, replicator, traits) = in_time("how it is", asked).await?;
    let ours = look_around(host, &facts, &traits).await;
    let slot = choose_slot(&traits, named);
    let mut reasons = judge(&facts, &traits, &ours, named);
    let programs = replication::programs(&host.installations, facts.major);
    let mut reached = None;
    if let Some(programs) = programs.filter(|_| traits.replicates != Some(false)) {
        let ways = Reach::ways(upstream, &session).map_err(SourceError::from)?;
        match first_answer(programs, ways).await? {
            Ok((reach, identity)) => {
                reasons.extend(judge_identity(&facts, identity));
                reached = Some((reach, identity));
            }
            Err(answer) => reasons.push(Reason::Refused {
                replicator: replicator.clone(),
                answer,
            }),
        }
    }
    let Some((reach, identity)) = reached.filter(|_| reasons.is_empty()) else {
        return Ok(Fitness::Unfit { reasons });
    };
    let notes = notes(&traits, &slot);
    Ok(Fitness::Fit(Box::new(Fit {
        facts,
        traits,
        identity,
        reach,
        slot,
        notes,
    })))
}

/// The first way that is answered; else what the last one was answered.
async fn first_answer(
    programs: &Installation,
    ways: Vec<Reach>,
) -> Result<Result<(Reach, Identity), String>, ReplicationError> {
    let mut last = "the URL names no address".to_owned();
    for reach in ways {
        match reach.identify(programs).await {
            Ok(identity) => return Ok(Ok((reach, identity))),
            Err(ReplicationError::Refused { answer }) => last = answer,
            Err(error @ ReplicationError::TimedOut) => last = error.to_string(),
            Err(error) => return Err(error),
        }
    }
    Ok(Err(last))
}

async fn look_around(host: &Host, facts: &Facts, traits: &Traits) -> Ours {
    let server = host.installations.server(facts.major).ok();
    let missing_libraries = server.map(|server| libraries::missing(server, &traits.libraries));
    Ours {
        has_server: server.is_some(),
        has_programs: replication::programs(&host.installations, facts.major).is_some(),
        missing_libraries: missing_libraries.unwrap_or_default(),
        missing_locales: missing_locales(facts).await,
    }
}

/// Locales of the database that the C library here does not list. Where it cannot be asked, the standby's first session
/// finds out.
async fn missing_locales(facts: &Facts) -> Vec<String> {
    let mut command = Command::new("locale");
    command.arg("-a").env_clear().env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = command.output().await else {
        return Vec::new();
    };
    let known = String::from_utf8_lossy(&output.stdout).into_owned();
    let known: Vec<_> = known.lines().map(plain_locale).collect();
    let collation = &facts.collation;
    let mut wanted = vec![collation.collate.as_str(), collation.ctype.as_str()];
    wanted.dedup();
    let is_missing = |locale: &&str| {
        let locale = plain_locale(locale);
        !matches!(locale.as_str(), "" | "c" | "posix") && !known.contains(&locale)
    };
    wanted
        .into_iter()
        .filter(is_missing)
        .map(str::to_owned)
        .collect()
}

/// One spelling of a locale: `en_US.UTF-8` and `en_US.utf8` are the same.
fn plain_locale(name: &str) -> String {
    name.chars()
        .filter(|c| *c != '-')
        .collect::<String>()
        .to_ascii_lowercase()
}

/// The slot that was named, and no other in its place; a temporary one where the source ends a connection that hangs, or bounds
/// what slots keep; else none. The source's disk is never at risk.
fn choose_slot(traits: &Traits, named: Option<NamedSlot<'_>>) -> SlotUse {
    if let Some(NamedSlot { name, .. }) = named {
        return SlotUse::Permanent(name.to_owned());
    }
    let is_safe = traits.bounds_slots || traits.ends_hanging_connections;
    if is_safe && traits.slots_free > 0 {
        SlotUse::Temporary
    } else {
        SlotUse::None
    }
}

/// Everything that speaks against following, from what is known without the replication connection.
fn judge(facts: &Facts, traits: &Traits, ours: &Ours, named: Option<NamedSlot<'_>>) -> Vec<Reason> {
    let mut reasons = judge_machine(facts.major, traits, ours);
    let mut add = |is: bool, reason: Reason| {
        if is {
            reasons.push(reason);
        }
    };
    let tablespaces = Reason::Tablespaces {
        names: traits.tablespaces.clone(),
    };
    add(!traits.tablespaces.is_empty(), tablespaces);
    add(traits.wal_level == "minimal", Reason::WalLevel);
    add(!traits.full_page_writes, Reason::FullPageWrites);
    let wal_senders = Reason::WalSenders {
        max: traits.limits.max_wal_senders,
        free: traits.wal_senders_free,
    };
    add(traits.wal_senders_free < WAL_SENDERS_NEEDED, wal_senders);
    add(traits.takes_us_for_synchronous, Reason::Synchronous);
    add(traits.superuser.is_none(), Reason::NoSuperuser);
    let encryption = Reason::Encryption {
        settings: traits.encryption.clone(),
    };
    add(!traits.encryption.is_empty(), encryption);
    if let Some(NamedSlot { name, unbounded }) = named {
        let is_there = traits.physical_slots.iter().any(|slot| slot == name);
        let name = name.to_owned();
        add(!is_there, Reason::NoSlot { name: name.clone() });
        let is_bounded = traits.bounds_slots || unbounded;
        add(is_there && !is_bounded, Reason::UnboundedSlot { name });
    }
    reasons
}

/// What speaks against it in the two machines and their programs.
fn judge_machine(major: PgMajor, traits: &Traits, ours: &Ours) -> Vec<Reason> {
    let mut reasons = traits.build_differences();
    let mut add = |is: bool, reason: Reason| {
        if is {
            reasons.push(reason);
        }
    };
    let no_right = Reason::NoRight {
        replicator: traits.replicator.clone(),
    };
    add(traits.replicates == Some(false), no_right);
    add(!ours.has_server, Reason::NoServer { major });
    add(!ours.has_programs, Reason::NoPrograms { major });
    let architecture = Reason::Architecture {
        platform: traits.architecture.platform.clone(),
    };
    add(!traits.architecture.is_ours(), architecture);
    let managers = Reason::ResourceManagers {
        names: traits.resource_managers.clone(),
        missing_libraries: ours.missing_libraries.clone(),
    };
    let reads_all = traits.reads_libraries && ours.missing_libraries.is_empty();
    add(!traits.resource_managers.is_empty() && !reads_all, managers);
    let locales = Reason::Locales {
        names: ours.missing_locales.clone(),
    };
    add(!ours.missing_locales.is_empty(), locales);
    reasons
}

/// Whether who answers replication is who answers questions.
fn judge_identity(facts: &Facts, identity: Identity) -> Option<Reason> {
    let theirs = facts.system_identifier.as_ref()?;
    (*theirs != identity.system_identifier.to_string()).then_some(Reason::OtherCluster)
}

fn notes(traits: &Traits, slot: &SlotUse) -> Vec<String> {
    let mut notes = Vec::new();
    if *slot == SlotUse::None {
        notes.push(
            "the source could not bound what a replication slot keeps, so none is used: after a long outage the base \
             is copied again"
                .to_owned(),
        );
    }
    if !traits.reads_libraries {
        notes.push(
            "the source does not tell which libraries it preloads (GRANT pg_read_all_settings): none is loaded"
                .to_owned(),
        );
    }
    notes
}

impl Fit {
    /// The major version of source, standby and branches.
    pub fn major(&self) -> PgMajor {
        self.facts.major
    }

    /// The whole cluster on the source's disk, as far as the user may ask; at least the database.
    pub fn size(&self) -> ByteSize {
        self.traits.cluster_size.max(self.facts.size_bytes)
    }
}

#[cfg(test)]
mod tests;

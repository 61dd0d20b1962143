//! Sources that have names: databases that branches are made from without a target.
//!
//! Owns their records, passwords included. Asking them who they are is `source`'s.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use model::chain;
use model::engine_api::{
    AddSource, BaseMode, Problem, ProblemKind, SourceCare, SourceName, SourceView,
};
use model::{PgUrl, Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::app::Shared;
use crate::base::followed::{Choice, Way, choose};
use crate::base::living::Entry;
use crate::branch::record::Spec;
use crate::catalogue::{Catalogue, CatalogueError, Record};
use crate::machine::Machine;
use crate::refresh::plain_spec;
use crate::source::SourceAccess;
use crate::source::facts::Facts;
use crate::turns::Turns;
use crate::upkeep::{self, Wanted};

/// Sources that may have names at once: a bound on the catalogue, far above a company's number of databases.
const SOURCES_MAX: usize = 1000;

/// What is kept of a named source.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct NamedSource {
    url: Secret,
    #[serde(default)]
    care: SourceCare,
    view: SourceView,
}

/// What a request means.
#[derive(Debug, Clone, Default)]
pub struct Meant {
    /// The named source; none: one that nobody has named.
    pub name: Option<SourceName>,
    /// How it is copied and kept.
    pub care: SourceCare,
    /// What it is copied by, where the request came by another address of it, such as a pooler's.
    pub url: Option<Secret>,
}

impl Meant {
    /// What is copied for a request for `spec`.
    pub fn spec<'a>(&self, spec: &'a Spec) -> Cow<'a, Spec> {
        match &self.url {
            None => Cow::Borrowed(spec),
            Some(url) => Cow::Owned(Spec {
                url: url.clone(),
                ..spec.clone()
            }),
        }
    }
}

impl NamedSource {
    fn wanted(&self) -> Wanted {
        Wanted {
            name: self.view.name.clone(),
            url: self.url.clone(),
            care: self.care.clone(),
        }
    }

    /// Those of its URL.
    fn own_addresses(&self) -> Vec<String> {
        let own = PgUrl::parse(self.url.reveal()).map(|url| url.addresses());
        own.iter().flatten().map(ToString::to_string).collect()
    }

    /// All of them.
    fn addresses(&self) -> Vec<String> {
        let further = self.care.addresses.iter().cloned();
        self.own_addresses().into_iter().chain(further).collect()
    }

    /// Whether a request for `database` by `url` means this source.
    fn is_meant(&self, url: &PgUrl, database: &str) -> bool {
        self.view.database == database && names_one_of(url, &self.addresses())
    }

    fn meant(&self, url: &PgUrl) -> Meant {
        let is_by_its_own = names_one_of(url, &self.own_addresses());
        Meant {
            name: Some(self.view.name.clone()),
            care: self.care.clone(),
            url: (!is_by_its_own).then(|| self.url.clone()),
        }
    }
}

fn names_one_of(url: &PgUrl, addresses: &[String]) -> bool {
    let asked = url.addresses().into_iter();
    asked
        .map(|address| address.to_string())
        .any(|address| addresses.contains(&address))
}

impl Record for NamedSource {
    const TABLE: &'static str = "sources";

    fn key(&self) -> String {
        self.view.name.to_string()
    }
}

/// The named sources.
#[derive(Debug)]
pub struct NamedSources {
    machine: Arc<Machine>,
    known: Mutex<BTreeMap<SourceName, NamedSource>>,
    /// Whoever changes what a name means, one at a time.
    turns: Arc<Turns<SourceName>>,
}

impl NamedSources {
    /// The sources that the catalogue knows.
    ///
    /// # Errors
    /// [`CatalogueError`] when it cannot be read.
    pub fn open(machine: Arc<Machine>) -> Result<Self, CatalogueError> {
        let records = machine.catalogue.all::<NamedSource>()?;
        let known = records
            .into_iter()
            .map(|record| (record.view.name.clone(), record))
            .collect();
        Ok(Self {
            machine,
            known: Mutex::new(known),
            turns: Arc::default(),
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<SourceName, NamedSource>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every source, as its owner wants it.
    pub fn all_wanted(&self) -> Vec<Wanted> {
        self.known().values().map(NamedSource::wanted).collect()
    }

    /// Every source, by name, with what is known of its copies by now.
    pub fn list(&self, shared: &Shared) -> Vec<SourceView> {
        let known = self.known().clone();
        known
            .into_values()
            .map(|source| {
                let spec = plain_spec(source.url);
                let turn = shared.refresher.last_turn(&source.view.name);
                let entry = shared.bases.living().get(&source.view.name);
                let meant = Meant {
                    name: Some(source.view.name.clone()),
                    care: source.care,
                    url: None,
                };
                SourceView {
                    copied_at: shared.bases.newest_taken_at(&spec, &meant),
                    looked_at: turn.as_ref().map(|turn| turn.ended_at),
                    failure: turn.and_then(|turn| {
                        let is_over = |entry: &Arc<Entry>| entry.mended_since(turn.ended_at);
                        turn.failure
                            .filter(|_| !entry.as_ref().is_some_and(is_over))
                    }),
                    progress: shared.bases.progress(&spec, &meant).borrow().clone(),
                    base: entry.map(|entry| entry.view(&meant.care)),
                    ..source.view
                }
            })
            .collect()
    }

    /// The connection string of `name`.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound`, with the names that exist.
    pub fn url(&self, name: &SourceName) -> Result<Secret, Problem> {
        let known = self.known();
        known
            .get(name)
            .map(|source| source.url.clone())
            .ok_or_else(|| not_found(name, &known))
    }

    /// What a request means: a named source and how it is to be copied; the defaults for one without a name. Of several
    /// names for it, one that has copies prepared counts.
    pub fn meant(&self, spec: &Spec) -> Meant {
        let known = self.known();
        let careful = names_of(&known, spec).max_by_key(|source| source.care.prepare.is_some());
        careful
            .map(|source| source.meant(&spec.url()))
            .unwrap_or_default()
    }

    /// Every address of the database that a request means, as the sources' names have them; none where it has no name.
    pub fn addresses(&self, spec: &Spec) -> Vec<String> {
        let known = self.known();
        let all: BTreeSet<String> = names_of(&known, spec)
            .flat_map(NamedSource::addresses)
            .collect();
        all.into_iter().collect()
    }

    /// Every source that is to be looked after without a request: its connection string and how.
    pub fn looked_after(&self) -> Vec<(SourceName, Secret, SourceCare)> {
        let known = self.known();
        let wanted = known
            .values()
            .filter(|source| source.care.warm > 0 || source.care.refresh_seconds.is_some());
        wanted
            .map(|source| {
                (
                    source.view.name.clone(),
                    source.url.clone(),
                    source.care.clone(),
                )
            })
            .collect()
    }

    /// Names the source behind `url`, after asking it who it is. The same name again is a new URL of the same
    /// database, such as one with a new password. The very same leaves alone what is done for it, whose patience with its
    /// source would begin anew; only one that could not be followed is looked at again.
    ///
    /// # Errors
    /// [`Problem`] of kind `Source` where it cannot be asked, or is to be followed and cannot be; `Conflict` where the
    /// name means another database.
    pub async fn add(
        &self,
        name: SourceName,
        request: AddSource,
        shared: &Arc<Shared>,
    ) -> Result<SourceView, Problem> {
        let AddSource { url, care } = request;
        let care = with_slots_mode(care)?;
        let parsed = PgUrl::parse(url.reveal()).map_err(|error| {
            Problem::new(
                ProblemKind::BadRequest,
                format!("the source's URL is {error}"),
            )
        })?;
        let access = SourceAccess {
            url: parsed.clone(),
            database: None,
            settings: BTreeMap::new(),
            gateway: None,
        };
        let facts = access.facts().await.map_err(|error| {
            let problem = Problem::new(
                ProblemKind::Source,
                format!("cannot ask the source: {}", chain(&error)),
            );
            Problem {
                hint: error.hint(),
                ..problem
            }
        })?;
        let view = describe(&name, &parsed, &facts, &care, shared.machine.clock.now());
        self.check_room(&view)?;
        let record = NamedSource {
            url,
            care,
            view: view.clone(),
        };
        let wanted = record.wanted();
        let is_known = self.known().get(&name).map(NamedSource::wanted).as_ref() == Some(&wanted);
        let entry = match shared.bases.living().get(&name).filter(|_| is_known) {
            Some(entry) => {
                look_again(&entry, &wanted, shared).await?;
                entry
            }
            None => {
                let choice = choose_way(&wanted, shared).await?;
                let begun = begin(Arc::clone(shared), record, choice);
                // Whoever goes away meanwhile leaves neither half of it.
                let begun = self.machine.clearing.spawn(begun).await;
                begun.expect("beginning to look after a source does not panic")?
            }
        };
        Ok(SourceView {
            base: Some(entry.view(&wanted.care)),
            ..view
        })
    }

    fn check_room(&self, view: &SourceView) -> Result<(), Problem> {
        let known = self.known();
        if let Some(old) = known.get(&view.name).map(|source| &source.view) {
            let same = (&old.system_identifier, &old.database)
                == (&view.system_identifier, &view.database);
            if !same {
                let detail = format!(
                    "the name {} means the database {} at {}",
                    view.name, old.database, old.url
                );
                return Err(Problem::new(ProblemKind::Conflict, detail)
                    .with_hint("choose another name, or remove that source first"));
            }
        } else if known.len() >= SOURCES_MAX {
            let detail = format!("there are {SOURCES_MAX} named sources already");
            return Err(Problem::new(ProblemKind::LimitPassed, detail)
                .with_hint("remove those that nobody needs"));
        }
        Ok(())
    }

    /// Forgets `name` and what was made for it, also where the caller goes away meanwhile.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound`, with the names that exist.
    pub async fn remove(&self, name: &SourceName, shared: &Arc<Shared>) -> Result<(), Problem> {
        let removal = end(Arc::clone(shared), name.clone());
        let ended = self.machine.clearing.spawn(removal).await;
        ended.expect("a removal does not panic")
    }

    fn take(&self, name: &SourceName) -> Result<NamedSource, Problem> {
        let mut known = self.known();
        match known.remove(name) {
            Some(source) => Ok(source),
            None => Err(not_found(name, &known)),
        }
    }
}

/// The sources that have names by the journal.
///
/// # Errors
/// [`CatalogueError`] when it cannot be read.
pub fn journaled_names(catalogue: &Catalogue) -> Result<BTreeSet<SourceName>, CatalogueError> {
    let records = catalogue.all::<NamedSource>()?;
    Ok(records.into_iter().map(|source| source.view.name).collect())
}

/// Journals what a name means from here on, and begins to look after it.
async fn begin(
    shared: Arc<Shared>,
    source: NamedSource,
    choice: Choice,
) -> Result<Arc<Entry>, Problem> {
    let sources = &shared.sources;
    let (name, wanted) = (source.view.name.clone(), source.wanted());
    let _turn = Arc::clone(&sources.turns).turn(&name).await;
    sources.check_room(&source.view)?;
    let journaled = sources.machine.catalogue.put(&source).await;
    journaled.map_err(|error| Problem::internal(&error))?;
    let before = sources.known().insert(name, source);
    let before = before.map(|source| source.wanted());
    let entry = upkeep::follow(&shared, wanted, Some(choice), before);
    shared.refresher.look();
    Ok(entry)
}

/// Ends what was made for a source, and then its name: what an engine's end cuts off can be asked for again.
async fn end(shared: Arc<Shared>, name: SourceName) -> Result<(), Problem> {
    let sources = &shared.sources;
    let _turn = Arc::clone(&sources.turns).turn(&name).await;
    let source = sources.take(&name)?;
    let wanted = source.wanted();
    shared.refresher.forget(&name);
    let catalogue = &sources.machine.catalogue;
    let ended = async {
        upkeep::forget(&shared, &wanted).await?;
        catalogue.remove::<NamedSource>(name.as_str()).await
    };
    ended.await.map_err(|error| {
        // The journal still has it, and so the next engine would.
        sources.known().insert(name.clone(), source);
        drop(upkeep::follow(&shared, wanted.clone(), None, None));
        Problem::internal(&error)
    })
}

/// Looks at a source again that somebody adds as it is already, where that could not be followed.
async fn look_again(entry: &Entry, wanted: &Wanted, shared: &Shared) -> Result<(), Problem> {
    if entry.phase().may_be_looked_at() {
        let choice = choose_way(wanted, shared).await?;
        match choice.way {
            Way::Dump => entry.dumped_for(choice.reasons),
            Way::Physical(_) | Way::Logical(_) => entry.look_again(),
        }
    }
    Ok(())
}

/// Every name of what a request means; none in somebody else's network, where an address is another server's.
fn names_of<'a>(
    known: &'a BTreeMap<SourceName, NamedSource>,
    spec: &Spec,
) -> impl Iterator<Item = &'a NamedSource> {
    let (url, database) = (spec.url(), spec.database());
    let is_here = spec.proxy.is_none();
    known
        .values()
        .filter(move |source| is_here && source.is_meant(&url, &database))
}

/// A source as it is when it is added.
fn describe(
    name: &SourceName,
    url: &PgUrl,
    facts: &Facts,
    care: &SourceCare,
    now: Timestamp,
) -> SourceView {
    SourceView {
        name: name.clone(),
        url: url.redacted(),
        database: facts.database.clone(),
        user: facts.session_user.clone(),
        version: facts.major,
        system_identifier: facts
            .system_identifier
            .clone()
            .unwrap_or_else(|| "unknown".to_owned()),
        addresses: care.addresses.clone(),
        prepare_sha256: care.prepare.as_ref().map(|sql| sha256(sql.reveal())),
        warm: care.warm,
        refresh_seconds: care.refresh_seconds,
        rate_bytes_max: care.rate_bytes_max,
        slot: care.slot.clone(),
        copied_at: None,
        looked_at: None,
        failure: None,
        progress: None,
        base: None,
        added_at: now,
    }
}

/// Who names a physical slot wants a base that follows by it, and no other.
fn with_slots_mode(care: SourceCare) -> Result<SourceCare, Problem> {
    let mode = match (care.mode, &care.slot) {
        (BaseMode::Logical, Some(slot)) => {
            let detail = format!("a subscription does not follow by the physical slot {slot:?}");
            let problem = Problem::new(ProblemKind::BadRequest, detail);
            return Err(problem.with_hint("name it with --mode physical, or leave it out"));
        }
        (BaseMode::Auto, Some(_)) => BaseMode::Physical,
        (mode, _) => mode,
    };
    Ok(SourceCare { mode, ..care })
}

/// How the base of a source that is being added is kept.
async fn choose_way(wanted: &Wanted, shared: &Shared) -> Result<Choice, Problem> {
    let upstream = wanted.upstream().map_err(|error| {
        let detail = format!("the source's URL for replication is {error}");
        Problem::new(ProblemKind::BadRequest, detail)
    })?;
    let disk = shared
        .bases
        .disk()
        .map_err(|error| Problem::internal(&error))?;
    let mode = wanted.care.mode;
    let chosen = choose(&wanted.care, &upstream, shared.bases.host(), disk).await;
    let choice = match chosen {
        Ok(choice) => choice,
        // It answers and can be dumped; whether it can be followed is asked again later.
        Err(error) if mode != BaseMode::Physical => Choice {
            way: Way::Dump,
            reasons: vec![chain(&error)],
        },
        Err(error) => {
            let detail = format!(
                "whether the source can be followed is not known: {}",
                chain(&error)
            );
            return Err(Problem::new(ProblemKind::Source, detail));
        }
    };
    if mode == BaseMode::Physical && matches!(choice.way, Way::Dump) {
        let reasons = choice.reasons.join("; ");
        let detail = format!("the source cannot be followed physically: {reasons}");
        let hint = match &wanted.care.slot {
            Some(_) => "fix that, or add it without --slot",
            None => "fix that, or add it with --mode auto, which dumps it until then",
        };
        return Err(Problem::new(ProblemKind::Source, detail).with_hint(hint));
    }
    Ok(choice)
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn not_found(name: &SourceName, known: &BTreeMap<SourceName, NamedSource>) -> Problem {
    let problem = Problem::new(ProblemKind::NotFound, format!("no source is named {name}"));
    if known.is_empty() {
        return problem.with_hint("add one with `bough source add URL --name NAME`");
    }
    let names: Vec<&str> = known.keys().map(SourceName::as_str).collect();
    problem.with_hint(format!("the named sources are {}", names.join(", ")))
}

#[cfg(test)]
mod on_a_server;

//! Copying a source into a base: one consistent moment of it, logically, with read rights alone.
//!
//! ```text
//!  plan ──▶ cluster ──▶ roles, database ──▶ snapshot ──▶ dump ──▶ load ──▶ finish ──▶ seal
//!  refuse   initdb,     as the source's     position in   pg_dump within it,  settings,   clean
//!  early    start                           the same      rows through        ANALYZE     shutdown
//!                                           transaction   filters
//! ```
//!
//! Owns the order, and that nothing is left running when it fails or is dropped. At most two connections to the source at
//! a time and `readers_max` that read rows, all read-only, for a bounded time. Each step is a file: `plan` refuses
//! what cannot work before anything is made, `cluster` runs the base's server, `roles` and `database` write statements,
//! `content` goes through structure and rows, `collations` compares how text sorts: `dump` runs `pg_dump`, `script` takes what it writes apart, `load` runs
//! that, `bulk` and `relay` move rows, `rows` copies them through filters, `late` builds indexes, `extensions` gives extensions to their owners. Leaves the directory,
//! and giving it its name, to `store`.

mod bulk;
mod cluster;
mod collations;
mod content;
mod database;
mod dotted;
mod dump;
mod dump_args;
mod error;
mod exported;
mod extensions;
mod late;
mod load;
mod pace;
mod pattern;
mod plan;
mod progress;
mod relay;
pub(super) mod roles;
mod rows;
mod script;
mod tables;
mod views;
mod waiters;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use model::engine_api::{CopyPhase, CopyProgress};
use model::{ByteSize, CopyMode, CopySpec, PgMajor, PgUrl, Secret};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use collations::Versions;
pub(super) use dump_args::copied_relations;
pub use dump_args::{SpecError, check_spec};
pub use error::CopyError;
pub use exported::Exported;
pub use script::ScriptError;

use super::forgotten;
use crate::clock::Clock;
use crate::postgres::account::ServerAccount;
use crate::postgres::binaries::Installations;
use crate::postgres::connect::Session;
use crate::postgres::initdb::ADMIN_ROLE;
use crate::postgres::password::set_password;
use crate::postgres::settings::SemanticSettings;
use crate::source::movement::Position;
use crate::source::{SourceAccess, SourceError};
use crate::volume::measure;
use cluster::Cluster;
use content::{Content, Unfinished};
use plan::Plan;
use progress::Progress;
pub(super) use progress::WaitsForOthers;

/// What the volume has, measured by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskBudget {
    /// Free space.
    pub free: ByteSize,
    /// Free space that must stay.
    pub floor: ByteSize,
}

/// A base to copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyRequest<'a> {
    /// The source.
    pub access: &'a SourceAccess,
    /// What of it.
    pub copy: &'a CopySpec,
    /// The base's version; none: the source's.
    pub version: Option<PgMajor>,
    /// A snapshot that another session of the source exported; none: the copy takes one of its own.
    pub within: Option<&'a Exported>,
    /// An existing empty directory: the data directory becomes `data` in it, the server's log `server.log`.
    pub directory: &'a Path,
    /// The directory of the base's socket; made with mode 0700.
    pub socket_dir: &'a Path,
    /// The programs.
    pub installations: &'a Installations,
    /// As whom the base's server runs.
    pub account: &'a ServerAccount,
    /// What the volume has.
    pub disk: DiskBudget,
    /// How long it may burden the source.
    pub burden: Burden,
    /// SQL that runs in the copied database before it is sealed.
    pub prepare: Option<&'a Secret>,
    /// Bytes a second that are read of the source's rows at most.
    pub rate_max: Option<ByteSize>,
    /// Connections to the source that read rows at once, beside the one with the snapshot and `pg_dump`'s.
    pub readers_max: u32,
    /// The most that is copied; none: whatever there is room for.
    pub size_max: Option<ByteSize>,
    /// Tells the time.
    pub clock: Clock,
}

impl CopyRequest<'_> {
    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn copies_extensions(&self) -> bool {
        self.copy.mode != CopyMode::Empty
    }
}

/// A base that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedBase {
    /// Where the source stood.
    pub position: Position,
    /// When that was.
    pub taken_at: Timestamp,
    /// The source's version.
    pub source_major: PgMajor,
    /// The base's version, and that of its branches.
    pub major: PgMajor,
    /// The database.
    pub database: String,
    /// Its owner.
    pub owner: String,
    /// Who we were on the source.
    pub source_user: String,
    /// Login roles that cannot log in on a branch: their passwords cannot be read, or they have none.
    pub roles_without_password: Vec<String>,
    /// Login roles whose passwords go on working.
    pub roles_with_verifier: Vec<String>,
    /// What the base does not have as the source has it, a sentence each.
    pub notes: Vec<String>,
    /// The password of `bough_admin`.
    pub admin_password: Secret,
    /// Whom its clones let in without being told: the user and password of the URL that it was copied by.
    #[serde(default)]
    pub admits: Option<Box<Admitted>>,
    /// The source's settings that branches take over.
    pub settings: SemanticSettings,
    /// The base on its disk.
    pub size_bytes: ByteSize,
}

/// A role whose password a base knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl Admitted {
    /// The role that a URL logs in as; none where it has no user or no password.
    pub fn of(url: &PgUrl) -> Option<Self> {
        let (user, password) = url.user().zip(url.password())?;
        Some(Self { user, password })
    }
}

/// For how long a copy may burden its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burden {
    /// How long it may take, and with it hold a snapshot open there.
    pub held_max: Duration,
    /// How long somebody may wait there for a table that it reads, before it gives way.
    pub waited_max: Duration,
}

/// Copies a source. `progress` says how far it is from the start on.
///
/// A future that is dropped leaves nothing running but a server that is ending: call [`sweep`] on the data directory before
/// removing it.
///
/// # Errors
/// [`CopyError`]. What was made is the caller's to remove.
///
/// [`sweep`]: crate::postgres::server::sweep
pub async fn copy(
    request: &CopyRequest<'_>,
    progress: &watch::Sender<Option<CopyProgress>>,
) -> Result<CopiedBase, CopyError> {
    let progress = Progress::begin(progress, request.disk.free, request.clock.now());
    let held_max = request.burden.held_max;
    let copied = tokio::time::timeout(held_max, copy_all(request, &progress));
    let seconds = held_max.as_secs();
    copied.await.unwrap_or(Err(CopyError::TimedOut { seconds }))
}

async fn copy_all(
    request: &CopyRequest<'_>,
    progress: &Progress<'_>,
) -> Result<CopiedBase, CopyError> {
    let source = request.access.connect().await.map_err(SourceError::from)?;
    let plan = plan::make(request, &source, progress).await?;
    // An idle session might not live as long as the next steps take.
    drop(source);
    let mut notes = first_notes(request, &plan);
    progress.phase(CopyPhase::Preparing);
    let cluster = Cluster::make(request, &plan, &mut notes).await?;
    make_database(&cluster, &plan).await?;
    let base = cluster.connect(&plan.facts.database).await?;
    drop_what_is_gone(&base, &plan).await?;
    let source = request.access.connect().await.map_err(SourceError::from)?;
    // Before the snapshot: data is never said to be of later than it is.
    let taken_at = request.clock.now();
    let position = Position::begin_within(&source, request.within.map(Exported::name)).await?;
    if let Some(exported) = request.within {
        exported.release();
    }
    progress.phase(CopyPhase::Copying);
    let content = Content {
        request,
        plan: &plan,
        source: &source,
        cluster: &cluster,
        base: &base,
    };
    let unfinished = read_or_give_way(&content, progress).await?;
    let there = match request.copy.mode {
        CopyMode::Empty => None,
        CopyMode::All | CopyMode::Schema => Some(Versions::of_source(&source).await?),
    };
    // The source is needed no more, and its locks go.
    drop(source);
    if let Some(unfinished) = unfinished {
        unfinished.finish(&mut notes, progress).await?;
        extensions::give_to_owners(&base, &plan).await?;
    }
    if let Some(there) = there {
        notes.extend(Versions::of_copy(&base).await?.note(&there));
    }
    if let Some(sql) = request.prepare {
        progress.phase(CopyPhase::Adapting);
        adapt(&cluster, &plan, sql).await?;
    }
    progress.phase(CopyPhase::Sealing);
    gather_statistics(base, &mut notes).await?;
    finish(&cluster, &plan, &mut notes).await?;
    let admits = admit(&cluster, &request.access.url).await;
    let (admin_password, settings) = cluster.seal().await?;
    let known = request
        .access
        .url
        .password()
        .map(|_| plan.facts.session_user.as_str());
    let login_roles = roles::login_roles(&plan.roles, known);
    Ok(CopiedBase {
        position,
        taken_at,
        source_major: plan.facts.major,
        major: plan.major(),
        database: plan.facts.database.clone(),
        owner: plan.roles.database.owner.clone(),
        source_user: plan.facts.session_user.clone(),
        roles_without_password: login_roles.without_password,
        roles_with_verifier: login_roles.with_verifier,
        notes,
        admin_password,
        admits,
        settings,
        size_bytes: measure(request.data()).await,
    })
}

/// Reads the source, unless somebody there waits too long for what that holds.
async fn read_or_give_way<'a>(
    content: &Content<'_, 'a>,
    progress: &Progress<'_>,
) -> Result<Option<Unfinished<'a>>, CopyError> {
    let (access, burden) = (content.request.access, content.request.burden);
    tokio::select! {
        unfinished = content.read(progress) => unfinished,
        given_way = waiters::wait_for_one(access, content.source, burden.waited_max) => Err(given_way),
    }
}

/// What is known to be otherwise before the copy begins.
fn first_notes(request: &CopyRequest<'_>, plan: &Plan<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let facts = &plan.facts;
    let url_user = request.access.url.user();
    if url_user.as_deref() != Some(facts.session_user.as_str()) {
        notes.push(format!(
            "the source knows the URL's user as {}: a pooler or proxy may stand between",
            facts.session_user
        ));
    }
    if request.copy.mode == CopyMode::Empty {
        return notes;
    }
    if !facts.tablespaces.is_empty() {
        notes.push(format!(
            "the tablespaces {} became the standard one",
            facts.tablespaces.join(", ")
        ));
    }
    if !facts.subscriptions.is_empty() {
        notes.push(format!(
            "the subscriptions {} were left out",
            facts.subscriptions.join(", ")
        ));
    }
    if facts
        .extensions
        .iter()
        .any(|extension| extension.name == "pg_cron")
    {
        notes.push(forgotten::NO_JOBS.to_owned());
    }
    notes
}

/// Makes the roles and the database as the source has them.
async fn make_database(cluster: &Cluster<'_>, plan: &Plan<'_>) -> Result<(), CopyError> {
    let admin = cluster.connect(database::MAINTENANCE).await?;
    for statement in roles::create(&plan.roles, plan.major()) {
        let made = admin.batch_execute(&statement).await;
        made.map_err(|source| CopyError::of_base("make the source's roles", source))?;
    }
    for statement in database::create(&plan.facts, &plan.roles.database) {
        let made = admin.batch_execute(&statement).await;
        made.map_err(|source| CopyError::Database {
            database: plan.facts.database.clone(),
            encoding: plan.facts.encoding.clone(),
            locale: database::describe_locale(&plan.facts.collation),
            source,
        })?;
    }
    Ok(())
}

/// A new database has a schema and a language that the source may have dropped.
async fn drop_what_is_gone(base: &Session, plan: &Plan<'_>) -> Result<(), CopyError> {
    for object in &plan.facts.dropped {
        let dropped = base.batch_execute(&format!("DROP {object}")).await;
        dropped.map_err(|source| CopyError::of_base(format!("drop {object}"), source))?;
    }
    Ok(())
}

/// Gives the role of the URL the URL's password once, so that no clone has to. Where the copy has no such role, each clone
/// says so.
async fn admit(cluster: &Cluster<'_>, url: &PgUrl) -> Option<Box<Admitted>> {
    // Our own role keeps its password: a source that is a branch may have been given by it.
    let admitted = Admitted::of(url).filter(|admitted| admitted.user != ADMIN_ROLE)?;
    let admin = cluster.connect(database::MAINTENANCE).await.ok()?;
    let set = set_password(&admin, &admitted.user, &admitted.password).await;
    set.is_ok().then(|| Box::new(admitted))
}

/// Runs what an administrator wants done to every copy, in a session of its own. It sees names as in a copy of the source's
/// files: a mask that found another table here would leave the right one as it is.
async fn adapt(cluster: &Cluster<'_>, plan: &Plan<'_>, sql: &Secret) -> Result<(), CopyError> {
    let session = cluster.connect(&plan.facts.database).await?;
    let path = roles::search_path(&plan.roles.settings);
    let set = session.batch_execute(&path).await;
    set.map_err(|source| CopyError::of_base("prepare a session", source))?;
    let done = session.batch_execute(sql.reveal()).await;
    done.map_err(CopyError::Adapt)
}

/// In the session that loaded, for a new one might set triggers off. It sees names as any other again.
async fn gather_statistics(base: Session, notes: &mut Vec<String>) -> Result<(), CopyError> {
    let failed = |source| CopyError::of_base("gather statistics", source);
    base.batch_execute("RESET ALL").await.map_err(failed)?;
    let Err(source) = base.batch_execute("ANALYZE").await else {
        return Ok(());
    };
    if error::is_full(&source) || source.as_db_error().is_none() {
        return Err(failed(source));
    }
    // An index's own function may fail; autovacuum gathers the rest on the branch.
    notes.push("statistics could not be gathered for every table".to_owned());
    Ok(())
}

/// Settings come last: they bind every session, ours too.
async fn finish(
    cluster: &Cluster<'_>,
    plan: &Plan<'_>,
    notes: &mut Vec<String>,
) -> Result<(), CopyError> {
    let name = &plan.facts.database;
    let admin = cluster.connect(database::MAINTENANCE).await?;
    for statement in database::finish(name, &plan.roles.database) {
        let done = admin.batch_execute(&statement).await;
        done.map_err(|source| CopyError::of_base("give the database its rights", source))?;
    }
    for setting in &plan.roles.settings {
        let Some(statement) = roles::set(setting, name) else {
            notes.push(format!(
                "the default setting of {} was left out",
                setting.name
            ));
            continue;
        };
        if let Err(source) = admin.batch_execute(&statement).await {
            if source.as_db_error().is_none() || error::is_full(&source) {
                return Err(CopyError::of_base("set the defaults of roles", source));
            }
            // The transaction of a list's statement is still open.
            let ended = admin.batch_execute("ROLLBACK").await;
            ended.map_err(|source| CopyError::of_base("set the defaults of roles", source))?;
            notes.push(format!(
                "the default setting of {} is not possible here",
                setting.name
            ));
        }
    }
    grant_parameters(&admin, plan, notes).await
}

async fn grant_parameters(
    admin: &Session,
    plan: &Plan<'_>,
    notes: &mut Vec<String>,
) -> Result<(), CopyError> {
    for right in &plan.roles.parameter_rights {
        if let Err(source) = admin.batch_execute(&roles::grant_parameter(right)).await {
            if source.as_db_error().is_none() || error::is_full(&source) {
                return Err(CopyError::of_base("give rights on settings", source));
            }
            let (right, parameter) = (&right.right, &right.parameter);
            notes.push(format!(
                "the right {right} on {parameter} is not possible here"
            ));
        }
    }
    Ok(())
}

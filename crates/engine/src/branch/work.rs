//! What a state has to do, done: waits for a base, clones, starts, watches, removes. Answers with an outcome.
//!
//! Owns nothing that lasts: it works on a copy of the record, and the driver decides what an outcome means. Every
//! work may be dropped at any await and done again.

use std::path::PathBuf;
use std::sync::Arc;

use model::engine_api::BaseView;
use model::{ByteSize, PgUrl};

use super::record::{BranchRecord, Origin};
use super::state::{Failure, Work};
use crate::app::Shared;
use crate::base::BaseName;
use crate::base::store::{BasePin, FreshBase};
use crate::http::chain;
use crate::postgres::connect::connect_local;
use crate::postgres::initdb::ADMIN_ROLE;
use crate::postgres::password::set_password;
use crate::postgres::server::{Launch, Server, StopMode, adopt, start, sweep};
use crate::postgres::settings::{Purpose, ServerSettings};
use crate::volume::{Cancel, VolumeError, free_space, remove_tree};

/// What a work needs to know.
#[derive(Debug)]
pub(super) struct Brief {
    /// The branch.
    pub(super) record: BranchRecord,
    /// Its server, where one runs.
    pub(super) server: Option<Arc<Server>>,
    /// The hold on its base, where it has one.
    pub(super) pin: Option<BasePin>,
}

/// How a work ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A fresh base.
    BaseFound {
        base: BaseName,
        pin: BasePin,
        origin: Box<Origin>,
    },
    /// The base was dropped before it could be cloned.
    BaseGone,
    /// The clone stands.
    Cloned,
    /// The server answers.
    Started(Arc<Server>),
    /// The server ended.
    ServerExited,
    /// Nothing is left on disk.
    Removed,
    /// It cannot be done.
    Failed(Failure),
}

/// Does `work`.
pub(super) async fn perform(work: Work, brief: Brief, shared: Arc<Shared>) -> Outcome {
    let done = match work {
        Work::AwaitBase => await_base(&brief, &shared).await,
        Work::Clone(base) => clone(&brief, &base, &shared).await,
        Work::Start => start_server(&brief, &shared).await,
        Work::Serve => serve(&brief).await,
        Work::Remove => remove(&brief, &shared).await,
        Work::Rest | Work::Finish => std::future::pending().await,
    };
    done.unwrap_or_else(Outcome::Failed)
}

fn failure(
    tried: &str,
    error: &(dyn std::error::Error + 'static),
    hint: Option<String>,
) -> Failure {
    Failure {
        message: format!("{tried}: {}", chain(error)),
        hint,
    }
}

async fn await_base(brief: &Brief, shared: &Shared) -> Result<Outcome, Failure> {
    let fresh = shared.bases.fresh(&brief.record.spec).await;
    let fresh = fresh.map_err(|error| {
        let source = brief.record.spec.view();
        failure(
            &format!("no copy of {} at {}", source.database, source.source),
            &error,
            error.hint(),
        )
    })?;
    let origin = Box::new(origin_of(&fresh));
    Ok(Outcome::BaseFound {
        base: fresh.name,
        pin: fresh.pin,
        origin,
    })
}

fn origin_of(fresh: &FreshBase) -> Origin {
    let copied = &fresh.copied;
    Origin {
        base: BaseView {
            position: copied.position.lsn.clone(),
            taken_at: copied.taken_at,
            freshness: fresh.freshness,
            source_version: copied.source_major,
            roles_without_password: copied.roles_without_password.clone(),
            notes: copied.notes.clone(),
        },
        version: copied.major,
        database: copied.database.clone(),
        admin_password: copied.admin_password.clone(),
        server_settings: copied.settings.clone(),
        size_bytes: copied.size_bytes,
    }
}

/// Cancels a clone whose work was dropped.
struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Clones under a temporary name, then renames: what stands under the final name is whole.
async fn clone(brief: &Brief, base: &BaseName, shared: &Shared) -> Result<Outcome, Failure> {
    let name = &brief.record.name;
    let (making, last) = (
        shared.layout.making_of(name.as_str()),
        shared.layout.branch(name),
    );
    if last.is_dir() {
        return Ok(Outcome::Cloned);
    }
    let Some(_pin) = brief.pin.clone().or_else(|| shared.bases.pin(base)) else {
        return Ok(Outcome::BaseGone);
    };
    check_room(brief, shared)?;
    let data = shared.layout.base(base).join("data");
    let (volume, cancel) = (Arc::clone(&shared.volume), Arc::new(Cancel::default()));
    let _cancel_on_drop = CancelOnDrop(Arc::clone(&cancel));
    // One clone of a name at a time: a dropped one may still be at its last file.
    let turn = Arc::clone(&shared.clone_turns).turn(name).await;
    let cloned = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        remove_tree(&making)?;
        let make = |source| VolumeError::File {
            what: "make",
            path: making.clone(),
            source,
        };
        std::fs::create_dir(&making).map_err(make)?;
        volume.clone_tree(&data, &making.join("data"), &cancel)?;
        std::fs::rename(&making, &last).map_err(make)
    });
    match cloned.await {
        Ok(Ok(())) => Ok(Outcome::Cloned),
        Ok(Err(error)) => {
            let hint = error.is_full().then(|| {
                "free space on the volume, or destroy branches that nobody needs".to_owned()
            });
            Err(failure("cannot clone the base", &error, hint))
        }
        Err(error) => Err(failure("cannot clone the base", &error, None)),
    }
}

fn check_room(brief: &Brief, shared: &Shared) -> Result<(), Failure> {
    let free = free_space(&shared.layout.volume())
        .map_err(|error| failure("cannot clone the base", &error, None))?;
    let size = brief
        .record
        .origin
        .as_ref()
        .map_or(ByteSize(0), |origin| origin.size_bytes);
    let clone = if shared.volume.clone_takes_room() {
        size
    } else {
        ByteSize(0)
    };
    let floor = shared.limits.free_floor_bytes;
    if free.0 >= clone.0.saturating_add(floor.0) {
        return Ok(());
    }
    Err(Failure {
        message: format!(
            "no room for the branch: a clone takes {clone}, {floor} stay free, and {} has {free} free",
            shared.layout.volume().display()
        ),
        hint: Some("free space on the volume, or destroy branches that nobody needs".to_owned()),
    })
}

/// Adopts the living server or starts one, and lets the application's user in.
async fn start_server(brief: &Brief, shared: &Shared) -> Result<Outcome, Failure> {
    let record = &brief.record;
    let directory = shared.layout.branch(&record.name);
    let data = directory.join("data");
    let tried = "cannot start the branch's server";
    let server = match adopt(&data)
        .await
        .map_err(|error| failure(tried, &error, None))?
    {
        Some(server) => server,
        None => start_anew(record, shared, directory, data).await?,
    };
    // From here a failure leaves a running server, which the removal that follows ends.
    accept_application(record, shared).await?;
    Ok(Outcome::Started(Arc::new(server)))
}

async fn start_anew(
    record: &BranchRecord,
    shared: &Shared,
    directory: PathBuf,
    data: PathBuf,
) -> Result<Server, Failure> {
    let tried = "cannot start the branch's server";
    let origin = origin(record)?;
    sweep(&data)
        .await
        .map_err(|error| failure(tried, &error, None))?;
    let installation = shared.installations.server(origin.version);
    let installation = installation.map_err(|error| failure(tried, &error, Some(error.hint())))?;
    let settings = ServerSettings {
        purpose: Purpose::Branch,
        socket_dir: shared.layout.socket_dir(record.name.as_str()),
        identity: record.identity.clone(),
        semantic: origin.server_settings.clone(),
    };
    let log = directory.join("server.log");
    let account = &shared.account;
    let launch = Launch {
        installation,
        account,
        data: &data,
        log: &log,
        settings: &settings,
    };
    start(&launch)
        .await
        .map_err(|error| failure(tried, &error, None))
}

fn origin(record: &BranchRecord) -> Result<&Origin, Failure> {
    let message = || Failure {
        message: "the record of the branch names no base".to_owned(),
        hint: None,
    };
    record.origin.as_ref().ok_or_else(message)
}

/// Gives the role of the source's URL the URL's password, so that the application's own credentials work.
pub(super) async fn accept_application(
    record: &BranchRecord,
    shared: &Shared,
) -> Result<(), Failure> {
    let tried = "cannot let the application's user in";
    let origin = origin(record)?;
    let url: PgUrl = record.spec.url();
    let (Some(user), Some(password)) = (url.user(), url.password()) else {
        return Ok(());
    };
    let socket_dir = shared.layout.socket_dir(record.name.as_str());
    let session = connect_local(&socket_dir, MAINTENANCE, ADMIN_ROLE, &origin.admin_password).await;
    let session = session.map_err(|error| failure(tried, &error, None))?;
    set_password(&session, &user, &password)
        .await
        .map_err(|error| failure(tried, &error, None))
}

/// Watches the server until it ends.
async fn serve(brief: &Brief) -> Result<Outcome, Failure> {
    if let Some(server) = &brief.server {
        server.exited().await;
    }
    Ok(Outcome::ServerExited)
}

/// Ends the server at once and removes every file.
async fn remove(brief: &Brief, shared: &Shared) -> Result<Outcome, Failure> {
    let name = &brief.record.name;
    let (making, directory) = (
        shared.layout.making_of(name.as_str()),
        shared.layout.branch(name),
    );
    let data = directory.join("data");
    loop {
        let _turn = Arc::clone(&shared.clone_turns).turn(name).await;
        if let Some(server) = &brief.server {
            // What a polite end would not reach, the sweep does.
            let _ = server.stop(StopMode::Immediate).await;
        }
        let swept = sweep(&data).await.map_err(|error| chain(&error));
        let (making, directory) = (making.clone(), directory.clone());
        let sockets = shared.layout.socket_dir(name.as_str());
        let removed = tokio::task::spawn_blocking(move || {
            remove_tree(&making)
                .and(remove_tree(&directory))
                .and(remove_tree(&sockets))
        });
        let removed = removed.await;
        let removed = removed.unwrap_or(Ok(())).map_err(|error| chain(&error));
        match swept.and(removed) {
            Ok(()) => return Ok(Outcome::Removed),
            Err(why) => {
                tracing::error!(branch = %name, why, "cannot remove a branch, trying again")
            }
        }
        tokio::time::sleep(REMOVE_RETRY_PAUSE).await;
    }
}

/// The database that a branch's user can hardly have dropped (PostgreSQL documentation, section 23.3).
const MAINTENANCE: &str = "template1";

/// How long a failed removal waits before its next try: what holds a file or a process takes time to let go.
const REMOVE_RETRY_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

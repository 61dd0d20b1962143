//! Clones: writable copies of snapshots, each with a server of its own. A branch has one; the pool keeps some nameless.
//!
//! Owns making their files, starting or adopting their servers, letting the application's user in, and removing every
//! trace. Each of these may be dropped at any await and done again. Leaves to `branch` and `pool` who a clone is for.

pub mod logs;
pub mod warm_up;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::chain;
use model::{ByteSize, PgMajor, PgUrl, Secret};
use serde::{Deserialize, Serialize};

use crate::base::SnapshotName;
use crate::base::copy::{Admitted, CopiedBase};
use crate::machine::Machine;
use crate::postgres::binaries::BinariesError;
use crate::postgres::connect::{ConnectError, connect_unnoticed};
use crate::postgres::password::{PasswordError, set_password};
use crate::postgres::server::{
    Launch, Server, ServerError, StartError, StopMode, adopt, start, sweep,
};
use crate::postgres::settings::{Purpose, SemanticSettings, ServerSettings};
use crate::volume::{Cancel, NoRoom, Promise, PromiseError, VolumeError, remove_tree};

/// The database that a branch's user can hardly have dropped (PostgreSQL documentation, section 23.3).
const MAINTENANCE: &str = "template1";

/// Connections without which a server is of no use: PostgreSQL keeps 3 of them for superusers, of which ours is one.
const CONNECTIONS_LEAST: u32 = 10;

/// How long a failed removal waits before its next try: what holds a file or a process takes time to let go.
const REMOVE_RETRY_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// The name of a clone: 16 random hexadecimal digits. Its directories bear it, and its server answers with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CloneName(String);

impl CloneName {
    /// A name that no other clone has.
    pub fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the clone's server answers to `SHOW cluster_name`: proof that a connection ended there.
    pub fn identity(&self) -> String {
        format!("bough-{}", self.0)
    }
}

impl fmt::Display for CloneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How servers of a snapshot's clones are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerImage {
    /// The major version.
    pub major: PgMajor,
    /// The password of the engine's own role.
    pub admin_password: Secret,
    /// The source's settings that applications notice.
    pub settings: SemanticSettings,
    /// The branch's database: of a physical base no other takes connections.
    #[serde(default)]
    pub database: String,
    /// Whom the clones let in without being told.
    #[serde(default)]
    pub admits: Option<Box<Admitted>>,
}

impl ServerImage {
    /// The servers of what was copied.
    pub fn of(copied: &CopiedBase) -> Self {
        Self {
            major: copied.major,
            admin_password: copied.admin_password.clone(),
            settings: copied.settings.clone(),
            database: copied.database.clone(),
            admits: copied.admits.clone(),
        }
    }

    /// Whether a clone that nobody was in lets the user of `url` in without being told: so that there is none to let in
    /// counts as well.
    pub fn admits_user_of(&self, url: &PgUrl) -> bool {
        let asked = Admitted::of(url);
        asked.is_none() || asked.as_ref() == self.admits.as_deref()
    }
}

/// Why a clone could not be made, started or opened to the application.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// There is less room than it takes and must stay.
    #[error(
        "no room for the branch: a clone takes {clone}, {floor} stay free, and {volume} has {free} free"
    )]
    NoRoom {
        /// What a clone takes from the start.
        clone: ByteSize,
        /// What stays free.
        floor: ByteSize,
        /// What is free.
        free: ByteSize,
        /// The volume's directory.
        volume: String,
    },
    /// The files could not be cloned.
    #[error("cannot clone the snapshot {snapshot}")]
    Files {
        /// The snapshot.
        snapshot: SnapshotName,
        /// Why.
        #[source]
        source: VolumeError,
    },
    /// The thread that cloned ended early.
    #[error("the clone of the snapshot {snapshot} was interrupted")]
    Interrupted {
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// There is no server program of the version.
    #[error("cannot start the branch's server")]
    Program(#[from] BinariesError),
    /// What runs in its directory cannot be looked at or ended.
    #[error("cannot end what runs in the branch's directory")]
    Server(#[from] ServerError),
    /// The server did not start.
    #[error("cannot start the branch's server")]
    Start(#[from] StartError),
    /// The engine's own role cannot log in.
    #[error("cannot let the application's user in")]
    Connect(#[from] ConnectError),
    /// The application's role did not get its password.
    #[error("cannot let the application's user in")]
    Password(#[from] PasswordError),
}

impl CloneError {
    /// Whether more room on the volume would help.
    pub fn wants_room(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Files { source, .. } => source.is_full(),
            Self::Interrupted { .. }
            | Self::Program(_)
            | Self::Server(_)
            | Self::Start(_)
            | Self::Connect(_)
            | Self::Password(_) => false,
        }
    }

    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRoom { .. } => Some(ROOM_HINT.to_owned()),
            Self::Files { source, .. } => source.is_full().then(|| ROOM_HINT.to_owned()),
            Self::Program(error) => Some(error.hint()),
            Self::Start(error) => error.hint().map(str::to_owned),
            Self::Interrupted { .. } | Self::Server(_) | Self::Connect(_) | Self::Password(_) => {
                None
            }
        }
    }
}

/// What to do where there is no room for a branch.
pub const ROOM_HINT: &str = "free space on the volume, or destroy branches that nobody needs";

/// Cancels a clone whose work was dropped.
struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Makes the clone's files under a temporary name, then renames: what stands under the final name is whole. A clone
/// that stands already is left as it is. `size` is the snapshot's; the caller holds the snapshot.
///
/// # Errors
/// [`CloneError::NoRoom`] before anything is made, [`CloneError::Files`] and [`CloneError::Interrupted`].
pub async fn make_files(
    machine: &Machine,
    name: &CloneName,
    snapshot: &SnapshotName,
    size: ByteSize,
) -> Result<(), CloneError> {
    let (making, last) = (
        machine.layout.making_of(name.as_str()),
        machine.layout.clone_dir(name),
    );
    if last.is_dir() {
        return Ok(());
    }
    let promise = promise_room(machine, snapshot, size).await?;
    let data = machine.layout.snapshot(snapshot).join("data");
    let (volume, cancel) = (Arc::clone(&machine.volume), Arc::new(Cancel::default()));
    let _cancel_on_drop = CancelOnDrop(Arc::clone(&cancel));
    let turn = Arc::clone(&machine.clone_turns).turn(name).await;
    let cloned = tokio::task::spawn_blocking(move || {
        let (_turn, _promise) = (turn, promise);
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
    let interrupted = |_| CloneError::Interrupted {
        snapshot: snapshot.clone(),
    };
    cloned
        .await
        .map_err(interrupted)?
        .map_err(|source| CloneError::Files {
            snapshot: snapshot.clone(),
            source,
        })
}

async fn promise_room(
    machine: &Machine,
    snapshot: &SnapshotName,
    size: ByteSize,
) -> Result<Promise, CloneError> {
    let clone = machine.clone_room(size);
    machine
        .promise_room(clone)
        .await
        .map_err(|error| match error {
            PromiseError::NoRoom(NoRoom {
                floor, free, path, ..
            }) => CloneError::NoRoom {
                clone,
                floor,
                free,
                volume: path.display().to_string(),
            },
            PromiseError::Volume(source) => CloneError::Files {
                snapshot: snapshot.clone(),
                source,
            },
        })
}

fn data_dir(machine: &Machine, name: &CloneName) -> PathBuf {
    machine.layout.clone_dir(name).join("data")
}

/// The clone's living server, where an engine before this one left it.
///
/// # Errors
/// [`CloneError::Server`] when the machine does not let us look.
pub async fn adopt_server(
    machine: &Machine,
    name: &CloneName,
) -> Result<Option<Server>, CloneError> {
    Ok(adopt(&data_dir(machine, name)).await?)
}

/// The clone's server: the living one adopted, or one started.
///
/// # Errors
/// [`CloneError`]; nothing is left running.
pub async fn run_server(
    machine: &Machine,
    name: &CloneName,
    image: &ServerImage,
) -> Result<Server, CloneError> {
    let data = data_dir(machine, name);
    if let Some(server) = adopt(&data).await? {
        return Ok(server);
    }
    let log = machine.layout.clone_dir(name).join("server.log");
    // A server's log is there before the server: without one nothing has ever run here, and looking at every process
    // of the machine would take longer the more branches there are.
    if log.exists() {
        sweep(&data).await?;
    }
    let mut semantic = image.settings.clone();
    let connections_max = machine
        .limits
        .connections_per_branch_max
        .max(CONNECTIONS_LEAST);
    semantic.insert("max_connections".to_owned(), connections_max.to_string());
    let settings = ServerSettings {
        purpose: Purpose::Branch,
        socket_dir: machine.layout.socket_dir(name.as_str()),
        identity: name.identity(),
        semantic,
    };
    let launch = Launch {
        installation: machine.installations.server(image.major)?,
        account: &machine.account,
        data: &data,
        log: &log,
        settings: &settings,
    };
    Ok(start(&launch).await?)
}

/// Does beforehand what the first client of the clone's database would wait for. What cannot be done is left to that
/// client.
pub async fn warm_up(machine: &Machine, name: &CloneName, image: &ServerImage) {
    if image.database.is_empty() {
        return;
    }
    let socket_dir = machine.layout.socket_dir(name.as_str());
    let (database, password) = (&image.database, &image.admin_password);
    match connect_unnoticed(&socket_dir, database, password, image.major).await {
        Ok(session) => warm_up::warm_up(&session).await,
        Err(error) => {
            tracing::debug!(clone = %name, %error, "a clone is not as warm as it could be")
        }
    }
}

/// Stops the clone's server cleanly: `server`, or one that an earlier engine left running.
///
/// # Errors
/// [`CloneError::Server`] when it does not end.
pub async fn stop_server(
    machine: &Machine,
    name: &CloneName,
    server: Option<&Server>,
) -> Result<(), CloneError> {
    if let Some(server) = server {
        return Ok(server.stop(StopMode::Fast).await?);
    }
    if let Some(server) = adopt(&data_dir(machine, name)).await? {
        server.stop(StopMode::Fast).await?;
    }
    Ok(())
}

/// Ends the clone's server at once, whether it is ready or not.
///
/// # Errors
/// [`CloneError::Server`] when something of it does not end.
pub async fn end_server(machine: &Machine, name: &CloneName) -> Result<(), CloneError> {
    Ok(sweep(&data_dir(machine, name)).await?)
}

/// Gives the role of `url` the URL's password, so that the application's own credentials work. Nothing where the URL
/// has no user or no password.
///
/// # Errors
/// [`CloneError::Connect`] or [`CloneError::Password`].
pub async fn let_application_in(
    machine: &Machine,
    name: &CloneName,
    image: &ServerImage,
    url: &PgUrl,
) -> Result<(), CloneError> {
    let Some(Admitted { user, password }) = Admitted::of(url) else {
        return Ok(());
    };
    let socket_dir = machine.layout.socket_dir(name.as_str());
    let enter = async |database: &str| {
        connect_unnoticed(&socket_dir, database, &image.admin_password, image.major).await
    };
    let session = match enter(MAINTENANCE).await {
        Ok(session) => session,
        Err(_) if !image.database.is_empty() => enter(&image.database).await?,
        Err(error) => return Err(error.into()),
    };
    set_password(&session, &user, &password).await?;
    Ok(())
}

/// As [`remove_telling`], where nobody listens but the log.
pub async fn remove(machine: &Machine, name: &CloneName, server: Option<&Server>) {
    remove_telling(machine, name, server, |_| ()).await;
}

/// Ends the clone's server at once and removes every file. Tries again until it is done, and tells why it has to. Killed half
/// way, it leaves nothing under the clone's own name: no server starts in what is left.
pub async fn remove_telling(
    machine: &Machine,
    name: &CloneName,
    server: Option<&Server>,
    tell: impl Fn(&str) + Send + Sync,
) {
    while let Err(why) = try_to_remove(machine, name, server).await {
        tell(&why);
        tracing::error!(clone = %name, why, "cannot remove a clone, trying again");
        tokio::time::sleep(REMOVE_RETRY_PAUSE).await;
    }
}

/// Moves what stands under a final name, where anything does, to where nothing is whole. A full disk that cannot take the
/// new entry keeps nobody from removing it where it is.
fn vacate(last: &Path, making: &Path) -> Result<(), VolumeError> {
    match std::fs::rename(last, making) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        Err(source) => Err(VolumeError::File {
            what: "move",
            path: last.to_owned(),
            source,
        }),
    }
}

async fn try_to_remove(
    machine: &Machine,
    name: &CloneName,
    server: Option<&Server>,
) -> Result<(), String> {
    let turn = Arc::clone(&machine.clone_turns).turn(name).await;
    if let Some(server) = server {
        // What a polite end would not reach, the sweep does.
        let _ = server.stop(StopMode::Immediate).await;
    }
    sweep(&data_dir(machine, name))
        .await
        .map_err(|error| chain(&error))?;
    let (making, last, sockets) = (
        machine.layout.making_of(name.as_str()),
        machine.layout.clone_dir(name),
        machine.layout.socket_dir(name.as_str()),
    );
    let removed = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        remove_tree(&making)?;
        vacate(&last, &making)?;
        [making, last, sockets]
            .iter()
            .try_for_each(|directory| remove_tree(directory))
    });
    let removed = removed.await.map_err(|error| chain(&error))?;
    removed.map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_go_is_whole_under_its_own_name_or_not_there() {
        let home = tempfile::tempdir().unwrap();
        let (last, making) = (home.path().join("clones"), home.path().join("making"));
        std::fs::create_dir_all(last.join("data/base")).unwrap();
        vacate(&last, &making).unwrap();
        assert!(
            !last.exists(),
            "a kill from here on leaves half a clone in making/ alone"
        );
        assert!(making.join("data/base").is_dir());
        // The next try, or that of the next engine.
        remove_tree(&making).unwrap();
        vacate(&last, &making).unwrap();
        assert!(!making.exists());
    }
}

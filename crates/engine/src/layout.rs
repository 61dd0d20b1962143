//! Where everything lies in the data directory.
//!
//! ```text
//! DATA/engine.sock         the API (0600)
//! DATA/engine.lock         held by the one engine
//! DATA/engine.log          the engine's log
//! DATA/engine.toml         its settings, where an administrator wrote them
//! DATA/door.key            what passes to guarded doors are sealed with (0600), in a branch host
//! DATA/catalogue.redb      branches, bases and sources (0600)
//! DATA/catalogue.backup.json  the same some seconds ago, as text (0600)
//! DATA/postgres/16/bin     servers that an administrator put here
//! DATA/volume/bases/NAME/  data/, server.log, replication.pass: a base that follows its source
//! DATA/volume/snapshots/NAME/  data/, server.log
//! DATA/volume/clones/NAME/  data/, server.log
//! DATA/volume/making/NAME/ what is not whole yet: removed at every start
//! DATA/run/NAME/           sockets of the servers, and of gateways to sources
//! ```
//!
//! Owns the names and the making of these directories. Leaves their content to those who own it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::base::SnapshotName;
use crate::base::living::BaseName;
use crate::clone::CloneName;

/// Bytes of a Unix socket's path (unix(7): `sun_path` has 108 with its NUL).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The longest name below the data directory that a socket of ours has.
const SOCKET_SUFFIX_BYTES: usize = "/run/pg-0123456789abcdef/.s.PGSQL.5432".len();

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Its path leaves no room for the sockets' names.
    #[error(
        "the data directory {path} has a path of {bytes} bytes, and sockets in it may have {SOCKET_PATH_BYTES_MAX}"
    )]
    TooLong {
        /// The data directory.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// A directory above the data directory keeps the servers' account out.
    #[error("the servers' account cannot pass {path}, which is above the data directory")]
    Impassable {
        /// The directory.
        path: PathBuf,
    },
    /// A directory could not be made or given its mode.
    #[error("cannot make the directory {path}")]
    Make {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Who else must get through the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Servers run as the engine does.
    Nobody,
    /// Servers run as another account, whose files are further in.
    ServerAccount,
}

impl Passage {
    fn mode(self) -> u32 {
        match self {
            Self::Nobody => 0o700,
            Self::ServerAccount => 0o711,
        }
    }
}

/// Whether every account may go through; what cannot be read is left to whoever tries.
fn is_passable(directory: &Path) -> bool {
    let mode = fs::metadata(directory).map_or(0o777, |metadata| metadata.permissions().mode());
    mode & 0o001 != 0
}

/// The paths of one data directory.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Takes `root` for the data directory and makes what is missing. Where servers run as another account, it may pass
    /// these directories and list none of them; else nobody else may enter.
    ///
    /// # Errors
    /// [`LayoutError`] names the directory.
    pub fn make(root: &Path, passage: Passage) -> Result<Self, LayoutError> {
        let bytes = root.as_os_str().len();
        if bytes + SOCKET_SUFFIX_BYTES > SOCKET_PATH_BYTES_MAX {
            return Err(LayoutError::TooLong {
                path: root.to_owned(),
                bytes,
            });
        }
        let layout = Self {
            root: root.to_owned(),
        };
        let passed = [
            layout.volume(),
            layout.bases(),
            layout.snapshots(),
            layout.clones(),
            layout.making(),
            layout.sockets(),
        ];
        for path in [root.to_owned()].into_iter().chain(passed) {
            let made = fs::create_dir_all(&path);
            // A directory that another command made may have another mode.
            let made = made.and_then(|()| {
                fs::set_permissions(&path, fs::Permissions::from_mode(passage.mode()))
            });
            made.map_err(|source| LayoutError::Make { path, source })?;
        }
        match (
            passage,
            root.ancestors().skip(1).find(|above| !is_passable(above)),
        ) {
            (Passage::ServerAccount, Some(above)) => Err(LayoutError::Impassable {
                path: above.to_owned(),
            }),
            (Passage::ServerAccount | Passage::Nobody, _) => Ok(layout),
        }
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The API's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.root.join("engine.sock")
    }

    /// The file whose lock makes one engine the only one.
    pub fn lock(&self) -> PathBuf {
        self.root.join("engine.lock")
    }

    /// The engine's log.
    pub fn log(&self) -> PathBuf {
        self.root.join("engine.log")
    }

    /// What passes to guarded doors are sealed with.
    pub fn door_key(&self) -> PathBuf {
        self.root.join("door.key")
    }

    /// The catalogue.
    pub fn catalogue(&self) -> PathBuf {
        self.root.join("catalogue.redb")
    }

    /// The volume's directory: snapshots and clones are below it, on one filesystem.
    pub fn volume(&self) -> PathBuf {
        self.root.join("volume")
    }

    /// Bases that follow their sources.
    pub fn bases(&self) -> PathBuf {
        self.volume().join("bases")
    }

    /// One such base.
    pub fn base(&self, name: &BaseName) -> PathBuf {
        self.bases().join(name.as_str())
    }

    /// Whole snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.volume().join("snapshots")
    }

    /// Whole clones.
    pub fn clones(&self) -> PathBuf {
        self.volume().join("clones")
    }

    /// What is not whole yet.
    pub fn making(&self) -> PathBuf {
        self.volume().join("making")
    }

    /// One snapshot.
    pub fn snapshot(&self, name: &SnapshotName) -> PathBuf {
        self.snapshots().join(name.to_string())
    }

    /// One clone.
    pub fn clone_dir(&self, name: &CloneName) -> PathBuf {
        self.clones().join(name.as_str())
    }

    /// Where something of this name is put together.
    pub fn making_of(&self, name: &str) -> PathBuf {
        self.making().join(name)
    }

    /// The sockets' directories.
    pub fn sockets(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The socket directory of one server.
    pub fn socket_dir(&self, name: &str) -> PathBuf {
        self.sockets().join(name)
    }
}

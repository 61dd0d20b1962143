//! Where xtask keeps things outside the repository.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Directories of this account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Bough's data directory; PostgreSQL goes into `postgres/<major>` of it.
    pub(crate) data: PathBuf,
    /// What can be fetched or built again: tools.
    pub(crate) cache: PathBuf,
}

impl Places {
    /// Of this process's account and environment.
    ///
    /// # Errors
    /// When neither `HOME` nor the XDG variables say where an ordinary user's files go.
    pub(crate) fn detect() -> Result<Self> {
        Self::from_environment(rustix::process::geteuid().is_root(), |name| {
            std::env::var_os(name)
        })
    }

    fn from_environment(
        root_user: bool,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self> {
        if root_user {
            return Ok(Self {
                data: "/var/lib/bough".into(),
                cache: "/var/cache/bough".into(),
            });
        }
        let set = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let of = |xdg: &str, in_home: &str| {
            set(xdg)
                .or_else(|| Some(set("HOME")?.join(in_home)))
                .with_context(|| format!("neither {xdg} nor HOME is set"))
        };
        Ok(Self {
            data: of("XDG_DATA_HOME", ".local/share")?.join("bough"),
            cache: of("XDG_CACHE_HOME", ".cache")?.join("bough"),
        })
    }
}

/// The root of the repository that this xtask was built from.
pub(crate) fn workspace() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates
        .and_then(Path::parent)
        .expect("this crate is two directories below the root")
}

/// Creates a directory and its parents, all readable for every account whatever the umask; leaves existing ones as
/// they are.
///
/// # Errors
/// When one cannot be created.
pub(crate) fn create_public_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_public_dir(parent)?;
    }
    match DirBuilder::new().mode(0o755).create(path) {
        // Another xtask was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.with_context(|| format!("create {}", path.display()))?,
    }
    fs::set_permissions(path, Permissions::from_mode(0o755))
        .with_context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_users_have_their_places() {
        let root = Places::from_environment(true, |_| None).expect("root needs no environment");
        assert_eq!(root.data, Path::new("/var/lib/bough"));
        assert_eq!(root.cache, Path::new("/var/cache/bough"));
        let home = |name: &str| (name == "HOME").then(|| "/home/a b".into());
        let user = Places::from_environment(false, home).expect("HOME is enough");
        assert_eq!(user.data, Path::new("/home/a b/.local/share/bough"));
        assert_eq!(user.cache, Path::new("/home/a b/.cache/bough"));
        let xdg = |name: &str| name.starts_with("XDG").then(|| format!("/x/{name}").into());
        let user = Places::from_environment(false, xdg).expect("XDG is enough");
        assert_eq!(user.data, Path::new("/x/XDG_DATA_HOME/bough"));
        assert!(Places::from_environment(false, |_| None).is_err());
    }

    #[test]
    fn public_directories_are_public_under_any_umask() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("a/b");
        create_public_dir(&inner).expect("created");
        create_public_dir(&inner).expect("there already");
        let mode = fs::metadata(&inner)
            .expect("it exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn the_workspace_is_found() {
        assert!(workspace().join("crates/xtask/Cargo.toml").is_file());
    }
}

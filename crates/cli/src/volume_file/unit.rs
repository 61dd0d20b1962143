//! The systemd mount unit that brings a volume back at every boot (systemd.mount(5)).

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::tools::{Tool, ToolError};

/// The unit's text with places for what differs.
const TEMPLATE: &str = include_str!("../../../../packaging/systemd/volume.mount");

/// Where an administrator's units are.
const UNITS: &str = "/etc/systemd/system";

/// What tells a machine that systemd started (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// How it is mounted. `discard` gives room back to the filesystem that the file is on; `nofail` lets a machine start
/// without it; nothing on it is a device or changes accounts.
pub(super) const OPTIONS: &str = "loop,discard,noatime,nodev,nosuid,nofail";

/// The unit of one mount point. Its name is the mount point's, escaped: systemd takes no other.
#[derive(Debug)]
pub(super) struct Unit {
    point: PathBuf,
    name: String,
}

impl Unit {
    pub(super) fn of(point: &Path) -> Self {
        Self {
            point: point.to_owned(),
            name: escape(point),
        }
    }

    /// Whether this machine has systemd to read it.
    pub(super) fn is_possible() -> bool {
        Path::new(BOOTED).is_dir()
    }

    /// The mount point, escaped.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn file_name(&self) -> String {
        format!("{}.mount", self.name)
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new(UNITS).join(self.file_name())
    }

    pub(super) fn is_there(&self) -> bool {
        self.path().exists()
    }

    /// The file that an installed unit mounts.
    pub(super) fn image(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.path()).ok()?;
        let what = text.lines().find_map(|line| line.strip_prefix("What="))?;
        Some(PathBuf::from(what.replace("%%", "%")))
    }

    pub(super) fn text(&self, owner: &str, image: &Path, filesystem: &str) -> String {
        // A percent sign begins a specifier (systemd.unit(5)).
        let path = |path: &Path| path.display().to_string().replace('%', "%%");
        TEMPLATE
            .replace("@OWNER@", &owner.replace('%', "%%"))
            .replace("@IMAGE@", &path(image))
            .replace("@POINT@", &path(&self.point))
            .replace("@FILESYSTEM@", filesystem)
            .replace("@OPTIONS@", OPTIONS)
    }

    /// Writes it, has systemd read it, and starts it, from now on at every boot.
    pub(super) fn install(&self, text: &str) -> Result<(), ToolError> {
        let path = self.path();
        fs::write(&path, text).map_err(|source| ToolError::File {
            what: "write",
            path,
            source,
        })?;
        systemctl(["daemon-reload"])?;
        systemctl(["enable", "--now", &self.file_name()])
    }

    /// Stops and removes it, where it is there.
    pub(super) fn remove(&self) -> Result<(), ToolError> {
        if !self.is_there() {
            return Ok(());
        }
        if Self::is_possible() {
            systemctl(["disable", "--now", &self.file_name()])?;
        }
        let path = self.path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ToolError::File {
                    what: "remove",
                    path,
                    source: error,
                });
            }
            Ok(()) | Err(_) => {}
        }
        if Self::is_possible() {
            systemctl(["daemon-reload"])?;
        }
        Ok(())
    }
}

fn systemctl<const N: usize>(arguments: [&str; N]) -> Result<(), ToolError> {
    Tool::new("systemctl", "systemd").with(arguments).run()
}

/// A path as systemd-escape(1) `--path` writes it: slashes become hyphens, and whatever is neither letter, digit nor one
/// of `:_.` becomes its bytes in hexadecimal, as does a dot in front.
fn escape(path: &Path) -> String {
    let normal = |part| match part {
        Component::Normal(name) => Some(name.as_encoded_bytes()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    };
    let parts = path.components().filter_map(normal);
    let joined = parts.collect::<Vec<_>>().join(&b'/');
    if joined.is_empty() {
        return "-".to_owned();
    }
    let mut name = String::new();
    for (at, byte) in joined.iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b':' | b'_' | b'.' => name.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(*byte)),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_systemd_does() {
        // As `systemd-escape --path` of systemd 252 prints them.
        for (path, name) in [
            (
                "/home/ada/.local/share/bough/volume",
                "home-ada-.local-share-bough-volume",
            ),
            ("/var/lib/bough/volume/", "var-lib-bough-volume"),
            ("/.hidden/a-b c", "\\x2ehidden-a\\x2db\\x20c"),
            ("/é", "\\xc3\\xa9"),
            ("/", "-"),
        ] {
            assert_eq!(escape(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn a_unit_says_what_is_mounted_where_and_how() {
        let unit = Unit::of(Path::new("/home/100%/bough/volume"));
        let text = unit.text("ada", Path::new("/disk/b.img"), "xfs");
        for line in [
            "What=/disk/b.img",
            "Where=/home/100%%/bough/volume",
            "Type=xfs",
            "Options=loop,discard,noatime,nodev,nosuid,nofail",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains('@'), "{text}");
    }
}

//! What only the system's package manager can give: checked here, never installed. `.ci/run` installs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Something of the system that a step needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// `npm` and `node`, for servers.
    Npm,
    /// Python 3 with `venv` and the `pip` in it, for client programs and typos.
    Python,
    /// Go 1.19 or newer, for the program of a story.
    Go,
    /// Java 11 or newer with its compiler, and Maven, for client programs.
    Java,
    /// PHP 8 with its PostgreSQL extension, for client programs.
    Php,
    /// `tar` with gzip, for npm's packages.
    Tar,
    /// Debian's PostgreSQL 15 with its client programs.
    Postgresql15,
    /// PgBouncer, for stories with a pooler.
    Pooler,
    /// `mkfs.xfs`, for tests of root on a filesystem with reflinks.
    Xfs,
    /// `mkfs.btrfs`, for tests of root on subvolumes.
    Btrfs,
    /// `ip` and `nft`, for tests in network namespaces.
    Network,
    /// What a Kubernetes node runs on: etcd, containerd, the plugins of pods' networks; and what its images are made
    /// with: a C compiler, and a maker of Debian systems.
    Cluster,
}

impl Requirement {
    /// The Debian packages that meet it.
    fn packages(self) -> &'static str {
        match self {
            Self::Npm => "nodejs npm",
            Self::Python => "python3 python3-venv",
            Self::Go => "golang-go",
            Self::Java => "default-jdk-headless maven",
            Self::Php => "php-cli php-pgsql",
            Self::Tar => "tar gzip",
            Self::Postgresql15 => "postgresql-15",
            Self::Pooler => "pgbouncer",
            Self::Xfs => "xfsprogs",
            Self::Btrfs => "btrfs-progs",
            Self::Network => "iproute2 nftables",
            Self::Cluster => {
                "etcd-server containerd runc containernetworking-plugins iptables conntrack build-essential mmdebstrap"
            }
        }
    }

    fn is_met(self) -> bool {
        let runs = |program: &str, arguments: &[&str]| {
            command::succeeds(Command::new(program).args(arguments))
        };
        match self {
            Self::Npm => runs("node", &["--version"]) && runs("npm", &["--version"]),
            Self::Python => runs("python3", &["-c", "import venv, ensurepip"]),
            Self::Go => command::succeeds(go().arg("version")),
            Self::Java => runs("javac", &["-version"]) && runs("mvn", &["--version"]),
            Self::Php => runs(
                "php",
                &["-r", "exit(function_exists('pg_connect') ? 0 : 1);"],
            ),
            Self::Tar => runs("tar", &["--version"]) && runs("gzip", &["--version"]),
            Self::Postgresql15 => {
                let bin = Path::new("/usr/lib/postgresql/15/bin");
                ["postgres", "initdb", "pg_dump", "psql"]
                    .iter()
                    .all(|program| bin.join(program).is_file())
            }
            Self::Pooler => Path::new("/usr/sbin/pgbouncer").is_file(),
            Self::Xfs => runs("mkfs.xfs", &["-V"]),
            Self::Btrfs => runs("mkfs.btrfs", &["--version"]),
            Self::Network => runs("ip", &["-V"]) && runs("nft", &["--version"]),
            Self::Cluster => {
                let programs = ["etcd", "containerd", "runc", "iptables", "cc", "mmdebstrap"];
                let plugins = ["bridge", "host-local", "loopback", "portmap"];
                programs.iter().all(|program| runs(program, &["--version"]))
                    && runs("conntrack", &["--version"])
                    && plugins
                        .iter()
                        .all(|plugin| Path::new("/usr/lib/cni").join(plugin).is_file())
            }
        }
    }
}

/// Go: the one on `PATH`, else the one where Go's own installation puts it, which few `PATH`s have.
pub(crate) fn go() -> Command {
    let usual = Path::new("/usr/local/go/bin/go");
    let on_path = command::succeeds(Command::new("go").arg("version"));
    if !on_path && usual.is_file() {
        return Command::new(usual);
    }
    Command::new("go")
}

/// Checks that the machine meets all of these.
///
/// # Errors
/// When it does not: the one command that installs what is missing.
pub(crate) fn require(requirements: &[Requirement]) -> Result<()> {
    let missing = requirements
        .iter()
        .copied()
        .filter(|requirement| !requirement.is_met());
    match advice(missing, rustix::process::geteuid().is_root()) {
        None => Ok(()),
        Some(advice) => bail!("{advice}"),
    }
}

fn advice(missing: impl Iterator<Item = Requirement>, root_user: bool) -> Option<String> {
    let packages: Vec<&str> = missing.map(Requirement::packages).collect();
    if packages.is_empty() {
        return None;
    }
    let packages = packages.join(" ");
    let sudo = if root_user { "" } else { "sudo " };
    Some(format!(
        "this machine lacks {packages}: run `{sudo}apt-get install -y {packages}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_one_command() {
        assert_eq!(advice(std::iter::empty(), true), None);
        let missing = [Requirement::Npm, Requirement::Postgresql15];
        let text = advice(missing.into_iter(), false).expect("something is missing");
        assert!(
            text.ends_with("`sudo apt-get install -y nodejs npm postgresql-15`"),
            "{text}"
        );
        let text = advice(missing.into_iter(), true).expect("something is missing");
        assert!(
            text.ends_with("`apt-get install -y nodejs npm postgresql-15`"),
            "{text}"
        );
    }
}

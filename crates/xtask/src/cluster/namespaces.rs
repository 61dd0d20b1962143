//! What separates the node from the machine: a network namespace joined by one veth pair, and a mount namespace.
//!
//! Everything here is undone by [`remove`], which may be called at any moment and again.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::{cgroups, volumes};
use crate::command;

/// The node's name, in Kubernetes and on this machine.
pub(super) const NODE: &str = "bough-node";

/// The node's address, and the machine's on the same wire.
pub(super) const NODE_ADDRESS: &str = "10.99.0.2";
const MACHINE_ADDRESS: &str = "10.99.0.1";

/// The two ends of the wire: names of at most 15 bytes (IFNAMSIZ).
pub(super) const MACHINE_LINK: &str = "bough-machine";
const NODE_LINK: &str = "bough-uplink";

/// Settings of the whole machine that a kubelet writes.
const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Directories of the machine that the node's programs write to wherever they are told to work: the names of pods'
/// networks and the sockets of containers' keepers, addresses given to pods, links to their logs, sockets of devices.
/// The node has an empty one in the place of each.
const PRIVATE: [&str; 4] = [
    "/run",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/lib/kubelet",
];

/// Where iproute2 names network namespaces: a mount of its own, which the first one makes and nobody removes.
pub(super) const NAMES: &str = "/run/netns";

/// The machine as it was.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    sysctls: Vec<(String, String)>,
    /// Directories that were not there.
    missing: Vec<PathBuf>,
}

/// The node's namespaces.
#[derive(Debug)]
pub(super) struct Namespaces {
    network: PathBuf,
    mount: PathBuf,
}

impl Namespaces {
    /// Those that [`make`] made.
    pub(super) fn of(place: &Place) -> Self {
        Self {
            network: Path::new(NAMES).join(NODE),
            mount: place.mount_namespace(),
        }
    }

    /// A command that runs inside and is waited for. Paths must be absolute: it begins at the root.
    pub(super) fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entry(program));
        command
    }

    /// A command that becomes `program` inside, in a terminal session of its own: whoever ends xtask does not end it.
    pub(super) fn process_inside(&self, program: &Path) -> Command {
        let mut command = Command::new("setsid");
        command.arg("nsenter").args(self.entry(program));
        command
    }

    fn entry(&self, program: &Path) -> Vec<std::ffi::OsString> {
        let option = |name: &str, file: &Path| {
            let mut option = std::ffi::OsString::from(name);
            option.push(file);
            option
        };
        vec![
            option("--net=", &self.network),
            option("--mount=", &self.mount),
            "--".into(),
            program.into(),
        ]
    }
}

/// Makes the namespaces and what they share with the machine: the wire, the volumes, the groups of processes.
///
/// # Errors
/// When the machine refuses one of them; what was made until then is [`remove`]'s.
pub(super) fn make(place: &Place) -> Result<Namespaces> {
    remember(place)?;
    cgroups::make()?;
    make_network()?;
    // Before the mount namespace, which then has them too.
    volumes::make(place)?;
    make_mounts(place)?;
    Ok(Namespaces::of(place))
}

fn remember(place: &Place) -> Result<()> {
    let present = SYSCTLS
        .into_iter()
        .filter(|name| Path::new("/proc/sys").join(name).exists());
    let read = |name: &str| {
        let path = Path::new("/proc/sys").join(name);
        let value = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()));
        Ok::<_, anyhow::Error>((name.to_owned(), value?.trim().to_owned()))
    };
    let missing = PRIVATE.into_iter().chain([NAMES]).map(PathBuf::from);
    let before = Before {
        sysctls: present.map(read).collect::<Result<_>>()?,
        missing: missing.filter(|path| !path.exists()).collect(),
    };
    let text = serde_json::to_string(&before).context("plain data")?;
    place.write("machine.json", &text).map(drop)
}

fn make_network() -> Result<()> {
    let node_wire = format!("{NODE_ADDRESS}/30");
    let machine_wire = format!("{MACHINE_ADDRESS}/30");
    for words in [
        vec!["netns", "add", NODE],
        vec!["-n", NODE, "link", "set", "lo", "up"],
        vec![
            "link",
            "add",
            MACHINE_LINK,
            "type",
            "veth",
            "peer",
            "name",
            NODE_LINK,
            "netns",
            NODE,
        ],
        vec!["addr", "add", &machine_wire, "dev", MACHINE_LINK],
        vec!["link", "set", MACHINE_LINK, "up"],
        vec!["-n", NODE, "addr", "add", &node_wire, "dev", NODE_LINK],
        vec!["-n", NODE, "link", "set", NODE_LINK, "up"],
        vec![
            "-n",
            NODE,
            "route",
            "add",
            "default",
            "via",
            MACHINE_ADDRESS,
        ],
    ] {
        ip(&words)?;
    }
    // Settings of the namespace alone. Where bridges are not filtered there is nothing to switch on.
    let setting = |name: &str| {
        let mut sysctl = Command::new("ip");
        sysctl.args(["netns", "exec", NODE, "sysctl", "-qw", name]);
        sysctl
    };
    command::capture(&mut setting("net.ipv4.ip_forward=1"))?;
    command::succeeds(&mut setting("net.bridge.bridge-nf-call-iptables=1"));
    Ok(())
}

fn ip(words: &[&str]) -> Result<()> {
    command::capture(Command::new("ip").args(words)).map(drop)
}

/// The mount namespace, kept by a file: a private mount, so that it does not contain itself.
fn make_mounts(place: &Place) -> Result<()> {
    let namespace = place.mount_namespace();
    let directory = namespace.parent().context("it is in a directory")?;
    fs::create_dir(directory).with_context(|| format!("create {}", directory.display()))?;
    mount(&["--bind".as_ref(), directory.as_ref(), directory.as_ref()])?;
    mount(&["--make-private".as_ref(), directory.as_ref()])?;
    fs::File::create(&namespace).with_context(|| format!("create {}", namespace.display()))?;
    let mut option = std::ffi::OsString::from("--mount=");
    option.push(&namespace);
    let mut unshare = Command::new("unshare");
    unshare.arg(option).args(["--propagation", "slave", "true"]);
    command::capture(&mut unshare)?;
    let inside = |arguments: &[&str]| {
        let mut option = std::ffi::OsString::from("--mount=");
        option.push(&namespace);
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(option).args(["--", "mount"]).args(arguments);
        command::capture(&mut nsenter).map(drop)
    };
    inside(&["--make-rshared", "/"])?;
    for directory in PRIVATE {
        fs::create_dir_all(directory).with_context(|| format!("create {directory}"))?;
        inside(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", directory])?;
    }
    Ok(())
}

pub(super) fn mount(arguments: &[&OsStr]) -> Result<()> {
    command::capture(Command::new("mount").args(arguments)).map(drop)
}

/// Undoes all of [`make`], however far it came. Nothing of the node runs any more.
///
/// # Errors
/// When a setting of the machine cannot be put back; the rest is undone first.
pub(super) fn remove(place: &Place) -> Result<()> {
    // Each may be gone already: what counts is what is left, and that is looked at in the end.
    for path in mounts_below(place.directory())? {
        command::succeeds(Command::new("umount").arg("--lazy").arg(path));
    }
    for words in [["link", "del", MACHINE_LINK], ["netns", "del", NODE]] {
        command::succeeds(Command::new("ip").args(words));
    }
    cgroups::remove()?;
    put_back(place)
}

/// What is mounted below a directory, the innermost first.
pub(super) fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<PathBuf> = points
        .map(PathBuf::from)
        .filter(|point| point.starts_with(directory))
        .collect();
    below.reverse();
    Ok(below)
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn put_back(place: &Place) -> Result<()> {
    let Ok(text) = fs::read_to_string(place.path("machine.json")) else {
        return Ok(());
    };
    let before: Before = serde_json::from_str(&text).context("read machine.json")?;
    for directory in before.missing {
        // Not while it holds the name of somebody's namespace.
        if directory == Path::new(NAMES) && is_empty(&directory) {
            command::succeeds(Command::new("umount").arg(&directory));
        }
        // Empty unless somebody else has come to use it, who keeps it then.
        let _removed = fs::remove_dir(directory);
    }
    for (name, value) in before.sysctls {
        let path = Path::new("/proc/sys").join(name);
        fs::write(&path, value).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

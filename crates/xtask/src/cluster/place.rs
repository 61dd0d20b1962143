//! Where a node's files lie, and which of its processes live.
//!
//! A process is known by its id and the moment it started, so that a number that was given away again is nobody's.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use fixtures::eventually;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A component of the node, in the order in which they are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Component {
    #[value(name = "kube-proxy")]
    Proxy,
    Kubelet,
    #[value(name = "kube-scheduler")]
    Scheduler,
    #[value(name = "kube-controller-manager")]
    ControllerManager,
    #[value(name = "kube-apiserver")]
    ApiServer,
    Containerd,
    Etcd,
}

impl Component {
    pub(super) const ALL: [Self; 7] = [
        Self::Proxy,
        Self::Kubelet,
        Self::Scheduler,
        Self::ControllerManager,
        Self::ApiServer,
        Self::Containerd,
        Self::Etcd,
    ];

    /// Its program's name; its log and process file bear it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Proxy => "kube-proxy",
            Self::Kubelet => "kubelet",
            Self::Scheduler => "kube-scheduler",
            Self::ControllerManager => "kube-controller-manager",
            Self::ApiServer => "kube-apiserver",
            Self::Containerd => "containerd",
            Self::Etcd => "etcd",
        }
    }
}

/// A process that was started, as a later xtask finds it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Started {
    process: i32,
    /// In ticks since the machine's start (proc_pid_stat(5), field 22).
    ticks: u64,
}

/// How long a component may take to end by itself: the kubelet waits for nothing of ours.
const END_LIMIT: Duration = Duration::from_secs(10);

/// The directory of a node.
#[derive(Debug, Clone)]
pub(super) struct Place {
    directory: PathBuf,
}

impl Place {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// A file or directory of the node.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The file that keeps the node's mount namespace.
    pub(super) fn mount_namespace(&self) -> PathBuf {
        self.path("namespaces/mount")
    }

    pub(super) fn containerd_socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    /// The kubeconfig of a user of the node.
    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.path("users")
            .join(format!("{}.kubeconfig", user.replace(':', "-")))
    }

    /// Where a component writes what it has to say.
    pub(super) fn log(&self, component: Component) -> PathBuf {
        self.path("log").join(format!("{}.log", component.name()))
    }

    fn process_file(&self, component: Component) -> PathBuf {
        self.path("process")
            .join(format!("{}.json", component.name()))
    }

    /// Writes a file that only this account reads, with its directories.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        let write = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            std::io::Write::write_all(&mut options.open(&path)?, text.as_bytes())
        };
        write().with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Starts a component whose process goes on without us; `command` must become it without forking.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(&self, component: Component, command: &mut Command) -> Result<()> {
        let log = self.log(component);
        // One that is started again goes on where it was.
        let mut options = OpenOptions::new();
        let options = options.create(true).append(true);
        let open = || {
            let file = options.open(&log)?;
            Ok::<_, std::io::Error>((file.try_clone()?, file))
        };
        let (out, err) = open().with_context(|| format!("create {}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.with_context(|| format!("start {}", component.name()))?;
        let process = i32::try_from(child.id()).context("a process id is positive")?;
        let ticks = start_ticks(process).with_context(|| {
            format!("{} ended at once: see {}", component.name(), log.display())
        })?;
        let text = serde_json::to_string(&Started { process, ticks }).context("plain data")?;
        let name = format!("process/{}.json", component.name());
        self.write(&name, &text).map(drop)
    }

    /// The process of a component, if it lives.
    pub(super) fn living(&self, component: Component) -> Option<i32> {
        let text = fs::read_to_string(self.process_file(component)).ok()?;
        let started: Started = serde_json::from_str(&text).ok()?;
        (start_ticks(started.process)? == started.ticks).then_some(started.process)
    }

    /// Ends a component, first by asking it.
    ///
    /// # Errors
    /// When it lives on.
    pub(super) fn end(&self, component: Component) -> Result<()> {
        let asked = self.end_by(component, Signal::TERM);
        asked.or_else(|_| self.kill(component))
    }

    /// Ends a component without a word to it, as a crash does.
    ///
    /// # Errors
    /// When it lives on.
    pub(super) fn kill(&self, component: Component) -> Result<()> {
        self.end_by(component, Signal::KILL)
    }

    fn end_by(&self, component: Component, signal: Signal) -> Result<()> {
        let Some(process) = self.living(component).and_then(Pid::from_raw) else {
            return Ok(());
        };
        // One that has ended in between is what is wanted.
        let _ended = kill_process(process, signal);
        let what = format!("the end of {}", component.name());
        let is_gone = || Ok(self.living(component).is_none().then_some(()));
        eventually(&what, END_LIMIT, is_gone)
    }
}

/// When a process started; none if there is none, or if it only waits to be reaped.
pub(super) fn start_ticks(process: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything; the third field follows it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_started_found_again_and_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::in_directory(dir.path());
        fs::create_dir(place.path("log")).expect("created");
        assert_eq!(place.living(Component::Etcd), None);
        let mut sleep = Command::new("sleep");
        place
            .start(Component::Etcd, sleep.arg("600"))
            .expect("it starts");
        assert!(place.living(Component::Etcd).is_some());
        place.end(Component::Etcd).expect("it ends");
        assert_eq!(place.living(Component::Etcd), None);
        place.end(Component::Etcd).expect("an ended one is ended");
    }

    #[test]
    fn a_component_that_was_killed_and_started_again_goes_on_in_its_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::in_directory(dir.path());
        fs::create_dir(place.path("log")).expect("created");
        let log = || fs::read_to_string(place.log(Component::Kubelet)).unwrap_or_default();
        for lines in 1..=2 {
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo started; exec sleep 600"]);
            place
                .start(Component::Kubelet, &mut shell)
                .expect("it starts");
            eventually("its word", END_LIMIT, || {
                Ok((log().lines().count() == lines).then_some(()))
            })
            .expect("it says so");
            place.kill(Component::Kubelet).expect("it ends");
        }
        assert_eq!(place.living(Component::Kubelet), None);
    }

    #[test]
    fn another_process_of_the_same_number_is_nobodys() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::in_directory(dir.path());
        let us = i32::try_from(std::process::id()).expect("positive");
        let text = format!("{{\"process\":{us},\"ticks\":1}}");
        place
            .write("process/etcd.json", &text)
            .expect("it is written");
        assert_eq!(place.living(Component::Etcd), None);
    }
}

//! The node up and down.
//!
//! ```text
//!   up:    namespaces, files ─▶ etcd, containerd, API server ─▶ the others ─▶ Ready ─▶ name server, storage ─▶ images
//!   down:  components ─▶ containerd, etcd ─▶ containers ─▶ mounts, wire, groups, settings ─▶ files
//! ```
//!
//! A failed `up` is taken down again, its logs kept. `down` may be called at any moment, also after a crash.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::eventually;
use rustix::process::{Pid, Signal, kill_process};

use super::identities::{self, ADMINISTRATOR};
use super::namespaces::{self, NODE, Namespaces};
use super::place::{Component, Place, start_ticks};
use super::programs::Programs;
use super::{cgroups, components, images, traces, volumes};
use crate::bench::stopwatch::Stopwatch;
use crate::command;
use crate::console;
use crate::image::Archive;
use crate::places::workspace;

/// From a component's start to its first answer: 5 s are usual, with a busy machine more.
const START_LIMIT: Duration = Duration::from_secs(120);

/// From the signal to the end of a container or its keeper.
const CONTAINER_END_LIMIT: Duration = Duration::from_secs(20);

/// From the last unmount to the end of what the kernel ends by itself: a mount namespace that somebody made meanwhile has
/// the mounts until it ends.
const TRACES_LIMIT: Duration = Duration::from_secs(60);

/// Tells what is done, and how long it took.
struct Progress(Stopwatch);

impl Progress {
    fn start() -> Self {
        Self(Stopwatch::start())
    }

    fn tell(&mut self, what: &str) {
        let seconds = self.0.lap() / 1000.0;
        console::note(&format!("{seconds:5.1} s  {what}"));
    }
}

/// Brings the node up with these images beside its own; one that is up already is left alone.
///
/// # Errors
/// When a component does not start. Nothing is left but logs then.
pub(super) fn up(place: &Place, programs: &Programs, images: &[Archive]) -> Result<()> {
    if place.exists() {
        if is_ready(place, programs) {
            console::note("the node is up already");
            return recycle(place, programs);
        }
        console::note("a node is left that does not answer: ending it first");
        down(place)?;
    }
    let brought = try_up(place, programs, images);
    let Err(error) = brought else { return Ok(()) };
    let kept = keep_logs(place)?;
    down(place).context("end what had been started")?;
    Err(error.context(format!("its logs are in {}", kept.display())))
}

fn try_up(place: &Place, programs: &Programs, images: &[Archive]) -> Result<()> {
    let mut progress = Progress::start();
    for directory in ["", "log", "etcd", "kubelet"] {
        let path = place.path(directory);
        // Nobody but root looks into it: tokens, keys, the files of containers.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("create {}", path.display()))?;
    }
    let namespaces = namespaces::make(place)?;
    identities::make(place)?;
    components::configure(place)?;
    progress.tell("namespaces, volumes and users are made");
    let start = |component| {
        let mut command = components::command(component, place, &namespaces, programs);
        place.start(component, &mut command)
    };
    start(Component::Etcd)?;
    start(Component::Containerd)?;
    start(Component::ApiServer)?;
    wait(place, "an answer of containerd", || {
        answers(&namespaces, place)
    })?;
    for archive in images::own(place, programs)? {
        images::import(place, &namespaces, &archive.path)?;
    }
    wait(place, "an answer of the API server", || {
        kubectl(place, programs, &["get", "--raw", "/readyz"]).is_ok()
    })?;
    progress.tell("etcd, containerd and the API server answer");
    for component in [
        Component::ControllerManager,
        Component::Scheduler,
        Component::Kubelet,
        Component::Proxy,
    ] {
        start(component)?;
    }
    wait(place, "a ready node", || is_ready(place, programs))?;
    progress.tell("the node is Ready");
    furnish(place, programs)?;
    progress.tell("services have names, claims get volumes");
    for archive in images {
        images::import(place, &namespaces, &archive.path)?;
        progress.tell(&format!("{} is loaded", archive.name));
    }
    Ok(())
}

/// Kills a component and starts it again, as a machine's supervisor does after a crash; what it answers for is waited for.
///
/// # Errors
/// When it does not end, or does not answer again.
pub(super) fn restart(place: &Place, programs: &Programs, component: Component) -> Result<()> {
    let mut progress = Progress::start();
    let namespaces = Namespaces::of(place);
    place.kill(component)?;
    let mut command = components::command(component, place, &namespaces, programs);
    place.start(component, &mut command)?;
    let what = format!("an answer of {}", component.name());
    wait(place, &what, || match component {
        Component::Kubelet => kubelet_answers(place, programs),
        Component::Containerd => answers(&namespaces, place),
        Component::Etcd | Component::ApiServer => {
            kubectl(place, programs, &["get", "--raw", "/readyz"]).is_ok()
        }
        // Nobody asks these: they ask.
        Component::ControllerManager | Component::Scheduler | Component::Proxy => true,
    })?;
    progress.tell(&format!(
        "{} was killed and answers again",
        component.name()
    ));
    Ok(())
}

/// By way of the API server, as sessions reach it.
fn kubelet_answers(place: &Place, programs: &Programs) -> bool {
    let path = format!("/api/v1/nodes/{NODE}/proxy/healthz");
    kubectl(place, programs, &["get", "--raw", &path]).is_ok()
}

/// What a cluster has beside its components: a name server, and storage.
fn furnish(place: &Place, programs: &Programs) -> Result<()> {
    let storage = place.write("storage.json", &volumes::manifest(place).to_string())?;
    for manifest in [workspace().join("tests/cluster/coredns.yaml"), storage] {
        // Not `apply`, which would look each of many objects up first.
        let file = manifest.display().to_string();
        kubectl(place, programs, &["create", "-f", &file])?;
    }
    wait(place, "the name server", || {
        let words = [
            "-n",
            "kube-system",
            "rollout",
            "status",
            "deployment/coredns",
            "--timeout=1s",
        ];
        kubectl(place, programs, &words).is_ok()
    })
}

/// Makes volumes that were given back ready for the next claim.
fn recycle(place: &Place, programs: &Programs) -> Result<()> {
    let list = kubectl(place, programs, &["get", "persistentvolumes", "-o", "json"])?;
    let list = serde_json::from_str(&list).context("read the volumes")?;
    let names = volumes::given_back(&list);
    let mut emptied = 0;
    for name in &names {
        let Some(volume) = volumes::empty(place, name)? else {
            continue;
        };
        let file = place.write("volume.json", &volume.to_string())?;
        kubectl(place, programs, &["delete", "persistentvolume", name])?;
        let file = file.display().to_string();
        kubectl(place, programs, &["create", "-f", &file])?;
        emptied += 1;
    }
    if emptied > 0 {
        console::note(&format!(
            "{emptied} volumes that were given back are empty again"
        ));
    }
    Ok(())
}

/// Waits for something of the node; a component that has ended meanwhile ends the wait.
fn wait(place: &Place, what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    eventually(what, START_LIMIT, || {
        for component in Component::ALL {
            let started = place.log(component).exists();
            ensure!(
                !started || place.living(component).is_some(),
                "{} has ended",
                component.name()
            );
        }
        Ok(is_so().then_some(()))
    })
}

fn answers(namespaces: &Namespaces, place: &Place) -> bool {
    let mut ctr = namespaces.inside(Path::new("ctr"));
    ctr.arg("--address").arg(place.containerd_socket());
    command::succeeds(ctr.arg("version"))
}

/// Whether the node says that it runs pods.
pub(super) fn is_ready(place: &Place, programs: &Programs) -> bool {
    let condition = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    let ready = kubectl(place, programs, &["get", "node", NODE, "-o", condition]);
    ready.is_ok_and(|status| status == "True")
}

/// Asks the API server as the administrator.
fn kubectl(place: &Place, programs: &Programs, words: &[&str]) -> Result<String> {
    let mut kubectl = std::process::Command::new(&programs.kubectl);
    kubectl.arg("--kubeconfig");
    kubectl.arg(place.kubeconfig(ADMINISTRATOR)).args(words);
    command::capture(&mut kubectl)
}

/// Copies the logs beside the node's directory, which is about to be removed.
fn keep_logs(place: &Place) -> Result<PathBuf> {
    let kept = place.directory().with_extension("logs");
    fs::create_dir_all(&kept).with_context(|| format!("create {}", kept.display()))?;
    for component in Component::ALL {
        let log = place.log(component);
        if let (true, Some(name)) = (log.is_file(), log.file_name()) {
            fs::copy(&log, kept.join(name)).with_context(|| format!("keep {}", log.display()))?;
        }
    }
    Ok(kept)
}

/// Ends the node and removes everything of it.
///
/// # Errors
/// When a process does not end, or something stays mounted.
pub(super) fn down(place: &Place) -> Result<()> {
    if !place.exists() {
        return Ok(());
    }
    let mut progress = Progress::start();
    // Containerd before containers: nothing starts one any more.
    for component in Component::ALL {
        place.end(component)?;
    }
    end_containers(place)?;
    namespaces::remove(place)?;
    // A loop device goes some moments after its last mount.
    let gone = eventually("the end of all traces", TRACES_LIMIT, || {
        Ok(traces::of(place)?.is_empty().then_some(()))
    });
    gone.with_context(|| {
        format!(
            "the node leaves {:?}",
            traces::of(place).unwrap_or_default()
        )
    })?;
    fs::remove_dir_all(place.directory())
        .with_context(|| format!("remove {}", place.directory().display()))?;
    progress.tell("the node is gone");
    Ok(())
}

/// Ends everything in containers, and their keepers, which name the node's socket on their command lines.
fn end_containers(place: &Place) -> Result<()> {
    let socket = place.containerd_socket().display().to_string();
    eventually("the end of containers", CONTAINER_END_LIMIT, || {
        // Looked for again each time: what forks while it is ended leaves a child.
        let mut living: Vec<i32> = keepers(&socket)?;
        living.extend(cgroups::processes()?);
        living.retain(|process| start_ticks(*process).is_some());
        for process in living.iter().filter_map(|process| Pid::from_raw(*process)) {
            // One that has ended in between is what is wanted.
            let _ended = kill_process(process, Signal::KILL);
        }
        Ok(living.is_empty().then_some(()))
    })
}

/// The keepers of containers that belong to the containerd at `socket`.
fn keepers(socket: &str) -> Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("read /proc")?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let processes = names.filter_map(|name| name.parse::<i32>().ok());
    let is_keeper = |process: &i32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        program.ends_with(b"containerd-shim-runc-v2") && words.any(|word| word == socket.as_bytes())
    };
    Ok(processes.filter(is_keeper).collect())
}

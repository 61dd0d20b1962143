//! What goes wrong, made to go wrong, and mended.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{eventually, let_pass};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::process::{Pid, Signal, kill_process};

use crate::actions::name_of;
use crate::engine::Answer;
use crate::schedule::{Fault, Slot, Strike};
use crate::world::World;

/// A killed process is gone as soon as the kernel has freed its memory.
const DEATH_MAX: Duration = Duration::from_secs(20);

/// What is written into the volume to fill it.
const BALLAST: &str = "ballast-of-the-test";

/// A process of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerProcess {
    pub(crate) pid: i32,
    /// The data directory that it works in.
    pub(crate) directory: PathBuf,
    /// It is the one whose command line names the directory; its children do not.
    pub(crate) is_postmaster: bool,
}

/// Waits for its moment, strikes, and mends what lasts. Answers whether there was something to strike.
pub(crate) fn strike(world: &World, strike: &Strike) -> Result<bool> {
    let_pass(Duration::from_millis(strike.after_ms));
    match strike.fault {
        Fault::KillEngine => {
            let _turn = world.engine_turn();
            world.kill_engine()?;
            world.start_engine()?;
        }
        Fault::KillEngineTwice => {
            let _turn = world.engine_turn();
            world.kill_engine()?;
            world.start_engine()?;
            world.kill_engine()?;
            world.start_engine()?;
        }
        Fault::StopEngine { servers } => {
            let _turn = world.engine_turn();
            world.stop_engine(servers)?;
            world.start_engine()?;
        }
        Fault::KillBranch { slot, child } => return kill_branch(world, slot, child),
        Fault::KillWarm => return kill_warm(world),
        Fault::KillMaking => {
            return kill_first(world, |server| has_part(&server.directory, "making"));
        }
        Fault::KillBase { child } => {
            return kill_first(world, |server| {
                has_part(&server.directory, "bases") && server.is_postmaster != child
            });
        }
        Fault::KillSource { for_ms } => {
            let mut source = world.source();
            source.kill()?;
            let_pass(Duration::from_millis(for_ms));
            source.restart()?;
        }
        Fault::FreezeSource { for_ms } => {
            let _source = world.source();
            freeze(world.source_data(), for_ms)?;
        }
        Fault::JumpClock { by_s } => {
            let _turn = world.engine_turn();
            world.jump_clock(by_s)?;
        }
        Fault::FillToFloor { for_ms } => return fill(world, for_ms, 32 << 20),
        Fault::Fill { for_ms } => return fill(world, for_ms, 0),
        Fault::FailVolume { for_ms } => return fail_volume(world, for_ms),
    }
    Ok(true)
}

fn has_part(directory: &Path, part: &str) -> bool {
    directory
        .components()
        .any(|component| component.as_os_str() == part)
}

fn kill_branch(world: &World, slot: Slot, child: bool) -> Result<bool> {
    let Answer::Given(view) = world.engine().branch(&name_of(world, slot)) else {
        return Ok(false);
    };
    let Some(clone) = clone_of(&view.identity) else {
        return Ok(false);
    };
    kill_first(world, |server| {
        has_part(&server.directory, &clone) && server.is_postmaster != child
    })
}

/// The clone whose server answers with this identity.
pub(crate) fn clone_of(identity: &Option<String>) -> Option<String> {
    let clone = identity.as_deref()?.strip_prefix("bough-")?;
    Some(clone.to_owned())
}

fn kill_warm(world: &World) -> Result<bool> {
    let Answer::Given(views) = world.engine().branches() else {
        return Ok(false);
    };
    let owned: Vec<String> = views
        .iter()
        .filter_map(|view| clone_of(&view.identity))
        .collect();
    kill_first(world, |server| {
        server.is_postmaster
            && has_part(&server.directory, "clones")
            && !owned.iter().any(|clone| has_part(&server.directory, clone))
    })
}

/// Kills the first process of a server that `wanted` picks.
fn kill_first(world: &World, wanted: impl Fn(&ServerProcess) -> bool) -> Result<bool> {
    let found = servers_below(&world.data())?;
    let Some(victim) = found.into_iter().find(wanted) else {
        return Ok(false);
    };
    let pid = Pid::from_raw(victim.pid).context("a pid of 0")?;
    // One that has just ended by itself needs no killing.
    Ok(kill_process(pid, Signal::KILL).is_ok())
}

/// Every process of PostgreSQL that works in a directory below `root`.
pub(crate) fn servers_below(root: &Path) -> Result<Vec<ServerProcess>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Ended meanwhile, or another account's.
        let Ok(directory) = fs::read_link(entry.path().join("cwd")) else {
            continue;
        };
        if !directory.starts_with(root) {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_postmaster = line
            .split(|byte| *byte == 0)
            .any(|word| word == directory.as_os_str().as_bytes());
        found.push(ServerProcess {
            pid,
            directory,
            is_postmaster,
        });
    }
    Ok(found)
}

/// Stops every process of a server for a while: connections to it stand and nothing answers.
fn freeze(data: &Path, for_ms: u64) -> Result<()> {
    let signal_all = |signal| -> Result<()> {
        for server in servers_below(data)? {
            let pid = Pid::from_raw(server.pid).context("a pid of 0")?;
            // One that has ended by itself is as quiet.
            let _ = kill_process(pid, signal);
        }
        Ok(())
    };
    signal_all(Signal::STOP)?;
    let_pass(Duration::from_millis(for_ms));
    signal_all(Signal::CONT)
}

/// Fills the volume until so many bytes are free, and empties it again.
fn fill(world: &World, for_ms: u64, free_bytes: u64) -> Result<bool> {
    let Some(volume) = world.volume() else {
        return Ok(false);
    };
    let _volume_turn = world.volume_turn();
    let path = volume.path().join(BALLAST);
    let filled = write_ballast(&path, &volume.path(), free_bytes);
    let_pass(Duration::from_millis(for_ms));
    fs::remove_file(&path).context("empty the volume again")?;
    // A device that fails next must not bring it back.
    let directory = fs::File::open(volume.path()).context("open the volume")?;
    directory.sync_all().context("empty the volume for good")?;
    filled.map(|()| true)
}

fn write_ballast(path: &Path, volume: &Path, free_bytes: u64) -> Result<()> {
    const LEAST: u64 = 4096;
    let file = fs::File::create(path).context("begin to fill the volume")?;
    let mut length = 0;
    // Somebody else may take or free space meanwhile, so by halves to the last block.
    let stat = statvfs(volume)?;
    let mut piece = (stat.f_bavail * stat.f_frsize).saturating_sub(free_bytes);
    while piece >= LEAST {
        match fallocate(&file, FallocateFlags::empty(), length, piece) {
            Ok(()) if free_bytes > 0 => return Ok(()),
            Ok(()) => length += piece,
            Err(rustix::io::Errno::NOSPC) => piece /= 2,
            Err(error) => return Err(error).context("fill the volume"),
        }
    }
    Ok(())
}

/// The device fails; whoever is in charge ends what runs, and mounts the volume again.
fn fail_volume(world: &World, for_ms: u64) -> Result<bool> {
    let Some(volume) = world.volume() else {
        return Ok(false);
    };
    let _volume_turn = world.volume_turn();
    // No engine starts on what failed.
    let _turn = world.engine_turn();
    volume.fail()?;
    let_pass(Duration::from_millis(for_ms));
    world.kill_engine()?;
    let kill_all = || -> Result<Option<()>> {
        let servers = servers_below(&volume.path())?;
        for server in &servers {
            // One that has ended by itself needs no killing.
            let _ = Pid::from_raw(server.pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        Ok(servers.is_empty().then_some(()))
    };
    eventually("the end of all servers", DEATH_MAX, kill_all)?;
    eventually("a volume that is not in use", DEATH_MAX, || {
        Ok(volume.unmount().ok())
    })?;
    ensure!(
        fs::read_dir(volume.path())?.next().is_none(),
        "something lies below the volume"
    );
    volume.mount()?;
    world.start_engine()?;
    Ok(true)
}

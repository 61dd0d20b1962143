//! What must be true after a schedule: every branch as it was promised, the source untouched, and nothing on the machine
//! that no branch, base or pool explains.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{eventually, sql};
use model::engine_api::{BranchPhase, BranchView};

use crate::actions::{Outcome, SourceCount, id_of, name_of, perform, settled};
use crate::clock;
use crate::engine::Answer;
use crate::faults::servers_below;
use crate::model::Model;
use crate::schedule::{Action, Age, LONG_TTL, SLOTS, Slot, Wish};
use crate::world::{CLOCK_FILE, World};

/// From the last round to branches that are all made, on a busy machine.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// From the end of a TTL, and of a session's grace where one fell silent, to the end of the branch.
const EXPIRY_MAX: Duration = Duration::from_secs(60);

/// A base that is copied again may have two slots until the one before is dropped, which is tried again each minute
/// where the source was away.
const SLOT_DROP_MAX: Duration = Duration::from_secs(150);

/// Whatever is on its way out is gone by then.
const TIDY_MAX: Duration = Duration::from_secs(60);

/// What may lie at the top of a data directory.
const EXPLAINED: [&str; 9] = [
    "catalogue.backup.json",
    "catalogue.redb",
    CLOCK_FILE,
    "engine.lock",
    "engine.log",
    "engine.sock",
    "engine.toml",
    "run",
    "volume",
];

/// What may lie in a volume.
const EXPLAINED_IN_VOLUME: [&str; 4] = ["bases", "clones", "making", "snapshots"];

/// Holds every branch against its promises, then destroys all; what was not kept is noted in `model`.
///
/// # Errors
/// When the engine does not do what only a broken one does not.
pub(crate) fn check_promises(world: &World, count: &SourceCount, model: &mut Model) -> Result<()> {
    for slot in 0..SLOTS {
        let told = perform(world, count, &Action::Leave { slot: Slot(slot) });
        model.take(&[told], &[], ceiling(count));
    }
    settle(world)?;
    for slot in (0..SLOTS).map(Slot) {
        if model.branch(slot).must_expire() {
            wait_for_expiry(world, slot, model)?;
        } else if is_listed(world, slot)? {
            if model.branch(slot).must_be_gone() {
                model.note(format!("{} is gone and is listed", id_of(slot)));
            }
            take(world, count, model, &Action::Read { slot });
            come_back(world, count, model, slot)?;
        } else if model.branch(slot).must_be_there(clock::now()) {
            model.note(format!("{} was promised and is not listed", id_of(slot)));
        }
    }
    let ports: Vec<u16> = branches(world)?.iter().filter_map(port_of).collect();
    for slot in (0..SLOTS).map(Slot) {
        if is_listed(world, slot)? {
            take(world, count, model, &Action::Destroy { slot });
        }
    }
    let left = branches(world)?;
    ensure!(left.is_empty(), "destroyed, and listed: {left:?}");
    for port in ports {
        let reached = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        ensure!(
            reached.is_err(),
            "the door {port} of a destroyed branch is open"
        );
    }
    Ok(())
}

fn take(world: &World, count: &SourceCount, model: &mut Model, action: &Action) -> Outcome {
    let outcome = perform(world, count, action);
    model.take(std::slice::from_ref(&outcome), &[], ceiling(count));
    outcome
}

fn ceiling(count: &SourceCount) -> u64 {
    count.begun.load(std::sync::atomic::Ordering::SeqCst)
}

/// Asks for a branch by its id once more: the same one comes, with the same data.
fn come_back(world: &World, count: &SourceCount, model: &mut Model, slot: Slot) -> Result<()> {
    let view = one(world, slot)?;
    let (Some(copy), Some(BranchPhase::Ready)) =
        (model.branch(slot).copy(), view.map(|view| view.phase))
    else {
        return Ok(());
    };
    let wish = Wish {
        copy,
        age: Age::Any,
        ttl: LONG_TTL,
    };
    take(world, count, model, &Action::Create { slot, wish });
    take(world, count, model, &Action::Read { slot });
    Ok(())
}

fn wait_for_expiry(world: &World, slot: Slot, model: &mut Model) -> Result<()> {
    let gone = eventually("the end of a TTL", EXPIRY_MAX, || {
        Ok((!is_listed(world, slot)?).then_some(()))
    });
    if let Err(error) = gone {
        let view = one(world, slot)?;
        model.note(format!(
            "{} does not expire: {error:#}: {view:?}",
            id_of(slot)
        ));
    }
    Ok(())
}

/// Every branch.
fn branches(world: &World) -> Result<Vec<BranchView>> {
    let answer = world.engine().branches();
    let shown = format!("no list of branches: {answer:?}");
    answer.given().context(shown)
}

fn one(world: &World, slot: Slot) -> Result<Option<BranchView>> {
    let name = name_of(world, slot);
    let mut views = branches(world)?.into_iter();
    Ok(views.find(|view| view.name.as_str() == name))
}

fn is_listed(world: &World, slot: Slot) -> Result<bool> {
    Ok(one(world, slot)?.is_some())
}

fn port_of(view: &BranchView) -> Option<u16> {
    view.endpoint.as_deref()?.rsplit_once(':')?.1.parse().ok()
}

/// Waits until no branch is being made or removed.
fn settle(world: &World) -> Result<()> {
    let mut last = Vec::new();
    eventually("branches that are made", SETTLE_MAX, || {
        last = branches(world)?;
        Ok(last
            .iter()
            .all(|view| settled(view).is_some())
            .then_some(()))
    })
    .with_context(|| format!("{last:?}"))?;
    let stranger = last
        .iter()
        .find(|view| !(0..SLOTS).any(|slot| name_of(world, Slot(slot)) == view.name.as_str()));
    ensure!(stranger.is_none(), "nobody asked for {stranger:?}");
    Ok(())
}

/// That the source holds what was committed there, and nothing of ours but a connection that is idle.
///
/// # Errors
/// Says what is there.
pub(crate) fn check_source(world: &World, count: &SourceCount) -> Result<()> {
    let shape = world.source_shape_now()?;
    ensure!(
        shape == world.source_shape(),
        "the source changed:\n{shape}\nfrom\n{}",
        world.source_shape()
    );
    let before = ceiling(count);
    count.settle(world)?;
    let now = ceiling(count);
    // The last transaction's answer may have been lost.
    ensure!(
        now == before || now + 1 == before,
        "the source holds {now} transactions instead of {before}"
    );
    let ledgers = "SELECT (SELECT array_agg(n ORDER BY n) FROM ledger) IS NOT DISTINCT FROM (SELECT array_agg(n ORDER BY n) FROM mirror)";
    let same = sql::query_value(world.superuser_url(), ledgers)?;
    ensure!(same == "t", "the source's tables differ");
    let slots = "SELECT count(*) <= 1 FROM pg_replication_slots WHERE slot_name ~ '^bough_' AND NOT temporary";
    eventually("one slot a base", SLOT_DROP_MAX, || {
        let is_bounded = sql::query_value(world.superuser_url(), slots)?;
        Ok((is_bounded == "t").then_some(()))
    })?;
    let busy = "SELECT pid, state, wait_event, left(query, 100) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
          AND (state <> 'idle' OR backend_xmin IS NOT NULL)";
    let mut rows = Vec::new();
    eventually("a source that nobody works at", TIDY_MAX, || {
        rows = sql::query(world.superuser_url(), busy)?;
        Ok(rows.is_empty().then_some(()))
    })
    .with_context(|| format!("{rows:?}"))
}

/// That everything on the machine is explained by the warm pool and the bases, once no branch is left.
///
/// # Errors
/// Says what is not.
pub(crate) fn check_traces(world: &World) -> Result<()> {
    let mut found = Vec::new();
    eventually("a machine without leftovers", TIDY_MAX, || {
        found = leftovers(world)?;
        Ok(found.is_empty().then_some(()))
    })
    .with_context(|| format!("left: {found:#?}"))
}

fn leftovers(world: &World) -> Result<Vec<String>> {
    let data = world.data();
    let Answer::Given(view) = world.engine().view() else {
        return Ok(vec!["no engine".to_owned()]);
    };
    let mut found = Vec::new();
    let clones = names(&data.join("volume/clones"))?;
    if clones.len() != usize::try_from(view.warm_clones + view.followers)? {
        found.push(format!(
            "{} warm clones and {} followers, and the directories {clones:?}",
            view.warm_clones, view.followers
        ));
    }
    let snapshots = names(&data.join("volume/snapshots"))?;
    if snapshots.len() != usize::try_from(view.bases)? {
        found.push(format!(
            "{} bases, and the directories {snapshots:?}",
            view.bases
        ));
    }
    let making = names(&data.join("volume/making"))?;
    found.extend(making.iter().map(|name| format!("volume/making/{name}")));
    let bases = names(&data.join("volume/bases"))?;
    let owners: BTreeSet<String> = clones.union(&bases).cloned().collect();
    let sockets = names(&data.join("run"))?;
    let strange = sockets.symmetric_difference(&owners);
    found.extend(strange.map(|name| format!("run/{name}, or its clone or base")));
    found.extend(strange_servers(&data, &clones, &bases)?);
    found.extend(strange_mounts(&data, &clones)?);
    found.extend(unexplained(&data, &EXPLAINED)?);
    found.extend(unexplained(&data.join("volume"), &EXPLAINED_IN_VOLUME)?);
    let pid = world.engine_pid().context("an engine runs")?;
    let doors = doors_of(pid)?;
    found.extend(
        doors
            .into_iter()
            .map(|port| format!("the engine listens on {port}")),
    );
    Ok(found)
}

/// The names in a directory.
fn names(directory: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("list {}", directory.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

fn unexplained(directory: &Path, explained: &[&str]) -> Result<Vec<String>> {
    let found = names(directory)?;
    let strange = found
        .into_iter()
        .filter(|name| !explained.contains(&&**name));
    Ok(strange
        .map(|name| format!("{}/{name}", directory.display()))
        .collect())
}

/// Clones and bases without a server, and servers of neither.
fn strange_servers(
    data: &Path,
    clones: &BTreeSet<String>,
    bases: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let data_of = |place: &str, name: &String| data.join(place).join(name).join("data");
    let clones = clones.iter().map(|name| data_of("volume/clones", name));
    let bases = bases.iter().map(|name| data_of("volume/bases", name));
    let expected: BTreeSet<_> = clones.chain(bases).collect();
    let there: BTreeSet<_> = servers_below(data)?
        .into_iter()
        .map(|server| server.directory)
        .collect();
    let strange = there.symmetric_difference(&expected);
    Ok(strange
        .map(|directory| format!("a server in {}, or none", directory.display()))
        .collect())
}

/// Overlays of no clone.
fn strange_mounts(data: &Path, clones: &BTreeSet<String>) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("list mounts")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let inside = points.filter_map(|point| {
        Path::new(point)
            .strip_prefix(data.join("volume/clones"))
            .ok()
    });
    let strange = inside.filter(|path| {
        let clone = path
            .components()
            .next()
            .map(|first| first.as_os_str().to_string_lossy().into_owned());
        clone.is_none_or(|clone| !clones.contains(&clone))
    });
    Ok(strange
        .map(|path| format!("a mount on {}", path.display()))
        .collect())
}

/// The TCP ports that a process listens on: its sockets' inodes, looked up in proc_net_tcp(5), whose fourth column is
/// 0A for one that listens.
fn doors_of(pid: u32) -> Result<Vec<u16>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))
        .context("list an engine's descriptors")?
        .flatten()
    {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let text = target.to_string_lossy().into_owned();
        inodes.extend(
            text.strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .map(str::to_owned),
        );
    }
    let table = fs::read_to_string("/proc/net/tcp").context("list sockets")?;
    let ports = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let listens = columns.get(3) == Some(&"0A");
        let is_its_own = columns.get(9).is_some_and(|inode| inodes.contains(*inode));
        let port = columns.get(1)?.rsplit_once(':')?.1;
        (listens && is_its_own)
            .then(|| u16::from_str_radix(port, 16).ok())
            .flatten()
    });
    Ok(ports.collect())
}

/// That nothing runs or is mounted once the engine was stopped with its servers, and that every file is explained.
///
/// # Errors
/// Says what is left.
pub(crate) fn check_at_rest(world: &World) -> Result<()> {
    let data = world.data();
    let mut found = Vec::new();
    eventually("a machine at rest", TIDY_MAX, || {
        found = servers_below(&data)?
            .into_iter()
            .map(|server| format!("{server:?}"))
            .collect();
        for directory in ["volume/clones", "volume/making", "run"] {
            found.extend(
                names(&data.join(directory))?
                    .iter()
                    .map(|name| format!("{directory}/{name}")),
            );
        }
        found.extend(strange_mounts(&data, &BTreeSet::new())?);
        Ok(found.is_empty().then_some(()))
    })
    .with_context(|| format!("left: {found:#?}"))?;
    let table = fs::read_to_string("/proc/net/unix").context("list sockets")?;
    let bound = table
        .lines()
        .filter(|line| line.contains(&*data.to_string_lossy()))
        .count();
    ensure!(
        bound == 0,
        "{bound} sockets are bound below {}",
        data.display()
    );
    let others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()";
    eventually("a source without connections", TIDY_MAX, || {
        let others = sql::query_value(world.superuser_url(), others)?;
        Ok((others == "0").then_some(()))
    })
}

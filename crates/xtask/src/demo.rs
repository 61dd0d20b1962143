//! `cargo xtask demo`: the walk-through, from nothing to verdicts.
//!
//! Installs what is missing, builds the two programs, sets the stage (`demo/stage.rs`) on this machine or, with
//! `--cluster`, on a Kubernetes, and plays the two halves:
//! a session on the shared database, which everybody sees, and a session on a branch of it, which nobody does. Each
//! request and answer is shown; what must hold is checked in the databases themselves as well (`demo/transcript.rs`).
//! Whatever happens, everything is ended, unless `--keep` asks for the opposite (`demo/kept.rs`).

mod cluster;
mod interrupt;
mod kept;
mod machine;
mod port;
mod shop;
mod stage;
mod transcript;
mod user;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::places::{Places, workspace};
use crate::postgres::versions::{Clients, PINS};
use crate::test::Profile;
use crate::{cluster as clusters, console, image, postgres, test};
use cluster::ClusterGround;
use interrupt::Interrupt;
use machine::Machine;
use shop::{Shop, Stock};
use stage::{Ground, NAMESPACE, Programs, Stage, TARGET};
use transcript::Transcript;
use user::User;

/// The branch's id in the configuration file.
const BRANCH: &str = "my-debug-session";
/// The branch's major version in the configuration file.
const VERSION_OF_FILE: u16 = 16;
/// A product's stock in a new shop.
const FRESH: Stock = Stock {
    free: 100,
    reserved: 0,
};
/// What the first half reserves.
const FIRST_ORDER: u32 = 50;
/// The stock after it.
const HALVED: Stock = Stock {
    free: 50,
    reserved: 50,
};
/// What the second half reserves.
const SECOND_ORDER: u32 = 99;
/// The branch's stock after it.
const ALMOST_GONE: Stock = Stock {
    free: 1,
    reserved: 99,
};

/// What the demo is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Do not give the 50 back between the halves: the branch starts at 50, and reserving 99 is refused
    #[arg(long)]
    no_restore: bool,

    /// On a Kubernetes: the cluster of KUBECONFIG, else a node that is brought up for it and taken down again
    #[arg(long)]
    cluster: bool,

    /// Leave everything up at the end, for curl
    #[arg(long, conflicts_with = "cluster")]
    keep: bool,

    /// Major version of the shared PostgreSQL
    #[arg(long, value_name = "MAJOR", default_value_t = VERSION_OF_FILE, conflicts_with = "cluster")]
    version: u16,

    /// Port of the service in the session
    #[arg(long, default_value_t = 8082)]
    port: u16,

    /// Port of the deployed service; with --cluster, of the way to the API server that leads there
    #[arg(long, value_name = "PORT", default_value_t = 18082)]
    target_port: u16,

    /// Only end what an earlier --keep left in this directory
    #[arg(long, value_name = "DIR", exclusive = true)]
    end: Option<PathBuf>,
}

/// Plays the demo.
///
/// # Errors
/// When something cannot be got, built or started, or a check fails.
pub(crate) fn run(places: &Places, args: &DemoArgs) -> Result<()> {
    if let Some(root) = &args.end {
        kept::end(root)?;
        console::note("the demo is ended");
        return Ok(());
    }
    let interrupt = Interrupt::listen()?;
    if args.cluster {
        return run_on_cluster(places, args, interrupt);
    }
    let majors = wanted_majors(args.version);
    ensure!(
        majors.first() == Some(&args.version),
        "PostgreSQL {} is not among the pinned versions",
        args.version
    );
    let root = postgres::ensure(places, &majors)?;
    let search_path = postgres::search_path(root, std::env::var_os(postgres::PATH_VARIABLE))?;
    let programs = build(args, &interrupt)?;
    let mut user = User::new(&programs, interrupt)?;
    let machine = Machine::set(&mut user, search_path, args.version, args.target_port)?;
    play(args, &programs, Stage::new(user, Ground::Machine(machine)))
}

fn run_on_cluster(places: &Places, args: &DemoArgs, interrupt: Interrupt) -> Result<()> {
    let programs = build(args, &interrupt)?;
    let mut archives = Vec::new();
    for program in [image::Program::Bough, image::Program::Inventory] {
        archives.push(image::make(program, Profile::Debug, None)?);
    }
    let ready = clusters::up(places)?;
    let played = clusters::load(places, &archives).and_then(|()| {
        interrupt.check()?;
        let mut user = User::new(&programs, interrupt)?;
        let ground = ClusterGround::set(&mut user, &ready, args.target_port)?;
        play(args, &programs, Stage::new(user, Ground::Cluster(ground)))
    });
    let ended = if ready.is_new {
        clusters::down(places)
    } else {
        Ok(())
    };
    played.and(ended)
}

/// The two programs; and that nobody holds the demo's ports.
fn build(args: &DemoArgs, interrupt: &Interrupt) -> Result<Programs> {
    console::note("building bough and the inventory service");
    let programs = Programs {
        bough: test::build("bough", "bough", Profile::Debug)?,
        inventory: test::build("metalmart", "inventory", Profile::Debug)?,
    };
    interrupt.check()?;
    port::check_free(args.port, "--port")?;
    port::check_free(args.target_port, "--target-port")?;
    Ok(programs)
}

/// The server asked for, and the version whose clients dump it, where it comes without any.
fn wanted_majors(version: u16) -> Vec<u16> {
    let mut majors = Vec::new();
    for pin in PINS.iter().filter(|pin| pin.major >= version) {
        majors.push(pin.major);
        if pin.clients != Clients::Newer {
            break;
        }
    }
    majors
}

fn play(args: &DemoArgs, programs: &Programs, mut stage: Stage) -> Result<()> {
    let mut transcript = Transcript::default();
    let played = walk_through(args, &mut stage, &mut transcript);
    if let Err(error) = &played {
        transcript.verdict(false, &format!("{error:#}"))?;
    }
    if args.keep && played.is_ok() {
        leave(args, programs, stage, &transcript)?;
    } else {
        let ended = stage.end();
        let text = match &ended {
            Ok(()) => "everything that was started is ended".to_owned(),
            Err(error) => format!("not everything ended by itself: {error:#}"),
        };
        transcript.title("The end")?;
        transcript.verdict(ended.is_ok(), &text)?;
    }
    transcript.line("")?;
    transcript.line(&transcript.summary())?;
    ensure!(transcript.is_good(), "the demo failed");
    Ok(())
}

fn walk_through(args: &DemoArgs, stage: &mut Stage, transcript: &mut Transcript) -> Result<()> {
    transcript.title(&format!("Set-up: {}", stage.headline()))?;
    stage.deploy(transcript)?;
    transcript.verdict(
        true,
        &format!(
            "{TARGET} of namespace {NAMESPACE} answers at {}",
            stage.deployed().url("")
        ),
    )?;
    first_half(args, stage, transcript)?;
    let shared = give_back(args, stage, transcript)?;
    second_half(args, shared, stage, transcript)
}

/// A session on the shared database: what it does, everybody sees.
fn first_half(args: &DemoArgs, stage: &mut Stage, transcript: &mut Transcript) -> Result<()> {
    transcript.title("1. A session on the shared database")?;
    stage.start_session(&file("inventory.json"), args.port, transcript)?;
    let (session, deployed) = (Shop::on(args.port), stage.deployed());
    transcript.equal(
        "the session begins with",
        &session.stock(transcript)?,
        &FRESH,
    )?;
    let status = session.order("reserve", FIRST_ORDER, transcript)?;
    transcript.equal("reserving 50 is answered with", &status, &200)?;
    transcript.equal("the session sees", &session.stock(transcript)?, &HALVED)?;
    transcript.equal(
        "the deployed service sees",
        &deployed.stock(transcript)?,
        &HALVED,
    )?;
    transcript.equal(
        "the shared database itself has",
        &stage.shared_stock()?,
        &HALVED,
    )?;
    let code = stage.end_session(transcript)?;
    transcript.verdict(
        code == Some(0),
        "Ctrl-C ends the session, and its exit code is the service's own: 0",
    )
}

/// The shared stock that the second half starts from.
fn give_back(args: &DemoArgs, stage: &Stage, transcript: &mut Transcript) -> Result<Stock> {
    if args.no_restore {
        transcript.title("Between: the 50 stay reserved")?;
        return Ok(HALVED);
    }
    transcript.title("Between: the 50 are given back")?;
    let status = stage.deployed().order("release", FIRST_ORDER, transcript)?;
    transcript.equal("releasing 50 is answered with", &status, &200)?;
    transcript.equal(
        "the shared database itself has",
        &stage.shared_stock()?,
        &FRESH,
    )?;
    Ok(FRESH)
}

/// A session on a branch: what it does, nobody else sees.
fn second_half(
    args: &DemoArgs,
    shared: Stock,
    stage: &mut Stage,
    transcript: &mut Transcript,
) -> Result<()> {
    transcript.title("2. A session on a branch of it")?;
    let config = branch_file(args.version, stage.directory())?;
    stage.start_session(&config, args.port, transcript)?;
    let (session, deployed) = (Shop::on(args.port), stage.deployed());
    transcript.equal(
        "the branch begins with",
        &session.stock(transcript)?,
        &shared,
    )?;
    let (status, after) = if shared == FRESH {
        (200, ALMOST_GONE)
    } else {
        (409, shared)
    };
    let answered = session.order("reserve", SECOND_ORDER, transcript)?;
    transcript.equal("reserving 99 is answered with", &answered, &status)?;
    transcript.equal("the session sees", &session.stock(transcript)?, &after)?;
    transcript.equal(
        "the branch's database itself has",
        &stage.branch_stock(BRANCH)?,
        &after,
    )?;
    transcript.equal(
        "the deployed service sees",
        &deployed.stock(transcript)?,
        &shared,
    )?;
    transcript.equal(
        "the shared database itself has",
        &stage.shared_stock()?,
        &shared,
    )?;
    if args.keep {
        return Ok(());
    }
    let code = stage.end_session(transcript)?;
    transcript.verdict(
        code == Some(0),
        "Ctrl-C ends the session, and its exit code is the service's own: 0",
    )?;
    let destroyed = stage.user.bough(
        &["db-branches", "-n", NAMESPACE, "destroy", BRANCH],
        transcript,
    )?;
    transcript.verdict(destroyed.status.success(), "the branch is destroyed")?;
    let known = stage.user.bough(
        &["db-branches", "-n", NAMESPACE, "status", BRANCH],
        transcript,
    )?;
    transcript.verdict(known.status.code() == Some(1), "nobody knows it any more")?;
    transcript.equal(
        "the shared database itself has",
        &stage.shared_stock()?,
        &shared,
    )
}

/// A file of the demo, as its users have it.
fn file(name: &str) -> PathBuf {
    workspace().join("demo/metalmart/.mirrord").join(name)
}

/// The file with the branch; for another version of PostgreSQL, a copy that asks for that one.
fn branch_file(version: u16, directory: &Path) -> Result<PathBuf> {
    let original = file("inventory-db-branch.json");
    if version == VERSION_OF_FILE {
        return Ok(original);
    }
    let text =
        fs::read_to_string(&original).with_context(|| format!("read {}", original.display()))?;
    let key = |major: u16| format!(r#""version": "{major}""#);
    if !text.contains(&key(VERSION_OF_FILE)) {
        bail!(
            "{} asks for no PostgreSQL {VERSION_OF_FILE}",
            original.display()
        );
    }
    let copy = directory.join("inventory-db-branch.json");
    let changed = text.replace(&key(VERSION_OF_FILE), &key(version));
    fs::write(&copy, changed).with_context(|| format!("write {}", copy.display()))?;
    Ok(copy)
}

fn leave(
    args: &DemoArgs,
    programs: &Programs,
    stage: Stage,
    transcript: &Transcript,
) -> Result<()> {
    let bough = programs.bough.display().to_string();
    let root = stage.leave(&programs.bough)?;
    transcript.title("Everything is up:")?;
    transcript.line("  # the service in the session, on the branch, and the deployed one, on the shared database")?;
    for port in [args.port, args.target_port] {
        transcript.line(&format!(
            "  curl http://localhost:{port}/api/inventory/{}",
            shop::PRODUCT
        ))?;
    }
    let order = r#"'{"items":[{"productId":"1","quantity":1}]}'"#;
    transcript.line(&format!(
        "  curl -X POST http://localhost:{}/api/inventory/reserve -d {order}",
        args.port
    ))?;
    transcript.line("  # the branch")?;
    let variables =
        kept::environment(&root).map(|(name, value)| format!("{name}={}", value.display()));
    transcript.line(&format!("  export {}", variables[1]))?;
    for words in [
        "status",
        "connections",
        &format!("psql {BRANCH}"),
        &format!("destroy {BRANCH}"),
    ] {
        transcript.line(&format!("  {bough} db-branches -n {NAMESPACE} {words}"))?;
    }
    transcript.line("  # the end of all of it")?;
    transcript.line(&format!("  cargo xtask demo --end {}", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_asks_for_the_version_that_is_wanted() {
        let dir = tempfile::tempdir().expect("a directory");
        let same = branch_file(VERSION_OF_FILE, dir.path()).expect("as it is");
        assert_eq!(same, file("inventory-db-branch.json"));
        let changed = branch_file(17, dir.path()).expect("changed");
        let text = fs::read_to_string(changed).expect("written");
        assert!(
            text.contains(r#""version": "17""#) && text.contains(BRANCH),
            "{text}"
        );
    }

    #[test]
    fn the_clients_that_dump_a_version_come_with_it() {
        assert_eq!(wanted_majors(16), [16, 17]);
        assert_eq!(wanted_majors(18), [18]);
    }
}

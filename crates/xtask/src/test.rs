//! `cargo xtask test`: everything that `check` lints, then every test of the workspace against real servers; the stories
//! on a cluster instead, or as well. The last line sums up what was run.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::debian::{self, Requirement};
use crate::image::{self, Program};
use crate::places::{Places, workspace};
use crate::tally::Tally;
use crate::{check, cluster, console, drivers, postgres, tools};

/// Programs that tests start: the variable that tells them where, the package, the program.
const BINARIES: [(&str, &str, &str); 2] = [
    ("BOUGH_BIN", "bough", "bough"),
    ("INVENTORY_BIN", "metalmart", "inventory"),
];

/// Runs all, or with `only` those tests whose name contains it, without lints.
///
/// # Errors
/// When something cannot be got or built, a lint fails, or a test does.
pub(crate) fn run(places: &Places, only: Option<&str>) -> Result<()> {
    conclude(run_here(places, only)?)
}

/// Runs the stories of `tests/cluster` on a cluster that is brought up for them, unless one is up already.
///
/// # Errors
/// When the cluster does not come up or go down, an image cannot be made, or a story fails.
pub(crate) fn run_on_cluster(places: &Places, only: Option<&str>) -> Result<()> {
    conclude(run_there(places, only)?)
}

/// Runs all of both; the stories on a cluster only after all else has passed.
///
/// # Errors
/// Those of [`run`] and [`run_on_cluster`]; before anything runs, when this machine has no cluster and can have none.
pub(crate) fn run_all(places: &Places) -> Result<()> {
    cluster::require(places)?;
    let here = run_here(places, None)?;
    if !here.succeeded {
        return conclude(here);
    }
    let there = run_there(places, None)?;
    conclude(Ran {
        tally: here.tally + there.tally,
        succeeded: there.succeeded,
    })
}

/// What tests came to.
#[derive(Debug, Clone)]
struct Ran {
    tally: Tally,
    /// Whether all of them were built, ran to their ends and passed.
    succeeded: bool,
}

/// Ends with one line that sums all binaries up, and the verdict.
fn conclude(ran: Ran) -> Result<()> {
    console::result(&ran.tally.to_string())?;
    verdict(&ran.tally, ran.succeeded)
}

fn run_here(places: &Places, only: Option<&str>) -> Result<Ran> {
    let root = postgres::ensure(places, &postgres::all_majors())?;
    let path = postgres::search_path(root, std::env::var_os(postgres::PATH_VARIABLE))?;
    if only.is_none() {
        check::lints(places)?;
        check::documentation(places)?;
    }
    if rustix::process::geteuid().is_root() {
        // Only root's tests mount filesystems.
        debian::require(&[Requirement::Xfs, Requirement::Btrfs])?;
    }
    debian::require(&[Requirement::Network, Requirement::Pooler])?;
    let mut environment = drivers::ensure(places)?;
    environment.push((postgres::PATH_VARIABLE, path));
    console::note("building the programs that tests start");
    for (variable, package, program) in BINARIES {
        environment.push((variable, build(package, program, Profile::Debug)?.into()));
    }
    console::note("tests");
    run_tests(&["--workspace"], &environment, only.map(Only::Containing))
}

fn run_there(places: &Places, only: Option<&str>) -> Result<Ran> {
    let mut archives = Vec::new();
    for program in [Program::Bough, Program::Inventory] {
        archives.push(image::make(program, Profile::Debug, None)?);
    }
    let helm = cluster::helm(places)?;
    let ready = cluster::up(places)?;
    let told = cluster::load(places, &archives).and_then(|()| {
        console::note("stories");
        let mut environment = vec![
            ("KUBECONFIG", ready.kubeconfig.clone()),
            ("BOUGH_TEST_KUBECTL", ready.kubectl.clone().into()),
            ("BOUGH_TEST_HELM", helm.into()),
            ("BOUGH_TEST_XTASK", std::env::current_exe()?.into()),
        ];
        environment.extend(drivers::ensure(places)?);
        for (variable, package, program) in BINARIES {
            environment.push((variable, build(package, program, Profile::Debug)?.into()));
        }
        let ran = run_tests(&STORIES, &environment, only.map(Only::Containing))?;
        try_again(ran, |name| {
            console::note(&format!("once more, alone: {name}"));
            Ok(run_tests(&STORIES, &environment, Some(Only::Named(name)))?.succeeded)
        })
    });
    let ended = if ready.is_new {
        cluster::down(places)
    } else {
        Ok(())
    };
    told.and_then(|ran| ended.map(|()| ran))
}

/// What `cargo test` is asked for the stories on a cluster.
const STORIES: [&str; 3] = ["--workspace", "--test", "cluster"];

/// Stories that are run again at most: where more fail, it is not for want of a second try.
const AGAIN_MAX: usize = 3;

/// Runs stories that failed once more, each alone: what a whole cluster does within a story's time on two processors is not
/// Bough's promise alone. The closing line names them.
fn try_again(mut ran: Ran, run: impl Fn(&str) -> Result<bool>) -> Result<Ran> {
    let failed = ran.tally.failed_names.clone();
    let all_are_named = u64::try_from(failed.len()).is_ok_and(|count| count == ran.tally.failed);
    if failed.is_empty() || failed.len() > AGAIN_MAX || !all_are_named {
        return Ok(ran);
    }
    for name in &failed {
        if run(name)? {
            ran.tally.pass_again(name);
        }
    }
    ran.succeeded = ran.tally.failed == 0;
    Ok(ran)
}

/// A line of `cargo build --message-format=json`, as far as we look at it.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    target: Option<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// How a program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly, for tests and the demo.
    Debug,
    /// As users get it, for measurements.
    Release,
}

/// Builds a program and gives the place of its file, which depends on the caller's target directory.
///
/// # Errors
/// When it does not build.
pub(crate) fn build(package: &str, program: &str, profile: Profile) -> Result<PathBuf> {
    let mut command = tools::cargo();
    command.args(["build", "--bin", program]);
    command.args(["--message-format", "json-render-diagnostics"]);
    match profile {
        // With a test beside it, and all packages, features resolve as for `cargo test`: nothing is built twice.
        Profile::Debug => command.args(["--workspace", "--test", "tidy"]),
        Profile::Release => command.args(["--release", "--package", package]),
    };
    let output = command
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.with_context(|| format!("run cargo build for {program}"))?;
    ensure!(output.status.success(), "{program} does not build");
    executable(&String::from_utf8_lossy(&output.stdout), program)
        .with_context(|| format!("cargo named no file for {program}"))
}

fn executable(messages: &str, program: &str) -> Option<PathBuf> {
    let parsed = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut artifacts = parsed.filter(|message| message.reason == "compiler-artifact");
    artifacts.find_map(|message| {
        message
            .executable
            .filter(|_| message.target.is_some_and(|target| target.name == program))
    })
}

/// Which of the tests.
#[derive(Debug, Clone, Copy)]
enum Only<'a> {
    /// Whose names contain this.
    Containing(&'a str),
    /// The one of this name.
    Named(&'a str),
}

impl<'a> Only<'a> {
    /// As the test harness is told; who asks for few has what they print as well: some measure.
    fn arguments(self) -> Vec<&'a str> {
        match self {
            Self::Containing(part) => vec!["--", part, "--show-output"],
            Self::Named(name) => vec!["--", name, "--exact", "--show-output"],
        }
    }
}

/// The seed of the tests of properties, which proptest draws anew for each run unless it is given: one commit passes on
/// every machine or on none.
const PROPERTY_SEED: &str = "PROPTEST_RNG_SEED";

/// Runs the tests, and passes their output on.
fn run_tests(
    which: &[&str],
    environment: &[(&str, OsString)],
    only: Option<Only<'_>>,
) -> Result<Ran> {
    let mut command = tools::cargo();
    command.args(["test", "--no-fail-fast"]).args(which);
    command.current_dir(workspace());
    command.args(only.map(Only::arguments).unwrap_or_default());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.env(tools::ERROR_BACKTRACES, "0");
    if std::env::var_os(PROPERTY_SEED).is_none() {
        command.env(PROPERTY_SEED, "1");
    }
    let (tally, succeeded) = pass_through(&mut command, &mut io::stdout())?;
    Ok(Ran { tally, succeeded })
}

/// Runs a command to its end and copies its output to `out`; gives what it counts, and whether the command succeeded.
fn pass_through(command: &mut Command, out: &mut impl Write) -> Result<(Tally, bool)> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.context("run cargo test")?;
    let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let (mut tally, mut line) = (Tally::default(), Vec::new());
    // Bytes, since a test may print any.
    let read_all = loop {
        line.clear();
        match output.read_until(b'\n', &mut line) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        tally.count(&String::from_utf8_lossy(&line));
        if let Err(error) = out.write_all(&line).and_then(|()| out.flush()) {
            break Err(error);
        }
    };
    // Closed before waiting: a child that still writes then ends instead of blocking for ever.
    drop(output);
    let status = child.wait().context("wait for cargo test")?;
    read_all.context("pass the tests' output on")?;
    Ok((tally, status.success()))
}

fn verdict(tally: &Tally, succeeded: bool) -> Result<()> {
    if !succeeded || tally.failed > 0 {
        bail!("tests failed");
    }
    ensure!(tally.passed > 0, "no test ran");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_programs_file_is_found() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"build-script\"},\"executable\":\"/t/build-script\"}\n",
            "not json\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"bough\"},\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"bough\"},\"executable\":\"/t/bough\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        assert_eq!(executable(messages, "bough"), Some("/t/bough".into()));
        assert_eq!(executable(messages, "inventory"), None);
    }

    #[test]
    fn output_is_counted_and_the_status_kept() {
        let script =
            "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; printf '\\377\\n'; exit 1";
        let mut shown = Vec::new();
        let mut command = Command::new("sh");
        let (tally, succeeded) =
            pass_through(command.args(["-c", script]), &mut shown).expect("it ran");
        assert_eq!((tally.passed, tally.failed, succeeded), (3, 0, false));
        assert!(shown.ends_with(b"ignored\n\xff\n"), "{shown:?}");
    }

    #[test]
    fn a_reader_that_goes_away_does_not_block_the_tests() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut endless = Command::new("yes");
        assert!(pass_through(&mut endless, &mut Closed).is_err());
    }

    #[test]
    fn only_passed_tests_and_a_good_end_are_success() {
        let tally = |passed, failed| Tally {
            passed,
            failed,
            ..Tally::default()
        };
        assert!(verdict(&tally(1, 0), true).is_ok());
        assert!(
            verdict(&tally(1, 0), false).is_err(),
            "a binary that did not build or crashed"
        );
        assert!(verdict(&tally(1, 1), true).is_err());
        assert!(verdict(&tally(0, 0), true).is_err(), "nothing ran");
    }

    fn ran(failed: &[&str]) -> Ran {
        let failed_names: Vec<String> = failed.iter().map(ToString::to_string).collect();
        Ran {
            tally: Tally {
                passed: 9,
                failed: failed.len().try_into().expect("few"),
                failed_names,
                ..Tally::default()
            },
            succeeded: failed.is_empty(),
        }
    }

    #[test]
    fn few_stories_that_failed_are_run_again_and_the_others_stay_failed() {
        let passes_b = |name: &str| Ok(name == "b");
        let mended = try_again(ran(&["b"]), passes_b).expect("it ran");
        assert!(mended.succeeded && mended.tally.passed_again == ["b"]);
        let half = try_again(ran(&["a", "b"]), passes_b).expect("it ran");
        assert!(!half.succeeded && half.tally.failed == 1);
        assert!(verdict(&half.tally, half.succeeded).is_err());
        let never = |_: &str| -> Result<bool> { panic!("it is not run again") };
        assert!(
            !try_again(ran(&["a", "b", "c", "d"]), never)
                .expect("as it was")
                .succeeded
        );
        assert!(try_again(ran(&[]), never).expect("as it was").succeeded);
        let mut unnamed = ran(&["a"]);
        unnamed.tally.failed = 2;
        assert!(!try_again(unnamed, never).expect("as it was").succeeded);
    }
}

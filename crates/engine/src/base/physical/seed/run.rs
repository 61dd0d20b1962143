//! `pg_basebackup`, run once.
//!
//! Owns its command line, its end and what it says. It forks a second process for WAL, so that it runs in a group of its
//! own, which is ended as one; it works in the data directory, where [`sweep`] finds it after an engine's death.
//!
//! [`sweep`]: crate::postgres::server::sweep

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use jiff::Timestamp;
use model::ByteSize;
use model::engine_api::{CopyPhase, CopyProgress};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{SeedError, SeedRequest, check_room};
use crate::base::physical::fitness::SlotUse;
use crate::base::physical::replication;
use crate::postgres::sql;

/// What `--max-rate` takes, in kB a second (PostgreSQL documentation, `pg_basebackup`).
const RATE_KB: std::ops::RangeInclusive<u64> = 32..=1_048_576;

/// Bytes of its messages that are kept: the last ones say why it failed.
const MESSAGES_BYTES_MAX: usize = 16 * 1024;

/// The C library's text of ENOSPC in the locale C.
const NO_SPACE: &str = "No space left on device";

/// Why there is no base backup.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No program for it.
    #[error("no pg_basebackup of the source's version or a newer one is installed")]
    NoProgram,
    /// It could not be run.
    #[error("cannot run {program} as the account {account}")]
    Run {
        /// The program.
        program: PathBuf,
        /// The account.
        account: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is full.
    #[error("the disk became full during the base backup")]
    DiskFull {
        /// What it said.
        answer: String,
    },
    /// It failed.
    #[error("pg_basebackup failed: {answer}")]
    Failed {
        /// What it said.
        answer: String,
    },
}

/// Takes the backup into the place's data directory, which is empty.
pub(super) async fn run(
    request: &SeedRequest<'_>,
    progress: &watch::Sender<Option<CopyProgress>>,
) -> Result<(), SeedError> {
    let installations = &request.host.installations;
    let programs = replication::programs(installations, request.fit.major());
    let program = programs
        .ok_or(RunError::NoProgram)?
        .program("pg_basebackup");
    let account = &request.host.account;
    let failed = |source| RunError::Run {
        program: program.clone(),
        account: account.name.clone(),
        source,
    };
    let mut command = Command::new(&program);
    command
        .args(arguments(request))
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        // No account's own files (.pgpass, .postgresql/) change what the URL says.
        .env("HOME", "/nonexistent")
        .current_dir(request.place.data())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    account.apply(&mut command);
    let mut child = Group(command.spawn().map_err(failed)?);
    let stderr = child.0.stderr.take().expect("it was asked for");
    // The user may not have been allowed to ask for the size of every database.
    let clock = request.host.clock;
    let mut waits_since = None;
    let said = listen(stderr, |told| match told {
        Told::WaitsForCheckpoint => {
            waits_since = Some(clock.now());
            tell_of_wait(progress, advice(request));
            Ok(())
        }
        Told::Copied { done, whole } => {
            let waited = waits_since.take().map(|since| seconds(since, clock.now()));
            tell(progress, done, whole, waited.unwrap_or(0));
            check_room(request, whole)
        }
    })
    .await?;
    let status = child.0.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let answer = replication::last_lines(&said);
    if String::from_utf8_lossy(&said).contains(NO_SPACE) {
        return Err(RunError::DiskFull { answer }.into());
    }
    Err(RunError::Failed { answer }.into())
}

/// The command line; no secret is in it.
fn arguments(request: &SeedRequest<'_>) -> Vec<String> {
    let fit = request.fit;
    let pace = if fit.traits.may_checkpoint {
        "fast"
    } else {
        "spread"
    };
    let mut arguments = vec![
        format!("--pgdata={}", request.place.data().display()),
        format!("--dbname={}", fit.reach.text(&request.place.passfile())),
        format!("--checkpoint={pace}"),
        "--label=bough".to_owned(),
        "--format=plain".to_owned(),
        "--wal-method=stream".to_owned(),
        "--no-password".to_owned(),
        "--progress".to_owned(),
        // The whole filesystem is synced after it; a list of checksums would be read by nobody.
        "--no-sync".to_owned(),
        "--no-manifest".to_owned(),
    ];
    match &fit.slot {
        SlotUse::None => arguments.push("--no-slot".to_owned()),
        // The program's own default.
        SlotUse::Temporary => {}
        SlotUse::Permanent(name) => arguments.push(format!("--slot={name}")),
    }
    if let Some(rate) = request.rate_max {
        let kb = (rate.0 / 1024).clamp(*RATE_KB.start(), *RATE_KB.end());
        arguments.push(format!("--max-rate={kb}k"));
    }
    arguments
}

/// The program and what it forked; ended together when dropped before its end.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None once it was waited for: the number may be another's by then.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw) {
            // An error means that it is gone.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// What the program tells of itself on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The source makes the checkpoint that the backup begins with.
    WaitsForCheckpoint,
    /// How far it is.
    Copied {
        /// So much is here.
        done: ByteSize,
        /// Of so much.
        whole: ByteSize,
    },
}

/// Reads what it says to its end: what it tells of its way goes to `progress`, whose error ends it; the last of the rest
/// is returned.
async fn listen<E>(
    mut stderr: impl AsyncRead + Unpin,
    mut progress: impl FnMut(Told) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut said = Vec::new();
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stderr.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        for byte in &buffer[..count] {
            if !matches!(byte, b'\n' | b'\r') {
                line.push(*byte);
                continue;
            }
            match parse(&String::from_utf8_lossy(&line)) {
                Some(told) => progress(told)?,
                None => {
                    said.append(&mut line);
                    said.push(b'\n');
                }
            }
            line.clear();
        }
        if said.len() > 2 * MESSAGES_BYTES_MAX {
            said.drain(..said.len() - MESSAGES_BYTES_MAX);
        }
    }
    said.append(&mut line);
    Ok(said)
}

/// What ends the wait for a checkpoint; none where the role may have it begin at once, as it then does.
fn advice(request: &SeedRequest<'_>) -> Option<String> {
    let traits = &request.fit.traits;
    (!traits.may_checkpoint).then(|| {
        format!(
            "its checkpoint_timeout at most; GRANT pg_checkpoint TO {} makes it begin at once",
            sql::ident(&traits.replicator)
        )
    })
}

fn tell_of_wait(progress: &watch::Sender<Option<CopyProgress>>, advice: Option<String>) {
    progress.send_modify(|progress| {
        if let Some(progress) = progress {
            progress.phase = CopyPhase::Checkpoint;
            progress.advice = advice;
        }
    });
}

/// `waited`: seconds that it has just waited for the source, which no estimate knew of.
fn tell(
    progress: &watch::Sender<Option<CopyProgress>>,
    done: ByteSize,
    whole: ByteSize,
    waited: u64,
) {
    progress.send_modify(|progress| {
        if let Some(progress) = progress {
            progress.phase = CopyPhase::Copying;
            progress.advice = None;
            progress.copied_bytes = done;
            progress.source_size_bytes = Some(whole);
            progress.estimate_seconds = progress.estimate_seconds.map(|all| all + waited);
        }
    });
}

fn seconds(since: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0)
}

/// `waiting for checkpoint`, or how far it is. (PostgreSQL's `pg_basebackup.c`, `BaseBackup`, in the locale C.)
fn parse(line: &str) -> Option<Told> {
    if line.trim() == "waiting for checkpoint" {
        return Some(Told::WaitsForCheckpoint);
    }
    let (done, whole) = parse_progress(line)?;
    Some(Told::Copied { done, whole })
}

/// `  12345/67890 kB (18%), 0/1 tablespace`.
fn parse_progress(line: &str) -> Option<(ByteSize, ByteSize)> {
    let (numbers, rest) = line.trim().split_once(" kB (")?;
    let (done, whole) = numbers.split_once('/')?;
    rest.contains("tablespace").then_some(())?;
    let bytes = |kb: &str| kb.trim().parse::<u64>().ok().map(|kb| ByteSize(kb << 10));
    Some((bytes(done)?, bytes(whole)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_read() {
        let line = "   12345/67890 kB (18%), 0/1 tablespace";
        let read = parse_progress(line).unwrap();
        assert_eq!(read, (ByteSize(12345 << 10), ByteSize(67890 << 10)));
        let named = "12345/67890 kB (18%), 0/1 tablespace (/var/lib/data/base/1/2608)";
        assert!(parse_progress(named).is_some());
        assert!(parse_progress("pg_basebackup: error: 1/2 kB").is_none());
    }

    #[tokio::test]
    async fn what_it_says_is_kept_and_how_far_it_is_is_not() {
        let text = "waiting for checkpoint\n  0/10 kB (0%), 0/1 tablespace\r10/10 kB (100%), 1/1 tablespace\npg_basebackup: error: gone\n";
        let mut told = Vec::new();
        let said = listen(text.as_bytes(), |one| {
            told.push(one);
            Ok::<_, ()>(())
        });
        let said = said.await.unwrap();
        let copied = |done: u64| Told::Copied {
            done: ByteSize(done << 10),
            whole: ByteSize(10 << 10),
        };
        assert_eq!(told, [Told::WaitsForCheckpoint, copied(0), copied(10)]);
        assert_eq!(
            String::from_utf8(said).unwrap(),
            "pg_basebackup: error: gone\n"
        );
    }

    #[tokio::test]
    async fn a_size_that_does_not_fit_ends_it_at_once() {
        let text = "  0/10 kB (0%), 0/1 tablespace\r";
        let endless = text.as_bytes().chain(tokio::io::repeat(b' '));
        let refused = listen(endless, Err).await;
        let told = Told::Copied {
            done: ByteSize(0),
            whole: ByteSize(10 << 10),
        };
        assert_eq!(refused, Err(told));
    }
}

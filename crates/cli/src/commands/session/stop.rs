//! `session stop`: the end of sessions by somebody else than their program.
//!
//! ```text
//! named ──stop──> told with their next heartbeat ──> their program ends ──> gone
//!                                                └── not within STOP_WITHIN: told, and left to fall silent
//! ```

use std::time::Duration;

use clap::Args;
use model::ExitCode;
use model::engine_api::{HEARTBEAT_GRACE, SessionId};
use serde::Serialize;

use super::list::{Known, SessionRow};
use crate::clock;
use crate::commands::engines::Whose;
use crate::contexts::SessionList;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough session stop 2f0c1a7b9e4d5863
  bough session -n metalmart stop --all

Its program gets SIGTERM, then SIGKILL; its branches are there until their TTL is over.";

/// How long a stopped session may take to end: a heartbeat, the program's grace, and some; one that does not answer any
/// more has been dropped by then.
const STOP_WITHIN: Duration = Duration::from_secs(HEARTBEAT_GRACE.as_secs() + 12);

/// How often is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Stop sessions: their programs end, their branches stay until their TTL is over
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StopArgs {
    /// Ids of sessions, or the beginnings of ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,

    /// Every session of the namespace, or with -A of all
    #[arg(long, conflicts_with = "ids")]
    all: bool,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Why no session is stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum StopError {
    /// Nobody has such an id.
    #[error("no session {id:?} is known in {scope}")]
    Unknown {
        /// What was asked for.
        id: String,
        /// Where was looked.
        scope: String,
    },
    /// Several ids begin so.
    #[error("{id:?} begins the ids of {} sessions: {}", .found.len(), .found.join(", "))]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// Those ids.
        found: Vec<String>,
    },
}

impl From<StopError> for CommandError {
    fn from(error: StopError) -> Self {
        Self::new(ExitCode::Internal, error)
            .with_hint("`bough session ls` shows them; -n names another namespace")
    }
}

pub(super) async fn run(
    args: &StopArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let asked = Known::read(whose, settings, ui).await?;
    let known = asked.sessions(&whose.scope);
    let meant = if args.all {
        known
    } else {
        choose(&args.ids, known, &whose.scope.describe())?
    };
    let (mut stopped, mut failure) = (Vec::with_capacity(meant.len()), None);
    for session in meant {
        match stop(&asked, &session, settings).await {
            Ok(()) => stopped.push(session),
            Err(error) => {
                let named = error.with_details([format!("session {}", session.id)]);
                // The last one ends this command, those before it are told now.
                if let Some(earlier) = failure.replace(named) {
                    ui.warn(&earlier.message());
                }
            }
        }
    }
    let living = wait_for_end(&asked, &stopped, whose).await?;
    let sessions = stopped.into_iter().map(|row| StoppedSession {
        has_ended: !living.contains(&row.id),
        row,
    });
    let report = StopReport(sessions.collect());
    ui.report(&report, args.output)?;
    // What was done is told first.
    failure.map_or_else(|| Ok(report.exit_code()), Err)
}

/// The sessions that `ids` mean, each once.
fn choose(
    ids: &[String],
    known: Vec<SessionRow>,
    scope: &str,
) -> Result<Vec<SessionRow>, StopError> {
    let mut chosen: Vec<SessionRow> = Vec::with_capacity(ids.len());
    for id in ids {
        let begins = |row: &&SessionRow| !id.is_empty() && row.id.as_str().starts_with(id);
        let found: Vec<&SessionRow> = known.iter().filter(begins).collect();
        let exact = found.iter().find(|row| row.id.as_str() == *id).copied();
        let one = match (exact, found.as_slice()) {
            (Some(exact), _) => exact,
            (None, [one]) => one,
            (None, []) => {
                return Err(StopError::Unknown {
                    id: id.clone(),
                    scope: scope.to_owned(),
                });
            }
            (None, several) => {
                let found = several.iter().map(|row| row.id.to_string());
                return Err(StopError::Ambiguous {
                    id: id.clone(),
                    found: found.collect(),
                });
            }
        };
        if chosen.iter().all(|row| row.id != one.id) {
            chosen.push(one.clone());
        }
    }
    Ok(chosen)
}

/// Stops a session wherever it holds a branch, and by its resource. One that has ended meanwhile is as it was to be.
async fn stop(
    asked: &Known,
    session: &SessionRow,
    settings: &Settings,
) -> Result<(), CommandError> {
    if let (Some(resources), Some(resource)) = (&asked.resources, &session.resource) {
        let (namespace, name) = (&resource.namespace, &resource.session);
        resources.stop(namespace, name, &settings.owner).await?;
    }
    for engine in asked.engines.iter() {
        let stopped = engine
            .client()
            .stop_session(&session.id, settings.owner.clone())
            .await;
        match stopped {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Waits until these sessions hold nothing any more, and have no resource; answers with those that still do.
async fn wait_for_end(
    asked: &Known,
    stopped: &[SessionRow],
    whose: &Whose,
) -> Result<Vec<SessionId>, CommandError> {
    let deadline = clock::monotonic() + STOP_WITHIN;
    loop {
        let mut living = Vec::new();
        for engine in asked.engines.iter() {
            let branches = engine.client().branches(None).await?;
            let holders = branches.iter().flat_map(|branch| &branch.sessions);
            living.extend(holders.map(|session| session.id.clone()));
        }
        if let (Some(kubeconfig), Some(_)) = (&whose.context.kubeconfig, &asked.resources) {
            let there = SessionList::read(kubeconfig, whose.scope.namespace()).await?;
            living.extend(there.by_id().map(|(id, _)| id));
        }
        living.retain(|id| stopped.iter().any(|row| row.id == *id));
        if living.is_empty() || clock::monotonic() >= deadline {
            return Ok(living);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[derive(Serialize)]
struct StoppedSession {
    #[serde(flatten)]
    row: SessionRow,
    /// Whether it holds nothing any more.
    has_ended: bool,
}

#[derive(Serialize)]
#[serde(transparent)]
struct StopReport(Vec<StoppedSession>);

impl StopReport {
    /// As `local stop` has it: what did not end in its time is no success.
    fn exit_code(&self) -> ExitCode {
        if self.0.iter().all(|stopped| stopped.has_ended) {
            ExitCode::Success
        } else {
            ExitCode::Internal
        }
    }
}

impl Report for StopReport {
    fn text(&self, _: Page) -> String {
        if self.0.is_empty() {
            return "No session is known there.\n".to_owned();
        }
        let lines = self.0.iter().map(|stopped| {
            let SessionRow { id, owner, .. } = &stopped.row;
            let program = stopped.row.program.as_deref().unwrap_or("a program");
            let end = if stopped.has_ended {
                "has ended".to_owned()
            } else {
                format!(
                    "is stopped, and has not ended within {} s",
                    STOP_WITHIN.as_secs()
                )
            };
            format!("Session {id} ({program} of {owner}) {end}.\n")
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::session::list;
    use crate::samples;
    use model::engine_api::SessionView;

    fn known(ids: &[&str]) -> Vec<SessionRow> {
        let mut branch = samples::branch("shop", "a");
        branch.sessions = ids
            .iter()
            .map(|id| SessionView {
                id: (*id).to_owned().try_into().expect("an id"),
                owner: "ada@host".to_owned(),
                pid: 1,
                program: "x".to_owned(),
                joined_at: samples::start(),
                stopped_by: None,
            })
            .collect();
        list::sessions(&[&branch, &branch], std::iter::empty())
    }

    fn chosen(ids: &[&str]) -> Result<Vec<String>, StopError> {
        let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
        let rows = choose(&ids, known(&["abc1", "abc2", "abc"]), "namespace shop")?;
        Ok(rows.into_iter().map(|row| row.id.into()).collect())
    }

    #[test]
    fn a_session_is_meant_by_its_id_or_by_a_beginning_that_no_other_has() {
        assert_eq!(chosen(&["abc2", "abc2"]).unwrap(), ["abc2"]);
        assert_eq!(
            chosen(&["abc"]).unwrap(),
            ["abc"],
            "the whole id is one's own"
        );
        let several = chosen(&["ab"]).unwrap_err();
        assert_eq!(
            several.to_string(),
            "\"ab\" begins the ids of 3 sessions: abc, abc1, abc2"
        );
        for unknown in ["abc3", ""] {
            let error = chosen(&[unknown]).unwrap_err();
            assert!(matches!(error, StopError::Unknown { .. }), "{error}");
        }
    }

    #[test]
    fn a_session_of_two_branches_is_one() {
        let rows = known(&["abc"]);
        assert_eq!((rows.len(), rows[0].branches.len()), (1, 2));
    }

    #[test]
    fn a_session_that_did_not_end_is_no_success() {
        let report = |ends: &[bool]| {
            let rows = known(&["a", "b"]).into_iter().zip(ends);
            let sessions = rows.map(|(row, has_ended)| StoppedSession {
                row,
                has_ended: *has_ended,
            });
            StopReport(sessions.collect())
        };
        assert_eq!(report(&[true, true]).exit_code(), ExitCode::Success);
        assert_eq!(report(&[true, false]).exit_code(), ExitCode::Internal);
        assert_eq!(report(&[]).exit_code(), ExitCode::Success);
    }
}

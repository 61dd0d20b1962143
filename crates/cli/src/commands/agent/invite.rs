//! `bough agent invite`: credentials of new sessions with the agent whose container this runs in, on standard output.
//!
//! Whoever may run a program in the agent's container may have a session with it: the API server's own answer to who
//! may, by `pods/exec`. An operator asks for somebody else, and has them sealed to him. The credentials of a session open no
//! other one.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use model::ExitCode;
use wire::SessionId;

use super::say;
use crate::contexts::{AGENT_FOLDER, AgentPlace, Invitation, SessionCredential, hex, seal};
use crate::error::CommandError;

/// Most sessions that are asked for at once.
const SESSIONS_MAX: i64 = 16;

/// Hand out credentials of sessions with this container's agent
#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    /// Of how many sessions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=SESSIONS_MAX))]
    sessions: u8,

    /// Seals them to whoever has the other half of this key, in hexadecimal digits
    #[arg(long = "for", value_name = "KEY")]
    sealed_to: Option<String>,

    /// Where the agent keeps key and port
    #[arg(long, value_name = "DIR", default_value = AGENT_FOLDER)]
    folder: PathBuf,
}

/// Why nobody is invited.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the agent's key in {path:?}")]
struct InviteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The key is none.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be sealed to this key")]
struct KeyError;

/// Writes the invitation as one line of JSON, or sealed.
pub(super) fn run(args: &InviteArgs) -> Result<(), CommandError> {
    let path = args.folder.join("place");
    let place = fs::read_to_string(&path).and_then(|text| {
        AgentPlace::parse(&text).ok_or_else(|| io::Error::other("it holds no port and key"))
    });
    let place = place
        .map_err(|source| CommandError::new(ExitCode::Internal, InviteError { path, source }))?;
    let sessions = (0..args.sessions).map(|_| {
        let id = SessionId::draw();
        let key = place.key.session_key(&id);
        SessionCredential { id, key }
    });
    let invitation = Invitation {
        port: place.port,
        sessions: sessions.collect(),
    };
    let line = invitation.text();
    match &args.sealed_to {
        None => say(&line),
        Some(key) => {
            let sealed = hex::parse(key).and_then(|key| seal(&key, &line));
            let sealed = sealed.ok_or_else(|| CommandError::new(ExitCode::Usage, KeyError))?;
            say(&sealed);
        }
    }
    Ok(())
}

//! The replication connection of a database: how `psql` and a subscription are told of it.
//!
//! Owns its text, in libpq's words, and who answers there. The password goes into a file beside the data directory, so
//! that neither a command line nor a clone has it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use model::{PgUrl, Secret};
use tokio::process::Command;

use super::Upstream;
use crate::postgres::binaries::Installation;
use crate::postgres::connect::{ConnInfo, ConnectError, Peer, Session, connect_url, conninfo};

/// One way to the source's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    described: ConnInfo,
    url: PgUrl,
    database: String,
}

impl Reach {
    /// The ways to try, in order: the server that answered `session` where the same URL serves for both, else the
    /// addresses of the URL for replication.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL cannot be followed.
    pub fn ways(
        upstream: &Upstream,
        session: &Session,
        database: &str,
    ) -> Result<Vec<Self>, ConnectError> {
        let url = upstream.replication_url();
        let peers: Vec<Peer> = match &upstream.replication_url {
            None => session.peer().cloned().into_iter().collect(),
            Some(url) => url
                .addresses()
                .into_iter()
                .map(|address| Peer {
                    address,
                    ip: None,
                    local: None,
                    is_tls: false,
                    gateway: None,
                })
                .collect(),
        };
        let way = |peer: &Peer| {
            Ok(Self {
                described: conninfo(url, database, [], peer)?,
                url: url.clone(),
                database: database.to_owned(),
            })
        };
        peers.iter().map(way).collect()
    }

    /// `psql` on the replication connection; its statements are still to be given.
    pub(super) fn psql(&self, installation: &Installation) -> Command {
        let mut command = Command::new(installation.program("psql"));
        command
            .args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(format!("{} replication='database'", self.described.text))
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            // No account's own files (.pgpass, .postgresql/) change what the URL says.
            .env("HOME", "/nonexistent")
            .env("PGOPTIONS", &self.described.options)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(password) = &self.described.password {
            command.env("PGPASSWORD", password.reveal());
        }
        command
    }

    /// Which cluster answers.
    pub(super) async fn identify(
        &self,
        installation: &Installation,
        time_max: Duration,
    ) -> Result<u64, String> {
        let mut command = self.psql(installation);
        command.args(["-c", "IDENTIFY_SYSTEM"]);
        let ended = tokio::time::timeout(time_max, command.output()).await;
        let ended = ended.map_err(|_| format!("no answer within {} s", time_max.as_secs()))?;
        let output = ended.map_err(|error| format!("cannot run psql: {error}"))?;
        if !output.status.success() {
            return Err(last_line(&output.stderr));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let identifier = text.trim().split('|').next().unwrap_or_default();
        identifier
            .parse()
            .map_err(|_| format!("its answer makes no sense: {:?}", text.trim()))
    }

    /// The connection string of a subscription: the password is in `passfile`.
    pub(super) fn text(&self, passfile: &Path) -> String {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let path = escaped(&passfile.display().to_string());
        let mut text = format!("{} passfile='{path}'", self.described.text);
        if !self.described.options.is_empty() {
            text.push_str(&format!(" options='{}'", escaped(&self.described.options)));
        }
        text
    }

    /// The password.
    pub(super) fn password(&self) -> Option<&Secret> {
        self.described.password.as_ref()
    }

    /// An ordinary session as the user who replicates.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self) -> Result<Session, ConnectError> {
        connect_url(&self.url, Some(&self.database), []).await
    }
}

/// The last line of what a program of PostgreSQL said, without its name.
pub(super) fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.trim().lines().last().unwrap_or_default();
    let (_, after) = line.split_once("error: ").unwrap_or(("", line));
    after.trim().to_owned()
}

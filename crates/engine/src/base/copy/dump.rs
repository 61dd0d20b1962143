//! `pg_dump`, run against the source within our snapshot.
//!
//! Owns its command line and environment, its end, and what it says. It runs as the engine, not as the servers'
//! account: a branch may belong to a superuser, who could otherwise read the password out of its environment. Leaves
//! what it writes to `script` and `load`.

use std::path::PathBuf;
use std::process::Stdio;

use model::{CopyMode, CopySpec};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::error::CopyError;
use super::pattern;
use super::tables::Table;
use crate::base::forgotten;
use crate::postgres::binaries::Installation;
use crate::postgres::connect::{ConnInfo, LOCK_TIME_MAX};
use crate::postgres::said;

/// Bytes of its messages that are kept: the last ones say why it failed.
const MESSAGES_BYTES_MAX: usize = 16 * 1024;

/// Lines of them that an error shows.
const LINES_MAX: usize = 6;

/// What a dump is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything.
    Whole,
    /// Everything but the rows of tables and where sequences stand: structure and large objects.
    WithoutRows,
    /// Definitions that rows need.
    BeforeRows,
    /// Indexes, constraints, triggers and what else comes after rows.
    AfterRows,
}

/// Everything that a dump depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) installation: &'a Installation,
    pub(super) connection: &'a ConnInfo,
    pub(super) snapshot: &'a str,
    pub(super) copy: &'a CopySpec,
    pub(super) tables: &'a [Table],
    /// Whether settings can be given when a connection begins.
    pub(super) sets: bool,
}

impl Order<'_> {
    /// The command line after the program; no secret is in it.
    fn arguments(&self, part: Part) -> Vec<String> {
        let mut arguments = vec![
            format!("--dbname={}", self.connection.text),
            format!("--snapshot={}", self.snapshot),
            format!("--lock-wait-timeout={}", LOCK_TIME_MAX.as_millis()),
            "--no-password".to_owned(),
            "--format=plain".to_owned(),
        ];
        arguments.extend(forgotten::DUMP_OPTIONS.map(str::to_owned));
        match part {
            Part::Whole => {}
            Part::WithoutRows => arguments.push("--exclude-table-data=*.*".to_owned()),
            Part::BeforeRows => arguments.push("--section=pre-data".to_owned()),
            Part::AfterRows => arguments.push("--section=post-data".to_owned()),
        }
        match self.copy.mode {
            CopyMode::All => {}
            CopyMode::Schema => arguments.push("--schema-only".to_owned()),
            CopyMode::Empty => {
                arguments.push("--schema-only".to_owned());
                for table in self.tables {
                    arguments.push(format!(
                        "--table={}",
                        pattern::exact(&table.schema, &table.name)
                    ));
                    let partitions = table.partitions.iter();
                    let partition = |(schema, name): &(String, String)| {
                        format!("--table={}", pattern::exact(schema, name))
                    };
                    arguments.extend(partitions.map(partition));
                }
            }
        }
        arguments.extend(self.copy.dump_args.iter().cloned());
        arguments
    }

    /// Starts it. Dropping the answer kills it.
    ///
    /// # Errors
    /// [`CopyError::RunDump`].
    pub(super) fn start(&self, part: Part) -> Result<Dump, CopyError> {
        let program = self.installation.program("pg_dump");
        let mut command = Command::new(&program);
        command
            .args(self.arguments(part))
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            // No account's own files (.pgpass, .postgresql/) change what the URL says.
            .env("HOME", "/nonexistent")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let options = self.options();
        if !options.is_empty() {
            command.env("PGOPTIONS", options);
        }
        if let Some(password) = &self.connection.password {
            command.env("PGPASSWORD", password.reveal());
        }
        let failed = |source| CopyError::RunDump {
            program: program.clone(),
            source,
        };
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        Ok(Dump {
            program,
            child,
            stdout,
            messages: tokio::spawn(read_end(stderr)),
        })
    }

    /// Time-outs that a role or a database sets by default end nothing before `pg_dump` itself turns them off. Money is
    /// written as the locale has it, and read so: both sides use the same.
    fn options(&self) -> String {
        if !self.sets {
            return self.connection.options.clone();
        }
        let ours = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c lc_monetary=C";
        format!("{} {ours}", self.connection.options)
    }
}

/// A running `pg_dump`.
#[derive(Debug)]
pub(super) struct Dump {
    program: PathBuf,
    child: Child,
    /// What it writes.
    pub(super) stdout: ChildStdout,
    messages: JoinHandle<String>,
}

impl Dump {
    /// Waits for its end.
    ///
    /// # Errors
    /// [`CopyError::Dump`] with what it said, when it failed.
    pub(super) async fn finish(mut self) -> Result<(), CopyError> {
        let ended = self.child.wait().await;
        let status = ended.map_err(|source| CopyError::RunDump {
            program: self.program.clone(),
            source,
        })?;
        if status.success() {
            return Ok(());
        }
        let messages = self.messages.await.unwrap_or_default();
        Err(CopyError::Dump {
            answer: if messages.is_empty() {
                format!("it ended with {status}")
            } else {
                messages
            },
        })
    }

    /// Ends it, when what it writes cannot be used; what it said about that, if it failed by itself.
    pub(super) async fn abandon(mut self) -> Option<CopyError> {
        match self.child.try_wait() {
            Ok(Some(status)) if !status.success() => self.finish().await.err(),
            Ok(Some(_)) => None,
            Ok(None) | Err(_) => {
                // An error here means that it is gone.
                drop(self.child.kill().await);
                None
            }
        }
    }
}

/// The last lines of its messages. It reads them all, for `pg_dump` must not wait for us.
async fn read_end(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stderr.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * MESSAGES_BYTES_MAX {
            kept.drain(..kept.len() - MESSAGES_BYTES_MAX);
        }
    }
    last_lines(&kept)
}

fn last_lines(said: &[u8]) -> String {
    said::last_lines(said, LINES_MAX, |line| {
        line.strip_prefix("pg_dump: ").unwrap_or(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_it_says_is_kept() {
        let said =
            "pg_dump: warning: a\npg_dump: error: query failed: ERROR:  b\npg_dump: detail: c\n";
        assert_eq!(
            last_lines(said.as_bytes()),
            "warning: a; error: query failed: ERROR:  b; detail: c"
        );
    }
}
